//! `--device` and `--threads`: which engine runs a model.

use anyhow::{Result, bail};

use crate::engine::devices::gpu::{self, Adapter};
use crate::engine::devices::{Devices, Notice, machine_threads};
use crate::model::Model;

use super::text::{detail, note, say};
use super::{heading, or_auto, shell, whole};

#[derive(clap::Args)]
#[command(next_help_heading = heading::DEVICE)]
pub struct EngineArgs {
    /// Device: auto, cpu, gpu, or the index or name of an adapter
    ///
    /// auto takes a hardware GPU if it is faster, else the CPU. `pixelcnn devices` lists the adapters; a part of a
    /// name is enough. sample, complete, eval and classify accept several devices as a comma list, or all-gpus. The
    /// environment variable PIXELCNN_DEVICE changes the default.
    #[arg(long, value_name = "DEVICE", default_value = "auto", allow_negative_numbers = true)]
    #[arg(env = DEVICE, hide_env = true, value_parser = parse_device, add = shell::device())]
    pub device: String,

    /// Threads of the CPU engine [default: all available]
    #[arg(long, value_name = "N|auto", value_parser = parse_threads, allow_negative_numbers = true)]
    threads: Option<Threads>,
}

#[derive(Clone, Copy)]
enum Threads {
    Auto,
    Number(usize),
}

/// The variable that says which device, where `--device` does not.
const DEVICE: &str = "PIXELCNN_DEVICE";

/// An empty text, as of a variable that is set to nothing, chooses no device.
fn parse_device(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(if text.trim().is_empty() { "auto" } else { text }.to_owned())
}

fn parse_threads(text: &str) -> Result<Threads, String> {
    match text {
        "auto" => Ok(Threads::Auto),
        _ => or_auto(whole(1..=1024)(text).map(Threads::Number)),
    }
}

impl EngineArgs {
    /// A device, with the threads of the machine.
    pub fn on(device: &str) -> Self {
        Self { device: device.to_owned(), threads: None }
    }

    pub fn threads(&self) -> usize {
        match self.threads {
            Some(Threads::Number(threads)) => threads,
            Some(Threads::Auto) | None => machine_threads(),
        }
    }

    /// The one device that `--device` allows.
    pub fn choose_only(&self, model: &Model, images: usize) -> Result<Devices> {
        if self.device.trim() == ALL_GPUS || device_list(&self.device).len() > 1 {
            bail!(
                "--device {}: expected one device (sample, complete, eval and classify take several)",
                self.device
            );
        }
        self.choose_one(&self.device, self.threads(), model, images)
    }

    /// The devices that `--device` names, which share `images` images of a model. Prints a note if a user would expect
    /// another.
    pub fn choose(&self, model: &Model, images: usize) -> Result<Vec<Devices>> {
        if self.device.trim() == ALL_GPUS {
            return Ok(Devices::all_gpus(self.threads(), &mut tell)?);
        }
        let names = device_list(&self.device);
        if names.len() > 1
            && let Some(odd) = names.iter().find(|name| ["auto", ALL_GPUS, ""].contains(name))
        {
            bail!("--device {}: expected cpu or GPU indices in a list, found \"{odd}\"", self.device);
        }
        // Engines on the CPU share its threads.
        let on_cpu = names.iter().filter(|name| **name == "cpu").count().max(1);
        let threads = (self.threads() / on_cpu).max(1);
        names.iter().map(|name| self.choose_one(name, threads, model, images)).collect()
    }

    fn choose_one(&self, device: &str, threads: usize, model: &Model, images: usize) -> Result<Devices> {
        let chosen = Devices::choose(device, model, images, [threads, self.threads()], &mut tell);
        chosen.map_err(|error| self.named(error))
    }

    /// An error of the choice, with the variable that made it, if one did.
    fn named(&self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        match std::env::var(DEVICE) {
            Ok(value) if value == self.device => error.into().context(format!("{DEVICE}={value}")),
            _ => error.into(),
        }
    }

    /// The adapter of the one device that `--device` allows; none for the CPU engine, and why.
    pub fn adapter(&self) -> Result<(Option<Adapter>, String)> {
        let (adapters, pick) = gpu::choose(&self.device).map_err(|error| self.named(error))?;
        Ok((adapters.into_iter().next(), pick.reason))
    }
}

/// All hardware GPUs.
const ALL_GPUS: &str = "all-gpus";

/// The devices of a comma list; commas in parentheses belong to a name.
fn device_list(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let separates = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    };
    list.split(separates).map(str::trim).collect()
}

/// Says what is to be said of a choice.
pub fn tell(notice: Notice) {
    let text = notice.text("--device gpu");
    match notice {
        Notice::Warning(_) => say(&format!("warning: {text}")),
        Notice::Expected { .. } => detail(&text),
        _ => note(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_names_of_devices_are_theirs() {
        assert_eq!(device_list("cpu"), ["cpu"]);
        assert_eq!(device_list("0, cpu"), ["0", "cpu"]);
        let (a, b) =
            ("llvmpipe (LLVM 19.1, 256 bits) (software, Vulkan)", "RTX 4090 (discrete GPU, Vulkan)");
        assert_eq!(device_list(&format!("{a},{b}")), [a, b]);
    }
}
