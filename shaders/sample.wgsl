// The end of a pixel and the beginning of the next: mixture parameters = elu(ul) * weights + bias, the pixel as
// it is given or else drawn from them, and the horizontal input layer of the next pixel of the row.
//
// A workgroup does one image; its invocations share the outputs.

// What is written for a pixel whose parameters are not finite: no value in [-1, 1].
override NOT_FINITE: f32;
override THREADS: u32;
// Quads of parameters, and draws, of a pixel.
override PARAMETERS: u32;
override DRAWS: u32;

@group(0) @binding(2) var<uniform> job: Job;
// output weights [F, PARAMETERS], then weights of the pixel to the left [4, F]
@group(0) @binding(3) var<storage, read> weights: array<vec4<f32>>;

var<workgroup> sh_parameters: array<vec4<f32>, PARAMETERS>;
var<workgroup> sh_draws: array<f32, DRAWS>;
var<workgroup> sh_pixel: vec4<f32>;
var<workgroup> sh_broken: atomic<u32>;

fn parameter(i: u32) -> f32 {
    return sh_parameters[i / 4u][i % 4u];
}

// One channel of the component, rounded if need be.
fn channel_of(channel: u32, component: u32, before: vec3<f32>) -> f32 {
    let u = sh_draws[job.mixtures + channel];
    let x = draw_channel(
        channel, component, u, before, job.mixtures, job.channels, job.temperature, job.truncation,
    );
    return select(rounded(x), x, job.continuous == 1u);
}

// The pixel that its noise draws. One invocation.
fn draw_pixel() -> vec3<f32> {
    var component = 0u;
    var best = gumbel_score(0u, sh_draws[0], job.temperature);
    for (var i = 1u; i < job.mixtures; i += 1u) {
        let score = gumbel_score(i, sh_draws[i], job.temperature);
        if score > best {
            component = i;
            best = score;
        }
    }
    var pixel = vec3(channel_of(0u, component, vec3(0.0)), 0.0, 0.0);
    if job.channels == 3u {
        pixel.y = channel_of(1u, component, pixel);
        pixel.z = channel_of(2u, component, pixel);
    }
    return pixel;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let image = group.x;
    let row = i32(row_place.index);
    let column = i32(column_place.index);
    let width = job.source.width;
    if thread == 0u {
        atomicStore(&sh_broken, 0u);
    }
    workgroupBarrier();

    // Mixture parameters.
    let at = record_at(job.source, row, column, image, job.batch) + job.source_offset;
    let bias = addition_at(job.addition, row_place.index, column_place.index, image);
    let parameters = record_at(job.parameters, row, column, image, job.batch);
    for (var q = thread; q < PARAMETERS; q += THREADS) {
        var sum = additions[bias + q];
        for (var k = 0u; k < width; k += 1u) {
            let x = load(job.source.arena, at + k);
            let w = k * 4u * PARAMETERS + q;
            sum += x.x * weights[w];
            sum += x.y * weights[w + PARAMETERS];
            sum += x.z * weights[w + 2u * PARAMETERS];
            sum += x.w * weights[w + 3u * PARAMETERS];
        }
        sh_parameters[q] = sum;
        if !is_finite(sum) {
            atomicStore(&sh_broken, 1u);
            atomicStore(&broken[image], 1u);
        }
        keep(job.parameters.arena, parameters + q, sum);
    }
    // Noise.
    let lane = lanes[image];
    let pixel_index = row_place.index * job.columns + column_place.index;
    for (var i = thread; i * 4u < DRAWS; i += THREADS) {
        let words = threefry(vec4(pixel_index, i, 0u, 0u), vec4(job.seed, lane.y, lane.z));
        for (var j = 0u; j < min(4u, DRAWS - i * 4u); j += 1u) {
            sh_draws[i * 4u + j] = uniform_of(words[j]);
        }
    }
    workgroupBarrier();

    // The pixel.
    if thread == 0u {
        let to = job.pixels_base + pixel_index * job.batch + image;
        var pixel = load(job.pixels_arena, to);
        if pixel.w == 0.0 {
            pixel = vec4(draw_pixel(), 0.0);
            var result = pixel;
            if atomicLoad(&sh_broken) != 0u || atomicLoad(&broken[image]) != 0u {
                result = vec4(vec3(NOT_FINITE), 0.0);
            }
            keep(job.pixels_arena, to, result);
        }
        sh_pixel = with_ones(pixel, job.channels);
        keep(job.image.arena, record_at(job.image, row, column, image, job.batch), sh_pixel);
    }
    workgroupBarrier();

    // The input layer of the next pixel.
    if column + 1 < i32(job.columns) {
        let x = sh_pixel;
        let context = job.context_base + ((column_place.index + 1u) * job.batch + image) * width;
        for (var q = thread; q < width; q += THREADS) {
            let w = width * 4u * PARAMETERS + q;
            var value = load(job.context_arena, context + q);
            value += x.x * weights[w];
            value += x.y * weights[w + width];
            value += x.z * weights[w + 2u * width];
            value += x.w * weights[w + 3u * width];
            store_forms(job.target_node, row, column + 1, image, job.batch, q, value);
        }
    }
}
