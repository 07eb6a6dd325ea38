// A batch of images of any graph, for the kernels that see their pixels; in place of `shared/job.wgsl`.

struct Job {
    image: Ring,
    // The parameters of the head.
    parameters: Ring,
    // Seed of the noise, low word first.
    seed: vec2<u32>,
    temperature: f32,
    truncation: f32,
    // The largest distance of a logit below the largest one.
    reach: f32,
    // The number of likeliest levels that are drawn; 0 for all.
    top_k: u32,
    levels: u32,
    channels: u32,
    // Channels that a step draws.
    of_step: u32,
    mixtures: u32,
    batch: u32,
    // Pixels in a row, and rows.
    columns: u32,
    rows: u32,
    // 1: what is drawn is not rounded to levels.
    continuous: u32,
    // The pixels [H, W, B, 2]: their levels, less `middle`; then 1 in the first component if they are given.
    pixels_arena: u32,
    pixels_base: u32,
    middle: f32,
    // Pixels of each image that are wanted.
    wanted: u32,
    // The encodings of the image, two words of `lists` each.
    first_encoding: u32,
    encodings: u32,
    // For the chain: where the layers of each step end, its steps, and the pixels that it does at once.
    ends: vec4<u32>,
    steps: u32,
    span: u32,
    unused_0: u32,
    unused_1: u32,
}

@group(0) @binding(2) var<uniform> job: Job;

// The address of the i-th pixel of a row [columns, batch].
fn pixel_at(row: u32, i: u32) -> u32 {
    return job.pixels_base + 2u * (row * job.columns * job.batch + i);
}

// A number of the additions.
fn number_of_additions(i: u32) -> f32 {
    return additions[i / 4u][i % 4u];
}

// The n-th number of a pixel as the network sees it. Of the channels from `known` on, nothing is known; `unrounded` says that
// values between levels are shown as they are.
fn shown_number(encoding: Encoding, n: u32, levels: vec4<f32>, known: u32, unrounded: bool) -> f32 {
    if n >= encoding.encoded {
        let i = n - encoding.encoded;
        if i >= encoding.constant_count {
            return 0.0;
        }
        return number_of_additions(encoding.constants + i);
    }
    let channel = select(encoding.channel, n / encoding.width, encoding.channel == NONE);
    if channel >= known {
        return 0.0;
    }
    if unrounded {
        return value_of(vec3(levels[channel])).x;
    }
    // A pixel that has not been drawn is no level.
    let level = u32(clamp(levels[channel] + job.middle, 0.0, f32(job.levels - 1u)));
    return number_of_additions(encoding.table + level * encoding.width + n % encoding.width);
}

// Shows the network a pixel: writes every PARTS-th quad of its record.
fn show_pixel(
    place: vec2<u32>,
    image: u32,
    part: vec2<u32>,
    levels: vec4<f32>,
    known: u32,
    unrounded: bool,
) {
    let record = record_at(job.image, i32(place.x), i32(place.y), image);
    for (var e = 0u; e < job.encodings; e += 1u) {
        let encoding = encoding_at(job.first_encoding + 2u * e);
        for (var quad = part.x; quad < encoding.quads; quad += part.y) {
            let numbers = vec4(
                shown_number(encoding, 4u * quad, levels, known, unrounded),
                shown_number(encoding, 4u * quad + 1u, levels, known, unrounded),
                shown_number(encoding, 4u * quad + 2u, levels, known, unrounded),
                shown_number(encoding, 4u * quad + 3u, levels, known, unrounded),
            );
            keep(job.image.arena, record + encoding.offset + quad, numbers);
        }
    }
}
