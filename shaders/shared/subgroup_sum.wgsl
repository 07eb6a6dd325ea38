// Sums over the invocations of a subgroup, LANES in a row, that work on the same quad: those QUADS apart.

fn subgroup_sum(sum: vec4<f32>) -> vec4<f32> {
    var total = sum;
    for (var apart = QUADS; apart < LANES; apart *= 2u) {
        total += subgroupShuffleXor(total, apart);
    }
    return total;
}
