//! Splits layers so that each has one target, for engines that do not store a sum beside its target.

use super::network::{Layer, Network, Selection, Tap, padded};
use super::{Activation, Form};

impl Network {
    /// The same network, in which each layer that keeps its sum becomes two: one that computes the sum, and
    /// one that reads it. No product is computed twice.
    pub fn with_sums_apart(mut self) -> Self {
        for pre in self.layers.iter().filter_map(|layer| layer.pre) {
            let node = &mut self.nodes[pre];
            if !node.forms.contains(&Form::of(Activation::Raw)) {
                node.forms.push(Form::of(Activation::Raw));
                node.offsets.push(node.record);
                node.record += padded(node.channels);
            }
        }
        let layers = std::mem::take(&mut self.layers);
        for layer in layers {
            match layer.pre {
                None => self.layers.push(layer),
                Some(pre) => {
                    let (sums, rest) = self.apart(layer, pre);
                    self.layers.extend(sums);
                    self.layers.push(rest);
                }
            }
        }
        self.make_room();
        self
    }

    /// The layers that compute the sum of a layer, and the one that computes its target from it.
    fn apart(&self, layer: Layer, pre: usize) -> (Vec<Layer>, Layer) {
        let (halves, of_half) = (layer.halves, layer.of_half);
        // The channels of the sum: adjacent halves are one range of them.
        let (parts, of_part) = match layer.channels == of_half {
            true => (1, halves * of_half),
            false => (halves, layer.channels),
        };
        let first = |part: usize| part * of_half + layer.first_channel;
        let ranges = (0..parts).map(|part| first(part)..first(part) + of_part);
        let sum = |range: std::ops::Range<usize>| {
            let tap = |tap: &Tap| Tap {
                halves: vec![tap.halves[0].map(|(kernel, _)| (kernel, range.start))],
                ..tap.clone()
            };
            let selection = |selection: &Selection| {
                let output = selection.half * of_half + layer.first_channel + selection.output;
                range.contains(&output).then(|| Selection {
                    half: 0,
                    output: output - range.start,
                    ..selection.clone()
                })
            };
            Layer {
                target: pre,
                taps: layer.taps.iter().map(tap).collect(),
                selections: layer.selections.iter().filter_map(selection).collect(),
                channels: range.len(),
                first_channel: range.start,
                halves: 1,
                gate: None,
                residual: None,
                residual_is_early: true,
                pre: None,
                of_half: halves * of_half,
                ..layer.clone()
            }
        };
        let sums: Vec<_> = ranges.map(sum).collect();

        let plain = Form::of(Activation::Raw);
        let form = self.nodes[pre].forms.iter().position(|form| *form == plain).expect("it was added");
        let is_early = sums.iter().all(Layer::is_row_work) && layer.residual_is_early;
        let of_half = |half: usize| Selection {
            source: pre,
            form,
            row: layer.row_parity.unwrap_or(0) as isize,
            column: layer.column_parity.unwrap_or(0) as isize,
            scale: 1 << (layer.grid - layer.level),
            first: half * of_half + layer.first_channel,
            count: layer.channels,
            half,
            output: 0,
            is_early,
        };
        let rest = Layer {
            taps: Vec::new(),
            early: 0,
            selections: (0..halves).map(of_half).collect(),
            additions: Vec::new(),
            pre: None,
            ..layer
        };
        (sums, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Graph, IMAGE, LayerKind, LayerSpec, NodeSpec, Slice, TapSpec, Term};
    use super::*;
    use crate::graph::Encoding;
    use crate::head::Head;

    #[test]
    fn a_sum_is_made_before_what_is_made_of_it() {
        let node = |name: &str, channels| NodeSpec {
            name: name.to_owned(),
            level: 0,
            channels,
            forms: vec![Form::of(Activation::Relu)],
        };
        let slice = Slice { tensor: "w".to_owned(), kernel: [0, 0], groups: vec![0], bias: None };
        let term = Term::Product(slice);
        let tap = TapSpec { source: IMAGE, form: 0, row: 0, column: -1, phase: None, term };
        let layer = LayerSpec {
            name: "gated".to_owned(),
            kind: LayerKind::Convolution,
            target: 1,
            taps: vec![tap],
            additions: Vec::new(),
            gate: Some([Activation::Tanh, Activation::Sigmoid]),
            residual: None,
            pre: Some(2),
        };
        let graph = Graph {
            height: 4,
            width: 4,
            classes: 0,
            encodings: vec![Encoding {
                table: vec![0.0, 1.0],
                width: 1,
                channel: None,
                constants: Vec::new(),
            }],
            nodes: vec![node("image", 1), node("gate", 6), node("sum", 12)],
            layers: vec![layer],
            head: Head::bernoulli(1, false),
            head_node: 1,
            tensors: [("w".to_owned(), vec![1, 12])].into(),
        };
        let before = Network::new(&graph, None);
        let after = before.clone().with_sums_apart();
        let [sum, rest] = &after.layers[..] else { panic!("{} layers", after.layers.len()) };
        assert_eq!((sum.target, sum.channels, sum.halves, sum.outputs()), (2, 12, 1, 12));
        assert_eq!((rest.target, rest.taps.len(), rest.selections.len()), (1, 0, 2));
        assert_eq!(rest.selections[1].first, 6);
        assert_eq!(after.nodes[2].forms.last(), Some(&Form::of(Activation::Raw)));
        // A network without such layers stays as it is.
        let mut plain = graph;
        plain.layers[0].pre = None;
        plain.nodes.pop();
        let network = Network::new(&plain, None);
        assert_eq!(network.clone().with_sums_apart().layers.len(), network.layers.len());
    }
}
