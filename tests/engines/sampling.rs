//! Noise, draws and likelihoods: against recorded numbers, on both engines, and against the exact
//! probabilities of all 256 levels.

use std::path::Path;

use crate::common::{self, bits_of, digits, evaluation, floats, kernel, numbers, shape, with_scales};
use pixelcnn::internals::engine::cpu::CpuEngine;
use pixelcnn::internals::engine::gpu::shaders::{MATH, MIXTURE, THREEFRY};
use pixelcnn::internals::engine::{Canvas, Draw, Engine, Lane, Request, Want};
use pixelcnn::internals::head::{bits_per_dim, logistic_mixture as mixture};
use pixelcnn::internals::model::{Config, Model};
use pixelcnn::internals::sampling::random;
use pixelcnn::internals::sampling::random::{Noise, threefry, uniform};
use pixelcnn::internals::sampling::resampling::choose;
use safetensors::SafeTensors;

/// Pixels with given parameters and draws, and the published sampler's result.
struct Recorded {
    name: &'static str,
    channels: usize,
    mixtures: usize,
    parameters: Vec<f32>,
    /// For each pixel, M draws for the mixture and C for the channels.
    draws: Vec<f32>,
    sample: Vec<f32>,
    value: Vec<u16>,
    nll: Vec<f64>,
}

fn recorded() -> Vec<Recorded> {
    let load = |name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mixtures = file.tensor("u_mixture").unwrap().shape()[1];
        let channels = file.tensor("sample").unwrap().shape()[1];
        let (of_mixture, of_channels) = (floats(&file, "u_mixture"), floats(&file, "u_logistic"));
        let pairs = of_mixture.chunks(mixtures).zip(of_channels.chunks(channels));
        Recorded {
            name,
            channels,
            mixtures,
            parameters: floats(&file, "params"),
            draws: pairs.flat_map(|(m, c)| [m, c].concat()).collect(),
            sample: floats(&file, "sample"),
            value: file.tensor("value").unwrap().data().iter().map(|&v| v.into()).collect(),
            nll: numbers(file.tensor("nll").unwrap().data(), f64::from_le_bytes).collect(),
        }
    };
    ["sampling_grey_m5.safetensors", "sampling_rgb_m3.safetensors", "sampling_rgb_m10.safetensors"]
        .map(load)
        .into()
}

impl Recorded {
    fn pixels(&self) -> usize {
        self.nll.len()
    }

    fn draws_a_pixel(&self) -> usize {
        self.mixtures + self.channels
    }

    fn drawn_on_the_cpu(&self, continuous: bool) -> Vec<f32> {
        let mut drawn = vec![0.0; self.sample.len()];
        let parameters = self.parameters.chunks(self.parameters.len() / self.pixels());
        let given = parameters.zip(self.draws.chunks(self.draws_a_pixel()));
        for (pixel, (parameters, draws)) in drawn.chunks_mut(self.channels).zip(given) {
            let noise =
                |block| std::array::from_fn(|i| draws.get(4 * block as usize + i).map_or(0.5, |&u| u));
            mixture::draw(parameters, noise, Draw { continuous, ..Draw::default() }, pixel);
        }
        drawn
    }

    /// The same through the functions of the sampling kernel.
    fn drawn_on_the_gpu(&self, continuous: bool) -> Vec<f32> {
        let (m, c) = (self.mixtures, self.channels);
        let per_pixel = self.parameters.len() / self.pixels();
        let level = "(clamp(floor(127.5 * x + 128.0), 0.0, 255.0) - 127.5) / 127.5";
        let round = if continuous { "x" } else { level };
        let source = format!(
            "{MATH}\n{MIXTURE}
            @group(0) @binding(0) var<storage, read> parameters: array<f32>;
            @group(0) @binding(1) var<storage, read> draws: array<f32>;
            @group(0) @binding(2) var<storage, read_write> pixels: array<f32>;
            var<private> item: u32;
            fn parameter(i: u32) -> f32 {{ return parameters[item * {per_pixel}u + i]; }}
            @compute @workgroup_size(64)
            fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
                item = id.x;
                if item >= {pixels}u {{ return; }}
                let first = item * {per_draw}u;
                var component = 0u;
                for (var i = 1u; i < {m}u; i += 1u) {{
                    let score = gumbel_score(parameter(i), draws[first + i], 1.0);
                    if score > gumbel_score(parameter(component), draws[first + component], 1.0) {{
                        component = i;
                    }}
                }}
                var before = vec3(0.0);
                for (var channel = 0u; channel < {c}u; channel += 1u) {{
                    let x = draw_channel(channel, component, draws[first + {m}u + channel], before, {m}u, {c}u, 1.0, 0.0);
                    before[channel] = {round};
                    pixels[item * {c}u + channel] = before[channel];
                }}
            }}",
            pixels = self.pixels(),
            per_draw = self.draws_a_pixel(),
        );
        let inputs = [bytemuck::cast_slice(&self.parameters), bytemuck::cast_slice(&self.draws)];
        let words = kernel::run(&source, &inputs, self.pixels(), self.sample.len());
        words.into_iter().map(f32::from_bits).collect()
    }

    /// Pixels that are off by more than the tolerance of the recorded samples.
    fn wrong(&self, drawn: &[f32]) -> usize {
        drawn.iter().zip(&self.sample).filter(|(d, s)| (*d - *s).abs() > 1e-5).count()
    }
}

