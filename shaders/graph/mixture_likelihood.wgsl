// The log-likelihood of the levels of a pixel under a mixture of logistics: `shared/likelihood.wgsl`.

@group(0) @binding(3) var<storage, read> anchors: array<i32>;

fn anchor(k: u32) -> i32 {
    return anchors[k];
}

fn pixel_log_likelihood(pixel: vec4<f32>) -> f32 {
    return log_likelihood(pixel.xyz, job.mixtures, job.channels);
}
