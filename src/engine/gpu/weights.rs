//! Buffers that do not depend on the batch: weights, and the additions of layers, nodes, rows and columns.

use super::EngineError;
use super::device::OpenDevice;
use super::dispatch::DeviceFacts;
use super::layout::TableUniform;
use super::plan::Plan;
use super::shaders::{Family, anchors};
use super::support::{family, pixel_input};
use super::units::{QUAD, depth, half_width, outputs, tap_depth};
use crate::graph::network::{CHANNEL_ALIGN, Layer, Node, padded};
use crate::graph::{Network, Table, Tensors};
use crate::model::{Model, Precision};

/// A model's numbers on a device.
pub struct Weights {
    /// The matrix of each layer.
    pub matrices: Vec<wgpu::Buffer>,
    /// The input of a PixelCNN++'s sampling kernel: the output's matrix, and the last tap of the horizontal input
    /// layer.
    pub of_sampling: wgpu::Buffer,
    /// Of a PixelCNN++, quads of mixture parameters up to the last that has weights other than 0: those after it are constant.
    pub changing: u32,
    /// The input of a chain, if there may be one: the same, then the matrix of every layer, and the start of each in
    /// quads.
    pub of_chain: Option<(wgpu::Buffer, Vec<usize>)>,
    /// The likelihood kernel's table of the hyperbolic tangent.
    pub anchors: wgpu::Buffer,
    /// Everything that layers and nodes add.
    pub additions: wgpu::Buffer,
    /// The place in it of each layer's additions to its sum: one table in a PixelCNN++.
    pub of_layers: Vec<Vec<TableUniform>>,
    /// The place in it of the additions that a PixelCNN++'s node has for some of its readers.
    pub of_nodes: Vec<TableUniform>,
    /// The places in it of the scale and the shift of each form of each node of any other graph.
    pub of_forms: Vec<Vec<[TableUniform; 2]>>,
    /// And where the numbers that levels stand for and the constants of each form of the image are, in numbers.
    pub of_encodings: Vec<[u32; 2]>,
    /// The numbers 0, 1, …, `stride` bytes apart: the row or column that a dispatch works on.
    pub rows: wgpu::Buffer,
    /// See [`Self::rows`].
    pub columns: wgpu::Buffer,
    /// See [`Self::rows`].
    pub stride: u32,
}

