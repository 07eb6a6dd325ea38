//! The reference: any graph on whole images, with direct loops and in 64 bits. Engines are compared with
//! it.
//!
//! No caches, no schedule, no packed weights: it shares nothing with the engines but the declared graph.
//! Slow, and meant to be read.

use super::table::axes_of;
use super::{Activation, Form, Graph, IMAGE, LayerSpec, TapSpec, Tensors, Term};

/// `[height, width, channels]`
#[derive(Clone)]
struct ExactMap {
    height: usize,
    width: usize,
    channels: usize,
    data: Vec<f64>,
}

impl ExactMap {
    fn zeros(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels, data: vec![0.0; height * width * channels] }
    }

    /// The pixel, or none in the padding.
    fn at(&self, row: isize, column: isize) -> Option<&[f64]> {
        let (row, column) = (usize::try_from(row).ok()?, usize::try_from(column).ok()?);
        let inside = row < self.height && column < self.width;
        inside.then(|| &self.data[(row * self.width + column) * self.channels..][..self.channels])
    }

    fn pixels_mut(&mut self) -> impl Iterator<Item = ([usize; 2], &mut [f64])> {
        let width = self.width;
        let pixels = self.data.chunks_mut(self.channels).enumerate();
        pixels.map(move |(i, pixel)| ([i / width, i % width], pixel))
    }
}

/// The parameters of every pixel of an image of levels `[H, W, C]`: `[H, W, P]`.
pub fn parameters(graph: &Graph, tensors: &Tensors, levels: &[u16], class: Option<usize>) -> Vec<f64> {
    trace(graph, tensors, levels, class).swap_remove(graph.head_node)
}

/// The value of every node, `[rows, columns, channels]`; empty for the image.
pub fn trace(graph: &Graph, tensors: &Tensors, levels: &[u16], class: Option<usize>) -> Vec<Vec<f64>> {
    let mut reference = Reference { graph, tensors, class: class.unwrap_or(0), values: Vec::new(), levels };
    let size = |node: usize| {
        let level = graph.nodes[node].level;
        ExactMap::zeros(graph.height >> level, graph.width >> level, graph.nodes[node].channels)
    };
    reference.values = (0..graph.nodes.len()).map(size).collect();
    graph.layers.iter().for_each(|layer| reference.run(layer));
    reference.values.into_iter().map(|value| value.data).collect()
}

struct Reference<'a> {
    graph: &'a Graph,
    tensors: &'a Tensors,
    class: usize,
    /// By node.
    values: Vec<ExactMap>,
    levels: &'a [u16],
}

