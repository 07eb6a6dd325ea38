//! What runs a network: one trait, a CPU engine and a GPU engine.

use crate::model::{Config, Network};

pub mod cost;
pub mod cpu;
pub mod gpu;

/// How images are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Every value is computed once and cached.
    #[default]
    Cached,
    /// The whole network over the whole image for every pixel, with the same kernels: the baseline.
    Naive,
}

/// A batch of images to draw.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Seed of the noise.
    pub seed: u64,
    /// Index of the first image; an image's noise depends on seed and index alone.
    pub first: u64,
    /// How many images.
    pub count: usize,
    /// The class of each image; empty for an unconditional model.
    pub classes: Vec<usize>,
    /// Feed back unrounded values, as the published samplers do.
    pub continuous: bool,
    /// How they are drawn.
    pub method: Method,
    /// Stop after so many pixels of each image, in raster order; the values of the others mean nothing.
    pub pixels: Option<usize>,
}

impl Job {
    /// Pixels of each image to draw.
    fn pixels_of(&self, config: &Config) -> usize {
        let all = config.width * config.height;
        self.pixels.map_or(all, |pixels| pixels.min(all))
    }
}

/// What an engine has issued since it was made, counted from the shapes of what was issued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Multiplications with additions in products, padding of channels included.
    pub macs: u64,
    /// Dispatches of GPU kernels.
    pub dispatches: u64,
    /// Submissions to the GPU.
    pub submissions: u64,
    /// Nanoseconds spent encoding dispatches.
    pub encode_ns: u64,
}

/// Why an engine gave up. No image is made from a batch that failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The network gave NaN or infinity.
    #[error(
        "the network gave NaN or infinity for image {image} at row {row}, column {column}; \
         the weights are broken or too large for 32-bit floats (check them with `pixelcnn verify`)"
    )]
    NotFinite {
        /// Index of the image.
        image: u64,
        /// Row of the pixel.
        row: usize,
        /// Column of the pixel.
        column: usize,
    },
    /// The batch does not fit.
    #[error(
        "a batch of {batch} images does not fit: it needs {needed}, {limit}; \
         the largest batch that fits is {largest}"
    )]
    BatchTooLarge {
        /// The batch asked for.
        batch: usize,
        /// What it needs.
        needed: String,
        /// What there is.
        limit: String,
        /// The largest batch that fits.
        largest: usize,
    },
    /// The GPU failed.
    #[error("the GPU failed: {0} (try again, a smaller --batch, or --device cpu)")]
    Device(String),
}

/// Every value that a network makes on the way, for debugging: the layer's name, and its value at every
/// pixel of its level, `[H, W, channels]`, or φ of it where an engine stores that alone.
pub type Trace = Vec<(String, Vec<f32>)>;

/// An engine: a network on a device, ready to run batches.
///
/// Images are `[N, H, W, C]`, row-major, with values in [−1, 1]; `classes` has a class an image, or none
/// for an unconditional model. A batch larger than was prepared is prepared first. `progress` is told how many
/// pixels of each image are done, from time to time.
pub trait Engine {
    /// Engine and device, for people.
    fn name(&self) -> String;

    /// How many of `count` images to draw at once: what fits in memory and still helps, at least 1.
    fn suggested_batch(&self, count: usize) -> usize;

    /// Makes room for batches of up to `batch` images, and gives back what larger ones took.
    ///
    /// # Errors
    /// [`EngineError::BatchTooLarge`], before anything is allocated where that can be known.
    fn prepare(&mut self, batch: usize) -> Result<(), EngineError>;

    /// Makes room for as many of `count` images as fit and help; returns how many.
    ///
    /// # Errors
    /// As [`Self::prepare`], if there is no room for one.
    fn prepare_suggested(&mut self, count: usize) -> Result<usize, EngineError> {
        let batch = self.suggested_batch(count);
        match self.prepare(batch) {
            Err(EngineError::BatchTooLarge { largest, .. }) if largest > 0 => {
                self.prepare(largest).map(|()| largest)
            }
            result => result.map(|()| batch),
        }
    }

    /// Draws a batch of images.
    ///
    /// # Errors
    /// Any [`EngineError`].
    fn sample(&mut self, job: &Job, progress: &mut dyn FnMut(usize)) -> Result<Vec<f32>, EngineError>;

    /// The network's output `[N, H, W, P]` for given images: the parameters of every pixel's distribution
    /// given the pixels before it. Their values are not checked to be finite.
    ///
    /// # Errors
    /// Any [`EngineError`].
    fn parameters(&mut self, images: &[f32], classes: &[usize]) -> Result<Vec<f32>, EngineError>;

    /// What has been issued so far.
    fn counts(&self) -> Counts;

    /// Bytes of device memory in use: weights, and caches of the largest batch so far.
    fn bytes(&self) -> u64;

    /// Every value on the way to the output, for one given image.
    ///
    /// # Errors
    /// Any [`EngineError`].
    fn trace(&mut self, image: &[f32], class: Option<usize>) -> Result<Trace, EngineError>;
}

/// An empty trace of a network, to be filled row by row with [`trace_row`].
fn begin_trace(network: &Network) -> Trace {
    network.nodes.iter().map(|node| (node.name.clone(), Vec::new())).collect()
}

/// Adds what a row of the image has given to each node; `ring` gets the node's cache.
fn trace_row(
    network: &Network,
    trace: &mut Trace,
    row: usize,
    batch: usize,
    mut ring: impl FnMut(usize) -> Result<Vec<f32>, EngineError>,
) -> Result<(), EngineError> {
    for (n, node) in network.nodes.iter().enumerate() {
        if row.is_multiple_of(1 << node.level) {
            trace[n].1.extend(node.row(&ring(n)?, row >> node.level, batch, 0));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that thinks well of 64 images and has room for few.
    struct Scarce {
        room: usize,
    }

    impl Engine for Scarce {
        fn name(&self) -> String {
            "scarce".into()
        }

        fn suggested_batch(&self, count: usize) -> usize {
            count.min(64)
        }

        fn prepare(&mut self, batch: usize) -> Result<(), EngineError> {
            if batch <= self.room {
                return Ok(());
            }
            let (needed, limit) = ("more".into(), "there is less".into());
            Err(EngineError::BatchTooLarge { batch, needed, limit, largest: self.room })
        }

        fn sample(&mut self, _: &Job, _: &mut dyn FnMut(usize)) -> Result<Vec<f32>, EngineError> {
            unreachable!()
        }

        fn parameters(&mut self, _: &[f32], _: &[usize]) -> Result<Vec<f32>, EngineError> {
            unreachable!()
        }

        fn counts(&self) -> Counts {
            unreachable!()
        }

        fn bytes(&self) -> u64 {
            unreachable!()
        }

        fn trace(&mut self, _: &[f32], _: Option<usize>) -> Result<Trace, EngineError> {
            unreachable!()
        }
    }

    #[test]
    fn as_many_as_fit_are_prepared() {
        for (room, count, expected) in [(100, 200, 64), (100, 5, 5), (10, 200, 10), (10, 5, 5)] {
            assert_eq!(Scarce { room }.prepare_suggested(count).unwrap(), expected);
        }
        let refused = Scarce { room: 0 }.prepare_suggested(5);
        assert!(matches!(refused, Err(EngineError::BatchTooLarge { batch: 5, .. })));
    }
}
