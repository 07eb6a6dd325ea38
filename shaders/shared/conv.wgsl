// The convolution, shared by all its kernels: out = init + sum over taps of source(row + drow, column +
// dcolumn) * weights, for positions of one row of a layer's grid. A position is a column and an image.
//
// The including kernel gives `layers`, of which it works on the l-th, and what may be a constant of a kernel:
// `halves_of(l)`, `epilogue_of(l)`, `has_context(l)`, `has_class(l)`.

// A source as a layer's grid sees it: of_column counts columns of the grid.
struct Tap {
    arena: u32,
    // The first channel that is read for column 0 of the grid, in row 0 of the ring.
    base: u32,
    mask: u32,
    of_row: u32,
    of_column: u32,
    of_image: u32,
    row: i32,
    // 2 where the source is one level finer than the grid.
    scale: u32,
    // Quads that are read: four rows of the weights each.
    depth: u32,
    unused_0: u32,
    unused_1: u32,
    unused_2: u32,
}

struct Layer {
    taps: array<Tap, MAX_TAPS>,
    target_node: Target,
    // The ring to which a gate is added.
    residual: Ring,
    // The initial values of the sum, if they are not the row's context.
    addition: Table,
    tap_count: u32,
    // The first of the weights.
    weights: u32,
    // Quads of one half of the outputs.
    width: u32,
    positions: u32,
    batch: u32,
    // log2 of what the image's rows and columns are divided by, on the grid and for the target.
    grid: u32,
    level: u32,
    // The row's context [columns, B, halves, width].
    context_arena: u32,
    context_base: u32,
    context_of_column: u32,
    context_of_image: u32,
    // Halves of the outputs: [a, b] of a gate, two columns of a transposed convolution, or 1.
    halves: u32,
    epilogue: u32,
    // 1: the sum begins with the row's context.
    has_context: u32,
    // It runs on rows that have these bits like this, and on columns that have these bits 0.
    row_bits: u32,
    row_like: u32,
    column_bits: u32,
    // For a chain: the outputs are QUADS groups of `columns` quads, the last of which may be short, and each sum has `splits`
    // parts.
    columns: u32,
    splits: u32,
    unused: u32,
}

const CONTEXT = 0u;
const FORMS = 1u;
const GATE = 2u;

fn depth_of(l: u32, t: u32) -> u32 {
    return layers[l].taps[t].depth;
}

fn arena_of(l: u32, t: u32) -> u32 {
    return layers[l].taps[t].arena;
}

// The first channel that a tap reads for a position.
fn input_at(l: u32, t: u32, place: vec2<u32>) -> u32 {
    let row = i32((row_place.index >> layers[l].grid) * layers[l].taps[t].scale) + layers[l].taps[t].row;
    return layers[l].taps[t].base + (u32(row) & layers[l].taps[t].mask) * layers[l].taps[t].of_row
        + place.x * layers[l].taps[t].of_column + place.y * layers[l].taps[t].of_image;
}

fn context_at(l: u32, place: vec2<u32>) -> u32 {
    return layers[l].context_base + place.x * layers[l].context_of_column + place.y * layers[l].context_of_image;
}

// The initial values of a position's sums.
fn initial(l: u32, place: vec2<u32>, half: u32, quad: u32) -> vec4<f32> {
    let at = half * layers[l].width + quad;
    if has_context(l) {
        return load(layers[l].context_arena, context_at(l, place) + at);
    }
    let row = row_place.index >> layers[l].level;
    return additions[addition_at(layers[l].addition, row, place.x, place.y) + at];
}

// The epilogue: stores four channels of each half of a position.
fn store(l: u32, place: vec2<u32>, quad: u32, first: vec4<f32>, second: vec4<f32>) {
    if epilogue_of(l) == CONTEXT {
        let at = context_at(l, place) + quad;
        keep(layers[l].context_arena, at, first);
        if halves_of(l) == 2u {
            keep(layers[l].context_arena, at + layers[l].width, second);
        }
        return;
    }
    let row = i32(row_place.index >> layers[l].level);
    let image = place.y;
    var value = first;
    var columns = halves_of(l);
    if epilogue_of(l) == GATE {
        let x = record_at(layers[l].residual, row, i32(place.x), image);
        value = load(layers[l].residual.arena, x + quad) + first * sigmoid(second);
        columns = 1u;
    }
    for (var half = 0u; half < columns; half += 1u) {
        let column = i32(place.x * columns + half);
        store_forms(layers[l].target_node, has_class(l), Spot(row, column, image, quad), value, second);
        value = second;
    }
}
