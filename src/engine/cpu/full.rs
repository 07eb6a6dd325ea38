//! PixelCNN++ on whole images, written from Salimans et al. 2017 with direct loops: the yardstick of both
//! engines.
//!
//! No caches, no taps, no packed weights: it shares nothing with the engines but the model file, so that a
//! mistake in one does not hide in the other. Slow, and meant to be read.

use std::cell::RefCell;

use crate::engine::Trace;
use crate::graph::reference;
use crate::model::{Config, Model, Nonlinearity};

/// The network's output `[N, H, W, P]`, by [`mod@reference`] for networks that are no PixelCNN++, for images `[N, H, W, C]` of levels.
///
/// `classes` has a class an image, or none for an unconditional model.
pub fn parameters(
    model: &Model,
    width: usize,
    height: usize,
    images: &[u16],
    classes: &[usize],
    threads: usize,
) -> Vec<f32> {
    let shape = model.shape(width, height);
    let per_image = shape.dimensions();
    let count = images.len() / per_image;
    let mut out = vec![0.0; count * shape.pixels() * shape.head.parameters()];
    let share = count.div_ceil(threads.max(1)).max(1);
    let out_per_image = out.len() / count.max(1);
    std::thread::scope(|scope| {
        let shares = images.chunks(share * per_image).zip(out.chunks_mut(share * out_per_image));
        for (t, (images, out)) in shares.enumerate() {
            scope.spawn(move || {
                let pairs = images.chunks(per_image).zip(out.chunks_mut(out_per_image));
                for (i, (image, out)) in pairs.enumerate() {
                    let class = classes.get(t * share + i).copied();
                    match model.config() {
                        Some(config) => {
                            let network = Network { model, config, class, trace: None };
                            out.copy_from_slice(
                                &network.forward(&values(config, width, height, image)).data,
                            );
                        }
                        None => {
                            let graph = model.graph(width, height);
                            let exact = reference::parameters(&graph, &model.tensors, image, class);
                            out.iter_mut().zip(exact).for_each(|(to, x)| *to = x as f32);
                        }
                    }
                }
            });
        }
    });
    out
}

/// Every intermediate value for one image, before any activation.
pub fn trace(model: &Model, width: usize, height: usize, image: &[u16], class: Option<usize>) -> Trace {
    let Some(config) = model.config() else {
        let graph = model.graph(width, height);
        let values = reference::trace(&graph, &model.tensors, image, class);
        let single = |value: Vec<f64>| value.into_iter().map(|x| x as f32).collect();
        return graph
            .nodes
            .into_iter()
            .zip(values)
            .map(|(node, value)| (node.name, single(value)))
            .collect();
    };
    let network = Network { model, config, class, trace: Some(RefCell::default()) };
    network.forward(&values(config, width, height, image));
    network.trace.map(RefCell::into_inner).unwrap_or_default()
}

/// An image as the network takes it, in [−1, 1].
fn values(config: &Config, width: usize, height: usize, image: &[u16]) -> FeatureMap {
    let data = image.iter().map(|&level| (f32::from(level) - 127.5) / 127.5).collect();
    FeatureMap { height, width, channels: config.channels, data }
}

/// `[height, width, channels]`.
#[derive(Clone)]
struct FeatureMap {
    height: usize,
    width: usize,
    channels: usize,
    data: Vec<f32>,
}

impl FeatureMap {
    fn zeros(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels, data: vec![0.0; height * width * channels] }
    }

    /// The pixel, or none in the padding.
    fn at(&self, row: isize, column: isize) -> Option<&[f32]> {
        let (row, column) = (usize::try_from(row).ok()?, usize::try_from(column).ok()?);
        let inside = row < self.height && column < self.width;
        inside.then(|| &self.data[(row * self.width + column) * self.channels..][..self.channels])
    }

    fn at_mut(&mut self, row: usize, column: usize) -> &mut [f32] {
        &mut self.data[(row * self.width + column) * self.channels..][..self.channels]
    }

    /// Channels made of the channels of each pixel.
    fn map_pixels(&self, channels: usize, f: impl Fn(&[f32], &mut [f32])) -> Self {
        let mut out = Self::zeros(self.height, self.width, channels);
        for (x, y) in self.data.chunks(self.channels).zip(out.data.chunks_mut(channels)) {
            f(x, y);
        }
        out
    }

    fn concat(&self, other: &Self) -> Self {
        let pixels = self.data.chunks(self.channels).zip(other.data.chunks(other.channels));
        let data = pixels.flat_map(|(a, b)| [a, b].concat()).collect();
        Self { data, channels: self.channels + other.channels, ..*self }
    }

    fn add(mut self, other: &Self) -> Self {
        self.data.iter_mut().zip(&other.data).for_each(|(a, b)| *a += b);
        self
    }

    fn shift_down(&self) -> Self {
        let mut out = Self::zeros(self.height, self.width, self.channels);
        let row = self.width * self.channels;
        out.data[row..].copy_from_slice(&self.data[..self.data.len() - row]);
        out
    }

    fn shift_right(&self) -> Self {
        let mut out = Self::zeros(self.height, self.width, self.channels);
        let row = self.width * self.channels;
        for (x, y) in self.data.chunks(row).zip(out.data.chunks_mut(row)) {
            y[self.channels..].copy_from_slice(&x[..row - self.channels]);
        }
        out
    }
}