#[test]
fn draws_match_the_published_sampler_on_the_cpu() {
    for mut case in recorded() {
        let drawn = case.drawn_on_the_cpu(true);
        assert_eq!(case.wrong(&drawn), 0, "{}", case.name);
        // The means of the first channel of a pixel whose value is not at an end.
        let (m, per_pixel) = (case.mixtures, case.parameters.len() / case.pixels());
        let pixel = case.sample.iter().step_by(case.channels).position(|x| x.abs() < 0.9).unwrap();
        case.parameters[pixel * per_pixel + m..][..m].iter_mut().for_each(|mean| *mean += 1e-3);
        assert!(
            case.wrong(&case.drawn_on_the_cpu(true)) > 0,
            "{}: a wrong mean was not noticed",
            case.name
        );
    }
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn draws_match_the_published_sampler_on_the_gpu() {
    for case in recorded() {
        assert_eq!(case.wrong(&case.drawn_on_the_gpu(true)), 0, "{}", case.name);
        let differ = |continuous| {
            let pairs =
                case.drawn_on_the_gpu(continuous).into_iter().zip(case.drawn_on_the_cpu(continuous));
            pairs.filter(|(g, c)| (g - c).abs() > 1e-5).count()
        };
        assert_eq!(differ(true), 0, "{}", case.name);
        // A value at the edge between two levels may be rounded the other way.
        assert!(differ(false) * 100 <= case.sample.len(), "{}: {} differ", case.name, differ(false));
    }
}

#[test]
fn likelihoods_match_the_published_ones() {
    for case in recorded() {
        let per_pixel = case.parameters.len() / case.pixels();
        for (i, expected) in case.nll.iter().enumerate() {
            let parameters = &case.parameters[i * per_pixel..][..per_pixel];
            let value = &case.value[i * case.channels..][..case.channels];
            let nll = -mixture::log_likelihood(parameters, value);
            assert!((nll - expected).abs() <= 1e-4, "{}, pixel {i}: {nll}, expected {expected}", case.name);
        }
    }
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn noise_has_the_same_bits_on_the_gpu() {
    let source = format!(
        "{THREEFRY}
        @group(0) @binding(0) var<storage, read> inputs: array<vec4<u32>>;
        @group(0) @binding(1) var<storage, read_write> words: array<vec4<u32>>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
            if id.x * 4u >= arrayLength(&words) * 2u {{ return; }}
            let result = threefry(inputs[id.x * 2u], inputs[id.x * 2u + 1u]);
            words[id.x * 2u] = result;
            words[id.x * 2u + 1u] = vec4(
                bitcast<u32>(uniform_of(result.x)), bitcast<u32>(uniform_of(result.y)),
                bitcast<u32>(uniform_of(result.z)), bitcast<u32>(uniform_of(result.w)),
            );
        }}"
    );
    // The counters and keys of Random123's known-answer vectors, then arbitrary ones.
    let mut inputs: Vec<[[u32; 4]; 2]> = vec![
        [[0; 4], [0; 4]],
        [[!0; 4], [!0; 4]],
        [
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0, 0x082e_fa98, 0xec4e_6c89],
        ],
    ];
    for i in 0..1021 {
        let key = threefry([i, 1, 2, 3], [4; 4]);
        inputs.push([[i % 784, i % 5, 0, 0], key]);
    }
    let words = kernel::run(&source, &[bytemuck::cast_slice(&inputs)], inputs.len(), 8 * inputs.len());
    for ([counter, key], words) in inputs.iter().zip(words.chunks(8)) {
        let expected = threefry(*counter, *key);
        assert_eq!(words[..4], expected, "counter {counter:x?}, key {key:x?}");
        assert_eq!(words[4..], expected.map(|w| uniform(w).to_bits()), "words {expected:x?}");
    }
}

