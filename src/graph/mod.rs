//! Graphs: a causal convolutional network as plain data.
//!
//! A graph has *nodes*, values at every pixel, and *layers* that compute them. Every layer is the same
//! operation: a sum over *taps* (a node, one of its forms, an offset from the pixel, a slice of a weight),
//! then an epilogue. A family of networks builds its graph from an architecture ([`pixelcnn_pp`],
//! [`gated`], [`masked`]); a model file may hold one. [`Network`] is its compiled form with the schedule.

pub mod activation;
mod build;
pub mod check;
mod compile;
pub mod gated;
pub mod masked;
pub mod network;
pub mod pixelcnn_pp;
pub mod reference;
pub mod schedule;
mod steps;
mod sums;
pub mod table;

pub use activation::Activation;
pub use build::Sizes;
pub use network::Network;
pub use steps::order_channels;
pub use table::Table;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::head::Head;
use crate::model::weights::Tensor;

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Index of the image among a graph's nodes.
pub const IMAGE: usize = 0;

/// A declared network, without a schedule.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Image height in pixels.
    pub height: usize,
    /// Image width in pixels.
    pub width: usize,
    /// Number of classes; 0 for an unconditional network.
    pub classes: usize,
    /// Encodings of a pixel's levels, the forms of the image that taps read.
    pub encodings: Vec<Encoding>,
    /// The image, then every value that a layer computes.
    pub nodes: Vec<NodeSpec>,
    /// The layers. Sources come before the layers that read them.
    pub layers: Vec<LayerSpec>,
    /// The distribution of a pixel.
    pub head: Head,
    /// The node that holds its parameters.
    pub head_node: usize,
    /// Shapes of the tensors that layers and forms name.
    pub tensors: BTreeMap<String, Vec<usize>>,
}

/// A table of numbers for each level of a channel, and constants that are the same at every pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoding {
    /// `[levels, width]`: the numbers of each level.
    pub table: Vec<f64>,
    /// Numbers per level.
    pub width: usize,
    /// The channel that is encoded; none: all of them, one after another.
    pub channel: Option<usize>,
    /// Follow the encoded channels at every pixel of the image, but not in its padding.
    pub constants: Vec<f64>,
}

impl Encoding {
    /// Numbers of a pixel of `channels` channels.
    pub fn len(&self, channels: usize) -> usize {
        self.width * if self.channel.is_some() { 1 } else { channels } + self.constants.len()
    }

    /// The numbers of a pixel.
    pub fn of_pixel<'a>(&'a self, levels: &'a [u16]) -> impl Iterator<Item = f64> + 'a {
        let levels = match self.channel {
            Some(channel) => &levels[channel..channel + 1],
            None => levels,
        };
        let numbers =
            levels.iter().flat_map(|&level| &self.table[usize::from(level) * self.width..][..self.width]);
        numbers.chain(&self.constants).copied()
    }
}

/// A form in which a value is stored, and read by taps: `activation(±(scale · value + shift))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// Applied last.
    pub activation: Activation,
    /// Negates the argument.
    pub negate: bool,
    /// A tensor `[F]`, `[K, F]` or `[K, H, W, F]`; axes other than F may have length 1.
    pub scale: Option<String>,
    /// Like [`Self::scale`].
    pub shift: Option<String>,
}

impl Form {
    /// The activation of the value itself.
    pub fn of(activation: Activation) -> Self {
        Self { activation, negate: false, scale: None, shift: None }
    }

    /// The activation of the value with a tensor added.
    pub fn shifted(activation: Activation, shift: &str) -> Self {
        Self { shift: Some(shift.to_owned()), ..Self::of(activation) }
    }
}

/// A value at every pixel of a level.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Unique among the nodes.
    pub name: String,
    /// Resolution: `1/2^level` of the image.
    pub level: usize,
    /// Channels before any activation.
    pub channels: usize,
    /// The forms that taps and residuals read. The image has [`Graph::encodings`] instead.
    pub forms: Vec<Form>,
}

/// One term of a layer's sum.
#[derive(Clone, Debug)]
pub struct TapSpec {
    /// The node that is read.
    pub source: usize,
    /// Index of the form that is read.
    pub form: usize,
    /// Δrow, in pixels of the source.
    pub row: isize,
    /// Δcolumn, in pixels of the source.
    pub column: isize,
    /// For a source one level coarser than the target: the tap counts only at rows and columns of the
    /// target with these remainders by 2.
    pub phase: Option<[usize; 2]>,
    /// The term of the numbers.
    pub term: Term,
}

/// The term that a tap adds to the sum.
#[derive(Clone, Debug)]
pub enum Term {
    /// The numbers that are read times a slice of a tensor.
    Product(Slice),
    /// Some of the numbers, unchanged, to the outputs from `outputs` on.
    Select {
        /// Numbers of the form.
        channels: Range<usize>,
        /// The output to which the first is added.
        outputs: usize,
    },
}

