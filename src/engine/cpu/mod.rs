//! The CPU engine: the oracle for the GPU engine, and what runs where there is no GPU.
//!
//! Threads own images; with more threads than images, a team shares each. An image is the same bit for bit at
//! any batch size, with any number of threads, and its parameters evaluated by row or by pixel.

mod conv;
pub mod full;
mod math;
mod state;
mod team;

use std::ops::Range;
use std::sync::mpsc;

use super::{Counts, Engine, EngineError, Job, Method, Trace, begin_trace, trace_row};
use crate::model::{Config, Model};
use crate::sampling::mixture;
use crate::sampling::random::Noise;
use state::{Memory, Packing, State};
use team::Team;

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
        let memories: Vec<_> = (0..threads.max(1)).map(|_| Memory::default()).collect();
        let threads = memories.len();
        Self { packing: Packing::new(model, width, height, threads), memories }
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
        let work = |state: &mut State, first: usize, mut out: Option<&mut [f32]>, _: &dyn Fn()| {
            let batch = state.batch();
            let pixels = |columns: Range<usize>| {
                columns.flat_map(move |column| (0..batch).map(move |image| (column, image)))
            };
            let pixel = |row, column, image| (image * height + row) * width + column;
            for row in 0..height {
                state.begin_row(row);
                for start in (0..width).step_by(span) {
                    let columns = start..width.min(start + span);
                    state.alone(|state| {
                        for (column, image) in pixels(columns.clone()) {
                            let at = (first * height * width + pixel(row, column, image)) * channels;
                            state.set_pixel(row, column, image, &images[at..at + channels]);
                        }
                    });
                    state.step(row, columns.clone());
                    let Some(out) = &mut out else { continue };
                    for (column, image) in pixels(columns) {
                        out[pixel(row, column, image) * per_pixel..][..per_pixel]
                            .copy_from_slice(state.parameters(column, image));
                    }
                }
            }
            Ok(())
        };
        self.share(count, classes, &mut parameters, work, &mut |_| {})?;
        Ok(parameters)
    }

    /// Splits `count` images and their results between teams of threads, and runs `work` on each thread.
    ///
    /// `work` gets the index of its team's first image; the first thread of a team also gets the team's part
    /// of `out`, and reports every finished pixel.
    fn share<W>(
        &mut self,
        count: usize,
        classes: &[usize],
        out: &mut [f32],
        work: W,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(), EngineError>
    where
        W: Fn(&mut State, usize, Option<&mut [f32]>, &dyn Fn()) -> Result<(), EngineError> + Sync,
    {
        if count == 0 {
            return Ok(());
        }
        let threads = self.memories.len();
        let teams = threads.min(count);
        let size = if threads / teams >= self.packing.team { self.packing.team } else { 1 };
        let (packing, work) = (&self.packing, &work);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let (mut first, mut rest) = (0, out);
            let mut running = Vec::new();
            for (t, memory) in self.memories.iter_mut().take(teams).enumerate() {
                let images = (count + t) / teams;
                let (mine, others) = rest.split_at_mut(rest.len() / (count - first) * images);
                let classes = classes.get(first..first + images).unwrap_or(&[]);
                let sender = sender.clone();
                running.push(scope.spawn(move || {
                    memory.begin(packing, images, classes);
                    let (memory, team) = (&*memory, &Team::new(size));
                    let run = |member, out, report: &dyn Fn()| {
                        let _member = team.member();
                        work(&mut State::new(packing, memory, team, member), first, out, report)
                    };
                    std::thread::scope(|scope| {
                        for member in 1..size {
                            scope.spawn(move || run(member, None, &|| {}));
                        }
                        run(0, Some(mine), &|| _ = sender.send(()))
                    })
                }));
                rest = others;
                first += images;
            }
            drop(sender);
            for (pixels, ()) in receiver.iter().enumerate() {
                progress((pixels + 1) / teams);
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

/// Draws the pixels of a thread's images.
struct Sampler<'a> {
    job: &'a Job,
    config: &'a Config,
    /// The first image, counted from the job's first.
    first: usize,
    /// `[images, H, W, C]`
    out: &'a mut [f32],
    draws: Vec<f32>,
}

impl Sampler<'_> {
    /// Draws a pixel of every image from the parameters that were computed for it.
    fn draw(&mut self, state: &mut State, row: usize, column: usize) -> Result<(), EngineError> {
        let Config { width, height, channels, mixtures, .. } = *self.config;
        self.draws.resize(mixtures + channels, 0.0);
        for image in 0..self.out.len() / self.config.dimensions() {
            let parameters = state.parameters(column, image);
            let index = self.job.first + (self.first + image) as u64;
            if !parameters.iter().all(|p| p.is_finite()) {
                return Err(EngineError::NotFinite { image: index, row, column });
            }
            Noise::new(self.job.seed, index).uniforms((row * width + column) as u32, &mut self.draws);
            let at = ((image * height + row) * width + column) * channels;
            let pixel = &mut self.out[at..at + channels];
            mixture::draw(parameters, &self.draws, self.job.continuous, pixel);
            state.set_pixel(row, column, image, pixel);
        }
        Ok(())
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
        let config = self.packing.network.config.clone();
        let (width, height) = (config.width, config.height);
        let mut images = vec![0.0; job.count * config.dimensions()];
        let last = job.pixels_of(&config);
        let work = |state: &mut State, first, out: Option<&mut [f32]>, report: &dyn Fn()| {
            let mut sampler =
                out.map(|out| Sampler { job, config: &config, first, out, draws: Vec::new() });
            let mut draw = |state: &mut State, row, column| match &mut sampler {
                Some(sampler) => sampler.draw(state, row, column),
                None => Ok(()),
            };
            for pixel in 0..last {
                let (row, column) = (pixel / width, pixel % width);
                // For the naive method, all rows of the network for every pixel.
                let (rows, columns) = match job.method {
                    Method::Cached => (row..row + 1, column..column + 1),
                    Method::Naive => (0..height, 0..width),
                };
                if job.method == Method::Naive {
                    state.alone(State::restart);
                }
                for at in rows {
                    if columns.start == 0 {
                        state.begin_row(at);
                    }
                    state.step(at, columns.clone());
                    if at == row && state.try_alone(|state| draw(state, row, column))?.is_break() {
                        return Ok(());
                    }
                }
                report();
            }
            Ok(())
        };
        self.share(job.count, &job.classes, &mut images, work, progress)?;
        Ok(images)
    }

    fn parameters(&mut self, images: &[f32], classes: &[usize]) -> Result<Vec<f32>, EngineError> {
        self.evaluate(images, classes, self.packing.network.config.width)
    }

    fn counts(&self) -> Counts {
        let macs = self.memories.iter().map(Memory::macs).sum();
        Counts { macs, ..Counts::default() }
    }

    fn bytes(&self) -> u64 {
        let caches: usize = self.memories.iter().map(Memory::bytes).sum();
        (self.packing.weight_bytes() + caches) as u64
    }

    fn trace(&mut self, image: &[f32], class: Option<usize>) -> Result<Trace, EngineError> {
        let classes: Vec<_> = class.into_iter().collect();
        let config = &self.packing.network.config;
        let mut trace = begin_trace(&self.packing.network);
        self.memories[0].begin(&self.packing, 1, &classes);
        let team = Team::new(1);
        let mut state = State::new(&self.packing, &self.memories[0], &team, 0);
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
