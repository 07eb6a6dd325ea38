// Without subgroups, all sums go through workgroup memory.

fn subgroup_sum(sum: vec4<f32>) -> vec4<f32> {
    return sum;
}
