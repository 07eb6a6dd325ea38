//! Runs a function of the shipped WGSL alone, for many items.

use wgpu::util::DeviceExt;

/// Runs `source`, whose `main` works on `items` items in workgroups of 64. `inputs` are bindings 0, 1, …
/// (read-only storage); the binding after them is the output, of `outputs` 32-bit words, which is returned.
pub fn run(source: &str, inputs: &[&[u8]], items: usize, outputs: usize) -> Vec<u32> {
    let opened = super::test_adapter().handle().request_device(&Default::default());
    let (device, queue) = pollster::block_on(opened).unwrap();
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: Default::default(),
        cache: None,
    });
    let buffer = |contents: &[u8], usage| {
        device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
    };
    let size = 4 * outputs as u64;
    let storage = wgpu::BufferUsages::STORAGE;
    let mut buffers: Vec<_> = inputs.iter().map(|input| buffer(input, storage)).collect();
    buffers.push(buffer(&vec![0; size as usize], storage | wgpu::BufferUsages::COPY_SRC));
    let staging =
        buffer(&vec![0; size as usize], wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ);
    let entries: Vec<_> = (0..)
        .zip(&buffers)
        .map(|(binding, b)| wgpu::BindGroupEntry { binding, resource: b.as_entire_binding() })
        .collect();
    let layout = &pipeline.get_bind_group_layout(0);
    let group =
        device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(items.div_ceil(64) as u32, 1, 1);
    }
    encoder.copy_buffer_to_buffer(&buffers[inputs.len()], 0, &staging, 0, size);
    queue.submit([encoder.finish()]);
    staging.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    bytemuck::pod_collect_to_vec(&staging.get_mapped_range(..).unwrap())
}
