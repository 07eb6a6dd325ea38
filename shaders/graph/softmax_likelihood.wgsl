// The log-likelihood of the levels of a pixel under a softmax for each channel, each sum in four parts.

fn log_probability(logits: u32, level: u32) -> f32 {
    var largest = parameter(logits);
    for (var i = 1u; i < job.levels; i += 1u) {
        largest = max(largest, parameter(logits + i));
    }
    var sums = vec4(0.0);
    for (var i = 0u; i < job.levels; i += 4u) {
        let last = job.levels - 1u;
        let numbers = vec4(
            exp_of(parameter(logits + i) - largest),
            exp_of(parameter(logits + min(i + 1u, last)) - largest),
            exp_of(parameter(logits + min(i + 2u, last)) - largest),
            exp_of(parameter(logits + min(i + 3u, last)) - largest),
        );
        sums += select(vec4(0.0), numbers, vec4(i) + vec4(0u, 1u, 2u, 3u) < vec4(job.levels));
    }
    return parameter(logits + level) - largest - ln(sums.x + sums.y + sums.z + sums.w);
}

fn pixel_log_likelihood(pixel: vec4<f32>) -> f32 {
    var sum = 0.0;
    for (var channel = 0u; channel < job.channels; channel += 1u) {
        let level = u32(clamp(pixel[channel], 0.0, f32(job.levels - 1u)));
        sum += log_probability(channel * job.levels, level);
    }
    return sum;
}
