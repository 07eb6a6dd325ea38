//! The networks that the kernels can run: those of one φ, whose pixels end and begin as in PixelCNN++.

use super::shaders::MAX_TAPS;
use crate::graph::network::{Layer, Node};
use crate::graph::{Activation, Form, IMAGE, Network};
use crate::head;

/// The forms that kernels store, in the order of `Target` in `shaders/shared/target.wgsl`: the value, φ of it, elu of it; then
/// the first two of the value with what its class adds.
pub const SLOTS: usize = 5;

/// The activation φ of a network.
pub fn phi(network: &Network) -> Activation {
    let of_forms = |activation| {
        let mut forms = network.nodes.iter().flat_map(|node| &node.forms);
        forms.any(|form: &Form| form.activation == activation)
    };
    [Activation::ConcatElu, Activation::Relu].into_iter().find(|a| of_forms(*a)).unwrap_or(Activation::Elu)
}

/// Which slot a form is stored in.
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

/// Where each slot of a node begins in a record, if it is stored.
pub fn slots(node: &Node, phi: Activation) -> [Option<usize>; SLOTS] {
    let mut slots = [None; SLOTS];
    for (form, offset) in node.forms.iter().zip(&node.offsets) {
        if let Some(slot) = slot(form, phi) {
            slots[slot] = Some(*offset);
        }
    }
    slots
}

/// The layer that makes the parameters.
pub fn output(network: &Network) -> &Layer {
    &network.layers[network.layers.len() - 1]
}

/// The layer that reads the pixel to the left, with its index.
pub fn pixel_input(network: &Network) -> (usize, &Layer) {
    let reads_image = |layer: &Layer| layer.taps[layer.early..].iter().any(|tap| tap.source == IMAGE);
    let index = network.layers.iter().position(reads_image).expect("checked when the engine was made");
    (index, &network.layers[index])
}

/// The reason for which the kernels cannot run a network, if there is one.
pub fn reason_against(network: &Network) -> Option<String> {
    let head::HeadKind::LogisticMixture { .. } = network.head.kind() else {
        return Some(format!("it draws from {}", network.head.name()));
    };
    let phi = phi(network);
    let of_node = |node: &Node| {
        let shifts = || node.forms.iter().filter_map(|form| form.shift.as_ref());
        let is_good = node.forms.iter().all(|form| slot(form, phi).is_some())
            && shifts().all(|shift| Some(shift) == shifts().next());
        (!is_good).then(|| format!("\"{}\" is stored in forms that they do not make", node.name))
    };
    let of_layer = |layer: &Layer| {
        let is_good = layer.taps.len() <= MAX_TAPS
            && layer.selections.is_empty()
            && layer.pre.is_none()
            && (layer.lag, layer.late, layer.step, layer.column_parity) == (0, 0, 0, None)
            && matches!(
                (layer.gate, layer.residual),
                (None, None) | (Some([Activation::Raw, Activation::Sigmoid]), Some(_))
            );
        (!is_good).then(|| format!("layer \"{}\" does what they do not", layer.name))
    };
    let reads_image = |layer: &&Layer| {
        !layer.is_row_work() && layer.taps[layer.early..].iter().any(|tap| tap.source == IMAGE)
    };
    let mut inputs = network.layers.iter().filter(reads_image);
    let output = output(network);
    let is_pixel_good = match (inputs.next(), inputs.next()) {
        (Some(input), None) => {
            let [.., tap] = &input.taps[..] else { return Some("there is no input".to_owned()) };
            (tap.row, tap.column, tap.scale, input.taps.len() - input.early) == (0, -1, 1, 1)
                && input.has_context()
                && input.halves == 1
        }
        _ => false,
    } && output.target == network.head_node
        && (output.early, output.taps.len(), output.halves) == (0, 1, 1)
        && (output.taps[0].row, output.taps[0].column) == (0, 0)
        && network.encodings.len() == 1;
    let mut reasons =
        network.nodes.iter().filter_map(of_node).chain(network.layers.iter().filter_map(of_layer));
    reasons.next().or_else(|| (!is_pixel_good).then(|| "its pixels begin or end in another way".to_owned()))
}
