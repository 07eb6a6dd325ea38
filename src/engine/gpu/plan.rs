//! What is dispatched, and where everything lies: plain data made from network, batch and limits, without a device.
//!
//! What runs is this list and nothing else; counts, costs, the splitting of long submissions and the profile read
//! it.

use super::layout::quads;
use super::shaders::{Epilogue, Kernel, Reduction, Variant};
use crate::engine::plan::{Part, part_of_row};
use crate::engine::{Counts, Method};
use crate::model::network::{Form, IMAGE, Kind, Layer, Stream, padded};
use crate::model::{Network, Precision};

/// Read-write buffers for nodes, contexts and pixels, at most. Kernels bind four other storage buffers, and WebGPU
/// promises eight.
pub const MOST_ARENAS: usize = 12;

/// Storage buffers that kernels bind beside the arenas.
pub const OTHER_BUFFERS: usize = 4;

/// What a plan must know of a device and of how it is used.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Bytes of the largest buffer.
    pub buffer: u64,
    /// How many arenas there can be.
    pub arenas: usize,
    /// Workgroups of a dispatch along an axis, at most.
    pub workgroups: u32,
    /// How partial sums are brought together.
    pub reduction: Reduction,
    /// How the weights of most layers are stored.
    pub precision: Precision,
}

impl Target {
    /// What every WebGPU device promises.
    pub const SMALLEST: Self = Self {
        buffer: 128 << 20,
        arenas: 4,
        workgroups: 65535,
        reduction: Reduction::Memory,
        precision: Precision::F32,
    };
}

/// A part of an arena, in quads: vectors of four numbers, 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Which arena.
    pub arena: usize,
    /// Where it begins.
    pub start: usize,
    /// How long it is.
    pub length: usize,
}

/// Bytes of a quad.
pub const QUAD: u64 = 16;

/// Where nodes, row contexts and pixels lie.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// By node.
    pub nodes: Vec<Region>,
    /// By layer, of those that have a row context.
    pub contexts: Vec<Option<Region>>,
    /// `[H, W, B]` pixels.
    pub pixels: Region,
    /// Quads of each arena.
    pub arenas: Vec<usize>,
    /// Quads at the beginning of each arena that are cleared when a batch begins: the nodes.
    pub cleared: Vec<usize>,
}

impl Memory {
    fn new(network: &Network, batch: usize, buffer: u64) -> Self {
        let limit = (buffer / QUAD) as usize;
        let mut memory = Self::default();
        for node in &network.nodes {
            let region = memory.take(quads(node.len(batch)) as usize, limit);
            memory.nodes.push(region);
        }
        memory.cleared.clone_from(&memory.arenas);
        for layer in &network.layers {
            let length = (network.config.width >> layer.grid) * batch * quads(layer.outputs()) as usize;
            let region = layer.has_context().then(|| memory.take(length, limit));
            memory.contexts.push(region);
        }
        memory.pixels = memory.take(network.config.height * network.config.width * batch, limit);
        memory.cleared.resize(memory.arenas.len(), 0);
        memory
    }

    /// The end of the first arena with room.
    fn take(&mut self, length: usize, limit: usize) -> Region {
        let arena = self.arenas.iter().position(|used| used + length <= limit).unwrap_or(self.arenas.len());
        if arena == self.arenas.len() {
            self.arenas.push(0);
        }
        let start = self.arenas[arena];
        self.arenas[arena] += length;
        Region { arena, start, length }
    }

    /// Bytes of all arenas.
    pub fn bytes(&self) -> u64 {
        QUAD * self.arenas.iter().sum::<usize>() as u64
    }
}

/// What a dispatch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A part of a layer, for a whole row or for one pixel.
    Conv {
        /// Index of the layer.
        layer: usize,
        /// Which terms.
        part: Part,
        /// Whether it is for a whole row.
        whole_row: bool,
    },
    /// Output, drawing, and the next pixel's input.
    Sample,
    /// Known pixels of a row go into the image's ring.
    ShowRow,
}

/// What a dispatch reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A node's ring.
    Node(usize),
    /// A layer's row context.
    Context(usize),
    /// The pixels.
    Pixels,
}

/// One dispatch, the same at every step.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// What it does.
    pub operation: Operation,
    /// The kernel with its constants.
    pub variant: Variant,
    /// Workgroups along both axes.
    pub workgroups: [u32; 2],
    /// What it reads, weights and additions aside.
    pub reads: Vec<Place>,
    /// What it writes.
    pub writes: Vec<Place>,
    /// Multiplications with additions in products, padding included.
    pub macs: u64,
    /// Those of the next pixel's input layer, for all pixels of a row but the last.
    macs_of_next: u64,
    /// It runs on rows `run_every · i + first_row`, and for a pixel on columns `run_every · i`.
    run_every: usize,
    first_row: usize,
    /// Level of what it makes.
    pub level: usize,
}