/// `out += in · weights`, `weights` `[inputs, outputs]`.
fn accumulate(input: &[f32], weights: &[f32], out: &mut [f32]) {
    for (x, row) in input.iter().zip(weights.chunks(out.len())) {
        for (y, w) in out.iter_mut().zip(row) {
            *y += x * w;
        }
    }
}

fn elu(x: f32) -> f32 {
    if x > 0.0 { x } else { x.exp_m1() }
}

/// Kernels of the two streams, and the padding (top, left and right) that they come with.
#[derive(Clone, Copy)]
enum Stream {
    Vertical,
    Horizontal,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Vertical => "vertical",
            Self::Horizontal => "horizontal",
        }
    }
}

struct Network<'a> {
    model: &'a Model,
    config: &'a Config,
    class: Option<usize>,
    /// Kept if requested.
    trace: Option<RefCell<Trace>>,
}

impl Network<'_> {
    fn forward(&self, image: &FeatureMap) -> FeatureMap {
        use Stream::{Horizontal, Vertical};
        let config = self.config;
        let x = image.map_pixels(image.channels + 1, |x, y| {
            y[..x.len()].copy_from_slice(x);
            y[x.len()] = 1.0;
        });
        let x = self.keep("image", x);
        let u = self.conv(&x, "input.vertical", [1, 1], 1, 1).shift_down();
        let above = self.conv(&x, "input.above", [0, 1], 1, 1).shift_down();
        let left = self.conv(&x, "input.left", [1, 0], 1, 1).shift_right();
        let mut u = self.keep("input.vertical", self.add_class(u, "input.vertical"));
        let mut ul = self.keep("input.horizontal", self.add_class(above.add(&left), "input.horizontal"));

        // With the place at which each pair was computed.
        let mut remembered = vec![("input".to_owned(), u.clone(), ul.clone())];
        for level in 0..config.levels {
            for i in 0..config.blocks {
                let place = format!("up.{level}.block.{i}");
                u = self.block(&place, Vertical, i, &u, None);
                ul = self.block(&place, Horizontal, i, &ul, Some(&u));
                remembered.push((place, u.clone(), ul.clone()));
            }
            if level + 1 < config.levels {
                let [vertical, horizontal] = self.stride_names("up", level);
                u = self.keep(&vertical, self.conv(&u, &vertical, [1, 1], 2, 1));
                ul = self.keep(&horizontal, self.conv(&ul, &horizontal, [1, 1], 2, 1));
                remembered.push((format!("up.{level}.stride"), u.clone(), ul.clone()));
            }
        }

        remembered.pop();
        u = self.add_class(u, "bottleneck.vertical");
        ul = self.keep_again(self.add_class(ul, "bottleneck.horizontal"));
        for level in (0..config.levels).rev() {
            let blocks = if level + 1 == config.levels { config.blocks } else { config.blocks + 1 };
            for i in 0..blocks {
                let place = format!("down.{level}.block.{i}");
                let (made_at, u_up, ul_up) = remembered.pop().expect("as many as were pushed");
                let u_up = self.add_class(u_up, &format!("{made_at}.vertical.remembered"));
                let ul_up = self.add_class(ul_up, &format!("{made_at}.horizontal.remembered"));
                u = self.block(&place, Vertical, i, &u, Some(&u_up));
                ul = self.block(&place, Horizontal, i, &ul, Some(&u.concat(&ul_up)));
            }
            if level > 0 {
                let [vertical, horizontal] = self.stride_names("down", level);
                u = self.keep(&vertical, self.transposed(&u, &vertical, 1));
                ul = self.keep(&horizontal, self.transposed(&ul, &horizontal, 0));
            }
        }
        let elu = ul.map_pixels(ul.channels, |x, y| x.iter().zip(y).for_each(|(x, y)| *y = elu(*x)));
        self.keep("output", self.add_class(self.nin(&elu, "output"), "output"))
    }

    /// Adds the class table of a place to `x`, `[K, channels]` or `[K, H, W, channels]`, if the place has
    /// one.
    fn add_class(&self, mut x: FeatureMap, place: &str) -> FeatureMap {
        let tensor = self.model.tensors.get(&format!("{place}.class.weight"));
        let (Some(class), Some(tensor)) = (self.class, tensor) else { return x };
        let of_class = tensor.data.chunks(tensor.data.len() / tensor.shape[0]).nth(class);
        let of_class = of_class.expect("the class is one of the model's");
        // A vector is the same for every pixel.
        x.data.iter_mut().zip(of_class.iter().cycle()).for_each(|(x, e)| *x += e);
        x
    }

    /// Adds a value to the trace.
    fn keep(&self, name: &str, value: FeatureMap) -> FeatureMap {
        if let Some(trace) = &self.trace {
            trace.borrow_mut().push((name.to_owned(), value.data.clone()));
        }
        value
    }

    /// Replaces the value that was added to the trace last.
    fn keep_again(&self, value: FeatureMap) -> FeatureMap {
        if let Some(trace) = &self.trace {
            trace.borrow_mut().last_mut().expect("it has values").1.clone_from(&value.data);
        }
        value
    }

    fn stride_names(&self, pass: &str, level: usize) -> [String; 2] {
        [Stream::Vertical, Stream::Horizontal].map(|s| format!("{pass}.{level}.stride.{}", s.name()))
    }

    fn block(
        &self,
        place: &str,
        stream: Stream,
        i: usize,
        x: &FeatureMap,
        aux: Option<&FeatureMap>,
    ) -> FeatureMap {
        let dilation = self.config.dilations[i];
        let place = format!("{place}.{}", stream.name());
        let pad = [dilation; 2];
        let mut c1 = self.conv(&self.phi(x), &format!("{place}.conv_in"), pad, 1, dilation);
        if let Some(aux) = aux {
            c1 = c1.add(&self.nin(&self.phi(aux), &format!("{place}.skip")));
        }
        let name = format!("{place}.conv_out");
        let conv_in = format!("{place}.conv_in");
        let c1 = self.keep(&conv_in, self.add_class(c1, &conv_in));
        let c2 = self.add_class(self.conv(&self.phi(&c1), &name, pad, 1, dilation), &place);
        let gate = c2.map_pixels(x.channels, |c, y| {
            let (a, b) = c.split_at(y.len());
            for (y, (a, b)) in y.iter_mut().zip(a.iter().zip(b)) {
                *y = a / (1.0 + (-b).exp());
            }
        });
        self.keep(&name, gate.add(x))
    }

    fn phi(&self, x: &FeatureMap) -> FeatureMap {
        let n = x.channels;
        match self.config.nonlinearity {
            Nonlinearity::ConcatElu => x.map_pixels(2 * n, |x, y| {
                for (k, x) in x.iter().enumerate() {
                    (y[k], y[n + k]) = (elu(*x), elu(-x));
                }
            }),
            Nonlinearity::Elu => x.map_pixels(n, |x, y| x.iter().zip(y).for_each(|(x, y)| *y = elu(*x))),
            Nonlinearity::Relu => {
                x.map_pixels(n, |x, y| x.iter().zip(y).for_each(|(x, y)| *y = x.max(0.0)))
            }
        }
    }

    /// A convolution with zero padding at the top and at the left (and as much as is needed on the right).
    fn conv(
        &self,
        x: &FeatureMap,
        name: &str,
        [top, left]: [usize; 2],
        stride: usize,
        dilation: usize,
    ) -> FeatureMap {
        let weight = &self.model.tensors[&format!("{name}.weight")];
        let bias = &self.model.tensors[&format!("{name}.bias")].data;
        let [kh, kw, inputs, outputs] = weight.shape[..] else { panic!("{name}: not a convolution") };
        let mut out = FeatureMap::zeros(x.height / stride, x.width / stride, outputs);
        for row in 0..out.height {
            for column in 0..out.width {
                let y = out.at_mut(row, column);
                y.copy_from_slice(bias);
                for (tap, weights) in weight.data.chunks(inputs * outputs).enumerate() {
                    let (i, j) = (tap / kw, tap % kw);
                    debug_assert!(i < kh);
                    let row = (row * stride + i * dilation) as isize - top as isize;
                    let column = (column * stride + j * dilation) as isize - left as isize;
                    if let Some(x) = x.at(row, column) {
                        accumulate(x, weights, y);
                    }
                }
            }
        }
        out
    }

    /// A transposed convolution with stride 2 as a scatter, cropped by `crop` columns on the left.
    fn transposed(&self, x: &FeatureMap, name: &str, crop: usize) -> FeatureMap {
        let weight = &self.model.tensors[&format!("{name}.weight")];
        let bias = &self.model.tensors[&format!("{name}.bias")].data;
        let [_, kw, inputs, outputs] = weight.shape[..] else { panic!("{name}: not a convolution") };
        let mut out = FeatureMap::zeros(2 * x.height, 2 * x.width, outputs);
        out.data.chunks_mut(outputs).for_each(|y| y.copy_from_slice(bias));
        for row in 0..x.height {
            for column in 0..x.width {
                let x = &x.data[(row * x.width + column) * inputs..][..inputs];
                for (tap, weights) in weight.data.chunks(inputs * outputs).enumerate() {
                    let (i, j) = (tap / kw, tap % kw);
                    let to = (2 * column + j).checked_sub(crop).filter(|c| *c < out.width);
                    if let Some(to) = to {
                        accumulate(x, weights, out.at_mut(2 * row + i, to));
                    }
                }
            }
        }
        out
    }

    /// A 1×1 product.
    fn nin(&self, x: &FeatureMap, name: &str) -> FeatureMap {
        let weight = &self.model.tensors[&format!("{name}.weight")];
        let bias = &self.model.tensors[&format!("{name}.bias")].data;
        x.map_pixels(bias.len(), |x, y| {
            y.copy_from_slice(bias);
            accumulate(x, &weight.data, y);
        })
    }
}
