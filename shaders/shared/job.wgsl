// A batch of images, for the kernels that see their pixels.

struct Job {
    // The node that the output layer reads, where its elu begins.
    source: Ring,
    image: Ring,
    // The mixture parameters.
    parameters: Ring,
    // The node that the horizontal input layer makes.
    target_node: Target,
    // The additions of the output layer.
    addition: Table,
    // Seed of the noise, low word first.
    seed: vec2<u32>,
    temperature: f32,
    truncation: f32,
    mixtures: u32,
    channels: u32,
    batch: u32,
    // Pixels in a row.
    columns: u32,
    // 1: what is drawn is not rounded to levels.
    continuous: u32,
    // The pixels [H, W, B], as levels less the middle one; the fourth component of one that is given is not 0.
    pixels_arena: u32,
    pixels_base: u32,
    // Pixels of each image that are wanted.
    wanted: u32,
    // The row context of the horizontal input layer [W, B, F].
    context_arena: u32,
    context_base: u32,
    // For the chain: its layers, and the pixels that it does at once.
    layers: u32,
    span: u32,
    // The largest distance of a component's logit below the largest one.
    reach: f32,
    // Quads of mixture parameters that depend on the image; those after them are constant.
    changing: u32,
    unused_0: u32,
    unused_1: u32,
}

@group(0) @binding(2) var<uniform> job: Job;

// The address of the i-th pixel of the row [columns, batch], for kernels of which an invocation does one.
fn pixel_at(i: u32) -> u32 {
    return job.pixels_base + row_place.index * job.columns * job.batch + i;
}

// The start of its record of a node.
fn record_of(ring: Ring, i: u32) -> u32 {
    return record_at(ring, i32(row_place.index), i32(i / job.batch), i % job.batch);
}

// A pixel as the network sees it: its values, and 1 in the channel after its own.
fn with_ones(pixel: vec4<f32>, channels: u32) -> vec4<f32> {
    let values = value_of(pixel.xyz);
    return select(vec4(values.x, 1.0, 0.0, 0.0), vec4(values, 1.0), channels == 3u);
}
