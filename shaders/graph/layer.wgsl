// A layer of any graph: out = epilogue(init + sum over taps of source(row + drow, column + dcolumn) * weights), for
// positions of one row of its grid; in place of `shared/conv.wgsl`.
//
// The including kernel gives `layers`, of which it works on the l-th, the row of the image that the target's is,
// `row_of(l)`, and what may be a constant of a kernel: `halves_of(l)`, `epilogue_of(l)`, `has_context(l)`.

struct Layer {
    target_node: Target,
    // The ring that is added to the result.
    residual: Ring,
    // Taps and selections, three words of `lists` each, and tables that the sum begins with, one each.
    first_tap: u32,
    tap_count: u32,
    first_selection: u32,
    selections: u32,
    first_table: u32,
    tables: u32,
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
    halves: u32,
    epilogue: u32,
    // 1: the sum begins with the row's context.
    has_context: u32,
    has_residual: u32,
    // The activations [f, g] of a gate; NONE without.
    gate_f: u32,
    gate_g: u32,
    slope_f: f32,
    slope_g: f32,
    // The column of the target that column 0 of the grid makes.
    first_column: u32,
    // For a chain: it runs on rows that have these bits like this, of the image and as many rows above as it lags.
    row_bits: u32,
    row_like: u32,
    lag: i32,
    // And as many pixels after the one that it makes a value of, on columns that have these bits 0.
    late: i32,
    column_bits: u32,
    // For a chain: the outputs are QUADS groups of `columns` quads, the last of which may be short, and each sum has `splits`
    // parts.
    columns: u32,
    splits: u32,
}

const CONTEXT = 0u;

fn depth_of(l: u32, t: u32) -> u32 {
    return lists[layers[l].first_tap + 3u * t + 2u].x;
}

fn arena_of(l: u32, t: u32) -> u32 {
    return lists[layers[l].first_tap + 3u * t].x;
}

// The first of the numbers that a tap reads for a position; outside the image, the zeros that every arena begins with.
fn source_at(tap: Tap, l: u32, place: vec2<u32>) -> u32 {
    let row = i32((row_of(l) >> layers[l].grid) * tap.scale) + tap.row;
    let at = tap.base + (u32(row) & tap.mask) * tap.of_row + place.x * tap.of_column + place.y * tap.of_image;
    return select(0u, at, u32(row) < tap.rows);
}

fn input_at(l: u32, t: u32, place: vec2<u32>) -> u32 {
    return source_at(tap_at(layers[l].first_tap + 3u * t), l, place);
}

fn context_at(l: u32, place: vec2<u32>) -> u32 {
    return layers[l].context_base + place.x * layers[l].context_of_column + place.y * layers[l].context_of_image;
}

// The column of the target that a position makes.
fn target_column(l: u32, position: u32) -> u32 {
    return (position << (layers[l].grid - layers[l].level)) + layers[l].first_column;
}

// A number that a selection adds to an output, if it does.
fn selected_number(selection: Tap, start: u32, output: u32) -> f32 {
    let i = output - selection.output;
    if i >= selection.depth {
        return 0.0;
    }
    let number = selection.first + i;
    return load(selection.arena, start + number / 4u)[number % 4u];
}

// The addition of a selection to a quad of outputs.
fn selected(selection: Tap, l: u32, place: vec2<u32>, quad: u32) -> vec4<f32> {
    let outputs = vec4(4u * quad) + vec4(0u, 1u, 2u, 3u);
    let is_added = (outputs - vec4(selection.output)) < vec4(selection.depth);
    if !any(is_added) {
        return vec4(0.0);
    }
    let start = source_at(selection, l, place);
    // As a rule, channels and outputs lie in quads alike.
    if (selection.first + outputs.x - selection.output) % 4u == 0u {
        let numbers = load(selection.arena, start + (selection.first + outputs.x - selection.output) / 4u);
        return select(vec4(0.0), numbers, is_added);
    }
    return vec4(
        selected_number(selection, start, outputs.x),
        selected_number(selection, start, outputs.y),
        selected_number(selection, start, outputs.z),
        selected_number(selection, start, outputs.w),
    );
}

// The initial values of a position's sums.
fn initial(l: u32, place: vec2<u32>, half: u32, quad: u32) -> vec4<f32> {
    let at = half * layers[l].width + quad;
    var sum = vec4(0.0);
    if has_context(l) {
        sum = load(layers[l].context_arena, context_at(l, place) + at);
    } else {
        let row = row_of(l) >> layers[l].level;
        for (var i = 0u; i < layers[l].tables; i += 1u) {
            let table = table_at(layers[l].first_table + i);
            sum += additions[addition_at(table, row, target_column(l, place.x), place.y) + at];
        }
    }
    for (var i = 0u; i < layers[l].selections; i += 1u) {
        sum += selected(tap_at(layers[l].first_selection + 3u * i), l, place, at);
    }
    return sum;
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
    let row = i32(row_of(l) >> layers[l].level);
    let image = place.y;
    var value = first;
    var gate = vec4(0.0);
    var columns = halves_of(l);
    if halves_of(l) == 2u && layers[l].gate_f != NONE {
        // Of what an activation may hide, all is looked at: broken numbers are larger than any other.
        gate = select(second, first, magnitude(first) > magnitude(second));
        value = vec4(1.0);
        // A loop, because compilers inline all activations at every call.
        for (var half = 0u; half < 2u; half += 1u) {
            let activation = select(layers[l].gate_f, layers[l].gate_g, half == 1u);
            let slope = select(layers[l].slope_f, layers[l].slope_g, half == 1u);
            value *= activated(activation, slope, select(first, second, half == 1u));
        }
        columns = 1u;
    }
    for (var half = 0u; half < columns; half += 1u) {
        let column = i32(target_column(l, place.x) + half);
        if layers[l].has_residual == 1u {
            let residual = layers[l].residual;
            let channel_quad = layers[l].target_node.from_channel / 4u + quad;
            value += load(residual.arena, record_at(residual, row, column, image) + channel_quad);
        }
        store_forms(layers[l].target_node, Spot(row, column, image, quad), value, gate);
        value = second;
    }
}
