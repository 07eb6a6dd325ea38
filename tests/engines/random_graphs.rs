//! Random graphs, as model files: the engine equals the definition, by every method; a graph that is not
//! causal is refused. `scripts/fuzz` runs this for minutes; here it runs for a moment, always with the same
//! graphs.

use std::cell::Cell;

use crate::common::{self, gpu_with};
use crate::fuzzing;
use crate::plans::{HeadPlan, Made, Plan, Streams, make};
use fastrand::Rng;
use pixelcnn::internals::engine::cpu::{CpuEngine, Session};
use pixelcnn::internals::engine::gpu::Options;
use pixelcnn::internals::engine::{Canvas, Engine, Lane, Method, Request, Want};
use pixelcnn::internals::graph::check::GraphError;
use pixelcnn::internals::graph::{
    Activation, Encoding, Form, Graph, IMAGE, LayerKind, LayerSpec, NodeSpec, Slice, TapSpec, Term,
    reference,
};
use pixelcnn::internals::head::{Draw, Head};
use pixelcnn::internals::model::Model;
use pixelcnn::internals::model::weights::Tensor;
use pixelcnn::internals::sampling::random::Noise;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;

/// The engine sums in 32-bit floats over a few hundred terms of size 1 a layer, ten layers deep; the
/// reference in 64 bits. For numbers larger than 1 the error is relative to their size.
const TOLERANCE: f64 = 1e-4;

/// Images of a case.
const BATCH: usize = 3;

fn plans() -> impl Strategy<Value = Plan> {
    let size = (1..=3usize).prop_flat_map(|levels| {
        let units = 1..=(9 >> (levels - 1)).min(7usize);
        (Just(levels), [units.clone(), units])
    });
    let heads = vec![
        HeadPlan::Softmax,
        HeadPlan::SoftmaxInSteps,
        HeadPlan::SoftmaxInSteps,
        HeadPlan::Bernoulli,
        HeadPlan::BernoulliInSteps,
        HeadPlan::Mixture,
    ];
    let streams = select(vec![Streams::All, Streams::All, Streams::All, Streams::Pixels, Streams::Rows]);
    let numbers = (0..=9usize, 1..=9usize, 1..=4usize, select(vec![2, 3, 5, 17usize]), 0..=3usize);
    (size, select(heads), streams, numbers, 0..u64::MAX).prop_map(
        |((levels, units), head, streams, (layers, widest, channels, symbols, classes), seed)| Plan {
            units,
            levels,
            layers,
            widest,
            channels,
            symbols,
            head,
            classes,
            streams,
            seed,
        },
    )
}

/// Values of layers, by their names.
type Traced = Vec<(String, Vec<f32>)>;

/// A graph with images for it.
struct Case {
    made: Made,
    levels: Vec<u16>,
    classes: Vec<usize>,
    rng: Rng,
}

impl Case {
    fn new(plan: &Plan) -> Self {
        let made = make(plan).complete();
        let mut rng = Rng::with_seed(plan.seed ^ 1);
        let head = made.graph.head;
        let count = BATCH * made.graph.height * made.graph.width * head.channels();
        let levels = (0..count).map(|_| rng.u16(..head.levels() as u16)).collect();
        let classes =
            if plan.classes > 0 { (0..BATCH).map(|i| i % plan.classes).collect() } else { vec![] };
        Self { made, levels, classes, rng }
    }

    /// The same with another graph.
    fn with(&self, graph: Graph) -> Self {
        let made = Made { graph, tensors: self.made.tensors.clone() };
        Self { made, levels: self.levels.clone(), classes: self.classes.clone(), rng: self.rng.clone() }
    }

    fn dimensions(&self) -> usize {
        self.levels.len() / BATCH
    }

    fn class(&self, image: usize) -> Option<usize> {
        self.classes.get(image).copied()
    }

