//! `pixelcnn verify`: does this model, on this device, give the same numbers by every way of running it?

use std::collections::HashMap;
use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::engine::cpu::{CpuEngine, full};
use crate::engine::devices::gpu::{self, Adapter};
use crate::engine::{Draw, Engine, EngineError, Method, Outcome, Request, Shape, Want};
use crate::head::MOST_CHANNELS;
use crate::model::Model;
use crate::sampling::random::Noise;

use super::architecture::ArchitectureArgs;
use super::{EngineArgs, heading, images};

/// Check cached sampling against the full network on this machine
///
/// Runs random images through the full network, without caches, and through the sampling engines, and compares all
/// outputs. On a GPU this covers the kernels for all batch sizes up to 1024, long rows, and drawn images. The exit
/// code is 1 if a difference is larger than rounding.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    #[command(flatten)]
    model: ArchitectureArgs,

    /// Largest batch on a GPU; smaller ones test fewer kernels in less time
    #[arg(help_heading = heading::DEVICE)]
    #[arg(long, value_name = "N", default_value_t = LARGEST_GPU_BATCH, value_parser = images)]
    largest_batch: usize,

    /// Print the result as JSON
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    engine: EngineArgs,
}

const EXAMPLES: &str = "\
Examples:
  pixelcnn verify -m model.safetensors
  pixelcnn verify --architecture gated:64x7 --device gpu";

/// The largest error that rounding explains, for parameters of the order of 1; of larger ones, a share. The parameters of
/// one kind at a pixel, say its logits, are sums of the same hidden values with weights of like size, so that what is
/// rounded off one of them is a share of their root mean square, however small that one is.
const LIMIT: f64 = 1e-4;

/// Of drawn pixels, the share that may differ: where a value lies on the edge between two levels, rounding may fall
/// to either side.
const FLIPPED: f64 = 2e-3;

/// Images that the whole network computes, which is slow, and how many at a time: caches must not remember the batch
/// before.
const IN_FULL: usize = 4;
const AT_ONCE: usize = 2;

/// Images at a time on a GPU, at most. It chooses its kernels by them.
const LARGEST_GPU_BATCH: usize = 1024;

/// The number of different images in a batch, at most; larger batches repeat them, so that the CPU has little to do. No tile
/// of a kernel holds a multiple of this number.
const DIFFERENT: usize = 5;

/// Pixels of a long row, which some drivers cannot do in one dispatch.
const LONG_ROW: usize = 256;

/// Seed of the images, and of what is drawn.
const SEED: u64 = 1;

#[derive(Serialize)]
struct VerifyReport {
    model: String,
    size: String,
    images: usize,
    comparisons: Vec<Comparison>,
    /// The reasons for which others were not made.
    not_made: Vec<String>,
    passed: bool,
}

#[derive(Serialize)]
struct Comparison {
    name: String,
    /// Of a parameter, divided by the parameter itself where that is over 1; or the share of pixels that differ. Null if
    /// a number is not finite.
    largest_error: f64,
    limit: f64,
    passed: bool,
    /// The place of the largest error; a share has none.
    at: Option<Place>,
}

impl Comparison {
    /// Of a share of pixels.
    fn of_share(name: String, share: f64) -> Self {
        Self { name, largest_error: share, limit: FLIPPED, passed: share <= FLIPPED, at: None }
    }
}

#[derive(Clone, Copy, Serialize)]
struct Place {
    image: usize,
    row: usize,
    column: usize,
    parameter: usize,
    got: f32,
    expected: f32,
}

