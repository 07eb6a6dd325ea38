//! An engine that works while Python does something else, and can be interrupted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use pixelcnn::{Canvas, Draw, EngineError, Lane, Outcome, Request, RequestError, Room, Shape, Want};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

use crate::device::Chosen;
use crate::error;

/// The interval at which signals are looked for and progress is told.
const POLL: Duration = Duration::from_millis(50);

/// Levels, and log-likelihoods of pixels, as bytes.
type Arrays<'py> = (Bound<'py, PyByteArray>, Bound<'py, PyByteArray>);

/// An engine.
#[pyclass(frozen, module = "pixelcnn._pixelcnn")]
pub struct Engine {
    engine: Mutex<Box<dyn pixelcnn::Engine>>,
    shape: Shape,
    #[pyo3(get)]
    name: String,
    #[pyo3(get)]
    is_gpu: bool,
    /// Text of each note, with true if it is a warning.
    #[pyo3(get)]
    notes: Vec<(bool, String)>,
}

impl Engine {
    pub fn new(Chosen { engine, is_gpu, notes }: Chosen) -> Self {
        Self { shape: engine.shape(), name: engine.name(), engine: Mutex::new(engine), is_gpu, notes }
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn pixelcnn::Engine>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes a request on a thread of its own, while this one looks for signals and tells progress.
    fn watched(&self, request: Request, progress: Option<&Py<PyAny>>) -> Result<Outcome, PyErr> {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
        let request = request.until(Arc::clone(&stop));
        let mut locked = self.lock();
        let engine = &mut **locked;
        let of_engine = |error| Python::attach(|py| error::of_engine(py, &error));
        thread::scope(|scope| {
            let (sender, ended) = mpsc::channel::<()>();
            let work = || {
                // Gone when the work is done, or has panicked.
                let _sender = sender;
                engine.run(&request, &mut |pixels| done.store(pixels, Ordering::Relaxed))
            };
            let thread = thread::Builder::new().name("pixelcnn".to_owned()).spawn_scoped(scope, work);
            let thread = thread.map_err(|error| of_engine(EngineError::Threads(error.to_string())))?;
            let look = || {
                Python::attach(|py| {
                    py.check_signals()?;
                    let Some(progress) = progress else { return Ok(()) };
                    progress.call1(py, (done.load(Ordering::Relaxed),)).map(drop)
                })
            };
            let mut looked = Ok(());
            while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(POLL) {
                if looked.is_ok() {
                    looked = look().inspect_err(|_| stop.store(true, Ordering::Relaxed));
                }
            }
            let outcome = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            looked?;
            outcome.map_err(of_engine)
        })
    }
}

#[pymethods]
impl Engine {
    /// Allocates memory for exactly `batch` images, or for as many up to `most` as fit and help; returns
    /// the number.
    #[pyo3(signature = (batch, most))]
    fn prepare(&self, py: Python, batch: Option<usize>, most: usize) -> PyResult<usize> {
        let prepared = py.detach(|| self.lock().prepare(batch.map_or(Room::UpTo(most), Room::For)));
        prepared.map_err(|error| error::of_engine(py, &error))
    }

    /// Computes images: for each of `lanes` its index, its class, and which of the canvases is given of it.
    /// Canvases are uint16 `[K, H, W, C]`, given where bool `[K, H, W]` says so, or all.
    #[pyo3(signature = (seed, lanes, canvases, mask, draw, likelihood, progress))]
    #[allow(clippy::too_many_arguments, reason = "Python names them")]
    fn run<'py>(
        &self,
        py: Python<'py>,
        seed: u64,
        lanes: Vec<(u64, Option<usize>, Option<usize>)>,
        canvases: Option<&[u8]>,
        mask: Option<&[u8]>,
        draw: (f32, f32, f32, usize, bool),
        likelihood: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Arrays<'py>> {
        let (temperature, truncation, min_p, top_k, continuous) = draw;
        let draw = Draw { temperature, top_k, min_p, truncation, continuous };
        let request = || {
            let canvases = self.canvases(canvases.unwrap_or_default(), mask);
            let canvas = |number: Option<usize>| number.map_or_else(Canvas::blank, |n| canvases[n].clone());
            let lane = |(index, class, number)| Lane { index, class, canvas: canvas(number) };
            let want = Want { likelihood, ..Want::default() };
            let lanes = lanes.into_iter().map(lane).collect();
            Ok(Request::new(self.shape, seed, lanes)?.drawing(draw)?.wanting(want))
        };
        let request = py.detach(request).map_err(|error: RequestError| error::of_request(py, &error))?;
        let outcome = py.detach(|| self.watched(request, progress.as_ref()))?;
        let levels = match self.shape.head.levels() > 256 {
            true => PyByteArray::new(py, bytemuck::cast_slice(&outcome.levels)),
            false => PyByteArray::new_with(py, outcome.levels.len(), |bytes| {
                bytes.iter_mut().zip(&outcome.levels).for_each(|(byte, &level)| *byte = level as u8);
                Ok(())
            })?,
        };
        Ok((levels, PyByteArray::new(py, bytemuck::cast_slice(&outcome.log_likelihood))))
    }
}

impl Engine {
    fn canvases(&self, levels: &[u8], mask: Option<&[u8]>) -> Vec<Canvas> {
        let (dimensions, pixels) = (self.shape.dimensions(), self.shape.pixels());
        let images = levels.chunks(2 * dimensions).map(|image| {
            image.as_chunks().0.iter().map(|bytes| u16::from_ne_bytes(*bytes)).collect::<Vec<_>>()
        });
        match mask {
            None => images.map(Canvas::full).collect(),
            Some(mask) => {
                let masks = mask.chunks(pixels).map(|mask| mask.iter().map(|&byte| byte != 0).collect());
                images.zip(masks).map(|(image, mask)| Canvas::partial(image, mask)).collect()
            }
        }
    }
}
