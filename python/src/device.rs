//! The device that runs a model, by the names of the command line's `--device`.

use pixelcnn::internals::engine::devices::{Devices, Notice, machine_threads};
use pixelcnn::{Engine, Model};

/// An engine, and notes about its choice.
pub struct Chosen {
    pub engine: Box<dyn Engine>,
    pub is_gpu: bool,
    /// Text of each note, with true if it is a warning.
    pub notes: Vec<(bool, String)>,
}

/// An engine on the device named `device`, for this many images; without a number of threads, on as many as
/// the machine runs at once.
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
    let threads = threads.unwrap_or_else(machine_threads);
    let mut notes = Vec::new();
    let mut say = |notice: Notice| {
        notes.push((matches!(notice, Notice::Warning(_)), notice.text("device=\"gpu\"")));
    };
    let mut devices =
        Devices::choose(device, model, images, [threads; 2], &mut say).map_err(|error| in_words(&error))?;
    let engine = devices.start(model, width, height, &mut say).map_err(|error| in_words(&error))?;
    Ok(Chosen { engine, is_gpu: devices.adapter().is_some(), notes })
}

/// An error and its source.
fn in_words(error: &dyn std::error::Error) -> String {
    let (text, source) = (error.to_string(), error.source().map(ToString::to_string));
    match source.filter(|source| !text.ends_with(source)) {
        Some(source) => format!("{text}: {source}"),
        None => text,
    }
}
