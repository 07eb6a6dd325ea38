//! Other people's networks, lowered to graphs, against the output of their own modules in 64 bits
//! (`tests/graphs/convert.py` names their origins).

use std::path::{Path, PathBuf};

use crate::common::{VARIANTS, gpu, gpu_with, in_turn, in_turn_if_large, methods};
use pixelcnn::internals::engine::cpu::CpuEngine;
use pixelcnn::internals::engine::gpu::Options;
use pixelcnn::internals::engine::gpu::plan::Plan;
use pixelcnn::internals::engine::{Canvas, Engine, EngineError, Lane, Method, Outcome, Request, Want};
use pixelcnn::internals::graph::{Graph, Tensors, reference};
use pixelcnn::internals::model::{Architecture, Model};
use safetensors::SafeTensors;

/// A network with images, and the parameters that its module gave at some of their pixels.
struct Case {
    name: String,
    model: Model,
    /// `[N, H, W, C]`
    levels: Vec<u16>,
    classes: Vec<usize>,
    positions: Vec<usize>,
    /// `[N, P, F]`
    outputs: Vec<f64>,
}

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphs");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    assert_eq!(folders.len(), 10);
    folders
}

impl Case {
    fn load(folder: &Path) -> Self {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let model =
            Model::load(&folder.join("model.safetensors")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let data = |name| file.tensor(name).unwrap().data().to_vec();
        let words = |name| -> Vec<usize> {
            data(name).as_chunks().0.iter().map(|b| u32::from_le_bytes(*b) as usize).collect()
        };
        Self {
            name,
            model,
            levels: data("levels").as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect(),
            classes: words("labels"),
            positions: words("positions"),
            outputs: data("outputs").as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        folders().into_iter().map(|folder| Self::load(&folder))
    }

    fn named(name: &str) -> Self {
        Self::all().find(|case| case.name == name).unwrap()
    }

    fn count(&self) -> usize {
        4
    }

    fn graph(&self) -> Graph {
        let (width, height) = self.model.size();
        self.model.graph(width, height)
    }

    /// Tolerance of an f32 engine: logits of up to 38 are off by 2e-5 (the module's own f32 by 1.8e-5);
    /// outputs that vary by 1e-2 and less need more.
    fn tolerance(&self) -> f64 {
        match &self.name[..] {
            "gated_mnist_real" => 2e-5,
            "masked_batchnorm" | "prior_swapped_masks" => 1e-6,
            _ => 1e-5,
        }
    }

    /// The largest error of parameters `[N, H, W, P]`, of which those larger than 1 count by their size.
    fn error(&self, parameters: &[f64]) -> f64 {
        let (width, height) = self.model.size();
        self.error_of(parameters, self.count(), width * height)
    }

    /// The same of the first `pixels` pixels of the first `count` images.
    fn error_of(&self, parameters: &[f64], count: usize, pixels: usize) -> f64 {
        let (width, height) = self.model.size();
        let per_pixel = self.model.head().parameters();
        let mut worst = 0.0_f64;
        let outputs = self.outputs.chunks(per_pixel);
        let places =
            (0..self.count()).flat_map(|n| self.positions.iter().map(move |p| n * width * height + p));
        let is_asked = |place: usize| place / (width * height) < count && place % (width * height) < pixels;
        for (place, expected) in places.zip(outputs).filter(|(place, _)| is_asked(*place)) {
            let mut got = parameters[place * per_pixel..][..per_pixel].to_vec();
            if self.name == "masked_7x7_classes" {
                // The module ends in a log-softmax, which the graph leaves out.
                let largest = got.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum = largest + got.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
                got.iter_mut().for_each(|x| *x -= sum);
            }
            for (got, expected) in got.iter().zip(expected) {
                let error = (got - expected).abs() / expected.abs().max(1.0);
                // So that NaN is the worst of all.
                worst = worst.max(if error.is_finite() { error } else { f64::INFINITY });
            }
        }
        worst
    }

    /// By the reference.
    fn exact(&self, graph: &Graph, tensors: &Tensors) -> Vec<f64> {
        let images = self.levels.chunks(self.levels.len() / self.count()).enumerate();
        images
            .flat_map(|(n, image)| {
                reference::parameters(graph, tensors, image, self.classes.get(n).copied())
            })
            .collect()
    }

    fn evaluation(&self, method: Method) -> Request {
        self.evaluation_of(method, self.count())
    }

    fn evaluation_of(&self, method: Method, count: usize) -> Request {
        let (width, height) = self.model.size();
        let want = Want { parameters: true, likelihood: true, trace: false };
        let shape = self.model.shape(width, height);
        let levels = &self.levels[..count * shape.dimensions()];
        let classes = &self.classes[..count.min(self.classes.len())];
        Request::evaluate(shape, levels, classes, want).unwrap().by(method)
    }

    /// The CPU engine, with NaN in every value that is not computed yet.
    fn by_engine(&self, model: &Model, method: Method, threads: usize) -> Vec<f32> {
        let (width, height) = model.size();
        let mut engine = CpuEngine::new(model, width, height, threads).poisoned();
        engine
            .run(&self.evaluation(method), &mut |_| {})
            .unwrap_or_else(|e| panic!("{}: {e}", self.name))
            .parameters
    }
}

fn double(parameters: &[f32]) -> Vec<f64> {
    parameters.iter().map(|x| f64::from(*x)).collect()
}

/// The same graph with one tap moved by a column: the middle one of the layers in the middle that stays causal.
fn moved(graph: &Graph, tensors: &Tensors) -> Graph {
    let middle = graph.layers.len() / 2;
    for layer in (0..graph.layers.len()).map(|i| (middle + i) % graph.layers.len()) {
        for tap in 0..graph.layers[layer].taps.len() {
            let mut moved = graph.clone();
            moved.layers[layer].taps[tap].column -= 1;
            if moved.check(tensors).is_ok() {
                return moved;
            }
        }
    }
    panic!("no tap can be moved");
}

#[test]
fn the_reference_gives_what_the_modules_gave() {
    for case in Case::all() {
        let graph = case.graph();
        let error = case.error(&case.exact(&graph, &case.model.tensors));
        let twin = case.error(&case.exact(&moved(&graph, &case.model.tensors), &case.model.tensors));
        println!("{}: {error:.1e}, twin {twin:.1e}", case.name);
        assert!(error <= 1e-6, "{}: {error:.1e}", case.name);
        assert!(twin > 5e-6, "{}: a tap that is moved is not noticed: {twin:.1e}", case.name);
    }
}

#[test]
fn the_engine_gives_what_the_modules_gave() {
    for case in Case::all() {
        let by_row = case.by_engine(&case.model, Method::Cached, 2);
        let by_pixel = case.by_engine(&case.model, Method::ByPixel, 1);
        let error = case.error(&double(&by_row));
        let same = by_row.iter().zip(&by_pixel).all(|(a, b)| a.to_bits() == b.to_bits());
        println!("{}: {error:.1e}", case.name);
        assert!(error <= case.tolerance(), "{}: {error:.1e}", case.name);
        assert!(same, "{}: by row and by pixel differ", case.name);
        let mut wrong = case.model.clone();
        let Architecture::Graph { graph, .. } = &mut wrong.architecture else { panic!("it is a graph") };
        **graph = moved(graph, &case.model.tensors);
        let twin = case.error(&double(&case.by_engine(&wrong, Method::Cached, 2)));
        assert!(twin > 5.0 * case.tolerance(), "{}: twin {twin:.1e}", case.name);
    }
}

/// Changing a pixel moves nothing before it, and something after it.
#[test]
fn a_pixel_changes_what_comes_after_it_alone() {
    for case in Case::all() {
        let head = case.model.head();
        let per_pixel = head.parameters();
        let (width, height) = case.model.size();
        let before = case.by_engine(&case.model, Method::ByPixel, 2);
        let at = (height / 2) * width + width / 2;
        let mut changed = Case { levels: case.levels.clone(), ..Case::load(&folder_of(&case.name)) };
        let level = &mut changed.levels[at * head.channels()];
        *level = (*level + 1) % head.levels() as u16;
        let after = changed.by_engine(&case.model, Method::ByPixel, 2);
        let pairs = before.chunks(per_pixel).zip(after.chunks(per_pixel)).take(width * height);
        let first = pairs.clone().position(|(a, b)| a != b).expect("the pixel does nothing");
        let expected = if head.steps() > 1 { at } else { at + 1 };
        assert!(first >= expected, "{}: pixel {at} changes pixel {first}", case.name);
        if head.steps() > 1 {
            let (a, b) = pairs.clone().nth(at).unwrap();
            let own = head.parameters_of(0);
            assert_eq!(a[own.clone()], b[own], "{}: a channel changes itself", case.name);
        }
    }
}

fn folder_of(name: &str) -> PathBuf {
    folders().into_iter().find(|folder| folder.ends_with(name)).unwrap()
}

/// An image is the same at any batch, on any number of threads, and as the naive method draws it.
#[test]
fn images_are_the_same_bit_for_bit() {
    for case in Case::all() {
        let (width, height) = case.model.size();
        let shape = case.model.shape(width, height);
        let class = |i: u64| (shape.classes > 0).then(|| i as usize % shape.classes);
        let draw = |first: u64, count: u64, threads, method| {
            let request = Request::sample(shape, 3, (first..first + count).map(|i| (i, class(i)))).unwrap();
            let pixels = if method == Method::Naive { 2 * width + 3 } else { width * height };
            let mut engine = CpuEngine::new(&case.model, width, height, threads);
            engine.run(&request.by(method).first(pixels), &mut |_| {}).unwrap().levels
        };
        let all = draw(0, 5, 2, Method::Cached);
        assert!(all.iter().all(|level| usize::from(*level) < shape.head.levels()));
        for (first, count, threads) in [(0, 1, 1), (3, 2, 1), (1, 4, 2)] {
            let some = draw(first, count, threads, Method::Cached);
            assert!(some[..] == all[first as usize * shape.dimensions()..][..some.len()], "{}", case.name);
        }
        if height * width <= 256 {
            let naive = draw(0, 1, 1, Method::Naive);
            let drawn = (2 * width + 3) * shape.head.channels();
            assert_eq!(naive[..drawn], all[..drawn], "{}", case.name);
        }
    }
}

/// Drawn levels follow from parameters and noise, and their likelihood from the parameters.
#[test]
fn draws_follow_their_parameters() {
    use pixelcnn::internals::head::Draw;
    use pixelcnn::internals::sampling::random::Noise;
    for case in Case::all() {
        let (width, height) = case.model.size();
        let shape = case.model.shape(width, height);
        let class = (shape.classes > 0).then_some(1);
        let request = Request::sample(shape, 5, [(9, class)]).unwrap();
        let mut engine = CpuEngine::new(&case.model, width, height, 1);
        let drawn = engine.run(&request, &mut |_| {}).unwrap().levels;
        let want = Want { parameters: true, likelihood: true, trace: false };
        let classes: Vec<_> = class.into_iter().collect();
        let told =
            engine.run(&Request::evaluate(shape, &drawn, &classes, want).unwrap(), &mut |_| {}).unwrap();
        let (head, draw) = (shape.head, Draw::default());
        let mut total = 0.0;
        for (pixel, levels) in drawn.chunks(head.channels()).enumerate() {
            let parameters = &told.parameters[pixel * head.parameters()..][..head.parameters()];
            let (mut expected, mut values) = (vec![0; levels.len()], vec![0.0; levels.len()]);
            for step in 0..head.steps() {
                let noise = Noise::new(5, 9).at(pixel);
                head.draw(step, parameters, noise, &draw, &mut expected, &mut values);
            }
            assert_eq!(levels, expected, "{}: pixel {pixel}", case.name);
            total += head.log_likelihood(parameters, levels);
        }
        let of_engine: f64 = told.log_likelihood.iter().sum();
        assert!((total - of_engine).abs() < 1e-9 * total.abs(), "{}", case.name);
    }
}

/// A session with the levels of given images returns the parameters of evaluation, and the probabilities of
/// the likelihood, bit for bit, with any other images and any number of threads.
#[test]
fn a_session_gives_what_evaluation_gives() {
    use pixelcnn::internals::engine::cpu::Session;
    for name in
        ["gated_rgb_real", "prior_classes", "prior_swapped_masks", "shifted_streams", "plusplus_film"]
    {
        let case = Case::named(name);
        let (width, height) = case.model.size();
        let head = case.model.head();
        let expected = case.by_engine(&case.model, Method::Cached, 1);
        let (dimensions, per_pixel) = (width * height * head.channels(), head.parameters());
        for (first, last, threads) in [(0, 2, 1), (0, 2, 2), (1, 2, 1)] {
            let classes: Vec<_> = (first..last).map(|image| case.classes.get(image).copied()).collect();
            let mut session = Session::new(&case.model, width, height, &classes, threads).unwrap();
            while let Some([row, column, channel]) = session.place() {
                let pixel = row * width + column;
                let (mut parameters, mut probabilities, mut levels) = (Vec::new(), Vec::new(), Vec::new());
                for image in first..last {
                    let at = (image * width * height + pixel) * per_pixel;
                    let of_pixel = &expected[at..][..per_pixel];
                    parameters.extend_from_slice(&of_pixel[head.parameters_of(head.step_of(channel))]);
                    let own = &case.levels[image * dimensions + pixel * head.channels()..];
                    let mut of_levels = Vec::new();
                    head.probabilities(of_pixel, channel, &own[..channel], &mut of_levels);
                    probabilities.extend(of_levels);
                    levels.push(own[channel]);
                }
                assert_eq!(session.parameters().unwrap(), parameters, "{name}: {pixel}, {channel}");
                assert_eq!(session.probabilities().unwrap(), probabilities, "{name}: {pixel}, {channel}");
                session.give(&levels).unwrap();
            }
        }
    }
}

/// Levels out of range are refused, and the session continues.
#[test]
fn a_session_refuses_what_does_not_fit() {
    use pixelcnn::internals::engine::cpu::Session;
    let case = Case::named("gated_rgb_real");
    let (width, height) = case.model.size();
    let class = case.classes.first().copied();
    let mut session = Session::new(&case.model, width, height, &[class], 1).unwrap();
    let before = session.probabilities().unwrap();
    let refused = |session: &mut Session, levels: &[u16]| session.give(levels).unwrap_err().to_string();
    assert!(refused(&mut session, &[]).contains("levels of a channel"));
    assert!(refused(&mut session, &[case.model.head().levels() as u16]).contains("level"));
    assert_eq!((session.place(), session.probabilities().unwrap()), (Some([0, 0, 0]), before));
    assert!(Session::new(&case.model, width, height, &[Some(1000)], 1).is_err());
    let many = vec![class; 1 << 20];
    assert!(
        Session::new(&case.model, width, height, &many, 1).is_err_and(|e| e.to_string().contains("fit"))
    );
}

/// All variants of the shaders: layer by layer and as a chain. Of large images, the first rows of one,
/// because a software driver computes them.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn the_gpu_gives_what_the_modules_gave() {
    for (turn, case) in Case::all().enumerate() {
        let (width, height) = case.model.size();
        let (count, rows) = if width * height > 200 { (1, 9) } else { (case.count(), height) };
        let ask = |method| case.evaluation_of(method, count).first(rows * width);
        let error = |parameters: &[f32]| case.error_of(&double(parameters), count, rows * width);
        let mut worst = 0.0_f64;
        for &options in in_turn_if_large(turn, width * height, &VARIANTS) {
            let mut engine = gpu_with(&case.model, width, height, options);
            for &method in methods(options, width * height) {
                let outcome = engine.run(&ask(method), &mut |_| {});
                let outcome = outcome.unwrap_or_else(|e| panic!("{}, {options:?}: {e}", case.name));
                let error = error(&outcome.parameters);
                assert!(error <= case.tolerance(), "{}, {method:?}, {options:?}: {error:.1e}", case.name);
                worst = worst.max(error);
                likelihoods_are_those_of(&case, rows * width, &outcome);
            }
        }
        println!("{}: {worst:.1e}", case.name);
        let mut wrong = case.model.clone();
        let Architecture::Graph { graph, .. } = &mut wrong.architecture else { panic!("it is a graph") };
        **graph = moved(graph, &case.model.tensors);
        // If outputs hardly vary, the first rows tell too little.
        let ask = case.evaluation_of(Method::Cached, count);
        let twin = gpu(&wrong, width, height).run(&ask, &mut |_| {}).unwrap();
        let twin = case.error_of(&double(&twin.parameters), count, height * width);
        assert!(twin > 5.0 * case.tolerance(), "{}: twin {twin:.1e}", case.name);
    }
}

/// Log-likelihoods of the first pixels of images are within 1e-5 nats of those that the parameters give, or 1e-6 of them where
/// that is more.
fn likelihoods_are_those_of(case: &Case, pixels: usize, outcome: &Outcome) {
    let (head, (width, height)) = (case.model.head(), case.model.size());
    let parameters = outcome.parameters.chunks(head.parameters());
    let all = parameters.zip(case.levels.chunks(head.channels())).zip(&outcome.log_likelihood);
    let is_asked = |at: usize| at % (width * height) < pixels;
    for (at, ((parameters, levels), told)) in all.enumerate().filter(|(at, _)| is_asked(*at)) {
        let expected = head.log_likelihood(parameters, levels);
        let limit = 1e-5_f64.max(1e-6 * expected.abs());
        assert!((told - expected).abs() <= limit, "{}, {at}: {told}, expected {expected}", case.name);
    }
}

/// Drawn levels follow from parameters and noise, whatever the kind of draw; given pixels are taken. A
/// level may differ if a uniform number is as close to a boundary as 32-bit sums are to 64-bit ones: hardly
/// ever.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn draws_on_the_gpu_follow_their_parameters() {
    use pixelcnn::internals::head::{Draw, HeadKind};
    use pixelcnn::internals::sampling::random::Noise;
    let mut others = 0;
    for (turn, case) in Case::all().enumerate() {
        let (width, height) = case.model.size();
        let (shape, head) = (case.model.shape(width, height), case.model.head());
        let mut draws = vec![
            Draw::default(),
            Draw { temperature: 0.6, min_p: 0.05, ..Draw::default() },
            Draw { temperature: 0.0, ..Draw::default() },
        ];
        match head.kind() {
            HeadKind::LogisticMixture { .. } => draws.push(Draw { truncation: 0.2, ..Draw::default() }),
            _ => draws.push(Draw { temperature: 1.5, top_k: 2, ..Draw::default() }),
        }
        let large = width * height > 200;
        let pixels = width * if large { 9 } else { height };
        for &draw in if large { in_turn(turn, &draws[turn % 2..][..2]) } else { &draws[..] } {
            let options = Options { chain: Some(turn % 2 == 0), ..Options::default() };
            let mut engine = gpu_with(&case.model, width, height, options);
            let dimensions = shape.dimensions();
            // The second image has its first rows and every fifth pixel given.
            let lane = |i: usize| {
                let given = |pixel: usize| pixel < 2 * width + 1 || pixel.is_multiple_of(5);
                let mask = (0..width * height).map(given).collect();
                let canvas = match i {
                    1 => Canvas::partial(case.levels[dimensions..2 * dimensions].to_vec(), mask),
                    _ => Canvas::blank(),
                };
                Lane { index: 3 + i as u64, class: case.classes.get(i).copied(), canvas }
            };
            let lanes: Vec<_> = (0..2).map(lane).collect();
            let request = Request::new(shape, 11, lanes.clone()).unwrap().drawing(draw).unwrap();
            let drawn = engine.run(&request.first(pixels), &mut |_| {}).unwrap().levels;
            let classes: Vec<_> = lanes.iter().filter_map(|lane| lane.class).collect();
            let want = Want { parameters: true, ..Want::default() };
            let evaluation = Request::evaluate(shape, &drawn, &classes, want).unwrap().by(Method::ByPixel);
            let parameters = engine.run(&evaluation.first(pixels), &mut |_| {}).unwrap().parameters;
            for (at, levels) in drawn.chunks(head.channels()).enumerate() {
                let (lane, pixel) = (&lanes[at / shape.pixels()], at % shape.pixels());
                if pixel >= pixels {
                    continue;
                }
                if let Some(given) = lane.canvas.pixel(pixel, head.channels()) {
                    assert_eq!(levels, given, "{}: a given pixel", case.name);
                    continue;
                }
                let parameters = &parameters[at * head.parameters()..][..head.parameters()];
                let (mut expected, mut values) = (vec![0; levels.len()], vec![0.0; levels.len()]);
                for step in 0..head.steps() {
                    let noise = Noise::new(11, lane.index).at(pixel);
                    head.draw(step, parameters, noise, &draw, &mut expected, &mut values);
                }
                if levels != expected {
                    println!("{}, {draw:?}, pixel {pixel}: {levels:?}, expected {expected:?}", case.name);
                    others += 1;
                }
            }
        }
    }
    assert!(others <= 2, "{others} pixels");
}

