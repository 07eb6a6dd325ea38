//! GPUs for front ends; `no_gpu.rs` has the same names for a program without them. It reads the
//! environment: `PIXELCNN_SHADERS`, and the variables of wgpu.

use std::env;

use serde_json::{Value, json};

use crate::engine::gpu::adapter::{self, DeviceError, Search};
use crate::engine::gpu::dispatch::DeviceFacts;
use crate::engine::gpu::plan::Plan;
use crate::engine::gpu::support::reason_against;
use crate::engine::gpu::{GpuEngine, Options, UnknownOption};
use crate::engine::{Engine, EngineError, Method, Request};
use crate::graph::Network;
use crate::model::Model;

use super::{KernelTotal, Notice, Say};

pub use crate::engine::gpu::adapter::{Adapter, Pick};

/// The reason why no device is chosen.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// There is no such device.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// A variable of wgpu excludes all devices.
    #[error("{variables}")]
    Variables {
        /// The variables and the adapters that they leave, in words.
        variables: String,
        /// The missing device.
        source: DeviceError,
    },
    /// `PIXELCNN_SHADERS` holds another word.
    #[error("PIXELCNN_SHADERS")]
    Options(#[from] UnknownOption),
}

fn open(model: &Model, width: usize, height: usize, adapter: &Adapter) -> Result<GpuEngine, EngineError> {
    let options = options().expect("checked when the device was chosen");
    GpuEngine::with_options(model, width, height, adapter, options)
}

/// Options of the environment variable `PIXELCNN_SHADERS`.
fn options() -> Result<Options, UnknownOption> {
    Options::from_words(&env::var("PIXELCNN_SHADERS").unwrap_or_default())
}

/// The adapters that a name means, the first to be tried first, or none for the CPU engine; and why.
///
/// # Errors
/// [`ChoiceError`].
pub fn choose(device: &str) -> Result<(Vec<Adapter>, Pick), ChoiceError> {
    options()?;
    let is_cpu = device.trim().eq_ignore_ascii_case("cpu");
    let variables = if is_cpu { None } else { variables_that_leave_none() };
    adapter::choose(device, None, &Search::from_environment()).map_err(|source| match variables {
        Some(variables) => ChoiceError::Variables { variables, source },
        None => source.into(),
    })
}

/// Says which of wgpu's environment variables leave no adapter, where there is one without them.
fn variables_that_leave_none() -> Option<String> {
    let is_set = |name: &&str| env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let set: Vec<_> = ["WGPU_BACKEND", "WGPU_ADAPTER_NAME"].into_iter().filter(is_set).collect();
    if set.is_empty() || !adapter::enumerate(&Search::from_environment()).is_empty() {
        return None;
    }
    let shown = set.iter().map(|name| format!("{name}={}", env::var(name).unwrap_or_default()));
    let shown = shown.collect::<Vec<_>>().join(" and ");
    match &adapter::enumerate(&Search::default())[..] {
        [] => None,
        [first, others @ ..] => Some(format!(
            "{shown} {} none of the {} adapters ({}{})",
            if set.len() == 1 { "leaves" } else { "leave" },
            others.len() + 1,
            first.description(),
            if others.is_empty() { "" } else { ", …" }
        )),
    }
}

fn warn(say: &mut Say) {
    if let Some(variables) = variables_that_leave_none() {
        say(Notice::Warning(variables));
    }
}

/// The same for `auto`, for drawing this many images with this many threads on the CPU.
///
/// # Errors
/// [`ChoiceError`].
pub fn choose_for(
    model: &Model,
    images: usize,
    threads: usize,
    say: &mut Say,
) -> Result<(Vec<Adapter>, Pick), ChoiceError> {
    options()?;
    warn(say);
    Ok(adapter::choose_for(model, images, threads, &Search::from_environment())?)
}

/// The adapters of all hardware GPUs.
///
/// # Errors
/// [`ChoiceError`].
pub fn all(say: &mut Say) -> Result<Vec<Adapter>, ChoiceError> {
    options()?;
    warn(say);
    Ok(adapter::all_gpus(&Search::from_environment())?)
}

