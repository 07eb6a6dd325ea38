// Levels of mixtures of logistics, which kernels know as their distance from the middle one.

// The middle one, half of the largest level. `MIDDLE` of src/engine/gpu/shaders.rs is the same.
const MIDDLE = 127.5;

// The values, from -1 to 1, of levels less the middle one.
fn value_of(levels: vec3<f32>) -> vec3<f32> {
    return levels * (1.0 / MIDDLE);
}
