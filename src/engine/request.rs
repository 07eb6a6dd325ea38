//! Requests of lanes to an engine, and their outcomes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::EngineError;
use crate::graph::Network;
use crate::head::{Draw, DrawError, Head};

/// The shape of a model's images at a size; a request must fit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// The distribution of a pixel.
    pub head: Head,
    /// Number of classes; 0 without.
    pub classes: usize,
}

impl Shape {
    /// Pixels of an image.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Sub-pixels of an image, the divisor of bits per dimension.
    pub fn dimensions(&self) -> usize {
        self.pixels() * self.head.channels()
    }
}

/// A request does not fit its model, and the reason.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// The model has classes, and a lane has none.
    #[error("image {image}: a class is missing; expected a number below {classes}")]
    NoClass {
        /// Index of the image.
        image: u64,
        /// The model's number of classes.
        classes: usize,
    },
    /// The model does not have the class of a lane.
    #[error("image {image}: class {class}; {}", expected_classes(*.classes))]
    Class {
        /// Index of the image.
        image: u64,
        /// The class.
        class: usize,
        /// The model's number of classes.
        classes: usize,
    },
    /// A canvas is of another size.
    #[error("image {image}: {what}: expected {expected}, found {found}")]
    Canvas {
        /// Index of the image.
        image: u64,
        /// The thing counted, in words.
        what: &'static str,
        /// Expected number.
        expected: usize,
        /// Found number.
        found: usize,
    },
    /// A given level is out of range.
    #[error("image {image}: level {level} at row {row}, column {column}; expected a number below {levels}")]
    Level {
        /// Index of the image.
        image: u64,
        /// Row of the pixel.
        row: usize,
        /// Column of the pixel.
        column: usize,
        /// The level.
        level: u16,
        /// The model's number of levels.
        levels: usize,
    },
    /// Levels cannot be drawn in this way.
    #[error(transparent)]
    Draw(#[from] DrawError),
}

impl RequestError {
    /// Refuses a class that a model with that many classes does not have.
    ///
    /// # Errors
    /// [`RequestError::NoClass`], [`RequestError::Class`]
    pub(super) fn check_class(image: u64, class: Option<usize>, classes: usize) -> Result<(), Self> {
        match class {
            None if classes > 0 => Err(Self::NoClass { image, classes }),
            Some(class) if class >= classes => Err(Self::Class { image, class, classes }),
            _ => Ok(()),
        }
    }
}

fn expected_classes(classes: usize) -> String {
    match classes {
        0 => "expected none, for the model has no classes".to_owned(),
        n => format!("expected a number below {n}"),
    }
}

/// Images to compute at once. Constructors refuse requests that do not fit the model.
#[derive(Clone, Debug)]
pub struct Request {
    shape: Shape,
    seed: u64,
    lanes: Vec<Lane>,
    draw: Draw,
    want: Want,
    method: Method,
    pixels: usize,
    stop: Option<Arc<AtomicBool>>,
}

/// One image to compute.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// Index of the image. Its noise depends on seed and index alone.
    pub index: u64,
    /// Its class; none for an unconditional model.
    pub class: Option<usize>,
    /// Its known pixels.
    pub canvas: Canvas,
}

/// The known pixels of an image: their mask and their levels. Evaluation gives all, sampling none, completion some.
#[derive(Clone, Debug, Default)]
pub struct Canvas(Option<Arc<Given>>);

#[derive(Debug)]
struct Given {
    /// `[H, W, C]`
    levels: Vec<u16>,
    /// `[H, W]`; empty where all are given.
    mask: Vec<bool>,
}

impl Canvas {
    /// Nothing is given: all pixels are drawn.
    pub fn blank() -> Self {
        Self(None)
    }

    /// All pixels are given, as levels `[H, W, C]`.
    pub fn full(levels: Vec<u16>) -> Self {
        Self(Some(Arc::new(Given { levels, mask: Vec::new() })))
    }