pub fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let model = args.model.load()?;
    let (width, height) = small_enough(&model);
    let (shape, multiple) = (model.shape(width, height), model.size_multiple());
    let threads = args.engine.threads();
    let (adapter, mut not_made) = match chosen_gpu(args)? {
        Ok(adapter) => (Some(adapter), Vec::new()),
        Err(why) => (None, vec![why]),
    };
    let gpu = adapter
        .as_ref()
        .map(|adapter| gpu::start_to_verify(&model, width, height, adapter, args.largest_batch));
    let gpu = gpu.transpose()?;

    let mut cpu = CpuEngine::new(&model, width, height, threads);
    let images = Images::random(IN_FULL, &shape);
    let [mut full, mut by_row, mut by_pixel] = [const { Vec::new() }; 3];
    for first in (0..IN_FULL).step_by(AT_ONCE) {
        let some = images.part(first, AT_ONCE, &shape);
        full.extend(full::parameters(&model, width, height, &some.levels, &some.classes, threads));
        by_row.extend(some.parameters(&mut cpu, Method::Cached, None, &shape)?);
        by_pixel.extend(some.parameters(&mut cpu, Method::ByPixel, None, &shape)?);
    }
    let mut comparisons = vec![
        compare("CPU cached by row, against CPU full", &by_row, &full, LIMIT, &shape),
        // The CPU engine promises the same sums in the same order.
        compare("CPU cached by pixel, against by row", &by_pixel, &by_row, 0.0, &shape),
    ];
    if let Some((mut gpu, batches)) = gpu {
        for batch in batches {
            match on_gpu(&mut *gpu, &mut cpu, batch, &shape, multiple) {
                Err(EngineError::BatchTooLarge { .. }) => {
                    not_made.push(format!("{}, batch {batch}: its memory does not hold it", gpu.name()));
                }
                made => comparisons.extend(made?),
            }
        }
    }
    if let Some(adapter) = adapter {
        let (width, height) = (LONG_ROW, 2 * multiple);
        if model.takes_size(width, height) {
            let shape = model.shape(width, height);
            let mut gpu = gpu::start(&model, width, height, &adapter)?;
            let mut cpu = CpuEngine::new(&model, width, height, threads);
            comparisons.extend(on_gpu(&mut *gpu, &mut cpu, 1, &shape, multiple)?);
        } else {
            let what = format!("images of {width}x{height} on a GPU: the model does not take this size");
            not_made.push(what);
        }
    }
    let passed = comparisons.iter().all(|c| c.passed);
    let size = format!("{width}x{height}");
    let report = VerifyReport { model: model.name, size, images: IN_FULL, comparisons, not_made, passed };
    super::print(&match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => describe(&report)?,
    })?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares a batch on a GPU with the CPU: parameters by row and by pixel; likelihoods with what parameters give; and what is
/// drawn with what parameters and noise give.
fn on_gpu(
    gpu: &mut dyn Engine,
    cpu: &mut CpuEngine,
    batch: usize,
    shape: &Shape,
    multiple: usize,
) -> Result<Vec<Comparison>, EngineError> {
    // Large batches go as far as every kind of row and of cache has been seen.
    let rows = if batch == 1 { shape.height } else { shape.height.min(2 * multiple + 1) };
    let pixels = rows * shape.width;
    let different = Images::random(batch.min(DIFFERENT), shape);
    let images = different.repeated(batch, shape);
    let expected = different.parameters(cpu, Method::Cached, Some(pixels), shape)?;
    let name = format!("{}, {}x{} in batches of {batch}", gpu.name(), shape.width, shape.height);
    let mut comparisons = Vec::new();
    for (method, way) in [(Method::Cached, "row"), (Method::ByPixel, "pixel")] {
        let got = images.evaluated(gpu, method, Some(pixels), shape)?;
        let what = format!("{name}: cached by {way}, against CPU");
        comparisons.push(compare(&what, &got.parameters, &expected, LIMIT, shape));
        if method == Method::Cached {
            let what = format!("{name}: likelihoods of pixels, other than parameters give");
            comparisons
                .push(Comparison::of_share(what, share_of_other_likelihoods(&images, &got, pixels, shape)));
        }
    }
    let classes = &images.classes;
    let lanes = (0..batch).map(|i| ((i % DIFFERENT) as u64, classes.get(i).copied()));
    let request = Request::sample(gpu.shape(), SEED, lanes)?.first(pixels);
    let drawn = Images { levels: gpu.run(&request, &mut |_| {})?.levels, classes: classes.clone() };
    let what = format!("{name}: drawn pixels, other than parameters and noise give");
    let share = share_of_other_draws(&drawn, cpu, pixels, shape)?;
    comparisons.push(Comparison::of_share(what, share));
    Ok(comparisons)
}

/// The share of the first `pixels` of each image whose log-likelihood differs from the definition's by more than
/// `LIMIT`. If a bin is on the edge between the definition's two forms, rounding may choose either.
fn share_of_other_likelihoods(images: &Images, told: &Outcome, pixels: usize, shape: &Shape) -> f64 {
    let parameters = told.parameters.chunks(shape.head.parameters());
    let levels = images.levels.chunks(shape.head.channels());
    let of_image = shape.width * shape.height;
    let is_other = |((told, parameters), levels): &((&f64, &[f32]), &[u16])| {
        let expected = shape.head.log_likelihood(parameters, levels);
        let error = (*told - expected).abs() / expected.abs().max(1.0);
        !error.is_finite() || error > LIMIT
    };
    let all = told.log_likelihood.iter().zip(parameters).zip(levels).enumerate();
    let wanted = all.filter(|(at, _)| at % of_image < pixels).map(|(_, pixel)| pixel);
    let other = wanted.filter(is_other).count();
    other as f64 / (pixels * (told.log_likelihood.len() / of_image)) as f64
}

