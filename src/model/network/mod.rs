//! The network as a graph of layers, mirroring Salimans et al. 2017, *PixelCNN++* (arXiv 1701.05517,
//! `pixel_cnn_pp/model.py` of openai/pixel-cnn) line by line.
//!
//! Every layer is the same operation: for the pixels of one row, a sum over *taps* (which node, which
//! pixel relative to this one, which slice of which weight), then an epilogue. Engines know nothing else
//! of the architecture: strided, transposed and dilated convolutions and 1×1 products differ in their
//! taps only.

mod build;

use std::collections::BTreeMap;

use super::{Config, Model, Precision};

/// Channels of a node are padded with zeros to a multiple of this, so that engines can read vectors.
pub const CHANNEL_ALIGN: usize = 4;

/// Taps of one layer, at most: 2×3, and a skip.
pub const MAX_TAPS: usize = 8;

/// Which of the two streams a layer or a node belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// `u`: sees the rows above. Computed a whole row at a time.
    Vertical,
    /// `ul`: sees the rows above and the pixels to the left. Computed pixel by pixel.
    Horizontal,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Vertical => "vertical",
            Self::Horizontal => "horizontal",
        }
    }

    /// Rows and columns of its convolutions' kernels.
    fn kernel(self) -> [usize; 2] {
        match self {
            Self::Vertical => [2, 3],
            Self::Horizontal => [2, 2],
        }
    }
}

/// What is done to a node's value before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Raw,
    /// φ of it.
    Phi,
    /// elu of it (read by the output layer alone).
    Elu,
}

/// In what form a node's value is stored, and read by a tap: an activation of the value, or of the value with what
/// its class adds to it ([`Node::addition`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What is done to the value.
    pub activation: Activation,
    /// Whether the class's addition comes before that.
    pub with_class: bool,
}

impl Form {
    /// The value as it is.
    pub const RAW: Self = Self { activation: Activation::Raw, with_class: false };
    /// φ of the value.
    pub const PHI: Self = Self { activation: Activation::Phi, with_class: false };
    /// elu of the value.
    pub const ELU: Self = Self { activation: Activation::Elu, with_class: false };
    /// All forms that a node can have.
    pub const ALL: [Self; 5] =
        [Self::RAW, Self::PHI, Self::ELU, Self::RAW.of_class(), Self::PHI.of_class()];

    /// The same activation of the value with what its class adds.
    pub const fn of_class(self) -> Self {
        Self { with_class: true, ..self }
    }

    fn index(self) -> usize {
        self.activation as usize + 3 * usize::from(self.with_class)
    }
}

/// Numbers that are added to a sum or a value, `[classes, rows, columns, width]`: axes along which they do not
/// differ have length 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Lengths of the axes: classes, rows, columns.
    pub axes: [usize; 3],
    /// Numbers at a place.
    pub width: usize,
    /// All numbers, row-major.
    pub data: Vec<f32>,
}

impl Table {
    fn zeros(axes: [usize; 3], width: usize) -> Self {
        Self { axes, width, data: vec![0.0; axes.iter().product::<usize>() * width] }
    }

    /// From one class, row and column to the next, in numbers; 0 along axes of length 1.
    pub fn strides(&self) -> [usize; 3] {
        let [classes, rows, columns] = self.axes;
        let lengths = [rows * columns * self.width, columns * self.width, self.width];
        std::array::from_fn(|axis| if [classes, rows, columns][axis] > 1 { lengths[axis] } else { 0 })
    }

    /// The numbers for a class and a pixel. Models without classes have class 0.
    pub fn at(&self, class: usize, row: usize, column: usize) -> &[f32] {
        let [of_class, of_row, of_column] = self.strides();
        let start = class * of_class + row * of_row + column * of_column;
        &self.data[start..start + self.width]
    }

    /// Whether they differ from pixel to pixel.
    pub fn is_map(&self) -> bool {
        self.axes[1] > 1 || self.axes[2] > 1
    }

    /// The same numbers, padded: from `[halves, channels]` at a place to `[halves, wide]`.
    pub fn padded(&self, halves: usize, wide: usize) -> Self {
        let channels = self.width / halves;
        let mut padded = Self::zeros(self.axes, halves * wide);
        for (to, from) in padded.data.chunks_mut(wide).zip(self.data.chunks(channels)) {
            to[..channels].copy_from_slice(from);
        }
        padded
    }
}

