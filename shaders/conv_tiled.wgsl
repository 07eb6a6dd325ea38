// Convolution of many positions (rows of a batch): out = init + inputs * weights, tiled through workgroup
// memory.
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
    let outputs = HALVES * width;
    let last_position = layers[0].positions - 1u;

    // An invocation loads the same quad of every chunk, for positions a fixed distance apart.
    let chunk_quad = index % CHUNK;
    let apart = threads / CHUNK;
    let loads = TILE_Y * MAX_ROWS / apart;
    var places: array<vec2<u32>, MAX_ROWS>;
    for (var i = 0u; i < loads; i += 1u) {
        places[i] = place_of(min(first_position + index / CHUNK + i * apart, last_position));
    }
    // And the same quad of outputs, of inputs a fixed distance apart; past the last quad, that one once more.
    let weights_apart = threads / (HALVES * TILE_X);
    let first_weight = index / (HALVES * TILE_X);
    let half_of_weight = index / TILE_X % HALVES;
    var w = layers[0].weights + first_weight * outputs + half_of_weight * width
        + min(first_quad + index % TILE_X, width - 1u);

    var sums: array<array<vec4<f32>, 2>, MAX_ROWS>;
    for (var t = 0u; t < layers[0].tap_count; t += 1u) {
        let depth = depth_of(0u, t);
        let arena = arena_of(0u, t);
        var at: array<u32, MAX_ROWS>;
        for (var i = 0u; i < loads; i += 1u) {
            at[i] = input_at(0u, t, places[i]) + chunk_quad;
        }
        for (var chunk = 0u; chunk < depth; chunk += CHUNK) {
            let inputs = min(CHUNK, depth - chunk);
            workgroupBarrier();
            for (var i = 0u; i < loads; i += 1u) {
                let position = index / CHUNK + i * apart;
                let to = position / MAX_ROWS * of_group + position % MAX_ROWS * CHUNK + chunk_quad;
                var x = vec4(0.0);
                if chunk_quad < inputs {
                    x = load(arena, at[i] + chunk);
                }
                sh_inputs[to] = x;
            }
            for (var i = 0u; i < CHUNK * 4u / weights_apart; i += 1u) {
                // Those past the last input meet zeros: any finite number will do.
                let k = min(first_weight + i * weights_apart, inputs * 4u - 1u) - first_weight;
                sh_weights[index + i * threads] = weight(w + k * outputs);
            }
            w += inputs * 4u * outputs;
            workgroupBarrier();
            for (var k = part; k < CHUNK; k += PARTS) {
                for (var half = 0u; half < HALVES; half += 1u) {
                    let start = (k * 4u * HALVES + half) * TILE_X + local.x;
                    let w0 = sh_weights[start];
                    let w1 = sh_weights[start + HALVES * TILE_X];
                    let w2 = sh_weights[start + 2u * HALVES * TILE_X];
                    let w3 = sh_weights[start + 3u * HALVES * TILE_X];
                    for (var i = 0u; i < MAX_ROWS; i += 1u) {
                        let x = sh_inputs[local.y * of_group + i * CHUNK + k];
                        // One at a time: each is a fused multiply-add.
                        sums[i][half] += x.x * w0;
                        sums[i][half] += x.y * w1;
                        sums[i][half] += x.z * w2;
                        sums[i][half] += x.w * w3;
                    }
                }
            }
        }
    }

    // Where sums are in parts, each part brings together those of some of the positions, a half at a time.
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