    fn image(&self, image: usize) -> &[u16] {
        &self.levels[image * self.dimensions()..][..self.dimensions()]
    }

    /// By the reference, of the graph as it was declared.
    fn exact(&self) -> Vec<f64> {
        let of_image = |image| {
            reference::parameters(
                &self.made.graph,
                &self.made.tensors,
                self.image(image),
                self.class(image),
            )
        };
        (0..BATCH).flat_map(of_image).collect()
    }

    /// The engine's result for some images, by one method; and true if it counted the predicted work.
    fn by_engine(
        &self,
        model: &Model,
        images: std::ops::Range<usize>,
        method: Method,
        threads: usize,
        trace: bool,
    ) -> Result<(Vec<f32>, Traced), TestCaseError> {
        let (width, height) = model.size();
        let mut engine = CpuEngine::new(model, width, height, threads).poisoned();
        let levels = &self.levels[images.start * self.dimensions()..images.end * self.dimensions()];
        let classes = if self.classes.is_empty() { &[][..] } else { &self.classes[images.clone()] };
        let want = Want { parameters: true, likelihood: true, trace };
        let request =
            Request::evaluate(model.shape(width, height), levels, classes, want).unwrap().by(method);
        let outcome = engine
            .run(&request, &mut |_| {})
            .map_err(|error| TestCaseError::fail(format!("{method:?}, {threads} threads: {error}")))?;
        if !trace {
            let network = model.network(width, height);
            let predicted = engine.predictor().counts(&network, method, images.len(), width * height);
            prop_assert_eq!(engine.counts().macs, predicted.macs, "counted and predicted, {:?}", method);
        }
        Ok((outcome.parameters, outcome.trace))
    }
}

/// The first number that is off, of parameters `[N, H, W, P]`.
fn first_difference(graph: &Graph, got: &[f32], expected: &[f64]) -> Option<String> {
    assert_eq!(got.len(), expected.len());
    // Written so that a NaN is a difference.
    let is_close = |(g, e): (&f32, &f64)| (f64::from(*g) - e).abs() <= TOLERANCE * e.abs().max(1.0);
    let at = got.iter().zip(expected).position(|pair| !is_close(pair))?;
    let per_pixel = graph.head.parameters();
    let (pixel, parameter) = (at / per_pixel, at % per_pixel);
    let (image, row, column) =
        (pixel / (graph.width * graph.height), pixel / graph.width % graph.height, pixel % graph.width);
    Some(format!(
        "image {image}, row {row}, column {column}, parameter {parameter}: got {}, expected {}",
        got[at], expected[at]
    ))
}

/// The engine equals the reference, with the same bits by every method.
fn agrees(case: &Case) -> Result<(), TestCaseError> {
    let graph = &case.made.graph;
    let model = case.made.load().map_err(TestCaseError::fail)?;
    let expected = case.exact();
    prop_assume!(expected.iter().all(|x| x.abs() < 1e3));
    let (got, _) = case.by_engine(&model, 0..BATCH, Method::Cached, 2, false)?;
    if let Some(difference) = first_difference(graph, &got, &expected) {
        return Err(TestCaseError::fail(difference));
    }
    let of_image = got.len() / BATCH;
    for (images, method, threads) in
        [(0..BATCH, Method::ByPixel, 1), (1..2, Method::ByPixel, 2), (2..3, Method::Cached, 1)]
    {
        let (other, _) = case.by_engine(&model, images.clone(), method, threads, false)?;
        let same = &got[images.start * of_image..images.end * of_image];
        let is_same = other.iter().zip(same).all(|(a, b)| a.to_bits() == b.to_bits());
        prop_assert!(is_same, "{:?} of images {:?} on {} threads has other bits", method, images, threads);
    }
    trace_agrees(case, &model)?;
    draws_agree(case, &model)?;
    session_agrees(case, &model, &got)
}

