//! `pixelcnn classify`: which class images are likeliest under, by Bayes' rule.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::model::Model;
use crate::output::confusion::Confusion;
use crate::output::{self, file, npy};

use super::input::{Classes, InputArgs, Inputs, Others};
use super::likelihood::{Case, ReportArgs, bits_per_dim, log_likelihoods};
use super::{EngineArgs, Files, ModelArgs, heading};

/// Classify images by the likelihood under each class
///
/// Class probabilities follow by Bayes' rule. They are compared with the true classes if those are known: from
/// folders named after the classes, from y in an .npz file, or from --labels. An image of another size than the model
/// was trained on is cropped to its middle and resized, as in training. Unusable images are reported and skipped, and
/// the exit code is then 1.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct ClassifyArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    input: InputArgs,

    /// Prior of each class, in the model's order [default: uniform]
    ///
    /// Values are normalised.
    #[arg(help_heading = heading::IMAGES)]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_share)]
    prior: Option<Vec<f64>>,

    #[command(flatten)]
    report: ReportArgs,

    /// Also write log-likelihoods in nats as .npy, float64 [N, classes]
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long, value_name = "OUT.npy")]
    scores: Option<PathBuf>,

    #[command(flatten)]
    engine: EngineArgs,
}

const EXAMPLES: &str = "\
Examples:
  pixelcnn classify -m mnist digits
  pixelcnn classify -m mnist digits --plot confusion.png";

/// Ways to tell the classes of images.
const TELL_CLASSES: &str = "folders named by them, y in an .npz, or --labels FILE.csv";

fn parse_share(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|share: &f64| share.is_finite() && *share >= 0.0);
    number
        .ok_or("expected a number that is not negative for each class, with commas between them".to_owned())
}

#[derive(Serialize)]
struct ClassifyReport<'a> {
    classes: &'a [String],
    prior: &'a [f64],
    images: Vec<ImageReport<'a>>,
    /// Of the images whose class is known.
    accuracy: Option<f64>,
    /// By class; none where no image has it.
    accuracy_of_classes: Option<Vec<Option<f64>>>,
    /// Images of each class, by what they were taken for.
    confusion: Option<&'a [Vec<usize>]>,
    #[serde(flatten)]
    others: &'a Others,
}

#[derive(Serialize)]
struct ImageReport<'a> {
    path: &'a str,
    class: Option<&'a str>,
    predicted: &'a str,
    bits_per_dim: Vec<f64>,
    probabilities: Vec<f64>,
}

pub fn run(args: &ClassifyArgs) -> Result<ExitCode> {
    let model = args.model.load()?;
    let names = &model.classes();
    if names.is_empty() {
        bail!("model {} has no classes to choose from (pixelcnn eval measures likelihood)", model.name);
    }
    args.scores.as_ref().map_or(Ok(()), |path| output::check(path, "npy"))?;
    let mut files = Files::default();
    args.model.add_to(&mut files);
    files.writes("--scores", args.scores.as_deref());
    args.report.check(&mut files)?;
    let prior = prior(args, names.len())?;
    let (inputs, _) = args.input.read(&model, &Classes::Known, files)?;
    if args.input.list {
        return inputs.list(&model, args.report.json);
    }
    let any_known = inputs.images.iter().any(|input| input.class.is_some());
    ensure!(
        any_known || args.report.plot.is_none(),
        "--plot: nothing says the classes of the images ({TELL_CLASSES})"
    );
    let (images, classes) = (inputs.images.len(), names.len());
    let case = |i: usize| Case { input: i / classes, class: Some(i % classes) };
    let cases: Vec<_> = (0..images * classes).map(case).collect();
    let nats = log_likelihoods(&args.engine, &model, &inputs.images, &cases, None)?;

    let probabilities: Vec<_> = nats.chunks(classes).map(|nats| posterior(nats, &prior)).collect();
    let predicted: Vec<_> = probabilities.iter().map(|of_image| likeliest(of_image)).collect();
    let known = inputs.images.iter().map(|input| input.class).zip(predicted.iter().copied());
    let shown: Vec<_> = names.iter().map(|name| super::printable(name)).collect();
    let confusion = Confusion::of(&super::printable(&model.name), known, &shown);
    let image = |(i, probabilities): (usize, Vec<f64>)| {
        let input = &inputs.images[i];
        let of_image = &nats[i * classes..(i + 1) * classes];
        ImageReport {
            path: &input.name,
            class: input.class.map(|class| names[class].as_str()),
            predicted: &names[predicted[i]],
            bits_per_dim: of_image.iter().map(|&nats| bits_per_dim(nats, input)).collect(),
            probabilities,
        }
    };
    let report = ClassifyReport {
        classes: names,
        prior: &prior,
        images: probabilities.into_iter().enumerate().map(image).collect(),
        accuracy: confusion.as_ref().map(Confusion::accuracy),
        accuracy_of_classes: confusion.as_ref().map(Confusion::accuracy_of_classes),
        confusion: confusion.as_ref().map(|confusion| &confusion.counts[..]),
        others: &inputs.others,
    };
    let text = match args.report.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => describe(&report, &inputs, &model, confusion.as_ref())?,
    };
    super::all([
        args.scores.as_ref().map_or(Ok(()), |path| write_scores(path, &nats, classes)),
        args.report
            .plot
            .as_ref()
            .zip(confusion.as_ref())
            .map_or(Ok(()), |(path, chart)| super::write_chart(path, chart)),
        args.report.csv.as_ref().map_or(Ok(()), |path| report.write_csv(path)),
        super::print(&text),
    ])?;
    Ok(inputs.exit_code())
}

