//! Caches of some images, and the two steps that move them on: a row begins, pixels of it are computed.

use std::collections::TryReserveError;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pulp::{Arch, Simd, WithSimd};

use super::conv::{Field, Packed, Product, Run};
use super::math::{all_finite, elu_both, sigmoid};
use super::team::{Buffer, Pace, Team};
use crate::engine::plan::{self, Part, Work};
use crate::model::network::{Form, IMAGE, Layer, MAX_TAPS, Node, Table, depth, padded};
use crate::model::{Model, Network, Nonlinearity};

/// Positions that go through product and epilogue together: their results stay in the cache.
const BLOCK: usize = 96;

/// A thread of a team takes whole positions if it gets so many, else some of the outputs.
const POSITIONS_A_MEMBER: usize = 8;

/// Threads of a team, at most: waiting for each other costs more with every one.
const LARGEST_TEAM: usize = 4;

/// Bytes of weights that a pixel reads from which on a team pays: they no longer fit a core's own cache.
const TEAM_PAYS: usize = 2 << 20;

/// A network with its weights packed; shared by all threads.
pub struct Packing {
    pub(super) network: Network,
    arch: Arch,
    weights: Vec<Packed>,
    /// What each layer adds to its sum, `[…, stride]`.
    additions: Vec<Table>,
    /// What each node adds to its value for some of its readers, `[…, padded channels]`.
    of_nodes: Vec<Option<Table>>,
    /// Whether any of it differs from pixel to pixel.
    has_maps: bool,
    /// Threads that may share an image.
    pub(super) team: usize,
}

impl Packing {
    /// Packs a model's weights for images of `width` by `height` pixels, and for `threads` threads.
    pub fn new(model: &Model, width: usize, height: usize, threads: usize) -> Self {
        let network = Network::new(&model.config.with_size(width, height));
        let arch = Arch::new();
        let of_pixel = |layer: &Layer| 4 * depth(&layer.taps[layer.early..]) * layer.outputs();
        let pays = network.layers.iter().map(of_pixel).sum::<usize>() >= TEAM_PAYS;
        let team = if pays { threads.clamp(1, LARGEST_TEAM) } else { 1 };
        let pack = |layer: &Layer| {
            Packed::new(
                arch,
                &layer.matrix(model),
                layer.outputs(),
                layer.halves,
                team,
                layer.precision(model.precision),
            )
        };
        let weights: Vec<_> = network.layers.iter().map(pack).collect();
        let additions = network.layers.iter().zip(&weights);
        let additions: Vec<_> = additions
            .map(|(layer, packed)| layer.addition(model).padded(layer.halves, packed.width()))
            .collect();
        let of_nodes: Vec<_> = network
            .nodes
            .iter()
            .map(|node| node.addition(model).map(|table| table.padded(1, padded(node.channels))))
            .collect();
        let has_maps = additions.iter().chain(of_nodes.iter().flatten()).any(Table::is_map);
        Self { network, arch, weights, additions, of_nodes, has_maps, team }
    }

    /// Bytes of caches for a batch.
    pub fn state_bytes(&self, batch: usize) -> usize {
        let nodes: usize = self.network.nodes.iter().map(|node| node.len(batch)).sum();
        let contexts = self.network.layers.iter().zip(&self.weights).map(|(layer, packed)| {
            let columns = if layer.has_context() { self.network.config.width >> layer.grid } else { 0 };
            columns * batch * packed.stride()
        });
        let additions = self.additions.iter().chain(self.of_nodes.iter().flatten());
        let additions = additions.map(|table| Gathered::len(table, batch));
        4 * (nodes + contexts.sum::<usize>() + additions.sum::<usize>())
    }
}

impl Packing {
    /// Bytes of weights.
    pub fn weight_bytes(&self) -> usize {
        self.weights.iter().map(Packed::bytes).sum()
    }
}

/// What a table adds for the images of a batch, on one row: `[columns or 1, batch or 1, width]`.
#[derive(Default)]
struct Gathered {
    data: Buffer,
    /// From a column to the next, and from an image to the next.
    column: usize,
    image: usize,
}

impl Gathered {
    fn len(table: &Table, batch: usize) -> usize {
        let images = if table.axes[0] > 1 || table.is_map() { batch } else { 1 };
        table.axes[2] * images * table.width
    }

