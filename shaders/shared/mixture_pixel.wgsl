// A pixel as its noise draws it from a mixture, by the settings of the job. The including kernel gives what
// `mixture.wgsl` wants, `logit(i)`, and `draw(i)`: of each component its score, then the uniform numbers of the channels.

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

// The levels that its noise draws. One invocation.
fn draw_pixel() -> vec3<f32> {
    var largest = logit(0u);
    if job.reach < MOST {
        for (var i = 1u; i < job.mixtures; i += 1u) {
            largest = max(largest, logit(i));
        }
    }
    var component = 0u;
    var best = -MOST;
    for (var i = 0u; i < job.mixtures; i += 1u) {
        let score = draw(i);
        if score > best && largest - logit(i) <= job.reach {
            component = i;
            best = score;
        }
    }
    var pixel = vec3(channel_of(0u, component, vec3(0.0)), 0.0, 0.0);
    if job.channels == 3u {
        var before = vec3(value_of(pixel).x, 0.0, 0.0);
        pixel.y = channel_of(1u, component, before);
        before.y = value_of(pixel).y;
        pixel.z = channel_of(2u, component, before);
    }
    return pixel;
}
