//! The CPU engine: the yardstick of the GPU engine, and what runs where there is no GPU.
//!
//! Threads own images; with more threads than images, a team shares each. An image is the same bit for bit at
//! any batch size, with any number of threads, and its parameters evaluated by row or by pixel.

mod conv;
pub mod full;
mod math;
pub mod peak;
mod state;
mod team;

use std::io;
use std::ops::Range;
use std::sync::mpsc;
use std::thread;

use super::cost::Device;
use super::{
    Counts, Engine, EngineError, Job, Lane, Method, Outcome, Room, Trace, largest, mebibytes, trace_row,
};
use crate::model::{Config, Model};
use crate::sampling::mixture;
use crate::sampling::random::Noise;
use state::{Memory, Packing, State};
use team::Team;

/// Above this many images a thread, larger batches no longer help.
const IMAGES_PER_THREAD: usize = 64;

/// The share of free memory that is taken unasked; the rest is for others.
const MODEST: f64 = 0.8;

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

    /// Splits the images of a job and their results between teams of threads, which compute them.
    fn share(
        &mut self,
        job: &Job,
        outcome: &mut Outcome,
        watch: &mut dyn FnMut(usize),
    ) -> Result<(), EngineError> {
        let threads = self.memories.len();
        let teams = threads.min(job.lanes.len());
        let size = if threads / teams >= self.packing.team { self.packing.team } else { 1 };
        let packing = &self.packing;
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let mut rest = Images::new(job, &packing.network.config, outcome);
            let mut running = Vec::new();
            for (t, memory) in self.memories.iter_mut().take(teams).enumerate() {
                let mine;
                (mine, rest) = rest.split((job.lanes.len() + t) / teams);
                let sender = sender.clone();
                let work = move || {
                    let classes = mine.lanes.iter().filter_map(|lane| lane.class).collect();
                    memory
                        .begin(packing, mine.lanes.len(), classes)
                        .map_err(|_| no_memory(job, packing))?;
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
        threads * self.packing.state_bytes(batch.div_ceil(threads))
    }

    /// Bytes of caches that are held.
    fn held(&self) -> usize {
        self.memories.iter().map(Memory::bytes).sum()
    }

    /// Bytes that a batch may take: those that are free, and those that are held already.
    fn available(&self) -> usize {
        available_memory().saturating_add(self.held())
    }

    fn fits(&self, batch: usize) -> Result<(), EngineError> {
        let (needed, available) = (self.batch_bytes(batch), self.available());
        if needed <= available {
            return Ok(());
        }
        let limit = format!("{} of memory are free", mebibytes(available as u64));
        let largest = Some(largest(batch, |batch| self.batch_bytes(batch) <= available));
        Err(EngineError::BatchTooLarge { batch, needed: mebibytes(needed as u64), limit, largest })
    }
}

fn no_memory(job: &Job, packing: &Packing) -> EngineError {
    let batch = job.lanes.len();
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

/// How many of `wanted` threads the system lets run at once, at least 1.
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

/// Computes a team's images, on as many threads as the team has, or on this one where no other can be started.
fn compute_in_team(
    packing: &Packing,
    memory: &Memory,
    size: usize,
    images: Images,
    report: &dyn Fn(),
) -> Result<(), EngineError> {
    let (whole, alone) = (Team::new(size), Team::new(1));
    let job = images.job;
    let run = |team: &Team, member, images, report: &dyn Fn()| {
        let _member = team.member();
        compute(&mut State::new(packing, memory, team, member), job, images, report)
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

/// Computes images in the steps that the job names; `report` is called for every pixel that is done. All threads of
/// a team do it; the first has the images.
///
/// # Errors
/// Those of the first thread; none, for the others, if it had any.
fn compute<'a>(
    state: &mut State,
    job: &Job,
    mut images: Option<Images<'a>>,
    report: &dyn Fn(),
) -> Result<(), Option<EngineError>> {
    let mut first = |state: &mut State, turn: Turn<'a>, row, columns| {
        state.try_alone(|state| match &mut images {
            Some(images) => turn(images, state, row, columns),
            None => Ok(()),
        })
    };
    let config = &state.network().config;
    let (width, height, last) = (config.width, config.height, job.pixels_of(config));
    if job.method == Method::Naive {
        for pixel in 0..last {
            state.alone(State::restart);
            for row in 0..height {
                state.begin_row(row);
                first(state, Images::show, row, 0..width)?;
                state.step(row, 0..width);
                if row == pixel / width {
                    first(state, Images::take, row, pixel % width..pixel % width + 1)?;
                }
            }
            report();
        }
        return Ok(());
    }
    let rows_given = job.rows_given(config);
    for row in 0..last.div_ceil(width) {
        let end = width.min(last - row * width);
        state.begin_row(row);
        if row < rows_given {
            first(state, Images::show, row, 0..width)?;
            state.step(row, 0..width);
            first(state, Images::take, row, 0..width)?;
            (0..width).for_each(|_| report());
        } else {
            for column in 0..end {
                state.step(row, column..column + 1);
                first(state, Images::take, row, column..column + 1)?;
                report();
            }
        }
        if job.want.trace {
            first(state, Images::trace, row, 0..end)?;
        }
    }
    Ok(())
}

/// What the first thread of a team does with its images, for some columns of a row.
type Turn<'a> = fn(&mut Images<'a>, &mut State, usize, Range<usize>) -> Result<(), EngineError>;

/// Some images of a job, and where their results go.
struct Images<'a> {
    job: &'a Job,
    config: &'a Config,
    lanes: &'a [Lane],
    /// As in [`Outcome`].
    pixels: &'a mut [f32],
    log_likelihood: &'a mut [f64],
    parameters: &'a mut [f32],
    /// For the job's first image.
    trace: Option<&'a mut Trace>,
}

