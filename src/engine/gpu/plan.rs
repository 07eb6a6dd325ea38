//! The dispatches of a batch and the layout of its buffers: plain data made from network, batch and limits, without a
//! device.
//!
//! The engine runs this list and nothing else; counts, costs, the splitting of long submissions and the profile read
//! it.

use std::ops::{Index, IndexMut};

use super::dispatch::{DeviceFacts, Dispatch, Operation};
use super::memory::Memory;
use super::planner::Planner;
use super::shaders::Family;
use super::speed::Speed;
use super::support::{family, pixel_input};
use super::units::{QUAD, quads};
use crate::engine::cost::Predictor;
use crate::engine::work::{Terms, terms_of_row};
use crate::engine::{Counts, Method, Request};
use crate::graph::Network;

/// The identity of a dispatch in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(usize);

/// Something for each dispatch of a plan.
pub struct ByDispatch<T>(Vec<T>);

impl<T: Default> ByDispatch<T> {
    /// Defaults for a plan.
    pub fn new(plan: &Plan) -> Self {
        Self(plan.all().map(|_| T::default()).collect())
    }
}

impl<T> Index<Id> for ByDispatch<T> {
    type Output = T;

    fn index(&self, id: Id) -> &T {
        &self.0[id.0]
    }
}

impl<T> IndexMut<Id> for ByDispatch<T> {
    fn index_mut(&mut self, id: Id) -> &mut T {
        &mut self.0[id.0]
    }
}

impl Index<Id> for Plan {
    type Output = Dispatch;

    fn index(&self, id: Id) -> &Dispatch {
        &self.dispatches[id.0]
    }
}

/// A dispatch of a plan, and the row and column that it is given: those of what it makes, in the image.
pub type Step = (Id, usize, usize);

/// The dispatches of a layer, those that there are.
#[derive(Clone, Copy, Debug)]
struct LayerDispatches {
    /// Begins a row.
    row: Option<Id>,
    /// Computes a pixel.
    pixel: Option<Id>,
    /// Completes a row whose pixels are known, all pixels at once.
    whole_row: Option<Id>,
}

/// All dispatches of a network for a batch.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Images.
    pub batch: usize,
    /// The layout of the buffers.
    pub memory: Memory,
    /// Pixels in a row.
    width: usize,
    height: usize,
    /// The layer that the sampling kernel of a PixelCNN++ runs for its next pixel.
    input: Option<usize>,
    /// The first of the rows that begin with the first of the image: before it come those outside.
    first_row: isize,
    /// Rows that the slowest node is behind the image.
    lag: usize,
    dispatches: Vec<Dispatch>,
    layers: Vec<LayerDispatches>,
    /// The ends of the steps of a pixel.
    draws: Vec<Id>,
    show_row: Id,
    likelihood: Id,
    /// The chain, which does [`Self::span`] pixels of a row in one dispatch, if there is one.
    chain: Option<Id>,
    /// Pixels that a chain does at once; 1 without one.
    pub span: usize,
}

impl Plan {
    /// Plans batches of `batch` images.
    pub fn new(network: &Network, batch: usize, target: DeviceFacts) -> Self {
        let memory = Memory::new(network, batch, target.buffer);
        let family = family(network);
        let planner = Planner { network, batch, target, family, arenas: memory.arenas.len() as u32 };
        let mut dispatches = Vec::new();
        let mut add = |dispatch: Dispatch| {
            dispatches.push(dispatch);
            Id(dispatches.len() - 1)
        };
        let mut layers = Vec::new();
        for (l, layer) in network.layers.iter().enumerate() {
            let is_pixel = !layer.is_row_work();
            // The output layer of a pixel is a part of the sampling kernel.
            let is_sampled = family == Family::PixelCnnPp && layer.target == network.head_node;
            layers.push(LayerDispatches {
                row: terms_of_row(layer).map(|terms| add(planner.conv(l, terms, true))),
                pixel: (is_pixel && !is_sampled).then(|| add(planner.conv(l, Terms::Late, false))),
                whole_row: is_pixel.then(|| add(planner.conv(l, Terms::Late, true))),
            });
        }
        let draws: Vec<_> = match family {
            Family::PixelCnnPp => vec![add(planner.sample())],
            Family::Graph => (0..network.head.steps()).map(|step| add(planner.draw(step))).collect(),
        };
        let [show_row, likelihood] = [planner.show_row(), planner.likelihood()].map(&mut add);
        let mut plan = Self {
            batch,
            memory,
            width: network.width,
            height: network.height,
            input: (family == Family::PixelCnnPp).then(|| pixel_input(network).0),
            first_row: *network.rows_begun_with(0).start(),
            lag: network.largest_lag(),
            dispatches,
            layers,
            draws,
            show_row,
            likelihood,
            chain: None,
            span: 1,
        };
        let pixel: Vec<_> = plan.chained().chain(plan.draws.iter().map(|&id| &plan[id])).collect();
        if let Some((dispatch, span)) = planner.chain(&pixel) {
            plan.chain = Some(Id(plan.dispatches.len()));
            plan.dispatches.push(dispatch);
            plan.span = span;
        }
        plan
    }

