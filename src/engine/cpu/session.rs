//! Images computed level by level, each level chosen by the caller: for coders, which know the level or
//! decode it.

use std::sync::{Mutex, PoisonError};
use std::thread;

use super::memory::Memory;
use super::packing::{Packing, pixel_macs};
use super::team::Team;
use super::view::{CacheView, Pixel, Scratch};
use super::{available_memory, check_memory};
use crate::engine::{EngineError, RequestError, Shape};
use crate::model::Model;

/// Multiply-adds of a pixel that pay for starting a thread.
const MACS_A_THREAD: usize = 1 << 20;

/// Images computed level by level: pixel after pixel in raster order, and channel after channel.
///
/// For each channel the caller reads the probabilities of its levels, or the parameters behind them, and
/// gives the level of every image. These depend on the model, the class, and the levels given before. The
/// same program on the same processor computes the same bits, at any number of images and threads.
pub struct Session {
    shape: Shape,
    packing: Packing,
    /// The images in order, a share for each thread.
    shares: Vec<Share>,
    /// Channels that have been given their levels, of all pixels together.
    given: usize,
}

/// The images of a thread.
struct Share {
    memory: Memory,
    team: Team,
    scratch: Scratch,
    /// `[N, C]`: the levels of the current pixel.
    levels: Vec<u16>,
}

impl Session {
    /// Begins images of `width` by `height` pixels, one for each item of `classes`; items are none for a model without
    /// classes. At most `threads` threads are used, as many as there is work for.
    ///
    /// # Errors
    /// [`RequestError`] if a class is none of the model's; [`EngineError::BatchTooLarge`] if there is not enough memory.
    pub fn new(
        model: &Model,
        width: usize,
        height: usize,
        classes: &[Option<usize>],
        threads: usize,
    ) -> Result<Self, EngineError> {
        let shape = model.shape(width, height);
        for (image, class) in (0..).zip(classes) {
            RequestError::check_class(image, *class, shape.classes)?;
        }
        let packing = Packing::new(model, width, height, 1);
        let images = classes.len();
        let bytes = |images| packing.state_bytes(images);
        check_memory(images, available_memory(), &bytes)?;
        let paid = (images * pixel_macs(&packing.network)).div_ceil(MACS_A_THREAD);
        let threads = threads.min(images).min(paid).max(1);
        let mut shares = Vec::with_capacity(threads);
        for t in 0..threads {
            let of_share = &classes[images * t / threads..images * (t + 1) / threads];
            let mut memory = Memory::default();
            let of_images = of_share.iter().map(|class| class.unwrap_or(0)).collect();
            memory
                .begin(&packing, of_share.len(), of_images)
                .map_err(|_| super::no_memory(images, &packing))?;
            let levels = vec![0; of_share.len() * shape.head.channels()];
            shares.push(Share { memory, team: Team::new(1), scratch: Scratch::new(&packing), levels });
        }
        let mut session = Self { shape, packing, shares, given: 0 };
        session.each(|_, state, _| {
            state.begin_row(0);
            state.step(0, 0, 0);
            Ok(())
        })?;
        Ok(session)
    }

    /// The shape of its images.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Row, column and channel of the next level; none when the images are complete.
    pub fn place(&self) -> Option<[usize; 3]> {
        let channels = self.shape.head.channels();
        let pixel = self.given / channels;
        (pixel < self.shape.pixels())
            .then(|| [pixel / self.shape.width, pixel % self.shape.width, self.given % channels])
    }

