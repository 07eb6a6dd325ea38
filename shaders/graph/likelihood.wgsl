// The log-likelihood of the pixels of a row under the parameters that the network has just made for them. It replaces
// the mark of a given pixel, which no kernel reads any more.
//
// An invocation does a pixel of one image. The including kernel gives `pixel_log_likelihood(pixel)`.

override THREADS: u32;
// Instead of the log-likelihood, which is hardly over 0, where the parameters are not finite.
override NOT_FINITE: f32;

// The first of the parameters of the invocation's pixel.
var<private> own: u32;

fn parameter(i: u32) -> f32 {
    return load(job.parameters.arena, own + i / 4u)[i % 4u];
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= job.columns * job.batch {
        return;
    }
    let image = id.x % job.batch;
    own = record_at(job.parameters, i32(row_place.index), i32(id.x / job.batch), image);
    var are_finite = true;
    for (var quad = 0u; quad < job.parameters.width; quad += 1u) {
        are_finite = are_finite && is_finite(load(job.parameters.arena, own + quad));
    }
    let at = pixel_at(row_place.index, id.x);
    let pixel = load(job.pixels_arena, at);
    var result = NOT_FINITE;
    if are_finite {
        result = pixel_log_likelihood(pixel);
    }
    keep(job.pixels_arena, at + 1u, vec4(result, 0.0, 0.0, 0.0));
    count_run(id.x == 0u);
}
