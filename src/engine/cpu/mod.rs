//! The CPU engine: the yardstick of the GPU engine, and the engine of machines without a GPU.
//!
//! Threads own images; with more threads than images, a team shares each. An image is the same bit for bit
//! at any batch size, with any number of threads, and its parameters evaluated by row or by pixel.

mod conv;
mod epilogue;
pub mod full;
mod groups;
mod math;
mod memory;
mod packing;
pub mod peak;
mod session;
mod team;
mod view;

pub use session::Session;

use std::io;
use std::ops::Range;
use std::sync::mpsc;
use std::thread;

use super::cost::Predictor;
use super::{
    Counts, Engine, EngineError, Lane, Method, Outcome, Request, Room, Shape, Trace, largest, mebibytes,
    trace_row,
};
use crate::head::{Head, MOST_CHANNELS};
use crate::model::Model;
use crate::sampling::random::Noise;
use memory::Memory;
use packing::Packing;
use team::Team;
use view::{CacheView, Pixel, Scratch};

/// Above this many images a thread, larger batches no longer help.
const IMAGES_PER_THREAD: usize = 64;

/// Share of free memory that a batch of automatic size may take; the rest is for other programs.
const MEMORY_SHARE: f64 = 0.8;

/// A network on the CPU.
pub struct CpuEngine {
    shape: Shape,
    packing: Packing,
    /// Caches of each thread.
    memories: Vec<Memory>,
}

impl CpuEngine {
    /// A model for images of `width` by `height` pixels, on `threads` threads (at least one).
    pub fn new(model: &Model, width: usize, height: usize, threads: usize) -> Self {
        let memories: Vec<_> = (0..threads.max(1)).map(|_| Memory::default()).collect();
        let threads = memories.len();
        let packing = Packing::new(model, width, height, threads);
        Self { shape: model.shape(width, height), packing, memories }
    }

    /// The same, but with NaN in every value that is not computed yet: reading it breaks the image. For
    /// tests.
    pub fn poisoned(mut self) -> Self {
        self.packing.poisoned = true;
        self
    }

