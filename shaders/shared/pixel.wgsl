// The end of a pixel and the beginning of the next: mixture parameters = elu(ul) * weights + bias, the pixel as
// it is given or else drawn from them, and the horizontal input layer of the next pixel of the row.
//
// A workgroup of THREADS invocations does IMAGES images; its invocations share the outputs. The including kernel gives
// `sh_sums`, at least THREADS vectors of workgroup memory.

// The value stored for a pixel whose parameters are not finite: no level.
override NOT_FINITE: f32;
override THREADS: u32;
override IMAGES: u32;
override PARTS: u32;
// Quads of parameters, quads that logits are in, and draws, of a pixel.
override PARAMETERS: u32;
override LOGITS: u32;
override DRAWS: u32;

// output weights [F, PARAMETERS], then weights of the pixel to the left [4, F]
@group(0) @binding(3) var<storage, read> weights: array<vec4<f32>>;

var<workgroup> sh_logits: array<vec4<f32>, IMAGES * LOGITS>;
// Uniform numbers for the components, then for the channels.
var<workgroup> sh_draws: array<f32, IMAGES * DRAWS>;
var<workgroup> sh_pixels: array<vec4<f32>, IMAGES>;
var<workgroup> sh_broken: array<atomic<u32>, IMAGES>;

// The image of the workgroup of which an invocation draws a pixel, and the first of its parameters.
var<private> own: u32;
var<private> own_record: u32;

fn look_at(first: u32, image: u32, row: u32, column: u32) {
    own = image;
    own_record = record_at(job.parameters, i32(row), i32(column), first + image);
}

fn logit(i: u32) -> f32 {
    return sh_logits[own * LOGITS + i / 4u][i % 4u];
}

fn parameter(i: u32) -> f32 {
    return load(job.parameters.arena, own_record + i / 4u)[i % 4u];
}

fn draw(i: u32) -> f32 {
    return sh_draws[own * DRAWS + i];
}

// The sum of every `splits`-th term of a quad of parameters, from the `split`-th on; the source's record is at `at`.
fn parameter_sum(q: u32, at: u32, split: u32, splits: u32) -> vec4<f32> {
    var sum = vec4(0.0);
    // Those past `changing` are constant.
    let depth = select(0u, job.source.width, q < job.changing);
    for (var k = split; k < depth; k += splits) {
        let x = load(job.source.arena, at + k);
        let w = k * 4u * PARAMETERS + q;
        sum += x.x * weights[w];
        sum += x.y * weights[w + PARAMETERS];
        sum += x.z * weights[w + 2u * PARAMETERS];
        sum += x.w * weights[w + 3u * PARAMETERS];
    }
    return sum;
}

// For the images from `first` on. All invocations of a workgroup.
fn end_pixel(first: u32, thread: u32, row: u32, column: u32) {
    let images = min(IMAGES, job.batch - first);
    let width = job.source.width;
    if thread < IMAGES {
        atomicStore(&sh_broken[thread], 0u);
    }
    // Mixture parameters. Each sum is split if there are invocations for its parts.
    let outputs = IMAGES * PARAMETERS;
    let splits = max(THREADS / outputs, 1u);
    if splits > 1u {
        let i = thread % outputs;
        if thread < splits * outputs && i < images * PARAMETERS {
            let at = record_at(job.source, i32(row), i32(column), first + i / PARAMETERS);
            sh_sums[thread] = parameter_sum(i % PARAMETERS, at, thread / outputs, splits);
        }
    }
    workgroupBarrier();
    for (var i = thread; i < images * PARAMETERS; i += THREADS) {
        let q = i % PARAMETERS;
        let image = first + i / PARAMETERS;
        var sum = additions[addition_at(job.addition, row, column, image) + q];
        if splits > 1u {
            for (var split = 0u; split < splits; split += 1u) {
                sum += sh_sums[split * outputs + i];
            }
        } else {
            sum += parameter_sum(q, record_at(job.source, i32(row), i32(column), image), 0u, 1u);
        }
        if q < LOGITS {
            sh_logits[i / PARAMETERS * LOGITS + q] = sum;
        }
        if !is_finite(sum) {
            atomicStore(&sh_broken[i / PARAMETERS], 1u);
            atomicStore(&health.broken[image], 1u);
        }
        keep(job.parameters.arena, record_at(job.parameters, i32(row), i32(column), image) + q, sum);
    }
    // Noise.
    let pixel_index = row * job.columns + column;
    let blocks = (DRAWS + 3u) / 4u;
    for (var i = thread; i < images * blocks; i += THREADS) {
        let block = i % blocks;
        let lane = lanes[first + i / blocks];
        let words = threefry(vec4(pixel_index, block, 0u, 0u), vec4(job.seed, lane.y, lane.z));
        for (var j = 0u; j < min(4u, DRAWS - block * 4u); j += 1u) {
            sh_draws[i / blocks * DRAWS + block * 4u + j] = uniform_of(words[j]);
        }
    }
    workgroupBarrier();
    storageBarrier();
    choose_components(first, images, thread, row, column);

    // The pixel.
    if thread < images {
        let image = first + thread;
        let to = job.pixels_base + pixel_index * job.batch + image;
        var pixel = load(job.pixels_arena, to);
        if pixel.w == 0.0 {
            look_at(first, thread, row, column);
            pixel = vec4(draw_pixel(chosen_component(thread)), 0.0);
            var result = pixel;
            if atomicLoad(&sh_broken[thread]) != 0u || atomicLoad(&health.broken[image]) != 0u {
                result = vec4(vec3(NOT_FINITE), 0.0);
            }
            keep(job.pixels_arena, to, result);
        }
        let shown = with_ones(pixel, job.channels);
        sh_pixels[thread] = shown;
        keep(job.image.arena, record_at(job.image, i32(row), i32(column), image), shown);
    }
    workgroupBarrier();

    // The input layer of the next pixel.
    if column + 1u < job.columns {
        for (var i = thread; i < images * width; i += THREADS) {
            let q = i % width;
            let image = first + i / width;
            let x = sh_pixels[i / width];
            let w = width * 4u * PARAMETERS + q;
            let context = job.context_base + ((column + 1u) * job.batch + image) * width;
            var value = load(job.context_arena, context + q);
            value += x.x * weights[w];
            value += x.y * weights[w + width];
            value += x.z * weights[w + 2u * width];
            value += x.w * weights[w + 3u * width];
            let spot = Spot(i32(row), i32(column) + 1, image, q);
            store_forms(job.target_node, job.target_node.has_class == 1u, spot, value, vec4(0.0));
        }
    }
}
