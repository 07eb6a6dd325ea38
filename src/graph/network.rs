//! A network: a graph with its schedule, in the form that engines read.

use std::ops::{Range, RangeInclusive};

use super::schedule::When;
use super::table::Table;
use super::{Activation, Encoding, Form, IMAGE, LayerKind, Slice, Tensors};
use crate::head::Head;
use crate::model::Precision;

/// Channels of a node are padded with zeros to a multiple of this, so that engines can read vectors.
pub const CHANNEL_ALIGN: usize = 4;

/// `channels` rounded up to [`CHANNEL_ALIGN`].
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_ALIGN)
}

/// All layers in the order in which they run, and the nodes between them.
#[derive(Clone, Debug)]
pub struct Network {
    /// Image height in pixels.
    pub height: usize,
    /// Image width in pixels.
    pub width: usize,
    /// The distribution of a pixel.
    pub head: Head,
    /// The node that holds its parameters.
    pub head_node: usize,
    /// Encodings of the image, its forms.
    pub encodings: Vec<Encoding>,
    /// The values that layers compute and read; the first is the image.
    pub nodes: Vec<Node>,
    /// The layers.
    pub layers: Vec<Layer>,
    /// Divisor of height and width: the number of rows after which the pattern of work repeats.
    pub size_multiple: usize,
}

/// A value at every pixel of a level, kept in a ring buffer.
///
/// Engines keep `rows` rows of it as a ring, laid out `[rows, left + width + right, batch, record]`.
#[derive(Clone, Debug)]
pub struct Node {
    /// The layer that computes it, or `image`.
    pub name: String,
    /// Time at which its values are computed.
    pub when: When,
    /// Resolution: `1/2^level` of the image.
    pub level: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Channels before any activation.
    pub channels: usize,
    /// Rows that readers look back, and this one; a power of two.
    pub rows: usize,
    /// Zero columns on the left.
    pub left: usize,
    /// Zero columns on the right.
    pub right: usize,
    /// The forms in which its value is stored. None for the image, whose forms are encodings.
    pub forms: Vec<Form>,
    /// Offset of each form, or encoding, within a pixel's record.
    pub offsets: Vec<usize>,
    /// Floats of one pixel of one image, all forms together.
    pub record: usize,
    /// New values appear at steps that are multiples of this: `cache_every` of its readers.
    pub made_every: usize,
}

impl Node {
    /// The form that a trace shows: the raw value, or else the first that is stored.
    pub fn shown(&self) -> usize {
        let plain = |form: &Form| *form == Form::of(Activation::Raw);
        self.forms.iter().position(plain).unwrap_or(0)
    }

    /// Columns of a row, with padding.
    pub fn columns(&self) -> usize {
        self.left + self.width + self.right
    }

    /// Floats that the ring takes for a batch.
    pub fn len(&self, batch: usize) -> usize {
        [self.columns(), batch, self.record].into_iter().fold(self.rows, usize::saturating_mul)
    }

    /// True if a form scales or shifts the value before its activation.
    pub fn is_modulated(&self) -> bool {
        self.forms.iter().any(|form| form.scale.is_some() || form.shift.is_some())
    }

    /// The last row computed when a row of the image begins, or while it is drawn; none before the first.
    pub fn newest(&self, row: isize) -> Option<usize> {
        usize::try_from((row - self.when.lag()) >> self.level).ok()
    }
}

/// One term of a layer's sum: numbers of a node times a part of the layer's matrix.
///
/// The layer's position `p` reads the source's position `scale · p + offset`, rows and columns alike.
#[derive(Clone, Debug)]
pub struct Tap {
    /// Index of the node that is read.
    pub source: usize,
    /// Index of the form.
    pub form: usize,
    /// Offset of the row.
    pub row: isize,
    /// Offset of the column.
    pub column: isize,
    /// Rows and columns of the source to one of the layer's grid.
    pub scale: usize,
    /// Offset of the numbers within the form.
    pub first: usize,
    /// Their count, with padding: rows of the layer's matrix.
    pub depth: usize,
    /// Numbers of a group that are read, without padding.
    pub(super) channels: usize,
    pub(super) slice: Slice,
    /// For each half of the layer's outputs, the kernel position and the first output of the weight.
    pub(super) halves: Vec<Option<([usize; 2], usize)>>,
}

/// Channels that taps read together, with padding: rows of a weight matrix.
pub fn depth(taps: &[Tap]) -> usize {
    taps.iter().map(|tap| tap.depth).sum()
}

/// Numbers of a node that are added to a layer's sum unchanged.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Index of the node that is read.
    pub source: usize,
    /// Index of the form.
    pub form: usize,
    /// See [`Tap::row`].
    pub row: isize,
    /// See [`Tap::column`].
    pub column: isize,
    /// See [`Tap::scale`].
    pub scale: usize,
    /// Offset of the numbers within the form.
    pub first: usize,
    /// Their count.
    pub count: usize,
    /// The half to whose outputs they are added.
    pub half: usize,
    /// The first of those, within the half.
    pub output: usize,
    /// True if they are known when the row begins.
    pub is_early: bool,
}

