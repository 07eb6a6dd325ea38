//! The engines against the full network, layer by layer, and against each other.

use crate::common::{
    VARIANTS, architectures, chosen, conditional_architectures, digits, engine, evaluation,
    first_difference, gpu_with, in_turn, network, parameters, parameters_by, random_images, sample, shape,
    trace,
};
use pixelcnn::internals::engine::cost::Predictor;
use pixelcnn::internals::engine::cpu::{CpuEngine, full};
use pixelcnn::internals::engine::gpu::Options;
use pixelcnn::internals::engine::gpu::dispatch::DeviceFacts;
use pixelcnn::internals::engine::gpu::plan::Plan;
use pixelcnn::internals::engine::{Canvas, Draw, Engine, EngineError, Lane, Method, Request, Room, Want};
use pixelcnn::internals::graph::network::{Layer, depth};
use pixelcnn::internals::model::{Config, Model, Nonlinearity, Precision};
use pixelcnn::internals::sampling::random::Noise;

/// Engines sum in other orders, in 32-bit floats, over a few hundred terms of size 1 a layer.
const TOLERANCE: f32 = 1e-4;

fn all_architectures() -> Vec<Config> {
    architectures().into_iter().chain(conditional_architectures()).collect()
}

/// A model with the largest number of components, constant over the image: only their logits have weights.
fn of_constant_components() -> Model {
    let mixtures = Config::limit("mixtures");
    let config = Config { mixtures, ..architectures()[0].clone() };
    let mut model = Model::synthetic(config, 1);
    let weight = model.tensors.get_mut("output.weight").unwrap();
    let outputs = weight.shape[1];
    weight.data.chunks_mut(outputs).for_each(|row| row[mixtures..].fill(0.0));
    model
}

/// Every layer at every pixel equals the full network's.
fn layers_match_the_full_network(on_gpu: bool) {
    let models =
        chosen(on_gpu, 8, all_architectures()).into_iter().map(|config| Model::synthetic(config, 1));
    for model in models.chain([of_constant_components()]) {
        let config = model.config().unwrap().clone();
        let (image, classes) = random_images(&config, 2, 1);
        // Not the first class, which models without classes have too.
        let class = classes.first().map(|_| 2);
        let expected = full::trace(&model, config.width, config.height, &image, class);
        let mut engine = engine(on_gpu, &model);
        for method in [Method::ByPixel, Method::Cached] {
            let got = trace(method, &mut *engine, &config, &image, class);
            if let Some(difference) = first_difference(&config, &got, &expected, TOLERANCE) {
                panic!("{method:?}, {config:?}\n{difference}");
            }
        }
    }
}

