// Shows the network a row of pixels that are known: writes them into the ring of the image, with the channel of
// ones.
//
// An invocation does a pixel of one image.

override THREADS: u32;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= job.columns * job.batch {
        return;
    }
    let pixel = load(job.pixels_arena, pixel_at(id.x));
    keep(job.image.arena, record_of(job.image, id.x), with_ones(pixel, job.channels));
    count_run(id.x == 0u);
}
