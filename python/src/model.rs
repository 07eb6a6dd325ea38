//! A model, read and checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use pixelcnn::Precision;
use pixelcnn::internals::engine::devices::machine_threads;
use pyo3::prelude::*;

use crate::engine::Engine;
use crate::session::Session;
use crate::{device, error};

/// Names of the built-in models.
#[pyfunction]
pub fn shipped_names() -> Vec<&'static str> {
    pixelcnn::Model::shipped_names().collect()
}

/// The file of the built-in model of this name.
#[pyfunction]
pub fn shipped_bytes(name: &str) -> Option<&'static [u8]> {
    pixelcnn::Model::shipped_bytes(name)
}

/// A model.
#[pyclass(frozen, module = "pixelcnn._pixelcnn")]
pub struct Model(Arc<pixelcnn::Model>);

#[pymethods]
impl Model {
    /// Reads a model file's contents.
    #[new]
    fn new(py: Python, contents: &[u8], name: &str) -> PyResult<Self> {
        let model = py.detach(|| pixelcnn::Model::from_bytes(contents, name));
        model.map(|model| Self(Arc::new(model))).map_err(|error| error::of_model(py, &error))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn sha256(&self) -> &str {
        &self.0.sha256
    }

    #[getter]
    fn metadata(&self) -> BTreeMap<String, String> {
        self.0.metadata.clone()
    }

    #[getter]
    fn classes(&self) -> Vec<String> {
        self.0.classes().to_vec()
    }

    /// Width and height of the images that it was trained on.
    #[getter]
    fn size(&self) -> (usize, usize) {
        self.0.size()
    }

    #[getter]
    fn channels(&self) -> usize {
        self.0.head().channels()
    }

    #[getter]
    fn levels(&self) -> usize {
        self.0.head().levels()
    }

    #[getter]
    fn head(&self) -> &'static str {
        self.0.head().name()
    }

    #[getter]
    fn parameter_count(&self) -> usize {
        self.0.parameter_count()
    }

    #[getter]
    fn size_multiple(&self) -> usize {
        self.0.size_multiple()
    }

    #[getter]
    fn has_one_size(&self) -> bool {
        self.0.has_one_size()
    }

    fn takes_size(&self, width: usize, height: usize) -> bool {
        self.0.takes_size(width, height)
    }

    /// The same with weights of 16 bits.
    fn half(&self, py: Python) -> PyResult<Self> {
        let model = py.detach(|| (*self.0).clone().with_precision(Precision::F16));
        model.map(|model| Self(Arc::new(model))).map_err(|error| error::of_model(py, &error))
    }

    /// Its engine on a device.
    fn engine(
        &self,
        py: Python,
        width: usize,
        height: usize,
        images: usize,
        device: &str,
        threads: Option<usize>,
    ) -> PyResult<Engine> {
        let chosen = py.detach(|| device::choose(&self.0, (width, height), images, device, threads));
        chosen.map(Engine::new).map_err(|message| error::of_device(py, &message))
    }

    /// Images computed level by level on the CPU, each of a class.
    fn session(
        &self,
        py: Python,
        width: usize,
        height: usize,
        classes: Vec<Option<usize>>,
        threads: Option<usize>,
    ) -> PyResult<Session> {
        let threads = threads.unwrap_or_else(machine_threads);
        let session = py.detach(|| pixelcnn::Session::new(&self.0, width, height, &classes, threads));
        session.map(Session::new).map_err(|error| error::of_engine(py, &error))
    }
}
