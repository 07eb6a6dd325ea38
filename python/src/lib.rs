//! `pixelcnn._pixelcnn`, the compiled part of the Python package: models, engines, pictures and the command
//! line.
//!
//! Arrays cross as bytes in the machine's order, so that nothing here depends on a version of NumPy; the
//! package wraps them without a copy. Arguments that no user sees are checked by the library only.

mod device;
mod engine;
mod error;
mod model;
mod session;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use pixelcnn::internals::output::grid::Grid;
use pixelcnn::internals::output::png;
use pixelcnn::internals::sampling::random::Noise;
use pixelcnn::internals::sampling::resampling;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Runs the command line `arguments`, of which the first is its name; returns its exit code.
#[pyfunction]
fn main(py: Python, arguments: Vec<OsString>) -> u8 {
    let code = py.detach(|| {
        let code = pixelcnn::cli::main(arguments);
        // In a program, Rust does it at the end.
        let _ = io::stdout().flush();
        code
    });
    // It can be compared, and not be read.
    (0..u8::MAX).find(|number| ExitCode::from(*number) == code).unwrap_or(u8::MAX)
}

/// A PNG file of a grid of images, uint8 `[N, height, width, channels]`; every pixel is a square of `scale` pixels.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
fn grid_png<'py>(
    py: Python<'py>,
    levels: &[u8],
    count: usize,
    width: usize,
    height: usize,
    channels: usize,
    columns: Option<usize>,
    scale: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = py.detach(|| {
        let grid = match columns {
            Some(columns) => Grid::with_columns(columns, count, width, height, channels),
            None => Grid::new(count, 1, width, height, channels),
        };
        let mut grid = grid.ok_or("the grid would take more than 1 GiB")?;
        let images = levels.chunks(width * height * channels);
        images.enumerate().for_each(|(position, image)| grid.place(position, image));
        let mut file = Vec::new();
        png::encode(&mut file, &grid.image().enlarged(scale), &[] as &[(&str, String)])
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(file)
    });
    Ok(PyBytes::new(py, &bytes.map_err(PyValueError::new_err)?))
}

/// The first `words` words of noise of each pixel of an image, uint32 `[pixels, words]`.
#[pyfunction]
fn noise(py: Python, seed: u64, image: u64, pixels: usize, words: usize) -> Bound<PyBytes> {
    let noise = Noise::new(seed, image);
    let words: Vec<u32> =
        (0..pixels).flat_map(|pixel| (0..words).map(move |word| noise.at(pixel).word(word))).collect();
    PyBytes::new(py, bytemuck::cast_slice(&words))
}

/// The candidate of completion `index` that is chosen by the logarithms of their weights.
#[pyfunction]
fn choose(log_weights: Vec<f64>, seed: u64, index: u64, pixels: usize) -> usize {
    resampling::choose(&log_weights, Noise::new(seed, index).beyond(pixels))
}

/// Effective sample size: the number of equally weighted candidates with the same variance.
#[pyfunction]
fn effective_sample_size(log_weights: Vec<f64>) -> f64 {
    resampling::effective_sample_size(&log_weights)
}

#[pymodule]
mod _pixelcnn {
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::model::{Model, shipped_bytes, shipped_names};
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::{choose, effective_sample_size, grid_png, main, noise};

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's name")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
