// The layers of a PixelCNN++, for a chain: its pixels are drawn in one step. See `graph/steps.wgsl`.

fn has_class(l: u32) -> bool {
    return layers[l].target_node.has_class == 1u;
}

fn runs_at(l: u32, row: u32, column: u32) -> bool {
    return (row & layers[l].row_bits) == layers[l].row_like && (column & layers[l].column_bits) == 0u;
}

fn position_of(l: u32, column: u32) -> u32 {
    return column >> layers[l].grid;
}

// All that a pixel takes.
fn run_pixel(first: u32, thread: u32, row: u32, column: u32) {
    for (var l = 0u; l < job.layers; l += 1u) {
        run_layer(l, first, thread, row, column);
    }
    end_pixel(first, thread, row, column);
    workgroupBarrier();
    storageBarrier();
}
