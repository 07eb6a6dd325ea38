//! The CPU engine: the oracle for the GPU engine, and what runs where there is no GPU.
//!
//! Every thread owns some of the images and runs them without locks. An image is the same bit for bit at
//! any batch size, with any number of threads, and its parameters evaluated by row or by pixel.

mod conv;
pub mod full;
mod math;
mod state;

use std::sync::mpsc;

use super::{Engine, EngineError, Job, Trace, begin_trace, trace_row};
use crate::model::Model;
use crate::sampling::mixture;
use crate::sampling::random::Noise;
use state::{Memory, Packing, State};

/// Above this many images a thread, larger batches no longer help.
const IMAGES_PER_THREAD: usize = 64;

/// A network on the CPU.
pub struct CpuEngine {
    packing: Packing,
    /// Caches of each thread.
    memories: Vec<Memory>,
}

impl CpuEngine {
    /// A model for images of `width` by `height` pixels, on `threads` threads (at least one).
    pub fn new(model: &Model, width: usize, height: usize, threads: usize) -> Self {
        let memories = (0..threads.max(1)).map(|_| Memory::default()).collect();
        Self { packing: Packing::new(model, width, height), memories }
    }

    /// As [`Engine::parameters`], by the steps of the sampler: one pixel at a time.
    ///
    /// # Errors
    /// Any [`EngineError`].
    pub fn parameters_by_pixel(
        &mut self,
        images: &[f32],
        classes: &[usize],
    ) -> Result<Vec<f32>, EngineError> {
        self.evaluate(images, classes, 1)
    }

    /// Parameters of given images, `span` pixels a step.
    fn evaluate(
        &mut self,
        images: &[f32],
        classes: &[usize],
        span: usize,
    ) -> Result<Vec<f32>, EngineError> {
        let config = &self.packing.network.config;
        let (width, height, channels) = (config.width, config.height, config.channels);
        let per_pixel = config.parameters_per_pixel();
        let count = images.len() / config.dimensions();
        self.fits(count)?;
        let mut parameters = vec![0.0; count * width * height * per_pixel];
        self.share(
            count,
            &mut parameters,
            |packing, memory, first, out, _| {
                let batch = out.len() / (width * height * per_pixel);
                let classes = classes.get(first..first + batch).unwrap_or(&[]);
                let mut state = State::begin(packing, memory, batch, classes);
                for row in 0..height {
                    state.begin_row(row);
                    for start in (0..width).step_by(span) {
                        let columns = start..width.min(start + span);
                        let pixels =
                            || columns.clone().flat_map(|c| (0..batch).map(move |image| (c, image)));
                        let pixel = |column, image| (image * height + row) * width + column;
                        for (column, image) in pixels() {
                            let given = (first * height * width + pixel(column, image)) * channels;
                            state.set_pixel(row, column, image, &images[given..given + channels]);
                        }
                        state.step(row, columns.clone());
                        for (column, image) in pixels() {
                            out[pixel(column, image) * per_pixel..][..per_pixel]
                                .copy_from_slice(state.parameters(column, image));
                        }
                    }
                }
                Ok(())
            },
            &mut |_| {},
        )?;
        Ok(parameters)
    }

