// The end of a pixel and the beginning of the next; a workgroup does IMAGES images.

var<workgroup> sh_sums: array<vec4<f32>, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    end_pixel(group.x * IMAGES, thread, row_place.index, column_place.index);
    count_run(group.x == 0u && thread == 0u);
}