/// Probabilities of the 256 levels of the channel after `before`, given the levels of the channels before, of
/// pixels that are drawn at a temperature above 0.
fn probabilities(parameters: &[f32], before: &[u16], channels: usize, how: Draw) -> Vec<f64> {
    let (temperature, truncation) = (f64::from(how.temperature), f64::from(how.truncation));
    // u' = P/2 + (1 − P)·u leaves the middle of the logistic, as large as 1.
    let cumulative = |z: f64| {
        let u = 1.0 / (1.0 + (-z).exp());
        ((u - truncation / 2.0) / (1.0 - truncation)).clamp(0.0, 1.0)
    };
    let kinds = if channels == 3 { 10 } else { 3 };
    let (m, of_channel) = (parameters.len() / kinds, if channels == 3 { 3 } else { 2 });
    let at = |index: usize, i: usize| f64::from(parameters[index * m + i]);
    let x: Vec<f64> = before.iter().map(|&v| (f64::from(v) - 127.5) / 127.5).collect();
    // Mean of component i in channel c, and what its distribution is stretched by.
    let place = |i: usize, c: usize| {
        let coefficient = |k: usize| at(1 + k * of_channel + 2, i).tanh();
        let shift = match c {
            1 => coefficient(0) * x[0],
            2 => coefficient(1) * x[0] + coefficient(2) * x[1],
            _ => 0.0,
        };
        (at(1 + c * of_channel, i) + shift, temperature * at(2 + c * of_channel, i).max(-7.0).exp())
    };
    // Probability of a level below `level` there.
    let below = |(mean, scale): (f64, f64), level: usize| match level {
        0 => 0.0,
        256 => 1.0,
        _ => cumulative(((level as f64 - 128.0) / 127.5 - mean) / scale),
    };
    let mut p = vec![0.0; 256];
    let mut total = 0.0;
    let likelihood = |i| (at(0, i) / temperature).exp();
    let most = (0..m).map(likelihood).fold(0.0, f64::max);
    for i in (0..m).filter(|&i| likelihood(i) >= f64::from(how.min_p) * most) {
        let seen = before.iter().map(|&v| usize::from(v)).enumerate();
        let weight = likelihood(i)
            * seen.map(|(c, v)| below(place(i, c), v + 1) - below(place(i, c), v)).product::<f64>();
        total += weight;
        let own = place(i, before.len());
        let edges: Vec<_> = (0..=256).map(|level| below(own, level)).collect();
        for (p, edge) in p.iter_mut().zip(edges.windows(2)) {
            *p += weight * (edge[1] - edge[0]);
        }
    }
    p.iter_mut().for_each(|p| *p /= total);
    p
}

/// χ² of counts against probabilities, levels with few expected draws taken together, and its degrees of
/// freedom.
fn chi_square(counts: &[u32; 256], probabilities: &[f64]) -> (f64, f64) {
    let draws: f64 = counts.iter().map(|&c| f64::from(c)).sum();
    let mut bins = vec![[0.0, 0.0]];
    for (level, &p) in probabilities.iter().enumerate() {
        if bins.last().is_some_and(|[_, expected]| *expected >= 20.0) {
            bins.push([0.0, 0.0]);
        }
        let [seen, expected] = bins.last_mut().unwrap();
        *seen += f64::from(counts[level]);
        *expected += p * draws;
    }
    // The rest at the end joins the bin before it.
    if let [.., last, rest] = &mut bins[..]
        && rest[1] < 20.0
    {
        *last = [last[0] + rest[0], last[1] + rest[1]];
        bins.pop();
    }
    let chi = bins.iter().map(|[seen, expected]| (seen - expected).powi(2) / expected).sum();
    (chi, (bins.len() as f64 - 1.0).max(1.0))
}

