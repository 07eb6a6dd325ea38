//! A sheet of completions, drawn again from what it holds and says.

use std::ops::Range;
use std::slice;

use anyhow::{Context, Result, ensure};

use crate::model::Model;
use crate::output::{Image, level_of};

use super::completions::{CompletionPlan, Task};
use super::known::Known;
use crate::cli::EngineArgs;
use crate::cli::driver::Batch;
use crate::cli::recipe::{Recipe, Run, parse_size};
use crate::cli::sink::{Series, Sheet};

/// Draws it again, and says on what. The images that were completed stand at the ends of its rows.
pub fn draw_again(
    model: Model,
    recipe: Recipe,
    run: Run,
    image: &Image,
    device: Option<&str>,
) -> Result<(Image, String)> {
    let completion = recipe.completion.as_ref().context("it holds no completions")?;
    ensure!(
        !run.completed.is_empty(),
        "it does not say which images were completed (sheets of `pixelcnn complete -o` do, and can be drawn again)"
    );
    let known = Known::parse(&completion.known, run.mask.as_ref())?;
    let (columns, channels) = (completion.completions + 2, model.head().channels());
    let sizes = run.completed.iter().map(|of| parse_size(&of.size).map_err(anyhow::Error::msg));
    let sizes = sizes.collect::<Result<Vec<_>>>()?;
    let largest = |of: &dyn Fn(&(usize, usize)) -> usize| sizes.iter().map(of).max().unwrap_or(0);
    let series = Series {
        indices: 0..(sizes.len() * completion.completions) as u64,
        width: largest(&|size| size.0),
        height: largest(&|size| size.1),
        channels,
        levels: model.head().levels(),
        has_classes: !model.classes().is_empty(),
        turns: Vec::new(),
        completions: Some(completion.completions),
    };
    let (shape, frame) = (series.shape(), series.frame(Some(run.scale.max(1)), run.captions)?);
    let (width, height) = shape.size().and_then(|size| frame.size(size)).context("it is too large")?;
    ensure!(
        (image.width, image.height, image.channels) == (width, height, 3),
        "it is {}x{} with {} channels, and says that it is {width}x{height} with 3",
        image.width,
        image.height,
        image.channels,
    );
    let mut tasks = Vec::new();
    for (row, (of, &(width, height))) in run.completed.iter().zip(&sizes).enumerate() {
        ensure!(model.takes_size(width, height), "model {} takes no images of {}", model.name, of.size);
        let last = (row + 1) * columns - 1;
        let shade = |at: usize| {
            let (pixel, channel) = (at / channels, at % channels);
            let (x, y) = frame.place(shape.pixel(last, pixel / width, pixel % width));
            image.levels[3 * (y * image.width + x) + channel]
        };
        let all: Range<usize> = 0..width * height * channels;
        tasks.push(Task {
            number: row,
            name: of.name.clone(),
            sha256: String::new(),
            width,
            height,
            levels: all.map(|at| level_of(shade(at), model.head().levels()).0).collect(),
            known: known.of(width, height)?,
            classes: of.classes.clone(),
        });
    }
    let batch = run.batch.map(Batch::Images);
    let engine = EngineArgs::on(device.unwrap_or(&run.device));
    let plan = CompletionPlan::new(model, recipe, run, tasks, None);
    let mut sheet = Sheet::new(&series, &frame)?;
    plan.show(&mut |position, width, colours| sheet.place(position, width, 3, colours));
    let mut told = plan.told();
    let mut devices = engine.choose(&plan.model, series.count() * plan.particles)?;
    plan.draw(
        &mut devices,
        batch,
        slice::from_ref(&series.indices),
        false,
        &mut told,
        &mut |completion| {
            sheet.put(&plan.item(completion.index), &completion.levels);
            Ok(())
        },
    )?;
    Ok((sheet.image(), told.engine))
}
