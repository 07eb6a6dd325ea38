// Threefry-4x32, 20 rounds (Salmon et al. 2011): the same bits as `src/sampling/random.rs`.

fn rotate(x: u32, bits: u32) -> u32 {
    return (x << bits) | (x >> (32u - bits));
}

// Four rounds, with the rotations of the first word pair in `r01` and of the second in `r23`.
fn four_rounds(counter: vec4<u32>, r01: vec4<u32>, r23: vec4<u32>) -> vec4<u32> {
    var x = counter;
    for (var round = 0u; round < 4u; round += 2u) {
        x.x += x.y;
        x.y = rotate(x.y, r01[round]) ^ x.x;
        x.z += x.w;
        x.w = rotate(x.w, r23[round]) ^ x.z;
        // Words 1 and 3 change places every round.
        x.x += x.w;
        x.w = rotate(x.w, r01[round + 1u]) ^ x.x;
        x.z += x.y;
        x.y = rotate(x.y, r23[round + 1u]) ^ x.z;
    }
    return x;
}

fn threefry(counter: vec4<u32>, key: vec4<u32>) -> vec4<u32> {
    let k = array<u32, 5>(
        key.x, key.y, key.z, key.w, 0x1bd11bdau ^ key.x ^ key.y ^ key.z ^ key.w,
    );
    var x = counter + key;
    for (var s = 1u; s <= 5u; s += 1u) {
        if s % 2u == 1u {
            x = four_rounds(x, vec4(10u, 11u, 13u, 23u), vec4(26u, 21u, 27u, 5u));
        } else {
            x = four_rounds(x, vec4(6u, 17u, 25u, 18u), vec4(20u, 11u, 10u, 20u));
        }
        x += vec4(k[s % 5u], k[(s + 1u) % 5u], k[(s + 2u) % 5u], k[(s + 3u) % 5u] + s);
    }
    return x;
}

// A number in (1e-5, 1 - 1e-5) from 24 bits of a word: nothing that a compiler may contract.
fn uniform_of(word: u32) -> f32 {
    return clamp((f32(word >> 8u) + 0.5) * (1.0 / 16777216.0), 1e-5, 1.0 - 1e-5);
}