/// A position of a node that a layer reads: position `p` of its grid reads position `scale · p + offset`.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Index of the node.
    pub source: usize,
    /// Index of the form.
    pub form: usize,
    /// Offset of the numbers within the form.
    pub first: usize,
    /// Offset of the row.
    pub row: isize,
    /// Offset of the column.
    pub column: isize,
    /// Rows and columns of the node to one of the grid.
    pub scale: usize,
}

/// A sum over taps with its epilogue, for the positions of a grid.
///
/// The results are the sum, or `f(a) · g(b)` of its halves where there is a gate, plus the residual; then the target stores
/// its forms. Position `p` makes column `p` of the target where the grid is the target's level. On a grid one level
/// coarser it makes column `2p + parity`, or where there is no parity columns `2p` and `2p + 1`, a half each.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its place in the model, for people.
    pub name: String,
    /// Its kind, for people.
    pub kind: LayerKind,
    /// The node it makes.
    pub target: usize,
    /// Level of its target.
    pub level: usize,
    /// Level on which its positions count.
    pub grid: usize,
    /// Remainder by 2 of the target's rows that it computes, if not all.
    pub row_parity: Option<usize>,
    /// Remainder by 2 of the target's columns that it computes, if not all.
    pub column_parity: Option<usize>,
    /// Its products; the `early` ones come first.
    pub taps: Vec<Tap>,
    /// Number of taps known for a whole row when the row begins; they come first.
    pub early: usize,
    /// Numbers added without a product.
    pub selections: Vec<Selection>,
    /// Output channels of one half.
    pub channels: usize,
    /// The channel of the target that the first of them computes.
    pub first_channel: usize,
    /// Halves of the output: `[a, b]` of a gate, two columns of a transposed convolution, or 1.
    pub halves: usize,
    /// `[f, g]`; without, each half is a column of the target.
    pub gate: Option<[Activation; 2]>,
    /// The node and the form that are added to the result.
    pub residual: Option<(usize, usize)>,
    /// The node that keeps the sum.
    pub pre: Option<usize>,
    /// Runs at steps (rows, and pixels within a row) that are multiples of this.
    pub run_every: usize,
    /// True if the residual is known for a whole row when the row begins, or there is none.
    pub residual_is_early: bool,
    /// A row is computed with the row of the image this many rows below it; see [`When`].
    pub lag: isize,
    /// Pixels by which it runs after the pixel whose value it computes; negative if before.
    pub late: isize,
    /// The step within a pixel at which it runs.
    pub step: usize,
    /// Tables added to its sum: biases and classes.
    pub(super) additions: Vec<String>,
    /// Outputs of a half in the model's tensors.
    pub(super) of_half: usize,
    /// True if its weights may be stored in 16 bits.
    pub(super) may_be_halved: bool,
}

impl Layer {
    /// Outputs at a position, with padding: columns of its matrix.
    pub fn outputs(&self) -> usize {
        self.halves * padded(self.channels)
    }

