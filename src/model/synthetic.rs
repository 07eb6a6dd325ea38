//! Models with random weights: to measure an architecture without its checkpoint, and to test any other.

use std::collections::BTreeMap;

use super::weights::Tensor;
use super::{Architecture, Config, Model, Precision};
use crate::graph::pixelcnn_pp;
use crate::sampling::random::Noise;

impl Model {
    /// A model of this architecture with weights made from a seed, scaled so that activations neither
    /// vanish nor explode with depth.
    pub fn synthetic(config: Config, seed: u64) -> Self {
        let tensor = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
            let mut data = vec![0.0; shape.iter().product()];
            Noise::new(seed, index as u64).uniforms(0, &mut data);
            let inputs: usize = shape[..shape.len() - 1].iter().product();
            // A uniform number of this range has variance 1/(4·inputs); biases have no inputs.
            let range = if shape.len() == 1 { 0.1 } else { (0.75 / inputs as f32).sqrt() };
            data.iter_mut().for_each(|w| *w = (2.0 * *w - 1.0) * range);
            (name, Tensor { shape, data })
        };
        let tensors: BTreeMap<_, _> =
            pixelcnn_pp::graph(&config).tensors.into_iter().enumerate().map(tensor).collect();
        let name = format!("synthetic {}x{}", config.filters, config.blocks);
        Self {
            architecture: Architecture::PixelCnnPp(config),
            tensors,
            metadata: BTreeMap::new(),
            name,
            sha256: String::new(),
            precision: Precision::F32,
        }
    }
}
