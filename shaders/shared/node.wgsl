// A node: a value at every pixel of a level, kept as a ring of rows
// `[rows, columns, batch, record]`, columns with their zero padding. All counts of channels are in quads:
// four channels, a vec4. A form of the value that nobody reads has offset NONE.

const NONE = 0xffffffffu;

struct Node {
    rows: u32,
    columns: u32,
    left: i32,
    record: u32,
    raw: u32,
    phi: u32,
    elu: u32,
    // Channels of the value, in quads.
    width: u32,
}

// Where the record of a pixel of image `image` begins; row and column may lie in the padding.
fn record_at(node: Node, row: i32, column: i32, image: u32, batch: u32) -> u32 {
    let rows = i32(node.rows);
    let ring_row = u32(((row % rows) + rows) % rows);
    return ((ring_row * node.columns + u32(column + node.left)) * batch + image) * node.record;
}

struct Place {
    // Row or column of the image.
    index: u32,
}

@group(0) @binding(0) var<uniform> row_place: Place;
@group(0) @binding(1) var<uniform> column_place: Place;

override NONLINEARITY: u32;
const CONCAT_ELU = 0u;
const ELU = 1u;

fn phi(x: vec4<f32>) -> vec4<f32> {
    if NONLINEARITY <= ELU {
        return elu(x);
    }
    return select(x, vec4(0.0), x < vec4(0.0));
}

// Writes every form of a value that has readers: one quad of channels, into the record at `at` of the node
// that the kernel binds as `target_cache`. NaN or infinity breaks the image, which `broken` remembers:
// activations and drivers may turn them into ordinary numbers again.
fn store_forms(node: Node, at: u32, quad: u32, image: u32, value: vec4<f32>) {
    if !is_finite(value) {
        atomicStore(&broken[image], 1u);
    }
    if node.raw != NONE {
        target_cache[at + node.raw + quad] = value;
    }
    if node.elu != NONE {
        target_cache[at + node.elu + quad] = elu(value);
    }
    if node.phi != NONE {
        target_cache[at + node.phi + quad] = phi(value);
        if NONLINEARITY == CONCAT_ELU {
            target_cache[at + node.phi + node.width + quad] = phi(-value);
        }
    }
}