/// The probabilities of the classes before an image is seen.
fn prior(args: &ClassifyArgs, classes: usize) -> Result<Vec<f64>> {
    let Some(prior) = &args.prior else { return Ok(vec![1.0 / classes as f64; classes]) };
    ensure!(
        prior.len() == classes,
        "--prior has {} numbers: expected one for each of the {classes} classes (`pixelcnn inspect` lists them)",
        prior.len()
    );
    let sum: f64 = prior.iter().sum();
    ensure!(sum > 0.0 && sum.is_finite(), "--prior: expected one class at least that is possible");
    Ok(prior.iter().map(|share| share / sum).collect())
}

/// Probabilities of the classes of an image, from its log-likelihoods in nats and their prior.
fn posterior(nats: &[f64], prior: &[f64]) -> Vec<f64> {
    let joint: Vec<_> = nats.iter().zip(prior).map(|(nats, prior)| nats + prior.ln()).collect();
    let most = joint.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let relative: Vec<_> = joint.iter().map(|joint| (joint - most).exp()).collect();
    let sum: f64 = relative.iter().sum();
    relative.iter().map(|probability| probability / sum).collect()
}

/// The first of the likeliest.
fn likeliest(probabilities: &[f64]) -> usize {
    let better =
        |best: usize, class: usize| if probabilities[class] > probabilities[best] { class } else { best };
    (0..probabilities.len()).reduce(better).unwrap_or(0)
}

fn write_scores(path: &Path, nats: &[f64], classes: usize) -> Result<()> {
    let shape = [nats.len() / classes, classes];
    Ok(file::write(path, |writer| {
        npy::write_header(writer, npy::Type::F64, &shape)?;
        nats.iter().try_for_each(|nats| std::io::Write::write_all(writer, &nats.to_le_bytes()))
    })?)
}

impl ClassifyReport<'_> {
    fn write_csv(&self, path: &Path) -> Result<()> {
        let of_classes =
            |what: &'static str| self.classes.iter().map(move |class| format!("{what} {class}"));
        let header = ["path", "class", "predicted"].map(str::to_owned).into_iter();
        let header = header.chain(of_classes("bits_per_dim")).chain(of_classes("probability"));
        let rows = self.images.iter().map(|image| {
            let words =
                [image.path, image.class.unwrap_or(""), image.predicted].map(str::to_owned).into_iter();
            let bits = image.bits_per_dim.iter().map(f64::to_string);
            words.chain(bits).chain(image.probabilities.iter().copied().map(six_digits)).collect()
        });
        super::write_csv(path, [header.collect()].into_iter().chain(rows).collect())
    }
}

/// A probability with 6 significant digits.
fn six_digits(probability: f64) -> String {
    let rounded: f64 = format!("{probability:.5e}").parse().expect("it was written as a number");
    if rounded != 0.0 && rounded < 1e-4 { format!("{rounded:e}") } else { rounded.to_string() }
}

fn describe(
    report: &ClassifyReport,
    inputs: &Inputs,
    model: &Model,
    confusion: Option<&Confusion>,
) -> Result<String> {
    let names = &model.classes();
    let mut rows = vec![["bits/dim", "probability", "predicted", "class", "image"].map(str::to_owned)];
    for image in &report.images {
        let class = names.iter().position(|name| name == image.predicted).unwrap_or(0);
        rows.push([
            format!("{:.4}", image.bits_per_dim[class]),
            format!("{:.4}", image.probabilities[class]),
            super::printable(image.predicted).to_string(),
            image.class.map_or("-".to_owned(), |class| super::printable(class).to_string()),
            image.path.to_owned(),
        ]);
    }
    let mut text = super::table(&rows);
    if let Some(confusion) = confusion {
        let known: usize = confusion.counts.iter().flatten().sum();
        let right = 100.0 * confusion.accuracy();
        writeln!(text, "\n{right:.1} % of {} are classified correctly", super::counted(known))?;
        text.push('\n');
        text.push_str(&super::table(&confusion.table()));
    } else {
        writeln!(
            text,
            "\n{} classified; nothing says their classes ({TELL_CLASSES})",
            super::counted(inputs.images.len())
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_follow_bayes_rule() {
        // Likelihoods 1 : 3 under a prior of 2 : 1.
        let got = posterior(&[-10.0, -10.0 + 3f64.ln()], &[2.0 / 3.0, 1.0 / 3.0]);
        assert!((got[0] - 0.4).abs() < 1e-12 && (got[1] - 0.6).abs() < 1e-12, "{got:?}");
        assert_eq!(likeliest(&got), 1);
        assert_eq!(likeliest(&[0.25; 4]), 0);
    }

    #[test]
    fn probabilities_have_six_digits() {
        for (probability, expected) in [
            (0.954_412_345, "0.954412"),
            (1.0, "1"),
            (0.0, "0"),
            (0.999_999_96, "1"),
            (0.000_123_456_78, "0.000123457"),
            (1.234_567_8e-12, "1.23457e-12"),
            (1e-310, "1e-310"),
        ] {
            assert_eq!(six_digits(probability), expected);
        }
    }

    #[test]
    fn unlikely_images_and_impossible_classes_give_no_nan() {
        let got = posterior(&[-1e5, -1.0001e5, -2e5], &[0.0, 0.5, 0.5]);
        assert_eq!(got[0], 0.0, "a class that the prior excludes");
        assert!((got.iter().sum::<f64>() - 1.0).abs() < 1e-12 && got[1] > 0.99, "{got:?}");
        let got = posterior(&[-1e5; 3], &[1.0 / 3.0; 3]);
        assert!(got.iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-12), "{got:?}");
    }
}