    /// Splits the images of a job and their results between teams of threads, which compute them.
    fn share(
        &mut self,
        request: &Request,
        outcome: &mut Outcome,
        watch: &mut dyn FnMut(usize),
    ) -> Result<(), EngineError> {
        let threads = self.memories.len();
        let teams = threads.min(request.lanes().len());
        let size = if threads / teams >= self.packing.team { self.packing.team } else { 1 };
        let packing = &self.packing;
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let mut rest = Images::new(request, outcome);
            let mut running = Vec::new();
            for (t, memory) in self.memories.iter_mut().take(teams).enumerate() {
                let mine;
                (mine, rest) = rest.split((request.lanes().len() + t) / teams);
                let sender = sender.clone();
                let work = move || {
                    let classes = mine.lanes.iter().map(|lane| lane.class.unwrap_or(0)).collect();
                    memory
                        .begin(packing, mine.lanes.len(), classes)
                        .map_err(|_| no_memory(request.lanes().len(), packing))?;
                    compute_in_team(packing, memory, size, mine, &|| _ = sender.send(()))
                };
                running.push(thread::Builder::new().spawn_scoped(scope, work).map_err(no_thread)?);
            }
            drop(sender);
            for (steps, ()) in receiver.iter().enumerate() {
                watch((steps + 1) / teams);
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
        self.packing.state_bytes(batch.div_ceil(threads)).saturating_mul(threads)
    }

    /// Bytes of caches that are held.
    fn held(&self) -> usize {
        self.memories.iter().map(Memory::bytes).sum()
    }

    /// Bytes available to a batch: free ones, and those already held.
    fn available(&self) -> usize {
        available_memory().saturating_add(self.held())
    }

    fn fits(&self, batch: usize) -> Result<(), EngineError> {
        check_memory(batch, self.available(), &|batch| self.batch_bytes(batch))
    }
}

/// Refuses a batch whose `bytes` are more than are available.
fn check_memory(batch: usize, available: usize, bytes: &dyn Fn(usize) -> usize) -> Result<(), EngineError> {
    let needed = bytes(batch);
    if needed <= available {
        return Ok(());
    }
    let limit = format!("{} of memory are free", mebibytes(available as u64));
    let largest = Some(largest(batch, |batch| bytes(batch) <= available));
    Err(EngineError::BatchTooLarge { batch, needed: mebibytes(needed as u64), limit, largest })
}

fn no_memory(batch: usize, packing: &Packing) -> EngineError {
    EngineError::BatchTooLarge {
        batch,
        needed: mebibytes(packing.state_bytes(batch) as u64),
        limit: "the system gives less memory".into(),
        largest: None,
    }
}

fn no_thread(error: io::Error) -> EngineError {
    EngineError::Threads(error.to_string())
}

/// Number of threads, of `wanted`, that the system lets run at once; at least 1.
pub fn startable_threads(wanted: usize) -> usize {
    thread::scope(|scope| {
        let start = |_| {
            let (go, wait) = mpsc::channel::<()>();
            thread::Builder::new().spawn_scoped(scope, move || _ = wait.recv()).ok().map(|_| go)
        };
        // All at once: each waits until the others are counted.
        let waiting: Vec<_> = (0..wanted).map_while(start).collect();
        waiting.len().max(1)
    })
}

/// Computes a team's images, on the team's threads, or on this one if no other can be started.
fn compute_in_team(
    packing: &Packing,
    memory: &Memory,
    size: usize,
    images: Images,
    report: &dyn Fn(),
) -> Result<(), EngineError> {
    let (whole, alone) = (Team::new(size), Team::new(1));
    let request = images.request;
    let run = |team: &Team, member, images, report: &dyn Fn()| {
        let _member = team.member();
        let scratch = Scratch::new(packing);
        // SAFETY: the team's threads have the memory to themselves, and each follows the request's steps,
        // as `compute` does.
        let mut state = unsafe { CacheView::new(packing, memory, team, member, scratch) };
        compute(&mut state, request, images, report)
    };
    let ended = thread::scope(|scope| {
        // All threads of the team begin, or none.
        let start = |member| {
            let (start, started) = mpsc::channel();
            let (run, whole) = (&run, &whole);
            let body = move || _ = started.recv().map(|()| run(whole, member, None, &|| {}));
            thread::Builder::new().spawn_scoped(scope, body).map(|_| start)
        };
        let team = match (1..size).map(start).collect::<io::Result<Vec<_>>>() {
            Ok(others) => {
                others.iter().for_each(|other| _ = other.send(()));
                &whole
            }
            Err(_) => &alone,
        };
        run(team, 0, Some(images), report)
    });
    ended.map_err(|error| error.expect("the first thread has its own errors alone"))
}

/// Computes images in the steps that the request names; calls `report` for every finished pixel. All
/// threads of a team do it; the first has the images.
///
/// # Errors
/// Errors of the first thread; the others return none if it had any.
fn compute<'a>(
    state: &mut CacheView,
    request: &Request,
    mut images: Option<Images<'a>>,
    report: &dyn Fn(),
) -> Result<(), Option<EngineError>> {
    let mut first = |state: &mut CacheView, turn: Turn<'a>, row, columns, step| {
        state.try_alone(|state| match &mut images {
            Some(images) => turn(images, state, row, columns, step),
            None => Ok(()),
        })
    };
    let (shape, last) = (request.shape(), request.pixels());
    let (width, height) = (shape.width, shape.height);
    if request.method() == Method::Naive {
        let steps = shape.head.steps();
        for (pixel, step) in (0..last).flat_map(|pixel| (0..steps).map(move |step| (pixel, step))) {
            state.alone(CacheView::restart);
            for row in 0..height {
                state.begin_row(row);
                first(state, Images::show, row, 0..width, None)?;
                state.known_row(row);
                if row == pixel / width {
                    first(state, Images::take, row, pixel % width..pixel % width + 1, Some(step))?;
                }
            }
            if step + 1 == steps {
                report();
            }
        }
        return Ok(());
    }
    let rows_given = request.rows_given();
    for row in 0..last.div_ceil(width) {
        let end = width.min(last - row * width);
        state.begin_row(row);
        if row < rows_given {
            first(state, Images::show, row, 0..width, None)?;
            state.known_row(row);
            first(state, Images::take, row, 0..width, None)?;
            (0..width).for_each(|_| report());
        } else {
            for column in 0..end {
                for step in 0..shape.head.steps() {
                    state.step(row, column, step);
                    first(state, Images::take, row, column..column + 1, Some(step))?;
                }
                report();
            }
            if end == width {
                state.end_row(row);
            }
        }
        if request.want().trace {
            first(state, Images::trace, row, 0..end, None)?;
        }
    }
    if request.want().trace && last == width * height {
        // Nodes that lag behind the last row.
        for row in height..height + state.network().largest_lag() {
            state.begin_row(row);
            state.known_row(row);
            first(state, Images::trace, row, 0..width, None)?;
        }
    }
    Ok(())
}

