//! Caches of some images, and the two steps that move them on: a row begins, pixels of it are computed.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicU64, Ordering};

use pulp::Arch;

use super::conv::{Field, Packed, Product, Run};
use super::math::{elu_both, sigmoid};
use super::team::{Buffer, Pace, Team};
use crate::model::network::{Form, IMAGE, Layer, MAX_TAPS, Node, depth, padded};
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
    /// For each layer and class, `[stride]`; one entry for layers without classes.
    biases: Vec<Vec<Vec<f32>>>,
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
                layer.precision(model),
            )
        };
        let weights: Vec<_> = network.layers.iter().map(pack).collect();
        let biases = network.layers.iter().zip(&weights).map(|(layer, packed)| {
            let classes = model.config.classes.len();
            let classes =
                if layer.is_conditional() { (0..classes).map(Some).collect() } else { vec![None] };
            classes.into_iter().map(|class| packed.row(&layer.bias(model, class))).collect()
        });
        let biases = biases.collect();
        Self { network, arch, weights, biases, team }
    }

    /// Bytes of caches for a batch.
    pub fn state_bytes(&self, batch: usize) -> usize {
        let nodes: usize = self.network.nodes.iter().map(|node| node.len(batch)).sum();
        let contexts = self.network.layers.iter().zip(&self.weights).map(|(layer, packed)| {
            let columns = if layer.has_context() { self.network.config.width >> layer.grid } else { 0 };
            (columns + 1) * batch * packed.stride()
        });
        4 * (nodes + contexts.sum::<usize>())
    }
}

impl Packing {
    /// Bytes of weights.
    pub fn weight_bytes(&self) -> usize {
        self.weights.iter().map(Packed::bytes).sum()
    }
}

/// Which terms of a layer's sum to take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Those known when the row begins, into the row's context.
    Early,
    /// The others, added to the context (or the bias); then the epilogue.
    Late,
    /// All at once; then the epilogue.
    All,
}

/// The numbers of a batch, kept from one batch to the next to save allocations.
#[derive(Default)]
pub struct Memory {
    batch: usize,
    /// A ring of rows for every node, see [`Node`].
    nodes: Vec<Buffer>,
    /// `[columns, batch, stride]` for every layer with a row context.
    contexts: Vec<Buffer>,
    /// `[batch, stride]` for every layer with classes, `[stride]` for the others.
    biases: Vec<Vec<f32>>,
    macs: AtomicU64,
}