/// The distance of χ² above its mean, in standard deviations, for draws from one pixel's parameters; the
/// scales of the parameters drawn from are multiplied by `factor`.
fn chi_square_of_draws(parameters: &[f32], channels: usize, factor: f32) -> f64 {
    let kinds = if channels == 3 { 10 } else { 3 };
    let (m, of_channel) = (parameters.len() / kinds, if channels == 3 { 3 } else { 2 });
    let mut drawn_from = parameters.to_vec();
    for c in 0..channels {
        let scales = (2 + c * of_channel) * m;
        drawn_from[scales..scales + m].iter_mut().for_each(|s| *s = s.max(-7.0) + factor.ln());
    }
    let mut levels = Vec::new();
    for i in 0..40_000 {
        let noise = |block| Noise::new(1, i).block(0, block);
        let mut pixel = vec![0.0; channels];
        mixture::draw(&drawn_from, noise, Draw::default(), &mut pixel);
        levels.extend(pixel.iter().map(|x| mixture::level(*x)));
    }
    deviation(parameters, channels, Draw::default(), &levels)
}

/// The distance of χ² above its mean, in standard deviations, for pixels drawn from these parameters.
fn deviation(parameters: &[f32], channels: usize, how: Draw, levels: &[u16]) -> f64 {
    let mut counts = vec![[0; 256]; channels];
    let first = &levels[..channels];
    for levels in levels.chunks(channels) {
        // Later channels: only draws whose first channels are those of the first draw.
        for c in (0..channels).filter(|&c| levels[..c] == first[..c]) {
            counts[c][usize::from(levels[c])] += 1;
        }
    }
    let deviations = (0..channels).map(|c| {
        let (chi, freedom) = chi_square(&counts[c], &probabilities(parameters, &first[..c], channels, how));
        (chi - freedom) / (2.0 * freedom).sqrt()
    });
    deviations.fold(f64::NEG_INFINITY, f64::max)
}

/// The likelihood returned for images while they are drawn, within 1e-4 bits per dimension of its
/// definition.
fn likelihoods_of_drawn_images_are_right(on_gpu: bool) {
    let colour = Config { width: 16, height: 8, ..Config::published(8, 1) };
    let mut cases = vec![(with_scales(&Model::synthetic(colour, 1), 0.05), 3)];
    if !on_gpu {
        cases.push((digits(), 8));
    }
    for (model, count) in cases {
        let Config { channels, ref classes, .. } = *model.config().unwrap();
        let want = Want { likelihood: true, parameters: true, ..Want::default() };
        let images = (0..count).map(|i| (i as u64, (!classes.is_empty()).then_some(i % 10)));
        let request = Request::sample(shape(model.config().unwrap()), 3, images).unwrap().wanting(want);
        let drawn = common::engine(on_gpu, &model).run(&request, &mut |_| {}).unwrap();
        let (levels, told, parameters) = (&drawn.levels, &drawn.log_likelihood, &drawn.parameters);
        let bits = |levels_of: usize, parameters_of: usize| {
            let (l, p) = (levels.len() / count, parameters.len() / count);
            bits_of(&parameters[p * parameters_of..][..p], &levels[l * levels_of..][..l], channels)
        };
        for (i, told) in told.chunks(told.len() / count).enumerate() {
            let told = bits_per_dim(told, channels);
            let difference = (told - bits(i, i)).abs();
            assert!(difference <= 1e-4, "{}, image {i}: {told} is off by {difference}", model.name);
            assert!((told - bits((i + 1) % count, i)).abs() > 1e-3, "another image is not noticed");
        }
    }
}

