// Activations by their numbers; `Activation` of src/graph/activation.rs says what each is.

const RAW = 0u;
const RELU = 1u;
const LEAKY_RELU = 2u;
const ELU = 3u;
const CONCAT_ELU = 4u;
const TANH = 5u;
const SIGMOID = 6u;
const SILU = 7u;
const GELU = 8u;
const GELU_TANH = 9u;
const SOFTPLUS = 10u;
const EXP = 11u;

fn tanh_of_each(x: vec4<f32>) -> vec4<f32> {
    return vec4(tanh_of(x.x), tanh_of(x.y), tanh_of(x.z), tanh_of(x.w));
}

// The error function (a rational approximation on [-4, 4], where it has reached 1 in single precision).
fn erf(x: vec4<f32>) -> vec4<f32> {
    let y = clamp(x, vec4(-4.0), vec4(4.0));
    let s = y * y;
    var p = vec4(-2.7261423e-10);
    p = p * s + 2.7706814e-8;
    p = p * s - 2.1010241e-6;
    p = p * s - 5.6925063e-5;
    p = p * s - 7.3499063e-4;
    p = p * s - 2.9546e-3;
    p = p * s - 1.6096033e-2;
    var q = vec4(-1.4566072e-5);
    q = q * s - 2.1337405e-4;
    q = q * s - 1.682827e-3;
    q = q * s - 7.373329e-3;
    q = q * s - 1.4264739e-2;
    return y * p / q;
}

// ln(1 + e^x).
fn softplus(x: vec4<f32>) -> vec4<f32> {
    let e = exp_of_minus_abs(x);
    // ln(1 + e) = 2 artanh(e / (2 + e)), whose argument is at most 1/3.
    let z = e / (2.0 + e);
    let s = z * z;
    let p = ((((s / 13.0 + 1.0 / 11.0) * s + 1.0 / 9.0) * s + 1.0 / 7.0) * s + 1.0 / 5.0) * s + 1.0 / 3.0;
    return max(x, vec4(0.0)) + 2.0 * z * (1.0 + s * p);
}

// One group of it: elu of the argument, for CONCAT_ELU.
fn activated(activation: u32, slope: f32, x: vec4<f32>) -> vec4<f32> {
    switch activation {
        case RELU: {
            return select(x, vec4(0.0), x < vec4(0.0));
        }
        case LEAKY_RELU: {
            return select(slope * x, x, x > vec4(0.0));
        }
        case ELU, CONCAT_ELU: {
            return elu(x);
        }
        case TANH, GELU_TANH: {
            let y = 0.79788456 * (x + 0.044715 * x * x * x);
            let t = tanh_of_each(select(x, y, activation == GELU_TANH));
            return select(t, 0.5 * x * (1.0 + t), activation == GELU_TANH);
        }
        case SIGMOID, SILU: {
            let s = sigmoid(x);
            return select(s, x * s, activation == SILU);
        }
        case GELU: {
            // Far below 0 the sum is what rounding leaves of it.
            return select(0.5 * x * (1.0 + erf(x * 0.70710678)), vec4(0.0), x < vec4(-5.6));
        }
        case SOFTPLUS: {
            return softplus(x);
        }
        case EXP: {
            return exp(x);
        }
        default: {
            return x;
        }
    }
}
