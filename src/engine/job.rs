//! What an engine is asked: a job of lanes, and what comes of it.

use std::sync::Arc;

use crate::model::{Config, Network};
use crate::sampling::likelihood;
use crate::sampling::mixture::Draw;

/// Images to compute, at once.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Seed of the noise.
    pub seed: u64,
    /// The images.
    pub lanes: Vec<Lane>,
    /// How pixels are drawn.
    pub draw: Draw,
    /// What is to be told of them, beside their pixels.
    pub want: Want,
    /// In which steps they are computed.
    pub method: Method,
    /// Stop after so many pixels of each image, in raster order; the values of the others mean nothing.
    pub pixels: Option<usize>,
}

/// One image to compute.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// Index of the image. Its noise depends on seed and index alone.
    pub index: u64,
    /// Its class; none for an unconditional model.
    pub class: Option<usize>,
    /// What is known of it.
    pub canvas: Canvas,
}

/// Which pixels of an image are given, and their values. Evaluation gives all, sampling none, completion some.
#[derive(Clone, Debug, Default)]
pub struct Canvas(Option<Arc<Given>>);

#[derive(Debug)]
struct Given {
    /// `[H, W, C]` in [−1, 1].
    values: Vec<f32>,
    /// `[H, W]`; empty where all are given.
    mask: Vec<bool>,
}

impl Canvas {
    /// Nothing is given: all pixels are drawn.
    pub fn blank() -> Self {
        Self(None)
    }

    /// All pixels are given, `[H, W, C]` in [−1, 1].
    pub fn full(values: Vec<f32>) -> Self {
        Self(Some(Arc::new(Given { values, mask: Vec::new() })))
    }

    /// The pixels `[H, W, C]` are given where `mask`, `[H, W]`, says so.
    ///
    /// # Panics
    /// If the two have different numbers of pixels.
    pub fn partial(values: Vec<f32>, mask: Vec<bool>) -> Self {
        assert!(
            !mask.is_empty() && values.len().is_multiple_of(mask.len()),
            "a mask has one entry a pixel"
        );
        Self(Some(Arc::new(Given { values, mask })))
    }

    /// The given value of a pixel, `[C]`; none if it is to be drawn.
    pub fn pixel(&self, pixel: usize, channels: usize) -> Option<&[f32]> {
        let given = self.0.as_ref()?;
        let is_given = given.mask.is_empty() || given.mask[pixel];
        is_given.then(|| &given.values[pixel * channels..(pixel + 1) * channels])
    }

    /// How many pixels are given before the first that is not, in raster order, of `pixels`.
    fn given_first(&self, pixels: usize) -> usize {
        match &self.0 {
            None => 0,
            Some(given) => given.mask.iter().position(|is_given| !is_given).unwrap_or(pixels),
        }
    }
}

/// What is to be told of a job, beside its pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The log-likelihood of every pixel. On a CPU, to the last bit where all pixels of the job are given, and within
    /// 1e-4 bits per dimension where any is drawn; on a GPU, within 1e-5 nats a pixel, or 1e-6 of it where that is more.
    pub likelihood: bool,
    /// The network's output at every pixel.
    pub parameters: bool,
    /// Every value on the way to it, of the first lane.
    pub trace: bool,
}

/// In which steps a job is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Every value is computed once and cached; rows at the top that are given in all lanes are computed as rows.
    #[default]
    Cached,
    /// The same, but pixel by pixel where pixels are given too: the steps of drawing, to be verified.
    ByPixel,
    /// The whole network over the whole image for every pixel, with the same kernels: the baseline.
    Naive,
}

/// What came of a job, lane by lane. What was not wanted is empty.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// `[N, H, W, C]` in [−1, 1]: drawn or given.
    pub pixels: Vec<f32>,
    /// Log-likelihood of every 8-bit pixel given those before it, in nats, `[N, H, W]`.
    pub log_likelihood: Vec<f64>,
    /// Parameters of every pixel's distribution given the pixels before it, `[N, H, W, P]`.
    pub parameters: Vec<f32>,
    /// Of the first lane.
    pub trace: Trace,
}

