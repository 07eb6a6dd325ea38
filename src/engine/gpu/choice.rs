//! Which kernel does what: by the shape of a product and by how much a device does at once.

use super::adapter::DeviceType;
use super::shaders::{MOST_THREADS, Shape, Team};

/// What a kind of device is taken to be capable of: for which kernel does what, and for whether a GPU is worth it at all.
/// Only the order of magnitude counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Workgroups that it should be given at once, so that no part of it is idle.
    pub workgroups: u32,
    /// Products a second of one workgroup.
    pub macs_per_second: f64,
    /// Seconds from a dispatch to one that waits for it.
    pub dispatch: f64,
    /// Whether an invocation is a lane of a processor with many, to be given little, or a software driver's.
    pub is_parallel: bool,
}

impl Speed {
    /// Discrete GPUs have 20 to 144 processors, each of which can do with several workgroups. An assumption.
    pub const DISCRETE: Self =
        Self { workgroups: 128, macs_per_second: 2e10, dispatch: 3e-6, is_parallel: true };
    /// A part of one, through a hypervisor. An assumption.
    pub const VIRTUAL: Self = Self { dispatch: 6e-6, ..Self::DISCRETE };
    /// Integrated ones have 6 to 40. An assumption.
    pub const INTEGRATED: Self =
        Self { workgroups: 32, macs_per_second: 1e10, dispatch: 6e-6, is_parallel: true };
    /// A software driver has a thread a core; measured on two.
    pub const SOFTWARE: Self =
        Self { workgroups: 2, macs_per_second: 1e9, dispatch: 4e-5, is_parallel: false };

    /// By the type that an adapter says it is of.
    pub fn of(device_type: DeviceType) -> Self {
        match device_type {
            DeviceType::DiscreteGpu => Self::DISCRETE,
            DeviceType::VirtualGpu => Self::VIRTUAL,
            DeviceType::IntegratedGpu | DeviceType::Other => Self::INTEGRATED,
            DeviceType::Cpu => Self::SOFTWARE,
        }
    }

    /// Seconds that so many products take in so many dispatches, each of which waits for the one before.
    pub fn seconds(&self, macs: f64, dispatches: f64) -> f64 {
        macs / (f64::from(self.workgroups) * self.macs_per_second) + dispatches * self.dispatch
    }

    /// Who draws the images of a chain's workgroup, and how many those are for a batch. The more images, the fewer
    /// invocations: workgroup memory holds the sums of both.
    pub fn team(&self, batch: usize) -> Team {
        let images = match batch.div_ceil(self.workgroups as usize) {
            1 => 1,
            2 => 2,
            3 | 4 => 4,
            // A driver in software reads a number for each lane by itself: it needs work for every number read.
            _ if !self.is_parallel => 8,
            _ => 4,
        };
        match self.is_parallel {
            true => Team { threads: MOST_THREADS / images, images, quads: 1 },
            false => Team { threads: 32, images, quads: 2 },
        }
    }

    /// Whether a workgroup that has an image to itself draws it sooner than all of them together, one layer after the
    /// other: whether the processors that it leaves idle would have cost less than waiting for each other does.
    /// A pixel of an image takes `macs` products in `dispatches` that wait for each other.
    pub fn favours_chain(&self, macs: f64, dispatches: f64, batch: usize) -> bool {
        if macs > MOST_IN_CHAIN {
            return false;
        }
        let workgroups = f64::from(self.workgroups);
        let in_turn = (batch as f64 / workgroups).ceil();
        let together = batch as f64 / workgroups;
        macs / self.macs_per_second * (in_turn - together) < dispatches * self.dispatch
    }
}

/// Weights of a pixel that a chain may read, at most: every workgroup reads them all, from a cache that they must fit
/// into, 2 MB of it.
const MOST_IN_CHAIN: f64 = 500_000.0;

/// All shapes of a convolution, from the one that reads each number the fewest times to the one that makes the most
/// workgroups. None is narrower than two quads of outputs: 32 bytes of a row of weights, what memory gives at once.
pub const SHAPES: [Shape; 7] = [
    Shape::Tiled { groups: 8, parts: 1 },
    Shape::Tiled { groups: 4, parts: 2 },
    Shape::Tiled { groups: 2, parts: 4 },
    Shape::Split { quads: 4, rows: 4, splits: 16 },
    Shape::Split { quads: 4, rows: 2, splits: 16 },
    Shape::Split { quads: 4, rows: 1, splits: 16 },
    Shape::Split { quads: 2, rows: 1, splits: 32 },
];

/// The same for a software driver, which reads a number for each lane by itself and pays for every barrier: much work
/// for every number that is read, and no sum is shared.
pub const SHAPES_IN_SOFTWARE: [Shape; 4] = [
    Shape::Split { quads: 8, rows: 8, splits: 1 },
    Shape::Split { quads: 8, rows: 4, splits: 1 },
    Shape::Split { quads: 8, rows: 2, splits: 1 },
    Shape::Split { quads: 8, rows: 1, splits: 1 },
];

/// The first shape that gives a device enough workgroups, or else the one that gives the most; of those that are not
/// larger than the product, which has so many positions and quads of outputs.
pub fn choose(positions: u32, quads: u32, speed: Speed) -> Shape {
    let shapes = if speed.is_parallel { &SHAPES[..] } else { &SHAPES_IN_SOFTWARE };
    let workgroups = |shape: &Shape| shape.workgroups(positions, quads).iter().product::<u32>();
    let mut fitting = shapes.iter().copied().filter(|shape| shape.tile()[1] <= positions);
    let most = fitting.clone().max_by_key(workgroups).expect("one has a position");
    fitting.find(|shape| workgroups(shape) >= speed.workgroups).unwrap_or(most)
}
