// Convolution of few positions (one pixel of a batch): out = init + inputs * weights, the sum over inputs
// split over the workgroup.
//
// A workgroup computes ROWS positions by QUADS quads of outputs (of each half); an invocation, a part of
// their sums: every SPLITS-th quad of the inputs of all taps.

override ROWS: u32;
override QUADS: u32;
override SPLITS: u32;
// Invocations of a subgroup, or 1 if it is not to be used.
override LANES: u32;

var<workgroup> sh_sums: array<vec4<f32>, SPLITS * QUADS * ROWS * HALVES>;  // [splits, rows, HALVES, quads]

// In one dimension, so that subgroups are invocations in a row.
@compute @workgroup_size(QUADS * SPLITS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let local = vec2(index % QUADS, index / QUADS);
    let first_position = group.y * ROWS;
    let quad = group.x * QUADS + local.x;
    let width = layers[0].width;
    let outputs = HALVES * width;
    let last_position = layers[0].positions - 1u;

    var places: array<vec2<u32>, MAX_SPLIT_ROWS>;
    for (var i = 0u; i < ROWS; i += 1u) {
        places[i] = place_of(min(first_position + i, last_position));
    }
    var sums: array<array<vec4<f32>, 2>, MAX_SPLIT_ROWS>;
    // The quads of all taps are dealt out in one go: k counts on from tap to tap. Invocations past the last quad of
    // outputs work on it once more and store nothing.
    var k = local.y;
    var w = layers[0].weights + local.y * 4u * outputs + min(quad, width - 1u);
    for (var t = 0u; t < layers[0].tap_count; t += 1u) {
        let depth = depth_of(0u, t);
        let arena = arena_of(0u, t);
        var at: array<u32, MAX_SPLIT_ROWS>;
        for (var i = 0u; i < ROWS; i += 1u) {
            at[i] = input_at(0u, t, places[i]);
        }
        for (; k < depth; k += SPLITS) {
            var x: array<vec4<f32>, MAX_SPLIT_ROWS>;
            for (var i = 0u; i < ROWS; i += 1u) {
                x[i] = load(arena, at[i] + k);
            }
            // Issue all loads before the first use.
            var numbers: array<array<vec4<f32>, 4>, 2>;
            for (var half = 0u; half < HALVES; half += 1u) {
                for (var i = 0u; i < 4u; i += 1u) {
                    numbers[half][i] = weight(w + half * width + i * outputs);
                }
            }
            for (var half = 0u; half < HALVES; half += 1u) {
                for (var i = 0u; i < ROWS; i += 1u) {
                    // One at a time: each is a fused multiply-add.
                    sums[i][half] += x[i].x * numbers[half][0];
                    sums[i][half] += x[i].y * numbers[half][1];
                    sums[i][half] += x[i].z * numbers[half][2];
                    sums[i][half] += x[i].w * numbers[half][3];
                }
            }
            w += SPLITS * 4u * outputs;
        }
        k -= depth;
    }

    // Parts of the sums that a subgroup has summed already.
    let together = max(LANES / QUADS, 1u);
    for (var i = 0u; i < ROWS; i += 1u) {
        for (var half = 0u; half < HALVES; half += 1u) {
            let sum = subgroup_sum(sums[i][half]);
            if local.y % together == 0u {
                let part = local.y / together;
                sh_sums[((part * ROWS + i) * HALVES + half) * QUADS + local.x] = sum;
            }
        }
    }
    workgroupBarrier();
    // The parts of a sum in two steps: up to 8 invocations, then one. No invocation reads a part that another
    // overwrites.
    let parts = SPLITS / together;
    let of_part = ROWS * HALVES * QUADS;
    let adders = min(min(8u, parts), max(QUADS * SPLITS / of_part, 1u));
    if parts > 1u && index < adders * of_part {
        var sum = sh_sums[index];
        for (var part = 1u; part < parts / adders; part += 1u) {
            sum += sh_sums[part * adders * of_part + index];
        }
        sh_sums[index] = sum;
    }
    workgroupBarrier();

    // Once, where there are as many parts as rows.
    for (var turn = 0u; turn < (ROWS + SPLITS - 1u) / SPLITS; turn += 1u) {
        let row = turn * SPLITS + local.y;
        let position = first_position + row;
        if row < ROWS && position < layers[0].positions && quad < width {
            let place = place_of(position);
            var total: array<vec4<f32>, 2>;
            for (var half = 0u; half < HALVES; half += 1u) {
                total[half] = initial(0u, place, half, quad);
                for (var part = 0u; part < adders; part += 1u) {
                    total[half] += sh_sums[((part * ROWS + row) * HALVES + half) * QUADS + local.x];
                }
            }
            store(0u, place, quad, total[0], total[1]);
            count_run((position | quad) == 0u);
        }
    }
}
