//! A dispatch: what it does, with which kernel, on how many workgroups; and what its plan must know of the device.

use super::shaders::{Epilogue, Kernel, Reduction, Shape, Team, Variant};
use super::speed::Speed;
use crate::engine::work::Terms;
use crate::graph::network::Layer;
use crate::model::Precision;

/// The facts about a device, and about its use, from which a plan is made.
#[derive(Clone, Copy, Debug)]
pub struct DeviceFacts {
    /// Bytes of the largest buffer.
    pub buffer: u64,
    /// The number of arenas, at most.
    pub arenas: usize,
    /// Workgroups of a dispatch along an axis, at most.
    pub workgroups: u32,
    /// Turns of all its loops that an invocation can take before its driver ends them.
    pub turns: u64,
    /// The way in which partial sums are reduced.
    pub reduction: Reduction,
    /// The precision in which the weights of most layers are stored.
    pub precision: Precision,
    /// Its assumed speed.
    pub speed: Speed,
    /// True if a workgroup has images to itself, where that is possible; `None` chooses the faster way.
    pub chain: Option<bool>,
    /// True if kernels whose invocations hand values to each other mark the arenas as coherent.
    pub coherent: bool,
}

impl DeviceFacts {
    /// The least that any WebGPU device promises, with coherent buffers, which WebGPU lacks and all interfaces have.
    pub const SMALLEST: Self = Self {
        buffer: 128 << 20,
        arenas: 4,
        workgroups: 65535,
        turns: u64::MAX,
        reduction: Reduction::Memory,
        precision: Precision::F32,
        speed: Speed::DISCRETE,
        chain: None,
        coherent: true,
    };
}

/// The operation of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A part of a layer, for a whole row or for one pixel.
    Conv {
        /// Index of the layer.
        layer: usize,
        /// The terms that it adds up.
        terms: Terms,
        /// True if it runs on a whole row.
        whole_row: bool,
        /// Its division into workgroups.
        shape: Shape,
        /// The epilogue: the use of the sums.
        epilogue: Epilogue,
    },
    /// Output, drawing, and the next pixel's input, of a PixelCNN++.
    Sample,
    /// The end of a step of a pixel of any other graph.
    Draw {
        /// The step.
        step: usize,
    },
    /// All that a pixel takes, for some pixels of a row.
    Chain {
        /// The team of a workgroup.
        team: Team,
    },
    /// Known pixels of a row go into the image's ring.
    ShowRow,
    /// The log-likelihood of the pixels of a row.
    Likelihood,
}

/// One dispatch, the same at every step.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Its operation.
    pub operation: Operation,
    /// The kernel with its constants.
    pub variant: Variant,
    /// Workgroups along both axes.
    pub workgroups: [u32; 2],
    /// The places that it reads, weights and additions aside.
    pub reads: Vec<Place>,
    /// The places that it writes.
    pub writes: Vec<Place>,
    /// Multiplications with additions in products, padding included.
    pub macs: u64,
    /// Those of the next pixel's input layer, for all pixels of a row but the last.
    pub macs_of_next: u64,
    /// The pixels at which it runs.
    pub when: When,
    /// Level of what it makes.
    pub level: usize,
}

/// The rows and columns of the image at which a dispatch runs.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// Rows of the target in the image are `run_every · i + first_row`, and its columns for a pixel
    /// `run_every · i + first_column`.
    pub run_every: usize,
    /// See [`Self::run_every`].
    pub first_row: usize,
    /// See [`Self::run_every`].
    pub first_column: usize,
    /// A row is made with the row of the image that many rows below it.
    pub lag: isize,
    /// A pixel is made that many pixels after its own.
    pub late: isize,
    /// The step of a pixel to which it belongs.
    pub step: usize,
}

impl When {
    /// On all rows and columns.
    pub const ALWAYS: Self = Self { run_every: 1, first_row: 0, first_column: 0, lag: 0, late: 0, step: 0 };

    /// As a layer.
    pub fn of(layer: &Layer) -> Self {
        Self {
            run_every: layer.run_every,
            first_row: layer.row_parity.unwrap_or(0) << layer.level,
            first_column: layer.column_parity.unwrap_or(0) << layer.level,
            lag: layer.lag,
            late: layer.late,
            step: layer.step,
        }
    }

    /// The row of the image that is made on a row, of `height`.
    pub fn row(&self, row: isize, height: usize) -> Option<usize> {
        let made = usize::try_from(row - self.lag).ok().filter(|made| *made < height)?;
        (made % self.run_every == self.first_row).then_some(made)
    }

    /// The column of the image at which the grid has the position that runs with a pixel, of `width` in a row.
    pub fn column(&self, column: isize, width: usize) -> Option<usize> {
        let made = usize::try_from(column - self.late).ok().filter(|made| *made < width)?;
        let at = made.checked_sub(self.first_column)?;
        at.is_multiple_of(self.run_every).then_some(at)
    }
}

/// A place that a dispatch reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A node's ring.
    Node(usize),
    /// A layer's row context.
    Context(usize),
    /// The pixels.
    Pixels,
}

/// The kernel, for people.
pub fn kernel_name(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Tiled(..) => "conv_tiled",
        Kernel::Split(..) => "conv_split",
        Kernel::Sample { .. } => "sample",
        Kernel::Draw(_) => "draw",
        Kernel::Chain { .. } => "chain",
        Kernel::ShowRow(_) => "show_row",
        Kernel::Likelihood(_) => "likelihood",
    }
}
