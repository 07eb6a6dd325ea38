// Shows the network a row of pixels that are known: writes them into the ring of the image.
//
// An invocation does a pixel of one image.

override THREADS: u32;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= job.columns * job.batch {
        return;
    }
    let pixel = load(job.pixels_arena, pixel_at(row_place.index, id.x));
    let place = vec2(row_place.index, id.x / job.batch);
    show_pixel(place, id.x % job.batch, vec2(0u, 1u), pixel, job.channels, false);
    count_run(id.x == 0u);
}
