// Drawing a pixel from a discretized mixture of logistics, as in `src/head/logistic_mixture.rs`. The including
// kernel gives `parameter(i)`, the i-th mixture parameter of its pixel, in the order
// logits[M], then for each channel means[M], log_scales[M] and, for RGB, coeffs[M].

// Gumbel-max: the component with the largest score is drawn. At temperature 0 that is the likeliest.
fn gumbel_score(logit: f32, u: f32, temperature: f32) -> f32 {
    return logit - temperature * ln(-ln(u));
}

// One channel of a component, unrounded; `before` are the channels already drawn.
fn draw_channel(
    channel: u32,
    component: u32,
    uniform_draw: f32,
    before: vec3<f32>,
    mixtures: u32,
    channels: u32,
    temperature: f32,
    truncation: f32,
) -> f32 {
    let u = 0.5 * truncation + (1.0 - truncation) * uniform_draw;
    let kinds = select(2u, 3u, channels == 3u);
    let first = mixtures * (1u + channel * kinds) + component;
    let scale = temperature * exp(max(parameter(first + mixtures), -7.0));
    var y = parameter(first) + scale * (ln(u) - ln(1.0 - u));
    if channel > 0u {
        // The coefficients of channels 0, 1, 2 belong to x0 in x1, x0 in x2, x1 in x2.
        let coefficients = mixtures * 3u + component;
        let step = mixtures * kinds;
        y += tanh_of(parameter(coefficients + (channel - 1u) * step)) * before.x;
        if channel == 2u {
            y += tanh_of(parameter(coefficients + 2u * step)) * before.y;
        }
    }
    return clamp(y, -1.0, 1.0);
}