impl<'a> Images<'a> {
    fn new(job: &'a Job, config: &'a Config, outcome: &'a mut Outcome) -> Self {
        Self {
            job,
            config,
            lanes: &job.lanes,
            pixels: &mut outcome.pixels,
            log_likelihood: &mut outcome.log_likelihood,
            parameters: &mut outcome.parameters,
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
        let (pixels, other_pixels) = cut(self.pixels, count, all);
        let (log_likelihood, other_likelihood) = cut(self.log_likelihood, count, all);
        let (parameters, other_parameters) = cut(self.parameters, count, all);
        let first = Self { lanes, pixels, log_likelihood, parameters, ..self };
        let others = Self {
            lanes: other_lanes,
            pixels: other_pixels,
            log_likelihood: other_likelihood,
            parameters: other_parameters,
            trace: None,
            ..first
        };
        (first, others)
    }

    /// Lets the network see the pixels of a row: those that are given, and those that have been drawn.
    #[allow(clippy::unnecessary_wraps, reason = "a turn may fail")]
    fn show(&mut self, state: &mut State, row: usize, columns: Range<usize>) -> Result<(), EngineError> {
        let Config { width, height, channels, .. } = *self.config;
        for column in columns {
            for (image, lane) in self.lanes.iter().enumerate() {
                let pixel = row * width + column;
                let drawn = &self.pixels[(image * height * width + pixel) * channels..][..channels];
                state.set_pixel(row, column, image, lane.canvas.pixel(pixel, channels).unwrap_or(drawn));
            }
        }
        Ok(())
    }

    /// Takes what the network gave for some pixels of a row, and gives them their values.
    fn take(&mut self, state: &mut State, row: usize, columns: Range<usize>) -> Result<(), EngineError> {
        let Config { width, height, channels, .. } = *self.config;
        let per_pixel = self.config.parameters_per_pixel();
        for column in columns {
            let place = row * width + column;
            for (image, lane) in self.lanes.iter().enumerate() {
                let parameters = state.parameters(column, image);
                // In pieces, each of which is looked through without a branch.
                let of_piece = |piece: &[f32]| piece.iter().fold(true, |all, p| all & p.is_finite());
                let is_finite = parameters.chunks(64).all(of_piece);
                if !is_finite || state.is_broken(image) {
                    let pixel = (!is_finite).then_some([row, column]);
                    return Err(EngineError::NotFinite { image: lane.index, pixel });
                }
                let at = image * height * width + place;
                let pixel = &mut self.pixels[at * channels..][..channels];
                match lane.canvas.pixel(place, channels) {
                    Some(given) => pixel.copy_from_slice(given),
                    None => {
                        let noise = Noise::new(self.job.seed, lane.index);
                        let noise = |block| noise.block(place as u32, block);
                        mixture::draw(parameters, noise, self.job.draw, pixel);
                    }
                }
                if let Some(to) = self.log_likelihood.get_mut(at) {
                    *to = (self.job.likelihood())(parameters, pixel);
                }
                if !self.parameters.is_empty() {
                    self.parameters[at * per_pixel..][..per_pixel].copy_from_slice(parameters);
                }
                state.set_pixel(row, column, image, pixel);
            }
        }
        Ok(())
    }

    /// Adds what a row of the job's first image gave to the trace.
    fn trace(&mut self, state: &mut State, row: usize, _: Range<usize>) -> Result<(), EngineError> {
        let Some(trace) = &mut self.trace else { return Ok(()) };
        trace_row(state.network(), trace, row, self.lanes.len(), |node| Ok(state.ring(node).to_vec()))
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

    fn prepare(&mut self, room: Room) -> Result<usize, EngineError> {
        let batch = match room {
            Room::For(batch) => batch,
            Room::UpTo(most) => {
                let helps = self.memories.len() * IMAGES_PER_THREAD;
                let available = MODEST * self.available() as f64;
                largest(most.min(helps), |batch| self.batch_bytes(batch) as f64 <= available).max(1)
            }
        };
        self.fits(batch)?;
        if self.held() > self.batch_bytes(batch) {
            self.memories.iter_mut().for_each(Memory::release);
        }
        Ok(batch)
    }

    fn run(&mut self, job: &Job, watch: &mut dyn FnMut(usize)) -> Result<Outcome, EngineError> {
        if job.lanes.is_empty() {
            return Ok(Outcome::default());
        }
        self.fits(job.lanes.len())?;
        let mut outcome = Outcome::new(&self.packing.network, job);
        self.share(job, &mut outcome, watch)?;
        Ok(outcome)
    }

    fn device(&self) -> Device {
        Device::Cpu
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

    /// What an engine holds itself is no reason to refuse the next batch.
    #[test]
    fn held_memory_counts_as_free() {
        let model = Model::shipped("mnist").unwrap().unwrap();
        let mut engine = CpuEngine::new(&model, 28, 28, 2);
        let job = Job { pixels: Some(1), ..Job::sample(0, (0..64).map(|i| (i, Some(0)))) };
        engine.run(&job, &mut |_| {}).unwrap();
        let held = engine.held();
        assert!(held >= engine.batch_bytes(64), "{held} bytes");
        assert!(engine.available() >= available_memory() / 2 + held);
        engine.prepare(Room::For(1)).unwrap();
        assert_eq!(engine.held(), 0, "a smaller batch gives memory back");
    }

    #[test]
    fn threads_are_counted_by_starting_them() {
        assert_eq!(startable_threads(3), 3);
    }
}