    /// True if some batch of a network has a chain.
    pub fn may_have_chain(network: &Network, target: DeviceFacts) -> bool {
        // If every workgroup has an image, a chain leaves none idle.
        let target = DeviceFacts { buffer: u64::MAX, ..target };
        Self::new(network, target.speed.workgroups as usize, target).has_chain()
    }

    /// True if a device can run it.
    pub fn fits(&self, target: DeviceFacts) -> bool {
        let mut groups = self.all().flat_map(|(_, dispatch)| dispatch.workgroups);
        let mut bindings = self.all().map(|(_, dispatch)| dispatch.variant.bindings());
        bindings.all(|arenas_and_tables| arenas_and_tables as usize <= target.arenas)
            && self.memory.arenas.iter().all(|&quads| QUAD * quads as u64 <= target.buffer)
            && groups.all(|groups| groups <= target.workgroups)
    }

    /// All dispatches that there are.
    pub fn all(&self) -> impl Iterator<Item = (Id, &Dispatch)> {
        self.dispatches.iter().enumerate().map(|(index, dispatch)| (Id(index), dispatch))
    }

    /// The dispatches that cached methods take: without those that a chain does.
    pub fn shipped(&self) -> impl Iterator<Item = &Dispatch> {
        self.all().map(|(_, dispatch)| dispatch).filter(|dispatch| !self.is_in_chain(dispatch))
    }

    /// True if a chain does all the work of a dispatch.
    pub fn is_in_chain(&self, dispatch: &Dispatch) -> bool {
        let is_of_pixel = match dispatch.operation {
            // A layer that runs before or after its own pixel does so at the ends of a row too.
            Operation::Conv { whole_row, .. } => !whole_row && dispatch.when.late == 0,
            Operation::Sample | Operation::Draw { .. } => true,
            _ => false,
        };
        self.has_chain() && is_of_pixel
    }

    /// A dispatch on a row, whose first pixel is given, if it is there and runs there.
    fn on_row(&self, id: Option<Id>, row: isize) -> Option<Step> {
        let id = id?;
        Some((id, self[id].when.row(row, self.height)?, 0))
    }

    /// A dispatch at a pixel.
    fn at(&self, id: Option<Id>, row: isize, column: isize) -> Option<Step> {
        let (id, row, _) = self.on_row(id, row)?;
        Some((id, row, self[id].when.column(column, self.width)?))
    }

    /// The number of pixels by which a layer runs after its own.
    fn late(&self, layer: &LayerDispatches) -> isize {
        layer.pixel.map_or(0, |id| self[id].when.late)
    }

    /// The steps that begin a row of the image; those of the first row begin the rows above the image too.
    pub fn row(&self, row: usize) -> impl Iterator<Item = Step> {
        let row = row as isize;
        let first = if row == 0 { self.first_row } else { row };
        (first..=row).flat_map(move |row| {
            // Outside the image all pixels are known.
            let known = (row < 0).then(|| self.late_of_row(row));
            let begin = self.layers.iter().flat_map(move |layer| {
                let ahead = (self.late(layer)..0).filter_map(move |c| self.at(layer.pixel, row, c));
                self.on_row(layer.row, row).into_iter().chain(ahead)
            });
            begin.chain(known.into_iter().flatten())
        })
    }

    /// The steps that complete a row which has begun and whose pixels are known.
    fn late_of_row(&self, row: isize) -> impl Iterator<Item = Step> {
        self.layers.iter().filter_map(move |layer| self.on_row(layer.whole_row, row))
    }

