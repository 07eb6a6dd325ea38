//! Engines run a network: one trait, a CPU engine and a GPU engine.

use std::fmt;
use std::ops::Range;

use crate::graph::Network;
use crate::graph::network::Node;

pub mod cost;
pub mod cpu;
pub mod devices;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod queue;
mod request;
pub mod trial;
pub mod work;

pub use crate::head::Draw;
pub use request::{Canvas, Lane, Method, Outcome, Request, RequestError, Shape, Trace, Want};

/// Work issued since an engine was created, counted from the shapes of what was issued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Multiplications with additions in products, padding of channels included, and those with weights of 0 that are left
    /// out.
    pub macs: u64,
    /// Dispatches of GPU kernels.
    pub dispatches: u64,
    /// Submissions to the GPU.
    pub submissions: u64,
    /// Nanoseconds spent encoding dispatches.
    pub encode_ns: u64,
    /// Bytes read back from a GPU.
    pub read: u64,
}

impl Counts {
    /// Work issued since an earlier count.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            macs: self.macs - earlier.macs,
            dispatches: self.dispatches - earlier.dispatches,
            submissions: self.submissions - earlier.submissions,
            encode_ns: self.encode_ns - earlier.encode_ns,
            read: self.read - earlier.read,
        }
    }
}

/// The reason why an engine gave up. A failed batch returns no image.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The network gave NaN or infinity.
    #[error(
        "the network gave NaN or infinity for image {image}{}; \
         the weights are broken or too large for 32-bit floats",
        At(*.pixel)
    )]
    NotFinite {
        /// Index of the image.
        image: u64,
        /// Row and column of the pixel, where they are known.
        pixel: Option<[usize; 2]>,
    },
    /// The batch does not fit.
    #[error(
        "a batch of {batch} images does not fit: it needs {needed}, {limit}{}",
        Largest(*.largest)
    )]
    BatchTooLarge {
        /// The requested batch.
        batch: usize,
        /// Memory needed.
        needed: String,
        /// Memory available.
        limit: String,
        /// The largest batch that fits, where it is known.
        largest: Option<usize>,
    },
    /// The request was made for another model, or for images of another size.
    #[error("the request was made for another model or another size of images")]
    OtherModel,
    /// The request does not fit the model.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The GPU engine has no kernels for this network.
    #[error("the GPU engine cannot run this network: {0}")]
    NotOnGpu(String),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Threads(String),
    /// The caller gave the request up ([`Request::until`]).
    #[error("stopped by the caller")]
    Stopped,
    /// The GPU failed.
    #[error("the GPU failed: {0}")]
    Device(String),
}

/// A pixel, in a message.
struct At(Option<[usize; 2]>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |[row, column]| write!(f, " at row {row}, column {column}"))
    }
}

/// The largest batch that fits, in a message.
struct Largest(Option<usize>);

impl fmt::Display for Largest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(batch) => write!(f, "; the largest batch that fits is {batch}"),
            None => Ok(()),
        }
    }
}

/// Number of images to allocate memory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Exactly this many, or it is an error.
    For(usize),
    /// As many as fit and help, up to this number.
    UpTo(usize),
}

/// An engine: a network on a device, ready to run requests.
pub trait Engine: Send {
    /// Engine and device, for people.
    fn name(&self) -> String;

    /// Allocates memory for requests of this many images, and frees what larger ones took; returns the
    /// number.
    ///
    /// # Errors
    /// [`EngineError::BatchTooLarge`], before anything is allocated if that can be known.
    fn prepare(&mut self, room: Room) -> Result<usize, EngineError>;

    /// The shape that a request to it must fit.
    fn shape(&self) -> Shape;

    /// Computes a request; allocates memory first if it has more lanes than before. `watch` is called from
    /// time to time with the number of finished pixels of each image. Those come first in raster order, so
    /// `watch` needs no pixels: the finished images show any earlier state.
    ///
    /// # Errors
    /// Any [`EngineError`].
    fn run(&mut self, request: &Request, watch: &mut dyn FnMut(usize)) -> Result<Outcome, EngineError>;

    /// Predicts the cost of its runs.
    fn predictor(&self) -> cost::Predictor;

    /// Work issued so far.
    fn counts(&self) -> Counts;

    /// Bytes of device memory in use: weights, and caches of the batch that there is room for.
    fn bytes(&self) -> u64;
}

/// The largest number up to `most` for which `fits` is true; it is true for all below, too.
fn largest(most: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut good, mut too_large) = (0, most + 1);
    while too_large - good > 1 {
        let middle = good + (too_large - good) / 2;
        if fits(middle) { good = middle } else { too_large = middle }
    }
    good
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The rows of a node that are computed on this row of the image.
fn rows_made(network: &Network, node: &Node, row: usize) -> Range<usize> {
    let made =
        |row: isize| node.newest(row).map_or(0, |newest| newest + 1).min(network.height >> node.level);
    let before = if row == 0 { 0 } else { made(row as isize - 1) };
    before..made(row as isize)
}

/// Adds a row of the image to the trace of each node; `ring` returns the node's cache, if it has computed
/// any of it.
fn trace_row(
    network: &Network,
    trace: &mut Trace,
    row: usize,
    batch: usize,
    mut ring: impl FnMut(usize) -> Result<Vec<f32>, EngineError>,
) -> Result<(), EngineError> {
    for (n, node) in network.nodes.iter().enumerate() {
        let made = rows_made(network, node, row);
        if !made.is_empty() {
            let ring = ring(n)?;
            made.for_each(|of_node| trace[n].1.extend(network.row(n, &ring, of_node, batch, 0)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_largest_that_fits_is_found() {
        for limit in 0..20 {
            assert_eq!(super::largest(12, |n| n <= limit), limit.min(12));
        }
    }
}