    /// The parameters of the step that draws the next level of every image, `[N, P]`; see
    /// [`Head::parameters_of`](crate::head::Head::parameters_of).
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] if the network gave NaN or infinity.
    ///
    /// # Panics
    /// If the images are complete.
    pub fn parameters(&mut self) -> Result<Vec<f32>, EngineError> {
        let place @ [_, _, channel] = self.place().expect("the images are not complete");
        let range = self.shape.head.parameters_of(self.shape.head.step_of(channel));
        let parts = self.each(|first, state, levels| {
            let images = levels.len() / state.network().head.channels();
            let mut parts = Vec::with_capacity(images * range.len());
            for image in 0..images {
                parts.extend_from_slice(&sound(state, place, first, image)?[range.clone()]);
            }
            Ok(parts)
        });
        parts.map(|parts| parts.concat())
    }

    /// The probabilities of the next level of every image, `[N, L]`. Those of an image add up to 1, except
    /// for rounding; those below 1e-37 may be 0.
    ///
    /// # Errors
    /// As for [`Self::parameters`].
    ///
    /// # Panics
    /// If the images are complete.
    pub fn probabilities(&mut self) -> Result<Vec<f64>, EngineError> {
        let place @ [_, _, channel] = self.place().expect("the images are not complete");
        let head = self.shape.head;
        let parts = self.each(|first, state, levels| {
            let (mut parts, mut of_image) = (Vec::new(), Vec::new());
            for (image, pixel) in levels.chunks(head.channels()).enumerate() {
                let parameters = sound(state, place, first, image)?;
                head.probabilities(parameters, channel, pixel, &mut of_image);
                parts.extend_from_slice(&of_image);
            }
            Ok(parts)
        });
        parts.map(|parts| parts.concat())
    }

    /// Gives the next level of every image, `[N]`, and computes the values that depend on it.
    ///
    /// # Errors
    /// [`RequestError`] if a level is out of range, or their number is wrong.
    ///
    /// # Panics
    /// If the images are complete.
    pub fn give(&mut self, levels: &[u16]) -> Result<(), EngineError> {
        let [row, column, channel] = self.place().expect("the images are not complete");
        let head = self.shape.head;
        let expected = self.shares.iter().map(|share| share.levels.len()).sum::<usize>() / head.channels();
        if levels.len() != expected {
            let (what, found) = ("levels of a channel", levels.len());
            return Err(RequestError::Canvas { image: 0, what, expected, found }.into());
        }
        if let Some(image) = levels.iter().position(|level| usize::from(*level) >= head.levels()) {
            let level = levels[image];
            let image = image as u64;
            return Err(RequestError::Level { image, row, column, level, levels: head.levels() }.into());
        }
        let of_images = self.shares.iter_mut().flat_map(|share| share.levels.chunks_mut(head.channels()));
        of_images.zip(levels).for_each(|(pixel, level)| pixel[channel] = *level);
        self.given += 1;
        let known = head.channels_of(head.step_of(channel)).end;
        if channel + 1 < known {
            return Ok(());
        }
        let next = self.place();
        self.each(|_, state, levels| {
            for (image, pixel) in levels.chunks(head.channels()).enumerate() {
                state.set_pixel(row, column, image, Pixel::Levels(&pixel[..known]));
            }
            if column + 1 == state.network().width && known == head.channels() {
                state.end_row(row);
            }
            if let Some([row, column, channel]) = next {
                if [column, channel] == [0, 0] {
                    state.begin_row(row);
                }
                state.step(row, column, head.step_of(channel));
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Runs `turn` on each share: the index of its first image, its caches, the levels of its pixels. Results are in the
    /// order of images.
    fn each<R: Send>(
        &mut self,
        turn: impl Fn(usize, &mut CacheView, &[u16]) -> Result<R, EngineError> + Sync,
    ) -> Result<Vec<R>, EngineError> {
        let channels = self.shape.head.channels();
        let mut results: Vec<Option<Result<R, EngineError>>> = self.shares.iter().map(|_| None).collect();
        let mut first = 0;
        let tasks = self.shares.iter_mut().zip(&mut results).map(|(share, result)| {
            let of_share = first;
            first += share.levels.len() / channels;
            (of_share, share, result)
        });
        let mut tasks: Vec<_> = tasks.collect();
        let packing = &self.packing;
        let run = |(first, share, result): (usize, &mut Share, &mut Option<Result<R, EngineError>>)| {
            let scratch = std::mem::take(&mut share.scratch);
            // SAFETY: the memory is this share's own, and its team has one thread.
            let mut state = unsafe { CacheView::new(packing, &share.memory, &share.team, 0, scratch) };
            *result = Some(turn(first, &mut state, &share.levels));
            share.scratch = state.take_scratch();
        };
        if tasks.len() == 1 {
            tasks.into_iter().for_each(run);
        } else {
            let others = tasks.len() - 1;
            tasks.reverse();
            let tasks = Mutex::new(tasks);
            let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let work = || {
                while let Some(task) = next() {
                    run(task)
                }
            };
            thread::scope(|scope| {
                // If no thread can be started, the existing ones do its work.
                let _ = (0..others)
                    .try_for_each(|_| thread::Builder::new().spawn_scoped(scope, work).map(drop));
                work();
            });
        }
        results.into_iter().map(|result| result.expect("every share was taken")).collect()
    }
}

/// The parameters of a pixel of a share's image.
fn sound<'a>(
    state: &'a CacheView,
    [row, column, channel]: [usize; 3],
    first: usize,
    image: usize,
) -> Result<&'a [f32], EngineError> {
    let head = state.network().head;
    let parameters = state.parameters(row, column, image);
    let of_step = &parameters[head.parameters_of(head.step_of(channel))];
    match state.is_broken(image) || of_step.iter().any(|p| !p.is_finite()) {
        true => Err(EngineError::NotFinite { image: (first + image) as u64, pixel: Some([row, column]) }),
        false => Ok(parameters),
    }
}