/// The axes that a tensor has before its channels: none, classes, or classes, rows and columns.
fn axes_of(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [_] => [1, 1, 1],
        [classes, _] => [classes, 1, 1],
        [classes, rows, columns, _] => [classes, rows, columns],
        _ => unreachable!("additions have one axis, two or four"),
    }
}

/// The sum of some tensors, each `[width]`, `[classes, width]` or `[classes, rows, columns, width]`. One of fewer
/// channels than `width` is taken for each half.
fn sum_of(model: &Model, tensors: &[String], width: usize) -> Table {
    let tensors: Vec<_> = tensors.iter().map(|name| &model.tensors[name]).collect();
    let axes = tensors.iter().fold([1; 3], |axes: [usize; 3], tensor| {
        let of_tensor = axes_of(&tensor.shape);
        std::array::from_fn(|axis| axes[axis].max(of_tensor[axis]))
    });
    let mut sum = Table::zeros(axes, width);
    for tensor in tensors {
        let channels = tensor.shape[tensor.shape.len() - 1];
        let [_, rows, columns] = axes;
        let part = Table { axes: axes_of(&tensor.shape), width: channels, data: tensor.data.clone() };
        for (place, to) in sum.data.chunks_mut(width).enumerate() {
            let from = part.at(place / (rows * columns), place / columns % rows, place % columns);
            for half in to.chunks_mut(channels) {
                half.iter_mut().zip(from).for_each(|(sum, x)| *sum += x);
            }
        }
    }
    sum
}

/// A value of the network at every pixel of a level; what caches are made for.
///
/// Engines keep `rows` rows of it as a ring, laid out `[rows, left + width + right, batch, record]`.
#[derive(Clone, Debug)]
pub struct Node {
    /// The layer that makes it, or `image`.
    pub name: String,
    /// Its stream. The image counts as horizontal: it grows pixel by pixel.
    pub stream: Stream,
    /// Resolution: `1/2^level` of the image.
    pub level: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Channels before any activation.
    pub channels: usize,
    /// Rows that readers look back on, and this one.
    pub rows: usize,
    /// Zero columns on the left.
    pub left: usize,
    /// Zero columns on the right.
    pub right: usize,
    /// Where each form lies within a pixel's record, by [`Form::index`].
    offsets: [Option<usize>; 6],
    /// What the class adds in the forms that have it: a tensor `[K, channels]` or `[K, rows, columns, channels]`.
    class: Option<String>,
    /// Channels that φ makes of one.
    growth: usize,
    /// Floats of one pixel of one image, all forms together.
    pub record: usize,
    /// New values appear at steps that are multiples of this: `cache_every` of its readers.
    pub made_every: usize,
}

impl Node {
    /// Where a form begins within a pixel's record, if it is stored.
    pub fn offset(&self, form: Form) -> Option<usize> {
        self.offsets[form.index()]
    }

    /// Whether the class adds to any of its forms.
    pub fn has_class(&self) -> bool {
        self.class.is_some()
    }

    /// What the class adds in the forms that have it, `[K, …, channels]`.
    pub fn addition(&self, model: &Model) -> Option<Table> {
        self.class.as_ref().map(|name| sum_of(model, std::slice::from_ref(name), self.channels))
    }

    /// The form that a trace shows: the value as it is, or φ of it where that alone is stored.
    pub fn shown(&self) -> Form {
        let forms = [Form::RAW, Form::PHI, Form::RAW.of_class()];
        forms.into_iter().find(|form| self.offset(*form).is_some()).unwrap_or(Form::ELU)
    }

    /// Columns of a row, with padding.
    pub fn columns(&self) -> usize {
        self.left + self.width + self.right
    }