#[test]
fn likelihoods_of_drawn_images_are_right_on_the_cpu() {
    likelihoods_of_drawn_images_are_right(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn likelihoods_of_drawn_images_are_right_on_the_gpu() {
    likelihoods_of_drawn_images_are_right(true);
}

/// A model of 2×2 images, with components that are narrow beside the range of values.
fn tiny(channels: usize, seed: u64) -> Model {
    let config =
        Config { channels, width: 2, height: 2, levels: 1, mixtures: 3, ..Config::published(8, 1) };
    with_scales(&Model::synthetic(config, seed), 0.1)
}

/// Temperature, truncation and min-p follow their definitions, on either engine: the first pixel of many
/// images.
fn steered_draws_follow_their_probabilities(on_gpu: bool) {
    for (channels, seed) in [(1, 1), (3, 2)] {
        let model = tiny(channels, seed);
        let mut engine = common::engine(on_gpu, &model);
        let want = Want { parameters: true, ..Want::default() };
        let mut draw = |how| {
            let (mut pixels, mut parameters) = (Vec::new(), Vec::new());
            for first in (0..20_000).step_by(2000) {
                let images = (first..first + 2000).map(|i| (i, None));
                let request = Request::sample(shape(model.config().unwrap()), 5, images).unwrap();
                let request = request.drawing(how).unwrap().wanting(want).first(1);
                let outcome = engine.run(&request, &mut |_| {}).unwrap();
                pixels.extend(outcome.levels.chunks(4 * channels).flat_map(|image| &image[..channels]));
                parameters = outcome.parameters[..model.config().unwrap().parameters_per_pixel()].to_vec();
            }
            (pixels, parameters)
        };
        let itself = Draw::default();
        let (of_model, parameters) = draw(itself);
        assert!(deviation(&parameters, channels, itself, &of_model) < 6.0);
        for (temperature, truncation, min_p) in
            [(0.7, 0.0, 0.0), (1.0, 0.05, 0.0), (0.7, 0.05, 0.0), (1.0, 0.0, 1.0), (0.5, 0.05, 0.97)]
        {
            let how = Draw { temperature, truncation, min_p, ..itself };
            let (pixels, _) = draw(how);
            let right = deviation(&parameters, channels, how, &pixels);
            assert!(right < 6.0, "{how:?}: χ² is {right:.1} standard deviations off");
            // The result of the other settings is not mistaken for it.
            let wrong = [
                deviation(&parameters, channels, how, &of_model),
                deviation(&parameters, channels, itself, &pixels),
            ];
            assert!(wrong.iter().all(|wrong| *wrong > 6.0), "{how:?}: only {wrong:.1?}");
        }
    }
}

#[test]
fn steered_draws_follow_their_probabilities_on_the_cpu() {
    steered_draws_follow_their_probabilities(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn steered_draws_follow_their_probabilities_on_the_gpu() {
    steered_draws_follow_their_probabilities(true);
}

/// Completions chosen among candidates follow the distribution of the unknown given everything known,
/// including later pixels: the first pixel of a 2×2 image, of which all 256 values can be tried.
#[test]
fn particles_follow_the_exact_posterior() {
    let mut model = tiny(1, 1);
    // So that pixels depend on each other as they do in a trained model.
    for (name, tensor) in &mut model.tensors {
        if name.starts_with("input") {
            tensor.data.iter_mut().for_each(|w| *w *= 4.0);
        }
    }
    let mut engine = CpuEngine::new(&model, 2, 2, 2);
    let known = [90, 160, 120];
    let want = Want { likelihood: true, ..Want::default() };
    let images: Vec<_> = (0..=255).flat_map(|v| [&[v], &known[..]].concat()).collect();
    let all = engine.run(&evaluation(model.config().unwrap(), &images, &[], want), &mut |_| {}).unwrap();
    let joint: Vec<f64> = all.log_likelihood.chunks(4).map(|pixels| pixels.iter().sum()).collect();
    let highest = joint.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let posterior: Vec<_> = joint.iter().map(|l| (l - highest).exp()).collect();
    let total: f64 = posterior.iter().sum();
    let posterior: Vec<_> = posterior.iter().map(|p| p / total).collect();

    let canvas = Canvas::partial([&[0], &known[..]].concat(), vec![false, true, true, true]);
    let mut deviation = |particles: u64, completions| {
        let mut counts = [0; 256];
        for completion in 0..completions {
            let indices = completion * particles..(completion + 1) * particles;
            let lane = |index| Lane { index, canvas: canvas.clone(), ..Lane::default() };
            let request =
                Request::new(shape(model.config().unwrap()), 3, indices.map(lane).collect()).unwrap();
            let drawn = engine.run(&request.wanting(want), &mut |_| {}).unwrap();
            let weights: Vec<f64> =
                drawn.log_likelihood.chunks(4).map(|pixels| pixels[1..].iter().sum()).collect();
            let chosen = choose(&weights, Noise::new(3, completion).beyond(4));
            counts[usize::from(drawn.levels[4 * chosen])] += 1;
        }
        let (chi, freedom) = chi_square(&counts, &posterior);
        (chi - freedom) / (2.0 * freedom).sqrt()
    };
    let (many, one) = (deviation(256, 1500), deviation(1, 30_000));
    assert!(many < 6.0, "256 particles: χ² is {many:.1} standard deviations off");
    assert!(one > 6.0, "1 particle: only {one:.1}");
}

/// Fixed seed; over all cases the largest of ~100 deviations stays below 6 for a right sampler.
#[test]
fn draws_follow_the_exact_probabilities_of_the_levels() {
    for case in recorded() {
        let per_pixel = case.parameters.len() / case.pixels();
        let mut noticed = 0;
        for parameters in case.parameters.chunks(per_pixel).take(12) {
            let deviation = chi_square_of_draws(parameters, case.channels, 1.0);
            assert!(deviation < 6.0, "{}: χ² is {deviation:.1} standard deviations off", case.name);
            noticed += usize::from(chi_square_of_draws(parameters, case.channels, 1.2) > 6.0);
        }
        assert!(noticed > 0, "{}: scales that are 20 % off were never noticed", case.name);
    }
}

/// The edges of the uniform numbers draw the ends of a logistic, not NaN.
#[test]
fn the_edges_of_the_noise_draw_finite_values() {
    for case in recorded() {
        let per_pixel = case.parameters.len() / case.pixels();
        for parameters in case.parameters.chunks(per_pixel) {
            for word in [0, u32::MAX] {
                let noise = |_| [random::uniform(word); 4];
                let mut pixel = vec![f32::NAN; case.channels];
                let how = Draw { continuous: true, ..Draw::default() };
                mixture::draw(parameters, noise, how, &mut pixel);
                assert!(pixel.iter().all(|x| (-1.0..=1.0).contains(x)), "{}", case.name);
            }
        }
    }
}

/// By how many standard deviations the information of sampled images differs from the entropy of the
/// distributions that they were drawn from. Exact: both are sums over the 256 levels of every sub-pixel.
fn information_deviation(model: &Model, images: &[u16], classes: &[usize]) -> f64 {
    let config = model.config().unwrap();
    let mut engine = CpuEngine::new(model, config.width, config.height, 2);
    let parameters = common::parameters(&mut engine, config, images, classes);
    let per_pixel = config.parameters_per_pixel();
    let (mut difference, mut variance) = (0.0, 0.0);
    for (parameters, levels) in parameters.chunks(per_pixel).zip(images.chunks(config.channels)) {
        for c in 0..config.channels {
            let p = probabilities(parameters, &levels[..c], config.channels, Draw::default());
            let information = |p: f64| if p > 0.0 { -p.ln() } else { 0.0 };
            let entropy: f64 = p.iter().map(|&p| p * information(p)).sum();
            let square: f64 = p.iter().map(|&p| p * information(p).powi(2)).sum();
            difference += information(p[usize::from(levels[c])].max(1e-300)) - entropy;
            variance += square - entropy * entropy;
        }
    }
    difference / variance.sqrt()
}

/// Whole images carry as much information as the model's own distributions say, on either engine.
fn samples_carry_the_models_entropy(on_gpu: bool) {
    // With one narrow component, whose scale no other hides.
    let config = Config { mixtures: 1, width: 16, height: 24, ..Config::published(8, 1) };
    let mut cases = vec![(with_scales(&Model::synthetic(config, 1), 0.05), 4)];
    if !on_gpu {
        // Hundreds of digits take minutes on a software adapter.
        cases.push((digits(), 240));
    }
    for (model, count) in cases {
        let config = model.config().unwrap();
        let classes: Vec<_> = (0..count).filter(|_| !config.classes.is_empty()).map(|i| i % 10).collect();
        let images = (0..count).map(|i| (i as u64, classes.get(i).copied()));
        let request = Request::sample(shape(config), 3, images).unwrap();
        let draw = |model: &Model| common::sample(&mut *common::engine(on_gpu, model), &request);
        let right = information_deviation(&model, &draw(&model), &classes);
        assert!(right.abs() < 4.0, "{}: {right:.2} standard deviations", model.name);
        let wrong = information_deviation(&model, &draw(&with_scales(&model, 1.1)), &classes);
        assert!(wrong.abs() > 4.0, "{}: scales 10 % too large: only {wrong:.2}", model.name);
    }
}

#[test]
fn samples_carry_the_models_entropy_on_the_cpu() {
    samples_carry_the_models_entropy(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn samples_carry_the_models_entropy_on_the_gpu() {
    samples_carry_the_models_entropy(true);
}