    fn begin(&mut self, table: &Table, batch: usize, classes: &[usize]) -> Result<(), TryReserveError> {
        let length = Self::len(table, batch);
        self.image = if length > table.axes[2] * table.width { table.width } else { 0 };
        self.column = if table.is_map() { batch * table.width } else { 0 };
        self.data.clear(length)?;
        // SAFETY: nobody else has it yet.
        unsafe { self.fill(table, 0, classes) };
        Ok(())
    }

    /// Takes the numbers of a row.
    ///
    /// # Safety
    /// No other thread may access them.
    unsafe fn fill(&self, table: &Table, row: usize, classes: &[usize]) {
        let all = self.data.len();
        // SAFETY: as promised by the caller.
        let data = unsafe { self.data.write(0, all) };
        let images = all / (table.axes[2] * table.width);
        for (place, to) in data.chunks_mut(table.width).enumerate() {
            let class = classes.get(place % images).copied().unwrap_or(0);
            to.copy_from_slice(table.at(class, row, place / images));
        }
    }

    /// The numbers of all positions.
    ///
    /// # Safety
    /// No thread may write them while they are in use.
    unsafe fn field(&self) -> Field<'_> {
        // SAFETY: as promised by the caller.
        Field { data: unsafe { self.data.read() }, start: 0, column: self.column, image: self.image }
    }
}

/// The numbers of a batch, kept from one batch to the next to save allocations.
#[derive(Default)]
pub struct Memory {
    batch: usize,
    /// A ring of rows for every node, see [`Node`].
    nodes: Vec<Buffer>,
    /// `[columns, batch, stride]` for every layer with a row context.
    contexts: Vec<Buffer>,
    /// What layers add to their sums.
    additions: Vec<Gathered>,
    /// What nodes add for some of their readers.
    of_nodes: Vec<Gathered>,
    /// The class of each image; none for an unconditional model.
    classes: Vec<usize>,
    /// Whether an image has had a value that is not finite: activations may turn those into ordinary numbers again.
    broken: Vec<AtomicBool>,
    macs: AtomicU64,
}

impl Memory {
    /// Clears all caches for a new batch of `batch` images.
    ///
    /// # Errors
    /// If the system gives no memory for it.
    pub fn begin(
        &mut self,
        packing: &Packing,
        batch: usize,
        classes: Vec<usize>,
    ) -> Result<(), TryReserveError> {
        let (network, layers) = (&packing.network, packing.network.layers.len());
        self.batch = batch;
        self.classes = classes;
        self.broken.clear();
        self.broken.resize_with(batch, AtomicBool::default);
        self.nodes.resize_with(network.nodes.len(), Buffer::default);
        self.contexts.resize_with(layers, Buffer::default);
        self.additions.resize_with(layers, Gathered::default);
        self.of_nodes.resize_with(network.nodes.len(), Gathered::default);
        for (n, node) in network.nodes.iter().enumerate() {
            self.nodes[n].clear(node.len(batch))?;
            if let Some(table) = &packing.of_nodes[n] {
                self.of_nodes[n].begin(table, batch, &self.classes)?;
            }
        }
        for (l, layer) in network.layers.iter().enumerate() {
            if layer.has_context() {
                let columns = network.config.width >> layer.grid;
                self.contexts[l].clear(columns * batch * packing.weights[l].stride())?;
            }
            self.additions[l].begin(&packing.additions[l], batch, &self.classes)?;
        }
        Ok(())
    }

    /// Gives back all memory.
    pub fn release(&mut self) {
        *self = Self { macs: AtomicU64::new(self.macs()), ..Self::default() };
    }

    fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        let gathered = self.additions.iter().chain(&self.of_nodes).map(|gathered| &gathered.data);
        self.nodes.iter().chain(&self.contexts).chain(gathered)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.buffers().map(Buffer::bytes).sum()
    }

    /// Multiplications with additions so far.
    pub fn macs(&self) -> u64 {
        self.macs.load(Ordering::Relaxed)
    }
}

/// One thread's view of the caches of a batch. All threads of a team call the same methods in the same
/// order; each does its part.
pub struct State<'a> {
    packing: &'a Packing,
    memory: &'a Memory,
    team: &'a Team,
    member: usize,
    /// Threads that work on this row; if only one, it is the first.
    active: usize,
    pace: Pace,
    /// Results of a product on their way to the epilogue.
    block: Vec<f32>,
    /// A gate's result on its way into the record, and the same with what its class adds.
    value: Vec<f32>,
    macs: u64,
}

