//! `pixelcnn eval`: how likely images are under a model, in bits per dimension.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::model::Model;
use crate::output::histogram::Histogram;
use crate::output::{self, NewFile, npy};

use super::input::{Classes, Input, InputArgs, Inputs, Others};
use super::likelihood::{Case, ReportArgs, bits_per_dim, log_likelihoods};
use super::{EngineArgs, Files, ModelArgs, heading, shell};

/// Measure the likelihood of images, in bits per dimension
///
/// An image of another size than the model was trained on is cropped to its middle and resized, as in training. EXIF
/// rotation is applied, and transparency is flattened onto white. RGB models accept grey images; grey models accept
/// colour images only if all their pixels are grey. Unusable images are reported and skipped, and the exit code is
/// then 1.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct EvalArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    input: InputArgs,

    /// Classes by name or index: one for all, or one per image
    ///
    /// A model with classes needs them, unless folders are named after the classes, an .npz file holds y, or --labels
    /// is given.
    #[arg(help_heading = heading::IMAGES)]
    #[arg(long, value_name = "LIST", conflicts_with = "labels", add = shell::class())]
    class: Option<String>,

    #[command(flatten)]
    report: ReportArgs,

    /// Also write the network's output as .npy, [N, H, W, parameters]
    ///
    /// All images must have the same size.
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long, value_name = "OUT.npy")]
    params: Option<PathBuf>,

    #[command(flatten)]
    engine: EngineArgs,
}

const EXAMPLES: &str = "\
Examples:
  pixelcnn eval -m model.safetensors photos
  pixelcnn eval -m mnist digits.npz --csv bits.csv --plot bits.png";

/// With more images than this, the most and the least likely are named.
const FEW: usize = 20;

/// The number of images to name of each kind.
const NAMED: usize = 5;

#[derive(Serialize)]
struct EvalReport<'a> {
    images: Vec<ImageReport<'a>>,
    mean_bits_per_dim: f64,
    /// Of the mean; none for one image.
    standard_error: Option<f64>,
    median_bits_per_dim: f64,
    #[serde(flatten)]
    others: &'a Others,
}

#[derive(Serialize)]
struct ImageReport<'a> {
    path: &'a str,
    class: Option<&'a str>,
    bits_per_dim: f64,
}

pub fn run(args: &EvalArgs) -> Result<ExitCode> {
    let model = args.model.load()?;
    args.params.as_ref().map_or(Ok(()), |path| output::check(path, "npy"))?;
    let mut files = Files::default();
    args.model.add_to(&mut files);
    files.writes("--params", args.params.as_deref());
    args.report.check(&mut files)?;
    let classes = match &args.class {
        Some(list) => Classes::Listed(list),
        None if args.input.list => Classes::Known,
        None => Classes::Needed,
    };
    let (inputs, _) = args.input.read(&model, &classes, files)?;
    if args.input.list {
        return inputs.list(&model, args.report.json);
    }
    let mut params = match &args.params {
        Some(path) => Some(begin_params(path, &inputs.images, &model)?),
        None => None,
    };
    let case = |(input, image): (usize, &Input)| Case { input, class: image.class };
    let cases: Vec<_> = inputs.images.iter().enumerate().map(case).collect();
    let nats = log_likelihoods(&args.engine, &model, &inputs.images, &cases, params.as_mut())?;
    let bits: Vec<_> =
        nats.iter().zip(&inputs.images).map(|(&nats, input)| bits_per_dim(nats, input)).collect();
    let plot = |path: &PathBuf| {
        let roots = args.input.roots();
        let values = inputs.images.iter().zip(&bits).map(|(input, &bits)| (input.root, bits));
        super::write_chart(path, &Histogram::new(&super::printable(&model.name), &roots, values.collect()))
    };
    super::all([
        params.map_or(Ok(()), |file| Ok(file.finish()?)),
        args.report.plot.as_ref().map_or(Ok(()), plot),
        report(args, &model, &inputs, &bits),
    ])?;
    Ok(inputs.exit_code())
}