    /// All reads: taps, selections and residual, in this order.
    pub fn reads(&self) -> impl Iterator<Item = Read> + '_ {
        let taps = self.taps.iter().map(|&Tap { source, form, first, row, column, scale, .. }| Read {
            source,
            form,
            first,
            row,
            column,
            scale,
        });
        let selections =
            self.selections.iter().map(|&Selection { source, form, first, row, column, scale, .. }| Read {
                source,
                form,
                first,
                row,
                column,
                scale,
            });
        let parity = |parity: Option<usize>| parity.unwrap_or(0) as isize;
        let residual = self.residual.map(|(source, form)| Read {
            source,
            form,
            first: self.first_channel,
            row: parity(self.row_parity),
            column: parity(self.column_parity),
            scale: 1 << (self.grid - self.level),
        });
        taps.chain(selections).chain(residual)
    }

    /// True if all its inputs are known when a row begins, so that it can compute the whole row.
    pub fn is_row_work(&self) -> bool {
        self.early == self.taps.len()
            && self.residual_is_early
            && self.selections.iter().all(|selection| selection.is_early)
    }

    /// True if part of its sum, the row context, is known when a row begins.
    pub fn has_context(&self) -> bool {
        let has_early = self.early > 0 || self.selections.iter().any(|selection| selection.is_early);
        has_early && !self.is_row_work()
    }

    /// True if it has work when this row of the image begins, or on it.
    ///
    /// The odd rows of a transposed convolution could be computed along with the even ones. They wait until
    /// they are read, when they are known as a whole.
    pub fn runs_on_row(&self, row: isize) -> bool {
        let row = usize::try_from(row - self.lag);
        // A power of two.
        row.is_ok_and(|row| row & (self.run_every - 1) == self.row_parity.unwrap_or(0) << self.level)
    }

    /// The positions of its grid that lie in the image columns `columns`.
    pub fn columns(&self, columns: Range<usize>) -> Range<usize> {
        let first = self.column_parity.unwrap_or(0) << self.level;
        let position = |column: usize| (column.saturating_sub(first) + self.run_every - 1) >> self.grid;
        position(columns.start)..position(columns.end)
    }

    /// The column of the target that a half of a position computes.
    pub fn target_column(&self, position: usize, half: usize) -> usize {
        (position << (self.grid - self.level)) + self.column_parity.unwrap_or(0) + half
    }

    /// Its weights as one matrix `[Σ depth, outputs]`, taps in order, zeros in the padding.
    pub fn matrix(&self, tensors: &Tensors) -> Vec<f32> {
        let outputs = self.outputs();
        let mut matrix = vec![0.0; depth(&self.taps) * outputs];
        let mut first_row = 0;
        for tap in &self.taps {
            let weight = &tensors[&tap.slice.tensor];
            let [.., width, inputs, columns] = [&[1, 1], &weight.shape[..]].concat()[..] else {
                unreachable!("weights have two axes or four")
            };
            for (half, place) in tap.halves.iter().enumerate() {
                let Some(([i, j], first_output)) = *place else { continue };
                for (group, first_input) in tap.slice.groups.iter().enumerate() {
                    for k in 0..tap.channels {
                        let from = ((i * width + j) * inputs + first_input + k) * columns + first_output;
                        let row = first_row + group * padded(tap.channels) + k;
                        let to = row * outputs + half * padded(self.channels);
                        matrix[to..to + self.channels]
                            .copy_from_slice(&weight.data[from..from + self.channels]);
                    }
                }
            }
            if let Some(bias) = &tap.slice.bias {
                let ones = (first_row + tap.channels - 1) * outputs;
                for (w, b) in matrix[ones..].iter_mut().zip(&tensors[bias].data) {
                    *w += b;
                }
            }
            first_row += tap.depth;
        }
        matrix
    }

    /// All tables added to its sum, `[…, outputs]` with zeros in the padding: biases, a class's vector or
    /// map. As few tables as possible without repeating numbers.
    pub fn additions(&self, tensors: &Tensors) -> Vec<Table> {
        let tables = self.additions.iter().map(|name| Table::of(&tensors[name])).collect();
        let sums = Table::sums(tables, self.halves * self.of_half);
        let range = self.first_channel..self.first_channel + self.channels;
        let own = |table: Table| match self.channels == self.of_half {
            true => table,
            false => table.channels(self.halves, &range),
        };
        sums.into_iter().map(|table| own(table).padded(self.halves, padded(self.channels))).collect()
    }

    /// Upper bound on the number of [`Self::additions`].
    pub fn tables(&self) -> usize {
        self.additions.len()
    }

    /// The precision of its weights in a model of that precision. Layers that read the image or compute
    /// parameters are small, and the former have biases among their weights: they stay in 32 bits.
    pub fn precision(&self, of_model: Precision) -> Precision {
        if self.may_be_halved { of_model } else { Precision::F32 }
    }

    /// The tensors of its products.
    pub fn weights(&self) -> impl Iterator<Item = &str> {
        self.taps.iter().map(|tap| &tap.slice.tensor[..])
    }
}

impl Network {
    /// Multiplications with additions per image, padding included.
    pub fn macs_per_image(&self) -> usize {
        let macs = |layer: &Layer| {
            let positions = (self.width / layer.run_every) * (self.height / layer.run_every);
            depth(&layer.taps) * layer.outputs() * positions
        };
        self.layers.iter().map(macs).sum()
    }

    /// Sub-pixels of an image.
    pub fn dimensions(&self) -> usize {
        self.height * self.width * self.head.channels()
    }

    /// Shape of a form without padding: number of groups, numbers per group.
    pub fn form_shape(&self, node: usize, form: usize) -> [usize; 2] {
        match node {
            IMAGE => [1, self.encodings[form].len(self.head.channels())],
            _ => [self.nodes[node].forms[form].activation.groups(), self.nodes[node].channels],
        }
    }

    /// One row of one image out of a node's ring, without padding, `[width, channels]` in the form that is
    /// [`Node::shown`].
    pub fn row(&self, index: usize, ring: &[f32], row: usize, batch: usize, image: usize) -> Vec<f32> {
        let node = &self.nodes[index];
        let form = node.shown();
        let [groups, channels] = self.form_shape(index, form);
        let first = (row % node.rows) * node.columns() + node.left;
        let mut values = Vec::with_capacity(node.width * groups * channels);
        for column in 0..node.width {
            let record = ((first + column) * batch + image) * node.record + node.offsets[form];
            for group in 0..groups {
                let at = record + group * padded(channels);
                values.extend_from_slice(&ring[at..at + channels]);
            }
        }
        values
    }

    /// Rows by which the slowest node lags behind the image.
    pub fn largest_lag(&self) -> usize {
        self.layers.iter().map(|layer| layer.lag.max(0) as usize).max().unwrap_or(0)
    }

    /// The rows that begin with a row of the image. Before the first row come rows outside the image, for
    /// nodes that are computed ahead of it.
    pub fn rows_begun_with(&self, row: usize) -> RangeInclusive<isize> {
        let ahead = self.layers.iter().map(|layer| layer.lag).min().unwrap_or(0).min(0);
        let row = row as isize;
        (if row == 0 { ahead } else { row })..=row
    }
}