/// The share of the first `pixels` of each image that are other than the CPU's parameters and noise give.
fn share_of_other_draws(
    drawn: &Images,
    cpu: &mut CpuEngine,
    pixels: usize,
    shape: &Shape,
) -> Result<f64, EngineError> {
    let channels = shape.head.channels();
    let (head, draw) = (shape.head, Draw::default());
    let (mut expected, mut values) = (vec![0; channels], vec![0.0; channels]);
    let mut other = 0;
    // Images of the same noise that are the same are looked at once.
    let mut seen: HashMap<(usize, &[u16]), usize> = HashMap::new();
    for (image, levels) in drawn.levels.chunks(shape.dimensions()).enumerate() {
        let noise = image % DIFFERENT;
        if let Some(others) = seen.get(&(noise, levels)) {
            other += others;
            continue;
        }
        let parameters =
            drawn.part(image, 1, shape).parameters(cpu, Method::Cached, Some(pixels), shape)?;
        let parameters = parameters.chunks(head.parameters());
        let mut others = 0;
        for ((pixel, levels), parameters) in
            levels.chunks(channels).enumerate().zip(parameters).take(pixels)
        {
            let noise = Noise::new(SEED, noise as u64).at(pixel);
            for step in 0..head.steps() {
                head.draw(step, parameters, noise, &draw, &mut expected, &mut values);
            }
            others += usize::from(levels != expected);
        }
        seen.insert((noise, levels), others);
        other += others;
    }
    let all = pixels * (drawn.levels.len() / shape.dimensions());
    Ok(other as f64 / all as f64)
}

/// Images, and a class for each if the model has any.
struct Images {
    /// `[N, H, W, C]`
    levels: Vec<u16>,
    classes: Vec<usize>,
}

impl Images {
    /// Images of random 8-bit levels.
    fn random(count: usize, shape: &Shape) -> Self {
        let levels_of = shape.head.levels();
        let mut levels = vec![0; count * shape.dimensions()];
        for (i, image) in levels.chunks_mut(shape.dimensions()).enumerate() {
            let noise = Noise::new(SEED, i as u64);
            for (pixel, levels) in (0..).zip(image.chunks_mut(shape.head.channels())) {
                let mut uniforms = [0.0; MOST_CHANNELS];
                noise.uniforms(pixel, &mut uniforms);
                levels
                    .iter_mut()
                    .zip(uniforms)
                    .for_each(|(level, u)| *level = (u * levels_of as f32) as u16);
            }
        }
        let classes = shape.classes;
        Self { levels, classes: (0..count).filter_map(|i| i.checked_rem(classes)).collect() }
    }

    /// This number of images, one after the other and again from the first.
    fn repeated(&self, count: usize, shape: &Shape) -> Self {
        let levels = self.levels.iter().copied().cycle().take(count * shape.dimensions()).collect();
        let classes = self.classes.iter().copied().cycle().take(count).collect();
        Self { levels, classes }
    }

    fn part(&self, first: usize, count: usize, shape: &Shape) -> Self {
        let dimensions = shape.dimensions();
        let levels = self.levels[first * dimensions..(first + count) * dimensions].to_vec();
        let classes = self.classes.iter().skip(first).take(count).copied().collect();
        Self { levels, classes }
    }

    /// An engine's parameters for them, `[N, H, W, P]`; those after the first `pixels` mean nothing.
    fn parameters(
        &self,
        engine: &mut dyn Engine,
        method: Method,
        pixels: Option<usize>,
        shape: &Shape,
    ) -> Result<Vec<f32>, EngineError> {
        Ok(self.evaluated(engine, method, pixels, shape)?.parameters)
    }

    /// The same, with the likelihood of every pixel.
    fn evaluated(
        &self,
        engine: &mut dyn Engine,
        method: Method,
        pixels: Option<usize>,
        shape: &Shape,
    ) -> Result<Outcome, EngineError> {
        let want = Want { parameters: true, likelihood: true, trace: false };
        let request = Request::evaluate(engine.shape(), &self.levels, &self.classes, want)?.by(method);
        let pixels = pixels.unwrap_or(shape.width * shape.height);
        engine.run(&request.first(pixels), &mut |_| {})
    }
}

