//! `pixelcnn devices`: what there is to run on, and what `auto` takes.

use std::fmt::Write;

use anyhow::Result;
use serde_json::json;

use pixelcnn::engine::gpu::adapter::{self, Description};

/// List the GPU adapters of this machine, and say which device `auto` takes and why
#[derive(clap::Args)]
pub struct Args {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let found: Vec<_> = adapter::enumerate().iter().map(Description::new).collect();
    let auto = adapter::pick("auto", &found, None)?;

    let taken = auto.indices.first().map_or("cpu".to_owned(), |i| i.to_string());
    if args.json {
        let cpu = json!({"device": "cpu", "type": "cpu", "threads": super::machine_threads()});
        let gpu = |(i, adapter): (usize, &Description)| {
            let Description { name, backend, driver, .. } = adapter.clone();
            json!({
                "device": i.to_string(),
                "name": name,
                "type": adapter.type_name(),
                "backend": backend,
                "driver": driver,
            })
        };
        let devices: Vec<_> = [cpu].into_iter().chain(found.iter().enumerate().map(gpu)).collect();
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