/// The first thread's work on its images, for some columns of a row, in one step of a pixel or in all.
type Turn<'a> =
    fn(&mut Images<'a>, &mut CacheView, usize, Range<usize>, Option<usize>) -> Result<(), EngineError>;

/// Some images of a request, and where their results go.
struct Images<'a> {
    request: &'a Request,
    lanes: &'a [Lane],
    /// See [`Outcome`].
    levels: &'a mut [u16],
    log_likelihood: &'a mut [f64],
    parameters: &'a mut [f32],
    /// Values shown to the network instead of levels, `[N, H, W, C]`, if the draw is not rounded.
    values: Vec<f32>,
    /// True if all pixels of the request are given.
    is_evaluation: bool,
    /// Trace of the request's first image.
    trace: Option<&'a mut Trace>,
}

impl<'a> Images<'a> {
    fn new(request: &'a Request, outcome: &'a mut Outcome) -> Self {
        Self {
            request,
            lanes: request.lanes(),
            levels: &mut outcome.levels,
            log_likelihood: &mut outcome.log_likelihood,
            parameters: &mut outcome.parameters,
            values: Vec::new(),
            is_evaluation: request.is_evaluation(),
            trace: Some(&mut outcome.trace),
        }
    }

    /// The first `count` images, and the others.
    fn split(self, count: usize) -> (Self, Self) {
        fn cut<T>(of_all: &mut [T], count: usize, all: usize) -> (&mut [T], &mut [T]) {
            of_all.split_at_mut(of_all.len() / all.max(1) * count)
        }
        let all = self.lanes.len();
        let (lanes, other_lanes) = self.lanes.split_at(count);
        let (levels, other_levels) = cut(self.levels, count, all);
        let (log_likelihood, other_likelihood) = cut(self.log_likelihood, count, all);
        let (parameters, other_parameters) = cut(self.parameters, count, all);
        let values = |levels: &[u16]| match self.request.draw().continuous {
            true => vec![0.0; levels.len()],
            false => Vec::new(),
        };
        let others = Self {
            request: self.request,
            lanes: other_lanes,
            values: values(other_levels),
            levels: other_levels,
            log_likelihood: other_likelihood,
            parameters: other_parameters,
            is_evaluation: self.is_evaluation,
            trace: None,
        };
        let values = values(levels);
        (Self { lanes, levels, log_likelihood, parameters, values, ..self }, others)
    }

    /// Index of a pixel of an image among all.
    fn place(&self, image: usize, row: usize, column: usize) -> usize {
        let Shape { height, width, .. } = *self.request.shape();
        (image * height + row) * width + column
    }

