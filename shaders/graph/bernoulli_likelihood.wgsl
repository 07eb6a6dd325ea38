// The log-likelihood of the levels of a pixel, two a channel, by a logit each.

fn pixel_log_likelihood(pixel: vec4<f32>) -> f32 {
    var sum = 0.0;
    for (var channel = 0u; channel < job.channels; channel += 1u) {
        // The logit of the other level.
        let logit = select(parameter(channel), -parameter(channel), pixel[channel] > 0.5);
        sum -= softplus(vec4(logit)).x;
    }
    return sum;
}
