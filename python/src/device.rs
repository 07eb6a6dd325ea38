//! The choice of the device that runs a model, as `--device` of the command line has it.

use std::env;
use std::thread::available_parallelism;

use pixelcnn::internals::engine::cpu::startable_threads;
use pixelcnn::internals::engine::gpu::adapter::{self, Search};
use pixelcnn::internals::engine::gpu::{GpuEngine, Options};
use pixelcnn::{CpuEngine, Engine, Model};

/// An engine, and what is to be said of the choice.
pub struct Chosen {
    pub engine: Box<dyn Engine>,
    pub is_gpu: bool,
    /// Whether each is a warning, and its text.
    pub notes: Vec<(bool, String)>,
}

/// An engine on the device that `device` means for so many images; on as many threads as the machine runs at once if
/// there is no number of them.
///
/// # Errors
/// In words: there is no such device, or it cannot run the model.
pub fn choose(
    model: &Model,
    (width, height): (usize, usize),
    images: usize,
    device: &str,
    threads: Option<usize>,
) -> Result<Chosen, String> {
    let threads = threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let is_auto = device == "auto";
    let options = Options::from_words(&env::var("PIXELCNN_SHADERS").unwrap_or_default())
        .map_err(|error| format!("PIXELCNN_SHADERS: {error}"))?;
    let search = Search::from_environment();
    let chosen = match is_auto {
        true => adapter::choose_for(model, images, threads, &search),
        false => adapter::choose(device, None, &search),
    };
    let (adapters, pick) = chosen.map_err(|error| error.to_string())?;
    let mut notes = Vec::new();
    if pick.is_surprise && adapters.is_empty() {
        let else_way = if pick.leaves_gpu { "; device=\"gpu\" takes that" } else { "" };
        notes.push((false, format!("using the CPU engine: {}{else_way}", pick.reason)));
    } else if pick.is_surprise {
        notes.push((true, pick.reason));
    }
    for (number, adapter) in adapters.iter().enumerate() {
        match GpuEngine::with_options(model, width, height, adapter, options) {
            Ok(engine) => return Ok(Chosen { engine: Box::new(engine), is_gpu: true, notes }),
            Err(error) if is_auto => {
                let next = if number + 1 < adapters.len() { "the next device" } else { "the CPU engine" };
                notes.push((false, format!("using {next}: {error}")));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    let startable = startable_threads(threads);
    if startable < threads {
        notes.push((true, format!("{startable} of {threads} threads can be started")));
    }
    let engine = CpuEngine::new(model, width, height, startable);
    Ok(Chosen { engine: Box::new(engine), is_gpu: false, notes })
}
