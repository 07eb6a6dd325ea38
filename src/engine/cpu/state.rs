//! Caches of some images, and the two steps that move them on: a row begins, pixels of it are computed.

use std::ops::Range;

use pulp::Arch;

use super::conv::{Field, Packed, Product, Run};
use super::math::{elu_both, sigmoid};
use crate::model::network::{Form, IMAGE, Layer, MAX_TAPS, Node, padded};
use crate::model::{Model, Network, Nonlinearity};

/// Positions that go through product and epilogue together: their results stay in the cache.
const BLOCK: usize = 96;

/// A network with its weights packed; shared by all threads.
pub struct Packing {
    pub(super) network: Network,
    arch: Arch,
    weights: Vec<Packed>,
    /// For each layer and class, `[stride]`; one entry for layers without classes.
    biases: Vec<Vec<Vec<f32>>>,
}

impl Packing {
    /// Packs a model's weights for images of `width` by `height` pixels.
    pub fn new(model: &Model, width: usize, height: usize) -> Self {
        let network = Network::new(&model.config.with_size(width, height));
        let arch = Arch::new();
        let pack = |layer: &Layer| Packed::new(arch, &layer.matrix(model), layer.outputs());
        let weights: Vec<_> = network.layers.iter().map(pack).collect();
        let biases = network.layers.iter().zip(&weights).map(|(layer, packed)| {
            let classes = model.config.classes.len();
            let classes =
                if layer.is_conditional() { (0..classes).map(Some).collect() } else { vec![None] };
            let bias = |class| {
                let mut bias = layer.bias(model, class);
                bias.resize(packed.stride(), 0.0);
                bias
            };
            classes.into_iter().map(bias).collect()
        });
        let biases = biases.collect();
        Self { network, arch, weights, biases }
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

/// Caches of a batch of images.
pub struct State<'a> {
    packing: &'a Packing,
    memory: &'a mut Memory,
}

/// The numbers of a [`State`], kept from one batch to the next to save allocations.
#[derive(Default)]
pub struct Memory {
    batch: usize,
    /// A ring of rows for every node, see [`Node`].
    nodes: Vec<Vec<f32>>,
    /// `[columns, batch, stride]` for every layer with a row context.
    contexts: Vec<Vec<f32>>,
    /// `[batch, stride]` for every layer with classes, `[stride]` for the others.
    biases: Vec<Vec<f32>>,
    /// Results of a product on their way to the epilogue.
    block: Vec<f32>,
    /// A gate's result on its way into the record.
    value: Vec<f32>,
    /// Multiplications with additions so far.
    pub(super) macs: u64,
}

impl Memory {
    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let floats = |buffers: &[Vec<f32>]| buffers.iter().map(Vec::capacity).sum::<usize>();
        4 * (floats(&self.nodes) + floats(&self.contexts) + floats(&self.biases))
    }
}

impl<'a> State<'a> {
    /// Clears all caches for a new batch of `batch` images.
    pub fn begin(packing: &'a Packing, memory: &'a mut Memory, batch: usize, classes: &[usize]) -> Self {
        let (network, layers) = (&packing.network, packing.network.layers.len());
        memory.batch = batch;
        memory.nodes.resize_with(network.nodes.len(), Vec::new);
        memory.contexts.resize_with(layers, Vec::new);
        memory.biases.resize_with(layers, Vec::new);
        for (cache, node) in memory.nodes.iter_mut().zip(&network.nodes) {
            cache.clear();
            cache.resize(node.len(batch), 0.0);
        }
        let mut widest = 0;
        for (l, layer) in network.layers.iter().enumerate() {
            let stride = packing.weights[l].stride();
            widest = widest.max(stride);
            if layer.has_context() {
                let columns = network.config.width >> layer.grid;
                memory.contexts[l].resize(columns * batch * stride, 0.0);
            }
            memory.biases[l].clear();
            match &packing.biases[l][..] {
                [one] => memory.biases[l].extend(one),
                each => classes.iter().for_each(|&class| memory.biases[l].extend(&each[class])),
            }
        }
        memory.block.resize(BLOCK * widest, 0.0);
        memory.value.resize(widest, 0.0);
        Self { packing, memory }
    }

    /// Clears all caches but the image, to compute the same images once more from their first row.
    pub fn restart(&mut self) {
        for cache in &mut self.memory.nodes[IMAGE + 1..] {
            cache.fill(0.0);
        }
    }

    /// Begins a row of the image: all that does not depend on its pixels.
    pub fn begin_row(&mut self, row: usize) {
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
        &self.memory.nodes[network.parameters()][at..at + network.config.parameters_per_pixel()]
    }

    /// The cache of a node, see [`Node`].
    pub fn ring(&self, node: usize) -> &[f32] {
        &self.memory.nodes[node]
    }

    /// Gives a pixel its value, `[C]` in [−1, 1].
    pub fn set_pixel(&mut self, row: usize, column: usize, image: usize, pixel: &[f32]) {
        let node = &self.packing.network.nodes[IMAGE];
        let at = address(node, row as isize, column as isize, self.memory.batch) + image * node.record;
        let record = &mut self.memory.nodes[IMAGE][at..at + node.record];
        record[..pixel.len()].copy_from_slice(pixel);
        record[pixel.len()] = 1.0;
    }

