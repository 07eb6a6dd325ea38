// All layers of a pixel, and all pixels of a part of a row. Images do not depend on each other: a workgroup has IMAGES
// of them to itself and waits for no other.
//
// For each layer, an invocation computes a part of the sums of QUADS quads of outputs, for all of the images. If a sum
// has more than ADDERS parts, all invocations first reduce them to ADDERS, and one adds up the rest.

fn halves_of(l: u32) -> u32 {
    return layers[l].halves;
}

fn epilogue_of(l: u32) -> u32 {
    return layers[l].epilogue;
}

fn has_context(l: u32) -> bool {
    return layers[l].has_context == 1u;
}

var<workgroup> sh_sums: array<vec4<f32>, THREADS * IMAGES * QUADS>;  // [splits, IMAGES, QUADS, columns]

// An invocation's parts of the sums of a layer.
fn sum_part(l: u32, column: u32, first: u32, thread: u32) {
    let outputs = layers[l].halves * layers[l].width;
    let columns = layers[l].columns;
    let splits = layers[l].splits;
    let split = thread / columns;
    if split >= splits {
        return;
    }
    let quad = thread - split * columns;
    var sums: array<array<vec4<f32>, MAX_QUADS>, MAX_IMAGES>;
    // The quads of all taps are dealt out in one go: k counts on from tap to tap. Past the last quad of outputs, that
    // one is summed once more.
    var k = split;
    var w: array<u32, MAX_QUADS>;
    for (var j = 0u; j < QUADS; j += 1u) {
        w[j] = layers[l].weights + split * 4u * outputs + min(quad + j * columns, outputs - 1u);
    }
    for (var t = 0u; t < layers[l].tap_count; t += 1u) {
        let depth = depth_of(l, t);
        let arena = arena_of(l, t);
        var at: array<u32, MAX_IMAGES>;
        for (var i = 0u; i < IMAGES; i += 1u) {
            at[i] = input_at(l, t, vec2(position_of(l, column), min(first + i, job.batch - 1u)));
        }
        for (; k < depth; k += splits) {
            var x: array<vec4<f32>, MAX_IMAGES>;
            for (var i = 0u; i < IMAGES; i += 1u) {
                x[i] = load(arena, at[i] + k);
            }
            for (var j = 0u; j < QUADS; j += 1u) {
                let w0 = weights[w[j]];
                let w1 = weights[w[j] + outputs];
                let w2 = weights[w[j] + 2u * outputs];
                let w3 = weights[w[j] + 3u * outputs];
                for (var i = 0u; i < IMAGES; i += 1u) {
                    // One at a time: each is a fused multiply-add.
                    sums[i][j] += x[i].x * w0;
                    sums[i][j] += x[i].y * w1;
                    sums[i][j] += x[i].z * w2;
                    sums[i][j] += x[i].w * w3;
                }
                w[j] += splits * 4u * outputs;
            }
        }
        k -= depth;
    }
    for (var i = 0u; i < IMAGES; i += 1u) {
        for (var j = 0u; j < QUADS; j += 1u) {
            sh_sums[((split * IMAGES + i) * QUADS + j) * columns + quad] = sums[i][j];
        }
    }
}

// Reduces the parts of the sums of a layer to ADDERS. No invocation reads what another overwrites.
fn add_parts(l: u32, thread: u32) {
    let columns = layers[l].columns;
    let of_part = IMAGES * QUADS * columns;
    let splits = layers[l].splits;
    if splits <= ADDERS {
        return;
    }
    for (var i = thread; i < ADDERS * of_part; i += THREADS) {
        var sum = sh_sums[i];
        for (var at = i + ADDERS * of_part; at < splits * of_part; at += ADDERS * of_part) {
            sum += sh_sums[at];
        }
        sh_sums[i] = sum;
    }
}

// The sums of a layer and its epilogue, shared out anew.
fn end_layer(l: u32, column: u32, first: u32, thread: u32) {
    let width = layers[l].width;
    let halves = layers[l].halves;
    let columns = layers[l].columns;
    let parts = min(layers[l].splits, ADDERS);
    // A constant trip count, if there is one, lets the compiler issue all loads at once.
    let turns = select(parts, ADDERS, ADDERS < THREADS);
    for (var i = thread; i < min(IMAGES, job.batch - first) * width; i += THREADS) {
        let image = i / width;
        let quad = i - image * width;
        let place = vec2(position_of(l, column), first + image);
        var total = initial(l, place, 0u, quad);
        var second = vec4(0.0);
        if halves == 2u {
            second = initial(l, place, 1u, quad);
        }
        for (var part = 0u; part < turns; part += 1u) {
            let at = (min(part, parts - 1u) * IMAGES + image) * QUADS * columns + quad;
            total += select(vec4(0.0), sh_sums[at], part < parts);
            if halves == 2u {
                second += select(vec4(0.0), sh_sums[at + width], part < parts);
            }
        }
        store(l, place, quad, total, second);
    }
}

// A layer, where it runs at a pixel.
fn run_layer(l: u32, first: u32, thread: u32, row: u32, column: u32) {
    // All meet at the barriers, whether the layer runs or not.
    let runs = runs_at(l, row, column);
    if runs {
        sum_part(l, column, first, thread);
    }
    workgroupBarrier();
    if ADDERS < THREADS {
        if runs {
            add_parts(l, thread);
        }
        workgroupBarrier();
    }
    if runs {
        end_layer(l, column, first, thread);
    }
    // Before its values are read, and its sums written over.
    workgroupBarrier();
    storageBarrier();
}

// Tells whether loops still run to their end: a driver may end those of an invocation with many turns, and say
// nothing. No compiler knows that this one has two.
fn loops_end() -> bool {
    var turns = 0u;
    while turns < 2u + (row_place.index >> 31u) {
        turns += 1u;
    }
    return turns == 2u;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.x * IMAGES;
    let row = row_place.index;
    let end = min(min(column_place.index + job.span, job.columns), job.wanted - row * job.columns);
    for (var column = column_place.index; column < end; column += 1u) {
        run_pixel(first, thread, row, column);
    }
    // The first invocation takes no fewer turns than any other.
    count_run(group.x == 0u && thread == 0u && loops_end());
}