    /// The steps that complete a row whose pixels have been computed one by one: values that lag behind them.
    pub fn end_of_row(&self, row: usize) -> impl Iterator<Item = Step> {
        let width = self.width as isize;
        self.layers.iter().flat_map(move |layer| {
            let late = self.late(layer).max(0);
            (width..width + late).filter_map(move |column| self.at(layer.pixel, row as isize, column))
        })
    }

    /// The rows below the image that nodes are behind it, one after the other: all of each.
    pub fn rows_after(&self) -> impl Iterator<Item = (usize, Vec<Step>)> {
        let rows = self.height..self.height + self.lag;
        rows.map(|row| (row, self.row(row).chain(self.late_of_row(row as isize)).collect()))
    }

    /// The dispatches at a pixel, up to its value. A chain runs at every [`Self::span`]th pixel of a row.
    pub fn pixel(&self, row: usize, column: usize) -> impl Iterator<Item = Step> {
        let chain = self.chain.filter(|_| column.is_multiple_of(self.span));
        let parts = self.chain.is_none().then(|| self.parts(row, column));
        chain.map(|id| (id, row, column)).into_iter().chain(parts.into_iter().flatten())
    }

    /// The dispatches of a pixel without a chain, up to its value, step by step and layer by layer.
    fn parts(&self, row: usize, column: usize) -> impl Iterator<Item = Step> {
        self.draws.iter().enumerate().flat_map(move |(step, &draw)| {
            let layers = self.layers.iter().filter_map(move |layer| {
                let (id, ..) = self.at(layer.pixel, row as isize, column as isize)?;
                // Past the first column, the sampling kernel has run the input layer for its next pixel.
                let is_done = self.is_input(&self[id]) && column > 0;
                let is_now = self[id].when.step == step && !is_done;
                self.at(Some(id).filter(|_| is_now), row as isize, column as isize)
            });
            layers.chain([(draw, row, column)])
        })
    }

    /// True if it is the layer that a pixel runs for its next.
    pub fn is_input(&self, dispatch: &Dispatch) -> bool {
        matches!(
            dispatch.operation,
            Operation::Conv { layer, terms: Terms::Late, .. } if Some(layer) == self.input
        )
    }

    /// True if a request computes rows whose pixels are all known beforehand: given ones, or outside the image.
    pub fn has_known_rows(&self, request: &Request) -> bool {
        let is_behind = self.lag > 0 && request.want().trace;
        request.method() == Method::Naive || request.rows_given() > 0 || self.first_row < 0 || is_behind
    }

    /// True if a chain does the work of pixels.
    pub fn has_chain(&self) -> bool {
        self.chain.is_some()
    }

    /// The layers that a chain works on, all that there are: step by step.
    pub fn chained(&self) -> impl Iterator<Item = &Dispatch> {
        (0..self.draws.len()).flat_map(move |step| {
            let pixels = self.layers.iter().filter_map(move |layer| Some(&self[layer.pixel?]));
            pixels.filter(move |dispatch| dispatch.when.step == step)
        })
    }

    /// The dispatches of a row whose pixels are known.
    pub fn known_row(&self, row: usize) -> impl Iterator<Item = Step> {
        let show = std::iter::once((self.show_row, row, 0));
        show.chain(self.row(row)).chain(self.late_of_row(row as isize))
    }

    /// The dispatch that says how likely the pixels of a row are, once they are known.
    pub fn likelihood(&self, row: usize) -> Step {
        (self.likelihood, row, 0)
    }

    /// The dispatches that draw a pixel, step by step.
    pub fn draws(&self) -> &[Id] {
        &self.draws
    }

    /// Products of a dispatch at a place, in a row whose pixels up to column `end` are wanted.
    pub fn macs_at(&self, (id, row, column): Step, end: usize) -> u64 {
        let dispatch = &self[id];
        if matches!(dispatch.operation, Operation::Chain { .. }) {
            let columns = column..end.min(column + self.span);
            return columns.flat_map(|c| self.parts(row, c)).map(|part| self.macs_at(part, end)).sum();
        }
        dispatch.macs + if column + 1 < self.width { dispatch.macs_of_next } else { 0 }
    }

    /// Predicts what runs on such a device cost.
    pub fn predictor(facts: DeviceFacts) -> Predictor {
        Predictor::new(move |network, method, batch, pixels| {
            Self::new(&network.clone().with_sums_apart(), batch, facts).cost(method, pixels)
        })
    }

