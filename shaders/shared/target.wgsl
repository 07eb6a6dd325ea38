// Storing a value in every form that has readers.

// A form of the value that no layer reads.
const NONE = 0xffffffffu;

struct Target {
    ring: Ring,
    // The start of each form in a record: the value, phi of it, elu of it; then the same of the value plus the addition
    // of its class.
    raw: u32,
    phi: u32,
    elu: u32,
    class_raw: u32,
    class_phi: u32,
    // 1: the class adds to the last two.
    has_class: u32,
    unused_0: u32,
    unused_1: u32,
    addition: Table,
}

override NONLINEARITY: u32;
const CONCAT_ELU = 0u;
const ELU = 1u;

// `negative` is elu of -|value|.
fn store_phi(node: Target, at: u32, value: vec4<f32>, negative: vec4<f32>) {
    if NONLINEARITY <= ELU {
        keep(node.ring.arena, at, select(negative, value, value > vec4(0.0)));
    } else {
        keep(node.ring.arena, at, select(value, vec4(0.0), value < vec4(0.0)));
    }
    if NONLINEARITY == CONCAT_ELU {
        keep(node.ring.arena, at + node.ring.width, select(negative, -value, value < vec4(0.0)));
    }
}

// The address of a quad of channels of a pixel of an image.
struct Spot {
    row: i32,
    column: i32,
    image: u32,
    quad: u32,
}

// Stores a quad of channels; `has_class` says whether the class adds to any form, and a sigmoid was taken of `gate` for it.
// NaN or infinity breaks the image, which `health` remembers: activations and drivers may turn them into ordinary numbers
// again.
fn store_forms(node: Target, has_class: bool, spot: Spot, value: vec4<f32>, gate: vec4<f32>) {
    var largest = max(magnitude(value), magnitude(gate));
    let at = record_at(node.ring, spot.row, spot.column, spot.image) + spot.quad;
    if node.raw != NONE {
        keep(node.ring.arena, at + node.raw, value);
    }
    let negative = exp_of_minus_abs(value) - 1.0;
    if node.elu != NONE {
        keep(node.ring.arena, at + node.elu, select(negative, value, value > vec4(0.0)));
    }
    if node.phi != NONE {
        store_phi(node, at + node.phi, value, negative);
    }
    if has_class {
        let addition = addition_at(node.addition, u32(spot.row), u32(spot.column), spot.image);
        let of_class = value + additions[addition + spot.quad];
        largest = max(largest, magnitude(of_class));
        if node.class_raw != NONE {
            keep(node.ring.arena, at + node.class_raw, of_class);
        }
        if node.class_phi != NONE {
            store_phi(node, at + node.class_phi, of_class, exp_of_minus_abs(of_class) - 1.0);
        }
    }
    if any(largest >= vec4(INFINITY)) {
        atomicStore(&health.broken[spot.image], 1u);
    }
}
