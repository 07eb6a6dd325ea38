// Drawing two levels a channel, by a logit, as in `src/head/bernoulli.rs`. The including kernel
// gives the override CHANNELS, that a step draws.

fn draw_levels(first: u32, images: u32, thread: u32, row: u32, column: u32, step: u32) {
    for (var i = thread; i < images * CHANNELS; i += THREADS) {
        let image = first + i / CHANNELS;
        let channel = step + i % CHANNELS;
        let logit = load(job.parameters.arena, record_at(job.parameters, i32(row), i32(column), image))[channel];
        var level = u32(logit > 0.0);
        let is_alone = job.temperature == 0.0 || job.top_k == 1u || abs(logit) > job.reach;
        if !is_alone {
            let u = (f32(noise_word(image, row, column, channel)) + 0.5) * 0x1p-32f;
            level = u32(u < sigmoid(vec4(logit / job.temperature)).x);
        }
        sh_drawn[4u * (i / CHANNELS) + channel] = f32(level);
    }
}
