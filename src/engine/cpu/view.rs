//! One thread's view of a batch, and its steps: begin a row, compute its pixels, end it.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::conv::{Field, Packed, Product, Run};
use super::epilogue::{Store, Stored, TargetRow, address};
use super::memory::{Memory, Place};
use super::packing::Packing;
use super::team::{Pace, Team};
use crate::engine::work::{self, LayerWork, Terms};
use crate::graph::IMAGE;
use crate::graph::network::{Network, Selection, padded};

/// Positions that go through product and epilogue together: their results stay in the cache.
const BLOCK: usize = 96;

/// A thread of a team computes whole positions if it gets this many, else some of the outputs.
const POSITIONS_A_MEMBER: usize = 8;

/// A thread's memory between a product and its epilogue.
#[derive(Default)]
pub struct Scratch {
    /// Results of a product on their way to the epilogue.
    block: Vec<f32>,
    /// Values on their way into a record.
    value: Vec<f32>,
}

impl Scratch {
    /// Enough for a network.
    pub fn new(packing: &Packing) -> Self {
        let widest = packing.weights.iter().map(Packed::stride).max().unwrap_or(0);
        Self { block: vec![0.0; BLOCK * widest], value: vec![0.0; 3 * widest] }
    }
}

/// A pixel as the network is shown it.
#[derive(Clone, Copy)]
pub enum Pixel<'a> {
    /// The levels of its first channels.
    Levels(&'a [u16]),
    /// Values between levels, of all channels, instead of encoded levels.
    Values(&'a [f32]),
}

/// One thread's view of the caches of a batch. All threads of a team call the same methods in the same
/// order; each does its part.
pub struct CacheView<'a> {
    packing: &'a Packing,
    memory: &'a Memory,
    team: &'a Team,
    member: usize,
    /// Threads that work on this row; if only one, it is the first.
    active: usize,
    pace: Pace,
    scratch: Scratch,
    /// The taps of the layer that runs.
    runs: Vec<Run<'a>>,
    macs: u64,
}

impl Drop for CacheView<'_> {
    fn drop(&mut self) {
        self.memory.count(self.macs);
    }
}

impl<'a> CacheView<'a> {
    /// The view of thread `member` of a team.
    ///
    /// # Safety
    /// Nothing else may access the memory. Each member of the team is one view, in one thread; all call the same methods
    /// with the same arguments in the same order, so that the team's waiting keeps them apart.
    pub unsafe fn new(
        packing: &'a Packing,
        memory: &'a Memory,
        team: &'a Team,
        member: usize,
        scratch: Scratch,
    ) -> Self {
        let most = packing.network.layers.iter().map(|layer| layer.taps.len()).max().unwrap_or(0);
        let (pace, runs) = (Pace::new(), Vec::with_capacity(most));
        Self { packing, memory, team, member, active: 1, pace, scratch, runs, macs: 0 }
    }

    /// Its scratch memory, for reuse.
    pub fn take_scratch(&mut self) -> Scratch {
        std::mem::take(&mut self.scratch)
    }

