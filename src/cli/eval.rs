//! `pixelcnn eval`: how likely images are under a model, in bits per dimension.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use pixelcnn::engine::{EngineError, Job, Room, Want};
use pixelcnn::model::Model;
use pixelcnn::output::{self, NewFile, npy};
use pixelcnn::sampling::mixture;

use super::input::{Classes, Input, InputArgs, Inputs, Others};
use super::{EngineArgs, ModelArgs};

/// Measure how well a model predicts images, in bits per dimension
///
/// Images are files of any size that the network can take, turned upright as their EXIF data says, on white
/// where they are transparent. Grey images go into RGB models; colour images go into a grey model only if
/// they hold no colour. An image that cannot be used is named and passed over, and the exit code is 1.
#[derive(clap::Args)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    input: InputArgs,

    /// Class of the images, by name or index: one for all, or a comma list with one for each in their
    /// order; a model with classes needs it unless sub-folders are named by them, an .npz has y, or
    /// --labels says them
    #[arg(long, value_name = "LIST", conflicts_with = "labels")]
    class: Option<String>,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    /// Also write the network's output as a NumPy array [N, H, W, parameters]; images of one size only
    #[arg(long, value_name = "OUT.npy")]
    params: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    images: Vec<ImageReport<'a>>,
    mean_bits_per_dim: f64,
    #[serde(flatten)]
    others: &'a Others,
}

#[derive(Serialize)]
struct ImageReport<'a> {
    path: &'a str,
    class: Option<&'a str>,
    bits_per_dim: f64,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let model = args.model.load()?;
    if let Some(path) = &args.params {
        output::check(path, "npy")?;
    }
    let classes = match &args.class {
        Some(list) => Classes::Listed(list),
        None if args.input.list => Classes::Known,
        None => Classes::Needed,
    };
    let inputs = args.input.read(&model, &classes)?;
    if args.input.list {
        return inputs.list(&model, args.json);
    }
    let mut params = match &args.params {
        Some(path) => Some(begin_params(path, &inputs.images, &model)?),
        None => None,
    };
    let bits = evaluate(args, &inputs.images, &model, params.as_mut())?;
    if let Some(file) = params {
        file.finish()?;
    }
    report(args, &model, &inputs, &bits)?;
    Ok(inputs.exit_code())
}

/// Begins the file of `--params`.
fn begin_params(path: &Path, inputs: &[Input], model: &Model) -> Result<NewFile> {
    let first = &inputs[0];
    if let Some(other) = inputs.iter().find(|i| (i.width, i.height) != (first.width, first.height)) {
        let size = |input: &Input| format!("{} is {}x{}", input.name, input.width, input.height);
        bail!("--params takes images of one size, but {}, and {}", size(first), size(other));
    }
    let shape = [inputs.len(), first.height, first.width, model.config.parameters_per_pixel()];
    let mut file = NewFile::create(path)?;
    file.reserve((shape.iter().product::<usize>() * size_of::<f32>()) as u64)?;
    file.fill(|writer| npy::write_header(writer, npy::Type::F32, &shape))?;
    Ok(file)
}

/// Bits per dimension of every image; the network's output goes to `params`.
fn evaluate(
    args: &Args,
    inputs: &[Input],
    model: &Model,
    mut params: Option<&mut NewFile>,
) -> Result<Vec<f64>> {
    let mut devices = args.engine.choose(model, inputs.len())?;
    let mut sizes: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (i, input) in inputs.iter().enumerate() {
        sizes.entry((input.width, input.height)).or_default().push(i);
    }
    let mut bits = vec![0.0; inputs.len()];
    let bar = super::progress(inputs.len(), 1);
    for ((width, height), of_size) in sizes {
        let mut engine = devices.start(model, width, height)?;
        let per_image = width * height * model.config.parameters_per_pixel();
        let most = if params.is_some() { (OUTPUT_LIMIT / per_image).max(1) } else { usize::MAX };
        let batch = super::even(of_size.len(), engine.prepare(Room::UpTo(of_size.len().min(most)))?);
        let want = Want { likelihood: true, parameters: params.is_some(), ..Want::default() };
        for indices in of_size.chunks(batch) {
            let of_batch = || indices.iter().map(|&i| &inputs[i]);
            let values: Vec<_> = of_batch().flat_map(|i| &i.levels).map(|&v| mixture::value(v)).collect();
            let classes: Vec<_> = of_batch().filter_map(|i| i.class).collect();
            let mut job = Job::evaluate(&model.config.with_size(width, height), &values, &classes, want);
            job.lanes.iter_mut().zip(indices).for_each(|(lane, &i)| lane.index = i as u64);
            let outcome = engine.run(&job, &mut |_| {}).map_err(|error| of_input(error, inputs))?;
            for (&i, of_pixels) in indices.iter().zip(outcome.log_likelihood.chunks(width * height)) {
                bits[i] = mixture::bits_per_dim_of(of_pixels, model.config.channels);
                ensure!(bits[i].is_finite(), "{}: its likelihood is not a finite number", inputs[i].name);
            }
            if let Some(file) = &mut params {
                file.fill(|writer| npy::write_values(writer, &outcome.parameters))?;
            }
            bar.inc(indices.len() as u64);
        }
    }
    bar.finish_and_clear();
    Ok(bits)
}

/// Numbers of network output that are held at a time, about: 256 MiB.
const OUTPUT_LIMIT: usize = 1 << 26;

/// An error of the engine, with the file that it is about.
fn of_input(error: EngineError, inputs: &[Input]) -> anyhow::Error {
    match error {
        EngineError::NotFinite { image, .. } => {
            anyhow::Error::from(error).context(inputs[image as usize].name.clone())
        }
        other => other.into(),
    }
}

fn report(args: &Args, model: &Model, inputs: &Inputs, bits: &[f64]) -> Result<()> {
    let images = inputs.images.iter().zip(bits).map(|(input, &bits_per_dim)| ImageReport {
        path: &input.name,
        class: input.class.map(|class| model.config.classes[class].as_str()),
        bits_per_dim,
    });
    let report = Report {
        images: images.collect(),
        mean_bits_per_dim: bits.iter().sum::<f64>() / bits.len() as f64,
        others: &inputs.others,
    };
    if args.json {
        return super::print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    }
    let mut text = "bits/dim  image\n".to_owned();
    for ImageReport { path, class, bits_per_dim } in &report.images {
        let class = class.map_or(String::new(), |class| format!("  (class {})", super::printable(class)));
        writeln!(text, "{bits_per_dim:8.4}  {path}{class}")?;
    }
    let count = super::counted(report.images.len());
    writeln!(text, "{:8.4}  mean of {count}", report.mean_bits_per_dim)?;
    super::print(&text)
}