    /// The cost of the first `pixels` pixels of a batch.
    pub fn cost(&self, method: Method, pixels: usize) -> Counts {
        let mut counts = Counts::default();
        self.visit(method, pixels, |step, end, times| {
            counts.macs += self.macs_at(step, end) * times as u64;
            counts.dispatches += times as u64;
        });
        counts
    }

    /// Seconds that the first `pixels` pixels of a batch are expected to take on a device that is running.
    pub fn seconds(&self, pixels: usize, speed: Speed) -> f64 {
        let mut seconds = 0.0;
        self.visit(Method::Cached, pixels, |step @ (id, row, column), end, times| {
            let (dispatch, macs) = (&self[id], self.macs_at(step, end) as f64);
            let columns = column..end.min(column + self.span);
            let layers: usize = match dispatch.operation {
                // All layers and the end of a pixel.
                Operation::Chain { .. } => columns.map(|c| self.parts(row, c).count()).sum(),
                _ => 0,
            };
            let workgroups = dispatch.workgroups.iter().product();
            let of_one = speed.seconds(macs, workgroups) + speed.dispatch + layers as f64 * speed.layer;
            seconds += times as f64 * of_one;
        });
        seconds
    }

    /// Every dispatch of the first `pixels` pixels of a batch, with the end of the wanted pixels of its row, and with how many
    /// others cost the same.
    fn visit(&self, method: Method, pixels: usize, mut add: impl FnMut(Step, usize, usize)) {
        let width = self.width;
        if method == Method::Naive {
            let steps = pixels * self.draws.len();
            for row in 0..self.height {
                self.known_row(row).for_each(|step| add(step, width, steps));
            }
            for pixel in 0..pixels {
                self.draws.iter().for_each(|&id| add((id, pixel / width, pixel % width), width, 1));
            }
            return;
        }
        let (rows, rest) = (pixels / width, pixels % width);
        // The pattern of work repeats, unless rows are made with others of the image.
        let is_regular = self.first_row == 0 && self.lag == 0;
        let period = self.all().map(|(_, dispatch)| dispatch.when.run_every).max().unwrap_or(1);
        let period = if is_regular { period } else { self.height };
        let whole = (0..period.min(rows)).map(|phase| (phase, width, (rows - phase).div_ceil(period)));
        for (row, end, times) in whole.chain((rest > 0).then_some((rows, rest, 1))) {
            self.row(row).for_each(|step| add(step, end, times));
            for column in 0..end {
                self.pixel(row, column).for_each(|step| add(step, end, times));
            }
            if end == width {
                self.end_of_row(row).for_each(|step| add(step, end, times));
            }
        }
    }
}