/// A matrix in a tensor `[inputs, outputs]` or `[rows, columns, inputs, outputs]`.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The tensor's name.
    pub tensor: String,
    /// Position within a tensor of four axes.
    pub kernel: [usize; 2],
    /// For each group of the form's channels that is read (`concat_elu` has two), its first row among the
    /// tensor's inputs.
    pub groups: Vec<usize>,
    /// A tensor added to the weights of the last number that is read, which then must be 1.
    pub bias: Option<String>,
}

/// A sum over taps with its epilogue.
///
/// The result is the sum, or `f(a) · g(b)` of its two halves where there is a gate, plus the residual if any.
#[derive(Clone, Debug)]
pub struct LayerSpec {
    /// Its place in the model, for people.
    pub name: String,
    /// Its kind, for people.
    pub kind: LayerKind,
    /// The node that it computes.
    pub target: usize,
    /// The terms.
    pub taps: Vec<TapSpec>,
    /// Tensors added to the sum, each `[F]`, `[K, F]` or `[K, H, W, F]`; one of half the outputs applies to
    /// each half.
    pub additions: Vec<String>,
    /// `[f, g]`.
    pub gate: Option<[Activation; 2]>,
    /// A node and the index of its form.
    pub residual: Option<(usize, usize)>,
    /// A node that keeps the sum before the gate.
    pub pre: Option<usize>,
}

impl LayerSpec {
    /// The nodes that it computes.
    fn makes(&self) -> impl Iterator<Item = usize> {
        [Some(self.target), self.pre].into_iter().flatten()
    }

    /// The tensors of its products.
    fn weights(&self) -> impl Iterator<Item = &String> {
        let slices = self.taps.iter().filter_map(|tap| match &tap.term {
            Term::Product(slice) => Some(slice),
            Term::Select { .. } => None,
        });
        slices.flat_map(|slice| [Some(&slice.tensor), slice.bias.as_ref()]).flatten()
    }
}

/// The kind of a layer, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// Reads the image.
    Input,
    /// First convolution of a gated block, with its skip.
    ConvIn,
    /// Second convolution of a gated block: gate and residual.
    ConvOut,
    /// Convolution with stride 2.
    Strided,
    /// Transposed convolution with stride 2.
    Transposed,
    /// Computes the parameters of the head.
    Output,
    /// Any other.
    Convolution,
}

impl LayerKind {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::ConvIn => "conv in",
            Self::ConvOut => "conv out",
            Self::Strided => "strided",
            Self::Transposed => "transposed",
            Self::Output => "output",
            Self::Convolution => "convolution",
        }
    }
}

impl Graph {
    /// Number of forms of a node.
    pub fn forms(&self, node: usize) -> usize {
        if node == IMAGE { self.encodings.len() } else { self.nodes[node].forms.len() }
    }

    /// Groups of channels of a form: `concat_elu` has two.
    pub fn groups(&self, node: usize, form: usize) -> usize {
        if node == IMAGE { 1 } else { self.nodes[node].forms[form].activation.groups() }
    }

    /// Numbers of a group of a form.
    pub fn group_len(&self, node: usize, form: usize) -> usize {
        match node {
            IMAGE => self.encodings[form].len(self.head.channels()),
            _ => self.nodes[node].channels,
        }
    }

    /// Numbers that a tap reads of a form.
    pub fn form_len(&self, node: usize, form: usize) -> usize {
        self.groups(node, form) * self.group_len(node, form)
    }

    /// Outputs of a layer's sum.
    pub fn outputs(&self, layer: &LayerSpec) -> usize {
        self.nodes[layer.target].channels * if layer.gate.is_some() { 2 } else { 1 }
    }

    /// The tensors that its forms and layers name, some of them more than once.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tables().chain(self.layers.iter().flat_map(LayerSpec::weights)).map(|name| &name[..])
    }

    /// Tensors of additions, scales and shifts.
    fn tables(&self) -> impl Iterator<Item = &String> {
        let forms = self.nodes.iter().flat_map(|node| &node.forms);
        let of_forms = forms.flat_map(|form| form.scale.iter().chain(&form.shift));
        of_forms.chain(self.layers.iter().flat_map(|layer| &layer.additions))
    }

    /// True if the network works on images of this size in pixels. A map over the image in an added table
    /// fixes the size; otherwise the size must be a multiple of `size_multiple`.
    pub fn takes_size(&self, width: usize, height: usize, tensors: &Tensors) -> bool {
        let is_map = |name: &String| matches!(tensors[name].shape[..], [_, rows, columns, _] if rows > 1 || columns > 1);
        let multiple = self.size_multiple();
        let fits = |side: usize| (1..=check::limits::SIDE).contains(&side) && side.is_multiple_of(multiple);
        (width, height) == (self.width, self.height)
            || (fits(width) && fits(height) && !self.tables().any(is_map))
    }

    /// Divisor of height and width.
    pub fn size_multiple(&self) -> usize {
        1 << self.nodes.iter().map(|node| node.level).max().unwrap_or(0)
    }
}