#[test]
fn layers_match_the_full_network_on_the_cpu() {
    layers_match_the_full_network(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn layers_match_the_full_network_on_the_gpu() {
    layers_match_the_full_network(true);
}

/// The comparison above fails in the right layer if one number of the model is off by 100 tolerances.
fn a_wrong_weight_is_noticed(on_gpu: bool) {
    let config = Config { levels: 2, dilations: vec![1, 2], ..architectures()[0].clone() };
    let model = Model::synthetic(config.clone(), 1);
    let (image, classes) = random_images(&config, 2, 1);
    let class = classes.first().copied();
    let right = full::trace(&model, config.width, config.height, &image, class);
    for (tensor, layer) in [
        ("input.vertical.weight", "input.vertical"),
        ("input.vertical.bias", "input.vertical"),
        ("input.above.weight", "input.horizontal"),
        ("input.left.bias", "input.horizontal"),
        ("up.0.block.0.vertical.conv_in.weight", "up.0.block.0.vertical.conv_in"),
        ("up.0.block.0.horizontal.conv_out.weight", "up.0.block.0.horizontal.conv_out"),
        ("up.0.block.0.horizontal.skip.weight", "up.0.block.0.horizontal.conv_in"),
        ("up.0.block.0.vertical.class.weight", "up.0.block.0.vertical.conv_out"),
        ("up.0.stride.vertical.weight", "up.0.stride.vertical"),
        ("up.0.stride.horizontal.weight", "up.0.stride.horizontal"),
        ("down.1.stride.vertical.weight", "down.1.stride.vertical"),
        ("down.1.stride.horizontal.bias", "down.1.stride.horizontal"),
        ("down.0.block.1.vertical.conv_in.weight", "down.0.block.1.vertical.conv_in"),
        ("down.0.block.1.horizontal.skip.bias", "down.0.block.1.horizontal.conv_in"),
        ("output.weight", "output"),
    ] {
        let mut wrong = model.clone();
        wrong.tensors.get_mut(tensor).unwrap().data[0] += 100.0 * TOLERANCE;
        let got = trace(Method::ByPixel, &mut *engine(on_gpu, &wrong), &config, &image, class);
        let difference = first_difference(&config, &got, &right, TOLERANCE)
            .unwrap_or_else(|| panic!("{tensor} was changed and nothing was noticed"));
        assert!(difference.starts_with(&format!("{layer}: ")), "{tensor} was changed, but {difference}");
    }
}

#[test]
fn a_wrong_weight_is_noticed_on_the_cpu() {
    a_wrong_weight_is_noticed(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_wrong_weight_is_noticed_on_the_gpu() {
    a_wrong_weight_is_noticed(true);
}

/// Two batches in a row, the second smaller, then larger: nothing of the first is left in the caches.
fn caches_are_cleared_between_batches(on_gpu: bool) {
    for config in chosen(on_gpu, 2, all_architectures()) {
        let model = Model::synthetic(config.clone(), 3);
        let mut engine = engine(on_gpu, &model);
        for (seed, count) in [(10, 3), (11, 2), (12, 5)] {
            let (images, classes) = random_images(&config, seed, count);
            let expected = full::parameters(&model, config.width, config.height, &images, &classes, 2);
            let got = parameters(&mut *engine, &config, &images, &classes);
            let worst = got.iter().zip(&expected).map(|(g, e)| (g - e).abs()).fold(0.0, f32::max);
            assert!(worst <= TOLERANCE, "{count} images of {config:?}: off by {worst}");
        }
    }
}

#[test]
fn caches_are_cleared_between_batches_on_the_cpu() {
    caches_are_cleared_between_batches(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn caches_are_cleared_between_batches_on_the_gpu() {
    caches_are_cleared_between_batches(true);
}

fn request(config: &Config, first: u64, count: usize) -> Request {
    request_of(7, config, first, count)
}

fn request_of(seed: u64, config: &Config, first: u64, count: usize) -> Request {
    let classes = config.classes.len() as u64;
    let class = |i: u64| i.checked_rem(classes).map(|class| class as usize);
    Request::sample(shape(config), seed, (first..first + count as u64).map(|i| (i, class(i)))).unwrap()
}

#[test]
fn an_image_is_the_same_bit_for_bit_at_any_batch_and_thread_count() {
    let digits = digits();
    let models = architectures().into_iter().map(|config| Model::synthetic(config, 5));
    for model in models.chain([digits]) {
        let config = model.config().unwrap();
        let mut two_threads = CpuEngine::new(&model, config.width, config.height, 2);
        let all = sample(&mut two_threads, &request(config, 0, 64));
        for threads in [1, 2] {
            let mut engine = CpuEngine::new(&model, config.width, config.height, threads);
            for (first, count) in [(0, 1), (5, 3), (60, 4), (1, 63)] {
                let some = sample(&mut engine, &request(config, first, count));
                let start = first as usize * config.dimensions();
                let same = some.iter().zip(&all[start..]).all(|(a, b)| a == b);
                assert!(same, "images {first}.. of {count} on {threads} threads, {config:?}");
            }
        }
        let other_seed = request_of(8, config, 0, 64);
        assert!(sample(&mut two_threads, &other_seed) != all, "the seed does nothing");
    }
}

#[test]
fn parameters_are_the_same_bit_for_bit_by_row_and_by_pixel() {
    for config in architectures().into_iter().chain(conditional_architectures()) {
        let model = Model::synthetic(config.clone(), 5);
        let (images, classes) = random_images(&config, 6, 5);
        let mut engine = CpuEngine::new(&model, config.width, config.height, 2);
        let by_row = parameters(&mut engine, &config, &images, &classes);
        let by_pixel = parameters_by(Method::ByPixel, &mut engine, &config, &images, &classes);
        assert!(by_row.iter().zip(&by_pixel).all(|(a, b)| a.to_bits() == b.to_bits()), "{config:?}");
    }
}

/// Sampling and evaluation agree: an image's pixels follow from its own parameters and noise.
fn sampling_uses_the_parameters_that_evaluation_gives(on_gpu: bool) {
    let models = chosen(on_gpu, 1, architectures()).into_iter().map(|config| Model::synthetic(config, 9));
    for model in models.chain([of_constant_components()]) {
        let config = model.config().unwrap().clone();
        let mut engine = engine(on_gpu, &model);
        let request = request(&config, 3, 2);
        let images = sample(&mut *engine, &request);
        let classes: Vec<_> = request.lanes().iter().filter_map(|lane| lane.class).collect();
        let parameters = parameters(&mut *engine, &config, &images, &classes);
        let per_pixel = config.parameters_per_pixel();
        let pixels = config.height * config.width;
        let mut flipped = 0;
        for (at, pixel) in images.chunks(config.channels).enumerate() {
            let noise = Noise::new(request.seed(), request.lanes()[at / pixels].index).at(at % pixels);
            let (mut expected, mut values) = (vec![0; config.channels], vec![0.0; config.channels]);
            let parameters = &parameters[at * per_pixel..][..per_pixel];
            config.head().draw(0, parameters, noise, request.draw(), &mut expected, &mut values);
            // A rounding may fall the other way on another device.
            flipped += usize::from(pixel != expected);
        }
        assert!(flipped * 500 <= 2 * pixels, "{flipped} of {} pixels differ", 2 * pixels);
        assert!(on_gpu || flipped == 0, "the CPU engine contradicts itself");
    }
}

/// The network sees unrounded values: the same pixels until a rounded value has had an effect, and the
/// levels of the values are returned.
fn unrounded_values_are_seen(on_gpu: bool) {
    let config = architectures()[0].clone();
    let model = Model::synthetic(config.clone(), 9);
    let mut engine = engine(on_gpu, &model);
    let want = Want { parameters: true, ..Want::default() };
    let mut drawn = |continuous| {
        let draw = Draw { continuous, ..Draw::default() };
        let request = request(&config, 3, 1).drawing(draw).unwrap().wanting(want);
        let outcome = engine.run(&request, &mut |_| {}).unwrap();
        (outcome.levels, outcome.parameters)
    };
    let ((levels, rounded), (unrounded_levels, unrounded)) = (drawn(false), drawn(true));
    assert_eq!(levels[0], unrounded_levels[0], "the first value falls into its level");
    // Half a level, at most, of a value of the order of 1: seen, and small. A value at an end is its level's own.
    let pixels =
        rounded.chunks(config.parameters_per_pixel()).zip(unrounded.chunks(config.parameters_per_pixel()));
    let largest =
        |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let first = pixels.map(largest).find(|largest| *largest > 1e-6).expect("rounding changes nothing");
    assert!(first < 0.05, "{first}");
}

#[test]
fn unrounded_values_are_seen_on_the_cpu() {
    unrounded_values_are_seen(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn unrounded_values_are_seen_on_the_gpu() {
    unrounded_values_are_seen(true);
}

#[test]
fn sampling_uses_the_parameters_that_evaluation_gives_on_the_cpu() {
    sampling_uses_the_parameters_that_evaluation_gives(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn sampling_uses_the_parameters_that_evaluation_gives_on_the_gpu() {
    sampling_uses_the_parameters_that_evaluation_gives(true);
}

/// Kernels are chosen by the number of positions: each choice gives the same parameters. So does a chain.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn parameters_agree_at_any_batch_on_the_gpu() {
    let config = architectures()[0].clone();
    let model = Model::synthetic(config.clone(), 3);
    let (images, classes) = random_images(&config, 4, 40);
    let expected = full::parameters(&model, config.width, config.height, &images, &classes, 2);
    let per_image = expected.len() / 40;
    let ways = [(1, false), (3, true), (8, false), (31, true), (40, false), (40, true)];
    for &(batch, chain) in in_turn(2, &ways) {
        let options = Options { chain: Some(chain), ..Options::default() };
        let mut engine = gpu_with(&model, config.width, config.height, options);
        let images = &images[..batch * config.dimensions()];
        let got = parameters_by(Method::ByPixel, &mut engine, &config, images, &classes[..batch]);
        let pairs = got.iter().zip(&expected[..batch * per_image]);
        let worst = pairs.map(|(g, e)| (g - e).abs()).fold(0.0, f32::max);
        assert!(worst <= TOLERANCE, "batch {batch}: off by {worst}");
    }
}

/// Finite weights can still overflow; then there must be neither images nor likelihoods.
fn a_nan_is_an_error(on_gpu: bool) {
    let mut model = Model::synthetic(architectures()[0].clone(), 1);
    for (_, tensor) in model.tensors.iter_mut().filter(|(name, _)| name.ends_with("conv_out.weight")) {
        tensor.data.iter_mut().for_each(|w| *w *= 1e30);
    }
    let (images, classes) = random_images(model.config().unwrap(), 2, 2);
    let evaluation = |want, method| {
        let lanes = images.chunks(model.config().unwrap().dimensions()).zip(&classes).zip(4..);
        let lane = |((image, class), index): ((&[u16], &usize), u64)| Lane {
            index,
            class: Some(*class),
            canvas: Canvas::full(image.to_vec()),
        };
        let request = Request::new(shape(model.config().unwrap()), 0, lanes.map(lane).collect()).unwrap();
        request.wanting(want).by(method)
    };
    let nothing = Want::default();
    let likelihood = Want { likelihood: true, ..nothing };
    for request in [
        request(model.config().unwrap(), 4, 2),
        evaluation(nothing, Method::Cached),
        evaluation(likelihood, Method::Cached),
        evaluation(likelihood, Method::ByPixel),
    ] {
        match engine(on_gpu, &model).run(&request, &mut |_| {}) {
            Err(EngineError::NotFinite { image: 4 | 5, .. }) => {}
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("something was made of NaN"),
        }
    }
}

#[test]
fn a_nan_is_an_error_on_the_cpu() {
    a_nan_is_an_error(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_nan_is_an_error_on_the_gpu() {
    a_nan_is_an_error(true);
}

/// Any number of the model that is not finite, after any activation, makes the job an error; the engine's
/// next job is unaffected.
fn a_number_that_is_not_finite_is_noticed_in_every_tensor(on_gpu: bool) {
    // A class at every place, and an activation that maps −∞ to −1.
    let config = Config {
        width: 8,
        height: 8,
        levels: 2,
        filters: 4,
        mixtures: 2,
        nonlinearity: Nonlinearity::Elu,
        ..conditional_architectures().into_iter().find(|config| config.class_places.len() > 1).unwrap()
    };
    let config = Config { dilations: vec![1; config.blocks + 1], ..config };
    let last = config.classes.len() - 1;
    let model = Model::synthetic(config.clone(), 3);
    let (image, _) = random_images(&config, 4, 1);
    let requests = |class: usize| {
        let drawing = Request::sample(shape(&config), 7, [(5, Some(class))]).unwrap();
        let want = Want { likelihood: true, ..Want::default() };
        let evaluation = evaluation(&config, &image, &[class], want);
        [drawing, evaluation.clone().by(Method::ByPixel), evaluation]
    };
    let names: Vec<_> = match on_gpu {
        false => model.tensors.keys().cloned().collect(),
        // One of each kind: a device for each takes its time.
        true => KINDS.map(str::to_owned).to_vec(),
    };
    for name in names {
        // The last of a class tensor is the last class's; the last of a gate's, its second half.
        let places = [
            (f32::NAN, 0, 0),
            (f32::NEG_INFINITY, 0, 0),
            (f32::NAN, model.tensors[&name].data.len() - 1, last),
        ];
        for (value, at, class) in places.into_iter().skip(if on_gpu { 2 } else { 0 }) {
            let mut broken = model.clone();
            broken.tensors.get_mut(&name).unwrap().data[at] = value;
            let mut engine = engine(on_gpu, &broken);
            for request in requests(class) {
                match engine.run(&request, &mut |_| {}) {
                    Err(error @ EngineError::NotFinite { image: 0 | 5, .. }) => {
                        assert!(error.to_string().contains("gave NaN or infinity for image"));
                    }
                    other => {
                        panic!("{value} at {at} of {name}: {:?}", other.map(|_| "something was made of it"))
                    }
                }
            }
            // The tables of the other classes are finite.
            if name.contains(".class.") {
                for request in requests(last - class) {
                    let good = self::engine(on_gpu, &model).run(&request, &mut |_| {}).unwrap();
                    let after = engine.run(&request, &mut |_| {}).unwrap();
                    assert!(after.levels == good.levels && after.log_likelihood == good.log_likelihood);
                }
            }
        }
    }
}

/// A tensor of every kind of layer.
const KINDS: [&str; 20] = [
    "input.vertical.weight",
    "input.above.bias",
    "input.left.weight",
    "input.vertical.class.weight",
    "input.horizontal.class.weight",
    "up.0.block.0.vertical.conv_in.weight",
    "up.0.block.0.vertical.conv_out.weight",
    "up.0.block.0.horizontal.conv_in.class.weight",
    "up.0.block.0.horizontal.conv_out.bias",
    "up.0.block.0.horizontal.skip.weight",
    "up.0.stride.horizontal.weight",
    "bottleneck.vertical.class.weight",
    "bottleneck.horizontal.class.weight",
    "up.0.block.0.vertical.remembered.class.weight",
    "down.1.block.0.vertical.skip.weight",
    "down.1.stride.vertical.bias",
    "down.0.block.1.horizontal.conv_out.weight",
    "down.0.block.1.horizontal.class.weight",
    "output.class.weight",
    "output.weight",
];

#[test]
fn a_number_that_is_not_finite_is_noticed_in_every_tensor_on_the_cpu() {
    a_number_that_is_not_finite_is_noticed_in_every_tensor(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_number_that_is_not_finite_is_noticed_in_every_tensor_on_the_gpu() {
    a_number_that_is_not_finite_is_noticed_in_every_tensor(true);
}

/// Draws with given pixels: nothing given is the sample, all given the evaluation, and pixels after given
/// ones depend on them as in a full run. Mixed in one batch.
fn given_pixels_are_taken(on_gpu: bool) {
    let configs = architectures().into_iter().chain(conditional_architectures().pop()).collect();
    for config in chosen(on_gpu, 1, configs) {
        let model = Model::synthetic(config.clone(), 9);
        let mut engine = engine(on_gpu, &model);
        let want = Want { likelihood: true, parameters: true, trace: false };
        let drawn = engine.run(&request(&config, 3, 4).wanting(want), &mut |_| {}).unwrap();
        let pixels = config.width * config.height;
        let image = |i: usize| drawn.levels[i * config.dimensions()..][..config.dimensions()].to_vec();
        // As drawn, with the top half, or scattered pixels, or all of it given.
        let half = |p: usize| p < pixels / 2;
        let scattered = |p: usize| p.is_multiple_of(3) || p % config.width > 5;
        let mask = |is_given: &dyn Fn(usize) -> bool| (0..pixels).map(is_given).collect();
        let mut lanes = request(&config, 3, 4).lanes().to_vec();
        lanes[1].canvas = Canvas::partial(image(1), mask(&half));
        lanes[2].canvas = Canvas::partial(image(2), mask(&scattered));
        lanes[3].canvas = Canvas::full(image(3));
        let mut complete = |lanes: &[Lane]| {
            let request = Request::new(shape(&config), 7, lanes.to_vec()).unwrap().wanting(want);
            engine.run(&request, &mut |_| {}).unwrap()
        };
        let completed = complete(&lanes);
        // On a GPU too: it is the same work, a pixel at a time.
        assert!(completed.levels == drawn.levels, "{config:?}");
        assert!(completed.parameters == drawn.parameters, "{config:?}");
        assert!(completed.log_likelihood == drawn.log_likelihood, "{config:?}");

        // Rows given in all lanes are computed as rows.
        lanes[0].canvas = Canvas::partial(image(0), mask(&half));
        lanes[2].canvas = Canvas::partial(image(2), mask(&|p| half(p) || scattered(p)));
        let by_row = complete(&lanes);
        let other = by_row.levels.iter().zip(&drawn.levels).filter(|(a, b)| a != b).count();
        // On a GPU other kernels take the sums of rows, so that a rare rounding falls the other way.
        assert!(
            other * 20 <= if on_gpu { drawn.levels.len() } else { 0 },
            "{other} of {}",
            drawn.levels.len()
        );
        if !on_gpu {
            assert!(by_row.parameters == drawn.parameters && by_row.log_likelihood == drawn.log_likelihood);
        }

        // Another pixel given: earlier pixels stay, and not all later ones.
        let at = (pixels / 2 - 1) * config.channels;
        let mut changed = image(0);
        changed[at] = if changed[at] > 127 { 0 } else { 255 };
        lanes[0].canvas = Canvas::partial(changed.clone(), mask(&half));
        let got = complete(&lanes);
        let got = &got.parameters[..pixels * config.parameters_per_pixel()];
        let differ: Vec<_> = got
            .chunks(config.parameters_per_pixel())
            .zip(by_row.parameters.chunks(config.parameters_per_pixel()))
            .map(|(a, b)| a != b)
            .collect();
        let first = differ.iter().position(|differs| *differs).expect("the pixel does nothing");
        assert!(first >= pixels / 2, "{first}");
    }
}

#[test]
fn given_pixels_are_taken_on_the_cpu() {
    given_pixels_are_taken(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn given_pixels_are_taken_on_the_gpu() {
    given_pixels_are_taken(true);
}

/// Temperature 0 draws the likeliest component's mean, and truncation keeps draws near it.
fn draws_can_be_steered(on_gpu: bool) {
    let config = architectures()[0].clone();
    let model = Model::synthetic(config.clone(), 9);
    let mut engine = engine(on_gpu, &model);
    let mut draw = |temperature, truncation| {
        let draw = Draw { temperature, truncation, ..Draw::default() };
        sample(&mut *engine, &request(&config, 3, 2).drawing(draw).unwrap())
    };
    let model_itself = draw(1.0, 0.0);
    assert!(draw(0.7, 0.0) != model_itself && draw(1.0, 0.05) != model_itself);
    let cold = draw(0.0, 0.0);
    // Noise does nothing: images of one class are one image.
    let draw = Draw { temperature: 0.0, ..Draw::default() };
    let of_class = |image: u64| request(&config, image, 1).drawing(draw).unwrap();
    assert!(cold.iter().all(|level| *level < 256));
    assert!(sample(&mut *engine, &of_class(3)) == sample(&mut *engine, &of_class(6)));
}

#[test]
fn draws_can_be_steered_on_the_cpu() {
    draws_can_be_steered(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn draws_can_be_steered_on_the_gpu() {
    draws_can_be_steered(true);
}

/// A class changes its own images, at every place that it can enter.
fn classes_matter_at_every_place(on_gpu: bool) {
    for config in chosen(on_gpu, 3, conditional_architectures()) {
        let model = Model::synthetic(config.clone(), 3);
        let (images, _) = random_images(&config, 4, 1);
        let images = images.repeat(3);
        let mut engine = engine(on_gpu, &model);
        let got = parameters(&mut *engine, &config, &images, &[0, 2, 0]);
        let of_image: Vec<_> = got.chunks(got.len() / 3).collect();
        assert!(of_image[0] == of_image[2], "{config:?}");
        let differ =
            of_image[0].iter().zip(of_image[1]).filter(|(a, b)| (*a - *b).abs() > TOLERANCE).count();
        assert!(differ * 4 > of_image[0].len(), "{differ} of {} for {config:?}", of_image[0].len());
        // A model that takes one class for the other is noticed.
        let full = |class| {
            full::parameters(
                &model,
                config.width,
                config.height,
                &images[..config.dimensions()],
                &[class],
                1,
            )
        };
        let worst = |class| {
            let expected = full(class);
            of_image[1].iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert!(worst(2) <= TOLERANCE && worst(0) > 10.0 * TOLERANCE, "{config:?}");
    }
}

#[test]
fn classes_matter_at_every_place_on_the_cpu() {
    classes_matter_at_every_place(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn classes_matter_at_every_place_on_the_gpu() {
    classes_matter_at_every_place(true);
}

/// A class adds no dispatch and no product, at any place.
#[test]
fn class_places_cost_nothing() {
    for config in conditional_architectures() {
        let without =
            Config { classes: vec![], class_places: vec![], class_maps: vec![], ..config.clone() };
        let [with, without] = [&config, &without].map(|config| {
            let network = network(config);
            let pixels = config.width * config.height;
            [Predictor::of_layers(), Plan::predictor(DeviceFacts::SMALLEST)]
                .map(|predictor| predictor.counts(&network, Method::Cached, 1, pixels))
        });
        assert_eq!(with, without, "{config:?}");
    }
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_batch_beyond_the_devices_limits_is_refused_with_the_largest_that_fits() {
    let model = digits();
    let mut engine = engine(true, &model);
    match engine.prepare(Room::For(10_000_000)) {
        Err(EngineError::BatchTooLarge { batch: 10_000_000, largest: Some(largest), .. }) => {
            assert!(largest > 0 && largest < 10_000_000);
        }
        other => panic!("{other:?}"),
    }
    engine.prepare(Room::For(1)).unwrap();
}

#[test]
fn a_batch_beyond_memory_is_refused_with_the_largest_that_fits() {
    let model = digits();
    match engine(false, &model).prepare(Room::For(1_000_000_000)) {
        Err(EngineError::BatchTooLarge { largest: Some(largest), .. }) => {
            assert!(largest > 0 && largest < 1_000_000_000)
        }
        other => panic!("{other:?}"),
    }
}

/// The naive method draws the same images from the whole network, on the same kernels.
fn naive_and_cached_agree(on_gpu: bool) {
    for config in &architectures()[..2] {
        let config = Config { height: 8, width: 12, ..config.clone() };
        let model = Model::synthetic(config.clone(), 9);
        let mut engine = engine(on_gpu, &model);
        let cached = sample(&mut *engine, &request(&config, 3, 3));
        let naive = request(&config, 3, 3).by(Method::Naive);
        let naive = sample(&mut *engine, &naive);
        // On a GPU another kernel takes the sums, so that a rare rounding falls the other way.
        let differ = naive.iter().zip(&cached).filter(|(n, c)| n != c).count();
        assert!(differ * 50 <= if on_gpu { cached.len() } else { 0 }, "{differ} of {}", cached.len());
    }
}

#[test]
fn naive_and_cached_agree_on_the_cpu() {
    naive_and_cached_agree(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn naive_and_cached_agree_on_the_gpu() {
    naive_and_cached_agree(true);
}

/// Products and dispatches counted when issued equal those predicted from the architecture, wherever a run
/// ends.
fn counts_are_as_predicted(on_gpu: bool) {
    for (i, config) in chosen(on_gpu, 5, all_architectures()).into_iter().enumerate() {
        let model = Model::synthetic(config.clone(), 9);
        let network = network(&config);
        let all = config.width * config.height;
        let mut engine: Box<dyn Engine> = match on_gpu {
            true => {
                let options = Options { chain: Some(i % 2 == 0), ..Options::default() };
                Box::new(gpu_with(&model, config.width, config.height, options))
            }
            false => engine(false, &model),
        };
        let predictor = engine.predictor();
        for (method, count, pixels) in [
            (Method::Cached, 3, all),
            (Method::Cached, 2, config.width + 3),
            (Method::Cached, 1, 2 * config.width),
            (Method::Naive, 2, 2),
            (Method::Naive, 3, 0),
        ] {
            let before = engine.counts();
            engine.prepare(Room::For(count)).unwrap();
            sample(&mut *engine, &request(&config, 0, count).by(method).first(pixels));
            let after = engine.counts();
            let expected = predictor.counts(&network, method, count, pixels);
            let run = format!("{method:?}, {pixels} pixels of {count} images, {config:?}");
            assert_eq!(after.macs - before.macs, expected.macs, "{run}");
            let dispatches = if on_gpu { expected.dispatches } else { 0 };
            assert_eq!(after.dispatches - before.dispatches, dispatches, "{run}");
            if on_gpu && method == Method::Cached {
                // One a row, unless a slow device needs more than a second for it.
                let rows = pixels.div_ceil(config.width) as u64;
                assert!(after.submissions - before.submissions >= rows, "{run}");
            }
        }
    }
}

#[test]
fn counts_are_as_predicted_on_the_cpu() {
    counts_are_as_predicted(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn counts_are_as_predicted_on_the_gpu() {
    counts_are_as_predicted(true);
}

/// The published model: 24.4 GMAC and 31 100 dependent dispatches an image, plus the work of rows.
#[test]
fn the_published_architecture_costs_what_was_derived() {
    let network = network(&Config::published(160, 5));
    assert_eq!(network.macs_per_image() / 100_000_000, 243);
    let plan = Plan::new(&network, 1, DeviceFacts::SMALLEST);
    assert!(!plan.has_chain(), "its weights fit into no cache");
    let rows: u64 = (0..32).map(|row| plan.row(row).count() as u64).sum();
    let all = plan.cost(Method::Cached, 32 * 32).dispatches;
    let of_pixels = all - rows;
    // 30.375 a pixel over the 4×4 phases, and the input layer once a row.
    assert_eq!(of_pixels, 31_104 + 32);
    assert_eq!(plan.row(0).count(), 136);
    // Products in each pixel's chain of dependent ones, of 23.8 MMAC a pixel in all.
    let late = |layer: &Layer| -> usize {
        depth(&layer.taps[layer.early..]) * layer.outputs() / layer.run_every.pow(2)
    };
    let chain: usize = network.layers.iter().map(late).sum();
    assert!((4_700_000..4_900_000).contains(&chain), "{chain}");
}

/// Large layers are shared by a team of threads when there are more threads than images.
#[test]
fn a_team_of_threads_changes_no_bit() {
    let config = Config { width: 8, height: 8, ..Config::published(72, 4) };
    let model = Model::synthetic(config.clone(), 2);
    let (images, _) = random_images(&config, 6, 1);
    let mut alone = CpuEngine::new(&model, 8, 8, 1);
    let one = request(&config, 0, 1);
    let expected = (sample(&mut alone, &one), parameters(&mut alone, &config, &images, &[]));
    for threads in [2, 4] {
        let mut team = CpuEngine::new(&model, 8, 8, threads);
        let before = team.counts();
        let got = (sample(&mut team, &one), parameters(&mut team, &config, &images, &[]));
        assert!(got == expected, "{threads} threads");
        let by_pixel = parameters_by(Method::ByPixel, &mut team, &config, &images, &[]);
        assert_eq!(by_pixel, expected.1, "{threads} threads");
        // Three runs over the image, every product of which is counted once.
        let macs = (team.counts().macs - before.macs) as usize;
        assert_eq!(macs, 3 * network(&config).macs_per_image(), "{threads} threads");
    }
    let mut broken = model.clone();
    let bias = broken.tensors.get_mut("output.bias").unwrap();
    bias.data.iter_mut().for_each(|b| *b *= f32::INFINITY);
    let result = CpuEngine::new(&broken, 8, 8, 2).run(&one, &mut |_| {});
    assert!(matches!(result, Err(EngineError::NotFinite { image: 0, .. })), "the team did not stop");
}

/// Weights in 16 bits, subgroups, and index checks: every variant of the shaders is the same network.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn all_shader_variants_match_the_full_network() {
    // More filters than a workgroup has outputs, and a number that is no multiple of its tile.
    let wide = Config { width: 8, height: 8, ..Config::published(40, 1) };
    let wider = Config { width: 4, height: 8, mixtures: 5, ..Config::published(72, 1) };
    let everywhere = conditional_architectures().pop();
    let configs = architectures().into_iter().chain(everywhere).chain([wide, wider]);
    for (turn, config) in configs.enumerate() {
        for precision in [Precision::F32, Precision::F16] {
            let model = Model::synthetic(config.clone(), 1).with_precision(precision).unwrap();
            let (images, classes) = random_images(&config, 2, 3);
            let (width, height) = (config.width, config.height);
            let expected = full::parameters(&model, width, height, &images, &classes, 2);
            // Weights in 16 bits are widened in one place, with index checks or without.
            let is_meant = |options: &&Options| precision == Precision::F32 || !options.checked;
            for &options in in_turn(turn, &VARIANTS).iter().filter(is_meant) {
                let mut engine = gpu_with(&model, width, height, options);
                for &method in crate::common::methods(options, width * height) {
                    let got = parameters_by(method, &mut engine, &config, &images, &classes);
                    let worst = got.iter().zip(&expected).map(|(g, e)| (g - e).abs()).fold(0.0, f32::max);
                    assert!(worst <= TOLERANCE, "{options:?}, {precision:?}, {method:?}: off by {worst}");
                }
            }
        }
    }
}

/// Weights that the CPU engine keeps in 16 bits are widened to the same numbers.
#[test]
fn weights_in_16_bits_give_what_their_values_give_in_32() {
    let config = Config { width: 8, height: 8, ..Config::published(72, 4) };
    let halves = Model::synthetic(config.clone(), 2).with_precision(Precision::F16).unwrap();
    let widened = Model { precision: Precision::F32, ..halves.clone() };
    let (images, _) = random_images(&config, 6, 1);
    for threads in [1, 2] {
        let parameters = [&halves, &widened].map(|model| {
            let mut engine = CpuEngine::new(model, 8, 8, threads);
            let by_pixel = parameters_by(Method::ByPixel, &mut engine, &config, &images, &[]);
            (parameters(&mut engine, &config, &images, &[]), by_pixel)
        });
        assert!(parameters[0] == parameters[1], "{threads} threads");
    }
}