impl Drop for State<'_> {
    fn drop(&mut self) {
        self.memory.macs.fetch_add(self.macs, Ordering::Relaxed);
    }
}

impl<'a> State<'a> {
    /// The view of thread `member` of a team.
    pub fn new(packing: &'a Packing, memory: &'a Memory, team: &'a Team, member: usize) -> Self {
        let widest = packing.weights.iter().map(Packed::stride).max().unwrap_or(0);
        let (block, value) = (vec![0.0; BLOCK * widest], vec![0.0; 2 * widest]);
        let pace = Pace::new();
        Self { packing, memory, team, member, active: 1, pace, block, value, macs: 0 }
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

    /// As [`Self::alone`], for something that may fail: then all must break off.
    ///
    /// # Errors
    /// Those of `turn` for the first thread; none, for the others, if it had any.
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

    /// Begins a row of the image: all that does not depend on its pixels.
    pub fn begin_row(&mut self, row: usize) {
        if self.team.size() > 1 {
            let active = (self.member == 0).then(|| self.pace.next(self.team));
            self.active = self.team.meet(active);
        }
        let packing = self.packing;
        if packing.has_maps {
            self.alone(|state| state.take_additions_of(row));
        }
        for work in plan::of_row(&packing.network, row) {
            self.run(work, row);
        }
    }

    /// Takes the numbers of a row that are added and that differ from row to row. To be called [`Self::alone`].
    fn take_additions_of(&mut self, row: usize) {
        let Packing { network, additions, of_nodes, .. } = self.packing;
        let take = |gathered: &Gathered, table: &Table, level: usize| {
            if table.is_map() && row.is_multiple_of(1 << level) {
                // SAFETY: the other threads wait.
                unsafe { gathered.fill(table, row >> level, &self.memory.classes) };
            }
        };
        for ((gathered, table), layer) in self.memory.additions.iter().zip(additions).zip(&network.layers) {
            take(gathered, table, layer.level);
        }
        for ((gathered, table), node) in self.memory.of_nodes.iter().zip(of_nodes).zip(&network.nodes) {
            table.iter().for_each(|table| take(gathered, table, node.level));
        }
    }

    /// Computes the mixture parameters of some pixels of a row, given all pixels before them.
    pub fn step(&mut self, row: usize, columns: Range<usize>) {
        let packing = self.packing;
        for work in plan::of_pixels(&packing.network, row, columns) {
            self.run(work, row);
        }
    }

    /// The mixture parameters of one pixel of one image, after [`Self::step`].
    pub fn parameters(&self, column: usize, image: usize) -> &[f32] {
        let network = &self.packing.network;
        let node = &network.nodes[network.parameters()];
        let at = (column * self.memory.batch + image) * node.record;
        &self.ring(network.parameters())[at..at + network.config.parameters_per_pixel()]
    }

    /// Whether a value of an image was not finite.
    pub fn is_broken(&self, image: usize) -> bool {
        self.memory.broken[image].load(Ordering::Relaxed)
    }

    /// The cache of a node, see [`Node`].
    pub fn ring(&self, node: usize) -> &[f32] {
        // SAFETY: caches are written by `run`, `restart` and `set_pixel` alone, which take `&mut self` and
        // are kept apart from readers in other threads by the team's waiting.
        unsafe { self.memory.nodes[node].read() }
    }

    /// Gives a pixel its value, `[C]` in [−1, 1]. To be called [`Self::alone`].
    pub fn set_pixel(&mut self, row: usize, column: usize, image: usize, pixel: &[f32]) {
        let node = &self.packing.network.nodes[IMAGE];
        let at = address(node, row as isize, column as isize, self.memory.batch) + image * node.record;
        // SAFETY: the other threads wait.
        let record = unsafe { self.memory.nodes[IMAGE].write(at, node.record) };
        record[..pixel.len()].copy_from_slice(pixel);
        record[pixel.len()] = 1.0;
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

    /// Runs a part of a layer, on a row of the image.
    fn run(&mut self, work: Work, row: usize) {
        if self.member >= self.active {
            return;
        }
        let Work { layer: l, part, columns } = work;
        let Packing { network, arch, weights, .. } = self.packing;
        let (layer, weights, batch) = (&network.layers[l], &weights[l], self.memory.batch);
        let stride = weights.stride();
        let (taps, first_input) = (part.taps(layer), part.first_input(layer));
        let field = |source: usize, form, row_offset, column_offset| {
            let node = &network.nodes[source];
            let scale = layer.scale(node);
            let source_row = ((row >> layer.grid) * scale) as isize + row_offset;
            let offset = node.offset(form).expect("the network stores what is read");
            Field {
                // SAFETY: no thread writes a source of this layer before all have done with the layer.
                data: unsafe { self.memory.nodes[source].read() },
                start: address(node, source_row, column_offset, batch) + offset,
                column: scale * batch * node.record,
                image: node.record,
            }
        };
        let empty = Run { field: Field { data: &[], start: 0, column: 0, image: 0 }, depth: 0 };
        let mut runs = [empty; MAX_TAPS];
        for (run, tap) in runs.iter_mut().zip(taps) {
            *run = Run { field: field(tap.source, tap.form, tap.row, tap.column), depth: tap.depth() };
        }
        let runs = &runs[..taps.len()];
        // SAFETY: these numbers are written while a row begins, by one thread alone.
        let added = unsafe { self.memory.additions[l].field() };

        let (positions, panels) = self.part_of(columns.start * batch..columns.end * batch, weights);
        let product = |init, positions: Range<usize>, out| {
            let panels = panels.clone();
            Product { weights, panels, first_input, runs, init, batch, positions, out }
        };
        if part == Part::Early {
            let out = self.memory.contexts[l].pointer(positions.start * stride, positions.len() * stride);
            let product = product(added, positions, out);
            self.macs += product.macs() as u64;
            // SAFETY: every thread writes its own positions or its own panels of the context.
            unsafe { product.run(*arch) };
        } else {
            let init = match part.begins_with_context(layer) {
                true => {
                    // SAFETY: the context is written by `Part::Early` alone.
                    let data = unsafe { self.memory.contexts[l].read() };
                    Field { data, start: 0, column: batch * stride, image: stride }
                }
                false => added,
            };
            let store = Store {
                layer,
                node: &network.nodes[layer.target],
                nonlinearity: network.config.nonlinearity,
                row: (row >> layer.level) as isize,
                residual: layer.residual.map(|(source, form)| field(source, form, 0, 0)),
                // SAFETY: as above.
                added: self.packing.of_nodes[layer.target]
                    .is_some()
                    .then(|| unsafe { self.memory.of_nodes[layer.target].field() }),
                batch,
                stride,
                half: weights.width(),
                channels: weights.channels_of(&panels),
                target: &self.memory.nodes[layer.target],
                broken: &self.memory.broken,
            };
            for start in positions.clone().step_by(BLOCK) {
                let positions = start..positions.end.min(start + BLOCK);
                let product = product(init, positions.clone(), self.block.as_mut_ptr());
                self.macs += product.macs() as u64;
                // SAFETY: the block has room for its positions, and is this thread's own.
                unsafe { product.run(*arch) };
                let stored = Stored { store: &store, positions, sums: &self.block, value: &mut self.value };
                // SAFETY: every thread stores its own positions or its own channels of the target, which
                // this layer does not read.
                unsafe { stored.run(*arch) };
            }
        }
        self.wait();
    }
}

/// Where column `column` of a row begins in a node's ring, for image 0.
fn address(node: &Node, row: isize, column: isize, batch: usize) -> usize {
    let row = row.rem_euclid(node.rows as isize) as usize;
    let column = (node.left as isize + column) as usize;
    (row * node.columns() + column) * batch * node.record
}

/// The epilogue: from a layer's sums to the forms of its target.
struct Store<'a> {
    layer: &'a Layer,
    node: &'a Node,
    nonlinearity: Nonlinearity,
    /// Row of the target.
    row: isize,
    /// `x` of `x + a·σ(b)`.
    residual: Option<Field<'a>>,
    /// What the class adds for some readers of the target.
    added: Option<Field<'a>>,
    batch: usize,
    /// From a position to the next, and from a half to the next, in the sums.
    stride: usize,
    half: usize,
    /// The channels of each half that are stored.
    channels: Range<usize>,
    target: &'a Buffer,
    /// By image.
    broken: &'a [AtomicBool],
}

/// The epilogue of some positions, in the best instructions. A closure would not be inlined into them, and so not be
/// made of them.
struct Stored<'a> {
    store: &'a Store<'a>,
    positions: Range<usize>,
    /// `[positions, stride]`.
    sums: &'a [f32],
    /// Room for what is between.
    value: &'a mut [f32],
}

