// A dispatch that works on one layer: much of it is constants.

override HALVES: u32;
// True if positions are a whole row, false for one pixel.
override WHOLE_ROW: bool;
// True if the sum begins with the row's context.
override FROM_CONTEXT: bool;
override EPILOGUE: u32;
// True if the class adds to any form of the target.
override HAS_CLASS: bool;

@group(0) @binding(2) var<uniform> layers: array<Layer, 1>;

fn halves_of(l: u32) -> u32 {
    return HALVES;
}

fn epilogue_of(l: u32) -> u32 {
    return EPILOGUE;
}

fn has_context(l: u32) -> bool {
    return FROM_CONTEXT;
}

fn has_class(l: u32) -> bool {
    return HAS_CLASS;
}

// The row of the image that the layer makes.
fn row_of(l: u32) -> u32 {
    return row_place.index;
}

// Column and image of a position: position m is column m / batch of the row, image m % batch; a dispatch for one pixel
// has the images alone.
fn place_of(position: u32) -> vec2<u32> {
    if WHOLE_ROW {
        let column = position / layers[0].batch;
        return vec2(column, position - column * layers[0].batch);
    }
    return vec2(column_place.index >> layers[0].grid, position);
}