    /// The levels `[H, W, C]` are given where `mask`, `[H, W]`, says so.
    pub fn partial(levels: Vec<u16>, mask: Vec<bool>) -> Self {
        Self(Some(Arc::new(Given { levels, mask })))
    }

    /// The given levels of a pixel, `[C]`; none if it is to be drawn.
    pub fn pixel(&self, pixel: usize, channels: usize) -> Option<&[u16]> {
        let given = self.0.as_ref()?;
        let is_given = given.mask.is_empty() || given.mask[pixel];
        is_given.then(|| &given.levels[pixel * channels..(pixel + 1) * channels])
    }

    fn is_full(&self) -> bool {
        self.0.as_ref().is_some_and(|given| given.mask.is_empty())
    }

    /// Number of given pixels before the first unknown one, in raster order, of `pixels`.
    fn given_first(&self, pixels: usize) -> usize {
        match &self.0 {
            None => 0,
            Some(given) => given.mask.iter().position(|is_given| !is_given).unwrap_or(pixels),
        }
    }

    fn check(&self, image: u64, shape: &Shape) -> Result<(), RequestError> {
        let Some(given) = &self.0 else { return Ok(()) };
        let count = |what, expected, found| match expected == found {
            true => Ok(()),
            false => Err(RequestError::Canvas { image, what, expected, found }),
        };
        count("levels of its canvas", shape.dimensions(), given.levels.len())?;
        if !given.mask.is_empty() {
            count("pixels of its mask", shape.pixels(), given.mask.len())?;
        }
        let (levels, channels) = (shape.head.levels(), shape.head.channels());
        let is_given = |at: usize| given.mask.is_empty() || given.mask[at / channels];
        let bad = |(at, level): &(usize, &u16)| usize::from(**level) >= levels && is_given(*at);
        match given.levels.iter().enumerate().find(bad) {
            None => Ok(()),
            Some((at, &level)) => {
                let (row, column) = (at / channels / shape.width, at / channels % shape.width);
                Err(RequestError::Level { image, row, column, level, levels })
            }
        }
    }
}

/// The results to compute for a request, beside the levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The log-likelihood of every pixel. On a CPU, to the last bit where all pixels of the request are given, and within
    /// 1e-4 bits per dimension where any is drawn; on a GPU, within 1e-5 nats a pixel, or 1e-6 of it where that is more.
    pub likelihood: bool,
    /// The network's output at every pixel.
    pub parameters: bool,
    /// Every value on the way to it, of the first lane.
    pub trace: bool,
}

/// The order in which a request is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Every value is computed once and cached; rows at the top that are given in all lanes are computed as rows.
    #[default]
    Cached,
    /// The same, but pixel by pixel where pixels are given too: the steps of drawing, to be verified.
    ByPixel,
    /// The whole network over the whole image for every pixel, or every step of one, with the same kernels: the baseline.
    Naive,
}

/// The results of a request, lane by lane. Results that were not wanted are empty.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// `[N, H, W, C]`: drawn or given.
    pub levels: Vec<u16>,
    /// Log-likelihood of every pixel given those before it, in nats, `[N, H, W]`.
    pub log_likelihood: Vec<f64>,
    /// Parameters of every pixel's distribution given the pixels before it, `[N, H, W, P]`.
    pub parameters: Vec<f32>,
    /// Trace of the first lane.
    pub trace: Trace,
}

/// Every intermediate value of a network, for debugging: the layer's name, and its value at every pixel of
/// its level, `[H, W, channels]`, in the form that [`crate::graph::network::Node::shown`] names.
pub type Trace = Vec<(String, Vec<f32>)>;

impl Outcome {
    /// Memory for the results that a request wants.
    pub(super) fn new(network: &Network, request: &Request) -> Self {
        let (shape, want) = (&request.shape, request.want);
        let pixels = request.lanes.len() * shape.pixels();
        let of_pixel = |wanted, numbers| if wanted { pixels * numbers } else { 0 };
        Self {
            levels: vec![0; pixels * shape.head.channels()],
            log_likelihood: vec![0.0; of_pixel(want.likelihood, 1)],
            parameters: vec![0.0; of_pixel(want.parameters, shape.head.parameters())],
            trace: match want.trace {
                true => network.nodes.iter().map(|node| (node.name.clone(), Vec::new())).collect(),
                false => Vec::new(),
            },
        }
    }
}

