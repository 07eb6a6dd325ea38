// Convolution of few positions (one pixel of a batch): out = init + inputs * weights, the sum over inputs
// split over the workgroup.
//
// A workgroup computes ROWS positions by QUADS quads of outputs (of each half); an invocation, a part of
// their sums: every SPLITS-th quad of the inputs of each tap.

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
    // Invocations past the last quad work on it once more and store nothing.
    let read_quad = min(quad, layer.width - 1u);
    let outputs = HALVES * layer.width;

    var sums: array<array<vec4<f32>, 2>, MAX_ROWS>;
    var input = layer.first_input;
    for (var t = 0u; t < layer.tap_count; t += 1u) {
        let depth = layer.taps[t].depth;
        let arena = layer.taps[t].source.arena;
        var at: array<u32, MAX_ROWS>;
        for (var i = 0u; i < ROWS; i += 1u) {
            at[i] = input_at(t, place_of(min(first_position + i, layer.positions - 1u)));
        }
        for (var k = local.y; k < depth; k += SPLITS) {
            for (var half = 0u; half < HALVES; half += 1u) {
                let w = (input + k * 4u) * outputs + half * layer.width + read_quad;
                let w0 = weight(w);
                let w1 = weight(w + outputs);
                let w2 = weight(w + 2u * outputs);
                let w3 = weight(w + 3u * outputs);
                for (var i = 0u; i < ROWS; i += 1u) {
                    let x = load(arena, at[i] + k);
                    // One at a time: each is a fused multiply-add.
                    sums[i][half] += x.x * w0;
                    sums[i][half] += x.y * w1;
                    sums[i][half] += x.z * w2;
                    sums[i][half] += x.w * w3;
                }
            }
        }
        input += depth * 4u;
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

    let position = first_position + local.y;
    if local.y < ROWS && position < layer.positions && quad < layer.width {
        let place = place_of(position);
        var total: array<vec4<f32>, 2>;
        for (var half = 0u; half < HALVES; half += 1u) {
            total[half] = initial(place, half, quad);
            for (var part = 0u; part < SPLITS / together; part += 1u) {
                total[half] += sh_sums[((part * ROWS + local.y) * HALVES + half) * QUADS + local.x];
            }
        }
        store(place, quad, total);
    }
}
