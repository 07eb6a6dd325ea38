//! The same as `layout.rs` for any graph: uniforms of fixed size, and lists of words for what graphs have any number of.

use bytemuck::{Pod, Zeroable};

use super::layout::{RingUniform, TableUniform, shared};
use super::memory::Memory;
use super::plan::offset;
use super::units::{quads, tap_depth};
use super::weights::Weights;
use crate::engine::work::Terms;
use crate::graph::network::{CHANNEL_ALIGN, Layer, Read, padded};
use crate::graph::{Activation, Form, IMAGE, Network};

/// An absent entry; `NONE` in WGSL.
pub const NONE: u32 = u32::MAX;

shared! {
    /// `Target` in `shaders/graph/target.wgsl`.
    pub struct TargetUniform = Target {
        pub ring: RingUniform,
        pub first_form: u32,
        pub forms: u32,
        pub from_channel: u32,
        pub to_channel: u32,
    }
}

shared! {
    /// `Tap` in `shaders/graph/lists.wgsl`.
    pub struct TapWords = Tap {
        arena: u32,
        base: u32,
        mask: u32,
        of_row: u32,
        of_column: u32,
        of_image: u32,
        row: i32,
        scale: u32,
        depth: u32,
        rows: u32,
        first: u32,
        output: u32,
    }
}

shared! {
    /// `Form` in `shaders/graph/lists.wgsl`.
    pub struct FormWords = Form {
        activation: u32,
        slope: f32,
        negate: u32,
        offset: u32,
        scale: TableUniform,
        shift: TableUniform,
    }
}

shared! {
    /// `Encoding` in `shaders/graph/lists.wgsl`.
    pub struct EncodingWords = Encoding {
        offset: u32,
        quads: u32,
        width: u32,
        channel: u32,
        encoded: u32,
        table: u32,
        constants: u32,
        constant_count: u32,
    }
}

shared! {
    /// `Layer` in `shaders/graph/layer.wgsl`.
    pub struct LayerUniform = Layer {
        pub target_node: TargetUniform,
        pub residual: RingUniform,
        pub first_tap: u32,
        pub tap_count: u32,
        pub first_selection: u32,
        pub selections: u32,
        pub first_table: u32,
        pub tables: u32,
        pub weights: u32,
        pub width: u32,
        pub positions: u32,
        pub batch: u32,
        pub grid: u32,
        pub level: u32,
        pub context_arena: u32,
        pub context_base: u32,
        pub context_of_column: u32,
        pub context_of_image: u32,
        pub halves: u32,
        pub epilogue: u32,
        pub has_context: u32,
        pub has_residual: u32,
        pub gate_f: u32,
        pub gate_g: u32,
        pub slope_f: f32,
        pub slope_g: f32,
        pub first_column: u32,
        pub row_bits: u32,
        pub row_like: u32,
        pub lag: i32,
        pub late: i32,
        pub column_bits: u32,
        pub columns: u32,
        pub splits: u32,
    }
}

shared! {
    /// `Job` in `shaders/graph/job.wgsl`.
    pub struct JobUniform = Job {
        pub image: RingUniform,
        pub parameters: RingUniform,
        pub seed: [u32; 2],
        pub temperature: f32,
        pub truncation: f32,
        pub reach: f32,
        pub top_k: u32,
        pub levels: u32,
        pub channels: u32,
        pub of_step: u32,
        pub mixtures: u32,
        pub batch: u32,
        pub columns: u32,
        pub rows: u32,
        pub continuous: u32,
        pub pixels_arena: u32,
        pub pixels_base: u32,
        pub middle: f32,
        pub wanted: u32,
        pub first_encoding: u32,
        pub encodings: u32,
        pub ends: [u32; 4],
        pub steps: u32,
        pub span: u32,
        pub unused_0: u32,
        pub unused_1: u32,
    }
}