impl Memory {
    /// Clears all caches for a new batch of `batch` images.
    pub fn begin(&mut self, packing: &Packing, batch: usize, classes: &[usize]) {
        let (network, layers) = (&packing.network, packing.network.layers.len());
        self.batch = batch;
        self.nodes.resize_with(network.nodes.len(), Buffer::default);
        self.contexts.resize_with(layers, Buffer::default);
        self.biases.resize_with(layers, Vec::new);
        for (cache, node) in self.nodes.iter_mut().zip(&network.nodes) {
            cache.clear(node.len(batch));
        }
        for (l, layer) in network.layers.iter().enumerate() {
            if layer.has_context() {
                let columns = network.config.width >> layer.grid;
                self.contexts[l].clear(columns * batch * packing.weights[l].stride());
            }
            self.biases[l].clear();
            match &packing.biases[l][..] {
                [one] => self.biases[l].extend(one),
                each => classes.iter().for_each(|&class| self.biases[l].extend(&each[class])),
            }
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let buffers = self.nodes.iter().chain(&self.contexts).map(Buffer::bytes).sum::<usize>();
        buffers + 4 * self.biases.iter().map(Vec::capacity).sum::<usize>()
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
    /// A gate's result on its way into the record.
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
        let (block, value) = (vec![0.0; BLOCK * widest], vec![0.0; widest]);
        let pace = Pace::new();
        Self { packing, memory, team, member, active: 1, pace, block, value, macs: 0 }
    }

    /// Images.
    pub fn batch(&self) -> usize {
        self.memory.batch
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
    /// Those of `turn`, for the first thread alone.
    pub fn try_alone<E>(
        &mut self,
        turn: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<ControlFlow<()>, E> {
        let mut result = Ok(());
        self.alone(|state| {
            result = turn(state);
            if result.is_err() {
                state.team.stop();
            }
        });
        let stopped = self.team.has_stopped();
        result.map(|()| if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Clears all caches but the image, to compute the same images once more from their first row. To be
    /// called [`Self::alone`].
    pub fn restart(&mut self) {
        for (cache, node) in self.memory.nodes.iter().zip(&self.packing.network.nodes).skip(IMAGE + 1) {
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
        for (l, layer) in packing.network.layers.iter().enumerate() {
            let part = match layer.is_row_work() {
                true => Part::All,
                false if layer.has_context() => Part::Early,
                false => continue,
            };
            if layer.runs_on_row(row) {
                self.run(l, row, layer.columns(0..packing.network.config.width), part);
            }
        }
    }

    /// Computes the mixture parameters of some pixels of a row, given all pixels before them.
    pub fn step(&mut self, row: usize, columns: Range<usize>) {
        let packing = self.packing;
        for (l, layer) in packing.network.layers.iter().enumerate() {
            let on_grid = layer.columns(columns.clone());
            if !layer.is_row_work() && layer.runs_on_row(row) && !on_grid.is_empty() {
                self.run(l, row, on_grid, Part::Late);
            }
        }
    }

    /// The mixture parameters of one pixel of one image, after [`Self::step`].
    pub fn parameters(&self, column: usize, image: usize) -> &[f32] {
        let network = &self.packing.network;
        let node = &network.nodes[network.parameters()];
        let at = (column * self.memory.batch + image) * node.record;
        &self.ring(network.parameters())[at..at + network.config.parameters_per_pixel()]
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

    /// Runs a layer for some columns of its grid, on a row of the image.
    fn run(&mut self, l: usize, row: usize, columns: Range<usize>, part: Part) {
        if self.member >= self.active {
            return;
        }
        let Packing { network, arch, weights, .. } = self.packing;
        let (layer, weights, batch) = (&network.layers[l], &weights[l], self.memory.batch);
        let stride = weights.stride();
        let taps = match part {
            Part::Early => 0..layer.early,
            Part::Late => layer.early..layer.taps.len(),
            Part::All => 0..layer.taps.len(),
        };
        let first_input = depth(&layer.taps[..taps.start]);
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
        let taps = &layer.taps[taps];
        for (run, tap) in runs.iter_mut().zip(taps) {
            *run = Run { field: field(tap.source, tap.form, tap.row, tap.column), depth: tap.depth() };
        }
        let runs = &runs[..taps.len()];
        let bias = &self.memory.biases[l];
        let per_image = if bias.len() > stride { stride } else { 0 };
        let bias = Field { data: bias, start: 0, column: 0, image: per_image };

        let (positions, panels) = self.part_of(columns.start * batch..columns.end * batch, weights);
        let product = |init, positions: Range<usize>, out| {
            let panels = panels.clone();
            Product { weights, panels, first_input, runs, init, batch, positions, out }
        };
        if part == Part::Early {
            let out = self.memory.contexts[l].pointer(positions.start * stride, positions.len() * stride);
            let product = product(bias, positions, out);
            self.macs += product.macs() as u64;
            // SAFETY: every thread writes its own positions or its own panels of the context.
            unsafe { product.run(*arch) };
        } else {
            let init = match part {
                Part::Late if layer.has_context() => {
                    // SAFETY: the context is written by `Part::Early` alone.
                    let data = unsafe { self.memory.contexts[l].read() };
                    Field { data, start: 0, column: batch * stride, image: stride }
                }
                _ => bias,
            };
            let store = Store {
                layer,
                node: &network.nodes[layer.target],
                nonlinearity: network.config.nonlinearity,
                row: (row >> layer.level) as isize,
                residual: layer.residual.map(|source| field(source, Form::Raw, 0, 0)),
                batch,
                stride,
                half: weights.width(),
                channels: weights.channels_of(&panels),
                target: &self.memory.nodes[layer.target],
            };
            for start in positions.clone().step_by(BLOCK) {
                let positions = start..positions.end.min(start + BLOCK);
                let product = product(init, positions.clone(), self.block.as_mut_ptr());
                self.macs += product.macs() as u64;
                // SAFETY: the block has room for its positions, and is this thread's own.
                unsafe { product.run(*arch) };
                // SAFETY: every thread stores its own positions or its own channels of the target, which
                // this layer does not read.
                arch.dispatch(|| unsafe { store.run(positions, &self.block, &mut self.value) });
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
    batch: usize,
    /// From a position to the next, and from a half to the next, in the sums.
    stride: usize,
    half: usize,
    /// The channels of each half that are stored.
    channels: Range<usize>,
    target: &'a Buffer,
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
        let record = self.node.record;
        let channels = self.channels.clone();
        let value = &mut value[..channels.len()];
        for (m, sums) in positions.zip(sums.chunks_exact(self.stride)) {
            let (column, image) = (m / batch, m % batch);
            if let Some(x) = &self.residual {
                let x = &x.data[x.start + column * x.column + image * x.image..][channels.clone()];
                let (a, b) = (&sums[channels.clone()], &sums[self.half..][channels.clone()]);
                for (value, (x, (a, b))) in value.iter_mut().zip(x.iter().zip(a.iter().zip(b))) {
                    *value = x + a * sigmoid(*b);
                }
                // SAFETY: as promised by the caller.
                unsafe { self.forms(value, row + (column * batch + image) * record) };
            } else {
                for half in 0..halves {
                    let value = &sums[half * self.half..][channels.clone()];
                    let at = row + ((column * halves + half) * batch + image) * record;
                    // SAFETY: as promised by the caller.
                    unsafe { self.forms(value, at) };
                }
            }
        }
    }

    /// Writes all forms of a value that have readers, into the record at `record`.
    ///
    /// # Safety
    /// No other thread may access these channels of the record.
    #[inline(always)]
    unsafe fn forms(&self, value: &[f32], record: usize) {
        // SAFETY: as promised by the caller; the forms of a record do not overlap.
        let form = |offset: usize| unsafe {
            self.target.write(record + offset + self.channels.start, value.len())
        };
        if let Some(at) = self.node.offset(Form::Raw) {
            form(at).copy_from_slice(value);
        }
        if let Some(at) = self.node.offset(Form::Elu) {
            for (to, x) in form(at).iter_mut().zip(value) {
                *to = elu_both(*x).0;
            }
        }
        let Some(at) = self.node.offset(Form::Phi) else { return };
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
