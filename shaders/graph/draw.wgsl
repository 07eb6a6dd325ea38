// The end of a step of a pixel; a workgroup does IMAGES images.

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    end_pixel(group.x * IMAGES, thread, row_place.index, column_place.index, STEP);
    count_run(group.x == 0u && thread == 0u);
}
