//! The gated PixelCNN (van den Oord et al. 2016, *Conditional Image Generation with PixelCNN Decoders*), over shades of grey or
//! over the codes of a VQ-VAE (van den Oord et al. 2017, *Neural Discrete Representation Learning*).
//!
//! Two stacks: a vertical one, `v`, which sees the rows above, and a horizontal one, `h`, which sees the row and `v`. A layer is
//!
//! ```text
//! s  = vconv(v)                                 v' = tanh(s_a) · σ(s_b)
//! t  = hconv(h) + W·s                           g  = tanh(t_a) · σ(t_b)
//! h' = h + R·g                                  logits = W₂·relu(W₁·relu(Σ S·g))
//! ```
//!
//! with 1×1 convolutions W, R, S (the skip connection of each layer). The first layer has 7×7 kernels with mask A and no
//! residual; the others have 3×3 kernels with mask B: `vconv` reads 2×3 pixels of `v`, `hconv` 1×2 of `h`.

use super::build::{Builder, Sizes, shades};
use super::{Activation, Graph, IMAGE};

const GATE: Option<[Activation; 2]> = Some([Activation::Tanh, Activation::Sigmoid]);

/// The graph of a network of these sizes, over shades from 0 to 1.
pub fn graph(sizes: &Sizes) -> Graph {
    build(sizes, Builder::new(sizes, shades(sizes.levels), 1))
}

/// The same over codes: each is looked up in a table `[levels, filters]`.
pub fn prior(sizes: &Sizes, codes: Vec<f64>) -> Graph {
    build(sizes, Builder::new(sizes, codes, sizes.filters))
}

fn build(sizes: &Sizes, mut net: Builder) -> Graph {
    let filters = sizes.filters;
    let (mut v, mut h) = (IMAGE, IMAGE);
    let mut skips = Vec::new();
    for layer in 0..sizes.layers {
        let name = |part: &str| format!("layer.{layer}.{part}");
        let (is_first, is_last) = (layer == 0, layer + 1 == sizes.layers);
        // Except for the image, `v` already sees the rows above its own.
        let [above, left] = match is_first {
            true => [[-3..=-1, -3..=3], [0..=0, -3..=-1]],
            false => [[-1..=0, -1..=1], [0..=0, -1..=0]],
        };

        let vertical = name("vertical");
        let taps = net.kernel(&vertical, v, above, 2 * filters);
        let sum = net.node(&format!("{vertical}.sum"), 2 * filters, Activation::Raw);
        if is_last {
            // The output of its gate is not read.
            net.layer(&vertical, sum, taps, None);
        } else {
            v = net.node(&vertical, filters, Activation::Raw);
            net.layer(&vertical, v, taps, GATE).pre = Some(sum);
        }

        let horizontal = name("horizontal");
        let mut taps = net.kernel(&horizontal, h, left, 2 * filters);
        taps.extend(net.pointwise(&name("across"), sum, 2 * filters));
        let gated = net.node(&horizontal, filters, Activation::Raw);
        net.layer(&horizontal, gated, taps, GATE);
        skips.extend(net.pointwise(&name("skip"), gated, filters));

        if !is_last {
            let residual = name("residual");
            let taps = net.pointwise(&residual, gated, filters);
            let next = net.node(&residual, filters, Activation::Raw);
            net.layer(&residual, next, taps, None).residual = (!is_first).then_some((h, 0));
            h = next;
        }
    }
    let skip = net.node("skip", filters, Activation::Relu);
    net.layer("skip", skip, skips, None);
    let taps = net.pointwise("hidden", skip, filters);
    let hidden = net.node("hidden", filters, Activation::Relu);
    net.layer("hidden", hidden, taps, None);
    net.finish(hidden)
}
