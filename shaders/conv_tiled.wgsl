// Convolution of many positions (rows of a batch): out = init + inputs * weights, tiled through workgroup
// memory.
//
// Each invocation prefetches its part of the next chunk of inputs into registers while it multiplies this one.
//
// A workgroup computes MAX_ROWS * TILE_Y positions by TILE_X quads of outputs (of each half); an
// invocation, MAX_ROWS positions by one quad, and every PARTS-th quad of the inputs.

override TILE_X: u32;
override TILE_Y: u32;
override PARTS: u32;
// Quads of inputs in workgroup memory at a time.
override CHUNK: u32;
// Vectors of memory for weights, and for sums after them.
override SHARED: u32;

// Inputs [TILE_Y, MAX_ROWS, CHUNK], with a quad between the groups of MAX_ROWS positions, whose invocations would
// otherwise all read the same memory bank.
var<workgroup> sh_inputs: array<vec4<f32>, TILE_Y * (MAX_ROWS * CHUNK + 1u)>;
// Weights [inputs, HALVES, quads], and in the end the parts of the sums [MAX_ROWS, PARTS, TILE_Y, TILE_X].
var<workgroup> sh_weights: array<vec4<f32>, SHARED>;

// A chunk of inputs: `count` quads of a tap from the `first`-th on, of `depth`; their weights begin at `weights`.
struct Chunk {
    tap: u32,
    depth: u32,
    first: u32,
    count: u32,
    weights: u32,
}

// An invocation's part of the next chunk: one quad of inputs of positions a fixed distance apart, and the weights of one quad
// of outputs for inputs a fixed distance apart.
var<private> next_inputs: array<vec4<f32>, MAX_ROWS>;
var<private> next_weights: array<StoredWeight, MAX_WEIGHTS>;
// Column and image of each position, and the address that the tap reads for it.
var<private> places: array<vec2<u32>, MAX_ROWS>;
var<private> places_of_tap: array<u32, MAX_ROWS>;
// The quad of outputs, and the offset of its first weight in a chunk.
var<private> own_output: u32;
var<private> own_weight: u32;

// Finds the addresses of a tap. The loads themselves have no conditions, because a compiler would wait for them at the end of
// one.
fn begin_tap(tap: u32, loads: u32) {
    for (var i = 0u; i < loads; i += 1u) {
        places_of_tap[i] = input_at(0u, tap, places[i]);
    }
}

// Loads an invocation's part of a chunk.
fn load_chunk(chunk: Chunk, index: u32) {
    let threads = TILE_X * TILE_Y * PARTS;
    let quad = chunk.first + min(index % CHUNK, chunk.count - 1u);
    for (var i = 0u; i < TILE_Y * MAX_ROWS * CHUNK / threads; i += 1u) {
        next_inputs[i] = load(arena_of(0u, chunk.tap), places_of_tap[i] + quad);
    }
    // Weights past the last input meet zeros, so any finite number will do.
    let outputs = HALVES * layers[0].width;
    let last = own_output + (chunk.weights + (chunk.count * 4u - 1u) * outputs);
    let apart = threads / (HALVES * TILE_X);
    for (var i = 0u; i < CHUNK * 4u / apart; i += 1u) {
        next_weights[i] = stored_weight(min(own_weight + (chunk.weights + i * apart * outputs), last));
    }
}

// The chunk after one; the last is followed by itself.
fn chunk_after(chunk: Chunk, loads: u32) -> Chunk {
    var next = chunk;
    next.first += chunk.count;
    next.weights += chunk.count * 4u * HALVES * layers[0].width;
    if next.first == chunk.depth {
        if chunk.tap + 1u == layers[0].tap_count {
            return chunk;
        }
        next.tap += 1u;
        next.first = 0u;
        next.depth = depth_of(0u, next.tap);
        begin_tap(next.tap, loads);
    }
    next.count = min(CHUNK, next.depth - next.first);
    return next;
}

