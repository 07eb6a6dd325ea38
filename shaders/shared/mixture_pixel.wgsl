// A pixel as its noise draws it from a mixture, by the settings of the job. The including kernel gives what
// `mixture.wgsl` wants, `logit(i)`, and `draw(i)`: the uniform numbers of the components, then of the channels. All are of the
// pixel that `look_at(first, image, row, column)` has chosen, of the image-th of the workgroup, whose first image is `first`.
// PARTS invocations share the components of an image; the including kernel declares that override.

// More than any logit or score; a reach beyond it takes all components.
const MOST = 3e38;

// One channel of the component, as a level less the middle one, between levels if it is not rounded; `before` are the values
// of those already drawn.
fn channel_of(channel: u32, component: u32, before: vec3<f32>) -> f32 {
    let u = draw(job.mixtures + channel);
    let x = draw_channel(
        channel, component, u, before, job.mixtures, job.channels, job.temperature, job.truncation,
    );
    // x lies between -1 and 1, so that what is rounded is a level.
    let level = MIDDLE * x;
    return select(floor(level) + 0.5, level, job.continuous == 1u);
}

// [IMAGES, PARTS]: the largest logit of each part; its best score, and the component with that score.
var<workgroup> sh_largest_logits: array<f32, IMAGES * PARTS>;
var<workgroup> sh_best: array<vec2<f32>, IMAGES * PARTS>;

// The largest logit of an image.
fn largest_logit(image: u32) -> f32 {
    var largest = sh_largest_logits[image * PARTS];
    for (var part = 1u; part < PARTS; part += 1u) {
        largest = max(largest, sh_largest_logits[image * PARTS + part]);
    }
    return largest;
}

// Finds the best scores among the components of each image, which `chosen_component` compares. All invocations of a workgroup.
fn choose_components(first: u32, images: u32, thread: u32, row: u32, column: u32) {
    let image = thread / PARTS;
    // The components of a part.
    let count = (job.mixtures + PARTS - 1u) / PARTS;
    let begin = thread % PARTS * count;
    let end = min(begin + count, job.mixtures);
    if image < images {
        look_at(first, image, row, column);
        if job.reach < MOST {
            var largest = -MOST;
            for (var i = begin; i < end; i += 1u) {
                largest = max(largest, logit(i));
            }
            sh_largest_logits[thread] = largest;
        }
    }
    workgroupBarrier();
    if image < images {
        var largest = 0.0;
        if job.reach < MOST {
            largest = largest_logit(image);
        }
        var best = vec2(-MOST, 0.0);
        for (var i = begin; i < end; i += 1u) {
            let score = gumbel_score(logit(i), draw(i), job.temperature);
            if score > best.x && largest - logit(i) <= job.reach {
                best = vec2(score, f32(i));
            }
        }
        sh_best[thread] = best;
    }
    workgroupBarrier();
}

// The component with the best score; the first of them, if there are several.
fn chosen_component(image: u32) -> u32 {
    var best = sh_best[image * PARTS];
    for (var part = 1u; part < PARTS; part += 1u) {
        let other = sh_best[image * PARTS + part];
        if other.x > best.x {
            best = other;
        }
    }
    return u32(best.y);
}

// The levels that a component's noise draws. One invocation.
fn draw_pixel(component: u32) -> vec3<f32> {
    var pixel = vec3(channel_of(0u, component, vec3(0.0)), 0.0, 0.0);
    if job.channels == 3u {
        var before = vec3(value_of(pixel).x, 0.0, 0.0);
        pixel.y = channel_of(1u, component, before);
        before.y = value_of(pixel).y;
        pixel.z = channel_of(2u, component, before);
    }
    return pixel;
}
