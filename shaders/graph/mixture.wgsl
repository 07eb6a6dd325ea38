// Drawing from a mixture of logistics whose parameters a graph has made: `shared/mixture_pixel.wgsl`, one invocation an image.

var<private> own_image: u32;
var<private> own_record: u32;
var<private> own_place: vec2<u32>;

fn parameter(i: u32) -> f32 {
    return load(job.parameters.arena, own_record + i / 4u)[i % 4u];
}

fn logit(i: u32) -> f32 {
    return parameter(i);
}

// The score of a component, or the uniform number of a channel after them.
fn draw(i: u32) -> f32 {
    let u = uniform_of(noise_word(own_image, own_place.x, own_place.y, i));
    if i < job.mixtures {
        return gumbel_score(logit(i), u, job.temperature);
    }
    return u;
}

fn draw_levels(first: u32, images: u32, thread: u32, row: u32, column: u32, step: u32) {
    if thread < images {
        own_image = first + thread;
        own_place = vec2(row, column);
        own_record = record_at(job.parameters, i32(row), i32(column), own_image);
        let pixel = draw_pixel();
        sh_drawn[4u * thread] = pixel.x;
        sh_drawn[4u * thread + 1u] = pixel.y;
        sh_drawn[4u * thread + 2u] = pixel.z;
        sh_drawn[4u * thread + 3u] = 0.0;
    }
}
