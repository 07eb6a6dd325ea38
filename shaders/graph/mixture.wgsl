// Drawing from a mixture of logistics whose parameters a graph has made: `shared/mixture_pixel.wgsl`.

var<private> own_image: u32;
var<private> own_record: u32;
var<private> own_place: vec2<u32>;

fn look_at(first: u32, image: u32, row: u32, column: u32) {
    own_image = first + image;
    own_place = vec2(row, column);
    own_record = record_at(job.parameters, i32(row), i32(column), own_image);
}

fn parameter(i: u32) -> f32 {
    return load(job.parameters.arena, own_record + i / 4u)[i % 4u];
}

fn logit(i: u32) -> f32 {
    return parameter(i);
}

fn draw(i: u32) -> f32 {
    return uniform_of(noise_word(own_image, own_place.x, own_place.y, i));
}

fn draw_levels(first: u32, images: u32, thread: u32, row: u32, column: u32, step: u32) {
    choose_components(first, images, thread, row, column);
    if thread < images {
        look_at(first, thread, row, column);
        let pixel = draw_pixel(chosen_component(thread));
        sh_drawn[4u * thread] = pixel.x;
        sh_drawn[4u * thread + 1u] = pixel.y;
        sh_drawn[4u * thread + 2u] = pixel.z;
        sh_drawn[4u * thread + 3u] = 0.0;
    }
}
