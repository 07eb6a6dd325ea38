//! The costs of drawing, for `inspect` and `bench`; docs/bench.md explains them.

use serde::Serialize;

use crate::engine::Method;
use crate::engine::cost::{values_moved, weights_read};
use crate::engine::devices::gpu;
use crate::graph::Network;

/// Counts for one image, or for a batch of any size.
#[derive(Serialize)]
pub struct Costs {
    pub macs_per_image: u64,
    pub naive_macs_per_image: u64,
    /// On a discrete GPU, if the program was built with the GPU engine; so is the next.
    pub gpu_dispatches_per_batch: Option<u64>,
    pub naive_gpu_dispatches_per_batch: Option<u64>,
    pub weights_read_per_batch: u64,
    pub values_moved_per_image: u64,
}

impl Costs {
    /// The costs of a network by its definition.
    pub fn of(network: &Network) -> Self {
        let (macs, pixels) = (network.macs_per_image() as u64, (network.width * network.height) as u64);
        Self::with_macs(network, [macs, macs.saturating_mul(pixels)])
    }

    /// The same, with the products of an engine: cached, and naive.
    pub fn with_macs(network: &Network, [macs_per_image, naive_macs_per_image]: [u64; 2]) -> Self {
        Self {
            macs_per_image,
            naive_macs_per_image,
            gpu_dispatches_per_batch: gpu::dispatches(network, Method::Cached),
            naive_gpu_dispatches_per_batch: gpu::dispatches(network, Method::Naive),
            weights_read_per_batch: weights_read(network, Method::Cached),
            values_moved_per_image: values_moved(network),
        }
    }
}
