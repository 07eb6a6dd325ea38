//! The assumed speed of devices. It decides on kernels, on the length of submissions, and on whether a GPU is worth its
//! start-up. Only the order of magnitude counts; no hardware has been measured.

use super::adapter::DeviceType;
use super::shaders::{MOST_THREADS, THREADS, Team};

/// A submission should take no longer, in seconds: drivers reset a device that does not answer for some, Windows after 2.
pub const SUBMISSION: f64 = 0.5;

/// Products a second of the slowest device, a software driver on two cores: until a row has been timed, and for a chain,
/// whose dispatch cannot be split.
pub const LEAST_RATE: f64 = 1e9;

/// Products a second of a thread of the CPU engine, about: what AVX2 gives (`docs/performance.md`).
pub const CPU_RATE: f64 = 2.5e10;

/// Weights of a pixel that a chain may read, at most: every workgroup reads them all, from a cache that they must fit
/// into, 2 MB of it. Discrete GPUs have had 4 MB and more since 2016.
const MOST_IN_CHAIN: f64 = 500_000.0;

/// The assumed speed of a kind of device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Workgroups that it should be given at once, so that no part of it is idle.
    pub workgroups: u32,
    /// Products a second of one workgroup.
    pub macs_per_second: f64,
    /// Seconds from a dispatch to one that waits for it.
    pub dispatch: f64,
    /// Seconds from a layer of a chain to the next, products aside: two barriers, and a few reads that wait for each other.
    pub layer: f64,
    /// Seconds until the first dispatch: opening the device, and compiling its kernels where no cache has them.
    pub start: f64,
    /// True if an invocation is a lane of a wide processor, which is given little; false for a driver in software.
    pub is_parallel: bool,
}

impl Speed {
    /// Discrete GPUs have 20 to 144 processors, each of which can do with several workgroups. A layer is three reads of
    /// 300 ns from the second cache. The 26 kernels of the published network take Mesa's compiler for AMD cards 0.6 s on one
    /// core, and others up to 3 s; they are compiled several at a time. Assumptions.
    pub const DISCRETE: Self = Self {
        workgroups: 128,
        macs_per_second: 2e10,
        dispatch: 3e-6,
        layer: 1e-6,
        start: 0.7,
        is_parallel: true,
    };
    /// A part of one, through a hypervisor. An assumption.
    pub const VIRTUAL: Self = Self { dispatch: 6e-6, ..Self::DISCRETE };
    /// Integrated ones have 6 to 40 processors, and slower clocks. An assumption.
    pub const INTEGRATED: Self =
        Self { workgroups: 32, macs_per_second: 1e10, dispatch: 6e-6, layer: 2e-6, ..Self::DISCRETE };
    /// A software driver has a thread a core; measured on two with Mesa's.
    pub const SOFTWARE: Self = Self {
        workgroups: 2,
        macs_per_second: LEAST_RATE,
        dispatch: 4e-5,
        layer: 1e-6,
        start: 2.0,
        is_parallel: false,
    };

    /// By the type that an adapter says it is of.
    pub fn of(device_type: DeviceType) -> Self {
        match device_type {
            DeviceType::DiscreteGpu => Self::DISCRETE,
            DeviceType::VirtualGpu => Self::VIRTUAL,
            DeviceType::IntegratedGpu | DeviceType::Other => Self::INTEGRATED,
            DeviceType::Cpu => Self::SOFTWARE,
        }
    }

    /// Seconds for `macs` products in `workgroups` workgroups.
    pub fn seconds(&self, macs: f64, workgroups: u32) -> f64 {
        macs / (f64::from(workgroups.clamp(1, self.workgroups)) * self.macs_per_second)
    }

    /// The invocations that draw the images of a chain's workgroup, and the number of images, for a batch. More images
    /// have fewer invocations because workgroup memory holds the sums of both.
    pub fn team(&self, batch: usize) -> Team {
        let images: u32 = match batch.div_ceil(self.workgroups as usize) {
            1 => 1,
            2 => 2,
            3 | 4 => 4,
            // A driver in software reads a number for each lane by itself: it needs work for every number read.
            _ if !self.is_parallel => 8,
            _ => 4,
        };
        match self.is_parallel {
            true => Team { threads: MOST_THREADS / images.div_ceil(2), images, quads: 1, adders: 4 },
            false => Team { threads: 32, images, quads: 2, adders: 32 },
        }
    }

    /// The team that ends a pixel, outside a chain.
    pub fn team_of_pixel(&self) -> Team {
        Team::of_pixel(if self.is_parallel { MOST_THREADS } else { THREADS })
    }

    /// True if a workgroup that has an image to itself draws it sooner than all workgroups together, layer after layer:
    /// the processors that it leaves idle, and its own layers, cost less than the waiting. A pixel of an image takes
    /// `macs` products in `dispatches` that wait for each other.
    pub fn favours_chain(&self, macs: f64, dispatches: f64, batch: usize) -> bool {
        if macs > MOST_IN_CHAIN {
            return false;
        }
        let workgroups = f64::from(self.workgroups);
        let in_turn = (batch as f64 / workgroups).ceil();
        let together = batch as f64 / workgroups;
        macs / self.macs_per_second * (in_turn - together) < dispatches * (self.dispatch - self.layer)
    }
}
