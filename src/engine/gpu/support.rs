//! The choice between two families of kernels: those for PixelCNN++, whose pixels end and begin in one kernel, and
//! those for any graph.

use super::shaders::{DrawnFrom, Family, MAX_TAPS, MOST_LEVELS};
use crate::graph::network::{Layer, Node};
use crate::graph::{Activation, Form, IMAGE, Network};
use crate::head::HeadKind;

/// The forms that kernels for PixelCNN++ store, in the order of `Target` in `shaders/shared/target.wgsl`: the value, φ of it, elu
/// of it; then the first two of the value with what its class adds.
pub const SLOTS: usize = 5;

/// The activation φ of a PixelCNN++.
pub fn phi(network: &Network) -> Activation {
    let of_forms = |activation| {
        let mut forms = network.nodes.iter().flat_map(|node| &node.forms);
        forms.any(|form: &Form| form.activation == activation)
    };
    [Activation::ConcatElu, Activation::Relu].into_iter().find(|a| of_forms(*a)).unwrap_or(Activation::Elu)
}

/// The slot in which a form is stored.
fn slot(form: &Form, phi: Activation) -> Option<usize> {
    let of_class = match (&form.scale, &form.shift) {
        (None, None) => 0,
        (None, Some(_)) => 3,
        _ => return None,
    };
    match form.activation {
        _ if form.negate => None,
        Activation::Raw => Some(of_class),
        activation if activation == phi => Some(of_class + 1),
        Activation::Elu if of_class == 0 => Some(2),
        _ => None,
    }
}

/// The start of each slot of a node in a record, if it is stored.
pub fn slots(node: &Node, phi: Activation) -> [Option<usize>; SLOTS] {
    let mut slots = [None; SLOTS];
    for (form, offset) in node.forms.iter().zip(&node.offsets) {
        if let Some(slot) = slot(form, phi) {
            slots[slot] = Some(*offset);
        }
    }
    slots
}

/// The layer of a PixelCNN++ that makes the parameters.
pub fn output(network: &Network) -> &Layer {
    &network.layers[network.layers.len() - 1]
}

/// The layer of a PixelCNN++ that reads the pixel to the left, with its index.
pub fn pixel_input(network: &Network) -> (usize, &Layer) {
    let reads_image = |layer: &Layer| layer.taps[layer.early..].iter().any(|tap| tap.source == IMAGE);
    let index = network.layers.iter().position(reads_image).expect("it is a PixelCNN++");
    (index, &network.layers[index])
}

/// The family of kernels that runs a network.
pub fn family(network: &Network) -> Family {
    if is_pixelcnn_pp(network) { Family::PixelCnnPp } else { Family::Graph }
}

/// True if a network has a single φ, and its pixels end and begin as in PixelCNN++.
fn is_pixelcnn_pp(network: &Network) -> bool {
    let HeadKind::LogisticMixture { .. } = network.head.kind() else { return false };
    let phi = phi(network);
    let is_node_good = |node: &Node| {
        let shifts = || node.forms.iter().filter_map(|form| form.shift.as_ref());
        node.forms.iter().all(|form| slot(form, phi).is_some())
            && shifts().all(|shift| Some(shift) == shifts().next())
    };
    let is_layer_good = |layer: &Layer| {
        layer.taps.len() <= MAX_TAPS
            && layer.selections.is_empty()
            && layer.pre.is_none()
            && (layer.lag, layer.late, layer.step, layer.column_parity) == (0, 0, 0, None)
            && matches!(
                (layer.gate, layer.residual),
                (None, None) | (Some([Activation::Raw, Activation::Sigmoid]), Some(_))
            )
    };
    let reads_image = |layer: &&Layer| {
        !layer.is_row_work() && layer.taps[layer.early..].iter().any(|tap| tap.source == IMAGE)
    };
    let mut inputs = network.layers.iter().filter(reads_image);
    let output = output(network);
    let is_pixel_good = match (inputs.next(), inputs.next()) {
        (Some(input), None) => {
            let tap = &input.taps[input.taps.len() - 1];
            (tap.row, tap.column, tap.scale, input.taps.len() - input.early) == (0, -1, 1, 1)
                && input.has_context()
                && input.halves == 1
        }
        _ => false,
    } && output.target == network.head_node
        && (output.early, output.taps.len(), output.halves) == (0, 1, 1)
        && (output.taps[0].row, output.taps[0].column) == (0, 0)
        && network.encodings.len() == 1
        && is_image_plain(network);
    network.nodes.iter().all(is_node_good) && network.layers.iter().all(is_layer_good) && is_pixel_good
}

/// True if the network sees the values −1 to 1 of levels, and then a one.
fn is_image_plain(network: &Network) -> bool {
    let encoding = &network.encodings[0];
    let value = |level: usize| (level as f64 - 127.5) / 127.5;
    let is_plain = |(level, number): (usize, &f64)| (number - value(level)).abs() < 1e-12;
    (encoding.width, encoding.channel, &encoding.constants[..]) == (1, None, &[1.0])
        && encoding.table.iter().enumerate().all(is_plain)
}

/// The distribution that the pixels of a network are drawn from.
pub fn drawn_from(network: &Network) -> DrawnFrom {
    match network.head.kind() {
        HeadKind::LogisticMixture { .. } => DrawnFrom::Mixture,
        HeadKind::Softmax => DrawnFrom::Softmax,
        HeadKind::Bernoulli => DrawnFrom::Bernoulli,
    }
}

/// The reason for which the kernels cannot run a network, if there is one.
pub fn reason_against(network: &Network) -> Option<String> {
    let levels = network.head.levels();
    (network.head.kind() == HeadKind::Softmax && levels > MOST_LEVELS as usize).then(|| {
        format!("it draws from a softmax over {levels} levels, and the kernels from one over {MOST_LEVELS} at most")
    })
}
