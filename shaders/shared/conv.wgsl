// What both variants of the convolution share: out = init + sum over taps of source(row + drow, column +
// dcolumn) * weights, for positions of one row of the layer's grid. Position m is column m / batch of the
// row, image m % batch; a dispatch for one pixel has the images alone.

struct Tap {
    source: Ring,
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
    unused_2: u32,
}

struct Layer {
    taps: array<Tap, MAX_TAPS>,
    target_node: Target,
    // What a gate is added to.
    residual: Ring,
    // What the sum begins with, where that is not the row's context.
    addition: Table,
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
    // Where the form that a gate is added to begins in a record, in quads.
    residual_offset: u32,
    // The row's context [columns, B, HALVES, width].
    context_arena: u32,
    context_base: u32,
    unused_0: u32,
    unused_1: u32,
}

// Halves of the outputs: [a, b] of a gate, two columns of a transposed convolution, or 1.
override HALVES: u32;
// Whether positions are a whole row, or one pixel.
override WHOLE_ROW: bool;
// Whether the sum begins with the row's context.
override FROM_CONTEXT: bool;
override EPILOGUE: u32;
const CONTEXT = 0u;
const FORMS = 1u;
const GATE = 2u;

@group(0) @binding(2) var<uniform> layer: Layer;

// Column and image of a position.
fn place_of(position: u32) -> vec2<u32> {
    if WHOLE_ROW {
        return vec2(position / layer.batch, position % layer.batch);
    }
    return vec2(column_place.index >> layer.grid, position);
}

// Where the channels that a tap reads for a position begin.
fn input_at(t: u32, place: vec2<u32>) -> u32 {
    let scale = layer.taps[t].scale;
    let row = i32(row_place.index >> layer.grid) * scale + layer.taps[t].row;
    let column = i32(place.x) * scale + layer.taps[t].column;
    return record_at(layer.taps[t].source, row, column, place.y, layer.batch) + layer.taps[t].offset;
}

fn context_at(place: vec2<u32>) -> u32 {
    return layer.context_base + (place.x * layer.batch + place.y) * HALVES * layer.width;
}

fn initial(place: vec2<u32>, half: u32, quad: u32) -> vec4<f32> {
    let at = half * layer.width + quad;
    if FROM_CONTEXT {
        return load(layer.context_arena, context_at(place) + at);
    }
    return additions[addition_at(layer.addition, row_place.index >> layer.level, place.x, place.y) + at];
}

// The epilogue: stores four channels of each half of a position.
fn store(place: vec2<u32>, quad: u32, sums: array<vec4<f32>, 2>) {
    let row = i32(row_place.index >> layer.level);
    let column = place.x;
    let image = place.y;
    if EPILOGUE == CONTEXT {
        let at = context_at(place) + quad;
        keep(layer.context_arena, at, sums[0]);
        if HALVES == 2u {
            keep(layer.context_arena, at + layer.width, sums[1]);
        }
    } else if EPILOGUE == GATE {
        let x = record_at(layer.residual, row, i32(column), image, layer.batch) + layer.residual_offset;
        let value = load(layer.residual.arena, x + quad) + sums[0] * sigmoid(sums[1]);
        store_forms(layer.target_node, row, i32(column), image, layer.batch, quad, value);
    } else {
        for (var half = 0u; half < HALVES; half += 1u) {
            let to = i32(column * HALVES + half);
            store_forms(layer.target_node, row, to, image, layer.batch, quad, sums[half]);
        }
    }
}
