//! Models with random weights: to measure an architecture without its checkpoint, and to test any other.

use std::collections::BTreeMap;

use super::weights::Tensor;
use super::{Architecture, Config, Model, Precision};
use crate::graph::{Graph, Sizes, Tensors, Term, gated, masked, pixelcnn_pp};
use crate::sampling::random::Noise;

/// A network for which weights are made up.
#[derive(Clone, Debug, PartialEq)]
pub enum MadeUp {
    /// PixelCNN++.
    PixelCnnPp(Config),
    /// A gated PixelCNN over shades of grey.
    Gated(Sizes),
    /// A plain masked PixelCNN over shades of grey.
    Masked(Sizes),
    /// A gated PixelCNN over codes, the prior of a VQ-VAE.
    Prior(Sizes),
}

impl MadeUp {
    /// A model of it with weights made from a seed.
    pub fn model(&self, seed: u64) -> Model {
        let (kind, sizes, graph) = match self {
            Self::PixelCnnPp(config) => return Model::synthetic(config.clone(), seed),
            Self::Gated(sizes) => ("gated", sizes, gated::graph(sizes)),
            Self::Masked(sizes) => ("masked", sizes, masked::graph(sizes)),
            Self::Prior(sizes) => {
                // No tensor has this number.
                let codes = numbers(seed, u64::MAX, sizes.levels * sizes.filters, 3_f32.sqrt());
                ("prior", sizes, gated::prior(sizes, codes.into_iter().map(f64::from).collect()))
            }
        };
        let name = format!("synthetic {kind}:{}x{}", sizes.filters, sizes.layers);
        let tensors = made_up(&graph, seed);
        model(Architecture::Graph { graph: Box::new(graph), classes: Vec::new() }, tensors, name)
    }

    /// Numbers that its model holds: weights, biases, codes.
    pub fn parameters(&self) -> usize {
        let (graph, codes) = match self {
            Self::PixelCnnPp(config) => (pixelcnn_pp::graph(config), 0),
            Self::Gated(sizes) => (gated::graph(sizes), 0),
            Self::Masked(sizes) => (masked::graph(sizes), 0),
            Self::Prior(sizes) => (gated::prior(sizes, Vec::new()), sizes.levels * sizes.filters),
        };
        codes + graph.tensors.values().map(|shape| shape.iter().product::<usize>()).sum::<usize>()
    }
}

impl Model {
    /// A model of this architecture with weights made from a seed, scaled so that activations neither
    /// vanish nor explode with depth.
    pub fn synthetic(config: Config, seed: u64) -> Self {
        let tensor = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
            let inputs: usize = shape[..shape.len() - 1].iter().product();
            // A uniform number of this range has variance 1/(4·inputs); biases have no inputs.
            let range = if shape.len() == 1 { BIAS } else { (0.75 / inputs as f32).sqrt() };
            (name, tensor(seed, index, shape, range))
        };
        let tensors = pixelcnn_pp::graph(&config).tensors.into_iter().enumerate().map(tensor).collect();
        let name = format!("synthetic {}x{}", config.filters, config.blocks);
        model(Architecture::PixelCnnPp(config), tensors, name)
    }
}

/// Range of biases.
const BIAS: f32 = 0.1;

fn model(architecture: Architecture, tensors: Tensors, name: String) -> Model {
    Model {
        architecture,
        tensors,
        metadata: BTreeMap::new(),
        name,
        sha256: String::new(),
        precision: Precision::F32,
    }
}

/// Weights for a graph. Those of a layer are scaled by all inputs of its sum, so that ReLUs keep the size
/// of a value; twice as large before a gate, which makes values smaller.
fn made_up(graph: &Graph, seed: u64) -> Tensors {
    let mut ranges = BTreeMap::new();
    for layer in &graph.layers {
        let inputs = layer.taps.iter().map(|tap| graph.form_len(tap.source, tap.form)).sum::<usize>();
        let variance = if layer.gate.is_some() { 4.0 } else { 2.0 };
        let range = (3.0 * variance / inputs as f32).sqrt();
        for tap in &layer.taps {
            if let Term::Product(slice) = &tap.term {
                ranges.insert(&slice.tensor, range);
            }
        }
    }
    let of_graph = graph.tensors.iter().enumerate();
    of_graph
        .map(|(index, (name, shape))| {
            let range = ranges.get(name).copied().unwrap_or(BIAS);
            (name.clone(), tensor(seed, index, shape.clone(), range))
        })
        .collect()
}