/// An activation's number in `shaders/graph/activations.wgsl`, and its slope.
pub fn activation_words(activation: Activation) -> (u32, f32) {
    match activation {
        Activation::Raw => (0, 0.0),
        Activation::Relu => (1, 0.0),
        Activation::LeakyRelu(slope) => (2, slope),
        Activation::Elu => (3, 0.0),
        Activation::ConcatElu => (4, 0.0),
        Activation::Tanh => (5, 0.0),
        Activation::Sigmoid => (6, 0.0),
        Activation::Silu => (7, 0.0),
        Activation::Gelu => (8, 0.0),
        Activation::GeluTanh => (9, 0.0),
        Activation::Softplus => (10, 0.0),
        Activation::Exp => (11, 0.0),
    }
}

/// A part of a list: where it begins, and how many entries it has.
type Part = (u32, u32);

/// The lists of a layer, by where they begin.
#[derive(Clone, Copy, Default)]
struct OfLayer {
    taps: u32,
    /// Those that are known when the row begins, and the others after them.
    selections: [Part; 2],
    tables: Part,
}

/// The parts of a network's layers and nodes, in a batch.
#[derive(Default)]
pub struct Lists {
    /// `lists` in WGSL.
    pub words: Vec<[u32; 4]>,
    layers: Vec<OfLayer>,
    forms: Vec<Part>,
    /// The encodings of the image.
    pub encodings: Part,
}

impl Lists {
    /// Of a network whose batches lie in memory as told.
    pub fn new(network: &Network, memory: &Memory, batch: usize, weights: &Weights) -> Self {
        let mut lists = Self::default();
        for layer in &network.layers {
            let of_layer = lists.of_layer(network, layer, memory, batch);
            let tables = lists.add(weights.of_layers[lists.layers.len()].iter().copied());
            lists.layers.push(OfLayer { tables, ..of_layer });
        }
        for (node, tables) in network.nodes.iter().zip(&weights.of_forms) {
            let form = |((form, &offset), &[scale, shift]): ((&Form, &usize), &[TableUniform; 2])| {
                let (activation, slope) = activation_words(form.activation);
                let negate = form.negate.into();
                FormWords { activation, slope, negate, offset: quads(offset), scale, shift }
            };
            let forms = lists.add(node.forms.iter().zip(&node.offsets).zip(tables).map(form));
            lists.forms.push(forms);
        }
        let channels = network.head.channels();
        let offsets = &network.nodes[IMAGE].offsets;
        let encodings = network.encodings.iter().zip(offsets).zip(&weights.of_encodings);
        let encodings = encodings.map(|((encoding, &offset), &[table, constants])| EncodingWords {
            offset: quads(offset),
            quads: quads(padded(encoding.len(channels))),
            width: encoding.width as u32,
            channel: encoding.channel.map_or(NONE, |channel| channel as u32),
            encoded: (encoding.len(channels) - encoding.constants.len()) as u32,
            table,
            constants,
            constant_count: encoding.constants.len() as u32,
        });
        lists.encodings = lists.add(encodings);
        lists
    }

    fn add<T: Pod>(&mut self, entries: impl Iterator<Item = T>) -> Part {
        let (start, mut count) = (self.words.len() as u32, 0);
        for entry in entries {
            self.words.extend_from_slice(bytemuck::cast_slice(&[entry]));
            count += 1;
        }
        (start, count)
    }