impl Weights {
    /// Brings a model's numbers to a device.
    ///
    /// # Errors
    /// [`EngineError::Device`] if they do not fit.
    pub fn new(
        device: &OpenDevice,
        model: &Model,
        network: &Network,
        target: DeviceFacts,
    ) -> Result<Self, EngineError> {
        let limit = device.handle.limits().max_storage_buffer_binding_size;
        let storage = |what: &str, bytes: &[u8]| {
            if bytes.len() as u64 > limit {
                return Err(device.error(format!(
                    "{what} takes {}, more than its limit of a buffer, {}",
                    super::mebibytes(bytes.len() as u64),
                    super::mebibytes(limit)
                )));
            }
            // A layer without products, or a kernel without weights, still binds some.
            let bytes = if bytes.is_empty() { &[0; QUAD as usize] } else { bytes };
            device.filled(what, bytes, wgpu::BufferUsages::STORAGE)
        };
        let family = family(network);
        let matrices: Vec<_> = network.layers.iter().map(|layer| matrix(layer, &model.tensors)).collect();
        let (of_sampling, changing) = match family {
            Family::PixelCnnPp => of_sampling(network, &matrices),
            Family::Graph => (Vec::new(), 0),
        };
        let of_chain = Plan::may_have_chain(network, target).then(|| {
            let mut all = of_sampling.clone();
            let mut starts = Vec::new();
            for matrix in &matrices {
                starts.push(all.len() / CHANNEL_ALIGN);
                all.extend(matrix);
            }
            (all, starts)
        });
        let of_chain = match of_chain {
            Some((all, starts)) => Some((storage("chain weights", bytemuck::cast_slice(&all))?, starts)),
            None => None,
        };
        let buffers = network.layers.iter().zip(&matrices).map(|(layer, matrix)| {
            match layer.precision(model.precision) {
                Precision::F32 => storage(&layer.name, bytemuck::cast_slice(matrix)),
                Precision::F16 => {
                    let halves: Vec<_> = matrix.iter().map(|&w| half::f16::from_f32(w)).collect();
                    storage(&layer.name, bytemuck::cast_slice(&halves))
                }
            }
        });

        let mut additions: Vec<f32> = Vec::new();
        let mut add = |table: Table| {
            let uniform = TableUniform::new(&table, additions.len() / CHANNEL_ALIGN);
            additions.extend(table.data);
            uniform
        };
        let of_layers = network.layers.iter().map(|layer| {
            let tables = layer.additions(&model.tensors);
            match family {
                Family::PixelCnnPp => vec![add(Table::sum(&tables, layer.outputs()))],
                Family::Graph => tables.into_iter().map(|table| add(in_quads(layer, table))).collect(),
            }
        });
        let of_layers = of_layers.collect();
        let mut of_node = |node: &Node, name: &String| {
            add(Table::of(&model.tensors[name]).padded(1, padded(node.channels)))
        };
        let (mut of_nodes, mut of_forms) = (Vec::new(), Vec::new());
        for node in &network.nodes {
            let mut shifts = node.forms.iter().filter_map(|form| form.shift.as_ref());
            match family {
                Family::PixelCnnPp => {
                    of_nodes.push(shifts.next().map_or(TableUniform::NONE, |name| of_node(node, name)));
                }
                Family::Graph => of_forms.push(
                    node.forms
                        .iter()
                        .map(|form| {
                            [&form.scale, &form.shift].map(|name| {
                                name.as_ref().map_or(TableUniform::ABSENT, |name| of_node(node, name))
                            })
                        })
                        .collect(),
                ),
            }
        }
        let mut numbers = |numbers: &[f64]| {
            let start = additions.len() as u32;
            additions.extend(numbers.iter().map(|x| *x as f32));
            additions.resize(additions.len().next_multiple_of(CHANNEL_ALIGN), 0.0);
            start
        };
        let encodings = network.encodings.iter().filter(|_| family == Family::Graph);
        let of_encodings =
            encodings.map(|encoding| [&encoding.table, &encoding.constants].map(|x| numbers(x))).collect();

        let stride = device.handle.limits().min_uniform_buffer_offset_alignment;
        let places = |count: usize| {
            let mut places = vec![0; count * stride as usize];
            for (index, place) in places.chunks_mut(stride as usize).enumerate() {
                place[..4].copy_from_slice(&(index as u32).to_le_bytes());
            }
            device.filled("places", &places, wgpu::BufferUsages::UNIFORM)
        };
        Ok(Self {
            matrices: buffers.collect::<Result<_, _>>()?,
            of_sampling: storage("sample weights", bytemuck::cast_slice(&of_sampling))?,
            changing,
            of_chain,
            anchors: storage("anchors", bytemuck::cast_slice(&anchors()))?,
            additions: storage("additions", bytemuck::cast_slice(&additions))?,
            of_layers,
            of_nodes,
            of_forms,
            of_encodings,
            rows: places(network.height)?,
            columns: places(network.width)?,
            stride,
        })
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> u64 {
        let of_chain = self.of_chain.as_ref().map(|(buffer, _)| buffer);
        let buffers = self.matrices.iter().chain([&self.of_sampling, &self.anchors, &self.additions]);
        let buffers = buffers.chain(of_chain);
        buffers.map(wgpu::Buffer::size).sum()
    }
}

/// The input of a PixelCNN++'s sampling kernel, and the number of quads of its parameters that change.
fn of_sampling(network: &Network, matrices: &[Vec<f32>]) -> (Vec<f32>, u32) {
    let (input, input_layer) = pixel_input(network);
    let of_output = &matrices[matrices.len() - 1];
    let left = CHANNEL_ALIGN * input_layer.outputs();
    let last_tap = &matrices[input][matrices[input].len() - left..];
    let output = network.layers[network.layers.len() - 1].outputs();
    let is_used = |quad: &usize| {
        let of_quad = |row: &[f32]| row[CHANNEL_ALIGN * quad..][..CHANNEL_ALIGN].iter().any(|&w| w != 0.0);
        of_output.chunks(output).any(of_quad)
    };
    let changing = (0..output / CHANNEL_ALIGN).rev().find(is_used).map_or(0, |quad| quad as u32 + 1);
    ([of_output, last_tap].concat(), changing)
}

/// A layer's matrix for kernels, which read and make whole quads: with rows of zeros for what they read beside its inputs, and
/// columns of zeros for what they make beside its outputs.
fn matrix(layer: &Layer, tensors: &Tensors) -> Vec<f32> {
    let matrix = layer.matrix(tensors);
    let is_in_quads = |(first, count): (usize, usize)| {
        first.is_multiple_of(CHANNEL_ALIGN) && count.is_multiple_of(CHANNEL_ALIGN)
    };
    let is_whole = layer.first_channel.is_multiple_of(CHANNEL_ALIGN);
    if is_whole && layer.taps.iter().all(|tap| is_in_quads((tap.first, tap.depth))) {
        return matrix;
    }
    let width = CHANNEL_ALIGN * outputs(layer) as usize;
    let mut wide = vec![0.0; CHANNEL_ALIGN * depth(&layer.taps) as usize * width];
    let mut rows = matrix.chunks(layer.outputs());
    let mut first_row = 0;
    for tap in &layer.taps {
        let first = first_row + tap.first % CHANNEL_ALIGN;
        for (i, row) in rows.by_ref().take(tap.depth).enumerate() {
            wide[(first + i) * width..][..width].copy_from_slice(&widened(layer, row));
        }
        first_row += CHANNEL_ALIGN * tap_depth(tap) as usize;
    }
    wide
}

/// The numbers of a layer's outputs, those of each half where kernels have them.
fn widened(layer: &Layer, outputs: &[f32]) -> Vec<f32> {
    let half = CHANNEL_ALIGN * half_width(layer) as usize;
    let mut wide = vec![0.0; layer.halves * half];
    for (to, from) in wide.chunks_mut(half).zip(outputs.chunks(padded(layer.channels))) {
        to[layer.first_channel % CHANNEL_ALIGN..][..layer.channels]
            .copy_from_slice(&from[..layer.channels]);
    }
    wide
}

/// The same of a table of numbers for outputs.
fn in_quads(layer: &Layer, table: Table) -> Table {
    let data: Vec<_> = table.data.chunks(layer.outputs()).flat_map(|place| widened(layer, place)).collect();
    Table { width: CHANNEL_ALIGN * outputs(layer) as usize, data, ..table }
}
