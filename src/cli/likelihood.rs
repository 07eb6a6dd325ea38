//! Likelihoods of images under a model, batch by batch: what `eval` and `classify` share.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;

use anyhow::{Result, ensure};

use crate::engine::{Canvas, EngineError, Lane, Request, Room, Want};
use crate::model::Model;
use crate::output::{NewFile, npy};

use super::EngineArgs;
use super::input::Input;

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
    let mut nats = vec![0.0; cases.len()];
    let bar = super::progress(cases.len(), 1);
    for ((width, height), of_size) in sizes {
        let mut engine = devices.start(model, width, height)?;
        let per_image = width * height * model.head().parameters();
        let most = if params.is_some() { (OUTPUT_LIMIT / per_image).max(1) } else { usize::MAX };
        let batch = super::even(of_size.len(), engine.prepare(Room::UpTo(of_size.len().min(most)))?);
        let want = Want { likelihood: true, parameters: params.is_some(), ..Want::default() };
        for indices in of_size.chunks(batch) {
            let request = Request::new(engine.shape(), 0, lanes(inputs, cases, indices))?.wanting(want);
            let outcome = engine.run(&request, &mut |_| {}).map_err(|error| of_input(error, inputs))?;
            for (&i, of_pixels) in indices.iter().zip(outcome.log_likelihood.chunks(width * height)) {
                nats[i] = of_pixels.iter().sum();
                let name = &inputs[cases[i].input].name;
                ensure!(nats[i].is_finite(), "{name}: its likelihood is not a finite number");
            }
            if let Some(file) = &mut params {
                file.fill(|writer| npy::write_values(writer, &outcome.parameters))?;
            }
            bar.inc(indices.len() as u64);
        }
    }
    bar.finish_and_clear();
    Ok(nats)
}

/// Lanes of some cases; their indices are those of the images.
fn lanes(inputs: &[Input], cases: &[Case], indices: &[usize]) -> Vec<Lane> {
    let mut last: Option<(usize, Canvas)> = None;
    let mut canvas = |input: usize| match &last {
        Some((same, canvas)) if *same == input => canvas.clone(),
        _ => {
            let canvas = Canvas::full(inputs[input].levels.clone());
            last = Some((input, canvas.clone()));
            canvas
        }
    };
    let cases = indices.iter().map(|&i| cases[i]);
    cases.map(|Case { input, class }| Lane { index: input as u64, class, canvas: canvas(input) }).collect()
}

/// An error of the engine, with the file that it is about.
fn of_input(error: EngineError, inputs: &[Input]) -> anyhow::Error {
    match error {
        EngineError::NotFinite { image, .. } => {
            anyhow::Error::from(error).context(inputs[image as usize].name.clone())
        }
        other => other.into(),
    }
}

/// Bits per dimension from the log-likelihood of an image in nats.
pub fn bits_per_dim(nats: f64, input: &Input) -> f64 {
    -nats / (input.levels.len() as f64 * LN_2)
}
