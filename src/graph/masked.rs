//! The plain masked PixelCNN (van den Oord et al. 2016, *Pixel Recurrent Neural Networks*), as most projects have it: masked
//! 7×7 convolutions with ReLU, the first with mask A, and a softmax over shades of grey.
//!
//! ```text
//! x₁ = relu(conv_A[7×7](x)),   xᵢ₊₁ = relu(conv_B[7×7](xᵢ)),   logits = conv[1×1](x_N)
//! ```
//!
//! There is one stream: a value sees all pixels before its own in three rows above and its own row. Weights that a mask would
//! zero are not there.

use super::build::{Builder, Sizes, shades};
use super::{Activation, Graph, IMAGE};

/// The graph of a network of these sizes, over shades from 0 to 1.
pub fn graph(sizes: &Sizes) -> Graph {
    let filters = sizes.filters;
    let mut net = Builder::new(sizes, shades(sizes.levels), 1);
    let mut x = IMAGE;
    for layer in 0..sizes.layers {
        let name = format!("layer.{layer}");
        // Mask A: the pixel itself is not known yet.
        let last = if layer == 0 { -1 } else { 0 };
        let mut taps = net.kernel(&format!("{name}.above"), x, [-3..=-1, -3..=3], filters);
        taps.extend(net.kernel(&format!("{name}.left"), x, [0..=0, -3..=last], filters));
        x = net.node(&name, filters, Activation::Relu);
        net.layer(&name, x, taps, None);
    }
    net.finish(x)
}