impl Stored<'_> {
    /// # Safety
    /// No other thread may access these channels of the target at these positions.
    unsafe fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Stored<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // SAFETY: as promised to `run`, the only one who dispatches this.
        unsafe { self.store.run(self.positions, self.sums, self.value) };
    }
}

impl Store<'_> {
    /// Stores the results of some positions, `sums` `[positions, stride]`.
    ///
    /// # Safety
    /// No other thread may access these channels of the target at these positions.
    #[inline(always)]
    unsafe fn run(&self, positions: Range<usize>, sums: &[f32], value: &mut [f32]) {
        let (batch, halves) = (self.batch, self.layer.halves);
        let row = address(self.node, self.row, 0, batch);
        let channels = self.channels.clone();
        let (value, sum) = value.split_at_mut(value.len() / 2);
        let (value, sum) = (&mut value[..channels.len()], &mut sum[..channels.len()]);
        for (m, sums) in positions.zip(sums.chunks_exact(self.stride)) {
            let (column, image) = (m / batch, m % batch);
            if let Some(x) = &self.residual {
                let x = &x.data[x.start + column * x.column + image * x.image..][channels.clone()];
                let (a, b) = (&sums[channels.clone()], &sums[self.half..][channels.clone()]);
                self.check(image, b);
                for (value, (x, (a, b))) in value.iter_mut().zip(x.iter().zip(a.iter().zip(b))) {
                    *value = x + a * sigmoid(*b);
                }
                // SAFETY: as promised by the caller.
                unsafe { self.store(value, sum, row, column, image) };
            } else {
                for half in 0..halves {
                    let value = &sums[half * self.half..][channels.clone()];
                    // SAFETY: as promised by the caller.
                    unsafe { self.store(value, sum, row, column * halves + half, image) };
                }
            }
        }
    }

    /// Remembers an image with a value that is not finite.
    #[inline(always)]
    fn check(&self, image: usize, value: &[f32]) {
        if !all_finite(value) {
            self.broken[image].store(true, Ordering::Relaxed);
        }
    }

    /// Writes all forms of a pixel's value that have readers; `sum` is room for the value with what its class adds.
    ///
    /// # Safety
    /// No other thread may access these channels of the pixel.
    #[inline(always)]
    unsafe fn store(&self, value: &[f32], sum: &mut [f32], row: usize, column: usize, image: usize) {
        let record = row + (column * self.batch + image) * self.node.record;
        self.check(image, value);
        // SAFETY: as promised by the caller.
        unsafe { self.forms(value, record, |form| self.node.offset(form)) };
        if let Some(added) = &self.added {
            let added = &added.data[added.start + column * added.column + image * added.image..];
            for (sum, (x, e)) in sum.iter_mut().zip(value.iter().zip(&added[self.channels.clone()])) {
                *sum = x + e;
            }
            self.check(image, sum);
            // SAFETY: as promised by the caller.
            unsafe { self.forms(sum, record, |form| self.node.offset(form.of_class())) };
        }
    }

    /// Writes forms of a value into the record at `record`, where `offset` says.
    ///
    /// # Safety
    /// No other thread may access these channels of the record.
    #[inline(always)]
    unsafe fn forms(&self, value: &[f32], record: usize, offset: impl Fn(Form) -> Option<usize>) {
        // SAFETY: as promised by the caller; the forms of a record do not overlap.
        let form = |offset: usize| unsafe {
            self.target.write(record + offset + self.channels.start, value.len())
        };
        if let Some(at) = offset(Form::RAW) {
            form(at).copy_from_slice(value);
        }
        if let Some(at) = offset(Form::ELU) {
            for (to, x) in form(at).iter_mut().zip(value) {
                *to = elu_both(*x).0;
            }
        }
        let Some(at) = offset(Form::PHI) else { return };
        match self.nonlinearity {
            Nonlinearity::ConcatElu => {
                let (plus, minus) = (form(at), form(at + padded(self.layer.channels)));
                for (x, (plus, minus)) in value.iter().zip(plus.iter_mut().zip(minus)) {
                    (*plus, *minus) = elu_both(*x);
                }
            }
            Nonlinearity::Elu => {
                for (to, x) in form(at).iter_mut().zip(value) {
                    *to = elu_both(*x).0;
                }
            }
            Nonlinearity::Relu => {
                for (to, x) in form(at).iter_mut().zip(value) {
                    // Not `max`, which would swallow a NaN.
                    *to = if *x < 0.0 { 0.0 } else { *x };
                }
            }
        }
    }
}