    /// Shows the network a pixel, given or drawn, up to channel `known`.
    fn show_pixel(&self, state: &mut CacheView, image: usize, [row, column]: [usize; 2], known: usize) {
        let (shape, at) = (self.request.shape(), self.place(image, row, column));
        let channels = shape.head.channels();
        let here = at * channels..at * channels + known;
        let pixel = match self.lanes[image].canvas.pixel(row * shape.width + column, channels) {
            Some(given) => Pixel::Levels(&given[..known]),
            None if self.values.is_empty() => Pixel::Levels(&self.levels[here]),
            None => Pixel::Values(&self.values[here]),
        };
        state.set_pixel(row, column, image, pixel);
    }

    /// Shows the network the pixels of a row, given or drawn.
    #[allow(clippy::unnecessary_wraps, reason = "a turn may fail")]
    fn show(
        &mut self,
        state: &mut CacheView,
        row: usize,
        columns: Range<usize>,
        _: Option<usize>,
    ) -> Result<(), EngineError> {
        let channels = self.request.shape().head.channels();
        for column in columns {
            (0..self.lanes.len()).for_each(|image| self.show_pixel(state, image, [row, column], channels));
        }
        Ok(())
    }

    /// Takes the network's parameters for some pixels of a row, and sets their levels.
    fn take(
        &mut self,
        state: &mut CacheView,
        row: usize,
        columns: Range<usize>,
        step: Option<usize>,
    ) -> Result<(), EngineError> {
        self.request.go_on()?;
        let steps = step.map_or(0..self.request.shape().head.steps(), |step| step..step + 1);
        for column in columns {
            steps.clone().try_for_each(|step| self.take_step(state, row, column, step))?;
        }
        Ok(())
    }

    /// Takes the network's parameters for a step of a pixel, and sets the levels of its channels.
    fn take_step(
        &mut self,
        state: &mut CacheView,
        row: usize,
        column: usize,
        step: usize,
    ) -> Result<(), EngineError> {
        let shape = *self.request.shape();
        let (head, place) = (shape.head, row * shape.width + column);
        let (channels, is_last) = (head.channels(), step + 1 == head.steps());
        let here = head.channels_of(step);
        for (image, lane) in self.lanes.iter().enumerate() {
            let parameters = state.parameters(row, column, image);
            let is_finite = math::all_finite(&parameters[head.parameters_of(step)]);
            if !is_finite || state.is_broken(image) {
                let pixel = (!is_finite).then_some([row, column]);
                return Err(EngineError::NotFinite { image: lane.index, pixel });
            }
            let at = self.place(image, row, column);
            let levels = &mut self.levels[at * channels..][..channels];
            match lane.canvas.pixel(place, channels) {
                Some(given) => levels[here.clone()].copy_from_slice(&given[here.clone()]),
                None => {
                    let noise = Noise::new(self.request.seed(), lane.index).at(place);
                    let mut values = [0.0; MOST_CHANNELS];
                    let values = &mut values[..channels];
                    head.draw(step, parameters, noise, self.request.draw(), levels, values);
                    if let Some(kept) = self.values.get_mut(at * channels..(at + 1) * channels) {
                        kept.copy_from_slice(values);
                    }
                }
            }
            if let Some(to) = self.log_likelihood.get_mut(at).filter(|_| is_last) {
                let log_likelihood = match self.is_evaluation {
                    true => Head::log_likelihood,
                    false => Head::fast_log_likelihood,
                };
                *to = log_likelihood(&head, parameters, levels);
            }
            if is_last && !self.parameters.is_empty() {
                let per_pixel = head.parameters();
                self.parameters[at * per_pixel..][..per_pixel].copy_from_slice(parameters);
            }
            self.show_pixel(state, image, [row, column], here.end);
        }
        Ok(())
    }