@compute @workgroup_size(TILE_X * TILE_Y * PARTS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let of_group = MAX_ROWS * CHUNK + 1u;
    let threads = TILE_X * TILE_Y * PARTS;
    let local = vec2(index % TILE_X, index / TILE_X % TILE_Y);
    let part = index / (TILE_X * TILE_Y);
    let first_position = group.y * TILE_Y * MAX_ROWS;
    let first_quad = group.x * TILE_X;
    let quad = first_quad + local.x;
    let width = layers[0].width;

    // The positions that an invocation loads are whole groups of MAX_ROWS apart.
    let apart = threads / CHUNK;
    let loads = TILE_Y * MAX_ROWS / apart;
    let own_position = index / CHUNK;
    for (var i = 0u; i < loads; i += 1u) {
        places[i] = place_of(min(first_position + own_position + i * apart, layers[0].positions - 1u));
    }
    let own_input = own_position / MAX_ROWS * of_group + own_position % MAX_ROWS * CHUNK + index % CHUNK;
    // Invocations past the last quad of outputs load that one again.
    own_output = index / TILE_X % HALVES * width + min(first_quad + index % TILE_X, width - 1u);
    own_weight = own_output + index / (HALVES * TILE_X) * HALVES * width;
    var chunks = 0u;
    for (var t = 0u; t < layers[0].tap_count; t += 1u) {
        chunks += (depth_of(0u, t) + CHUNK - 1u) / CHUNK;
    }

    var sums: array<array<vec4<f32>, 2>, MAX_ROWS>;
    let first_input = local.y * of_group + part;
    let first_weight = part * 4u * HALVES * TILE_X + local.x;
    var chunk: Chunk;
    if chunks > 0u {
        let depth = depth_of(0u, 0u);
        chunk = Chunk(0u, depth, 0u, min(CHUNK, depth), layers[0].weights);
        begin_tap(0u, loads);
        load_chunk(chunk, index);
    }
    for (var turn = 0u; turn < chunks; turn += 1u) {
        for (var i = 0u; i < loads; i += 1u) {
            let input = select(vec4(0.0), next_inputs[i], index % CHUNK < chunk.count);
            sh_inputs[own_input + i * (apart / MAX_ROWS * of_group)] = input;
        }
        for (var i = 0u; i < CHUNK * 4u * HALVES * TILE_X / threads; i += 1u) {
            sh_weights[index + i * threads] = widened(next_weights[i]);
        }
        workgroupBarrier();
        chunk = chunk_after(chunk, loads);
        load_chunk(chunk, index);
        for (var step = 0u; step < CHUNK; step += PARTS) {
            // Issue all loads before the first use.
            var x: array<vec4<f32>, MAX_ROWS>;
            for (var i = 0u; i < MAX_ROWS; i += 1u) {
                x[i] = sh_inputs[first_input + (i * CHUNK + step)];
            }
            var w: array<array<vec4<f32>, 2>, 4>;
            for (var half = 0u; half < HALVES; half += 1u) {
                for (var i = 0u; i < 4u; i += 1u) {
                    w[i][half] = sh_weights[first_weight + ((step * 4u + i) * HALVES + half) * TILE_X];
                }
            }
            for (var half = 0u; half < HALVES; half += 1u) {
                for (var i = 0u; i < MAX_ROWS; i += 1u) {
                    // One at a time: each is a fused multiply-add.
                    sums[i][half] += x[i].x * w[0][half];
                    sums[i][half] += x[i].y * w[1][half];
                    sums[i][half] += x[i].z * w[2][half];
                    sums[i][half] += x[i].w * w[3][half];
                }
            }
        }
        workgroupBarrier();
    }

    // If sums are in parts, each part reduces those of some of the positions, a half at a time.
    let rows = MAX_ROWS / PARTS;
    for (var half = 0u; half < HALVES && PARTS > 1u; half += 1u) {
        workgroupBarrier();
        for (var i = 0u; i < MAX_ROWS; i += 1u) {
            sh_weights[i * threads + index] = sums[i][half];
        }
        workgroupBarrier();
        for (var i = 0u; i < rows; i += 1u) {
            let of_position = (part * rows + i) * threads + index % (TILE_X * TILE_Y);
            var sum = sh_weights[of_position];
            for (var other = 1u; other < PARTS; other += 1u) {
                sum += sh_weights[of_position + other * TILE_X * TILE_Y];
            }
            sums[i][half] = sum;
        }
    }
    if quad < width {
        for (var i = 0u; i < rows; i += 1u) {
            let position = first_position + local.y * MAX_ROWS + part * rows + i;
            if position < layers[0].positions {
                let place = place_of(position);
                var total: array<vec4<f32>, 2>;
                for (var half = 0u; half < HALVES; half += 1u) {
                    total[half] = initial(0u, place, half, quad) + sums[i][half];
                }
                store(0u, place, quad, total[0], total[1]);
            }
        }
        count_run((first_position | local.y | part | quad) == 0u);
    }
}