/// Every value on the way, where its channels are in their order and it is stored as it is.
fn trace_agrees(case: &Case, model: &Model) -> Result<(), TestCaseError> {
    for method in [Method::Cached, Method::ByPixel] {
        let (_, trace) = case.by_engine(model, 0..1, method, 1, true)?;
        first_value_apart(case, &trace, method)?;
    }
    Ok(())
}

/// Compares the values of the first image, node by node.
fn first_value_apart(case: &Case, trace: &Traced, method: Method) -> Result<(), TestCaseError> {
    let graph = &case.made.graph;
    let exact = reference::trace(graph, &case.made.tensors, case.image(0), case.class(0));
    for ((node, (name, got)), expected) in graph.nodes.iter().zip(trace).zip(&exact).skip(1) {
        if graph.head.steps() > 1 || !node.forms.contains(&Form::of(Activation::Raw)) {
            continue;
        }
        prop_assert_eq!(got.len(), expected.len(), "rows of {} by {:?}", name, method);
        let is_close = |(g, e): (&f32, &f64)| (f64::from(*g) - e).abs() <= TOLERANCE * e.abs().max(1.0);
        let at = got.iter().zip(expected).position(|pair| !is_close(pair));
        if let Some(at) = at {
            let (pixel, width) = (at / node.channels, graph.width >> node.level);
            let (row, column) = (pixel / width, pixel % width);
            return Err(TestCaseError::fail(format!(
                "{method:?}: \"{name}\", row {row}, column {column}, channel {}: got {}, expected {}",
                at % node.channels,
                got[at],
                expected[at]
            )));
        }
    }
    Ok(())
}

/// Images that are drawn, or completed, are the same at any batch, and naively.
fn draws_agree(case: &Case, model: &Model) -> Result<(), TestCaseError> {
    let (width, height) = model.size();
    let shape = model.shape(width, height);
    let pixels = shape.pixels();
    let known = Rng::with_seed(pixels as u64).usize(..=pixels);
    let draw = |images: std::ops::Range<usize>, threads, method, is_given: bool| {
        let lane = |image| {
            let mask = (0..pixels).map(|pixel| pixel < known || pixel % 5 == 0).collect();
            let canvas = match is_given {
                true => Canvas::partial(case.image(image).to_vec(), mask),
                false => Canvas::blank(),
            };
            Lane { index: image as u64, class: case.class(image), canvas }
        };
        let request = Request::new(shape, 7, images.map(lane).collect()).unwrap().by(method);
        let mut engine = CpuEngine::new(model, width, height, threads);
        let outcome = engine.run(&request, &mut |_| {});
        outcome.map(|outcome| outcome.levels).map_err(|error| TestCaseError::fail(error.to_string()))
    };
    for is_given in [false, true] {
        let all = draw(0..BATCH, 2, Method::Cached, is_given)?;
        let one = draw(1..2, 1, Method::ByPixel, is_given)?;
        prop_assert_eq!(&one[..], &all[case.dimensions()..][..case.dimensions()], "drawn alone");
        if pixels <= 12 {
            let naive = draw(1..2, 1, Method::Naive, is_given)?;
            prop_assert_eq!(naive, one, "drawn naively");
        }
    }
    Ok(())
}

/// A session returns the same parameters, level by level.
fn session_agrees(case: &Case, model: &Model, expected: &[f32]) -> Result<(), TestCaseError> {
    let (width, height) = model.size();
    let head = model.head();
    let mut session = Session::new(model, width, height, &[case.class(0)], 1).unwrap();
    while let Some([row, column, channel]) = session.place() {
        let pixel = row * width + column;
        let got = session.parameters().map_err(|error| TestCaseError::fail(error.to_string()))?;
        let of_step = head.parameters_of(head.step_of(channel));
        let expected = &expected[pixel * head.parameters()..][..head.parameters()][of_step];
        prop_assert_eq!(&got[..], expected, "a session, row {}, column {}", row, column);
        session.give(&case.image(0)[pixel * head.channels() + channel..][..1]).unwrap();
    }
    Ok(())
}

