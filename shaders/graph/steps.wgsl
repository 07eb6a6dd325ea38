// The layers of any graph, for a chain: those that belong to a step of a pixel, and the pixels at which they run.

// The row of the image that the target's is.
fn row_of(l: u32) -> u32 {
    return u32(i32(row_place.index) - layers[l].lag);
}

// The column of the image that a layer makes a value of.
fn column_of(l: u32, column: u32) -> u32 {
    return u32(i32(column) - layers[l].late) - (layers[l].first_column << layers[l].level);
}

fn runs_at(l: u32, row: u32, column: u32) -> bool {
    let of_layer = column_of(l, column);
    return row_of(l) < job.rows
        && (row_of(l) & layers[l].row_bits) == layers[l].row_like
        && of_layer < job.columns
        && (of_layer & layers[l].column_bits) == 0u;
}

fn position_of(l: u32, column: u32) -> u32 {
    return column_of(l, column) >> layers[l].grid;
}

// All that a pixel takes: the layers of a step are those from the end of the step before.
fn run_pixel(first: u32, thread: u32, row: u32, column: u32) {
    var l = 0u;
    for (var step = 0u; step < job.steps; step += 1u) {
        for (; l < job.ends[step]; l += 1u) {
            run_layer(l, first, thread, row, column);
        }
        end_pixel(first, thread, row, column, step);
        workgroupBarrier();
        storageBarrier();
    }
}