    /// Splits `count` images and their results between the threads, and runs `work` on each.
    ///
    /// `work` gets the index of its first image and its part of `out`, and reports every finished row.
    fn share<W>(
        &mut self,
        count: usize,
        out: &mut [f32],
        work: W,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(), EngineError>
    where
        W: Fn(&Packing, &mut Memory, usize, &mut [f32], &dyn Fn()) -> Result<(), EngineError> + Sync,
    {
        if count == 0 {
            return Ok(());
        }
        let threads = self.memories.len().min(count);
        let (packing, work) = (&self.packing, &work);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let (mut first, mut rest) = (0, out);
            let mut running = Vec::new();
            for (t, memory) in self.memories.iter_mut().take(threads).enumerate() {
                let images = (count + t) / threads;
                let (mine, others) = rest.split_at_mut(rest.len() / (count - first) * images);
                let sender = sender.clone();
                running.push(scope.spawn(move || {
                    let finished_row = || _ = sender.send(());
                    work(packing, memory, first, mine, &finished_row)
                }));
                rest = others;
                first += images;
            }
            drop(sender);
            for (rows, ()) in receiver.iter().enumerate() {
                progress((rows + 1) / threads);
            }
            running.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    /// Bytes that a batch needs at its peak, beside the weights.
    fn batch_bytes(&self, batch: usize) -> usize {
        let threads = self.memories.len();
        threads * self.packing.state_bytes(batch.div_ceil(threads))
    }

    fn fits(&self, batch: usize) -> Result<(), EngineError> {
        let available = available_memory();
        if self.batch_bytes(batch) <= available {
            return Ok(());
        }
        let gibibytes = |bytes: usize| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
        Err(EngineError::BatchTooLarge {
            batch,
            needed: gibibytes(self.batch_bytes(batch)),
            limit: format!("{} of memory are free", gibibytes(available)),
            largest: self.largest(batch, available),
        })
    }

    /// The largest batch up to `most` that fits into `available` bytes.
    fn largest(&self, most: usize, available: usize) -> usize {
        let (mut fits, mut too_large) = (0, most + 1);
        while too_large - fits > 1 {
            let middle = fits + (too_large - fits) / 2;
            if self.batch_bytes(middle) <= available { fits = middle } else { too_large = middle }
        }
        fits
    }
}

/// Bytes of memory that are free to be used; no limit where the system does not tell.
fn available_memory() -> usize {
    let Ok(mut system) = sysinfo::System::new() else { return usize::MAX };
    system.refresh_memory();
    let of_group = system.cgroup_limits().map_or(u64::MAX, |group| group.free_memory);
    usize::try_from(system.available_memory().min(of_group)).unwrap_or(usize::MAX)
}

impl Engine for CpuEngine {
    fn name(&self) -> String {
        match self.memories.len() {
            1 => "CPU (1 thread)".into(),
            n => format!("CPU ({n} threads)"),
        }
    }

    fn suggested_batch(&self, count: usize) -> usize {
        let helps = self.memories.len() * IMAGES_PER_THREAD;
        self.largest(count.min(helps), available_memory()).max(1)
    }

    fn prepare(&mut self, batch: usize) -> Result<(), EngineError> {
        self.fits(batch)
    }

    fn sample(&mut self, job: &Job, progress: &mut dyn FnMut(usize)) -> Result<Vec<f32>, EngineError> {
        self.fits(job.count)?;
        let config = &self.packing.network.config;
        let (width, height, channels) = (config.width, config.height, config.channels);
        let draws = config.mixtures + channels;
        let mut images = vec![0.0; job.count * config.dimensions()];
        self.share(
            job.count,
            &mut images,
            |packing, memory, first, out, finished_row| {
                let batch = out.len() / (width * height * channels);
                let classes = job.classes.get(first..first + batch).unwrap_or(&[]);
                let mut state = State::begin(packing, memory, batch, classes);
                let mut draws = vec![0.0; draws];
                for row in 0..height {
                    state.begin_row(row);
                    for column in 0..width {
                        state.step(row, column..column + 1);
                        for image in 0..batch {
                            let parameters = state.parameters(column, image);
                            let index = job.first + (first + image) as u64;
                            if !parameters.iter().all(|p| p.is_finite()) {
                                return Err(EngineError::NotFinite { image: index, row, column });
                            }
                            Noise::new(job.seed, index).uniforms((row * width + column) as u32, &mut draws);
                            let at = ((image * height + row) * width + column) * channels;
                            let pixel = &mut out[at..at + channels];
                            mixture::draw(parameters, &draws, job.continuous, pixel);
                            state.set_pixel(row, column, image, pixel);
                        }
                    }
                    finished_row();
                }
                Ok(())
            },
            progress,
        )?;
        Ok(images)
    }

    fn parameters(&mut self, images: &[f32], classes: &[usize]) -> Result<Vec<f32>, EngineError> {
        self.evaluate(images, classes, self.packing.network.config.width)
    }

    fn trace(&mut self, image: &[f32], class: Option<usize>) -> Result<Trace, EngineError> {
        let classes: Vec<_> = class.into_iter().collect();
        let config = &self.packing.network.config;
        let mut trace = begin_trace(&self.packing.network);
        let mut state = State::begin(&self.packing, &mut self.memories[0], 1, &classes);
        for (row, pixels) in image.chunks(config.width * config.channels).enumerate() {
            state.begin_row(row);
            for (column, pixel) in pixels.chunks(config.channels).enumerate() {
                state.step(row, column..column + 1);
                state.set_pixel(row, column, 0, pixel);
            }
            let ring = |node| Ok(state.ring(node).to_vec());
            trace_row(&self.packing.network, &mut trace, row, 1, ring)?;
        }
        Ok(trace)
    }
}