    /// The network that it runs.
    pub fn network(&self) -> &'a Network {
        &self.packing.network
    }

    /// Lets the first thread of the team do something while the others wait.
    pub fn alone(&mut self, turn: impl FnOnce(&mut Self)) {
        if self.member == 0 {
            turn(self);
        }
        self.wait();
    }

    /// Waits for the other threads that work on this row.
    fn wait(&self) {
        if self.active > 1 {
            self.team.wait();
        }
    }

    /// Like [`Self::alone`], for a closure that may fail: then all threads stop.
    ///
    /// # Errors
    /// Errors of `turn` in the first thread; the others return none if it had any.
    pub fn try_alone<E>(&mut self, turn: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), Option<E>> {
        let mut result = Ok(());
        self.alone(|state| {
            result = turn(state);
            if result.is_err() {
                state.team.stop();
            }
        });
        result.map_err(Some)?;
        if self.team.has_stopped() { Err(None) } else { Ok(()) }
    }

    /// Clears all caches, to compute the same images once more from their first row. To be called
    /// [`Self::alone`].
    pub fn restart(&mut self) {
        for (cache, node) in self.memory.nodes.iter().zip(&self.packing.network.nodes) {
            // SAFETY: the other threads wait.
            unsafe { cache.write(0, node.len(self.memory.batch)) }.fill(0.0);
        }
    }

    /// Begins a row of the image: all work that does not depend on its pixels.
    pub fn begin_row(&mut self, row: usize) {
        if self.team.size() > 1 {
            let active = (self.member == 0).then(|| self.pace.next(self.team));
            self.active = self.team.meet(active);
        }
        let packing = self.packing;
        for row in packing.network.rows_begun_with(row) {
            if packing.has_maps {
                self.alone(|state| state.take_additions_of(row));
            }
            if packing.poisoned {
                self.alone(|state| state.poison(row));
            }
            for work in work::of_row(&packing.network, row) {
                self.run(work, row);
            }
            if row < 0 {
                // Outside the image all pixels are known.
                for work in work::of_known_row(&packing.network, row) {
                    self.run(work, row);
                }
            }
        }
    }

    /// Computes the parameters of a step of a pixel, given all before it.
    pub fn step(&mut self, row: usize, column: usize, step: usize) {
        for work in work::of_pixel(&self.packing.network, row as isize, column, step) {
            self.run(work, row as isize);
        }
    }

    /// Computes the parameters of all pixels of a row, which are known.
    pub fn known_row(&mut self, row: usize) {
        for work in work::of_known_row(&self.packing.network, row as isize) {
            self.run(work, row as isize);
        }
    }

    /// Ends a row that was computed by [`Self::step`]: nodes that lag behind its pixels.
    pub fn end_row(&mut self, row: usize) {
        for work in work::of_end(&self.packing.network, row as isize) {
            self.run(work, row as isize);
        }
    }

    /// Gathers the tables of a row that differ from row to row. To be called [`Self::alone`].
    fn take_additions_of(&mut self, row: isize) {
        let Packing { network, additions, modulations, .. } = self.packing;
        let (memory, classes) = (self.memory, &self.memory.classes);
        let differs = |tables: &[crate::graph::Table]| tables.iter().any(|table| table.axes[1] > 1);
        for ((gathered, tables), layer) in memory.additions.iter().zip(additions).zip(&network.layers) {
            if differs(tables) && layer.runs_on_row(row) && row - layer.lag < network.height as isize {
                let of_target = ((row - layer.lag) >> layer.level) as usize;
                // SAFETY: the other threads wait.
                unsafe { gathered.fill(tables, of_target, classes) };
            }
        }
        for ((gathered, modulations), node) in
            memory.modulations.iter().zip(modulations).zip(&network.nodes)
        {
            let of_node = node.newest(row).filter(|of_node| *of_node < network.height >> node.level);
            let Some(of_node) = of_node else { continue };
            for (pair, modulation) in gathered.iter().zip(modulations) {
                for (gathered, table) in
                    [(&pair.scale, &modulation.scale), (&pair.shift, &modulation.shift)]
                {
                    if differs(table.as_slice()) {
                        // SAFETY: the other threads wait.
                        unsafe { gathered.fill(table.as_slice(), of_node, classes) };
                    }
                }
            }
        }
    }

    /// Fills the rows that are computed next with NaN, so that reading a value too early is noticed. To be
    /// called [`Self::alone`].
    fn poison(&mut self, row: isize) {
        let (batch, height) = (self.memory.batch, self.packing.network.height);
        for (index, (cache, node)) in self.memory.nodes.iter().zip(&self.packing.network.nodes).enumerate()
        {
            let newest = node.newest(row).filter(|newest| *newest < height >> node.level);
            if let Some(of_node) = newest.filter(|_| newest != node.newest(row - 1)) {
                let start = address(node, of_node as isize, 0, batch);
                // SAFETY: the other threads wait.
                let row = unsafe { cache.write(start, node.width * batch * node.record) };
                for record in row.chunks_mut(node.record) {
                    for (form, offset) in node.offsets.iter().enumerate() {
                        // Padding stays 0.
                        let [groups, channels] = self.packing.network.form_shape(index, form);
                        let of_form = record[*offset..].chunks_mut(padded(channels)).take(groups);
                        of_form.for_each(|group| group[..channels].fill(f32::NAN));
                    }
                }
            }
        }
    }

    /// The parameters of one pixel of one image, after [`Self::step`].
    pub fn parameters(&self, row: usize, column: usize, image: usize) -> &[f32] {
        let network = &self.packing.network;
        let node = &network.nodes[network.head_node];
        let at = address(node, row as isize, column as isize, self.memory.batch) + image * node.record;
        &self.ring(network.head_node)[at..at + network.head.parameters()]
    }

    /// True if a value of an image was not finite.
    pub fn is_broken(&self, image: usize) -> bool {
        self.memory.broken[image].load(Ordering::Relaxed)
    }

    /// The cache of a node, see [`Node`](crate::graph::network::Node).
    pub fn ring(&self, node: usize) -> &[f32] {
        // SAFETY: caches are written by `run`, `restart` and `set_pixel` alone, which take `&mut self` and
        // are kept apart from readers in other threads by the team's waiting.
        unsafe { self.memory.nodes[node].read() }
    }

    /// Shows the network a pixel. To be called [`Self::alone`].
    pub fn set_pixel(&mut self, row: usize, column: usize, image: usize, pixel: Pixel) {
        let Packing { network, encodings, .. } = self.packing;
        let node = &network.nodes[IMAGE];
        let at = address(node, row as isize, column as isize, self.memory.batch) + image * node.record;
        // SAFETY: the other threads wait.
        let record = unsafe { self.memory.nodes[IMAGE].write(at, node.record) };
        for ((encoding, table), offset) in network.encodings.iter().zip(encodings).zip(&node.offsets) {
            let width = encoding.width;
            let mut write = |place: usize, numbers: &[f32]| {
                record[offset + place * width..][..width].copy_from_slice(numbers);
            };
            let known = match pixel {
                Pixel::Levels(levels) => levels.len(),
                Pixel::Values(values) => values.len(),
            };
            let channels = encoding.channel.map_or(0..known, |channel| channel..known.min(channel + 1));
            for (place, channel) in channels.enumerate() {
                match pixel {
                    Pixel::Levels(levels) => {
                        write(place, &table[usize::from(levels[channel]) * width..][..width])
                    }
                    Pixel::Values(values) => write(place, &values[channel..channel + 1]),
                }
            }
            let encoded = encoding.len(network.head.channels()) - encoding.constants.len();
            for (to, x) in record[offset + encoded..].iter_mut().zip(&encoding.constants) {
                *to = *x as f32;
            }
        }
    }

    /// This thread's part of some positions of a layer: positions, and panels of the weights.
    fn part_of(&self, positions: Range<usize>, weights: &Packed) -> (Range<usize>, Range<usize>) {
        let (member, team) = (self.member, self.active);
        if positions.len() < team * POSITIONS_A_MEMBER {
            return (positions, weights.panels_of(member, team));
        }
        let cut = |member| positions.start + positions.len() * member / team;
        (cut(member)..cut(member + 1), weights.panels_of(0, 1))
    }

    /// The numbers that a layer reads at a place, on a row of its grid.
    #[inline(always)]
    fn field(&self, place: &Place, row: isize) -> Field<'a> {
        let row = row * place.scale + place.row;
        if !(0..place.rows).contains(&row) {
            return Field { data: &self.packing.padding, start: 0, column: 0, image: 0 };
        }
        Field {
            // SAFETY: no thread writes a source of this layer before all have done with the layer.
            data: unsafe { self.memory.nodes[place.node].read() },
            start: place.base + (row & place.mask) as usize * place.of_row,
            column: place.column,
            image: place.image,
        }
    }

    fn target(&self, index: usize, row: isize) -> TargetRow<'a> {
        let (packing, memory) = (self.packing, self.memory);
        let node = &packing.network.nodes[index];
        TargetRow {
            node,
            ring: &memory.nodes[index],
            start: address(node, row, 0, memory.batch),
            modulations: &packing.modulations[index],
            gathered: &memory.modulations[index],
            modulated: &packing.modulated[index],
        }
    }

    /// Runs some terms of a layer, on a row of the image.
    fn run(&mut self, work: LayerWork, row: isize) {
        if self.member >= self.active {
            return;
        }
        let LayerWork { layer: l, terms, columns } = work;
        let (packing, memory) = (self.packing, self.memory);
        let Packing { network, arch, weights, .. } = packing;
        let (layer, weights, batch) = (&network.layers[l], &weights[l], memory.batch);
        let stride = weights.stride();
        let first_input = terms.first_input(layer);
        let mut runs = std::mem::take(&mut self.runs);
        runs.clear();
        let (grid_row, places) = ((row - layer.lag) >> layer.grid, &memory.places[l][..]);
        let (of_taps, others) = places.split_at(layer.taps.len());
        let of_terms = match terms {
            Terms::Early => &of_taps[..layer.early],
            Terms::Late => &of_taps[layer.early..],
            Terms::All => of_taps,
        };
        let taps = of_terms.iter().zip(terms.taps(layer));
        runs.extend(taps.map(|(place, tap)| Run { field: self.field(place, grid_row), depth: tap.depth }));
        let init = match terms.begins_with_context(layer) {
            true => {
                // SAFETY: the context is written by `Terms::Early` alone.
                let data = unsafe { memory.contexts[l].read() };
                Field { data, start: 0, column: batch * stride, image: stride }
            }
            false => {
                let first = layer.target_column(0, 0);
                // SAFETY: these numbers are written while a row begins, by one thread alone.
                unsafe { memory.additions[l].field(first, layer.target_column(1, 0) - first) }
            }
        };

        let (positions, panels) = self.part_of(columns.start * batch..columns.end * batch, weights);
        let is_early = terms == Terms::Early;
        let channels = weights.channels_of(&panels);
        // Without padding, which may belong to other channels of the target.
        let channels = channels.start.min(layer.channels)..channels.end.min(layer.channels);
        let of_target = (row - layer.lag) >> layer.level;
        let store = (!is_early).then(|| Store {
            layer,
            target: self.target(layer.target, of_target),
            pre: layer.pre.map(|pre| self.target(pre, of_target)),
            residual: layer.residual.and(others.last()).map(|place| self.field(place, grid_row)),
            batch,
            stride,
            half: weights.width(),
            channels: channels.clone(),
            arch: *arch,
            broken: &memory.broken,
        });
        // Terms that go straight into the context need no blocks.
        let at_once = if is_early { positions.len().max(1) } else { BLOCK };
        for start in positions.clone().step_by(at_once) {
            let positions = start..positions.end.min(start + at_once);
            let out = match is_early {
                true => memory.contexts[l].pointer(start * stride, positions.len() * stride),
                false => self.scratch.block.as_mut_ptr(),
            };
            let (panels, places) = (panels.clone(), positions.clone());
            let product =
                Product { weights, panels, first_input, runs: &runs, init, batch, positions: places, out };
            self.macs += product.macs() as u64;
            // SAFETY: every thread writes its own positions or its own panels of the context; the block has room
            // for its positions, and is this thread's own.
            unsafe { product.run(*arch) };
            let selections = layer.selections.iter().zip(others);
            for (selection, place) in selections.filter(|(selection, _)| terms.takes(selection.is_early)) {
                let field = self.field(place, grid_row);
                let sums = Sums { out, positions: positions.clone(), batch, stride, half: weights.width() };
                // SAFETY: as above.
                unsafe { sums.add(selection, &field, &channels) };
            }
            if let Some(store) = &store {
                let (sums, scratch) = (&self.scratch.block[..], &mut self.scratch.value[..]);
                let stored = Stored { store, positions, sums, scratch };
                // SAFETY: every thread stores its own positions or its own channels of the target, which
                // this layer does not read.
                unsafe { stored.run(*arch) };
            }
        }
        self.runs = runs;
        self.wait();
    }
}

/// The sums of some positions, `[positions, stride]`.
struct Sums {
    out: *mut f32,
    positions: Range<usize>,
    batch: usize,
    stride: usize,
    /// From a half to the next.
    half: usize,
}

impl Sums {
    /// Adds numbers of a node unchanged to some channels of a half.
    ///
    /// # Safety
    /// `out` must be valid for all positions, and no other thread may access these channels of them.
    unsafe fn add(&self, selection: &Selection, field: &Field, channels: &Range<usize>) {
        let (first, end) =
            (selection.output.max(channels.start), (selection.output + selection.count).min(channels.end));
        for (i, m) in self.positions.clone().enumerate() {
            let start = field.start + m / self.batch * field.column + m % self.batch * field.image;
            for channel in first..end {
                let x = field.data[start + channel - selection.output];
                // SAFETY: as promised by the caller.
                unsafe { *self.out.add(i * self.stride + selection.half * self.half + channel) += x };
            }
        }
    }
}