/// Uniform numbers from `-range` to `range`.
fn tensor(seed: u64, index: usize, shape: Vec<usize>, range: f32) -> Tensor {
    let data = numbers(seed, index as u64, shape.iter().product(), range);
    Tensor { shape, data }
}

fn numbers(seed: u64, index: u64, count: usize, range: f32) -> Vec<f32> {
    let mut data = vec![0.0; count];
    Noise::new(seed, index).uniforms(0, &mut data);
    data.iter_mut().for_each(|w| *w = (2.0 * *w - 1.0) * range);
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu::CpuEngine;
    use crate::engine::{Engine, Request, Want};
    use crate::graph::reference;

    fn all() -> [MadeUp; 5] {
        let sizes = Sizes { filters: 6, layers: 3, width: 10, height: 9, levels: 16 };
        let codes = Sizes { levels: 40, ..sizes.clone() };
        let shallow = Sizes { layers: 1, ..sizes.clone() };
        [
            MadeUp::Gated(sizes.clone()),
            MadeUp::Masked(sizes),
            MadeUp::Prior(codes),
            MadeUp::Gated(shallow.clone()),
            MadeUp::Masked(shallow),
        ]
    }

    #[test]
    fn graphs_are_what_engines_can_run() {
        for made_up in all() {
            let model = made_up.model(1);
            let Architecture::Graph { graph, .. } = &model.architecture else { panic!("it is a graph") };
            graph.check(&model.tensors).unwrap_or_else(|error| panic!("{made_up:?}: {error}"));
            let used: std::collections::BTreeSet<_> = graph.tensor_names().collect();
            assert!(model.tensors.keys().all(|name| used.contains(&name[..])), "{made_up:?}");
            let codes: usize = match made_up {
                MadeUp::Prior(_) => graph.encodings.iter().map(|encoding| encoding.table.len()).sum(),
                _ => 0,
            };
            assert_eq!(made_up.parameters(), model.parameter_count() + codes, "{made_up:?}");
        }
    }

    /// A pixel depends on those before it within the reach of the kernels, and on no other.
    #[test]
    fn pixels_see_what_the_paper_lets_them_see() {
        for made_up in all() {
            let model = made_up.model(2);
            let Architecture::Graph { graph, .. } = &model.architecture else { panic!("it is a graph") };
            let (width, height) = (graph.width, graph.height);
            let of = |levels: &[u16]| reference::parameters(graph, &model.tensors, levels, None);
            let levels = vec![3; width * height];
            let at = 5 * width + 4;
            let before = of(&levels);
            let mut changed = levels.clone();
            changed[at] = 9;
            let after = of(&changed);
            let of_pixel = graph.head.parameters();
            let is_changed = |pixel: usize| {
                before[pixel * of_pixel..][..of_pixel] != after[pixel * of_pixel..][..of_pixel]
            };
            assert!((0..=at).all(|pixel| !is_changed(pixel)), "{made_up:?}");
            // Rows below and the rest of the row, three pixels far through the first layer alone.
            for (row, column, is_near) in
                [(5, 5, true), (5, 7, true), (8, 1, true), (8, 7, true), (6, 4, true)]
            {
                assert_eq!(is_changed(row * width + column), is_near, "{made_up:?}: {row}, {column}");
            }
        }
    }

    /// Logits differ from pixel to pixel, by as much as those of trained networks rather than by rounding.
    #[test]
    fn values_neither_vanish_nor_explode_with_depth() {
        for (filters, layers) in [(16, 2), (16, 24)] {
            let sizes = Sizes { filters, layers, width: 8, height: 8, levels: 16 };
            for made_up in
                [MadeUp::Gated(sizes.clone()), MadeUp::Masked(sizes.clone()), MadeUp::Prior(sizes)]
            {
                let model = made_up.model(0);
                let mut engine = CpuEngine::new(&model, 8, 8, 1);
                let drawn =
                    engine.run(&Request::sample(engine.shape(), 1, [(0, None)]).unwrap(), &mut |_| {});
                let want = Want { parameters: true, ..Want::default() };
                let request = Request::evaluate(engine.shape(), &drawn.unwrap().levels, &[], want).unwrap();
                let logits = engine.run(&request, &mut |_| {}).unwrap().parameters;
                // Logits of one level, over the pixels.
                let of_level: Vec<f32> = logits.iter().skip(3).step_by(16).copied().collect();
                let mean = of_level.iter().sum::<f32>() / 64.0;
                let deviation = (of_level.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 64.0).sqrt();
                assert!((0.02..5.0).contains(&deviation), "{made_up:?}: {deviation}");
            }
        }
    }
}