    /// Adds a row of the request's first image to the trace.
    fn trace(
        &mut self,
        state: &mut CacheView,
        row: usize,
        _: Range<usize>,
        _: Option<usize>,
    ) -> Result<(), EngineError> {
        let Some(trace) = &mut self.trace else { return Ok(()) };
        trace_row(state.network(), trace, row, self.lanes.len(), |node| Ok(state.ring(node).to_vec()))
    }
}

/// Bytes of free memory; no limit if the system does not tell.
fn available_memory() -> usize {
    let Ok(mut system) = sysinfo::System::new() else { return usize::MAX };
    system.refresh_memory();
    let of_group = groups::free_memory().unwrap_or(u64::MAX);
    usize::try_from(system.available_memory().min(of_group)).unwrap_or(usize::MAX)
}

impl Engine for CpuEngine {
    fn name(&self) -> String {
        match self.memories.len() {
            1 => "CPU (1 thread)".into(),
            n => format!("CPU ({n} threads)"),
        }
    }

    fn prepare(&mut self, room: Room) -> Result<usize, EngineError> {
        let batch = match room {
            Room::For(batch) => batch,
            Room::UpTo(most) => {
                let helps = self.memories.len() * IMAGES_PER_THREAD;
                let available = MEMORY_SHARE * self.available() as f64;
                largest(most.min(helps), |batch| self.batch_bytes(batch) as f64 <= available).max(1)
            }
        };
        self.fits(batch)?;
        if self.held() > self.batch_bytes(batch) {
            self.memories.iter_mut().for_each(Memory::release);
        }
        Ok(batch)
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn run(&mut self, request: &Request, watch: &mut dyn FnMut(usize)) -> Result<Outcome, EngineError> {
        request.check(&self.shape)?;
        if request.lanes().is_empty() {
            return Ok(Outcome::default());
        }
        self.fits(request.lanes().len())?;
        let mut outcome = Outcome::new(&self.packing.network, request);
        self.share(request, &mut outcome, watch)?;
        Ok(outcome)
    }

    fn predictor(&self) -> Predictor {
        Predictor::of_layers()
    }

    fn counts(&self) -> Counts {
        let macs = self.memories.iter().map(Memory::macs).sum();
        Counts { macs, ..Counts::default() }
    }

    fn bytes(&self) -> u64 {
        (self.packing.weight_bytes() + self.held()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that an engine holds itself must not refuse its next batch.
    #[cfg(feature = "builtin-models")]
    #[test]
    fn held_memory_counts_as_free() {
        let model = Model::shipped("mnist").unwrap().unwrap();
        let mut engine = CpuEngine::new(&model, 28, 28, 2);
        let lanes = (0..64).map(|i| (i, Some(0)));
        let request = Request::sample(engine.shape(), 0, lanes).unwrap().first(1);
        engine.run(&request, &mut |_| {}).unwrap();
        let held = engine.held();
        assert!(held >= engine.batch_bytes(64), "{held} bytes");
        assert!(engine.available() >= available_memory() / 2 + held);
        engine.prepare(Room::For(1)).unwrap();
        assert_eq!(engine.held(), 0, "a smaller batch gives memory back");
    }

    #[cfg(feature = "builtin-models")]
    #[test]
    fn a_request_that_is_given_up_ends_and_the_engine_draws_on() {
        let model = Model::shipped("mnist").unwrap().unwrap();
        let mut engine = CpuEngine::new(&model, 28, 28, 2);
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let request = Request::sample(engine.shape(), 0, [(0, Some(0))]).unwrap().first(60);
        let expected = engine.run(&request, &mut |_| {}).unwrap().levels;
        let request = request.until(std::sync::Arc::clone(&stop));
        assert_eq!(engine.run(&request, &mut |_| {}).unwrap().levels, expected);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(engine.run(&request, &mut |_| {}), Err(EngineError::Stopped)));
        stop.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(engine.run(&request, &mut |_| {}).unwrap().levels, expected);
    }

    #[test]
    fn threads_are_counted_by_starting_them() {
        assert_eq!(startable_threads(3), 3);
    }
}