impl Request {
    /// A request for these lanes.
    ///
    /// # Errors
    /// [`RequestError`] if a lane does not fit the model.
    pub fn new(shape: Shape, seed: u64, lanes: Vec<Lane>) -> Result<Self, RequestError> {
        for Lane { index: image, class, canvas } in &lanes {
            RequestError::check_class(*image, *class, shape.classes)?;
            canvas.check(*image, &shape)?;
        }
        Ok(Self {
            seed,
            lanes,
            draw: Draw::default(),
            want: Want::default(),
            method: Method::default(),
            pixels: shape.pixels(),
            stop: None,
            shape,
        })
    }

    /// Draws images of the given indices, each with its class.
    ///
    /// # Errors
    /// [`RequestError`]
    pub fn sample(
        shape: Shape,
        seed: u64,
        images: impl IntoIterator<Item = (u64, Option<usize>)>,
    ) -> Result<Self, RequestError> {
        let lane = |(index, class)| Lane { index, class, canvas: Canvas::blank() };
        Self::new(shape, seed, images.into_iter().map(lane).collect())
    }

    /// Computes the results `want` for images whose pixels are all given, `[N, H, W, C]`, with a class each
    /// or none at all.
    ///
    /// # Errors
    /// [`RequestError`]
    pub fn evaluate(
        shape: Shape,
        levels: &[u16],
        classes: &[usize],
        want: Want,
    ) -> Result<Self, RequestError> {
        let lane = |(i, image): (usize, &[u16])| Lane {
            index: i as u64,
            class: classes.get(i).copied(),
            canvas: Canvas::full(image.to_vec()),
        };
        let lanes = levels.chunks(shape.dimensions()).enumerate().map(lane).collect();
        Ok(Self::new(shape, 0, lanes)?.wanting(want))
    }

    /// The same with other settings of the draw.
    ///
    /// # Errors
    /// [`RequestError::Draw`]
    pub fn drawing(self, draw: Draw) -> Result<Self, RequestError> {
        self.shape.head.check(&draw)?;
        Ok(Self { draw, ..self })
    }

    /// The same with further results.
    pub fn wanting(self, want: Want) -> Self {
        Self { want, ..self }
    }

