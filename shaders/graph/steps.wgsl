// What a chain asks of the layers of any graph: which of them belong to a step of a pixel, and where they run.

fn steps() -> u32 {
    return job.steps;
}

// The layers of a step are those from the end of the step before.
fn end_of_layers(step: u32) -> u32 {
    return job.ends[step];
}

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

fn end_step(first: u32, thread: u32, row: u32, column: u32, step: u32) {
    end_pixel(first, thread, row, column, step);
}
