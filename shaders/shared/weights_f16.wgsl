// Weights stored as 16-bit floats, half the bytes to read; widened exactly.

@group(0) @binding(3) var<storage, read> weights: array<vec2<u32>>;  // [inputs, HALVES, width]

fn weight(i: u32) -> vec4<f32> {
    let packed = weights[i];
    return vec4(unpack2x16float(packed.x), unpack2x16float(packed.y));
}
