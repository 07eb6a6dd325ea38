// The end of a pixel and the beginning of the next: mixture parameters = elu(ul) * weights + bias, a pixel
// drawn from them (or given), and the horizontal input layer of the next pixel of the row.
//
// A workgroup does one image; its invocations share the outputs.

struct Job {
    // Threefry key of image 0: seed and image, low word first.
    key: vec4<u32>,
    source: Node,
    image: Node,
    target_node: Node,
    // Where elu(ul) begins in a record, in quads.
    source_offset: u32,
    // Quads of the parameters of a pixel.
    parameters: u32,
    mixtures: u32,
    channels: u32,
    batch: u32,
    // Pixels in a row.
    columns: u32,
    // 1: the pixel is given in `pixels`, and its parameters are written.
    forced: u32,
    // 1: values are not rounded to 8-bit levels.
    continuous: u32,
}

// What is written for a pixel whose parameters are not finite: no value in [-1, 1].
override NOT_FINITE: f32;
override THREADS: u32;
// Quads of parameters, and draws, of a pixel.
override PARAMETERS: u32;
override DRAWS: u32;

@group(0) @binding(2) var<uniform> job: Job;
@group(0) @binding(3) var<storage, read> source: array<vec4<f32>>;  // node of the last ul
// output weights [F, PARAMETERS], output bias [PARAMETERS], weights of the pixel to the left [4, F]
@group(0) @binding(4) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> context: array<vec4<f32>>;  // of the input layer [W, B, F]
@group(0) @binding(6) var<storage, read_write> image_cache: array<vec4<f32>>;  // node of the image
@group(0) @binding(7) var<storage, read_write> target_cache: array<vec4<f32>>;  // node of the first ul
@group(0) @binding(8) var<storage, read_write> pixels: array<vec4<f32>>;  // [H, W, B]
@group(0) @binding(9) var<storage, read_write> parameters: array<vec4<f32>>;  // [W, B, PARAMETERS]
@group(0) @binding(10) var<storage, read_write> broken: array<atomic<u32>>;  // [B]

var<workgroup> sh_parameters: array<vec4<f32>, PARAMETERS>;
var<workgroup> sh_draws: array<f32, DRAWS>;
var<workgroup> sh_pixel: vec4<f32>;
var<workgroup> sh_broken: atomic<u32>;

fn parameter(i: u32) -> f32 {
    return sh_parameters[i / 4u][i % 4u];
}

// The draws of a pixel from its noise, and the pixel. One invocation.
fn draw_pixel() -> vec4<f32> {
    var component = 0u;
    var best = gumbel_score(0u, sh_draws[0]);
    for (var i = 1u; i < job.mixtures; i += 1u) {
        let score = gumbel_score(i, sh_draws[i]);
        if score > best {
            component = i;
            best = score;
        }
    }
    var pixel = vec4(0.0);
    for (var channel = 0u; channel < job.channels; channel += 1u) {
        let u = sh_draws[job.mixtures + channel];
        let x = draw_channel(channel, component, u, pixel.xyz, job.mixtures, job.channels);
        pixel[channel] = select(rounded(x), x, job.continuous == 1u);
    }
    return pixel;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let image = group.x;
    let row = i32(row_place.index);
    let column = i32(column_place.index);
    let width = job.target_node.width;
    if thread == 0u {
        atomicStore(&sh_broken, 0u);
    }
    workgroupBarrier();

    // Mixture parameters.
    let at = record_at(job.source, row, column, image, job.batch) + job.source_offset;
    for (var q = thread; q < PARAMETERS; q += THREADS) {
        var sum = weights[width * 4u * PARAMETERS + q];
        for (var k = 0u; k < width; k += 1u) {
            let x = source[at + k];
            let w = k * 4u * PARAMETERS + q;
            sum += x.x * weights[w] + x.y * weights[w + PARAMETERS]
                + x.z * weights[w + 2u * PARAMETERS] + x.w * weights[w + 3u * PARAMETERS];
        }
        sh_parameters[q] = sum;
        if !is_finite(sum) {
            atomicStore(&sh_broken, 1u);
        }
        if job.forced == 1u {
            parameters[(u32(column) * job.batch + image) * PARAMETERS + q] = sum;
        }
    }
    // Noise.
    var key = job.key;
    key.z += image;
    key.w += select(0u, 1u, key.z < image);
    let pixel_index = u32(row) * job.columns + u32(column);
    for (var i = thread; i * 4u < DRAWS; i += THREADS) {
        let words = threefry(vec4(pixel_index, i, 0u, 0u), key);
        for (var j = 0u; j < min(4u, DRAWS - i * 4u); j += 1u) {
            sh_draws[i * 4u + j] = uniform_of(words[j]);
        }
    }
    workgroupBarrier();

    // The pixel.
    if thread == 0u {
        let to = pixel_index * job.batch + image;
        var pixel: vec4<f32>;
        if job.forced == 1u {
            pixel = pixels[to];
        } else {
            pixel = draw_pixel();
            var result = pixel;
            if atomicLoad(&sh_broken) != 0u || atomicLoad(&broken[image]) != 0u {
                result = vec4(NOT_FINITE);
            }
            pixels[to] = result;
        }
        // The channel of ones.
        pixel[job.channels] = 1.0;
        sh_pixel = pixel;
        image_cache[record_at(job.image, row, column, image, job.batch)] = pixel;
    }
    workgroupBarrier();

    // The input layer of the next pixel.
    if column + 1 < i32(job.columns) {
        let node = job.target_node;
        let to = record_at(node, row, column + 1, image, job.batch);
        let x = sh_pixel;
        for (var q = thread; q < width; q += THREADS) {
            let w = (width * 4u + 1u) * PARAMETERS + q;
            let value = context[(u32(column + 1) * job.batch + image) * width + q]
                + x.x * weights[w] + x.y * weights[w + width]
                + x.z * weights[w + 2u * width] + x.w * weights[w + 3u * width];
            store_forms(node, to, q, image, value);
        }
    }
}
