//! What stands for `gpu.rs` in a program that was built without the feature `gpu`: the CPU engine alone.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::engine::{Engine, EngineError, Method, Request};
use crate::graph::Network;
use crate::model::Model;

use super::bench::KernelTotal;

/// There is none.
pub struct Adapter(Never);

enum Never {}

/// The CPU engine, and why.
pub struct Pick {
    pub indices: Vec<usize>,
    pub reason: String,
    pub is_surprise: bool,
    pub leaves_gpu: bool,
}

/// Why there are no GPUs.
const WITHOUT: &str = "this program was built without GPUs (feature gpu)";

/// The CPU engine, for `--device cpu` and `auto`; all else is an error.
pub fn choose(device: &str) -> Result<(Vec<Adapter>, Pick)> {
    match device.trim().to_lowercase().as_str() {
        "cpu" => Ok((vec![], pick("the CPU engine was asked for"))),
        "auto" => Ok((vec![], pick(WITHOUT))),
        _ => bail!("--device {device}: {WITHOUT}; expected auto or cpu"),
    }
}

fn pick(reason: &str) -> Pick {
    Pick { indices: vec![], reason: reason.to_owned(), is_surprise: false, leaves_gpu: false }
}

pub fn choose_for(_: &Model, _: usize, _: usize) -> Result<(Vec<Adapter>, Pick)> {
    choose("auto")
}

pub fn all() -> Result<Vec<Adapter>> {
    bail!("--device all-gpus: {WITHOUT}; expected auto or cpu")
}

pub fn list() -> Result<(Vec<Adapter>, Pick)> {
    choose("auto")
}

pub fn start(_: &Model, _: usize, _: usize, adapter: &Adapter) -> Result<Box<dyn Engine>, EngineError> {
    match adapter.0 {}
}

pub fn start_to_verify(
    _: &Model,
    _: usize,
    _: usize,
    adapter: &Adapter,
    _: usize,
) -> Result<(Box<dyn Engine>, Vec<usize>), EngineError> {
    match adapter.0 {}
}

pub fn name(adapter: &Adapter) -> String {
    match adapter.0 {}
}

pub fn driver(adapter: &Adapter) -> String {
    match adapter.0 {}
}

pub fn argument(adapter: &Adapter) -> String {
    match adapter.0 {}
}

pub fn has_timestamps(adapter: &Adapter) -> bool {
    match adapter.0 {}
}

/// Dispatches are what kernels of a GPU take: without them, nothing is known.
pub fn dispatches(_: &Network, _: Method) -> Option<u64> {
    None
}

pub fn profile(_: &Model, adapter: &Adapter, _: &[Request], _: usize) -> Result<Vec<Vec<KernelTotal>>> {
    match adapter.0 {}
}

pub fn row(adapter: &Adapter) -> [String; 4] {
    match adapter.0 {}
}

pub fn facts((_, adapter): (usize, &Adapter)) -> Value {
    match adapter.0 {}
}
