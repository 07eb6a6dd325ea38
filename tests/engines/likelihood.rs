//! Log-likelihoods as the likelihood kernel computes them, against their definition in 64 bits, which in turn is compared
//! with recorded numbers in `sampling.rs`.

use crate::common::{
    architectures, chosen, engine, evaluation, gpu_with, kernel, random_images, with_scales,
};
use pixelcnn::internals::engine::gpu::Options;
use pixelcnn::internals::engine::gpu::shaders::{MATH, MIDDLE, anchors, likelihood};
use pixelcnn::internals::engine::{Engine, Method, Want};
use pixelcnn::internals::head::logistic_mixture as mixture;
use pixelcnn::internals::model::{Config, Model};
use pixelcnn::internals::sampling::random::Noise;

/// Pixels with parameters: `[N, P]`, `[N, C]`.
struct Pixels {
    channels: usize,
    mixtures: usize,
    parameters: Vec<f32>,
    levels: Vec<u16>,
}

/// In nats. The bound that the kernel states.
fn tolerance(expected: f64) -> f64 {
    1e-5_f64.max(1e-6 * expected.abs())
}

impl Pixels {
    /// Parameters of every size: as networks give them, with scales down to the least, and far beyond. Every other level is
    /// near the mean of a component, where a small scale leaves little room for error; a tenth is 0 or 255.
    fn random(channels: usize, mixtures: usize, count: usize) -> Self {
        let kinds = if channels == 3 { 10 } else { 3 };
        let (of_channel, per_pixel) = (if channels == 3 { 3 } else { 2 }, kinds * mixtures);
        let (mut parameters, mut levels) = (Vec::new(), Vec::new());
        for i in 0..count {
            let mut draws = vec![0.0; per_pixel + 2 * channels];
            Noise::new((100 * channels + mixtures) as u64, i as u64).uniforms(0, &mut draws);
            let (of_parameters, of_levels) = draws.split_at(per_pixel);
            // Spread and middle of logits, means, log-scales and coefficients.
            let spread = [
                [(2.0, 0.0), (2.0, 0.0), (7.0, -3.5), (3.0, 0.0)],
                [(6.0, 0.0), (3.0, 0.0), (1.0, -7.0), (6.0, 0.0)],
                [(20.0, 0.0), (10.0, 0.0), (40.0, 0.0), (20.0, 0.0)],
                [(200.0, 0.0), (2e5, 0.0), (40.0, -10.0), (2e3, 0.0)],
            ][i % 4];
            let own: Vec<f32> = (of_parameters.iter().enumerate())
                .map(|(at, u)| {
                    let kind = match at / mixtures {
                        0 => 0,
                        block => 1 + (block - 1) % of_channel,
                    };
                    let (width, middle) = spread[kind];
                    middle + width * (u - 0.5)
                })
                .collect();
            let component = i / 4 % mixtures;
            let at =
                |c: usize, kind: usize| f64::from(own[mixtures * (1 + c * of_channel + kind) + component]);
            let mut x = Vec::new();
            for c in 0..channels {
                let shift = match c {
                    1 => at(0, 2).tanh() * x[0],
                    2 => at(1, 2).tanh() * x[0] + at(2, 2).tanh() * x[1],
                    _ => 0.0,
                };
                let [u, chance] = [of_levels[2 * c], of_levels[2 * c + 1]];
                let level = match chance {
                    ..0.05 => 0,
                    0.05..0.1 => 255,
                    0.1..0.5 => (256.0 * u) as u16,
                    // Up to two levels beside it.
                    _ => mixture::level((at(c, 0) + shift) as f32 + (u - 0.5) / 25.0),
                };
                levels.push(level);
                x.push((f64::from(level) - 127.5) / 127.5);
            }
            parameters.extend(own);
        }
        Self { channels, mixtures, parameters, levels }
    }

    fn pairs(&self) -> impl Iterator<Item = (&[f32], &[u16])> {
        let kinds = if self.channels == 3 { 10 } else { 3 };
        self.parameters.chunks(kinds * self.mixtures).zip(self.levels.chunks(self.channels))
    }

