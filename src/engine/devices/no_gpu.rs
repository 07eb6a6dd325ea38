//! Replaces `gpu.rs` in a program built without the feature `gpu`: the CPU engine only.

use serde_json::Value;

use crate::engine::{Engine, EngineError, Method, Request};
use crate::graph::Network;
use crate::model::Model;

use super::{KernelTotal, Say};

/// The reason why no device is chosen.
#[derive(Debug, thiserror::Error)]
#[error("there is no device \"{0}\"; {WITHOUT}, expected auto or cpu")]
pub struct ChoiceError(String);

/// There is none.
pub struct Adapter(Never);

enum Never {}

/// The CPU engine, and the reason.
pub struct Pick {
    /// None.
    pub indices: Vec<usize>,
    /// The reason, in words.
    pub reason: String,
    /// No.
    pub is_surprise: bool,
    /// No.
    pub leaves_gpu: bool,
}

/// The reason why there are no GPUs.
const WITHOUT: &str = "this program was built without GPUs (feature gpu)";

/// The CPU engine, for `cpu` and `auto`.
///
/// # Errors
/// Any other name.
pub fn choose(device: &str) -> Result<(Vec<Adapter>, Pick), ChoiceError> {
    match device.trim().to_lowercase().as_str() {
        "cpu" => Ok((vec![], pick("the CPU engine was asked for"))),
        "auto" => Ok((vec![], pick(WITHOUT))),
        _ => Err(ChoiceError(device.to_owned())),
    }
}

fn pick(reason: &str) -> Pick {
    Pick { indices: vec![], reason: reason.to_owned(), is_surprise: false, leaves_gpu: false }
}

/// The CPU engine.
///
/// # Errors
/// None.
pub fn choose_for(_: &Model, _: usize, _: usize, _: &mut Say) -> Result<(Vec<Adapter>, Pick), ChoiceError> {
    choose("auto")
}

/// None.
///
/// # Errors
/// Always.
pub fn all(_: &mut Say) -> Result<Vec<Adapter>, ChoiceError> {
    Err(ChoiceError("all-gpus".to_owned()))
}

/// None.
///
/// # Errors
/// None.
pub fn list(_: &mut Say) -> Result<(Vec<Adapter>, Pick), ChoiceError> {
    choose("auto")
}

/// There is no adapter to give it.
///
/// # Errors
/// None.
pub fn start(_: &Model, _: usize, _: usize, adapter: &Adapter) -> Result<Box<dyn Engine>, EngineError> {
    match adapter.0 {}
}

/// There is no adapter to give it.
///
/// # Errors
/// None.
pub fn start_to_verify(
    _: &Model,
    _: usize,
    _: usize,
    adapter: &Adapter,
    _: usize,
) -> Result<(Box<dyn Engine>, Vec<usize>), EngineError> {
    match adapter.0 {}
}

/// There is no adapter to give it.
pub fn name(adapter: &Adapter) -> String {
    match adapter.0 {}
}

/// There is no adapter to give it.
pub fn driver(adapter: &Adapter) -> String {
    match adapter.0 {}
}

/// There is no adapter to give it.
pub fn argument(adapter: &Adapter) -> String {
    match adapter.0 {}
}

/// There is no adapter to give it.
pub fn has_timestamps(adapter: &Adapter) -> bool {
    match adapter.0 {}
}

/// Dispatches belong to GPU kernels: without them, nothing is known.
pub fn dispatches(_: &Network, _: Method) -> Option<u64> {
    None
}

/// There is no adapter to give it.
///
/// # Errors
/// None.
pub fn profile(
    _: &Model,
    adapter: &Adapter,
    _: &[Request],
    _: usize,
) -> Result<Vec<Vec<KernelTotal>>, EngineError> {
    match adapter.0 {}
}

/// There is no adapter to give it.
pub fn row(adapter: &Adapter) -> [String; 4] {
    match adapter.0 {}
}

/// There is no adapter to give it.
pub fn facts((_, adapter): (usize, &Adapter)) -> Value {
    match adapter.0 {}
}
