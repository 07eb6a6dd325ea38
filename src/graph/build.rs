//! Builds graphs: the parts that [`gated`](super::gated) and [`masked`](super::masked) networks share. They
//! differ only in their layers.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{
    Activation, Encoding, Form, Graph, IMAGE, LayerKind, LayerSpec, NodeSpec, Slice, TapSpec, Term,
};
use crate::head::Head;

/// The sizes of a network over images of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Channels of every hidden value.
    pub filters: usize,
    /// Layers, the first one included.
    pub layers: usize,
    /// Image width in pixels.
    pub width: usize,
    /// Image height in pixels.
    pub height: usize,
    /// Levels of a pixel: shades or codes.
    pub levels: usize,
}

/// A graph under construction.
pub(super) struct Builder {
    pub graph: Graph,
}

impl Builder {
    /// The image only: a table of `width` numbers for each level, `[levels, width]`.
    pub fn new(sizes: &Sizes, table: Vec<f64>, width: usize) -> Self {
        let image = NodeSpec { name: "image".to_owned(), level: 0, channels: width, forms: Vec::new() };
        let graph = Graph {
            height: sizes.height,
            width: sizes.width,
            classes: 0,
            encodings: vec![Encoding { table, width, channel: None, constants: Vec::new() }],
            nodes: vec![image],
            layers: Vec::new(),
            head: Head::softmax(1, sizes.levels, false),
            head_node: IMAGE,
            tensors: BTreeMap::new(),
        };
        Self { graph }
    }

    /// A node that is read in one form.
    pub fn node(&mut self, name: &str, channels: usize, activation: Activation) -> usize {
        let forms = vec![Form::of(activation)];
        self.graph.nodes.push(NodeSpec { name: name.to_owned(), level: 0, channels, forms });
        self.graph.nodes.len() - 1
    }

    /// The taps of a convolution to `outputs` channels that reads these rows and columns around its pixel; its tensor is
    /// `{name}.weight`, `[rows, columns, inputs, outputs]`.
    pub fn kernel(
        &mut self,
        name: &str,
        source: usize,
        [rows, columns]: [RangeInclusive<isize>; 2],
        outputs: usize,
    ) -> Vec<TapSpec> {
        let inputs = self.graph.form_len(source, 0);
        let tensor = format!("{name}.weight");
        let [height, width] = [&rows, &columns].map(|range| range.clone().count());
        self.graph.tensors.insert(tensor.clone(), vec![height, width, inputs, outputs]);
        let places =
            rows.enumerate().flat_map(|row| columns.clone().enumerate().map(move |column| [row, column]));
        let tap = |[(i, row), (j, column)]: [(usize, isize); 2]| {
            let slice = Slice { tensor: tensor.clone(), kernel: [i, j], groups: vec![0], bias: None };
            TapSpec { source, form: 0, row, column, phase: None, term: Term::Product(slice) }
        };
        places.map(tap).collect()
    }

    /// The tap of a 1×1 convolution.
    pub fn pointwise(&mut self, name: &str, source: usize, outputs: usize) -> Vec<TapSpec> {
        self.kernel(name, source, [0..=0, 0..=0], outputs)
    }

    /// Adds the layer that computes `target`, with a bias `{name}.bias`; the caller may change it further.
    pub fn layer(
        &mut self,
        name: &str,
        target: usize,
        taps: Vec<TapSpec>,
        gate: Option<[Activation; 2]>,
    ) -> &mut LayerSpec {
        let outputs = self.graph.nodes[target].channels * if gate.is_some() { 2 } else { 1 };
        let bias = format!("{name}.bias");
        self.graph.tensors.insert(bias.clone(), vec![outputs]);
        let reads_image = taps.iter().any(|tap| tap.source == IMAGE);
        let kind = if reads_image { LayerKind::Input } else { LayerKind::Convolution };
        self.graph.layers.push(LayerSpec {
            name: name.to_owned(),
            kind,
            target,
            taps,
            additions: vec![bias],
            gate,
            residual: None,
            pre: None,
        });
        self.graph.layers.last_mut().expect("one was added")
    }

    /// The graph, whose logits are a 1×1 convolution of `source`.
    pub fn finish(mut self, source: usize) -> Graph {
        let levels = self.graph.head.levels();
        let taps = self.pointwise("output", source, levels);
        let logits = self.node("output", levels, Activation::Raw);
        self.layer("output", logits, taps, None).kind = LayerKind::Output;
        self.graph.head_node = logits;
        self.graph
    }
}

/// Shades as numbers from 0 to 1, `[levels]`.
pub(super) fn shades(levels: usize) -> Vec<f64> {
    (0..levels).map(|level| level as f64 / (levels - 1) as f64).collect()
}
