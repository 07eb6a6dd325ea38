//! Cost of a run, from the architecture only: products, dispatches, numbers read and written.
//!
//! Engines count the work that they issue; these are the sums of the work that they plan to issue. The two
//! agree.

use std::sync::Arc;

use super::{Counts, Method, work};
use crate::graph::Network;
use crate::graph::network::{Layer, depth};

/// Predicts the cost of runs on a device.
#[derive(Clone)]
pub struct Predictor(Arc<Predict>);

type Predict = dyn Fn(&Network, Method, usize, usize) -> Counts + Send + Sync;

impl Predictor {
    /// From a function of a network, a method, the images of a batch, and the first pixels of each.
    pub fn new(predict: impl Fn(&Network, Method, usize, usize) -> Counts + Send + Sync + 'static) -> Self {
        Self(Arc::new(predict))
    }

    /// Counts the products of the layers only, as on the CPU.
    pub fn of_layers() -> Self {
        Self::new(|network, method, batch, pixels| {
            let macs = batch as u64 * products(network, method, pixels);
            Counts { macs, ..Counts::default() }
        })
    }

    /// Cost of the first `pixels` pixels of each of `batch` images.
    pub fn counts(&self, network: &Network, method: Method, batch: usize, pixels: usize) -> Counts {
        (self.0)(network, method, batch, pixels)
    }
}

/// Rows of the image after which the pattern of work repeats: `2^(levels − 1)`.
pub fn group_of_rows(network: &Network) -> usize {
    network.size_multiple
}

/// Products of the CPU engine's steps for an image.
fn products(network: &Network, method: Method, pixels: usize) -> u64 {
    let (width, height) = (network.width, network.height);
    let sum = |works: &mut dyn Iterator<Item = work::LayerWork>| -> u64 {
        works.map(|work| work.macs(network)).sum()
    };
    let of_row = |row: usize, columns: usize| -> u64 {
        let begin = |row: isize| {
            let ahead = if row < 0 { sum(&mut work::of_known_row(network, row)) } else { 0 };
            ahead + sum(&mut work::of_row(network, row))
        };
        let begins: u64 = network.rows_begun_with(row).map(begin).sum();
        let row = row as isize;
        if columns == width {
            return begins + sum(&mut work::of_known_row(network, row));
        }
        let places =
            (0..columns).flat_map(|column| (0..network.head.steps()).map(move |step| (column, step)));
        begins
            + places.map(|(column, step)| sum(&mut work::of_pixel(network, row, column, step))).sum::<u64>()
    };
    match method {
        Method::Naive => {
            (pixels * network.head.steps()) as u64 * (0..height).map(|row| of_row(row, width)).sum::<u64>()
        }
        Method::Cached | Method::ByPixel => {
            (0..pixels.div_ceil(width)).map(|row| of_row(row, width.min(pixels - row * width))).sum()
        }
    }
}

/// Weights of the terms that are summed when a row begins, and of those that wait for their pixel.
fn weights(layer: &Layer) -> [usize; 2] {
    let (early, late) = layer.taps.split_at(layer.early);
    [early, late].map(|taps| depth(taps) * layer.outputs())
}

/// Weights that a batch reads, whatever its size, if none stay in a cache from one step to the next. Each
/// takes four bytes, or two where they are stored so.
pub fn weights_read(network: &Network, method: Method) -> u64 {
    let (width, height) = (network.width, network.height);
    let of_layer = |layer: &Layer| {
        let [early, late] = weights(layer);
        let rows = height / layer.run_every;
        match method {
            Method::Cached | Method::ByPixel => rows * (early + late * layer.columns(0..width).len()),
            Method::Naive => rows * (early + late) * width * height * network.head.steps(),
        }
    };
    network.layers.iter().map(|layer| of_layer(layer) as u64).sum()
}

/// Values of four bytes that the cached method reads and writes for an image, if every layer reads each of its
/// inputs once and writes each of its outputs once.
pub fn values_moved(network: &Network) -> u64 {
    let (width, height) = (network.width, network.height);
    let of_layer = |layer: &Layer| {
        let context = if layer.has_context() { 2 * layer.outputs() } else { 0 };
        let positions = layer.columns(0..width).len() * (height / layer.run_every);
        positions * (depth(&layer.taps) + context + layer.outputs())
    };
    network.layers.iter().map(|layer| of_layer(layer) as u64).sum()
}

#[cfg(all(test, feature = "gpu"))]
mod tests {
    use super::*;
    use crate::engine::gpu::dispatch::DeviceFacts;
    use crate::engine::gpu::plan::Plan;
    use crate::graph::{LayerKind, pixelcnn_pp};
    use crate::model::Config;

    fn network(config: &Config) -> Network {
        Network::new(&pixelcnn_pp::graph(config), None)
    }

    /// Dispatches for a whole image in closed form.
    fn dispatches_of_image(network: &Network) -> u64 {
        let Network { width, height, .. } = *network;
        let of_pixels = |layer: &Layer| match layer.kind {
            _ if layer.is_row_work() => 0,
            // The input layer runs with the output of the pixel before, except at the first of a row.
            LayerKind::Input => height,
            _ => (width / layer.run_every) * (height / layer.run_every),
        };
        // The early terms of a layer that runs on every row of its grid, or on every second for a parity.
        let of_rows = |layer: &Layer| if layer.early > 0 { height / layer.run_every } else { 0 };
        network.layers.iter().map(|layer| of_rows(layer) + of_pixels(layer)).sum::<usize>() as u64
    }

    #[test]
    fn whole_images_cost_what_the_network_says() {
        for config in [Config::published(160, 5), Config::published(8, 1)] {
            let network = network(&config);
            let pixels = config.width * config.height;
            let of_batch = (3 * network.macs_per_image()) as u64;
            let gpu = Plan::predictor(DeviceFacts { chain: Some(false), ..DeviceFacts::SMALLEST });
            for (predictor, is_gpu) in [(Predictor::of_layers(), false), (gpu, true)] {
                let cached = predictor.counts(&network, Method::Cached, 3, pixels);
                assert_eq!(cached.macs, of_batch);
                let dispatches = if is_gpu { dispatches_of_image(&network) } else { 0 };
                assert_eq!(cached.dispatches, dispatches);
            }
            let naive = Predictor::of_layers().counts(&network, Method::Naive, 3, pixels);
            assert_eq!(naive.macs, of_batch * pixels as u64);
        }
    }

    #[test]
    fn groups_of_rows_cost_the_same() {
        let network = network(&Config::published(8, 2));
        let group = group_of_rows(&network) * network.width;
        for predictor in [Predictor::of_layers(), Plan::predictor(DeviceFacts::SMALLEST)] {
            let cost = |groups| predictor.counts(&network, Method::Cached, 1, groups * group);
            let whole = cost(8);
            assert_eq!((8 * cost(1).macs, 8 * cost(1).dispatches), (whole.macs, whole.dispatches));
            assert_eq!((8 * cost(3).macs, 8 * cost(3).dispatches), (3 * whole.macs, 3 * whole.dispatches));
        }
    }
}
