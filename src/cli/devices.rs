//! `pixelcnn devices`: what there is to run on, and what `auto` takes.

use std::fmt::Write;

use anyhow::Result;
use serde_json::json;

use crate::engine::devices::{gpu, machine_threads};

use super::engine::tell;

/// List GPU adapters, and the device that auto takes
#[derive(clap::Args)]
pub struct DevicesArgs {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &DevicesArgs) -> Result<()> {
    let (adapters, auto) = gpu::list(&mut tell)?;
    let taken = auto.indices.first().map_or("cpu".to_owned(), |i| i.to_string());
    if args.json {
        let cpu = json!({"device": "cpu", "type": "cpu", "threads": machine_threads()});
        let devices: Vec<_> =
            [cpu].into_iter().chain(adapters.iter().enumerate().map(gpu::facts)).collect();
        let report = json!({"devices": devices, "auto": taken, "reason": auto.reason});
        return super::print(&(serde_json::to_string_pretty(&report)? + "\n"));
    }

    let mut rows = vec![["DEVICE", "NAME", "TYPE", "BACKEND", "DRIVER"].map(str::to_owned)];
    let threads = format!("{} threads", machine_threads());
    rows.push(["cpu", "the CPU engine", &threads, "-", "-"].map(str::to_owned));
    rows.extend(adapters.iter().enumerate().map(|(i, adapter)| {
        let [name, of_type, backend, driver] = gpu::row(adapter);
        [i.to_string(), name, of_type, backend, driver]
    }));
    let mut text = super::table(&rows);
    let but = if auto.indices.is_empty() { "" } else { "; it leaves little work to the CPU engine" };
    writeln!(text, "\nauto takes {taken}: {}{but}.", auto.reason)?;
    super::print(&text)
}