    fn of_layer(&mut self, network: &Network, layer: &Layer, memory: &Memory, batch: usize) -> OfLayer {
        let words = |read: Read, depth: u32, output: u32| {
            let (node, region) = (&network.nodes[read.source], memory.nodes[read.source]);
            let first = (read.first / CHANNEL_ALIGN) as u32 + offset(network, read.source, read.form);
            let ring = RingUniform::new(node, region, batch, first);
            let [arena, base, mask, of_row, of_column, of_image] = ring.places();
            TapWords {
                arena,
                // To the left of the first column there is padding.
                base: base.wrapping_add_signed(read.column as i32 * of_column as i32),
                mask,
                of_row,
                of_column: read.scale as u32 * of_column,
                of_image,
                row: read.row as i32,
                scale: read.scale as u32,
                depth,
                rows: (network.height >> node.level) as u32,
                first: (read.first % CHANNEL_ALIGN) as u32,
                output,
            }
        };
        let mut reads = layer.reads();
        let taps: Vec<_> = layer.taps.iter().zip(&mut reads).collect();
        let (taps, _) = self.add(taps.into_iter().map(|(tap, read)| words(read, tap_depth(tap), 0)));
        let selections: Vec<_> = layer.selections.iter().zip(&mut reads).collect();
        let width = CHANNEL_ALIGN * super::units::half_width(layer) as usize;
        let selections = [true, false].map(|is_early| {
            let some = selections.iter().filter(|(selection, _)| selection.is_early == is_early);
            self.add(some.map(|&(selection, read)| {
                let lead = layer.first_channel % CHANNEL_ALIGN;
                let output = selection.half * width + lead + selection.output;
                words(read, selection.count as u32, output as u32)
            }))
        });
        OfLayer { taps, selections, tables: Part::default() }
    }

    /// A node, of which a layer makes some channels.
    pub fn target(&self, network: &Network, layer: &Layer, ring: RingUniform) -> TargetUniform {
        let (first_form, forms) = self.forms[layer.target];
        let to_channel = layer.first_channel + layer.channels;
        let is_end = to_channel == network.nodes[layer.target].channels;
        TargetUniform {
            ring,
            first_form,
            forms,
            from_channel: layer.first_channel as u32,
            // The padding of the last quad belongs to no other part.
            to_channel: if is_end { padded(to_channel) } else { to_channel } as u32,
        }
    }

    /// Sets where the lists of some terms of a layer are.
    pub fn fill(&self, layer: usize, early: usize, terms: Terms, to: &mut LayerUniform) {
        let OfLayer { taps, selections: [known, others], tables } = self.layers[layer];
        to.first_tap = taps + if terms == Terms::Late { early as u32 * WORDS_OF_TAP } else { 0 };
        (to.first_selection, to.selections) = match terms {
            Terms::Early => known,
            Terms::Late => others,
            Terms::All => (known.0, known.1 + others.1),
        };
        (to.first_table, to.tables) = tables;
    }
}

/// Entries of `lists` that a tap takes.
const WORDS_OF_TAP: u32 = (size_of::<TapWords>() / 16) as u32;

#[cfg(test)]
mod tests {
    use super::super::layout::tests::difference;
    use super::super::shaders::{DrawnFrom, Kernel};
    use super::*;

    #[test]
    fn structs_are_the_same_in_rust_and_wgsl() {
        let source = Kernel::Chain { coherent: false, graph: Some(DrawnFrom::Softmax) }.source(1);
        assert_eq!(difference::<TargetUniform>(&source), None);
        assert_eq!(difference::<TapWords>(&source), None);
        assert_eq!(difference::<FormWords>(&source), None);
        assert_eq!(difference::<EncodingWords>(&source), None);
        assert_eq!(difference::<LayerUniform>(&source), None);
        assert_eq!(difference::<JobUniform>(&source), None);
        let (from, to) = ("    lag: i32,\n", "    lag: u32,\n");
        assert!(source.contains(from) && difference::<LayerUniform>(&source.replace(from, to)).is_some());
    }

    /// Activations have the numbers that the kernels know them by.
    #[test]
    fn activations_have_one_number() {
        let source = Kernel::Draw(DrawnFrom::Bernoulli).source(1);
        for activation in Activation::ALL {
            let name = activation.name().to_uppercase();
            let constant = format!("const {name} = {}u;", activation_words(activation).0);
            assert!(source.contains(&constant), "{constant}");
        }
    }
}
