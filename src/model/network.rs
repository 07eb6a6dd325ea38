//! The network as a graph of layers, mirroring Salimans et al. 2017, *PixelCNN++* (arXiv 1701.05517,
//! `pixel_cnn_pp/model.py` of openai/pixel-cnn) line by line.
//!
//! Every layer is the same operation: for the pixels of one row, a sum over *taps* (which node, which
//! pixel relative to this one, which slice of which weight), then an epilogue. Engines know nothing else
//! of the architecture: strided, transposed and dilated convolutions and 1×1 products differ in their
//! taps only.

use std::collections::BTreeMap;

use super::schedule::{self, Edge, Rate};
use super::{Config, Model, Nonlinearity, Precision};

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
    /// Builds the graph of an architecture.
    pub fn new(config: &Config) -> Self {
        let mut net = Self {
            config: config.clone(),
            nodes: Vec::new(),
            layers: Vec::new(),
            tensors: BTreeMap::new(),
        };
        let (levels, blocks) = (config.levels, config.blocks);
        let image = net.node("image", Stream::Horizontal, 0, config.channels + 1);
        let (mut u, mut ul) = net.input(image);
        let mut remembered = vec![(u, ul)];
        for level in 0..levels {
            for i in 0..blocks {
                u = net.block("up", level, i, Stream::Vertical, u, &[]);
                ul = net.block("up", level, i, Stream::Horizontal, ul, &[u]);
                remembered.push((u, ul));
            }
            if level + 1 < levels {
                u = net.strided(level, Stream::Vertical, u);
                ul = net.strided(level, Stream::Horizontal, ul);
                remembered.push((u, ul));
            }
        }
        remembered.pop();
        for level in (0..levels).rev() {
            for i in 0..blocks + usize::from(level + 1 < levels) {
                let (u_up, ul_up) = remembered.pop().expect("the up pass remembered as many");
                u = net.block("down", level, i, Stream::Vertical, u, &[u_up]);
                ul = net.block("down", level, i, Stream::Horizontal, ul, &[u, ul_up]);
            }
            if level > 0 {
                u = net.transposed(level, Stream::Vertical, u);
                ul = net.transposed(level, Stream::Horizontal, ul);
            }
        }
        net.output(ul);
        // The naive method begins anew for every pixel: it wants the whole image, and zeros above it.
        net.nodes[IMAGE].rows += config.height;
        net.finish();
        net
    }

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

    /// `u₀ = shift_down(vconv[2×3](x))`, `ul₀ = shift_down(vconv[1×3](x)) + shift_right(hconv[2×1](x))`.
    ///
    /// A shifted output has no bias on the row or column shifted in. Each convolution therefore adds its
    /// bias to the weight of the channel of ones, at the tap that falls on padding exactly there.
    fn input(&mut self, image: usize) -> (usize, usize) {
        let mut shifted = |name: &str, shape, corner, bias_at: usize| {
            let mut taps = self.kernel(name, (image, Form::Raw), shape, corner, 1, 1);
            taps[bias_at].ones_bias = Some(self.bias_tensor(name, 1));
            taps
        };
        let vertical = shifted("input.vertical", [2, 3], [-2, -1], 4);
        let above = shifted("input.above", [1, 3], [-1, -1], 1);
        let left = shifted("input.left", [2, 1], [-1, -1], 1);
        let u = self.layer(Kind::Input, Stream::Vertical, "input.vertical", 0, vertical);
        let taps = [above, left].concat();
        let ul = self.layer(Kind::Input, Stream::Horizontal, "input.horizontal", 0, taps);
        (self.push(u), self.push(ul))
    }

    /// `x' = x + a·σ(b)`, `[a, b] = conv_out(φ(conv_in(φ(x)) + skip(φ(aux)))) (+ class)`.
    fn block(
        &mut self,
        pass: &str,
        level: usize,
        i: usize,
        stream: Stream,
        x: usize,
        aux: &[usize],
    ) -> usize {
        let dilation = self.config.dilations[i];
        let corner = [-(dilation as isize); 2];
        let place = format!("{pass}.{level}.block.{i}.{}", stream.name());

        let name = format!("{place}.conv_in");
        let mut taps = self.kernel(&name, (x, Form::Phi), stream.kernel(), corner, dilation, 1);
        let mut biases = vec![self.bias_tensor(&name, 1)];
        if !aux.is_empty() {
            let skip = format!("{place}.skip");
            taps.extend(self.skip(&skip, aux));
            biases.push(self.bias_tensor(&skip, 1));
        }
        let conv_in = self.layer(Kind::ConvIn, stream, &name, level, taps);
        let hidden = self.push(Layer { biases, ..conv_in });

        let name = format!("{place}.conv_out");
        let taps = self.kernel(&name, (hidden, Form::Phi), stream.kernel(), corner, dilation, 2);
        let biases = vec![self.bias_tensor(&name, 2)];
        let (classes, outputs) = (self.config.classes.len(), 2 * self.config.filters);
        let class =
            (classes > 0).then(|| self.tensor(&format!("{place}.class.weight"), &[classes, outputs]));
        let conv_out = self.layer(Kind::ConvOut, stream, &name, level, taps);
        self.push(Layer { biases, class, halves: 2, residual: Some(x), ..conv_out })
    }

    /// From `level` to the next, at half the size.
    fn strided(&mut self, level: usize, stream: Stream, x: usize) -> usize {
        let name = format!("up.{level}.stride.{}", stream.name());
        let taps = self.kernel(&name, (x, Form::Raw), stream.kernel(), [-1, -1], 1, 1);
        let biases = vec![self.bias_tensor(&name, 1)];
        let strided = self.layer(Kind::Strided, stream, &name, level + 1, taps);
        self.push(Layer { biases, ..strided })
    }

    /// From `level` to the one before, at twice the size.
    ///
    /// As a gather: `in(k, m)` gives columns `2m` and `2m + 1` of row `2k + i`; for the vertical stream,
    /// whose kernel is three columns wide and cropped by one on each side, column `2m + 1` also reads
    /// `in(k, m + 1)`.
    fn transposed(&mut self, level: usize, stream: Stream, x: usize) -> usize {
        let name = format!("down.{level}.stride.{}", stream.name());
        let filters = self.config.filters;
        let [rows, columns] = stream.kernel();
        let tensor = self.tensor(&format!("{name}.weight"), &[rows, columns, filters, filters]);
        let biases = vec![self.bias_tensor(&name, 1)];
        let mut target = None;
        for i in 0..rows {
            let at = |j| Some(([i, j], 0));
            let terms = match stream {
                Stream::Vertical => vec![(0, vec![at(1), at(2)]), (1, vec![None, at(0)])],
                Stream::Horizontal => vec![(0, vec![at(0), at(1)])],
            };
            let taps = terms.into_iter().map(|(column, halves)| Tap {
                source: x,
                form: Form::Raw,
                row: 0,
                column,
                channels: filters,
                tensor: tensor.clone(),
                groups: vec![0],
                halves,
                ones_bias: None,
            });
            let layer = Layer {
                grid: level,
                row_parity: Some(i),
                halves: 2,
                biases: biases.clone(),
                ..self.layer(Kind::Transposed, stream, &name, level - 1, taps.collect())
            };
            target = Some(self.push_into(target, layer));
        }
        target.expect("a kernel has rows")
    }

    /// `nin(elu(ul))`: the mixture parameters.
    fn output(&mut self, ul: usize) {
        let (inputs, outputs) = (self.config.filters, self.config.parameters_per_pixel());
        let tap = Tap {
            source: ul,
            // elu is all of φ, or its first group, unless φ is relu.
            form: match self.config.nonlinearity {
                Nonlinearity::Relu => Form::Elu,
                Nonlinearity::Elu | Nonlinearity::ConcatElu => Form::Phi,
            },
            row: 0,
            column: 0,
            channels: inputs,
            tensor: self.tensor("output.weight", &[inputs, outputs]),
            groups: vec![0],
            halves: vec![Some(([0, 0], 0))],
            ones_bias: None,
        };
        let biases = vec![self.tensor("output.bias", &[outputs])];
        let layer = self.layer(Kind::Output, Stream::Horizontal, "output", 0, vec![tap]);
        let target = self.push(Layer { channels: outputs, biases, ..layer });
        self.nodes[target].offsets[Form::Raw as usize] = Some(0);
    }

    /// Taps of a convolution to `halves · filters` channels whose first tap is at `corner`, the others
    /// `dilation` pixels apart.
    fn kernel(
        &mut self,
        name: &str,
        (source, form): (usize, Form),
        shape: [usize; 2],
        corner: [isize; 2],
        dilation: usize,
        halves: usize,
    ) -> Vec<Tap> {
        let channels = self.nodes[source].channels;
        let groups: Vec<_> = (0..self.groups(form)).map(|g| g * channels).collect();
        let (inputs, filters) = (groups.len() * channels, self.config.filters);
        let [rows, columns] = shape;
        let tensor = self.tensor(&format!("{name}.weight"), &[rows, columns, inputs, halves * filters]);
        let mut taps = Vec::new();
        for i in 0..rows {
            for j in 0..columns {
                taps.push(Tap {
                    source,
                    form,
                    row: corner[0] + (i * dilation) as isize,
                    column: corner[1] + (j * dilation) as isize,
                    channels,
                    tensor: tensor.clone(),
                    groups: groups.clone(),
                    halves: (0..halves).map(|h| Some(([i, j], h * filters))).collect(),
                    ones_bias: None,
                });
            }
        }
        taps
    }

    /// `nin(φ(aux))` of the concatenated `aux`, a tap for each of them.
    fn skip(&mut self, name: &str, aux: &[usize]) -> Vec<Tap> {
        let (filters, count) = (self.config.filters, self.groups(Form::Phi));
        let inputs = count * aux.len() * filters;
        let tensor = self.tensor(&format!("{name}.weight"), &[inputs, filters]);
        let tap = |(nth, &source): (usize, &usize)| Tap {
            source,
            form: Form::Phi,
            row: 0,
            column: 0,
            channels: filters,
            tensor: tensor.clone(),
            // concat_elu([p, q]) = elu([p, q, −p, −q])
            groups: (0..count).map(|g| (g * aux.len() + nth) * filters).collect(),
            halves: vec![Some(([0, 0], 0))],
            ones_bias: None,
        };
        aux.iter().enumerate().map(tap).collect()
    }

    fn groups(&self, form: Form) -> usize {
        if form == Form::Phi { self.config.nonlinearity.growth() } else { 1 }
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> String {
        self.tensors.insert(name.to_owned(), shape.to_vec());
        name.to_owned()
    }

    fn bias_tensor(&mut self, name: &str, halves: usize) -> String {
        self.tensor(&format!("{name}.bias"), &[halves * self.config.filters])
    }

    fn node(&mut self, name: &str, stream: Stream, level: usize, channels: usize) -> usize {
        self.nodes.push(Node {
            name: name.to_owned(),
            stream,
            level,
            width: self.config.width >> level,
            channels,
            rows: 1,
            left: 0,
            right: 0,
            offsets: [None; 3],
            record: 0,
            made_every: 0,
        });
        self.nodes.len() - 1
    }

    fn layer(&self, kind: Kind, stream: Stream, name: &str, level: usize, taps: Vec<Tap>) -> Layer {
        Layer {
            name: name.to_owned(),
            kind,
            stream,
            level,
            grid: level,
            row_parity: None,
            taps,
            early: 0,
            channels: self.config.filters,
            halves: 1,
            residual: None,
            target: 0,
            run_every: 0,
            biases: Vec::new(),
            class: None,
        }
    }

    fn push(&mut self, layer: Layer) -> usize {
        self.push_into(None, layer)
    }

    /// Adds a layer that makes `target`, or a node of its own, and tells its sources what it reads.
    fn push_into(&mut self, target: Option<usize>, mut layer: Layer) -> usize {
        let target =
            target.unwrap_or_else(|| self.node(&layer.name, layer.stream, layer.level, layer.channels));
        for tap in &layer.taps {
            let node = &mut self.nodes[tap.source];
            node.offsets[tap.form as usize] = Some(0);
            node.rows = node.rows.max(1 + tap.row.unsigned_abs());
            node.left = node.left.max((-tap.column).max(0) as usize);
            node.right = node.right.max(tap.column.max(0) as usize);
        }
        if let Some(residual) = layer.residual {
            self.nodes[residual].offsets[Form::Raw as usize] = Some(0);
        }
        // Whole rows are known of the vertical stream, of all rows above, and of a coarser row that is
        // read once more by the odd row below it.
        let is_early = |tap: &Tap| {
            self.nodes[tap.source].stream == Stream::Vertical || tap.row < 0 || layer.row_parity == Some(1)
        };
        let (early, late): (Vec<_>, Vec<_>) = layer.taps.into_iter().partition(is_early);
        layer.early = early.len();
        layer.taps = [early, late].concat();
        debug_assert!(layer.taps.len() <= MAX_TAPS);
        layer.target = target;
        self.layers.push(layer);
        target
    }

    /// Lays out the records, now that all readers are known, and derives the schedule.
    fn finish(&mut self) {
        let growth = self.config.nonlinearity.growth();
        for node in &mut self.nodes {
            let depths = [1, growth, 1].map(|groups| groups * padded(node.channels));
            for (offset, depth) in node.offsets.iter_mut().zip(depths) {
                if let Some(offset) = offset {
                    *offset = node.record;
                    node.record += depth;
                }
            }
        }
        let every = schedule::periods(&schedule::first_steps(
            &self.edges(|layer, k| Some(layer.taps[k].row)),
            &self.canvas(),
            |row| row + 1,
        ));
        for (node, every) in self.nodes.iter_mut().zip(&every) {
            node.made_every = *every;
        }
        for layer in &mut self.layers {
            layer.run_every = every[layer.target];
        }
    }

    /// What every node reads along one axis, for the schedule; `offset` of a layer's k-th tap.
    pub(super) fn edges(&self, offset: impl Fn(&Layer, usize) -> Option<isize>) -> Vec<Vec<Edge>> {
        let mut edges = vec![Vec::new(); self.nodes.len()];
        for layer in &self.layers {
            for (k, tap) in layer.taps.iter().enumerate() {
                let rate = if layer.grid > layer.level {
                    Rate::Half
                } else if layer.scale(&self.nodes[tap.source]) == 2 {
                    Rate::Double
                } else {
                    Rate::Same
                };
                if let Some(offset) = offset(layer, k) {
                    edges[layer.target].push(Edge { from: tap.source, rate, offset });
                }
            }
        }
        edges
    }

    /// Nodes along an axis of a canvas large enough to show every period.
    pub(super) fn canvas(&self) -> Vec<usize> {
        let length = 4 * self.config.size_multiple();
        self.nodes.iter().map(|node| length >> node.level).collect()
    }
}