impl Dispatch {
    fn runs_on_row(&self, row: usize) -> bool {
        row % self.run_every == self.first_row
    }
}

/// All dispatches of a network for a batch.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Images.
    pub batch: usize,
    /// Where everything lies.
    pub memory: Memory,
    /// Pixels in a row.
    width: usize,
    height: usize,
    /// What a row begins with, layer by layer.
    rows: Vec<Dispatch>,
    /// What a pixel takes; the last draws it.
    pixels: Vec<Dispatch>,
    /// What is left of a row whose pixels are known, all pixels at once.
    whole_rows: Vec<Dispatch>,
    show_row: Dispatch,
}

impl Plan {
    /// Plans batches of `batch` images.
    pub fn new(network: &Network, batch: usize, target: Target) -> Self {
        let memory = Memory::new(network, batch, target.buffer);
        let config = &network.config;
        let planner = Planner { network, batch, target, arenas: memory.arenas.len() as u32 };
        let (mut rows, mut pixels, mut whole_rows) = (Vec::new(), Vec::new(), Vec::new());
        for (l, layer) in network.layers.iter().enumerate() {
            rows.extend(part_of_row(layer).map(|part| planner.conv(l, part, true)));
            if !layer.is_row_work() {
                whole_rows.push(planner.conv(l, Part::Late, true));
                // The output layer of a pixel is a part of the sampling kernel.
                pixels.push(match layer.kind {
                    Kind::Output => planner.sample(),
                    _ => planner.conv(l, Part::Late, false),
                });
            }
        }
        let show_row = planner.show_row();
        Self {
            batch,
            memory,
            width: config.width,
            height: config.height,
            rows,
            pixels,
            whole_rows,
            show_row,
        }
    }

    /// Whether a device can run it.
    pub fn fits(&self, target: Target) -> bool {
        let mut groups = self.all().flat_map(|(_, dispatch)| dispatch.workgroups);
        self.memory.arenas.len() <= target.arenas
            && self.memory.arenas.iter().all(|&quads| QUAD * quads as u64 <= target.buffer)
            && groups.all(|groups| groups <= target.workgroups)
    }

    /// All dispatches that there are, each with its number.
    pub fn all(&self) -> impl Iterator<Item = (usize, &Dispatch)> {
        let lists = [&self.rows[..], &self.pixels, &self.whole_rows, std::slice::from_ref(&self.show_row)];
        lists.into_iter().flatten().enumerate()
    }

    /// What begins a row of the image, by number.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, &Dispatch)> {
        self.all().take(self.rows.len()).filter(move |(_, dispatch)| dispatch.runs_on_row(row))
    }

    /// What a pixel takes, up to its value.
    pub fn pixel(&self, row: usize, column: usize) -> impl Iterator<Item = (usize, &Dispatch)> {
        self.all().skip(self.rows.len()).take(self.pixels.len()).filter(move |(_, dispatch)| {
            // Past the first column, the sampling kernel has run the input layer for its next pixel.
            let is_done = dispatch.is_input() && column > 0;
            dispatch.runs_on_row(row) && column.is_multiple_of(dispatch.run_every) && !is_done
        })
    }

    /// What a row takes whose pixels are known, all of it.
    pub fn known_row(&self, row: usize) -> impl Iterator<Item = (usize, &Dispatch)> {
        let show = self.all().skip(self.rows.len() + self.pixels.len() + self.whole_rows.len());
        let late = self.all().skip(self.rows.len() + self.pixels.len()).take(self.whole_rows.len());
        let late = late.filter(move |(_, dispatch)| dispatch.runs_on_row(row));
        show.chain(self.row(row)).chain(late)
    }

    /// The dispatch that draws a pixel.
    pub fn sample(&self) -> (usize, &Dispatch) {
        let number = self.rows.len() + self.pixels.len() - 1;
        (number, &self.pixels[self.pixels.len() - 1])
    }

    /// Products of a dispatch at a column.
    pub fn macs_at(&self, dispatch: &Dispatch, column: usize) -> u64 {
        dispatch.macs + if column + 1 < self.width { dispatch.macs_of_next } else { 0 }
    }

    /// What the first `pixels` pixels of a batch take.
    pub fn cost(&self, method: Method, pixels: usize) -> Counts {
        let mut counts = Counts::default();
        let mut add = |dispatch: &Dispatch, column, times: usize| {
            counts.macs += self.macs_at(dispatch, column) * times as u64;
            counts.dispatches += times as u64;
        };
        if method == Method::Naive {
            for row in 0..self.height {
                self.known_row(row).for_each(|(_, dispatch)| add(dispatch, 0, pixels));
            }
            let (_, sample) = self.sample();
            (0..pixels).for_each(|pixel| add(sample, pixel % self.width, 1));
            return counts;
        }
        let (rows, rest) = (pixels / self.width, pixels % self.width);
        // The pattern of work repeats.
        let period = self.all().map(|(_, dispatch)| dispatch.run_every).max().unwrap_or(1);
        for phase in 0..period.min(rows) {
            let times = (rows - phase).div_ceil(period);
            self.row(phase).for_each(|(_, dispatch)| add(dispatch, 0, times));
            for column in 0..self.width {
                self.pixel(phase, column).for_each(|(_, dispatch)| add(dispatch, column, times));
            }
        }
        if rest > 0 {
            self.row(rows).for_each(|(_, dispatch)| add(dispatch, 0, 1));
            for column in 0..rest {
                self.pixel(rows, column).for_each(|(_, dispatch)| add(dispatch, column, 1));
            }
        }
        counts
    }
}

