//! `pixelcnn eval`: how likely images are under a model, in bits per dimension.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

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
    file.fill(|writer| npy::write_header(writer, &shape))?;
    Ok(file)
}

/// Bits per dimension of every image; the network's output goes to `params`.
fn evaluate(
    args: &Args,
    inputs: &[Input],
    model: &Model,
    mut params: Option<&mut NewFile>,
) -> Result<Vec<f64>> {
    let adapter = args.engine.choose()?;
    let mut sizes: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (i, input) in inputs.iter().enumerate() {
        sizes.entry((input.width, input.height)).or_default().push(i);
    }
    let mut bits = vec![0.0; inputs.len()];
    let bar = super::progress(inputs.len(), 1);
    for ((width, height), of_size) in sizes {
        let mut engine = args.engine.start(adapter.as_ref(), model, width, height)?;
        let per_image = width * height * model.config.parameters_per_pixel();
        let batch = engine.prepare_suggested(of_size.len().min((OUTPUT_LIMIT / per_image).max(1)))?;
        for indices in of_size.chunks(batch) {
            let of_batch = || indices.iter().map(|&i| &inputs[i]);
            let values: Vec<_> = of_batch().flat_map(|i| &i.levels).map(|&v| mixture::value(v)).collect();
            let classes: Vec<_> = of_batch().filter_map(|i| i.class).collect();
            let parameters = engine.parameters(&values, &classes)?;
            for (&i, parameters) in indices.iter().zip(parameters.chunks(per_image)) {
                bits[i] =
                    bits_per_dim(parameters, &inputs[i], model).with_context(|| inputs[i].name.clone())?;
            }
            if let Some(file) = &mut params {
                file.fill(|writer| npy::write_values(writer, &parameters))?;
            }
            bar.inc(indices.len() as u64);
        }
    }
    bar.finish_and_clear();
    Ok(bits)
}

/// Numbers of network output that are held at a time, about: 256 MiB.
const OUTPUT_LIMIT: usize = 1 << 26;

fn bits_per_dim(parameters: &[f32], input: &Input, model: &Model) -> Result<f64> {
    // Bounds on scales would hide a NaN.
    if let Some(bad) = parameters.iter().position(|p| !p.is_finite()) {
        let pixel = bad / model.config.parameters_per_pixel();
        let (row, column) = (pixel / input.width, pixel % input.width);
        bail!("the network gave NaN or infinity at row {row}, column {column}; the weights are broken");
    }
    let bits = mixture::bits_per_dim(parameters, &input.levels, model.config.channels);
    ensure!(bits.is_finite(), "its likelihood is not a finite number ({bits} bits/dim)");
    Ok(bits)
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
        let class = class.map_or(String::new(), |class| format!("  (class {class})"));
        writeln!(text, "{bits_per_dim:8.4}  {path}{class}")?;
    }
    let count = super::counted(report.images.len());
    writeln!(text, "{:8.4}  mean of {count}", report.mean_bits_per_dim)?;
    super::print(&text)
}