/// All ways to the pixels give the same on a GPU: cached, pixel by pixel, and the whole network for every step.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn images_on_the_gpu_are_drawn_naively_too() {
    for name in
        ["gated_rgb_real", "prior_classes", "prior_swapped_masks", "shifted_streams", "plusplus_film"]
    {
        let case = Case::named(name);
        let (width, height) = case.model.size();
        let shape = case.model.shape(width, height);
        // The naive method computes all for every step of a pixel.
        let pixels = if width * height > 200 { 3 } else { width + 3 };
        let class = (shape.classes > 0).then_some(1);
        let mut engine = gpu(&case.model, width, height);
        let mut draw = |method| {
            let request = Request::sample(shape, 3, [(1, class)]).unwrap().by(method).first(pixels);
            let before = engine.counts();
            let levels = engine.run(&request, &mut |_| {}).unwrap().levels;
            let after = engine.counts();
            let network = case.model.network(width, height);
            let predicted = engine.predictor().counts(&network, method, 1, pixels);
            assert_eq!(after.macs - before.macs, predicted.macs, "{name}, {method:?}");
            assert_eq!(after.dispatches - before.dispatches, predicted.dispatches, "{name}, {method:?}");
            levels
        };
        let cached = draw(Method::Cached);
        let naive = draw(Method::Naive);
        let of_pixels = pixels * shape.head.channels();
        assert_eq!(naive[..of_pixels], cached[..of_pixels], "{name}");
    }
}