impl Dispatch {
    fn is_input(&self) -> bool {
        matches!(self.operation, Operation::Conv { .. }) && self.writes == [Place::Node(FIRST_HORIZONTAL)]
    }
}

/// The node that the horizontal input layer makes: after the image and the first vertical one.
const FIRST_HORIZONTAL: usize = 2;

struct Planner<'a> {
    network: &'a Network,
    batch: usize,
    target: Target,
    arenas: u32,
}

impl Planner<'_> {
    fn conv(&self, l: usize, part: Part, whole_row: bool) -> Dispatch {
        let layer = &self.network.layers[l];
        let columns = if whole_row { self.network.config.width >> layer.grid } else { 1 };
        let positions = columns * self.batch;
        let from_context = part.begins_with_context(layer);
        let mut reads: Vec<_> = part.taps(layer).iter().map(|tap| Place::Node(tap.source)).collect();
        let (epilogue, write) = match (part, layer.residual) {
            (Part::Early, _) => (Epilogue::Context, Place::Context(l)),
            (_, Some((residual, _))) => {
                reads.push(Place::Node(residual));
                (Epilogue::Gate, Place::Node(layer.target))
            }
            (_, None) => (Epilogue::Forms, Place::Node(layer.target)),
        };
        reads.extend(from_context.then_some(Place::Context(l)));
        reads.dedup();
        let variant = Variant::conv(
            positions as u32,
            layer.halves as u32,
            epilogue,
            self.network.config.nonlinearity,
            layer.precision(self.target.precision),
            self.target.reduction,
        );
        let variant = variant.reading(whole_row, from_context).in_arenas(self.arenas);
        Dispatch {
            operation: Operation::Conv { layer: l, part, whole_row },
            workgroups: variant.workgroups(positions as u32, quads(padded(layer.channels))),
            variant,
            reads,
            writes: vec![write],
            macs: (positions * part.macs(layer)) as u64,
            macs_of_next: 0,
            run_every: layer.run_every,
            first_row: layer.row_parity.unwrap_or(0) << layer.level,
            level: layer.level,
        }
    }

    fn sample(&self) -> Dispatch {
        let (network, config) = (self.network, &self.network.config);
        let output = output(network);
        let (input, input_layer) = horizontal_input(network);
        debug_assert_eq!(input_layer.target, FIRST_HORIZONTAL);
        let parameters = quads(output.outputs());
        let draws = (config.mixtures + config.channels) as u32;
        let variant = Variant::sample(parameters, draws, config.nonlinearity).in_arenas(self.arenas);
        let left = &input_layer.taps[input_layer.taps.len() - 1];
        Dispatch {
            operation: Operation::Sample,
            workgroups: variant.workgroups(self.batch as u32, parameters),
            variant,
            reads: vec![Place::Node(output.taps[0].source), Place::Context(input), Place::Pixels],
            writes: vec![
                Place::Node(network.parameters()),
                Place::Pixels,
                Place::Node(IMAGE),
                Place::Node(input_layer.target),
            ],
            macs: (self.batch * output.taps[0].depth() * output.outputs()) as u64,
            macs_of_next: (self.batch * left.depth() * input_layer.outputs()) as u64,
            run_every: 1,
            first_row: 0,
            level: 0,
        }
    }

    fn show_row(&self) -> Dispatch {
        let variant = Variant::show_row().in_arenas(self.arenas);
        let positions = (self.network.config.width * self.batch) as u32;
        Dispatch {
            operation: Operation::ShowRow,
            workgroups: variant.workgroups(positions, 1),
            variant,
            reads: vec![Place::Pixels],
            writes: vec![Place::Node(IMAGE)],
            macs: 0,
            macs_of_next: 0,
            run_every: 1,
            first_row: 0,
            level: 0,
        }
    }
}

