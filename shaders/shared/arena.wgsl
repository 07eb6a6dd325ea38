// The bindings and the layout of buffers. All kernels have the same bindings:
//   0, 1  the row and the column of the image that a dispatch works on
//   2     what it works on: see the kernel
//   3     weights: see the kernel
//   4     additions: what layers and nodes add, tables [classes, rows, columns, quads]
//   5     lanes: the images of the batch
//   6     health: what has gone right, and what wrong
//   7 …   arenas: nodes, row contexts and pixels, `load(arena, at)` and `keep(arena, at, value)`
//   last  the chain kernel's layers
// All counts of channels are in quads: four channels, a vec4.

struct Place {
    // Row or column of the image.
    index: u32,
}

// A node: a value at every pixel of a level, kept as a ring of rows `[rows, columns, batch, record]`, columns with
// their zero padding.
struct Ring {
    arena: u32,
    // The start of the first image's record of the first row and column, padding aside.
    base: u32,
    // Rows, a power of two, less one.
    mask: u32,
    // The strides of rows, columns and images.
    of_row: u32,
    of_column: u32,
    of_image: u32,
    // Channels of the value, in quads.
    width: u32,
    unused: u32,
}

// Numbers that are added, and how far apart they are from class to class, row to row, column to column.
struct Table {
    base: u32,
    of_class: u32,
    of_row: u32,
    of_column: u32,
}

struct Health {
    // Dispatches that have run: a driver may drop some, and say nothing.
    runs: atomic<u32>,
    // [B], not 0 for images that have a value that is not finite.
    broken: array<atomic<u32>>,
}

@group(0) @binding(0) var<uniform> row_place: Place;
@group(0) @binding(1) var<uniform> column_place: Place;
@group(0) @binding(4) var<storage, read> additions: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> lanes: array<vec4<u32>>;  // [B]: class, index (low, high word), -
@group(0) @binding(6) var<storage, read_write> health: Health;

// The start of the record of a pixel of an image; row and column may lie in the padding.
fn record_at(ring: Ring, row: i32, column: i32, image: u32) -> u32 {
    let ring_row = u32(row) & ring.mask;
    return ring.base + ring_row * ring.of_row + u32(column) * ring.of_column + image * ring.of_image;
}

// The start of a table's additions to a pixel of an image.
fn addition_at(table: Table, row: u32, column: u32, image: u32) -> u32 {
    return table.base + lanes[image].x * table.of_class + row * table.of_row + column * table.of_column;
}

// The end of a kernel; one invocation of a dispatch is its first. The sum is atomic only so that no invocation waits
// for it.
fn count_run(is_first: bool) {
    if is_first {
        atomicAdd(&health.runs, 1u);
    }
}
