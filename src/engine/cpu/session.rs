//! Images that are made step by step, each level chosen by the caller: for coders, which know the level or decode it.

use super::memory::Memory;
use super::packing::Packing;
use super::team::Team;
use super::view::{CacheView, Pixel, Scratch};
use crate::engine::{EngineError, RequestError, Shape};
use crate::model::Model;

/// Images that are made step by step.
///
/// A step is a pixel, or one of its channels where the head draws them one after another. In each, the caller reads the
/// parameters of every image and gives its levels. The same program on the same processor computes the same bits, at any number
/// of images.
pub struct Session {
    shape: Shape,
    packing: Packing,
    memory: Memory,
    team: Team,
    scratch: Scratch,
    /// `[N, C]`: the levels of the pixel that is made.
    levels: Vec<u16>,
    images: usize,
    /// Steps that have been given their levels.
    given: usize,
}

impl Session {
    /// Begins images of `width` by `height` pixels, one for each class, or `images` of them for a model without classes.
    ///
    /// # Errors
    /// [`RequestError`] if a class is none of the model's; [`EngineError::BatchTooLarge`] if there is not enough memory.
    pub fn new(
        model: &Model,
        width: usize,
        height: usize,
        classes: &[Option<usize>],
    ) -> Result<Self, EngineError> {
        let shape = model.shape(width, height);
        for (image, class) in (0..).zip(classes) {
            RequestError::check_class(image, *class, shape.classes)?;
        }
        let packing = Packing::new(model, width, height, 1);
        let mut memory = Memory::default();
        let images = classes.len();
        let of_images = classes.iter().map(|class| class.unwrap_or(0)).collect();
        memory.begin(&packing, images, of_images).map_err(|_| super::no_memory(images, &packing))?;
        let scratch = Scratch::new(&packing);
        let levels = vec![0; images * shape.head.channels()];
        let mut session =
            Self { shape, packing, memory, team: Team::new(1), scratch, levels, images, given: 0 };
        session.compute();
        Ok(session)
    }

    /// The shape of its images.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Row, column and step of the pixel whose parameters are known; none when the images are complete.
    pub fn place(&self) -> Option<[usize; 3]> {
        let steps = self.shape.head.steps();
        let pixel = self.given / steps;
        (pixel < self.shape.pixels())
            .then(|| [pixel / self.shape.width, pixel % self.shape.width, self.given % steps])
    }

    /// The parameters of an image's next step: of [`Head::parameters_of`](crate::head::Head::parameters_of).
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] if the network gave NaN or infinity.
    ///
    /// # Panics
    /// If the images are complete, or there is no such image.
    pub fn parameters(&mut self, image: usize) -> Result<Vec<f32>, EngineError> {
        assert!(image < self.images, "image {image} of {}", self.images);
        let [row, column, step] = self.place().expect("the images are not complete");
        let range = self.shape.head.parameters_of(step);
        let (parameters, is_broken) = self.with(|state| {
            let parameters = state.parameters(row, column, image)[range].to_vec();
            let is_broken = state.is_broken(image) || parameters.iter().any(|p| !p.is_finite());
            (parameters, is_broken)
        });
        match is_broken {
            true => Err(EngineError::NotFinite { image: image as u64, pixel: Some([row, column]) }),
            false => Ok(parameters),
        }
    }

    /// Gives the levels of the step, those of [`Head::channels_of`](crate::head::Head::channels_of) for every image, and
    /// computes the next.
    ///
    /// # Errors
    /// [`RequestError`] if a level is none of the model's, or there are too few or too many.
    ///
    /// # Panics
    /// If the images are complete.
    pub fn give(&mut self, levels: &[u16]) -> Result<(), EngineError> {
        let [row, column, step] = self.place().expect("the images are not complete");
        let (head, range) = (self.shape.head, self.shape.head.channels_of(step));
        let expected = self.images * range.len();
        if levels.len() != expected {
            let (what, found) = ("levels of a step", levels.len());
            return Err(RequestError::Canvas { image: 0, what, expected, found }.into());
        }
        if let Some(at) = levels.iter().position(|level| usize::from(*level) >= head.levels()) {
            let (image, level) = ((at / range.len()) as u64, levels[at]);
            return Err(RequestError::Level { image, row, column, level, levels: head.levels() }.into());
        }
        let mut pixels = std::mem::take(&mut self.levels);
        self.with(|state| {
            let of_images = pixels.chunks_mut(head.channels()).zip(levels.chunks(range.len()));
            for (image, (pixel, given)) in of_images.enumerate() {
                pixel[range.clone()].copy_from_slice(given);
                state.set_pixel(row, column, image, Pixel::Levels(&pixel[..range.end]));
            }
            if column + 1 == state.network().width && step + 1 == head.steps() {
                state.end_row(row);
            }
        });
        self.levels = pixels;
        self.given += 1;
        self.compute();
        Ok(())
    }

    /// Computes the parameters of the next step.
    fn compute(&mut self) {
        let Some([row, column, step]) = self.place() else { return };
        self.with(|state| {
            if column == 0 && step == 0 {
                state.begin_row(row);
            }
            state.step(row, column, step);
        });
    }

    /// Runs `turn` on the caches.
    fn with<R>(&mut self, turn: impl FnOnce(&mut CacheView) -> R) -> R {
        let scratch = std::mem::take(&mut self.scratch);
        // SAFETY: the memory is this session's own, and its team has one thread.
        let mut state = unsafe { CacheView::new(&self.packing, &self.memory, &self.team, 0, scratch) };
        let result = turn(&mut state);
        self.scratch = state.take_scratch();
        result
    }
}
