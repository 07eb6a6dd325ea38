//! `pixelcnn devices`: what there is to run on, and what `auto` takes.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{Value, json};

use pixelcnn::engine::gpu::GpuEngine;
use pixelcnn::engine::gpu::adapter::{self, Description};

/// List the GPU adapters of this machine, and say which device `auto` takes and why
#[derive(clap::Args)]
pub struct Args {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let adapters = adapter::enumerate();
    let found: Vec<_> = adapters.iter().map(Description::new).collect();
    let auto = adapter::pick("auto", &found, None)?;

    let taken = auto.indices.first().map_or("cpu".to_owned(), |i| i.to_string());
    if args.json {
        let cpu = json!({"device": "cpu", "type": "cpu", "threads": super::machine_threads()});
        let devices: Vec<_> = [cpu].into_iter().chain(adapters.iter().enumerate().map(gpu)).collect();
        let report = json!({"devices": devices, "auto": taken, "reason": auto.reason});
        return super::print(&(serde_json::to_string_pretty(&report)? + "\n"));
    }

    let mut rows = vec![["DEVICE", "NAME", "TYPE", "BACKEND", "DRIVER"].map(str::to_owned)];
    let threads = format!("{} threads", super::machine_threads());
    rows.push(["cpu", "the CPU engine", &threads, "-", "-"].map(str::to_owned));
    rows.extend(found.iter().enumerate().map(|(i, adapter)| {
        let Description { name, backend, driver, .. } = adapter.clone();
        [i.to_string(), name, adapter.type_name().to_owned(), backend, driver]
    }));
    let mut text = super::table(&rows);
    let but = if auto.indices.is_empty() { "" } else { "; it leaves little work to the CPU engine" };
    writeln!(text, "\nauto takes {taken}: {}{but}.", auto.reason)?;
    super::print(&text)
}

/// An adapter, with what it offers.
fn gpu((i, adapter): (usize, &wgpu::Adapter)) -> Value {
    let description = Description::new(adapter);
    let (info, limits) = (adapter.get_info(), adapter.limits());
    json!({
        "device": i.to_string(),
        "name": description.name,
        "type": description.type_name(),
        "backend": description.backend,
        "driver": description.driver,
        "vendor_id": info.vendor,
        "device_id": info.device,
        "timestamps": GpuEngine::can_profile(adapter),
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
