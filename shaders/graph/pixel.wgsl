// The end of a step of a pixel: its channels as they are given or else drawn, and the pixel as the network sees it.
//
// A workgroup of THREADS invocations does IMAGES images. The including kernel gives
// `draw_levels(first, images, thread, row, column, step)`: all invocations of the workgroup draw levels into `sh_drawn`.

// The value stored for a pixel whose parameters are not finite: no level.
override NOT_FINITE: f32;
override THREADS: u32;
override IMAGES: u32;

// Of each image four channels, less the middle level; then the pixels as they are.
var<workgroup> sh_drawn: array<f32, 4u * IMAGES>;
var<workgroup> sh_pixels: array<vec4<f32>, IMAGES>;
// 1 where they are given.
var<workgroup> sh_given: array<u32, IMAGES>;

// A word of the noise of a pixel of an image.
fn noise_word(image: u32, row: u32, column: u32, number: u32) -> u32 {
    let lane = lanes[image];
    let counter = vec4(row * job.columns + column, number / 4u, 0u, 0u);
    return threefry(counter, vec4(job.seed, lane.y, lane.z))[number % 4u];
}

// For the images from `first` on. All invocations of a workgroup.
fn end_pixel(first: u32, thread: u32, row: u32, column: u32, step: u32) {
    let images = min(IMAGES, job.batch - first);
    draw_levels(first, images, thread, row, column, step);
    workgroupBarrier();
    let known = step + job.of_step;
    if thread < images {
        let image = first + thread;
        let to = pixel_at(row, column * job.batch + image);
        var pixel = load(job.pixels_arena, to);
        let is_given = load(job.pixels_arena, to + 1u).x != 0.0;
        if !is_given {
            let drawn = vec4(
                sh_drawn[4u * thread],
                sh_drawn[4u * thread + 1u],
                sh_drawn[4u * thread + 2u],
                sh_drawn[4u * thread + 3u],
            );
            let channels = vec4(0u, 1u, 2u, 3u);
            pixel = select(pixel, drawn, (channels >= vec4(step)) & (channels < vec4(known)));
            var result = pixel;
            if atomicLoad(&health.broken[image]) != 0u {
                result = vec4(NOT_FINITE);
            }
            keep(job.pixels_arena, to, result);
        }
        sh_pixels[thread] = pixel;
        sh_given[thread] = u32(is_given);
    }
    workgroupBarrier();
    // The invocations of an image share its record.
    let threads = THREADS / IMAGES;
    let of_group = thread / threads;
    if of_group < images {
        let unrounded = job.continuous == 1u && sh_given[of_group] == 0u;
        let part = vec2(thread % threads, threads);
        show_pixel(vec2(row, column), first + of_group, part, sh_pixels[of_group], known, unrounded);
    }
}
