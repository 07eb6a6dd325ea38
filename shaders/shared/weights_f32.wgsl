// Weights stored as 32-bit floats.

@group(0) @binding(3) var<storage, read> weights: array<vec4<f32>>;  // [inputs, HALVES, width]

alias StoredWeight = vec4<f32>;

fn stored_weight(i: u32) -> StoredWeight {
    return weights[i];
}

fn widened(quad: StoredWeight) -> vec4<f32> {
    return quad;
}

fn weight(i: u32) -> vec4<f32> {
    return weights[i];
}
