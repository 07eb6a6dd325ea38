// The log-likelihood of the pixels of a row under the mixtures that the network has just made for them. It replaces the
// mark of a given pixel, which no kernel reads any more.
//
// An invocation does a pixel of one image.

override THREADS: u32;
// Instead of the log-likelihood, which is hardly over 0, where the parameters are not finite.
override NOT_FINITE: f32;

@group(0) @binding(3) var<storage, read> anchors: array<i32>;

// The first of the parameters of the invocation's pixel.
var<private> own: u32;

fn parameter(i: u32) -> f32 {
    return load(job.parameters.arena, own + i / 4u)[i % 4u];
}

fn anchor(k: u32) -> i32 {
    return anchors[k];
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= job.columns * job.batch {
        return;
    }
    own = record_of(job.parameters, id.x);
    var are_finite = true;
    for (var quad = 0u; quad < job.parameters.width; quad += 1u) {
        are_finite = are_finite && is_finite(load(job.parameters.arena, own + quad));
    }
    let at = pixel_at(id.x);
    let pixel = load(job.pixels_arena, at).xyz;
    var result = NOT_FINITE;
    if are_finite {
        result = log_likelihood(pixel, job.mixtures, job.channels);
    }
    keep(job.pixels_arena, at, vec4(pixel, result));
    count_run(id.x == 0u);
}
