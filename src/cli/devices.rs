//! `pixelcnn devices`: what there is to run on, and what `auto` takes.

use std::fmt::Write;

use anyhow::Result;
use pixelcnn::engine::gpu::adapter::{self, Description};

/// List the GPU adapters of this machine, and say which device `auto` takes and why
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> Result<()> {
    let found: Vec<_> = adapter::enumerate().iter().map(Description::new).collect();
    let auto = adapter::pick("auto", &found, None)?;

    let mut rows = vec![["DEVICE", "NAME", "TYPE", "BACKEND", "DRIVER"].map(str::to_owned)];
    let threads = format!("{} threads", super::machine_threads());
    rows.push(["cpu", "the CPU engine", &threads, "-", "-"].map(str::to_owned));
    rows.extend(found.iter().enumerate().map(|(i, adapter)| {
        let Description { name, backend, driver, .. } = adapter.clone();
        [i.to_string(), name, adapter.type_name().to_owned(), backend, driver]
    }));
    let mut text = super::table(&rows);
    let taken = auto.indices.first().map_or("cpu".to_owned(), |i| i.to_string());
    let but = if auto.indices.is_empty() { "" } else { "; it leaves little work to the CPU engine" };
    writeln!(text, "\nauto takes {taken}: {}{but}.", auto.reason)?;
    super::print(&text)
}