    fn by_definition(&self) -> Vec<f64> {
        self.pairs().map(|(parameters, levels)| mixture::log_likelihood(parameters, levels)).collect()
    }

    /// By the functions of the likelihood kernel.
    fn on_the_gpu(&self, likelihood: &str, anchors: &[i32]) -> Vec<f64> {
        let (m, c, pixels) = (self.mixtures, self.channels, self.levels.len() / self.channels);
        let source = format!(
            "{MATH}\n{likelihood}
            @group(0) @binding(0) var<storage, read> parameters: array<f32>;
            @group(0) @binding(1) var<storage, read> pixels: array<vec4<f32>>;
            @group(0) @binding(2) var<storage, read> anchors: array<i32>;
            @group(0) @binding(3) var<storage, read_write> results: array<f32>;
            var<private> item: u32;
            fn parameter(i: u32) -> f32 {{ return parameters[item * {per_pixel}u + i]; }}
            fn anchor(k: u32) -> i32 {{ return anchors[k]; }}
            @compute @workgroup_size(64)
            fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
                item = id.x;
                if item >= {pixels}u {{ return; }}
                results[item] = log_likelihood(pixels[item].xyz, {m}u, {c}u);
            }}",
            per_pixel = self.parameters.len() / pixels,
        );
        let mut values = vec![[0.0f32; 4]; pixels];
        for (value, levels) in values.iter_mut().zip(self.levels.chunks(c)) {
            value.iter_mut().zip(levels).for_each(|(x, &level)| *x = f32::from(level) - MIDDLE);
        }
        let inputs = [
            bytemuck::cast_slice(&self.parameters),
            bytemuck::cast_slice(&values),
            bytemuck::cast_slice(anchors),
        ];
        let words = kernel::run(&source, &inputs, pixels, pixels);
        words.into_iter().map(|word| f64::from(f32::from_bits(word))).collect()
    }

    /// True if a bin of a pixel has a probability of 1e-5 to within rounding: the definition takes one of
    /// two forms there, which differ.
    fn is_on_the_edge(&self, parameters: &[f32], levels: &[u16]) -> bool {
        let (m, of_channel) = (self.mixtures, if self.channels == 3 { 3 } else { 2 });
        let x: Vec<f64> = levels.iter().map(|&v| (f64::from(v) - 127.5) / 127.5).collect();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        (0..m).any(|i| {
            let at = |c: usize, kind: usize| f64::from(parameters[m * (1 + c * of_channel + kind) + i]);
            (0..self.channels).any(|c| {
                let mean = at(c, 0)
                    + match c {
                        1 => at(0, 2).tanh() * x[0],
                        2 => at(1, 2).tanh() * x[0] + at(2, 2).tanh() * x[1],
                        _ => 0.0,
                    };
                let scale = at(c, 1).max(-7.0).exp();
                let edge = |side: f64| -((x[c] - mean).abs() + side / 255.0) / scale;
                let mass = sigmoid(edge(-1.0)) - sigmoid(edge(1.0));
                (mass / 1e-5 - 1.0).abs() < 1e-4
            })
        })
    }

    /// The largest error in tolerances, and in nats where the logarithm is over −10.
    fn worst(&self, got: &[f64], expected: &[f64]) -> [f64; 2] {
        let mut worst = [0.0; 2];
        let mut left_out = 0;
        for ((got, expected), (parameters, levels)) in got.iter().zip(expected).zip(self.pairs()) {
            if self.is_on_the_edge(parameters, levels) {
                left_out += 1;
                continue;
            }
            // So that NaN is the worst of all.
            let error = if got.is_finite() { (got - expected).abs() } else { f64::INFINITY };
            worst[0] = f64::max(worst[0], error / tolerance(*expected));
            if *expected > -10.0 {
                worst[1] = f64::max(worst[1], error);
            }
        }
        assert!(left_out * 20 < got.len(), "{left_out} of {} are left out", got.len());
        worst
    }
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn the_kernel_follows_the_definition() {
    for (channels, mixtures) in [(1, 1), (1, 10), (1, 130), (3, 1), (3, 5), (3, 10), (3, 100)] {
        let mut pixels = Pixels::random(channels, mixtures, if mixtures > 10 { 1000 } else { 8000 });
        let expected = pixels.by_definition();
        let worst = pixels.worst(&pixels.on_the_gpu(&likelihood(), &anchors()), &expected);
        println!(
            "{channels} channels, {mixtures} components: {:.2} tolerances, {:.1e} nats",
            worst[0], worst[1]
        );
        assert!(worst[0] <= 1.0, "{channels} channels, {mixtures} components: {} tolerances", worst[0]);

        // The twins: no whole numbers, all means a little larger, and anchors of tanh a little off.
        let plain = likelihood().replace("return i32(clamp(x, -3.5, 3.5) * 0x1p29f);", "return 0;");
        let worst = pixels.worst(&pixels.on_the_gpu(&plain, &anchors()), &expected);
        println!("    in plain floats: {:.2} tolerances, {:.1e} nats", worst[0], worst[1]);
        assert!(mixtures > 1 || worst[0] > 2.0, "plain floats would do: {} tolerances", worst[0]);
        let per_pixel = pixels.parameters.len() * channels / pixels.levels.len();
        for of_pixel in pixels.parameters.chunks_mut(per_pixel) {
            of_pixel[mixtures..2 * mixtures].iter_mut().for_each(|mean| *mean += 1e-6);
        }
        let worst = pixels.worst(&pixels.on_the_gpu(&likelihood(), &anchors()), &expected);
        assert!(worst[0] > 10.0, "means that are 1e-6 off are not noticed: {} tolerances", worst[0]);
        if channels == 3 {
            let expected = pixels.by_definition();
            let off: Vec<_> = anchors().iter().map(|anchor| anchor + 512).collect();
            let worst = pixels.worst(&pixels.on_the_gpu(&likelihood(), &off), &expected);
            assert!(worst[0] > 10.0, "anchors that are 1e-6 off are not noticed: {} tolerances", worst[0]);
        }
    }
}

