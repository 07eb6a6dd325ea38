// Weights stored as 16-bit floats, half the bytes to read; widened exactly.

@group(0) @binding(3) var<storage, read> weights: array<vec2<u32>>;  // [inputs, HALVES, width]

alias StoredWeight = vec2<u32>;

fn stored_weight(i: u32) -> StoredWeight {
    return weights[i];
}

fn widened(packed: StoredWeight) -> vec4<f32> {
    return vec4(unpack2x16float(packed.x), unpack2x16float(packed.y));
}

fn weight(i: u32) -> vec4<f32> {
    return widened(weights[i]);
}
