//! A network with its weights packed; shared by all threads.

use pulp::Arch;

use super::conv::Packed;
use super::memory::Gathered;
use crate::graph::network::{Layer, depth, padded};
use crate::graph::{Network, Table};
use crate::model::Model;

/// Largest team: the cost of waiting grows with its size.
const LARGEST_TEAM: usize = 4;

/// Bytes of a pixel's weights from which on a team pays: they no longer fit a core's own cache.
const TEAM_PAYS: usize = 2 << 20;

/// The scale, shift and sign between a node's value and an activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Modulation {
    /// `[…, padded channels]`
    pub scale: Option<Table>,
    /// `[…, padded channels]`
    pub shift: Option<Table>,
    pub negate: bool,
}

/// A network with its weights packed; shared by all threads.
pub struct Packing {
    pub network: Network,
    pub arch: Arch,
    pub weights: Vec<Packed>,
    /// The numbers that each layer adds to its sum, `[…, stride]`.
    pub additions: Vec<Vec<Table>>,
    /// The modulations of each node.
    pub modulations: Vec<Vec<Modulation>>,
    /// For each form of each node, its index among the node's modulations, if it has one.
    pub modulated: Vec<Vec<Option<usize>>>,
    /// The numbers of each encoding, by level.
    pub encodings: Vec<Vec<f32>>,
    /// Zeros for rows outside the image, as many as a layer reads of a pixel at once.
    pub padding: Vec<f32>,
    /// True if any table differs from row to row.
    pub has_maps: bool,
    /// Threads that may share an image.
    pub team: usize,
    /// True if values not computed yet are NaN, which a test would see.
    pub poisoned: bool,
}

impl Packing {
    /// Packs a model's weights for images of `width` by `height` pixels, and for `threads` threads.
    pub fn new(model: &Model, width: usize, height: usize, threads: usize) -> Self {
        let mut network = model.network(width, height);
        for node in &mut network.nodes {
            // Rows outside the image are not looked up in a ring.
            node.rows = node.rows.min((height >> node.level).next_power_of_two());
        }
        let arch = Arch::new();
        let pays = size_of::<f32>() * pixel_macs(&network) >= TEAM_PAYS;
        let team = if pays { threads.clamp(1, LARGEST_TEAM) } else { 1 };
        let pack = |layer: &Layer| {
            Packed::new(
                arch,
                &layer.matrix(&model.tensors),
                layer.outputs(),
                layer.halves,
                team,
                layer.precision(model.precision),
            )
        };
        let weights: Vec<_> = network.layers.iter().map(pack).collect();
        let padded_for = |layer: &Layer, packed: &Packed| -> Vec<Table> {
            let tables = layer.additions(&model.tensors).into_iter();
            tables.map(|table| table.padded(layer.halves, packed.width())).collect()
        };
        let additions: Vec<_> =
            network.layers.iter().zip(&weights).map(|(layer, packed)| padded_for(layer, packed)).collect();
        let (mut modulations, mut modulated) = (Vec::new(), Vec::new());
        for node in &network.nodes {
            let mut own: Vec<Modulation> = Vec::new();
            let table = |name: &String| Table::of(&model.tensors[name]).padded(1, padded(node.channels));
            let mut index = |form: &crate::graph::Form| {
                let (scale, shift) = (form.scale.as_ref().map(table), form.shift.as_ref().map(table));
                let modulation = Modulation { scale, shift, negate: form.negate };
                let is_plain = modulation.scale.is_none() && modulation.shift.is_none() && !form.negate;
                let place = own.iter().position(|other| *other == modulation).unwrap_or(own.len());
                if place == own.len() && !is_plain {
                    own.push(modulation);
                }
                (!is_plain).then_some(place)
            };
            modulated.push(node.forms.iter().map(&mut index).collect());
            modulations.push(own);
        }
        let tables = modulations.iter().flatten().flat_map(|m: &Modulation| m.scale.iter().chain(&m.shift));
        let has_maps = additions.iter().flatten().chain(tables).any(|table| table.axes[1] > 1);
        let encodings =
            network.encodings.iter().map(|e| e.table.iter().map(|x| *x as f32).collect()).collect();
        let of_layer = |layer: &Layer| {
            let taps = layer.taps.iter().map(|tap| tap.depth);
            taps.chain(layer.selections.iter().map(|selection| selection.count)).max()
        };
        let padding = vec![0.0; network.layers.iter().filter_map(of_layer).max().unwrap_or(0)];
        Self {
            padding,
            network,
            arch,
            weights,
            additions,
            modulations,
            modulated,
            encodings,
            has_maps,
            team,
            poisoned: false,
        }
    }

    /// Bytes of caches for a batch.
    pub fn state_bytes(&self, batch: usize) -> usize {
        let nodes = self.network.nodes.iter().map(|node| node.len(batch)).fold(0, usize::saturating_add);
        let contexts = self.network.layers.iter().zip(&self.weights).map(|(layer, packed)| {
            let columns = if layer.has_context() { self.network.width >> layer.grid } else { 0 };
            [batch, packed.stride()].into_iter().fold(columns, usize::saturating_mul)
        });
        let modulations = self.modulations.iter().flatten();
        let modulations = modulations.flat_map(|m| [m.scale.as_slice(), m.shift.as_slice()]);
        let tables = self.additions.iter().map(|tables| &tables[..]).chain(modulations);
        let tables = tables.map(|tables| Gathered::len(tables, batch));
        contexts.chain(tables).fold(nodes, usize::saturating_add).saturating_mul(size_of::<f32>())
    }

    /// Bytes of weights.
    pub fn weight_bytes(&self) -> usize {
        self.weights.iter().map(Packed::bytes).sum()
    }
}

/// Multiply-adds of a pixel's own work, at all levels.
pub fn pixel_macs(network: &Network) -> usize {
    let of_layer = |layer: &Layer| depth(&layer.taps[layer.early..]) * layer.outputs();
    network.layers.iter().map(of_layer).sum()
}
