// What both variants of the convolution share: out = init + sum over taps of source(row + drow, column +
// dcolumn) * weights, for positions of one row of the layer's grid. Position m is column m / batch of the
// range, image m % batch.

struct Tap {
    source: Node,
    // 0 or 1: which binding the source is.
    binding: u32,
    row: i32,
    column: i32,
    // Where the form that is read begins in a record, in quads.
    offset: u32,
    // Quads that are read: four rows of the weights each.
    depth: u32,
    // 2 where the source is one level finer than the grid.
    scale: i32,
    unused_0: u32,
    unused_1: u32,
}

struct Layer {
    taps: array<Tap, MAX_TAPS>,
    target_node: Node,
    residual: Node,
    tap_count: u32,
    // Row of the weights that belongs to the first channel of the first tap.
    first_input: u32,
    // Quads of one half of the outputs.
    width: u32,
    positions: u32,
    batch: u32,
    // log2 of what the image's rows and columns are divided by, on the grid and for the target.
    grid: u32,
    level: u32,
    // From a column to the next, and from an image to the next, in `init`, in quads.
    init_column: u32,
    init_image: u32,
    unused_0: u32,
    unused_1: u32,
    unused_2: u32,
}

// Halves of the outputs: [a, b] of a gate, two columns of a transposed convolution, or 1.
override HALVES: u32;
override EPILOGUE: u32;
const CONTEXT = 0u;
const FORMS = 1u;
const GATE = 2u;

@group(0) @binding(2) var<uniform> layer: Layer;
@group(0) @binding(3) var<storage, read> source_0: array<vec4<f32>>;  // a node
@group(0) @binding(4) var<storage, read> source_1: array<vec4<f32>>;  // a node
// Binding 5 are the weights, `weight(i)`, see weights_f32.wgsl and weights_f16.wgsl.
@group(0) @binding(6) var<storage, read> init: array<vec4<f32>>;  // bias [B or 1, HALVES, width] or context
@group(0) @binding(7) var<storage, read> residual: array<vec4<f32>>;  // a node
@group(0) @binding(8) var<storage, read_write> target_cache: array<vec4<f32>>;  // a node, or a context
@group(0) @binding(9) var<storage, read_write> broken: array<atomic<u32>>;  // [B]

fn load(binding: u32, index: u32) -> vec4<f32> {
    if binding == 0u {
        return source_0[index];
    }
    return source_1[index];
}

fn grid_column(position: u32) -> u32 {
    return (column_place.index >> layer.grid) + position / layer.batch;
}

// Where the channels that a tap reads for a position begin.
fn input_at(tap: Tap, position: u32) -> u32 {
    let row = i32(row_place.index >> layer.grid) * tap.scale + tap.row;
    let column = i32(grid_column(position)) * tap.scale + tap.column;
    return record_at(tap.source, row, column, position % layer.batch, layer.batch) + tap.offset;
}

fn initial(position: u32, half: u32, quad: u32) -> vec4<f32> {
    let at = grid_column(position) * layer.init_column + (position % layer.batch) * layer.init_image;
    return init[at + half * layer.width + quad];
}

// The epilogue: stores four channels of each half of a position.
fn store(position: u32, quad: u32, sums: array<vec4<f32>, 2>) {
    let column = grid_column(position);
    let image = position % layer.batch;
    let row = i32(row_place.index >> layer.level);
    if EPILOGUE == CONTEXT {
        let at = (column * layer.batch + image) * HALVES * layer.width + quad;
        target_cache[at] = sums[0];
        if HALVES == 2u {
            target_cache[at + layer.width] = sums[1];
        }
    } else if EPILOGUE == GATE {
        let x = record_at(layer.residual, row, i32(column), image, layer.batch) + layer.residual.raw;
        let value = residual[x + quad] + sums[0] * sigmoid(sums[1]);
        let at = record_at(layer.target_node, row, i32(column), image, layer.batch);
        store_forms(layer.target_node, at, quad, image, value);
    } else {
        for (var half = 0u; half < HALVES; half += 1u) {
            let to = i32(column * HALVES + half);
            let at = record_at(layer.target_node, row, to, image, layer.batch);
            store_forms(layer.target_node, at, quad, image, sums[half]);
        }
    }
}