/// The chosen GPU, or why there is none.
fn chosen_gpu(args: &VerifyArgs) -> Result<Result<Adapter, String>> {
    let (adapter, reason) = args.engine.adapter()?;
    let Some(adapter) = adapter else {
        let else_way = match cfg!(feature = "gpu") {
            true => " (--device gpu takes any adapter, a software one too)",
            false => "",
        };
        return Ok(Err(format!("GPU cached, against CPU full: {reason}{else_way}")));
    };
    Ok(Ok(adapter))
}

/// Width and height to check at: as trained, up to where every kind of cache has turned over several times.
fn small_enough(model: &Model) -> (usize, usize) {
    let most = (8 * model.size_multiple()).max(32);
    let (width, height) = model.size();
    // Some models take one size alone.
    Some((width.min(most), height.min(most)))
        .filter(|&(w, h)| model.takes_size(w, h))
        .unwrap_or((width, height))
}

/// The largest error and its first place. A number that is not finite is infinitely wrong. The expected numbers are
/// repeated if there are more images.
fn compare(name: &str, got: &[f32], expected: &[f32], limit: f64, shape: &Shape) -> Comparison {
    let of_image = shape.width * shape.height * shape.head.parameters();
    assert!(got.len() >= expected.len() && got.len().is_multiple_of(of_image), "{name}");
    let kind = shape.head.group();
    let rms = |of: &[f32]| (of.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / kind as f64).sqrt();
    let sizes: Vec<_> = expected.chunks(kind).map(rms).collect();
    let error = |i: usize| {
        let of = i % expected.len();
        let (got, expected) = (f64::from(got[i]), f64::from(expected[of]));
        let error = (got - expected).abs() / expected.abs().max(sizes[of / kind]).max(1.0);
        if error.is_finite() { error } else { f64::INFINITY }
    };
    let worst = (0..got.len()).rev().max_by(|&i, &j| error(i).total_cmp(&error(j))).unwrap_or(0);
    let (pixel, parameter) = (worst / shape.head.parameters(), worst % shape.head.parameters());
    let at = Place {
        image: pixel / (shape.width * shape.height),
        row: pixel / shape.width % shape.height,
        column: pixel % shape.width,
        parameter,
        got: got[worst],
        expected: expected[worst % expected.len()],
    };
    let largest_error = error(worst);
    Comparison { name: name.to_owned(), largest_error, limit, passed: largest_error <= limit, at: Some(at) }
}

fn describe(report: &VerifyReport) -> Result<String> {
    let VerifyReport { model, size, images, comparisons, not_made, passed } = report;
    let mut text = format!("model {model}, {images} images of {size} in full; the largest errors:\n");
    for Comparison { name, largest_error, limit, passed, at } in comparisons {
        let verdict = if *passed { "ok" } else { "FAILED" };
        writeln!(text, "  {verdict:6}  {largest_error:8.1e}  {name}")?;
        if let (false, Some(Place { image, row, column, parameter, got, expected })) = (passed, at) {
            writeln!(
                text,
                "          over {limit:e}: image {image}, row {row}, column {column}, parameter {parameter}: \
                 got {got}, expected {expected}"
            )?;
        }
    }
    for reason in not_made {
        writeln!(text, "  not made          {reason}")?;
    }
    writeln!(text, "{}", if *passed { "passed" } else { "failed" })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_found_and_placed_and_nan_fails() {
        let shape = Model::shipped("mnist").unwrap().unwrap().shape(28, 28);
        let per_pixel = shape.head.parameters();
        let expected = vec![0.5; 2 * 28 * 28 * per_pixel];
        let compare = |got: &[f32]| compare("", got, &expected, LIMIT, &shape);
        assert!(compare(&expected).passed);
        let mut got = expected.clone();
        got[((28 + 3) * 28 + 5) * per_pixel + 7] += 0.001;
        let Comparison { passed, at, .. } = compare(&got);
        assert!(!passed);
        let at = at.unwrap();
        assert_eq!((at.image, at.row, at.column, at.parameter), (1, 3, 5, 7));
        got[0] = f32::NAN;
        let Comparison { passed, at, .. } = compare(&got);
        assert!(!passed && at.is_some_and(|at| at.row == 0 && at.got.is_nan()));
    }

    #[test]
    fn errors_are_small_beside_others_of_their_kind() {
        let shape = Model::shipped("mnist").unwrap().unwrap().shape(28, 28);
        let mut expected = vec![0.5; 28 * 28 * shape.head.parameters()];
        expected[1..shape.head.group()].fill(30.0);
        for (parameter, passed) in [(0, true), (shape.head.group(), false)] {
            let mut got = expected.clone();
            got[parameter] += 0.001;
            assert_eq!(compare("", &got, &expected, LIMIT, &shape).passed, passed);
        }
    }
}