    /// Runs a layer for some columns of its grid, on a row of the image.
    fn run(&mut self, l: usize, row: usize, columns: Range<usize>, part: Part) {
        let Packing { network, arch, weights, .. } = self.packing;
        let (layer, weights, batch) = (&network.layers[l], &weights[l], self.memory.batch);
        let stride = weights.stride();
        let taps = match part {
            Part::Early => 0..layer.early,
            Part::Late => layer.early..layer.taps.len(),
            Part::All => 0..layer.taps.len(),
        };
        let first_input = layer.taps[..taps.start].iter().map(|tap| tap.depth()).sum();

        // Taken out while it is written; no layer reads its own target or context.
        let mut target = std::mem::take(&mut self.memory.nodes[layer.target]);
        let mut context = std::mem::take(&mut self.memory.contexts[l]);
        let mut block = std::mem::take(&mut self.memory.block);
        let mut value = std::mem::take(&mut self.memory.value);

        let nodes = &self.memory.nodes;
        let field = |source: usize, form, row_offset, column_offset| {
            let node = &network.nodes[source];
            let scale = if node.level < layer.grid { 2 } else { 1 };
            let source_row = (row >> layer.grid) as isize * scale + row_offset;
            let offset = node.offset(form).expect("the network stores what is read");
            Field {
                data: &nodes[source],
                start: address(node, source_row, column_offset, batch) + offset,
                column: scale as usize * batch * node.record,
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

        let positions = columns.start * batch..columns.end * batch;
        if part == Part::Early {
            let out = &mut context[positions.start * stride..];
            let product = Product { weights, first_input, runs, init: bias, batch, positions, out };
            self.memory.macs += product.macs() as u64;
            arch.dispatch(product);
        } else {
            let init = match part {
                Part::Late if layer.has_context() => {
                    Field { data: &context, start: 0, column: batch * stride, image: stride }
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
            };
            let mut macs = 0;
            for start in positions.clone().step_by(BLOCK) {
                let positions = start..positions.end.min(start + BLOCK);
                let (out, range) = (&mut block[..], positions.clone());
                let product = Product { weights, first_input, runs, init, batch, positions, out };
                macs += product.macs() as u64;
                arch.dispatch(product);
                arch.dispatch(|| store.run(range, &block, &mut value, &mut target));
            }
            self.memory.macs += macs;
        }
        self.memory.nodes[layer.target] = target;
        self.memory.contexts[l] = context;
        self.memory.block = block;
        self.memory.value = value;
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
    stride: usize,
}

impl Store<'_> {
    /// Stores the results of some positions, `sums` `[positions, stride]`.
    #[inline(always)]
    fn run(&self, positions: Range<usize>, sums: &[f32], value: &mut [f32], target: &mut [f32]) {
        let (batch, halves) = (self.batch, self.layer.halves);
        let width = padded(self.layer.channels);
        let row = address(self.node, self.row, 0, batch);
        let record = self.node.record;
        for (m, sums) in positions.zip(sums.chunks_exact(self.stride)) {
            let (column, image) = (m / batch, m % batch);
            if let Some(x) = &self.residual {
                let x = &x.data[x.start + column * x.column + image * x.image..][..width];
                let (a, b) = (&sums[..width], &sums[width..2 * width]);
                let value = &mut value[..width];
                for f in 0..width {
                    value[f] = x[f] + a[f] * sigmoid(b[f]);
                }
                let at = row + (column * batch + image) * record;
                self.forms(value, &mut target[at..at + record]);
            } else {
                for (half, value) in sums.chunks_exact(width).take(halves).enumerate() {
                    let at = row + ((column * halves + half) * batch + image) * record;
                    self.forms(value, &mut target[at..at + record]);
                }
            }
        }
    }

    /// Writes all forms of a value that have readers.
    #[inline(always)]
    fn forms(&self, value: &[f32], record: &mut [f32]) {
        let width = value.len();
        if let Some(at) = self.node.offset(Form::Raw) {
            record[at..at + width].copy_from_slice(value);
        }
        if let Some(at) = self.node.offset(Form::Elu) {
            let elu = &mut record[at..at + width];
            for f in 0..width {
                elu[f] = elu_both(value[f]).0;
            }
        }
        let Some(at) = self.node.offset(Form::Phi) else { return };
        let phi = &mut record[at..];
        match self.nonlinearity {
            Nonlinearity::ConcatElu => {
                let (plus, minus) = phi[..2 * width].split_at_mut(width);
                for f in 0..width {
                    (plus[f], minus[f]) = elu_both(value[f]);
                }
            }
            Nonlinearity::Elu => {
                let phi = &mut phi[..width];
                for f in 0..width {
                    phi[f] = elu_both(value[f]).0;
                }
            }
            Nonlinearity::Relu => {
                let phi = &mut phi[..width];
                for f in 0..width {
                    // Not `max`, which would swallow a NaN.
                    phi[f] = if value[f] < 0.0 { 0.0 } else { value[f] };
                }
            }
        }
    }
}
