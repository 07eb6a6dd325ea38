//! GPUs, as the command line uses them; `no_gpu.rs` has the same names for a program without them.

use std::env;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::engine::cost::{Device, predicted};
use crate::engine::gpu::adapter::{self, Search};
use crate::engine::gpu::dispatch::Target;
use crate::engine::gpu::support::reason_against;
use crate::engine::gpu::{GpuEngine, Options};
use crate::engine::{Engine, EngineError, Method, Request};
use crate::graph::Network;
use crate::model::Model;

use super::bench::KernelTotal;

pub use crate::engine::gpu::adapter::{Adapter, Pick};

fn open(model: &Model, width: usize, height: usize, adapter: &Adapter) -> Result<GpuEngine, EngineError> {
    let options = options().expect("checked when the device was chosen");
    GpuEngine::with_options(model, width, height, adapter, options)
}

/// What the environment variable `PIXELCNN_SHADERS` says.
fn options() -> Result<Options> {
    const VARIABLE: &str = "PIXELCNN_SHADERS";
    Options::from_words(&env::var(VARIABLE).unwrap_or_default()).context(VARIABLE)
}

/// The adapters that `--device` means, the first to be tried first, or none for the CPU engine; and why.
pub fn choose(device: &str) -> Result<(Vec<Adapter>, Pick)> {
    options()?;
    Ok(adapter::choose(device, None, &Search::from_environment())?)
}

/// The same for `--device auto`, for drawing so many images with so many threads on the CPU.
pub fn choose_for(model: &Model, images: usize, threads: usize) -> Result<(Vec<Adapter>, Pick)> {
    options()?;
    Ok(adapter::choose_for(model, images, threads, &Search::from_environment())?)
}

/// The adapters of all hardware GPUs.
pub fn all() -> Result<Vec<Adapter>> {
    options()?;
    Ok(adapter::all_gpus(&Search::from_environment())?)
}

/// All adapters, and what `--device auto` means.
pub fn list() -> Result<(Vec<Adapter>, Pick)> {
    let adapters = adapter::enumerate(&Search::from_environment());
    let found: Vec<_> = adapters.iter().map(|adapter| adapter.description().clone()).collect();
    let auto = adapter::pick("auto", &found, None)?;
    Ok((adapters, auto))
}

/// An engine on an adapter.
pub fn start(
    model: &Model,
    width: usize,
    height: usize,
    adapter: &Adapter,
) -> Result<Box<dyn Engine>, EngineError> {
    Ok(Box::new(open(model, width, height, adapter)?))
}

/// An engine to be verified, and the sizes of batches that run all its kernels, up to `most` images.
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

/// What to give `--device` to get it.
pub fn argument(adapter: &Adapter) -> String {
    adapter.description().to_string()
}

/// Whether it can tell how long a dispatch took.
pub fn has_timestamps(adapter: &Adapter) -> bool {
    GpuEngine::can_profile(adapter)
}

/// Dispatches for a batch of a method on a discrete GPU; none if the program cannot tell.
pub fn dispatches(network: &Network, method: Method) -> Option<u64> {
    let pixels = network.width * network.height;
    let is_possible = reason_against(network).is_none();
    is_possible.then(|| predicted(network, method, 1, pixels, Device::Gpu(Target::SMALLEST)).dispatches)
}

/// Where the time of each request goes, in its first `rows` rows.
pub fn profile(
    model: &Model,
    adapter: &Adapter,
    requests: &[Request],
    rows: usize,
) -> Result<Vec<Vec<KernelTotal>>> {
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

/// The adapter of an index, with what it offers.
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
