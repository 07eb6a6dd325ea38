//! In what everything is counted, and what is asked of a device.

use super::shaders::MOST_THREADS;
use crate::graph::network::{CHANNEL_ALIGN, Layer, Tap};

/// Channels in quads: vectors of four.
pub fn quads(channels: usize) -> u32 {
    (channels / CHANNEL_ALIGN) as u32
}

/// Channels that a layer makes, with those before them in their first quad: kernels store whole quads of a node.
pub fn half_width(layer: &Layer) -> u32 {
    (layer.first_channel % CHANNEL_ALIGN + layer.channels).div_ceil(CHANNEL_ALIGN) as u32
}

/// Quads of outputs of a layer.
pub fn outputs(layer: &Layer) -> u32 {
    layer.halves as u32 * half_width(layer)
}

/// Quads that a tap reads, from the one in which its first number lies.
pub fn tap_depth(tap: &Tap) -> u32 {
    (tap.first % CHANNEL_ALIGN + tap.depth).div_ceil(CHANNEL_ALIGN) as u32
}

/// Quads that some taps read.
pub fn depth(taps: &[Tap]) -> u32 {
    taps.iter().map(tap_depth).sum()
}

/// A part of an arena, in quads: vectors of four numbers, 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Its arena.
    pub arena: usize,
    /// Its start.
    pub start: usize,
    /// Its length.
    pub length: usize,
}

/// Bytes of a quad.
pub const QUAD: u64 = 16;

/// Read-write buffers for nodes, contexts and pixels, at most. Kernels bind four other storage buffers, and WebGPU
/// promises eight.
pub const MOST_ARENAS: usize = 12;

/// Storage buffers that kernels bind beside the arenas.
pub const OTHER_BUFFERS: usize = 4;

/// Bindings that are uniforms whose offset is chosen at every dispatch: the row and the column.
pub const PLACES: u32 = 2;

/// The limits to ask of a device: only those that are used, so that small devices have them, and room for batches as
/// large as the device offers.
pub fn required_limits(offered: &wgpu::Limits) -> wgpu::Limits {
    let usual = wgpu::Limits::downlevel_defaults();
    wgpu::Limits {
        max_bind_groups: 1,
        max_bindings_per_bind_group: (3 + OTHER_BUFFERS + MOST_ARENAS) as u32,
        max_dynamic_uniform_buffers_per_pipeline_layout: PLACES,
        max_storage_buffers_per_shader_stage: offered
            .max_storage_buffers_per_shader_stage
            .clamp(OTHER_BUFFERS as u32 + 1, (OTHER_BUFFERS + MOST_ARENAS) as u32),
        max_uniform_buffers_per_shader_stage: 3,
        max_uniform_buffer_binding_size: 4096,
        max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
        max_buffer_size: offered.max_buffer_size,
        min_uniform_buffer_offset_alignment: offered.min_uniform_buffer_offset_alignment,
        min_storage_buffer_offset_alignment: offered.min_storage_buffer_offset_alignment,
        max_compute_workgroup_storage_size: usual.max_compute_workgroup_storage_size,
        max_compute_invocations_per_workgroup: MOST_THREADS,
        max_compute_workgroup_size_x: MOST_THREADS,
        max_compute_workgroup_size_y: 1,
        max_compute_workgroup_size_z: 1,
        max_compute_workgroups_per_dimension: offered.max_compute_workgroups_per_dimension,
        ..nothing()
    }
}

/// Limits of a device on which nothing can be done.
fn nothing() -> wgpu::Limits {
    wgpu::Limits {
        max_texture_dimension_1d: 0,
        max_texture_dimension_2d: 0,
        max_texture_dimension_3d: 0,
        max_texture_array_layers: 0,
        max_bind_groups_plus_vertex_buffers: 0,
        max_dynamic_storage_buffers_per_pipeline_layout: 0,
        max_sampled_textures_per_shader_stage: 0,
        max_samplers_per_shader_stage: 0,
        max_storage_textures_per_shader_stage: 0,
        max_vertex_buffers: 0,
        max_vertex_attributes: 0,
        max_vertex_buffer_array_stride: 0,
        max_inter_stage_shader_variables: 0,
        max_color_attachments: 0,
        max_color_attachment_bytes_per_sample: 0,
        max_non_sampler_bindings: 1 << 16,
        ..wgpu::Limits::downlevel_webgl2_defaults()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device without textures and attachments, and with little of the rest, is good enough.
    #[test]
    fn a_small_compute_device_is_good_enough() {
        let small = wgpu::Limits {
            max_bind_groups: 1,
            max_bindings_per_bind_group: 32,
            max_dynamic_uniform_buffers_per_pipeline_layout: 2,
            max_storage_buffers_per_shader_stage: 8,
            max_uniform_buffers_per_shader_stage: 3,
            max_uniform_buffer_binding_size: 1 << 14,
            max_storage_buffer_binding_size: 1 << 27,
            max_buffer_size: 1 << 28,
            max_compute_workgroup_storage_size: 1 << 14,
            max_compute_invocations_per_workgroup: 256,
            max_compute_workgroup_size_x: 256,
            max_compute_workgroup_size_y: 1,
            max_compute_workgroup_size_z: 1,
            max_compute_workgroups_per_dimension: 65535,
            ..nothing()
        };
        let lacking = |limits: &wgpu::Limits, offered: &wgpu::Limits| {
            let mut lacking = Vec::new();
            limits.check_limits_with_fail_fn(offered, false, |name, _, _| lacking.push(name));
            lacking
        };
        assert_eq!(lacking(&required_limits(&small), &small), [""; 0]);
        assert!(lacking(&wgpu::Limits::default(), &small).contains(&"max_texture_dimension_2d"));
    }
}
