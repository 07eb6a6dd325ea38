// Layers and image of any graph, in lists of four words: as long as the graph needs them.
//
// The including kernel gives `lists`.

// A tap, or a selection: a source as a layer's grid sees it; of_column counts columns of the grid.
struct Tap {
    arena: u32,
    // The first channel that is read for column 0 of the grid, in row 0 of the ring.
    base: u32,
    mask: u32,
    of_row: u32,
    of_column: u32,
    of_image: u32,
    row: i32,
    // Rows of the source to one of the grid.
    scale: u32,
    // Quads that are read: four rows of the weights each. Of a selection, channels.
    depth: u32,
    // Rows of the source: those outside the image are 0.
    rows: u32,
    // Of a selection, the first channel within its quad, and the output that it is added to.
    first: u32,
    output: u32,
}

// In what form a value is stored: `activation(±(scale * value + shift))`.
struct Form {
    activation: u32,
    slope: f32,
    // 1: its argument changes sign.
    negate: u32,
    // Its start in a record.
    offset: u32,
    scale: Table,
    shift: Table,
}

// In what form the levels of a pixel are shown to the network: for each of its channels the numbers that its level stands
// for, then constants.
struct Encoding {
    // Its start in a record, and its length there in quads.
    offset: u32,
    quads: u32,
    // Numbers that a level stands for.
    width: u32,
    // The channel that is shown; NONE shows all.
    channel: u32,
    // Numbers that stand for levels: those after them are constant.
    encoded: u32,
    // The starts, in the additions, of the numbers of level 0 and of the constants: in numbers, not in quads.
    table: u32,
    constants: u32,
    constant_count: u32,
}

// An absent entry.
const NONE = 0xffffffffu;

fn tap_at(i: u32) -> Tap {
    let a = lists[i];
    let b = lists[i + 1u];
    let c = lists[i + 2u];
    return Tap(a.x, a.y, a.z, a.w, b.x, b.y, bitcast<i32>(b.z), b.w, c.x, c.y, c.z, c.w);
}

fn table_at(i: u32) -> Table {
    let a = lists[i];
    return Table(a.x, a.y, a.z, a.w);
}

fn form_at(i: u32) -> Form {
    let a = lists[i];
    return Form(a.x, bitcast<f32>(a.y), a.z, a.w, table_at(i + 1u), table_at(i + 2u));
}

fn encoding_at(i: u32) -> Encoding {
    let a = lists[i];
    let b = lists[i + 1u];
    return Encoding(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
}
