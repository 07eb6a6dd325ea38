//! Images whose levels Python chooses, one after another.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error;

/// Images computed level by level, on the CPU.
#[pyclass(frozen, module = "pixelcnn._pixelcnn")]
pub struct Session(Mutex<pixelcnn::Session>);

impl Session {
    pub fn new(session: pixelcnn::Session) -> Self {
        Self(Mutex::new(session))
    }

    fn lock(&self) -> MutexGuard<'_, pixelcnn::Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Session {
    /// Row, column and channel of the next level; none when the images are complete.
    #[getter]
    fn place(&self, py: Python) -> Option<(usize, usize, usize)> {
        py.detach(|| self.lock().place()).map(Into::into)
    }

    /// The probabilities of the next level of every image, float64 `[N, L]`.
    fn probabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let told = py.detach(|| self.lock().probabilities());
        let told = told.map_err(|error| error::of_engine(py, &error))?;
        Ok(PyBytes::new(py, bytemuck::cast_slice(&told)))
    }

    /// Gives the next level of every image, `[N]`, and computes the values that depend on it.
    fn give(&self, py: Python, levels: Vec<u16>) -> PyResult<()> {
        py.detach(|| self.lock().give(&levels)).map_err(|error| error::of_engine(py, &error))
    }
}