    /// One row of one image out of a ring, without padding, `[width, channels]` in the form that is [`Self::shown`].
    pub fn row(&self, ring: &[f32], row: usize, batch: usize, image: usize) -> Vec<f32> {
        let form = self.shown();
        let (offset, padded) = (self.offset(form).unwrap_or(0), padded(self.channels));
        let groups = if form == Form::PHI { self.growth } else { 1 };
        let first = (row % self.rows) * self.columns() + self.left;
        let mut values = Vec::with_capacity(self.width * groups * self.channels);
        for column in 0..self.width {
            let record = ((first + column) * batch + image) * self.record + offset;
            for group in 0..groups {
                let at = record + group * padded;
                values.extend_from_slice(&ring[at..at + self.channels]);
            }
        }
        values
    }

    /// Floats that the ring takes for a batch.
    pub fn len(&self, batch: usize) -> usize {
        self.rows * self.columns() * batch * self.record
    }
}

/// `channels` rounded up to [`CHANNEL_ALIGN`].
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_ALIGN)
}

/// One term of a layer's sum: `source(row + Δrow, column + Δcolumn) × slice of a weight`.
///
/// Rows and columns count on the layer's grid; a source one level finer is read at twice the position.
#[derive(Clone, Debug)]
pub struct Tap {
    /// Index of the node that is read.
    pub source: usize,
    /// In which form.
    pub form: Form,
    /// Δrow ≤ 0, in pixels of the source.
    pub row: isize,
    /// Δcolumn, in pixels of the source.
    pub column: isize,
    /// Channels of the source, before φ.
    channels: usize,
    /// The weight's name.
    tensor: String,
    /// For each group of the form's channels (φ has two for `concat_elu`), where it starts among the
    /// weight's inputs.
    groups: Vec<usize>,
    /// For each half of the layer's outputs, the kernel position and the first output of the weight.
    halves: Vec<Option<([usize; 2], usize)>>,
    /// A bias to be added to the weight of the image's channel of ones.
    ones_bias: Option<String>,
}

impl Tap {
    /// Channels read, with padding: rows of the weight slice.
    pub fn depth(&self) -> usize {
        self.groups.len() * padded(self.channels)
    }
}

/// Channels that taps read together, with padding: rows of a weight matrix.
pub fn depth(taps: &[Tap]) -> usize {
    taps.iter().map(Tap::depth).sum()
}

/// What a layer does, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Input convolution.
    Input,
    /// First convolution of a gated block, with its skip: writes φ.
    ConvIn,
    /// Second convolution of a gated block: gate and residual.
    ConvOut,
    /// Convolution with stride 2.
    Strided,
    /// Transposed convolution with stride 2; one layer for even output rows, one for odd.
    Transposed,
    /// 1×1 product to the mixture parameters.
    Output,
}

/// A convolution with its epilogue.
///
/// The epilogue is `x + a·σ(b)` if there is a `residual` (`a`, `b` are the two halves), else nothing; then
/// the target stores whichever forms of the value have readers. Transposed convolutions give two columns
/// of the target at once: `halves` is 2 and `grid` is one more than `level`.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its place in the model file.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// Its stream.
    pub stream: Stream,
    /// Level of its target.
    pub level: usize,
    /// Level on which its positions count.
    pub grid: usize,
    /// Which rows of the target it makes, if not all.
    pub row_parity: Option<usize>,
    /// Its terms; the `early` ones come first.
    pub taps: Vec<Tap>,
    /// How many taps are known for a whole row when the row begins.
    pub early: usize,
    /// Output channels of one half.
    pub channels: usize,
    /// Halves of the output: `[a, b]` of a gate, two columns of a transposed convolution, or 1.
    pub halves: usize,
    /// The node whose value the gate is added to, and whether that is with what its class adds.
    pub residual: Option<(usize, Form)>,
    /// The node it makes.
    pub target: usize,
    /// Runs at steps (rows, and pixels within a row) that are multiples of this.
    pub run_every: usize,
    /// What it adds to its sum: biases, and what a class adds.
    additions: Vec<String>,
}

impl Layer {
    /// Outputs at a position, with padding: columns of its matrix.
    pub fn outputs(&self) -> usize {
        self.halves * padded(self.channels)
    }

    /// From a position of its grid to the position that it reads of a source: 2 where that is one level finer.
    pub fn scale(&self, source: &Node) -> usize {
        1 << (self.grid - source.level)
    }

