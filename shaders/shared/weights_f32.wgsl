// Weights stored as 32-bit floats.

@group(0) @binding(3) var<storage, read> weights: array<vec4<f32>>;  // [inputs, HALVES, width]

fn weight(i: u32) -> vec4<f32> {
    return weights[i];
}
