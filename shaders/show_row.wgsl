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
    let column = id.x / job.batch;
    let image = id.x % job.batch;
    let pixel = load(job.pixels_arena, job.pixels_base + row_place.index * job.columns * job.batch + id.x);
    let at = record_at(job.image, i32(row_place.index), i32(column), image);
    keep(job.image.arena, at, with_ones(pixel, job.channels));
    count_run(id.x == 0u);
}
