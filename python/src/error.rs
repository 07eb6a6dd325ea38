//! The library's errors as the package's exceptions, `pixelcnn.errors`, with their facts as attributes.

use pixelcnn::{EngineError, ModelError, RequestError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// An exception of the package, with facts.
fn exception(py: Python, class: &str, message: &str, facts: &Bound<PyDict>) -> PyResult<PyErr> {
    let class = py.import("pixelcnn.errors")?.getattr(class)?;
    Ok(PyErr::from_value(class.call((message,), Some(facts))?))
}

/// The same, whatever happens on the way.
fn or_why(
    py: Python,
    class: &str,
    message: &str,
    fill: impl FnOnce(&Bound<PyDict>) -> PyResult<()>,
) -> PyErr {
    let facts = PyDict::new(py);
    fill(&facts).and_then(|()| exception(py, class, message, &facts)).unwrap_or_else(|error| error)
}

/// A refused model file.
pub fn of_model(py: Python, error: &ModelError) -> PyErr {
    let tensor = match error {
        ModelError::MissingTensor { name, .. }
        | ModelError::ExtraTensor { name, .. }
        | ModelError::Shape { name, .. }
        | ModelError::Dtype { name, .. }
        | ModelError::TooLarge { name, .. }
        | ModelError::NotFinite { name, .. } => Some(name),
        _ => None,
    };
    or_why(py, "ModelError", &error.to_string(), |facts| facts.set_item("tensor", tensor))
}

/// A request that does not fit its model.
pub fn of_request(py: Python, error: &RequestError) -> PyErr {
    or_why(py, "RequestError", &error.to_string(), |_| Ok(()))
}

/// A device that is not there.
pub fn of_device(py: Python, message: &str) -> PyErr {
    or_why(py, "DeviceError", message, |_| Ok(()))
}

/// An engine that gave up.
pub fn of_engine(py: Python, error: &EngineError) -> PyErr {
    let message = &error.to_string();
    match error {
        EngineError::NotFinite { image, pixel } => or_why(py, "NotFinite", message, |facts| {
            facts.set_item("image", image)?;
            facts.set_item("row", pixel.map(|[row, _]| row))?;
            facts.set_item("column", pixel.map(|[_, column]| column))
        }),
        EngineError::BatchTooLarge { batch, largest, .. } => {
            or_why(py, "BatchTooLarge", message, |facts| {
                facts.set_item("batch", batch)?;
                facts.set_item("largest", largest)
            })
        }
        EngineError::Request(error) => of_request(py, error),
        EngineError::NotOnGpu(_) | EngineError::Device(_) => of_device(py, message),
        _ => or_why(py, "EngineError", message, |_| Ok(())),
    }
}