/// Begins the file of `--params`.
fn begin_params(path: &Path, inputs: &[Input], model: &Model) -> Result<NewFile> {
    let first = &inputs[0];
    if let Some(other) = inputs.iter().find(|i| (i.width, i.height) != (first.width, first.height)) {
        let size = |input: &Input| format!("{} is {}x{}", input.name, input.width, input.height);
        bail!("--params expects images of one size, but {}, and {}", size(first), size(other));
    }
    let shape = [inputs.len(), first.height, first.width, model.head().parameters()];
    let mut file = NewFile::create(path)?;
    file.reserve((shape.iter().product::<usize>() * size_of::<f32>()) as u64)?;
    file.fill(|writer| npy::write_header(writer, npy::Type::F32, &shape))?;
    Ok(file)
}

fn report(args: &EvalArgs, model: &Model, inputs: &Inputs, bits: &[f64]) -> Result<()> {
    let images = inputs.images.iter().zip(bits).map(|(input, &bits_per_dim)| ImageReport {
        path: &input.name,
        class: input.class.map(|class| model.classes()[class].as_str()),
        bits_per_dim,
    });
    let [mean, error, median] = statistics(bits);
    let report = EvalReport {
        images: images.collect(),
        mean_bits_per_dim: mean,
        standard_error: (bits.len() > 1).then_some(error),
        median_bits_per_dim: median,
        others: &inputs.others,
    };
    let write_csv = |path: &PathBuf| {
        let row = |image: &ImageReport| {
            let class = image.class.unwrap_or("").to_owned();
            vec![image.path.to_owned(), class, image.bits_per_dim.to_string()]
        };
        let header = ["path", "class", "bits_per_dim"].map(str::to_owned).to_vec();
        super::write_csv(path, [header].into_iter().chain(report.images.iter().map(row)).collect())
    };
    let text = match args.report.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => describe(&report)?,
    };
    super::all([args.report.csv.as_ref().map_or(Ok(()), write_csv), super::print(&text)])
}

/// Mean, its standard error, and median.
fn statistics(values: &[f64]) -> [f64; 3] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = if sorted.len().is_multiple_of(2) {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    } else {
        sorted[middle]
    };
    [mean, (variance / n).sqrt(), median]
}

fn describe(report: &EvalReport) -> Result<String> {
    let mut text = "bits/dim  image\n".to_owned();
    let line = |text: &mut String, image: &ImageReport| {
        let class =
            image.class.map_or(String::new(), |class| format!("  (class {})", super::printable(class)));
        writeln!(text, "{:8.4}  {}{class}", image.bits_per_dim, image.path)
    };
    report.images.iter().try_for_each(|image| line(&mut text, image))?;
    let count = super::counted(report.images.len());
    let error =
        report.standard_error.map_or(String::new(), |error| format!(" (standard error {error:.4})"));
    writeln!(text, "{:8.4}  mean of {count}{error}", report.mean_bits_per_dim)?;
    if report.images.len() > 1 {
        writeln!(text, "{:8.4}  median", report.median_bits_per_dim)?;
    }
    if report.images.len() > FEW {
        let mut sorted: Vec<_> = report.images.iter().collect();
        sorted.sort_by(|a, b| a.bits_per_dim.total_cmp(&b.bits_per_dim));
        text.push_str("\nmost likely\n");
        sorted.iter().take(NAMED).try_for_each(|image| line(&mut text, image))?;
        text.push_str("\nleast likely\n");
        sorted.iter().rev().take(NAMED).try_for_each(|image| line(&mut text, image))?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn statistics_are_those_of_a_sample() {
        let [mean, error, median] = super::statistics(&[1.0, 2.0, 3.0, 10.0]);
        // The variance of the sample is 50/3.
        assert_eq!((mean, median), (4.0, 2.5));
        assert!((error - (50.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
        assert_eq!(super::statistics(&[5.0]), [5.0, 0.0, 5.0]);
    }
}