    /// The same by another method.
    pub fn by(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// The same for the first pixels of each image only, in raster order; the levels of the others have no
    /// meaning.
    pub fn first(self, pixels: usize) -> Self {
        Self { pixels: pixels.min(self.shape.pixels()), ..self }
    }

    /// The same, stopped with [`EngineError::Stopped`] soon after another thread sets `stop`.
    pub fn until(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// Checks that its results are still wanted.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] if they are not.
    pub(super) fn go_on(&self) -> Result<(), EngineError> {
        match &self.stop {
            Some(stop) if stop.load(Ordering::Relaxed) => Err(EngineError::Stopped),
            _ => Ok(()),
        }
    }

    /// The shape that it fits.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Seed of the noise.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The images.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The way in which levels are drawn.
    pub fn draw(&self) -> &Draw {
        &self.draw
    }

    /// The results to compute.
    pub fn want(&self) -> Want {
        self.want
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Pixels of each image to compute.
    pub fn pixels(&self) -> usize {
        self.pixels
    }

    /// Checks that it was made for images of a shape.
    ///
    /// # Errors
    /// [`EngineError::OtherModel`] if it was not.
    pub(super) fn check(&self, shape: &Shape) -> Result<(), EngineError> {
        if self.shape == *shape { Ok(()) } else { Err(EngineError::OtherModel) }
    }

    /// True if all pixels of all images are given.
    pub fn is_evaluation(&self) -> bool {
        self.lanes.iter().all(|lane| lane.canvas.is_full())
    }

    /// Number of leading rows given in all lanes, which are computed as rows.
    pub(super) fn rows_given(&self) -> usize {
        if self.method != Method::Cached {
            return 0;
        }
        let given = self.lanes.iter().map(|lane| lane.canvas.given_first(self.pixels)).min().unwrap_or(0);
        given.min(self.pixels) / self.shape.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(channels: usize, classes: usize) -> Shape {
        Shape { height: 2, width: 3, head: Head::logistic_mixture(channels, 2), classes }
    }

    #[test]
    fn canvases_tell_what_is_given() {
        let levels: Vec<_> = (0..18).collect();
        let shape = shape(3, 0);
        let full = Lane { canvas: Canvas::full(levels.clone()), ..Lane::default() };
        let partial = Canvas::partial(levels, [true, true, true, true, false, true].to_vec());
        assert_eq!(full.canvas.pixel(4, 3), Some(&[12, 13, 14][..]));
        assert_eq!((partial.pixel(4, 3), partial.pixel(5, 3)), (None, Some(&[15, 16, 17][..])));
        assert_eq!(Canvas::blank().pixel(0, 3), None);
        let partial = Lane { canvas: partial, ..Lane::default() };
        let rows_given = |lanes: &[&Lane]| {
            let lanes = lanes.iter().map(|lane| (*lane).clone()).collect();
            Request::new(shape, 0, lanes).unwrap().rows_given()
        };
        assert_eq!(rows_given(&[&full]), 2);
        assert_eq!(rows_given(&[&full, &partial]), 1);
        assert_eq!(rows_given(&[&full, &partial, &Lane::default()]), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ask = |shape, class, canvas| {
            Request::new(shape, 0, vec![Lane { index: 7, class, canvas }])
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        let blank = Canvas::blank;
        let refused =
            |result: Result<(), String>, expected: &str| assert_eq!(result, Err(expected.to_owned()));
        assert_eq!(ask(shape(3, 4), Some(3), blank()), Ok(()));
        refused(ask(shape(3, 4), None, blank()), "image 7: a class is missing; expected a number below 4");
        refused(ask(shape(3, 4), Some(4), blank()), "image 7: class 4; expected a number below 4");
        refused(
            ask(shape(3, 0), Some(0), blank()),
            "image 7: class 0; expected none, for the model has no classes",
        );
        let levels = vec![255; 18];
        assert_eq!(ask(shape(3, 0), None, Canvas::full(levels.clone())), Ok(()));
        refused(
            ask(shape(1, 0), None, Canvas::full(levels.clone())),
            "image 7: levels of its canvas: expected 6, found 18",
        );
        refused(
            ask(shape(3, 0), None, Canvas::partial(levels.clone(), vec![true; 5])),
            "image 7: pixels of its mask: expected 6, found 5",
        );
        let mut wrong = levels;
        wrong[16] = 256;
        refused(
            ask(shape(3, 0), None, Canvas::full(wrong.clone())),
            "image 7: level 256 at row 1, column 2; expected a number below 256",
        );
        // Levels of unknown pixels have no meaning.
        let mask = vec![true, true, true, true, true, false];
        assert_eq!(ask(shape(3, 0), None, Canvas::partial(wrong, mask)), Ok(()));
    }

    #[test]
    fn draws_out_of_range_are_refused() {
        let request = Request::sample(shape(3, 0), 0, [(0, None)]).unwrap();
        for draw in [
            Draw { temperature: f32::NAN, ..Draw::default() },
            Draw { temperature: -0.1, ..Draw::default() },
            Draw { min_p: 1.5, ..Draw::default() },
            Draw { truncation: 1.0, ..Draw::default() },
        ] {
            assert!(request.clone().drawing(draw).is_err(), "{draw:?}");
        }
        let all = Draw { temperature: 0.0, top_k: 0, min_p: 1.0, truncation: 0.99, continuous: true };
        assert!(request.drawing(all).is_ok());
    }
}