/// Every value that a network makes on the way, for debugging: the layer's name, and its value at every pixel of
/// its level, `[H, W, channels]`, in the form that [`crate::model::network::Node::shown`] names.
pub type Trace = Vec<(String, Vec<f32>)>;

impl Outcome {
    /// Room for what a job wants of a network.
    pub(super) fn new(network: &Network, job: &Job) -> Self {
        let (config, n) = (&network.config, job.lanes.len());
        let pixels = n * config.width * config.height;
        let of_pixel = |wanted, numbers| if wanted { pixels * numbers } else { 0 };
        Self {
            pixels: vec![0.0; pixels * config.channels],
            log_likelihood: vec![0.0; of_pixel(job.want.likelihood, 1)],
            parameters: vec![0.0; of_pixel(job.want.parameters, config.parameters_per_pixel())],
            trace: match job.want.trace {
                true => network.nodes.iter().map(|node| (node.name.clone(), Vec::new())).collect(),
                false => Vec::new(),
            },
        }
    }
}

impl Job {
    /// Draws images of the given indices, each with its class.
    pub fn sample(seed: u64, images: impl IntoIterator<Item = (u64, Option<usize>)>) -> Self {
        let lane = |(index, class)| Lane { index, class, canvas: Canvas::blank() };
        Self { seed, lanes: images.into_iter().map(lane).collect(), ..Self::default() }
    }

    /// Computes what `want` says of images whose pixels are all given: `[N, H, W, C]` in [−1, 1], with a class each
    /// or none at all.
    pub fn evaluate(config: &Config, images: &[f32], classes: &[usize], want: Want) -> Self {
        let lane = |(i, image): (usize, &[f32])| Lane {
            index: i as u64,
            class: classes.get(i).copied(),
            canvas: Canvas::full(image.to_vec()),
        };
        let lanes = images.chunks(config.dimensions()).enumerate().map(lane).collect();
        Self { lanes, want, ..Self::default() }
    }

    /// Pixels of each image to compute.
    pub(super) fn pixels_of(&self, config: &Config) -> usize {
        let all = config.width * config.height;
        self.pixels.map_or(all, |pixels| pixels.min(all))
    }

    /// How a CPU computes the likelihood of a pixel from its parameters: exactly where all pixels are given, and fast
    /// enough for drawing where some are drawn.
    pub(super) fn likelihood(&self) -> fn(&[f32], &[f32]) -> f64 {
        let is_given = |lane: &Lane| lane.canvas.0.as_ref().is_some_and(|given| given.mask.is_empty());
        if self.lanes.iter().all(is_given) { likelihood::exact } else { likelihood::approximate }
    }

    /// Rows at the top that are computed as rows: those that are given in all lanes.
    pub(super) fn rows_given(&self, config: &Config) -> usize {
        if self.method != Method::Cached {
            return 0;
        }
        let pixels = self.pixels_of(config);
        self.lanes.iter().map(|lane| lane.canvas.given_first(pixels)).min().unwrap_or(0) / config.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canvases_tell_what_is_given() {
        let values: Vec<_> = (0..12).map(|v| v as f32).collect();
        let config = Config { width: 3, height: 2, channels: 2, ..Config::published(1, 1) };
        let mut job = Job::evaluate(&config, &values, &[], Want::default());
        assert_eq!(job.rows_given(&config), 2);
        assert_eq!(job.lanes[0].canvas.pixel(4, 2), Some(&[8.0, 9.0][..]));
        let canvas = Canvas::partial(values, [true, true, true, true, false, true].to_vec());
        assert_eq!((canvas.pixel(4, 2), canvas.pixel(5, 2)), (None, Some(&[10.0, 11.0][..])));
        job.lanes.push(Lane { canvas, ..Lane::default() });
        assert_eq!(job.rows_given(&config), 1);
        job.lanes.push(Lane::default());
        assert_eq!(job.rows_given(&config), 0);
        assert_eq!(Canvas::blank().pixel(0, 2), None);
    }
}
