//! A dispatch: what it does, with which kernel, on how many workgroups; and what its plan must know of the device.

use super::shaders::{Epilogue, Kernel, Reduction, Shape, Variant};
use super::speed::Speed;
use crate::engine::work::Terms;
use crate::model::Precision;

/// What a plan must know of a device and of how it is used.
#[derive(Clone, Copy, Debug)]
pub struct DeviceFacts {
    /// Bytes of the largest buffer.
    pub buffer: u64,
    /// How many arenas there can be.
    pub arenas: usize,
    /// Workgroups of a dispatch along an axis, at most.
    pub workgroups: u32,
    /// Turns of all its loops that an invocation can take before its driver ends them.
    pub turns: u64,
    /// How partial sums are brought together.
    pub reduction: Reduction,
    /// How the weights of most layers are stored.
    pub precision: Precision,
    /// How much it does at once.
    pub speed: Speed,
    /// Whether a workgroup has images to itself, where that is possible; if nothing is said, where it is faster.
    pub chain: Option<bool>,
    /// Whether kernels whose invocations hand values to each other mark the arenas as coherent.
    pub coherent: bool,
}

impl DeviceFacts {
    /// What every WebGPU device promises, with coherent buffers, which WebGPU lacks and all interfaces have.
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

/// What a dispatch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A part of a layer, for a whole row or for one pixel.
    Conv {
        /// Index of the layer.
        layer: usize,
        /// Which terms.
        terms: Terms,
        /// Whether it is for a whole row.
        whole_row: bool,
        /// How it is shared out.
        shape: Shape,
        /// What is done with the sums.
        epilogue: Epilogue,
    },
    /// Output, drawing, and the next pixel's input.
    Sample,
    /// All that a pixel takes, for some pixels of a row.
    Chain {
        /// Images of a workgroup.
        images: u32,
    },
    /// Known pixels of a row go into the image's ring.
    ShowRow,
    /// How likely the pixels of a row are.
    Likelihood,
}

/// One dispatch, the same at every step.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// What it does.
    pub operation: Operation,
    /// The kernel with its constants.
    pub variant: Variant,
    /// Workgroups along both axes.
    pub workgroups: [u32; 2],
    /// What it reads, weights and additions aside.
    pub reads: Vec<Place>,
    /// What it writes.
    pub writes: Vec<Place>,
    /// Multiplications with additions in products, padding included.
    pub macs: u64,
    /// Those of the next pixel's input layer, for all pixels of a row but the last.
    pub macs_of_next: u64,
    /// It runs on rows `run_every · i + first_row`, and for a pixel on columns `run_every · i`.
    pub run_every: usize,
    /// See [`Self::run_every`].
    pub first_row: usize,
    /// Level of what it makes.
    pub level: usize,
}

impl Dispatch {
    /// Whether it runs on a row of the image.
    pub fn runs_on_row(&self, row: usize) -> bool {
        row % self.run_every == self.first_row
    }
}

/// What a dispatch reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        Kernel::Chain { .. } => "chain",
        Kernel::ShowRow => "show_row",
        Kernel::Likelihood => "likelihood",
    }
}
