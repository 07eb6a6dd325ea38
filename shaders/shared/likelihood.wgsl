// The log-likelihood of the levels of a pixel under its mixture, as `log_likelihood` of `src/head/logistic_mixture.rs` defines it. The
// including kernel gives `parameter(i)`, as for `mixture.wgsl`, and `anchor(k)`: atanh(k / ANCHORS) in units of 2^-29.
//
// What bounds its error: a scale may be e^-7, so that a logarithm feels an error of a mean 1100 times, more than 32-bit
// floats bear at values of the order of 1. Hence the difference of a pixel and a mean, which nearly cancel where it
// matters, is taken in whole numbers, which no compiler may reorder or contract, and a small rest: its error is below 1e-6
// of half a bin, at the least scale 4e-6 nats. The other steps have no cancellation: each is off by some 3e-7 of its own
// value, `ln` and `exp_of` included; WGSL allows `exp` itself 3 + 2 |x| units in the last place, and `log` 2^-21 near 1.
// Together that is within 1e-5 nats, or 1e-6 of the logarithm where that is more. Only where a bin's probability is 1e-5 to
// within rounding may the other of the definition's two forms be taken.
//
// Nothing here is NaN or infinite whatever finite parameters are: those beyond LARGEST count as LARGEST.

const LARGEST = 1e30;

fn bounded(i: u32) -> f32 {
    return clamp(parameter(i), -LARGEST, LARGEST);
}

// The difference of a pixel and a mean in halves of a bin, as it is added up.
struct Difference {
    // Whole 2^-15ths.
    whole: i32,
    // What is left.
    rest: f32,
}

// A number in whole 2^-29ths, so far as that goes: beyond 3.5 the channels before cannot bring a mean back to a pixel.
fn fixed(x: f32) -> i32 {
    return i32(clamp(x, -3.5, 3.5) * 0x1p29f);
}

// What that leaves of it.
fn unfixed(x: f32) -> f32 {
    return x - f32(fixed(x)) * 0x1p-29f;
}

// For a level, as an odd number from -255 to 255, and a mean in the scale from -1 to 1.
fn difference(level: i32, mean: f32) -> Difference {
    let whole = fixed(mean);
    let rest = f32(whole & 16383) * 0x1p-29f + unfixed(mean);
    return Difference(level * 32768 - 255 * (whole >> 14u), -255.0 * rest);
}

// Takes off what a channel before has in a mean: its level times tanh of its coefficient.
fn without(d: Difference, coefficient: f32, level: i32) -> Difference {
    let x = min(abs(coefficient), 20.0);
    // tanh(a + b) = t + (1 - t^2) tanh(b) / (1 + t tanh(b)), where t = tanh(a) is a whole number of parts and b is small.
    let k = min(u32(tanh_of(x) * f32(ANCHORS) + 0.5), ANCHORS - 1u);
    let b = f32(fixed(x) - anchor(k)) * 0x1p-29f + unfixed(x);
    let t = f32(k) / f32(ANCHORS);
    let tanh_b = tanh_of(b);
    let rest = (1.0 - t * t) * tanh_b / (1.0 + t * tanh_b);
    let signed = select(level, -level, coefficient < 0.0);
    return Difference(d.whole - signed * i32(k) * (32768 / i32(ANCHORS)), d.rest - f32(signed) * rest);
}

// Log-probability of a level's bin under one logistic.
fn log_bin(level: i32, d: Difference, log_scale: f32) -> f32 {
    let from_mean = f32(d.whole) * 0x1p-15f + d.rest;
    // Half the width of a bin in scales. If it is next to nothing, the density below is taken, which does not need it.
    let half = exp_of(-min(log_scale, 80.0)) / 255.0;
    if abs(level) == 255 {
        // All below, or all above.
        let edge = (1.0 + select(from_mean, -from_mean, level > 0)) * half;
        return min(edge, 0.0) - ln(1.0 + exp_of(-abs(edge)));
    }
    // s(m + h) - s(m - h) = (1 - e^-2h) s(m + h) s(h - m), where s is the logistic function.
    let size = abs(from_mean);
    let far = exp_of(-(size + 1.0) * half);
    let near = exp_of(-abs(size - 1.0) * half);
    // Its Taylor series where the difference would lose precision.
    let h = half;
    let series = 2.0 * h * (1.0 - h * (1.0 - h * (2.0 / 3.0 - h * (1.0 / 3.0 - h * (2.0 / 15.0 - h * (2.0 / 45.0))))));
    let wide = select(1.0 - exp_of(-2.0 * h), series, h < 0.125);
    let mass = wide * select(1.0, near, size > 1.0) / ((1.0 + far) * (1.0 + near));
    if mass > 1e-5 {
        return ln(mass);
    }
    // The density at the middle, times the width.
    let middle = size * half;
    return -middle - 2.0 * ln(1.0 + exp_of(-middle)) - log_scale - 4.8481164;  // ln 127.5
}

// Log-probability of a level of a channel under a component whose mean's share of the channels before is `before`.
fn log_channel(channel: u32, component: u32, levels: vec3<i32>, mixtures: u32, channels: u32) -> f32 {
    let step = mixtures * select(2u, 3u, channels == 3u);
    let first = mixtures + channel * step + component;
    let level = levels[channel];
    var d = difference(level, bounded(first));
    if channel > 0u {
        // The coefficients of channels 0, 1, 2 belong to x0 in x1, x0 in x2, x1 in x2.
        let coefficients = mixtures * 3u + component;
        d = without(d, parameter(coefficients + (channel - 1u) * step), levels.x);
        if channel == 2u {
            d = without(d, parameter(coefficients + 2u * step), levels.y);
        }
    }
    return log_bin(level, d, max(bounded(first + mixtures), -7.0));
}

// A sum of exponentials: that of its largest exponent, times `sum`.
struct Exponentials {
    largest: f32,
    sum: f32,
}

fn plus(total: Exponentials, exponent: f32) -> Exponentials {
    if exponent > total.largest {
        return Exponentials(exponent, total.sum * exp_of(total.largest - exponent) + 1.0);
    }
    return Exponentials(total.largest, total.sum + exp_of(exponent - total.largest));
}

// A level less the middle one, times 2: an odd number. An unrounded value may lie between two levels.
fn odd_level(level: f32) -> i32 {
    return 2 * i32(floor(level)) + 1;
}

fn log_likelihood(pixel: vec3<f32>, mixtures: u32, channels: u32) -> f32 {
    let levels = vec3(odd_level(pixel.x), odd_level(pixel.y), odd_level(pixel.z));
    var highest = bounded(0u);
    for (var i = 1u; i < mixtures; i += 1u) {
        highest = max(highest, bounded(i));
    }
    var joint = Exponentials(0.0, 0.0);
    var weights = 0.0;
    for (var i = 0u; i < mixtures; i += 1u) {
        let logit = bounded(i) - highest;
        weights += exp_of(logit);
        var exponent = logit;
        for (var channel = 0u; channel < channels; channel += 1u) {
            exponent += log_channel(channel, i, levels, mixtures, channels);
        }
        if i == 0u {
            joint = Exponentials(exponent, 1.0);
        } else {
            joint = plus(joint, exponent);
        }
    }
    return joint.largest + ln(joint.sum) - ln(weights);
}
