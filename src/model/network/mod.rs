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

/// In what form a node's value is stored, and read by a tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Raw,
    /// φ of it.
    Phi,
    /// elu of it (read by the output layer alone).
    Elu,
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
    /// Where each form lies within a pixel's record: raw, φ, elu.
    offsets: [Option<usize>; 3],
    /// Floats of one pixel of one image, all forms together.
    pub record: usize,
    /// New values appear at steps that are multiples of this: `cache_every` of its readers.
    pub made_every: usize,
}

impl Node {
    /// Where a form begins within a pixel's record, if it is stored.
    pub fn offset(&self, form: Form) -> Option<usize> {
        self.offsets[form as usize]
    }

    /// Columns of a row, with padding.
    pub fn columns(&self) -> usize {
        self.left + self.width + self.right
    }

    /// One row of one image out of a ring, without padding: the raw value, `[width, channels]`, or φ of it
    /// where that alone is stored.
    pub fn row(&self, ring: &[f32], row: usize, batch: usize, image: usize) -> Vec<f32> {
        let raw = self.offset(Form::Raw);
        let groups = match (raw, self.offset(Form::Phi)) {
            (None, Some(offset)) => (self.record - offset) / padded(self.channels),
            _ => 1,
        };
        let offset = raw.or(self.offset(Form::Phi)).unwrap_or(0);
        let first = (row % self.rows) * self.columns() + self.left;
        let mut values = Vec::with_capacity(self.width * groups * self.channels);
        for column in 0..self.width {
            let record = ((first + column) * batch + image) * self.record + offset;
            for group in 0..groups {
                let at = record + group * padded(self.channels);
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
    /// The node whose raw value the gate is added to.
    pub residual: Option<usize>,
    /// The node it makes.
    pub target: usize,
    /// Runs at steps (rows, and pixels within a row) that are multiples of this.
    pub run_every: usize,
    biases: Vec<String>,
    class: Option<String>,
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

    /// Its bias `[outputs]`, with the class's share for a conditional model, zeros in the padding.
    pub fn bias(&self, model: &Model, class: Option<usize>) -> Vec<f32> {
        let mut bias = vec![0.0; self.outputs()];
        let mut add = |values: &[f32]| {
            for half in 0..self.halves {
                // A transposed convolution has one bias for both of its columns.
                let from = if values.len() > self.channels { half * self.channels } else { 0 };
                let to = half * padded(self.channels);
                for (b, v) in bias[to..to + self.channels].iter_mut().zip(&values[from..]) {
                    *b += v;
                }
            }
        };
        for name in &self.biases {
            add(&model.tensors[name].data);
        }
        if let (Some(name), Some(class)) = (&self.class, class) {
            let width = self.halves * self.channels;
            add(&model.tensors[name].data[class * width..(class + 1) * width]);
        }
        bias
    }

    /// The precision of its weights. Input and output layers are small, and the former have biases among their
    /// weights: they stay in 32 bits.
    pub fn precision(&self, model: &Model) -> Precision {
        match self.kind {
            Kind::Input | Kind::Output => Precision::F32,
            _ => model.precision,
        }
    }

    /// Whether its bias differs between classes.
    pub fn is_conditional(&self) -> bool {
        self.class.is_some()
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