/// Whatever is finite has a likelihood: parameters of every exponent, each at every place.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn the_kernel_gives_numbers_for_all_finite_parameters() {
    for channels in [1, 3] {
        let mixtures = 2;
        let mut pixels = Pixels::random(channels, mixtures, 4000);
        let sizes = [0.0, 1e-45, 1e-38, 1e-7, 88.0, 104.0, 1e5, 1e19, 1e30, f32::MAX];
        let mut draws = vec![0.0; pixels.parameters.len()];
        Noise::new(5, 5).uniforms(0, &mut draws);
        for (parameter, u) in pixels.parameters.iter_mut().zip(&draws) {
            let index = (u * 20.0) as usize;
            *parameter = if index < 10 { sizes[index] } else { -sizes[index - 10] };
        }
        let got = pixels.on_the_gpu(&likelihood(), &anchors());
        let wrong = got.iter().filter(|got| !got.is_finite() || **got >= 1e-5).count();
        assert_eq!(wrong, 0, "of {} pixels", got.len());
    }
}

/// The likelihoods that engines return for given images follow from the parameters that they return, also
/// at a log-likelihood of −1e5 and less.
fn told_is_what_parameters_say(on_gpu: bool) {
    let all = architectures().into_iter().zip([1.0, 1e-3, 0.05, 1.0]).collect();
    for (config, factor) in chosen(on_gpu, 1, all) {
        let model = with_scales(&Model::synthetic(config.clone(), 1), factor);
        let (images, classes) = random_images(&config, 2, 3);
        let want = Want { likelihood: true, parameters: true, trace: false };
        let mut engine = engine(on_gpu, &model);
        for method in [Method::Cached, Method::ByPixel] {
            let request = evaluation(&config, &images, &classes, want).by(method);
            let outcome = engine.run(&request, &mut |_| {}).unwrap();
            let parameters = outcome.parameters.chunks(config.parameters_per_pixel());
            let pixels = parameters.zip(images.chunks(config.channels));
            let expected: Vec<_> = pixels.map(|(p, l)| mixture::log_likelihood(p, l)).collect();
            let differ = |told: &[f64]| {
                let close =
                    |(told, expected): (&f64, &f64)| (told - expected).abs() <= tolerance(*expected);
                told.iter().zip(&expected).filter(|pair| !close(*pair)).count()
            };
            assert_eq!(outcome.log_likelihood.len(), expected.len());
            // At most one that lies on the edge between two forms.
            assert!(differ(&outcome.log_likelihood) <= 1, "{method:?}, {config:?}");
            let mut turned = outcome.log_likelihood.clone();
            turned.rotate_left(1);
            assert!(differ(&turned) * 2 > expected.len(), "another pixel is not noticed");
            if factor < 0.01 {
                assert!(expected.iter().sum::<f64>() < -1e5, "they are not far off");
            }
        }
    }
}

