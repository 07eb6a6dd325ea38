//! Finds the fastest batch in a short trial.

use std::time::{Duration, Instant};

use crate::model::Model;

use super::{Engine, EngineError, Request, Room};

/// The fastest batch in a short trial, and in words what ended the trial: the first rows of 1, 2, 4, …
/// images, as far as larger ones can help.
///
/// # Errors
/// The engine's.
pub fn fastest_batch(
    engine: &mut dyn Engine,
    count: usize,
    model: &Model,
    width: usize,
) -> Result<(usize, String), EngineError> {
    let largest = engine.prepare(Room::UpTo(count))?;
    let rows = model.size_multiple();
    let start = Instant::now();
    let (mut best, mut least) = (1, f64::INFINITY);
    let mut batch = 1;
    let why = loop {
        match first_rows(engine, model, batch, rows * width) {
            Err(EngineError::BatchTooLarge { .. }) => break format!("{batch} do not fit"),
            // Less than noise is no gain.
            Ok(seconds) if seconds < 0.95 * least => (best, least) = (batch, seconds),
            other => _ = other?,
        }
        // If twice as many are no faster, four times as many may be.
        if batch == largest || batch > 2 * best {
            break format!("the fastest in a trial of 1 to {batch}");
        }
        if start.elapsed() > TRIAL {
            if batch == best {
                best = largest;
            }
            break format!("a trial ended at {batch}, for it took long");
        }
        batch = (2 * batch).min(largest);
    };
    Ok((best, why))
}

/// Seconds per image for the first pixels of a batch, best of a few if they are few.
fn first_rows(
    engine: &mut dyn Engine,
    model: &Model,
    batch: usize,
    pixels: usize,
) -> Result<f64, EngineError> {
    let class = (!model.classes().is_empty()).then_some(0);
    let request = Request::sample(engine.shape(), 0, (0..batch as u64).map(|i| (i, class)))?;
    // Allocates memory and compiles kernels.
    engine.prepare(Room::For(batch))?;
    engine.run(&request.clone().first(0), &mut |_| {})?;
    let request = request.first(pixels);
    let start = Instant::now();
    let mut least = f64::INFINITY;
    while least.is_infinite() || start.elapsed() < TRIAL / 40 {
        let start = Instant::now();
        engine.run(&request, &mut |_| {})?;
        least = start.elapsed().as_secs_f64().min(least);
    }
    Ok(least / batch as f64)
}

/// After this time, a trial tries no larger batch; it may take twice as long in all.
const TRIAL: Duration = Duration::from_secs(2);