/// Numbers that are not finite are detected on a GPU too, after any activation.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_number_that_is_not_finite_is_noticed_on_the_gpu() {
    for name in ["gated_rgb_real", "prior_classes", "dilated_rows"] {
        let mut case = Case::named(name);
        let (width, height) = case.model.size();
        let network = case.model.network(width, height);
        let weights: Vec<_> = network.layers.iter().filter_map(|layer| layer.weights().last()).collect();
        let tensor = weights[weights.len() / 2];
        case.model.tensors.get_mut(tensor).unwrap().data.fill(f32::NAN);
        let shape = case.model.shape(width, height);
        let class = (shape.classes > 0).then_some(0);
        let request = Request::sample(shape, 3, [(4, class)]).unwrap();
        let mut engine = gpu(&case.model, width, height);
        // Some layers are a row behind.
        let rows = 3 * width;
        for request in [request.first(rows), case.evaluation_of(Method::Cached, 1).first(rows)] {
            match engine.run(&request, &mut |_| {}) {
                Err(EngineError::NotFinite { .. }) => {}
                other => panic!("{name}, {tensor}: {:?}", other.map(|_| "something was made of it")),
            }
        }
    }
}

/// A plan of a small network has a chain. A network with more levels than a workgroup shares is refused
/// with a reason.
#[test]
fn networks_that_kernels_do_not_run_are_refused() {
    use pixelcnn::internals::engine::gpu::dispatch::DeviceFacts;
    use pixelcnn::internals::engine::gpu::support::reason_against;
    use pixelcnn::internals::head::Head;
    for case in Case::all() {
        let (width, height) = case.model.size();
        let network = case.model.network(width, height).with_sums_apart();
        assert_eq!(reason_against(&network), None, "{}", case.name);
        let target = DeviceFacts { chain: Some(true), ..DeviceFacts::SMALLEST };
        println!("{}: chain {}", case.name, Plan::new(&network, 1, target).has_chain());
        assert!(Plan::new(&network, 3, DeviceFacts::SMALLEST).fits(DeviceFacts::SMALLEST), "{}", case.name);
        let mut many = network;
        many.head = Head::softmax(1, 1025, false);
        let reason = reason_against(&many).unwrap();
        assert!(reason.contains("1025 levels") && reason.contains("1024"), "{reason}");
    }
}
