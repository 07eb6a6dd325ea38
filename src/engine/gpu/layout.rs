//! What Rust and WGSL share: the uniforms, in the words of `shaders/shared/`, and the bindings.

use bytemuck::{Pod, Zeroable};

use crate::model::network::{CHANNEL_ALIGN, Form, MAX_TAPS, Node, padded};

/// A form that a node does not store; `NONE` in WGSL.
const NONE: u32 = u32::MAX;

/// Channels in quads: vectors of four.
pub fn quads(channels: usize) -> u32 {
    (channels / CHANNEL_ALIGN) as u32
}

/// `Node` in `shaders/shared/node.wgsl`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct NodeUniform {
    rows: u32,
    columns: u32,
    left: i32,
    record: u32,
    raw: u32,
    phi: u32,
    elu: u32,
    width: u32,
}

impl NodeUniform {
    /// Describes a node.
    pub fn new(node: &Node) -> Self {
        let offset = |form| node.offset(form).map_or(NONE, quads);
        Self {
            rows: node.rows as u32,
            columns: node.columns() as u32,
            left: node.left as i32,
            record: quads(node.record),
            raw: offset(Form::Raw),
            phi: offset(Form::Phi),
            elu: offset(Form::Elu),
            width: quads(padded(node.channels)),
        }
    }
}

/// `Tap` in `shaders/shared/conv.wgsl`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct TapUniform {
    /// The node that is read.
    pub source: NodeUniform,
    /// Which of the two source bindings it is.
    pub binding: u32,
    /// Δrow in pixels of the source.
    pub row: i32,
    /// Δcolumn in pixels of the source.
    pub column: i32,
    /// Where the form begins in a record, in quads.
    pub offset: u32,
    /// Quads read.
    pub depth: u32,
    /// 2 where the source is one level finer than the grid, else 1.
    pub scale: i32,
    /// WGSL rounds the size of array elements in uniforms up to 16 bytes.
    pub unused: [u32; 2],
}

/// `Layer` in `shaders/shared/conv.wgsl`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct LayerUniform {
    /// The terms; `tap_count` of them are used.
    pub taps: [TapUniform; MAX_TAPS],
    /// The node that is made.
    pub target: NodeUniform,
    /// The node that a gate is added to.
    pub residual: NodeUniform,
    /// Terms.
    pub tap_count: u32,
    /// Row of the weights of the first term.
    pub first_input: u32,
    /// Quads of one half of the outputs.
    pub width: u32,
    /// Positions: columns times images.
    pub positions: u32,
    /// Images.
    pub batch: u32,
    /// Level of the positions.
    pub grid: u32,
    /// Level of the target.
    pub level: u32,
    /// From a column to the next in `init`, in quads.
    pub init_column: u32,
    /// From an image to the next in `init`, in quads.
    pub init_image: u32,
    /// Uniform structs end on 16 bytes.
    pub unused: [u32; 3],
}

/// `Job` in `shaders/sample.wgsl`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct JobUniform {
    /// Threefry key of the first image.
    pub key: [u32; 4],
    /// The node that the output layer reads.
    pub source: NodeUniform,
    /// The image.
    pub image: NodeUniform,
    /// The node that the horizontal input layer makes.
    pub target: NodeUniform,
    /// Where elu begins in a record of the source, in quads.
    pub source_offset: u32,
    /// Quads of a pixel's parameters.
    pub parameters: u32,
    /// Mixture components.
    pub mixtures: u32,
    /// Channels of the image.
    pub channels: u32,
    /// Images.
    pub batch: u32,
    /// Pixels in a row.
    pub columns: u32,
    /// Whether pixels are given.
    pub forced: u32,
    /// Whether values stay unrounded.
    pub continuous: u32,
}

/// How a shader sees a binding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// A uniform whose offset is chosen at every dispatch.
    Place,
    Uniform,
    Read,
    ReadWrite,
}

/// A layout from the accesses of bindings 0, 1, ….
fn layout(device: &wgpu::Device, label: &str, accesses: &[Access]) -> wgpu::BindGroupLayout {
    let entry = |(binding, &access): (usize, &Access)| wgpu::BindGroupLayoutEntry {
        binding: binding as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: match access {
                Access::Place | Access::Uniform => wgpu::BufferBindingType::Uniform,
                _ => wgpu::BufferBindingType::Storage { read_only: access == Access::Read },
            },
            has_dynamic_offset: access == Access::Place,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<_> = accesses.iter().enumerate().map(entry).collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(label),
        entries: &entries,
    })
}

/// Bindings of the convolution, see `shaders/shared/conv.wgsl`.
pub fn conv_layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    use Access::{Place, Read, ReadWrite, Uniform};
    layout(
        device,
        "pixelcnn conv",
        &[Place, Place, Uniform, Read, Read, Read, Read, Read, ReadWrite, ReadWrite],
    )
}

/// Bindings of `shaders/sample.wgsl`.
pub fn sample_layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    use Access::{Place, Read, ReadWrite, Uniform};
    let kinds =
        [Place, Place, Uniform, Read, Read, Read, ReadWrite, ReadWrite, ReadWrite, ReadWrite, ReadWrite];
    layout(device, "pixelcnn sample", &kinds)
}

/// A bind group with `buffers` as bindings 0, 1, …; the first two are places.
pub fn bind(
    device: &wgpu::Device,
    layout: &wgpu::BindGroupLayout,
    label: &str,
    buffers: &[&wgpu::Buffer],
) -> wgpu::BindGroup {
    let mut entries = Vec::with_capacity(buffers.len());
    for (binding, buffer) in (0..).zip(buffers) {
        let size = if binding < 2 { wgpu::BufferSize::new(4) } else { None };
        let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size });
        entries.push(wgpu::BindGroupEntry { binding, resource });
    }
    device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries })
}
