//! Devices by name, for front ends: the command line's `--device`, Python's `device=`. Notes about a choice
//! are data, because each front end has its own words for flags.

use crate::model::Model;

use super::cpu::{CpuEngine, startable_threads};
use super::{Engine, EngineError};

#[cfg_attr(not(feature = "gpu"), path = "no_gpu.rs")]
pub mod gpu;

use gpu::{Adapter, ChoiceError, Pick};

/// Total time of a kernel's dispatches at a level, either of those that begin rows or of those of pixels.
pub struct KernelTotal {
    /// The kernel's name.
    pub kernel: &'static str,
    /// True if they begin rows.
    pub is_row_work: bool,
    /// Resolution: 1/2^level of the image's size.
    pub level: usize,
    /// Their number.
    pub dispatches: u64,
    /// Their total time.
    pub nanoseconds: f64,
}

/// A note about a choice.
#[derive(Debug)]
pub enum Notice {
    /// The device that one would expect.
    Expected {
        /// Name of the device.
        device: String,
        /// The reason, in words.
        reason: String,
    },
    /// The CPU engine runs where a GPU might be expected.
    Cpu {
        /// The reason, in words.
        reason: String,
        /// True if there is a GPU that the user could name.
        leaves_gpu: bool,
    },
    /// A device is tried after one that cannot be opened.
    Next {
        /// Name of the next one.
        next: &'static str,
        /// The error of the one before.
        error: EngineError,
    },
    /// A warning, in words.
    Warning(String),
}

impl Notice {
    /// The note in words; `gpu` is the user's way to ask for a GPU, such as `--device gpu`.
    pub fn text(&self, gpu: &str) -> String {
        match self {
            Self::Expected { device, reason } => format!("using {device}: {reason}"),
            Self::Cpu { reason, leaves_gpu: false } => format!("using the CPU engine: {reason}"),
            Self::Cpu { reason, leaves_gpu: true } => {
                format!("using the CPU engine: {reason}; {gpu} takes that")
            }
            Self::Next { next, error } => format!("using {next}: {error}"),
            Self::Warning(text) => text.clone(),
        }
    }
}

/// Receives notes.
pub type Say<'a> = dyn FnMut(Notice) + 'a;

/// Devices to try, one of which is used.
pub struct Devices {
    /// The first is tried first; the CPU engine if there is none.
    adapters: Vec<Adapter>,
    /// True if the next device is tried if one cannot be opened.
    is_auto: bool,
    threads: usize,
}

impl Devices {
    /// Resolves `device` for this many images of a model: `auto`, `cpu`, `gpu`, or the index or a part of
    /// the name of an adapter. `threads` are those of the CPU engine, and `all_threads` those that it could
    /// have.
    ///
    /// # Errors
    /// There is no such device.
    pub fn choose(
        device: &str,
        model: &Model,
        images: usize,
        [threads, all_threads]: [usize; 2],
        say: &mut Say,
    ) -> Result<Self, ChoiceError> {
        let is_auto = device == "auto";
        let (adapters, pick) = match is_auto {
            true => gpu::choose_for(model, images, all_threads, say)?,
            false => gpu::choose(device)?,
        };
        let Pick { reason, is_surprise, leaves_gpu, .. } = pick;
        say(match &adapters[..] {
            [] if is_surprise => Notice::Cpu { reason, leaves_gpu },
            [] => Notice::Expected { device: "the CPU engine".to_owned(), reason },
            [..] if is_surprise => Notice::Warning(reason),
            [first, ..] => Notice::Expected { device: gpu::name(first), reason },
        });
        Ok(Self { adapters, is_auto, threads })
    }

    /// All hardware GPUs, as separate devices.
    ///
    /// # Errors
    /// There is none.
    pub fn all_gpus(threads: usize, say: &mut Say) -> Result<Vec<Self>, ChoiceError> {
        let one = |adapter| Self { adapters: vec![adapter], is_auto: false, threads };
        Ok(gpu::all(say)?.into_iter().map(one).collect())
    }

    /// The GPU that is used, if any.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapters.first()
    }

    /// The `--device` argument for the same device.
    pub fn argument(&self) -> String {
        self.adapter().map_or("cpu".to_owned(), gpu::argument)
    }

    /// An engine on the first device that can be opened.
    ///
    /// # Errors
    /// It cannot be opened, or not run the model.
    pub fn start(
        &mut self,
        model: &Model,
        width: usize,
        height: usize,
        say: &mut Say,
    ) -> Result<Box<dyn Engine>, EngineError> {
        while let Some(adapter) = self.adapters.first() {
            match gpu::start(model, width, height, adapter) {
                Ok(engine) => return Ok(engine),
                Err(error) if self.is_auto => {
                    self.adapters.remove(0);
                    let next = if self.adapters.is_empty() { "the CPU engine" } else { "the next device" };
                    say(Notice::Next { next, error });
                }
                Err(error) => return Err(error),
            }
        }
        let threads = startable_threads(self.threads);
        if threads < self.threads {
            say(Notice::Warning(format!("{threads} of {} threads can be started", self.threads)));
        }
        Ok(Box::new(CpuEngine::new(model, width, height, threads)))
    }
}

/// Number of threads that the machine runs at once.
pub fn machine_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