/// The layer that makes the mixture parameters.
pub fn output(network: &Network) -> &Layer {
    &network.layers[network.layers.len() - 1]
}

/// The layer that reads the pixel to the left, with its index.
pub fn horizontal_input(network: &Network) -> (usize, &Layer) {
    let is_it = |layer: &Layer| layer.kind == Kind::Input && layer.stream == Stream::Horizontal;
    let index = network.layers.iter().position(is_it).expect("every network has an input layer");
    (index, &network.layers[index])
}

/// Where the form that a layer's gate is added to begins in a record, in quads.
pub fn residual_offset(network: &Network, layer: &Layer) -> u32 {
    layer.residual.map_or(0, |(node, form)| offset(network, node, form))
}

/// Where a form begins in a node's record, in quads.
pub fn offset(network: &Network, node: usize, form: Form) -> u32 {
    quads(network.nodes[node].offset(form).expect("the network stores what is read"))
}

/// The kernel, for people.
pub fn kernel_name(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Tiled(..) => "conv_tiled",
        Kernel::Split(..) => "conv_split",
        Kernel::Sample => "sample",
        Kernel::ShowRow => "show_row",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Config;

    fn small() -> Network {
        Network::new(&Config { width: 12, height: 8, ..Config::published(8, 1) })
    }

    /// Everything that is read has been written, once rows above are no longer zeros; nothing is read and written at
    /// once but the pixel itself; and every node is made.
    #[test]
    fn what_is_read_has_been_written() {
        let network = small();
        let plan = Plan::new(&network, 3, Target::SMALLEST);
        let plan = &plan;
        let of_row = |row| {
            let pixels = (0..12).flat_map(move |column| plan.pixel(row, column).map(|(_, d)| d.clone()));
            plan.row(row).map(|(_, d)| d.clone()).chain(pixels).collect::<Vec<_>>()
        };
        let mut written = vec![Place::Pixels];
        (0..4).flat_map(of_row).for_each(|dispatch| written.extend(dispatch.writes));
        for dispatch in (4..8).flat_map(of_row) {
            for read in &dispatch.reads {
                assert!(written.contains(read), "{:?} reads {read:?}", dispatch.operation);
                let is_pixel = *read == Place::Pixels;
                assert!(is_pixel || !dispatch.writes.contains(read), "{:?}", dispatch.operation);
            }
        }
        assert!((0..network.nodes.len()).all(|node| written.contains(&Place::Node(node))));
    }

    #[test]
    fn regions_do_not_overlap_and_stay_within_their_arenas() {
        let network = small();
        // Little buffers: several arenas.
        for buffer in [1 << 30, 1 << 18] {
            let plan = Plan::new(&network, 5, Target { buffer, ..Target::SMALLEST });
            let memory = &plan.memory;
            assert_eq!(
                plan.fits(Target { buffer, ..Target::SMALLEST }),
                memory.arenas.len() <= MOST_ARENAS
            );
            assert_eq!(memory.arenas.len() > 1, buffer < 1 << 20, "{:?}", memory.arenas);
            let regions =
                memory.nodes.iter().chain(memory.contexts.iter().flatten()).chain([&memory.pixels]);
            let mut regions: Vec<_> = regions.map(|r| (r.arena, r.start, r.start + r.length)).collect();
            regions.sort_unstable();
            for pair in regions.windows(2) {
                assert!(pair[0].0 < pair[1].0 || pair[0].2 <= pair[1].1, "{pair:?}");
            }
            for (arena, _, end) in regions {
                assert!(end <= memory.arenas[arena]);
            }
            for node in &memory.nodes {
                assert!(node.start + node.length <= memory.cleared[node.arena], "nodes are cleared");
            }
        }
    }

    /// A row of so many positions that one axis of a grid does not hold its workgroups is refused, not dispatched.
    #[test]
    fn grids_have_limits() {
        let network = Network::new(&Config { width: 8196, height: 4, ..Config::published(4, 1) });
        let target = Target { buffer: u64::MAX, ..Target::SMALLEST };
        assert!(Plan::new(&network, 255, target).fits(target));
        assert!(!Plan::new(&network, 256, target).fits(target));
    }

    #[test]
    fn products_are_those_of_the_network() {
        let network = small();
        let plan = Plan::new(&network, 3, Target::SMALLEST);
        let macs = 3 * network.macs_per_image() as u64;
        assert_eq!(plan.cost(Method::Cached, 96).macs, macs);
        let known: u64 =
            (0..8).flat_map(|row| plan.known_row(row)).map(|(_, dispatch)| dispatch.macs).sum();
        assert_eq!(known, macs);
    }
}
