// Convolution of many positions (rows of a batch): out = init + inputs * weights, tiled through workgroup
// memory.
//
// A workgroup computes MAX_ROWS * TILE_Y positions by TILE_X quads of outputs (of each half); an
// invocation, MAX_ROWS positions by one quad.

// Quads of inputs in workgroup memory at a time.
const CHUNK = 4u;
override TILE_X: u32;
override TILE_Y: u32;

var<workgroup> sh_inputs: array<vec4<f32>, TILE_Y * MAX_ROWS * CHUNK>;  // [positions, chunk]
var<workgroup> sh_weights: array<vec4<f32>, CHUNK * 4u * HALVES * TILE_X>;  // [inputs, HALVES, quads]

@compute @workgroup_size(TILE_X, TILE_Y)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let threads = TILE_X * TILE_Y;
    let first_position = group.y * TILE_Y * MAX_ROWS;
    let first_quad = group.x * TILE_X;
    let quad = first_quad + local.x;
    let outputs = HALVES * layer.width;
    let last_position = layer.positions - 1u;

    var sums: array<array<vec4<f32>, 2>, MAX_ROWS>;
    if quad < layer.width {
        for (var i = 0u; i < MAX_ROWS; i += 1u) {
            let place = place_of(min(first_position + local.y * MAX_ROWS + i, last_position));
            for (var half = 0u; half < HALVES; half += 1u) {
                sums[i][half] = initial(place, half, quad);
            }
        }
    }

    // An invocation loads the same quad of every chunk, for positions a fixed distance apart.
    let chunk_quad = index % CHUNK;
    let apart = threads / CHUNK;
    let loads = TILE_Y * MAX_ROWS / apart;
    var input = layer.first_input;
    for (var t = 0u; t < layer.tap_count; t += 1u) {
        let depth = layer.taps[t].depth;
        let arena = layer.taps[t].source.arena;
        var at: array<u32, MAX_ROWS>;
        for (var i = 0u; i < loads; i += 1u) {
            let position = min(first_position + index / CHUNK + i * apart, last_position);
            at[i] = input_at(t, place_of(position)) + chunk_quad;
        }
        for (var chunk = 0u; chunk < depth; chunk += CHUNK) {
            workgroupBarrier();
            for (var i = 0u; i < loads; i += 1u) {
                var x = vec4(0.0);
                if chunk + chunk_quad < depth {
                    x = load(arena, at[i] + chunk);
                }
                sh_inputs[index + i * threads] = x;
            }
            for (var i = index; i < CHUNK * 4u * HALVES * TILE_X; i += threads) {
                let k = i / (HALVES * TILE_X);
                let half = i / TILE_X % HALVES;
                let column = first_quad + i % TILE_X;
                var w = vec4(0.0);
                if chunk * 4u + k < depth * 4u && column < layer.width {
                    w = weight((input + chunk * 4u + k) * outputs + half * layer.width + column);
                }
                sh_weights[i] = w;
            }
            workgroupBarrier();
            for (var k = 0u; k < CHUNK; k += 1u) {
                for (var half = 0u; half < HALVES; half += 1u) {
                    let at = (k * 4u * HALVES + half) * TILE_X + local.x;
                    let w0 = sh_weights[at];
                    let w1 = sh_weights[at + HALVES * TILE_X];
                    let w2 = sh_weights[at + 2u * HALVES * TILE_X];
                    let w3 = sh_weights[at + 3u * HALVES * TILE_X];
                    for (var i = 0u; i < MAX_ROWS; i += 1u) {
                        let x = sh_inputs[(local.y * MAX_ROWS + i) * CHUNK + k];
                        // One at a time: each is a fused multiply-add.
                        sums[i][half] += x.x * w0;
                        sums[i][half] += x.y * w1;
                        sums[i][half] += x.z * w2;
                        sums[i][half] += x.w * w3;
                    }
                }
            }
        }
        input += depth * 4u;
    }

    if quad < layer.width {
        for (var i = 0u; i < MAX_ROWS; i += 1u) {
            let position = first_position + local.y * MAX_ROWS + i;
            if position < layer.positions {
                store(place_of(position), quad, sums[i]);
            }
        }
    }
}
