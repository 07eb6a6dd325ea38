//! What a run costs, from the architecture alone: products, dispatches, numbers read and written.
//!
//! Engines count what they issue, from the shapes of what they issue: [`super::Counts`]. The two agree.

use super::Method;
use crate::model::Network;
use crate::model::network::{Kind, Layer, depth};

/// Which products an engine's kernels make beside the layers' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Layers alone.
    Cpu,
    /// The sampling kernel makes the output, and the input layer of its next pixel.
    Gpu,
}

/// What a batch costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiplications with additions in products, padding of channels included.
    pub macs: u64,
    /// Dispatches of GPU kernels.
    pub dispatches: u64,
}

/// Rows of the image after which the pattern of work repeats: `2^(levels − 1)`.
pub fn group_of_rows(network: &Network) -> usize {
    network.config.size_multiple()
}

/// What the first `pixels` pixels of each of `batch` images cost.
pub fn predicted(network: &Network, method: Method, batch: usize, pixels: usize, device: Device) -> Cost {
    let cost = match method {
        Method::Cached => cached(network, pixels, device),
        Method::Naive => naive(network, pixels, device),
    };
    Cost { macs: cost.macs * batch as u64, ..cost }
}

/// Weights of the terms that are summed when a row begins, and of those that wait for their pixel.
fn weights(layer: &Layer) -> [usize; 2] {
    let (early, late) = layer.taps.split_at(layer.early);
    [early, late].map(|taps| depth(taps) * layer.outputs())
}

/// Dispatches on a GPU that begin a row of the image.
pub fn dispatches_of_row(network: &Network, row: usize) -> u64 {
    let begins = |layer: &&Layer| layer.runs_on_row(row) && layer.early > 0;
    network.layers.iter().filter(begins).count() as u64
}

fn cached(network: &Network, pixels: usize, device: Device) -> Cost {
    let width = network.config.width;
    let mut cost = Cost::default();
    for row in 0..pixels.div_ceil(width) {
        let columns = width.min(pixels - row * width);
        cost.dispatches += dispatches_of_row(network, row);
        for layer in network.layers.iter().filter(|layer| layer.runs_on_row(row)) {
            let [early, late] = weights(layer);
            cost.macs += (early * layer.columns(0..width).len()) as u64;
            if late > 0 {
                let steps = layer.columns(0..columns).len();
                let by_sampling = device == Device::Gpu && layer.kind == Kind::Input;
                cost.macs += (late * if by_sampling { width.min(columns + 1) } else { steps }) as u64;
                // The output layer has a dispatch too: the sampling kernel.
                cost.dispatches += if layer.kind == Kind::Input { 1 } else { steps as u64 };
            }
        }
    }
    cost
}

fn naive(network: &Network, pixels: usize, device: Device) -> Cost {
    let (width, height) = (network.config.width, network.config.height);
    let mut cost = Cost::default();
    for row in 0..height {
        for layer in network.layers.iter().filter(|layer| layer.runs_on_row(row)) {
            let [early, late] = weights(layer);
            cost.macs += ((early + late) * layer.columns(0..width).len()) as u64;
            cost.dispatches += u64::from(early > 0) + u64::from(late > 0);
        }
    }
    cost.macs *= pixels as u64;
    cost.dispatches = (cost.dispatches + 1) * pixels as u64;
    if device == Device::Gpu {
        let late =
            |kind| network.layers.iter().filter(move |l| l.kind == kind).map(|l| weights(l)[1]).sum();
        let (output, input): (usize, usize) = (late(Kind::Output), late(Kind::Input));
        // No pixel comes after the last of a row.
        cost.macs += (output * pixels + input * (pixels - pixels / width)) as u64;
    }
    cost
}

/// Weights that a batch reads, whatever its size, if none stay in a cache from one step to the next. Each
/// takes four bytes, or two where they are stored so.
pub fn weights_read(network: &Network, method: Method) -> u64 {
    let (width, height) = (network.config.width, network.config.height);
    let of_layer = |layer: &Layer| {
        let [early, late] = weights(layer);
        let rows = height / layer.run_every;
        match method {
            Method::Cached => rows * (early + late * layer.columns(0..width).len()),
            Method::Naive => rows * (early + late) * width * height,
        }
    };
    network.layers.iter().map(|layer| of_layer(layer) as u64).sum()
}

/// Values of four bytes that the cached method reads and writes for an image, if every layer reads each of its
/// inputs once and writes each of its outputs once.
pub fn values_moved(network: &Network) -> u64 {
    let (width, height) = (network.config.width, network.config.height);
    let of_layer = |layer: &Layer| {
        let context = if layer.has_context() { 2 * layer.outputs() } else { 0 };
        let positions = layer.columns(0..width).len() * (height / layer.run_every);
        positions * (depth(&layer.taps) + context + layer.outputs())
    };
    network.layers.iter().map(|layer| of_layer(layer) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Config;

    /// Dispatches for a whole image in closed form.
    fn dispatches_of_image(network: &Network) -> u64 {
        let Config { width, height, .. } = network.config;
        let of_pixels = |layer: &Layer| match layer.kind {
            _ if layer.is_row_work() => 0,
            // The input layer runs with the output of the pixel before, but for the first of a row.
            Kind::Input => height,
            _ => (width / layer.run_every) * (height / layer.run_every),
        };
        let of_rows: u64 = (0..height).map(|row| dispatches_of_row(network, row)).sum();
        of_rows + network.layers.iter().map(of_pixels).sum::<usize>() as u64
    }

    #[test]
    fn whole_images_cost_what_the_network_says() {
        for config in [Config::published(160, 5), Config::published(8, 1)] {
            let network = Network::new(&config);
            let pixels = config.width * config.height;
            let of_batch = (3 * network.macs_per_image()) as u64;
            for device in [Device::Cpu, Device::Gpu] {
                let cached = predicted(&network, Method::Cached, 3, pixels, device);
                assert_eq!(cached.macs, of_batch);
                assert_eq!(cached.dispatches, dispatches_of_image(&network));
            }
            let naive = predicted(&network, Method::Naive, 3, pixels, Device::Cpu);
            assert_eq!(naive.macs, of_batch * pixels as u64);
        }
    }

    #[test]
    fn groups_of_rows_cost_the_same() {
        let network = Network::new(&Config::published(8, 2));
        let group = group_of_rows(&network) * network.config.width;
        for device in [Device::Cpu, Device::Gpu] {
            let cost = |groups| predicted(&network, Method::Cached, 1, groups * group, device);
            let whole = cost(8);
            assert_eq!((8 * cost(1).macs, 8 * cost(1).dispatches), (whole.macs, whole.dispatches));
            assert_eq!((8 * cost(3).macs, 8 * cost(3).dispatches), (3 * whole.macs, 3 * whole.dispatches));
        }
    }
}
