//! What does not depend on the batch: weights, what layers and nodes add, rows and columns.

use super::EngineError;
use super::device::OpenDevice;
use super::dispatch::DeviceFacts;
use super::layout::TableUniform;
use super::plan::Plan;
use super::shaders::anchors;
use super::support::pixel_input;
use crate::graph::network::{CHANNEL_ALIGN, Layer, Node, padded};
use crate::graph::{Network, Table};
use crate::model::{Model, Precision};

/// A model's numbers on a device.
pub struct Weights {
    /// The matrix of each layer.
    pub matrices: Vec<wgpu::Buffer>,
    /// What the sampling kernel reads: the output's matrix, and the last tap of the horizontal input layer.
    pub of_sampling: wgpu::Buffer,
    /// Quads of mixture parameters up to the last that has weights other than 0: those after it are constant.
    pub changing: u32,
    /// What a chain reads, if there may be one: the same, and then the matrix of every layer; where each begins, in
    /// quads.
    pub of_chain: Option<(wgpu::Buffer, Vec<usize>)>,
    /// What the likelihood kernel knows of the hyperbolic tangent.
    pub anchors: wgpu::Buffer,
    /// Everything that layers and nodes add.
    pub additions: wgpu::Buffer,
    /// Where in it is what each layer adds to its sum.
    pub of_layers: Vec<TableUniform>,
    /// Where in it is what each node adds for some of its readers.
    pub of_nodes: Vec<TableUniform>,
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
            device.filled(what, bytes, wgpu::BufferUsages::STORAGE)
        };
        let matrices: Vec<_> = network.layers.iter().map(|layer| layer.matrix(&model.tensors)).collect();
        let (input, input_layer) = pixel_input(network);
        let left = CHANNEL_ALIGN * input_layer.outputs();
        let last_tap = &matrices[input][matrices[input].len() - left..];
        let of_sampling = [&matrices[matrices.len() - 1][..], last_tap].concat();
        let output = network.layers[network.layers.len() - 1].outputs();
        let is_used = |quad: &usize| {
            let of_quad =
                |row: &[f32]| row[CHANNEL_ALIGN * quad..][..CHANNEL_ALIGN].iter().any(|&w| w != 0.0);
            matrices[matrices.len() - 1].chunks(output).any(of_quad)
        };
        let changing = (0..output / CHANNEL_ALIGN).rev().find(is_used).map_or(0, |quad| quad as u32 + 1);
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
        let sum = |layer: &Layer| Table::sum(&layer.additions(&model.tensors), layer.outputs());
        let of_layers = network.layers.iter().map(|layer| add(sum(layer))).collect();
        let shift = |node: &Node| node.forms.iter().find_map(|form| form.shift.clone());
        let of_nodes = network.nodes.iter().map(|node| match shift(node) {
            Some(name) => add(Table::of(&model.tensors[&name]).padded(1, padded(node.channels))),
            None => TableUniform::NONE,
        });
        let of_nodes = of_nodes.collect();

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
