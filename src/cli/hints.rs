//! Advice for errors of the library, which states facts and knows neither flags nor commands.

use std::error::Error;

use crate::engine::EngineError;
#[cfg(feature = "gpu")]
use crate::engine::gpu::adapter::DeviceError;
use crate::input::InputError;
use crate::model::{ModelError, StandIn};

/// An error with what to do about it.
pub fn told(error: &(dyn Error + 'static)) -> String {
    format!("{error}{}", hint(error).unwrap_or_default())
}

/// Advice for an error, as the end of its sentence.
pub fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    #[cfg(feature = "gpu")]
    if let Some(DeviceError::NoAdapter) = error.downcast_ref() {
        return Some(", and --device cpu needs none");
    }
    None.or_else(|| of_engine(error.downcast_ref()?))
        .or_else(|| of_model(error.downcast_ref()?))
        .or_else(|| of_input(error.downcast_ref()?))
}

fn of_engine(error: &EngineError) -> Option<&'static str> {
    match error {
        EngineError::NotFinite { .. } => Some(" (check them with `pixelcnn verify`)"),
        EngineError::BatchTooLarge { largest: None, .. } => Some(" (try a smaller --batch)"),
        EngineError::Threads(_) => Some(" (--threads 1 needs the fewest)"),
        EngineError::Device(_) => Some(" (try again, a smaller --batch, or --device cpu)"),
        _ => None,
    }
}

fn of_model(error: &ModelError) -> Option<&'static str> {
    match error {
        ModelError::StandIn(StandIn::GitLfs) => Some(" (`git lfs pull` fetches that)"),
        ModelError::StandIn(StandIn::WebPage) => Some(" (download it again, by its link for raw files)"),
        ModelError::NotSafetensors(_) => {
            Some("; expected a model converted with scripts/convert.py (download or convert it again)")
        }
        ModelError::MissingMetadata { .. } => Some("; expected a model converted with scripts/convert.py"),
        ModelError::TooLarge { .. } => Some(" (leave out --precision f16)"),
        ModelError::NotFinite { .. } => Some(" (convert the model again)"),
        _ => None,
    }
}

fn of_input(error: &InputError) -> Option<&'static str> {
    match error {
        InputError::SeveralArrays(_) => Some(" (--array names the one to read)"),
        _ => None,
    }
}
