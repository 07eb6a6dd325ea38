//! Likelihoods of images under a model: what `eval` and `classify` share.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;
use std::path::PathBuf;
use std::slice;

use anyhow::{Result, ensure};

use crate::engine::{Canvas, EngineError, Lane, Request, Want};
use crate::model::Model;
use crate::output::{self, NewFile, chart, npy};

use super::driver::{self, QueuedWork};
use super::input::Input;
use super::progress::Progress;
use super::{EngineArgs, Files, counted, heading};

/// The form of the results.
#[derive(clap::Args)]
#[command(next_help_heading = heading::OUTPUT)]
pub struct ReportArgs {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    /// Also write a table, one row per image
    ///
    /// eval writes path, class and bits_per_dim; classify writes path, class, predicted, and for every class
    /// bits_per_dim and probability.
    #[arg(long, value_name = "OUT.csv")]
    pub csv: Option<PathBuf>,

    /// Plot the distribution of bits/dim, or the confusion matrix
    ///
    /// eval draws one line per given path; classify draws the matrix.
    #[arg(long, value_name = "OUT.png|OUT.svg")]
    pub plot: Option<PathBuf>,
}

impl ReportArgs {
    /// Checks that the files can be written, and adds them to those of the call.
    pub fn check<'a>(&'a self, files: &mut Files<'a>) -> Result<()> {
        self.csv.as_ref().map_or(Ok(()), |path| output::check(path, "csv"))?;
        self.plot.as_ref().map_or(Ok(()), |path| chart::check(path))?;
        files.writes("--csv", self.csv.as_deref());
        files.writes("--plot", self.plot.as_deref());
        Ok(())
    }
}

/// An image under a class.
#[derive(Clone, Copy)]
pub struct Case {
    /// Index of the image.
    pub input: usize,
    /// None for a model without classes.
    pub class: Option<usize>,
}

/// Numbers of network output that are held at a time, about: 256 MiB.
const OUTPUT_LIMIT: usize = 1 << 26;

/// The log-likelihood of every case in nats. The network's output for each goes to `params`, for which images must be of
/// one size. Cases of an image that follow each other share its pixels.
pub fn log_likelihoods(
    engine: &EngineArgs,
    model: &Model,
    inputs: &[Input],
    cases: &[Case],
    mut params: Option<&mut NewFile>,
) -> Result<Vec<f64>> {
    let mut devices = engine.choose(model, cases.len())?;
    let mut sizes: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (i, case) in cases.iter().enumerate() {
        let Input { width, height, .. } = inputs[case.input];
        sizes.entry((width, height)).or_default().push(i);
    }
    let pixels = sizes.iter().map(|((width, height), of_size)| width * height * of_size.len()).sum();
    let mut progress = None;
    let mut nats = vec![0.0; cases.len()];
    for ((width, height), of_size) in sizes {
        let shape = model.shape(width, height);
        let per_image = shape.pixels() * shape.head.parameters();
        let most = if params.is_some() { (OUTPUT_LIMIT / per_image).max(1) } else { usize::MAX };
        let mut driver = driver::start(&mut devices, model, (width, height), of_size.len(), None, most)?;
        let progress = progress.get_or_insert_with(|| {
            let what =
                format!("evaluating {} (model {}) on {}", counted(inputs.len()), model.name, driver.name());
            Progress::start(&what, inputs.len(), "images", pixels)
        });
        let want = Want { likelihood: true, parameters: params.is_some(), ..Want::default() };
        let all = 0..of_size.len() as u64;
        let work = QueuedWork {
            todo: slice::from_ref(&all),
            request: &|indices| {
                let cases = indices.iter().map(|&i| cases[of_size[i as usize]]);
                Ok(Request::new(shape, 0, lanes(inputs, cases))?.wanting(want))
            },
            in_order: params.is_some(),
            most_waiting: most,
            progress: &|more| progress.moved(more),
        };
        let done = driver.drive(&work, &mut |done| {
            let i = of_size[done.index as usize];
            nats[i] = done.log_likelihood.iter().sum();
            let name = &inputs[cases[i].input].name;
            ensure!(nats[i].is_finite(), "{name}: its likelihood is not a finite number");
            if let Some(file) = &mut params {
                file.fill(|writer| npy::write_values(writer, &done.parameters))?;
            }
            Ok(())
        });
        done.map_err(|error| of_input(error, inputs))?;
    }
    if let Some(progress) = progress {
        progress.end(&format!("{} evaluated", counted(inputs.len())));
    }
    Ok(nats)
}

/// Lanes of some cases; their indices are those of the images.
fn lanes(inputs: &[Input], cases: impl Iterator<Item = Case>) -> Vec<Lane> {
    let mut last: Option<(usize, Canvas)> = None;
    let mut canvas = |input: usize| match &last {
        Some((same, canvas)) if *same == input => canvas.clone(),
        _ => {
            let canvas = Canvas::full(inputs[input].levels.clone());
            last = Some((input, canvas.clone()));
            canvas
        }
    };
    cases.map(|Case { input, class }| Lane { index: input as u64, class, canvas: canvas(input) }).collect()
}

/// An error, with the file that it is about.
fn of_input(error: anyhow::Error, inputs: &[Input]) -> anyhow::Error {
    match error.downcast_ref() {
        Some(EngineError::NotFinite { image, .. }) => {
            let name = inputs[*image as usize].name.clone();
            error.context(name)
        }
        _ => error,
    }
}

/// Bits per dimension from the log-likelihood of an image in nats.
pub fn bits_per_dim(nats: f64, input: &Input) -> f64 {
    -nats / (input.levels.len() as f64 * LN_2)
}
