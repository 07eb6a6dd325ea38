// Elementary functions with the same meaning on every driver: no NaN at large arguments, and a logarithm
// that is accurate near 1 (WGSL allows `log` an absolute error of 2^-21 there).


// exp(-|x|), a normal number.
fn exp_of_minus_abs(x: vec4<f32>) -> vec4<f32> {
    return exp(-min(abs(x), vec4(87.0)));
}

fn elu(x: vec4<f32>) -> vec4<f32> {
    let negative = exp_of_minus_abs(x) - 1.0;
    return select(negative, x, x > vec4(0.0));
}

fn sigmoid(x: vec4<f32>) -> vec4<f32> {
    let e = exp_of_minus_abs(x);
    return select(vec4(1.0), e, x < vec4(0.0)) / (1.0 + e);
}

// Natural logarithm of a positive normal number (after Cephes `logf`; relative error 2e-7).
fn ln(x: f32) -> f32 {
    // x = 2^exponent * mantissa, mantissa in [sqrt(1/2), sqrt(2)).
    let bits = bitcast<u32>(x) + (0x3f800000u - 0x3f3504f3u);
    let exponent = f32(i32(bits >> 23u) - 127);
    let z = bitcast<f32>((bits & 0x007fffffu) + 0x3f3504f3u) - 1.0;
    var p = 7.0376836292e-2;
    p = p * z - 1.1514610310e-1;
    p = p * z + 1.1676998740e-1;
    p = p * z - 1.2420140846e-1;
    p = p * z + 1.4249322787e-1;
    p = p * z - 1.6668057665e-1;
    p = p * z + 2.0000714765e-1;
    p = p * z - 2.4999993993e-1;
    p = p * z + 3.3333331174e-1;
    let tail = p * z * z * z - 2.12194440e-4 * exponent - 0.5 * z * z;
    return z + tail + 0.693359375 * exponent;
}

// e^x from -87, below which it is the same, to 87 (after Cephes `expf`; relative error 2e-7).
fn exp_of(x: f32) -> f32 {
    let y = max(x, -87.0);
    let exponent = floor(y * 1.44269504 + 0.5);
    let r = y - exponent * 0.693359375 + exponent * 2.12194440e-4;
    var p = 1.9875691500e-4;
    p = p * r + 1.3981999507e-3;
    p = p * r + 8.3334519073e-3;
    p = p * r + 4.1665795894e-2;
    p = p * r + 1.6666665459e-1;
    p = p * r + 5.0000001201e-1;
    let mantissa = p * r * r + r + 1.0;
    // Times 2^exponent.
    return bitcast<f32>(bitcast<i32>(mantissa) + (i32(exponent) << 23u));
}

// Hyperbolic tangent (after Cephes `tanhf`).
fn tanh_of(x: f32) -> f32 {
    let magnitude = min(abs(x), 9.0);
    let s = x * x;
    var p = -5.70498872745e-3;
    p = p * s + 2.06390887954e-2;
    p = p * s - 5.37397155531e-2;
    p = p * s + 1.33314422036e-1;
    p = p * s - 3.33332819422e-1;
    let small = p * s * x + x;
    let large = sign(x) * (1.0 - 2.0 / (exp_of(2.0 * magnitude) + 1.0));
    return select(large, small, abs(x) < 0.625);
}

// |x| as its bits, which are in the same order; beyond infinity is NaN. A driver may assume that NaN does not occur.
const INFINITY = 0x7f800000u;
fn magnitude(x: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(x) & vec4(0x7fffffffu);
}

fn is_finite(x: vec4<f32>) -> bool {
    return all(magnitude(x) < vec4(INFINITY));
}