impl Reference<'_> {
    /// A form of a node, at every pixel.
    fn form(&self, node: usize, index: usize) -> ExactMap {
        let value = &self.values[node];
        let mut out = ExactMap::zeros(value.height, value.width, self.graph.form_len(node, index));
        if node == IMAGE {
            let (channels, width) = (self.graph.head.channels(), out.width);
            for ([row, column], to) in out.pixels_mut() {
                let pixel = &self.levels[(row * width + column) * channels..][..channels];
                let numbers = self.graph.encodings[index].of_pixel(pixel);
                to.iter_mut().zip(numbers).for_each(|(to, x)| *to = x);
            }
            return out;
        }
        let Form { activation, negate, scale, shift } = &self.graph.nodes[node].forms[index];
        for ([row, column], to) in out.pixels_mut() {
            let x = value.at(row as isize, column as isize).expect("it has the size of the form");
            let mut x = x.to_vec();
            if let Some(scale) = scale {
                x.iter_mut().zip(self.table(scale, row, column)).for_each(|(x, scale)| *x *= scale);
            }
            if let Some(shift) = shift {
                x.iter_mut().zip(self.table(shift, row, column)).for_each(|(x, shift)| *x += shift);
            }
            if *negate {
                x.iter_mut().for_each(|x| *x = -*x);
            }
            if *activation == Activation::ConcatElu {
                x = x.iter().copied().chain(x.iter().map(|x| -x)).collect();
            }
            to.iter_mut().zip(x).for_each(|(to, x)| *to = apply(*activation, x));
        }
        out
    }

    /// The numbers of a table for a pixel.
    fn table(&self, name: &str, row: usize, column: usize) -> impl Iterator<Item = f64> {
        let tensor = &self.tensors[name];
        let ([classes, rows, columns], width) =
            axes_of(&tensor.shape).expect("checked when the model was loaded");
        let index = |length: usize, at: usize| if length > 1 { at } else { 0 };
        let place =
            (index(classes, self.class) * rows + index(rows, row)) * columns + index(columns, column);
        tensor.data[place * width..][..width].iter().map(|x| f64::from(*x))
    }

    /// The position that a tap reads for a position of the target, unless it does not count there.
    fn place(&self, layer: &LayerSpec, tap: &TapSpec, row: usize, column: usize) -> Option<[isize; 2]> {
        let (target, source) = (self.graph.nodes[layer.target].level, self.graph.nodes[tap.source].level);
        let [row, column] = match tap.phase {
            Some(phase) if [row % 2, column % 2] != phase => return None,
            Some(_) => [row / 2, column / 2],
            None if source < target => [2 * row, 2 * column],
            None => [row, column],
        };
        Some([row as isize + tap.row, column as isize + tap.column])
    }

    fn run(&mut self, layer: &LayerSpec) {
        let outputs = self.graph.outputs(layer);
        let target = &self.values[layer.target];
        let mut sum = ExactMap::zeros(target.height, target.width, outputs);
        for name in &layer.additions {
            for ([row, column], to) in sum.pixels_mut() {
                let numbers: Vec<_> = self.table(name, row, column).collect();
                // A table of half the outputs applies to each half.
                to.iter_mut().zip(numbers.iter().cycle()).for_each(|(to, x)| *to += x);
            }
        }
        for tap in &layer.taps {
            let source = self.form(tap.source, tap.form);
            for ([row, column], to) in sum.pixels_mut() {
                let place = self.place(layer, tap, row, column);
                let Some(x) = place.and_then(|[row, column]| source.at(row, column)) else { continue };
                self.add(tap, x, to);
            }
        }
        let mut made = sum.clone();
        if let Some([f, g]) = layer.gate {
            made = ExactMap::zeros(sum.height, sum.width, outputs / 2);
            for (to, ab) in made.data.chunks_mut(outputs / 2).zip(sum.data.chunks(outputs)) {
                let (a, b) = ab.split_at(to.len());
                to.iter_mut()
                    .zip(a.iter().zip(b))
                    .for_each(|(to, (a, b))| *to = apply(f, *a) * apply(g, *b));
            }
        }
        if let Some((node, form)) = layer.residual {
            made.data.iter_mut().zip(self.form(node, form).data).for_each(|(to, x)| *to += x);
        }
        self.values[layer.target] = made;
        if let Some(pre) = layer.pre {
            self.values[pre] = sum;
        }
    }

    /// Adds a term to the sum of a pixel.
    fn add(&self, tap: &TapSpec, x: &[f64], to: &mut [f64]) {
        let slice = match &tap.term {
            Term::Select { channels, outputs } => {
                let selected = &x[channels.clone()];
                to[*outputs..].iter_mut().zip(selected).for_each(|(to, x)| *to += x);
                return;
            }
            Term::Product(slice) => slice,
        };
        let tensor = &self.tensors[&slice.tensor];
        let [.., width, inputs, outputs] = [&[1, 1], &tensor.shape[..]].concat()[..] else {
            unreachable!("checked when the model was loaded")
        };
        let groups = match tap.source {
            IMAGE => 1,
            source => self.graph.nodes[source].forms[tap.form].activation.groups(),
        };
        let of_group = x.len() / groups;
        let first_row = (slice.kernel[0] * width + slice.kernel[1]) * inputs;
        for (group, first) in slice.groups.iter().enumerate() {
            for (k, x) in x[group * of_group..][..of_group].iter().enumerate() {
                let weights = &tensor.data[(first_row + first + k) * outputs..][..outputs];
                to.iter_mut().zip(weights).for_each(|(to, w)| *to += x * f64::from(*w));
            }
        }
        if let Some(bias) = &slice.bias {
            let one = x[x.len() - 1];
            to.iter_mut().zip(&self.tensors[bias].data).for_each(|(to, b)| *to += one * f64::from(*b));
        }
    }
}

/// An activation by its definition, of one number; of a doubled channel for `concat_elu`.
pub fn apply(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Raw => x,
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu(slope) => {
            if x > 0.0 {
                x
            } else {
                f64::from(slope) * x
            }
        }
        Activation::Elu | Activation::ConcatElu => {
            if x > 0.0 {
                x
            } else {
                x.exp_m1()
            }
        }
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
        Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Activation::Exp => x.exp(),
    }
}

/// The error function: its series, and beyond 3 its continued fraction (Abramowitz and Stegun, 7.1.5 and 7.1.14).
pub fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size > 3.0 {
        let mut fraction = size;
        for k in (1..80).rev() {
            fraction = size + f64::from(k) / 2.0 / fraction;
        }
        return x.signum() * (1.0 - (-size * size).exp() / fraction / std::f64::consts::PI.sqrt());
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}
