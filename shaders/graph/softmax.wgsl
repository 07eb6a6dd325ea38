// Drawing from a softmax over the levels of each channel, as in `src/head/softmax.rs`: by the inverse of the cumulative sum, in
// the order of the levels, in two steps: blocks of levels, then the levels of a block.
//
// The including kernel gives the overrides CHANNELS, that a step draws, and BLOCKS of levels.

// [IMAGES, CHANNELS, BLOCKS]: the largest logit of each block, and the sum of its weights.
var<workgroup> sh_largest: array<f32, IMAGES * CHANNELS * BLOCKS>;
var<workgroup> sh_weights: array<f32, IMAGES * CHANNELS * BLOCKS>;

// The logits of a channel of a pixel: where they begin in the arena, in numbers.
fn logits_at(i: u32, first: u32, row: u32, column: u32, step: u32) -> u32 {
    let record = record_at(job.parameters, i32(row), i32(column), first + i / CHANNELS);
    return 4u * record + (step + i % CHANNELS) * job.levels;
}

fn logit_at(i: u32) -> f32 {
    return load(job.parameters.arena, i / 4u)[i % 4u];
}

// The largest logit of an image's channel.
fn largest_of(i: u32) -> f32 {
    var largest = sh_largest[i * BLOCKS];
    for (var block = 1u; block < BLOCKS; block += 1u) {
        largest = max(largest, sh_largest[i * BLOCKS + block]);
    }
    return largest;
}

// The probability of a level relative to the likeliest; 0 if it is left out.
fn weight_of(logits: u32, level: u32, largest: f32) -> f32 {
    let logit = logit_at(logits + level);
    if largest - logit > job.reach {
        return 0.0;
    }
    if job.top_k > 0u && job.top_k < job.levels {
        var above = 0u;
        for (var other = 0u; other < job.levels; other += 1u) {
            above += u32(logit_at(logits + other) > logit);
        }
        if above >= job.top_k {
            return 0.0;
        }
    }
    return exp_of((logit - largest) / job.temperature);
}

// The levels of a block.
fn levels_of(block: u32) -> vec2<u32> {
    let count = (job.levels + BLOCKS - 1u) / BLOCKS;
    return min(vec2(block * count, (block + 1u) * count), vec2(job.levels));
}

// The level of the i-th channel whose cumulative sum is beyond `u` of the whole; at temperature 0, the likeliest.
fn level_of(i: u32, logits: u32, largest: f32, u: f32) -> u32 {
    var total = 0.0;
    for (var block = 0u; block < BLOCKS; block += 1u) {
        total += sh_weights[i * BLOCKS + block];
    }
    var rest = u * total;
    var chosen = 0u;
    var is_found = false;
    for (var block = 0u; block < BLOCKS && !is_found; block += 1u) {
        let sum = sh_weights[i * BLOCKS + block];
        if sum > 0.0 {
            chosen = block;
            is_found = rest < sum;
            rest = select(rest - sum, rest, is_found);
        }
    }
    // Past the end by rounding alone.
    if !is_found {
        rest = total;
    }
    let levels = levels_of(chosen);
    var level = levels.x;
    is_found = false;
    for (var other = levels.x; other < levels.y && !is_found; other += 1u) {
        let weight = weight_of(logits, other, largest);
        if weight > 0.0 {
            level = other;
            rest -= weight;
            is_found = rest < 0.0;
        }
    }
    return level;
}

fn likeliest(i: u32, logits: u32, largest: f32) -> u32 {
    for (var block = 0u; block < BLOCKS; block += 1u) {
        if sh_largest[i * BLOCKS + block] == largest {
            let levels = levels_of(block);
            for (var level = levels.x; level < levels.y; level += 1u) {
                if logit_at(logits + level) == largest {
                    return level;
                }
            }
        }
    }
    return 0u;
}

fn draw_levels(first: u32, images: u32, thread: u32, row: u32, column: u32, step: u32) {
    let channels = images * CHANNELS;
    for (var i = thread; i < channels * BLOCKS; i += THREADS) {
        let logits = logits_at(i / BLOCKS, first, row, column, step);
        let levels = levels_of(i % BLOCKS);
        var largest = -3e38;
        for (var level = levels.x; level < levels.y; level += 1u) {
            largest = max(largest, logit_at(logits + level));
        }
        sh_largest[i] = largest;
    }
    workgroupBarrier();
    for (var i = thread; i < channels * BLOCKS && job.temperature > 0.0; i += THREADS) {
        let logits = logits_at(i / BLOCKS, first, row, column, step);
        let levels = levels_of(i % BLOCKS);
        let largest = largest_of(i / BLOCKS);
        var sum = 0.0;
        for (var level = levels.x; level < levels.y; level += 1u) {
            sum += weight_of(logits, level, largest);
        }
        sh_weights[i] = sum;
    }
    workgroupBarrier();
    for (var i = thread; i < channels; i += THREADS) {
        let logits = logits_at(i, first, row, column, step);
        let channel = step + i % CHANNELS;
        let largest = largest_of(i);
        var level = 0u;
        if job.temperature > 0.0 {
            let word = noise_word(first + i / CHANNELS, row, column, channel);
            level = level_of(i, logits, largest, (f32(word) + 0.5) * 0x1p-32f);
        } else {
            level = likeliest(i, logits, largest);
        }
        sh_drawn[4u * (i / CHANNELS) + channel] = f32(level);
    }
}
