//! What a run costs, from the architecture alone: products, dispatches, numbers read and written.
//!
//! Engines count what they issue, and these are the sums of what they plan to issue. The two agree.

#[cfg(feature = "gpu")]
use super::gpu::{dispatch::DeviceFacts, plan::Plan};
use super::{Counts, Method, work};
use crate::graph::Network;
use crate::graph::network::{Layer, depth};

/// Whose plan is asked: the sampling kernel of a GPU makes the output, and the input layer of its next pixel.
#[derive(Clone, Copy, Debug)]
pub enum PlannedFor {
    /// Layers alone.
    Cpu,
    /// Dispatches of kernels, as they are planned for a device.
    #[cfg(feature = "gpu")]
    Gpu(DeviceFacts),
}

/// Rows of the image after which the pattern of work repeats: `2^(levels − 1)`.
pub fn group_of_rows(network: &Network) -> usize {
    network.size_multiple
}

/// What the first `pixels` pixels of each of `batch` images cost.
pub fn predicted(
    network: &Network,
    method: Method,
    batch: usize,
    pixels: usize,
    device: PlannedFor,
) -> Counts {
    match device {
        PlannedFor::Cpu => {
            Counts { macs: batch as u64 * products(network, method, pixels), ..Counts::default() }
        }
        #[cfg(feature = "gpu")]
        PlannedFor::Gpu(target) => Plan::new(network, batch, target).cost(method, pixels),
    }
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
            // The input layer runs with the output of the pixel before, but for the first of a row.
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
            let gpu = PlannedFor::Gpu(DeviceFacts { chain: Some(false), ..DeviceFacts::SMALLEST });
            for device in [PlannedFor::Cpu, gpu] {
                let cached = predicted(&network, Method::Cached, 3, pixels, device);
                assert_eq!(cached.macs, of_batch);
                let is_gpu = matches!(device, PlannedFor::Gpu(_));
                let dispatches = if is_gpu { dispatches_of_image(&network) } else { 0 };
                assert_eq!(cached.dispatches, dispatches);
            }
            let naive = predicted(&network, Method::Naive, 3, pixels, PlannedFor::Cpu);
            assert_eq!(naive.macs, of_batch * pixels as u64);
        }
    }

    #[test]
    fn groups_of_rows_cost_the_same() {
        let network = network(&Config::published(8, 2));
        let group = group_of_rows(&network) * network.width;
        for device in [PlannedFor::Cpu, PlannedFor::Gpu(DeviceFacts::SMALLEST)] {
            let cost = |groups| predicted(&network, Method::Cached, 1, groups * group, device);
            let whole = cost(8);
            assert_eq!((8 * cost(1).macs, 8 * cost(1).dispatches), (whole.macs, whole.dispatches));
            assert_eq!((8 * cost(3).macs, 8 * cost(3).dispatches), (3 * whole.macs, 3 * whole.dispatches));
        }
    }
}