/// Tries `count` graphs, or in `scripts/fuzz` as many as the time allows.
fn try_cases(count: u32, property: impl Fn(&Plan) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { cases: count, max_shrink_iters: 300, ..ProptestConfig::default() };
    fuzzing::try_cases(&plans(), config, property, |plan| {
        let json = serde_json::to_string_pretty(&make(plan).complete().json()).unwrap();
        let file = std::env::temp_dir().join("pixelcnn-random-graph.json");
        std::fs::write(&file, json).unwrap();
        format!("its graph: {}\n", file.display())
    });
}

#[test]
fn the_engine_is_the_reference() {
    try_cases(60, |plan| agrees(&Case::new(plan)));
}

/// A GPU equals the reference, by row and by pixel, layer by layer or as a chain; likelihoods and draws
/// follow from its parameters.
fn agrees_on_the_gpu(case: &mut Case) -> Result<(), TestCaseError> {
    let graph = &case.made.graph;
    let model = case.made.load().map_err(TestCaseError::fail)?;
    let expected = case.exact();
    prop_assume!(expected.iter().all(|x| x.abs() < 1e3));
    let ways = [(false, None), (true, Some(1)), (true, None), (false, Some(1 << 16)), (false, Some(1))];
    let (chain, workgroups) = ways[case.rng.usize(..ways.len())];
    let options = Options { chain: Some(chain), workgroups, ..Options::default() };
    let (width, height) = model.size();
    let mut engine = gpu_with(&model, width, height, options);
    let of_engine = |error| TestCaseError::fail(format!("{options:?}: {error}"));
    let shape = model.shape(width, height);
    let head = shape.head;
    let want = Want { parameters: true, likelihood: true, trace: case.rng.bool() };
    for method in [Method::Cached, Method::ByPixel] {
        let request = Request::evaluate(shape, &case.levels, &case.classes, want).unwrap().by(method);
        let told = engine.run(&request, &mut |_| {}).map_err(of_engine)?;
        if let Some(difference) = first_difference(graph, &told.parameters, &expected) {
            return Err(TestCaseError::fail(format!("{method:?}, {options:?}: {difference}")));
        }
        let pixels = told.parameters.chunks(head.parameters()).zip(case.levels.chunks(head.channels()));
        for ((parameters, levels), told) in pixels.zip(&told.log_likelihood) {
            let expected = head.log_likelihood(parameters, levels);
            let is_close = (told - expected).abs() <= 1e-5_f64.max(1e-6 * expected.abs());
            prop_assert!(is_close, "{:?}: {}, expected {}", options, told, expected);
        }
        if want.trace {
            first_value_apart(case, &told.trace, method)?;
        }
    }
    let lane = |image: usize| {
        let mask = (0..shape.pixels()).map(|pixel| pixel < image * width || pixel % 5 == 0).collect();
        let canvas = match image {
            0 => Canvas::blank(),
            _ => Canvas::partial(case.image(image).to_vec(), mask),
        };
        Lane { index: image as u64, class: case.class(image), canvas }
    };
    let lanes: Vec<_> = (0..BATCH).map(lane).collect();
    let drawn =
        engine.run(&Request::new(shape, 7, lanes.clone()).unwrap(), &mut |_| {}).map_err(of_engine)?;
    let want = Want { parameters: true, ..Want::default() };
    let evaluation = Request::evaluate(shape, &drawn.levels, &case.classes, want).unwrap();
    let told = engine.run(&evaluation.by(Method::ByPixel), &mut |_| {}).map_err(of_engine)?;
    let mut others = 0;
    for (at, levels) in drawn.levels.chunks(head.channels()).enumerate() {
        let (lane, pixel) = (&lanes[at / shape.pixels()], at % shape.pixels());
        let parameters = &told.parameters[at * head.parameters()..][..head.parameters()];
        let mut expected = vec![0; levels.len()];
        match lane.canvas.pixel(pixel, head.channels()) {
            Some(given) => prop_assert_eq!(levels, given, "a given pixel"),
            None => {
                let noise = Noise::new(7, lane.index).at(pixel);
                let mut values = vec![0.0; levels.len()];
                for step in 0..head.steps() {
                    head.draw(step, parameters, noise, &Draw::default(), &mut expected, &mut values);
                }
                others += usize::from(levels != expected);
            }
        }
    }
    // A uniform number may lie as close to a boundary as rounding goes.
    prop_assert!(others <= 1, "{:?}: {} pixels are other than parameters and noise give", options, others);
    Ok(())
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn the_gpu_is_the_reference() {
    try_cases(if common::is_slow() { 3 } else { 16 }, |plan| agrees_on_the_gpu(&mut Case::new(plan)));
}

/// True if the parameters of a pixel depend on it or on a later one: changes all pixels from one on.
fn looks_ahead(case: &mut Case) -> bool {
    let Graph { width, height, head, .. } = case.made.graph;
    let (channels, per_pixel) = (head.channels(), head.parameters());
    let of = |case: &Case, image: &[u16]| {
        reference::parameters(&case.made.graph, &case.made.tensors, image, case.class(0))
    };
    let image = case.image(0).to_vec();
    let before = of(case, &image);
    (0..4).any(|_| {
        let dimension = case.rng.usize(..width * height * channels);
        // Without steps, none of the channels of a pixel is known.
        let dimension = if head.steps() > 1 { dimension } else { dimension / channels * channels };
        let (pixel, channel) = (dimension / channels, dimension % channels);
        let mut changed = image.clone();
        changed[dimension..].iter_mut().for_each(|level| *level = case.rng.u16(..head.levels() as u16));
        let after = of(case, &changed);
        let known = match head.steps() {
            1 => (pixel + 1) * per_pixel,
            _ => pixel * per_pixel + head.parameters_of(channel).end,
        };
        before[..known].iter().zip(&after[..known]).any(|(a, b)| (a - b).abs() > 1e-9)
    })
}

/// A graph with a moved tap is refused if its parameters depend on unknown pixels, and the error shows a
/// path. If it is not refused, the engine equals the reference.
#[test]
fn a_tap_that_is_moved_is_refused_or_right() {
    let (refused, accepted) = (Cell::new(0), Cell::new(0));
    try_cases(60, |plan| {
        let mut case = Case::new(plan);
        prop_assert!(!looks_ahead(&mut case), "the graph was to be causal");
        for _ in 0..4 {
            let mut graph = case.made.graph.clone();
            let layer = case.rng.usize(..graph.layers.len());
            let taps = &mut graph.layers[layer].taps;
            if taps.is_empty() {
                continue;
            }
            let tap = case.rng.usize(..taps.len());
            let by = 1 + case.rng.isize(0..3);
            match case.rng.u32(..3) {
                0 => taps[tap].row += by,
                1 => taps[tap].column += by,
                _ => (taps[tap].row, taps[tap].column) = (taps[tap].row - 1, taps[tap].column + by),
            }
            let mut moved = case.with(graph);
            let Made { graph, tensors } = &moved.made;
            match graph.check(tensors) {
                Err(GraphError::NotCausal(error)) => {
                    prop_assert!(error.path.len() > 1, "no path: {}", error);
                    // Files may hold weights that are 0 throughout, which connect nothing.
                    match moved.made.load() {
                        Err(message) => prop_assert!(message.contains("reads \""), "{}", message),
                        Ok(_) => prop_assert!(!looks_ahead(&mut moved), "loaded, though {}", error),
                    }
                    prop_assert!(error.path.last().unwrap().contains("reads \"image\""), "{}", error);
                    refused.set(refused.get() + 1);
                }
                Err(GraphError::Node { what, .. }) if what.contains("a node of their own") => {}
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
                Ok(()) => {
                    prop_assert!(!looks_ahead(&mut moved), "a graph that is not causal was accepted");
                    agrees(&moved)?;
                    accepted.set(accepted.get() + 1);
                }
            }
        }
        Ok(())
    });
    println!("{} refused, {} accepted", refused.get(), accepted.get());
    assert!(refused.get() > 20 && accepted.get() > 20, "{} {}", refused.get(), accepted.get());
}

/// A weight that is changed is seen, wherever it counts.
#[test]
fn a_changed_weight_is_seen() {
    let (seen, all) = (Cell::new(0), Cell::new(0));
    try_cases(60, |plan| {
        let mut case = Case::new(plan);
        let expected = case.exact();
        // Not all lead to the head: the last one does.
        let layers = &case.made.graph.layers;
        let layer = &layers[case.rng.usize(..layers.len()).max(case.rng.usize(..layers.len()))];
        let weight = |tap: &TapSpec| match &tap.term {
            Term::Product(slice) if tap.source == IMAGE || !slice.tensor.starts_with("masked") => {
                Some(slice.tensor.clone())
            }
            _ => None,
        };
        let Some(name) = layer.taps.iter().find_map(weight) else { return Ok(()) };
        let data = &mut case.made.tensors.get_mut(&name).unwrap().data;
        let at = case.rng.usize(..data.len());
        if data[at] == 0.0 {
            return Ok(());
        }
        data[at] += 0.5;
        let changed = case.exact();
        let difference = expected.iter().zip(&changed).map(|(a, b)| (a - b).abs() / a.abs().max(1.0));
        let counts = difference.fold(0.0, f64::max) > 3.0 * TOLERANCE;
        let model = case.made.load().map_err(TestCaseError::fail)?;
        let (got, _) = case.by_engine(&model, 0..BATCH, Method::Cached, 1, false)?;
        let is_seen = first_difference(&case.made.graph, &got, &expected).is_some();
        prop_assert!(is_seen || !counts, "{} was changed at {}", name, at);
        seen.set(seen.get() + u32::from(is_seen));
        all.set(all.get() + 1);
        Ok(())
    });
    assert!(3 * seen.get() > all.get(), "{} of {} weights count", seen.get(), all.get());
}

/// Every property of a plan occurs, so that all of it is tried.
#[test]
fn graphs_are_of_every_kind() {
    use pixelcnn::internals::graph::schedule::When;
    use std::collections::BTreeMap;
    let found = std::cell::RefCell::new(BTreeMap::new());
    try_cases(300, |plan| {
        let made = make(plan).complete();
        let graph = &made.graph;
        let model = made.load().map_err(TestCaseError::fail)?;
        let (width, height) = model.size();
        let network = model.network(width, height);
        let add = |what: String| *found.borrow_mut().entry(what).or_insert(0) += 1;
        for node in &network.nodes[1..] {
            let sign = |number: isize| {
                ["none", "some", "less than none"][(number.signum().rem_euclid(3)) as usize]
            };
            match &node.when {
                When::Row { lag } => add(format!("a row, lag: {}", sign(*lag))),
                When::Pixel { lag, delays } => {
                    add(format!("a pixel, lag: {}, delay: {}", sign(*lag), sign(delays[0])))
                }
            }
            for form in &node.forms {
                add(format!("form {}", form.activation.name()));
                add(format!("scale {}, shift {}", form.scale.is_some(), form.shift.is_some()));
            }
        }
        for (name, tensor) in &made.tensors {
            let axes = tensor.shape.iter().map(|n| if *n > 1 { 'n' } else { '1' });
            let kind = name.split('.').next().unwrap();
            if kind == "addition" || kind == "scale" {
                add(format!("{kind} {}", axes.take(tensor.shape.len() - 1).collect::<String>()));
            }
        }
        for layer in &network.layers {
            if layer.selections.iter().any(|s| s.half > 0) {
                add("a selection to the second half".to_owned());
            }
            if !layer.residual_is_early && layer.early == layer.taps.len() {
                add("a residual that waits".to_owned());
            }
            if layer.halves == 2 && layer.gate.is_none() {
                add("two columns at once".to_owned());
            }
            if layer.first_channel > 0 {
                add("channels that wait".to_owned());
            }
        }
        for layer in &graph.layers {
            let is = |term: fn(&TapSpec) -> bool| layer.taps.iter().any(term);
            let has_phases = is(|tap| tap.phase.is_some());
            let level = |node: usize| graph.nodes[node].level;
            let is_strided = layer.taps.iter().any(|tap| level(tap.source) < level(layer.target));
            for (what, is_there) in [
                ("more than eight taps", layer.taps.len() > 8),
                ("a selection", is(|tap| matches!(tap.term, Term::Select { .. }))),
                ("a residual", layer.residual.is_some()),
                ("a sum that is kept", layer.pre.is_some()),
                ("a sum that is kept before a gate", layer.pre.is_some() && layer.gate.is_some()),
                ("transposed", has_phases),
                ("transposed, with taps of its own level", has_phases && is(|tap| tap.phase.is_none())),
                ("transposed, with a gate", has_phases && layer.gate.is_some()),
                ("transposed and strided", has_phases && is_strided),
                ("strided", is_strided),
                ("several additions", layer.additions.len() > 1),
            ] {
                if is_there {
                    add(what.to_owned());
                }
            }
            for f in layer.gate.into_iter().flatten() {
                add(format!("gate {}", f.name()));
            }
        }
        for encoding in &graph.encodings {
            add(format!(
                "encoding {} of {:?}",
                if encoding.width > 1 { "wide" } else { "scalar" },
                encoding.channel.is_some()
            ));
        }
        let is_row_work = |layer: &pixelcnn::internals::graph::network::Layer| layer.is_row_work();
        add(format!("row work: {}", network.layers.iter().any(is_row_work)));
        add(format!("pixel work: {}", !network.layers.iter().all(is_row_work)));
        add(format!("head {:?}", plan.head));
        Ok(())
    });
    let found = found.into_inner();
    found.iter().for_each(|(what, count)| println!("{count:6} {what}"));
    assert!(found.len() >= 81, "{} kinds alone, of those that are printed above", found.len());
}

/// A graph by hand, of selections and of additions that tell channels apart: names, levels and channels of
/// nodes; for each layer its target, its taps (source, row, column, phase, first number, first output,
/// count), and its other properties.
fn by_hand(head: Head, nodes: &[(&str, usize, usize)], layers: Vec<LayerSpec>) -> Case {
    let plan = Plan {
        units: [4, 4],
        levels: 1,
        layers: 0,
        widest: 1,
        channels: head.channels(),
        symbols: head.levels(),
        head: if head.steps() > 1 { HeadPlan::SoftmaxInSteps } else { HeadPlan::Softmax },
        classes: 0,
        streams: Streams::All,
        seed: 1,
    };
    let mut case = Case::new(&plan);
    let graph = &mut case.made.graph;
    let table = (0..head.levels()).map(|level| level as f64 / 2.0 - 0.3).collect();
    graph.encodings = vec![Encoding { table, width: 1, channel: None, constants: Vec::new() }];
    graph.nodes.truncate(1);
    graph.nodes[0].channels = head.channels();
    for (name, level, channels) in nodes {
        let forms = vec![Form::of(Activation::Raw)];
        graph.nodes.push(NodeSpec { name: (*name).to_owned(), level: *level, channels: *channels, forms });
    }
    (graph.head_node, graph.layers) = (nodes.len(), layers);
    for (i, layer) in graph.layers.clone().iter().enumerate() {
        let outputs = graph.outputs(layer);
        // Numbers that 16 bits hold.
        let data = (0..outputs).map(|k| ((i + 1) * (k + 2) % 13) as f32 / 8.0 - 0.5).collect();
        case.made.tensors.insert(format!("add.{i}"), Tensor { shape: vec![outputs], data });
        graph.layers[i].additions = vec![format!("add.{i}")];
    }
    case
}

fn select_tap(
    source: usize,
    [row, column]: [isize; 2],
    first: usize,
    output: usize,
    count: usize,
) -> TapSpec {
    let term = Term::Select { channels: first..first + count, outputs: output };
    TapSpec { source, form: 0, row, column, phase: None, term }
}

fn layer_by_hand(target: usize, taps: Vec<TapSpec>) -> LayerSpec {
    LayerSpec {
        name: format!("layer of {target}"),
        kind: LayerKind::Convolution,
        target,
        taps,
        additions: Vec::new(),
        gate: None,
        residual: None,
        pre: None,
    }
}

/// A transposed convolution of which only the second column reads anything: it is not computed with the
/// first if its inputs are not known yet.
#[test]
fn a_second_column_is_not_made_too_early() {
    let coarse = layer_by_hand(1, vec![select_tap(IMAGE, [0, -1], 0, 0, 1)]);
    let mut read = select_tap(1, [0, 0], 0, 0, 2);
    read.phase = Some([0, 1]);
    read.term =
        Term::Product(Slice { tensor: "w".to_owned(), kernel: [0, 0], groups: vec![0], bias: None });
    let fine = layer_by_hand(2, vec![read]);
    let head = layer_by_hand(3, vec![select_tap(2, [0, 0], 0, 0, 2), select_tap(IMAGE, [-1, 0], 0, 1, 1)]);
    let nodes = [("coarse", 1, 2), ("fine", 0, 2), ("head", 0, 2)];
    let mut case = by_hand(Head::softmax(1, 2, false), &nodes, vec![coarse, fine, head]);
    case.made
        .tensors
        .insert("w".to_owned(), Tensor { shape: vec![2, 2], data: vec![0.5, -1.0, 0.25, 2.0] });
    assert!(!looks_ahead(&mut case));
    agrees(&case).unwrap();
}

/// A sum before a gate whose halves have their channels in turns, and which is a residual too: of two orders of channels,
/// neither is taken.
#[test]
fn orders_of_channels_do_not_clash() {
    let mut gated = layer_by_hand(
        1,
        vec![
            select_tap(IMAGE, [0, -1], 0, 0, 2),
            select_tap(IMAGE, [-1, 1], 0, 4, 2),
            select_tap(IMAGE, [0, 0], 0, 1, 1),
            select_tap(IMAGE, [0, 0], 0, 3, 1),
            select_tap(IMAGE, [0, 0], 0, 5, 1),
        ],
    );
    (gated.gate, gated.pre) = (Some([Activation::Tanh, Activation::Sigmoid]), Some(2));
    let mut sum = layer_by_hand(3, vec![select_tap(1, [0, -1], 0, 2, 4)]);
    sum.residual = Some((2, 0));
    // Parameters of channel 0 read even channels, which are known before it is.
    let pairs = [(0, 0), (2, 1), (6, 1), (1, 2), (3, 3), (5, 2), (4, 3)];
    let taps = pairs.map(|(channel, parameter)| select_tap(3, [0, 0], channel, parameter, 1));
    let head = layer_by_hand(4, taps.to_vec());
    let nodes = [("gated", 0, 4), ("pre", 0, 8), ("sum", 0, 8), ("head", 0, 4)];
    let mut case = by_hand(Head::softmax(2, 2, true), &nodes, vec![gated, sum, head]);
    assert!(!looks_ahead(&mut case));
    agrees(&case).unwrap();
}