/// The start of a form in a node's record, in quads.
pub fn offset(network: &Network, node: usize, form: usize) -> u32 {
    quads(network.nodes[node].offsets[form])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::dispatch::Place;
    use super::super::units::MOST_ARENAS;
    use super::*;
    use crate::graph::network::depth;
    use crate::graph::pixelcnn_pp;
    use crate::model::Config;

    /// Layer by layer, and as a chain.
    const TARGETS: [DeviceFacts; 2] = [
        DeviceFacts { chain: Some(false), ..DeviceFacts::SMALLEST },
        DeviceFacts { chain: Some(true), ..DeviceFacts::SMALLEST },
    ];

    fn network(config: &Config) -> Network {
        Network::new(&pixelcnn_pp::graph(config), None)
    }

    fn small() -> Network {
        network(&Config { width: 12, height: 8, ..Config::published(8, 1) })
    }

    /// Everything that is read has been written, once rows above are no longer zeros; nothing is read and written at
    /// once but the pixel itself; and every node is made.
    #[test]
    fn what_is_read_has_been_written() {
        let network = small();
        let plan = Plan::new(&network, 3, TARGETS[0]);
        let plan = &plan;
        let of_row = |row| {
            let pixels = (0..12).flat_map(move |column| plan.pixel(row, column));
            plan.row(row).chain(pixels).map(|(id, ..)| plan[id].clone()).collect::<Vec<_>>()
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
            let plan = Plan::new(&network, 5, DeviceFacts { buffer, ..DeviceFacts::SMALLEST });
            let memory = &plan.memory;
            assert_eq!(
                plan.fits(DeviceFacts { buffer, ..DeviceFacts::SMALLEST }),
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

    /// A row is refused, not dispatched, if its workgroups exceed one axis of a grid.
    #[test]
    fn grids_have_limits() {
        let network = network(&Config { width: 8196, height: 4, ..Config::published(4, 1) });
        let target = DeviceFacts { buffer: u64::MAX, ..DeviceFacts::SMALLEST };
        assert!(Plan::new(&network, 255, target).fits(target));
        assert!(!Plan::new(&network, 256, target).fits(target));
    }

    /// Barriers of a batch: all, one before each dispatch because all write to the arenas; and those that are left if all
    /// dispatches that do not depend on each other run at once. Of each, those that begin a row, and those of pixels.
    fn barriers(config: &Config, batch: usize) -> [[usize; 2]; 2] {
        let target = DeviceFacts { buffer: 1 << 34, chain: Some(false), ..DeviceFacts::SMALLEST };
        let plan = Plan::new(&network(config), batch, target);
        // The turn in which a place was last written, and last read.
        let mut written = HashMap::<Place, usize>::new();
        let mut read = HashMap::<Place, usize>::new();
        let (mut all, mut needed) = ([0; 2], [0; 2]);
        let mut last = 0;
        for row in 0..config.height {
            let begin = plan.row(row).map(|step| (0, step));
            let pixels = (0..config.width).flat_map(|column| plan.pixel(row, column)).map(|step| (1, step));
            for (kind, (id, ..)) in begin.chain(pixels) {
                let after = |place: &Place| written.get(place).map_or(0, |turn| turn + 1);
                let unread = |place: &Place| read.get(place).map_or(0, |turn| turn + 1);
                let of_reads = plan[id].reads.iter().map(after);
                let of_writes = plan[id].writes.iter().map(|place| after(place).max(unread(place)));
                let turn = of_reads.chain(of_writes).max().unwrap_or(0);
                for place in &plan[id].reads {
                    let of_place = read.entry(*place).or_insert(0);
                    *of_place = turn.max(*of_place);
                }
                plan[id].writes.iter().for_each(|place| _ = written.insert(*place, turn));
                all[kind] += 1;
                needed[kind] += turn.saturating_sub(last);
                last = turn.max(last);
            }
        }
        [all, needed]
    }

    /// Dispatches of a pixel depend on each other, nearly all of them; half of those that begin a row do not.
    #[test]
    fn most_barriers_are_needed() {
        let [all, needed] = barriers(&Config::published(160, 5), 16);
        assert_eq!(all, [2616, 31136]);
        assert_eq!(needed, [1327, 29936]);
    }

    #[test]
    fn products_are_those_of_the_network() {
        let network = small();
        let macs = 3 * network.macs_per_image() as u64;
        for target in TARGETS {
            let plan = Plan::new(&network, 3, target);
            assert_eq!(plan.cost(Method::Cached, 96).macs, macs);
            let steps = (0..8).flat_map(|row| plan.known_row(row));
            let known: u64 = steps.map(|(id, ..)| plan[id].macs).sum();
            assert_eq!(known, macs);
        }
    }

    /// A chain does what all dispatches of a row's pixels do, wherever the row ends, and reads and writes what they do.
    #[test]
    fn a_chain_is_all_dispatches_of_a_row() {
        let network = small();
        let [apart, chained] = TARGETS.map(|target| Plan::new(&network, 3, target));
        assert!(chained.has_chain() && !apart.has_chain());
        for pixels in [0, 1, 12, 17, 96] {
            let [apart, chained] = [&apart, &chained].map(|plan| plan.cost(Method::Cached, pixels));
            assert_eq!(apart.macs, chained.macs, "{pixels} pixels");
            assert!(pixels < 12 || chained.dispatches * 4 < apart.dispatches, "{pixels} pixels");
        }
        let row: Vec<_> = (0..12).flat_map(|column| chained.pixel(3, column)).collect();
        let [(chain, 3, 0)] = row[..] else { panic!("one for the row") };
        let chain = &chained[chain];
        for (id, ..) in apart.pixel(0, 0) {
            let part = &apart[id];
            assert!(part.reads.iter().all(|place| chain.reads.contains(place)));
            assert!(part.writes.iter().all(|place| chain.writes.contains(place)));
        }
        // Large batches take a row in parts, and a device without a binding to spare takes none.
        let target = DeviceFacts { buffer: 1 << 40, ..TARGETS[1] };
        let large = Plan::new(&network, 100_000, target);
        assert_eq!((large.has_chain(), large.span), (true, 1));
        assert!(!Plan::new(&network, 3, DeviceFacts { arenas: 1, ..TARGETS[1] }).has_chain());
    }

    /// If a driver ends loops after some turns, a chain does fewer pixels at once, or there is none.
    #[test]
    fn chains_are_short_where_loops_are() {
        let network = network(&Config { channels: 1, width: 108, height: 8, ..Config::published(32, 2) });
        let span = |turns| {
            let plan = Plan::new(&network, 1, DeviceFacts { turns, speed: Speed::SOFTWARE, ..TARGETS[1] });
            plan.has_chain().then_some(plan.span)
        };
        assert_eq!(span(u64::MAX), Some(108));
        let spans = [1 << 12, 1 << 14, 1 << 16, 1 << 18].map(|turns| span(turns).unwrap_or(0));
        assert!(spans.is_sorted() && spans[0] < spans[2] && (1..108).contains(&spans[2]), "{spans:?}");
        assert_eq!(span(100), None);
    }

    /// A chain leaves processors idle that have no image, and walks through its layers.
    #[test]
    fn what_a_chain_takes_is_its_layers_and_its_workgroups() {
        let speed = Speed::DISCRETE;
        let network = network(&Config::published(16, 1));
        let seconds = |batch, speed| {
            let target = DeviceFacts { buffer: 1 << 34, ..TARGETS[1] };
            Plan::new(&network, batch, target).seconds(32 * 32, speed)
        };
        // Twice as many images are as soon done, until all processors have some; rows take a little longer.
        assert!(seconds(64, speed) < 1.2 * seconds(32, speed));
        assert!(seconds(1024, speed) > 1.5 * seconds(512, speed));
        let slow = Speed { layer: 2.0 * speed.layer, ..speed };
        let layers = (seconds(1, slow) - seconds(1, speed)) / speed.layer / 1024.0;
        let plan = Plan::new(&network, 1, TARGETS[1]);
        assert!((1.0..=1.0 + plan.chained().count() as f64).contains(&layers), "{layers} layers a pixel");
    }

    /// Chains are for small networks, on whatever device.
    #[test]
    fn chains_are_for_small_networks() {
        let speeds = [Speed::DISCRETE, Speed::INTEGRATED, Speed::SOFTWARE];
        for (config, expected) in [
            (Config::published(160, 5), false),
            (Config::published(64, 2), true),
            (Config { channels: 1, width: 28, height: 28, ..Config::published(32, 2) }, true),
            (Config::published(16, 1), true),
        ] {
            for (batch, speed) in [1, 16, 256].into_iter().flat_map(|batch| speeds.map(|s| (batch, s))) {
                let target = DeviceFacts { buffer: 1 << 34, speed, ..DeviceFacts::SMALLEST };
                let plan = Plan::new(&network(&config), batch, target);
                assert_eq!(plan.has_chain(), expected, "{}, batch {batch}, {speed:?}", config.filters);
            }
        }
    }

    /// A dispatch that a pixel waits for gives a discrete GPU 128 workgroups, or as many as its product has at two
    /// quads of outputs of one image each.
    #[test]
    fn no_part_of_a_gpu_is_idle() {
        let configs = [
            Config::published(160, 5),
            Config::published(64, 2),
            Config { channels: 1, width: 28, height: 28, ..Config::published(32, 2) },
        ];
        let target = DeviceFacts { buffer: 1 << 34, chain: Some(false), ..DeviceFacts::SMALLEST };
        let is_enough = |config: &Config, speed| {
            let network = network(config);
            (1..=256).all(|batch| {
                let plan = Plan::new(&network, batch, DeviceFacts { speed, ..target });
                let short = plan.chained().any(|dispatch| {
                    let Operation::Conv { layer, terms, .. } = dispatch.operation else { return false };
                    let (layer, [x, y]) = (&network.layers[layer], dispatch.workgroups);
                    let inputs = depth(terms.taps(layer));
                    let most = quads(layer.outputs() / layer.halves).div_ceil(2) * batch as u32;
                    inputs > 128 && x * y < most.min(128)
                });
                !short
            })
        };
        for config in configs {
            assert!(is_enough(&config, Speed::DISCRETE), "{}", config.filters);
            // The twin: a device that does less at once is given less.
            assert!(!is_enough(&config, Speed::INTEGRATED), "{}", config.filters);
        }
    }
}