    /// Whether everything it reads is known when a row begins, so that it can make the whole row.
    pub fn is_row_work(&self) -> bool {
        self.early == self.taps.len()
    }

    /// Whether part of its sum is known when a row begins: its row context.
    pub fn has_context(&self) -> bool {
        self.early > 0 && !self.is_row_work()
    }

    /// Whether it has work on this row of the image.
    ///
    /// The odd rows of a transposed convolution could be made along with the even ones; they wait until
    /// they are read, when they are known as a whole.
    pub fn runs_on_row(&self, row: usize) -> bool {
        row % self.run_every == self.row_parity.unwrap_or(0) << self.level
    }

    /// The columns of its grid that run for the image columns `columns`.
    pub fn columns(&self, columns: std::ops::Range<usize>) -> std::ops::Range<usize> {
        columns.start.div_ceil(self.run_every)..columns.end.div_ceil(self.run_every)
    }

    /// Its weights as one matrix `[Σ depth, outputs]`, taps in order, zeros in the padding.
    pub fn matrix(&self, model: &Model) -> Vec<f32> {
        let outputs = self.outputs();
        let mut matrix = vec![0.0; depth(&self.taps) * outputs];
        let mut first_row = 0;
        for tap in &self.taps {
            let weight = &model.tensors[&tap.tensor];
            let [.., width, inputs, columns] = [&[1, 1], &weight.shape[..]].concat()[..] else {
                unreachable!("weights have two axes or four")
            };
            for (half, slice) in tap.halves.iter().enumerate() {
                let Some(([i, j], first_output)) = *slice else { continue };
                for (group, first_input) in tap.groups.iter().enumerate() {
                    for k in 0..tap.channels {
                        let from = ((i * width + j) * inputs + first_input + k) * columns + first_output;
                        let row = first_row + group * padded(tap.channels) + k;
                        let to = row * outputs + half * padded(self.channels);
                        matrix[to..to + self.channels]
                            .copy_from_slice(&weight.data[from..from + self.channels]);
                    }
                }
            }
            if let Some(bias) = &tap.ones_bias {
                let ones = (first_row + tap.channels - 1) * outputs;
                for (w, b) in matrix[ones..].iter_mut().zip(&model.tensors[bias].data) {
                    *w += b;
                }
            }
            first_row += tap.depth();
        }
        matrix
    }

    /// All that it adds to its sum, `[…, outputs]` with zeros in the padding: biases, a class's vector or map.
    pub fn addition(&self, model: &Model) -> Table {
        sum_of(model, &self.additions, self.halves * self.channels)
            .padded(self.halves, padded(self.channels))
    }

    /// The precision of its weights in a model of that precision. Input and output layers are small, and the former
    /// have biases among their weights: they stay in 32 bits.
    pub fn precision(&self, of_model: Precision) -> Precision {
        match self.kind {
            Kind::Input | Kind::Output => Precision::F32,
            _ => of_model,
        }
    }
}

/// All layers in the order in which they run, and the nodes between them.
#[derive(Clone, Debug)]
pub struct Network {
    /// The architecture, with the size of the images to be made.
    pub config: Config,
    /// The values that layers make and read; the first is the image, with its channel of ones.
    pub nodes: Vec<Node>,
    /// The layers; the last is the output.
    pub layers: Vec<Layer>,
    /// Shape of every tensor of the model file.
    pub tensors: BTreeMap<String, Vec<usize>>,
}

/// Index of the image among a network's nodes.
pub const IMAGE: usize = 0;

impl Network {
    /// Shape of every tensor that a model file of this architecture holds.
    pub fn tensor_shapes(config: &Config) -> BTreeMap<String, Vec<usize>> {
        Self::new(config).tensors
    }

    /// Multiplications with additions that an image takes, padding included.
    pub fn macs_per_image(&self) -> usize {
        let macs = |layer: &Layer| {
            let positions = (self.config.width / layer.run_every) * (self.config.height / layer.run_every);
            depth(&layer.taps) * layer.outputs() * positions
        };
        self.layers.iter().map(macs).sum()
    }

    /// The node that the output layer makes: the mixture parameters.
    pub fn parameters(&self) -> usize {
        self.layers[self.layers.len() - 1].target
    }
}