#[test]
fn told_is_what_parameters_say_on_the_cpu() {
    told_is_what_parameters_say(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn told_is_what_parameters_say_on_the_gpu() {
    told_is_what_parameters_say(true);
}

/// The naive method returns it too, for the pixels that it computes.
fn the_naive_method_tells_the_same(on_gpu: bool) {
    let config = Config { height: 8, width: 12, ..architectures()[0].clone() };
    let model = Model::synthetic(config.clone(), 1);
    let (images, classes) = random_images(&config, 2, 2);
    let want = Want { likelihood: true, ..Want::default() };
    let mut engine = engine(on_gpu, &model);
    let mut told = |method, pixels| {
        let request = evaluation(&config, &images, &classes, want).by(method).first(pixels);
        engine.run(&request, &mut |_| {}).unwrap().log_likelihood
    };
    let expected = told(Method::Cached, 96);
    for pixels in [15, 24] {
        let naive = told(Method::Naive, pixels);
        for (naive, expected) in naive.chunks(96).zip(expected.chunks(96)) {
            let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-3;
            assert!(naive.iter().zip(expected).take(pixels).all(close), "{pixels} pixels");
            assert!(!naive.iter().zip(expected).any(|(a, b)| close((a, &(b + 0.01)))), "nothing is told");
        }
    }
}

#[test]
fn the_naive_method_tells_the_same_on_the_cpu() {
    the_naive_method_tells_the_same(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn the_naive_method_tells_the_same_on_the_gpu() {
    the_naive_method_tells_the_same(true);
}

/// A likelihood costs one dispatch a row, and no number that is read back: it comes with its pixel. Parameters are read
/// where they are wanted, and nowhere else.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn no_more_is_read_back_than_is_wanted() {
    for config in chosen(true, 2, architectures()) {
        let model = Model::synthetic(config.clone(), 1);
        let (images, classes) = random_images(&config, 2, 3);
        let mut engine = gpu_with(&model, config.width, config.height, Options::default());
        let mut cost = |likelihood, parameters, method| {
            let want = Want { likelihood, parameters, trace: false };
            let before = engine.counts();
            let request = evaluation(&config, &images, &classes, want).by(method);
            engine.run(&request, &mut |_| {}).unwrap();
            engine.counts().since(before)
        };
        for method in [Method::Cached, Method::ByPixel] {
            let [nothing, likelihood, both] =
                [(false, false), (true, false), (true, true)].map(|(l, p)| cost(l, p, method));
            // Four numbers a pixel, and a flag for each image, in quads of four.
            let pixels = (3 * config.width * config.height) as u64;
            assert_eq!(nothing.read, 16 * (pixels + 1));
            assert_eq!(likelihood.read, nothing.read);
            let padded = config.parameters_per_pixel().next_multiple_of(4) as u64;
            assert_eq!(both.read, likelihood.read + 4 * padded * pixels);
            assert_eq!(likelihood.dispatches, nothing.dispatches + config.height as u64);
            assert_eq!(
                (likelihood.submissions, both.submissions),
                (nothing.submissions, nothing.submissions)
            );
        }
    }
}
