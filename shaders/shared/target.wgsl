// Storing a value in every form that has readers.

// A form of the value that nobody reads, or an addition that is not there.
const NONE = 0xffffffffu;

struct Target {
    ring: Ring,
    // Where each form begins in a record: the value, phi of it, elu of it; then the same of the value with what its
    // class adds.
    raw: u32,
    phi: u32,
    elu: u32,
    class_raw: u32,
    class_phi: u32,
    unused_0: u32,
    unused_1: u32,
    unused_2: u32,
    addition: Table,
}

override NONLINEARITY: u32;
const CONCAT_ELU = 0u;
const ELU = 1u;

fn phi(x: vec4<f32>) -> vec4<f32> {
    if NONLINEARITY <= ELU {
        return elu(x);
    }
    return select(x, vec4(0.0), x < vec4(0.0));
}

fn store_phi(node: Target, at: u32, value: vec4<f32>) {
    keep(node.ring.arena, at, phi(value));
    if NONLINEARITY == CONCAT_ELU {
        keep(node.ring.arena, at + node.ring.width, phi(-value));
    }
}

// Stores one quad of channels of a pixel of an image. NaN or infinity breaks the image, which `broken` remembers:
// activations and drivers may turn them into ordinary numbers again.
fn store_forms(
    node: Target, row: i32, column: i32, image: u32, batch: u32, quad: u32, value: vec4<f32>,
) {
    if !is_finite(value) {
        atomicStore(&broken[image], 1u);
    }
    let at = record_at(node.ring, row, column, image, batch) + quad;
    if node.raw != NONE {
        keep(node.ring.arena, at + node.raw, value);
    }
    if node.elu != NONE {
        keep(node.ring.arena, at + node.elu, elu(value));
    }
    if node.phi != NONE {
        store_phi(node, at + node.phi, value);
    }
    if node.addition.base != NONE {
        let of_class = value + additions[addition_at(node.addition, u32(row), u32(column), image) + quad];
        if node.class_raw != NONE {
            keep(node.ring.arena, at + node.class_raw, of_class);
        }
        if node.class_phi != NONE {
            store_phi(node, at + node.class_phi, of_class);
        }
    }
}