/// All adapters, and the one that `auto` takes.
///
/// # Errors
/// [`ChoiceError`].
pub fn list(say: &mut Say) -> Result<(Vec<Adapter>, Pick), ChoiceError> {
    warn(say);
    let adapters = adapter::enumerate(&Search::from_environment());
    let found: Vec<_> = adapters.iter().map(|adapter| adapter.description().clone()).collect();
    let auto = adapter::pick("auto", &found, None)?;
    Ok((adapters, auto))
}

/// An engine on an adapter.
///
/// # Errors
/// It cannot be opened, or not run the model.
pub fn start(
    model: &Model,
    width: usize,
    height: usize,
    adapter: &Adapter,
) -> Result<Box<dyn Engine>, EngineError> {
    Ok(Box::new(open(model, width, height, adapter)?))
}

/// An engine to be verified, and the sizes of batches that run all its kernels, up to `most` images.
///
/// # Errors
/// It cannot be opened, or not run the model.
pub fn start_to_verify(
    model: &Model,
    width: usize,
    height: usize,
    adapter: &Adapter,
    most: usize,
) -> Result<(Box<dyn Engine>, Vec<usize>), EngineError> {
    let engine = open(model, width, height, adapter)?;
    let batches = engine.batches_of_all_kernels(most);
    Ok((Box::new(engine), batches))
}

/// Its name.
pub fn name(adapter: &Adapter) -> String {
    adapter.description().name.clone()
}

/// Its driver.
pub fn driver(adapter: &Adapter) -> String {
    adapter.description().driver.clone()
}

/// The `--device` argument for it.
pub fn argument(adapter: &Adapter) -> String {
    adapter.description().to_string()
}

/// True if it can time dispatches.
pub fn has_timestamps(adapter: &Adapter) -> bool {
    GpuEngine::can_profile(adapter)
}

/// Dispatches for a batch of a method on a discrete GPU; none if the program cannot tell.
pub fn dispatches(network: &Network, method: Method) -> Option<u64> {
    let pixels = network.width * network.height;
    let counts = || Plan::predictor(DeviceFacts::SMALLEST).counts(network, method, 1, pixels);
    reason_against(network).is_none().then(|| counts().dispatches)
}

/// Profile of each request, in its first `rows` rows.
///
/// # Errors
/// It cannot be opened, or not run the model.
pub fn profile(
    model: &Model,
    adapter: &Adapter,
    requests: &[Request],
    rows: usize,
) -> Result<Vec<Vec<KernelTotal>>, EngineError> {
    let (width, height) = model.size();
    let mut engine = open(model, width, height, adapter)?;
    let mut of_request = |request| {
        let totals = engine.profile(request, rows)?.into_iter();
        let total = totals.map(|(class, total)| KernelTotal {
            kernel: class.kernel,
            is_row_work: class.is_row_work,
            level: class.level,
            dispatches: total.dispatches,
            nanoseconds: total.nanoseconds,
        });
        Ok(total.collect())
    };
    requests.iter().map(&mut of_request).collect()
}

/// Name, type, interface and driver, for a table.
pub fn row(adapter: &Adapter) -> [String; 4] {
    let description = adapter.description();
    let of_type = description.type_name().to_owned();
    [description.name.clone(), of_type, description.backend.clone(), description.driver.clone()]
}

/// The facts of an adapter and its index.
pub fn facts((index, adapter): (usize, &Adapter)) -> Value {
    let description = adapter.description();
    let adapter = adapter.handle();
    let (info, limits) = (adapter.get_info(), adapter.limits());
    json!({
        "device": index.to_string(),
        "name": description.name,
        "type": description.type_name(),
        "backend": description.backend,
        "driver": description.driver,
        "vendor_id": info.vendor,
        "device_id": info.device,
        "timestamps": adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY),
        "subgroups": adapter.features().contains(wgpu::Features::SUBGROUP),
        "subgroup_min_size": info.subgroup_min_size,
        "subgroup_max_size": info.subgroup_max_size,
        "max_buffer_size": limits.max_buffer_size,
        "max_storage_buffer_binding_size": limits.max_storage_buffer_binding_size,
        "max_storage_buffers_per_shader_stage": limits.max_storage_buffers_per_shader_stage,
        "max_compute_workgroup_storage_size": limits.max_compute_workgroup_storage_size,
        "max_compute_invocations_per_workgroup": limits.max_compute_invocations_per_workgroup,
        "max_compute_workgroups_per_dimension": limits.max_compute_workgroups_per_dimension,
    })
}
