//! `pixelcnn verify`: does this model, on this device, give the same numbers by every way of running it?

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use pixelcnn::engine::Engine;
use pixelcnn::engine::cpu::{CpuEngine, full};
use pixelcnn::engine::gpu::{GpuEngine, adapter};
use pixelcnn::model::{Config, Model};
use pixelcnn::sampling::mixture;
use pixelcnn::sampling::random::Noise;

use super::{EngineArgs, ModelArgs};

/// Check that the cached engines agree with the whole network on this machine
///
/// Runs images of random pixels through the network as a whole, without caches, and through the engines
/// that draw images, and compares all that comes out. Exit code 1 if any of it differs by more than 1e-4.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// The largest error that rounding explains; parameters are of the order of 1.
const LIMIT: f64 = 1e-4;

/// Images at a time, and how often: caches must not remember the batch before.
const BATCH: usize = 2;
const ROUNDS: usize = 2;

/// Seed of the images.
const SEED: u64 = 1;

#[derive(Serialize)]
struct Report {
    model: String,
    size: String,
    images: usize,
    comparisons: Vec<Comparison>,
    /// Why others were not made.
    not_made: Vec<String>,
    passed: bool,
}

#[derive(Serialize)]
struct Comparison {
    name: String,
    /// Null if a number is not finite.
    largest_error: f64,
    limit: f64,
    passed: bool,
    /// Where the largest error is.
    at: Place,
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

pub fn run(args: &Args) -> Result<ExitCode> {
    let model = args.model.load()?;
    let config = small_enough(&model.config);
    let (width, height, threads) = (config.width, config.height, args.engine.threads());
    let (gpu, not_made) = gpu(args, &model, &config)?;

    let mut cpu = CpuEngine::new(&model, width, height, threads);
    let [mut full, mut by_row, mut by_pixel, mut on_gpu] = [const { Vec::new() }; 4];
    let mut gpu = gpu;
    for round in 0..ROUNDS {
        let (images, classes) = batch(round * BATCH, &config);
        full.extend(full::parameters(&model, width, height, &images, &classes, threads));
        by_row.extend(cpu.parameters(&images, &classes)?);
        by_pixel.extend(cpu.parameters_by_pixel(&images, &classes)?);
        if let Some(gpu) = &mut gpu {
            on_gpu.extend(gpu.parameters(&images, &classes)?);
        }
    }
    let mut comparisons = vec![
        compare("CPU cached by row, against CPU full", &by_row, &full, LIMIT, &config),
        // The CPU engine promises the same sums in the same order.
        compare("CPU cached by pixel, against by row", &by_pixel, &by_row, 0.0, &config),
    ];
    if let Some(gpu) = &gpu {
        let name = format!("{} cached, against CPU full", gpu.name());
        comparisons.push(compare(&name, &on_gpu, &full, LIMIT, &config));
    }
    let passed = comparisons.iter().all(|c| c.passed);
    let size = format!("{width}x{height}");
    let images = BATCH * ROUNDS;
    let report = Report { model: model.name, size, images, comparisons, not_made, passed };
    super::print(&match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => describe(&report)?,
    })?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The engine on the chosen GPU, or why there is none.
fn gpu(args: &Args, model: &Model, config: &Config) -> Result<(Option<GpuEngine>, Vec<String>)> {
    let (adapter, pick) = adapter::choose(&args.engine.device)?;
    match adapter {
        Some(adapter) => {
            let engine = GpuEngine::new(model, config.width, config.height, &adapter)?;
            Ok((Some(engine), Vec::new()))
        }
        None => {
            let why = format!(
                "GPU cached, against CPU full: {} (--device gpu takes any adapter, a software one too)",
                pick.reason
            );
            Ok((None, vec![why]))
        }
    }
}

/// The size to check at: as trained, up to where every kind of cache has turned over several times.
fn small_enough(config: &Config) -> Config {
    let most = (8 * config.size_multiple()).max(32);
    config.with_size(config.width.min(most), config.height.min(most))
}

/// Images of random 8-bit levels, and a class for each if the model has any.
fn batch(first: usize, config: &Config) -> (Vec<f32>, Vec<usize>) {
    let mut images = vec![0.0; BATCH * config.dimensions()];
    for (i, image) in images.chunks_mut(config.dimensions()).enumerate() {
        let noise = Noise::new(SEED, (first + i) as u64);
        for (pixel, values) in (0..).zip(image.chunks_mut(config.channels)) {
            noise.uniforms(pixel, values);
            values.iter_mut().for_each(|u| *u = mixture::value((*u * 256.0) as u8));
        }
    }
    let of_image = |i| (first + i) % config.classes.len();
    let classes = if config.classes.is_empty() { vec![] } else { (0..BATCH).map(of_image).collect() };
    (images, classes)
}

/// The largest error, and where it is first. Anything that is not finite is infinitely wrong.
fn compare(name: &str, got: &[f32], expected: &[f32], limit: f64, config: &Config) -> Comparison {
    assert_eq!(got.len(), expected.len(), "{name}");
    let error = |i: usize| {
        let error = (f64::from(got[i]) - f64::from(expected[i])).abs();
        if error.is_finite() { error } else { f64::INFINITY }
    };
    let worst = (0..got.len()).rev().max_by(|&i, &j| error(i).total_cmp(&error(j))).unwrap_or(0);
    let (pixel, parameter) = (worst / config.parameters_per_pixel(), worst % config.parameters_per_pixel());
    let at = Place {
        image: pixel / (config.width * config.height),
        row: pixel / config.width % config.height,
        column: pixel % config.width,
        parameter,
        got: got[worst],
        expected: expected[worst],
    };
    let largest_error = error(worst);
    Comparison { name: name.to_owned(), largest_error, limit, passed: largest_error <= limit, at }
}

fn describe(report: &Report) -> Result<String> {
    let Report { model, size, images, comparisons, not_made, passed } = report;
    let mut text =
        format!("model {model}, {images} images of {size}; the largest error of any parameter:\n");
    for Comparison { name, largest_error, limit, passed, at } in comparisons {
        let verdict = if *passed { "ok" } else { "FAILED" };
        writeln!(text, "  {verdict:6}  {largest_error:8.1e}  {name}")?;
        if !passed {
            let Place { image, row, column, parameter, got, expected } = at;
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
        let config = Model::embedded().unwrap().config;
        let per_pixel = config.parameters_per_pixel();
        let expected = vec![0.5; 2 * 28 * 28 * per_pixel];
        let compare = |got: &[f32]| compare("", got, &expected, LIMIT, &config);
        assert!(compare(&expected).passed);
        let mut got = expected.clone();
        got[((28 + 3) * 28 + 5) * per_pixel + 7] += 0.001;
        let Comparison { passed, at, .. } = compare(&got);
        assert!(!passed);
        assert_eq!((at.image, at.row, at.column, at.parameter), (1, 3, 5, 7));
        got[0] = f32::NAN;
        let Comparison { passed, at, .. } = compare(&got);
        assert!(!passed && at.row == 0 && at.got.is_nan());
    }
}
