//! The driver of all commands that work through images: engines on any number of devices take batches from one queue,
//! and results go to one place, in order where that is wanted.

use anyhow::{Result, ensure};

use crate::engine::devices::Devices;
use crate::engine::queue::{self, Worker};
use crate::engine::{EngineError, Room, trial};
use crate::model::Model;

use super::engine::tell;
use super::{even, heading, images, note, one_line, or_auto, say};

pub use crate::engine::queue::{Done, QueuedWork};

/// Images at once, as `--batch` takes them.
#[derive(Clone, Copy)]
pub enum Batch {
    Auto,
    Images(usize),
}

/// The number of images that are drawn at once.
#[derive(clap::Args)]
#[command(next_help_heading = heading::DEVICE)]
pub struct BatchArgs {
    /// Batch size; auto tries several and keeps the fastest
    ///
    /// [default: all images, as far as memory allows and it helps]
    #[arg(short, long, value_name = "N|auto", value_parser = parse_batch)]
    pub batch: Option<Batch>,
}

fn parse_batch(text: &str) -> Result<Batch, String> {
    match text {
        "auto" => Ok(Batch::Auto),
        _ => or_auto(images(text).map(Batch::Images)),
    }
}

/// Engines that share the images of a size.
#[derive(Default)]
pub struct Driver {
    pub workers: Vec<Worker>,
    /// The value of `--device` that gets them.
    pub device: String,
}

/// Engines on devices, ready for `count` images of a size together, at most `most` at once where no batch is given.
pub fn start(
    devices: &mut [Devices],
    model: &Model,
    (width, height): (usize, usize),
    count: usize,
    batch: Option<Batch>,
    most: usize,
) -> Result<Driver> {
    let share = count.div_ceil(devices.len());
    let several = devices.len() > 1;
    let (mut workers, mut names) = (Vec::new(), Vec::new());
    for devices in devices {
        let mut start = || {
            let mut engine = devices.start(model, width, height, &mut tell)?;
            let batch = match batch {
                Some(Batch::Images(batch)) => match engine.prepare(Room::For(batch)) {
                    Err(EngineError::BatchTooLarge { .. }) if batch > share => {
                        note(&format!("batch: {share} (all images; {batch} would not fit)"));
                        share
                    }
                    _ => batch,
                },
                Some(Batch::Auto) => {
                    let (batch, why) = trial::fastest_batch(&mut *engine, share, model, width)?;
                    note(&format!("batch: {batch} ({why})"));
                    batch
                }
                None => even(share, engine.prepare(Room::UpTo(share.min(most)))?),
            };
            engine.prepare(Room::For(batch))?;
            Ok::<_, anyhow::Error>(Worker { engine, batch })
        };
        match start() {
            Ok(worker) => {
                workers.push(worker);
                names.push(devices.argument());
            }
            Err(error) if several => {
                say(&format!("warning: {} is left out: {}", devices.argument(), one_line(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    ensure!(!workers.is_empty(), "none of the devices can be used");
    Ok(Driver { workers, device: names.join(",") })
}

impl Driver {
    /// Its engines, for people.
    pub fn name(&self) -> String {
        self.workers.iter().map(|worker| worker.engine.name()).collect::<Vec<_>>().join(" + ")
    }

    /// The batch of all its engines, if it is the same.
    pub fn batch(&self) -> Option<usize> {
        let first = self.workers.first()?.batch;
        self.workers.iter().all(|worker| worker.batch == first).then_some(first)
    }

    /// Computes all images, and gives each to `put`.
    pub fn drive(&mut self, work: &QueuedWork, put: &mut dyn FnMut(Done) -> Result<()>) -> Result<()> {
        queue::drive(&mut self.workers, work, put, &mut |name, error| {
            say(&format!("warning: {name} stopped, and the others take over its images: {error}"));
        })
    }
}

/// The number of images, of `bytes` bytes each, that may wait for an earlier one.
pub fn most_waiting(bytes: usize) -> usize {
    const BYTES: usize = 64 << 20;
    (BYTES / bytes).max(1)
}
