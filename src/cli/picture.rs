//! The texts of a picture, and the check that it is drawn again to the same pixels.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::model::Model;
use crate::output::{Image, png};

use super::preview::Preview;
use super::recipe::{self, Recipe, Run};
use super::sample::{self, Picture};
use super::sink::{Item, Texts, text};
use super::{Cli, Command, ModelArgs, complete, inspected};

/// Prints the texts of a picture.
pub fn inspect(path: &Path, json: bool) -> Result<()> {
    let (_, texts) = read(path)?;
    if json {
        return super::print(&(serde_json::to_string_pretty(&inspected::picture(&texts))? + "\n"));
    }
    let texts = recipe::shown(&texts);
    let width = texts.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    let lines = texts.iter().map(|(key, text)| {
        format!("{}  {}\n", super::printable(&format!("{key:width$}")), super::printable(text))
    });
    super::print(&lines.collect::<String>())
}

/// Shows it on the terminal.
pub fn show(path: &Path, preview: Preview) -> Result<()> {
    let (image, _) = read(path)?;
    ensure!(!image.levels.is_empty(), "{}: --show takes pictures of 8 bits, grey or RGB", path.display());
    preview.show(&image)
}

/// Draws it again, and says whether it is the same.
pub fn redraw(path: &Path, model: Option<&Path>, device: Option<&str>) -> Result<ExitCode> {
    let (image, texts) = read(path)?;
    let (again, place) =
        draw_again(&image, &texts, model, device).with_context(|| path.display().to_string())?;
    let shape = |image: &Image| (image.width, image.height, image.channels);
    ensure!(shape(&again) == shape(&image), "{}: it has another size than it says", path.display());
    let pixels = image.levels.chunks(image.channels).zip(again.levels.chunks(image.channels));
    let different: Vec<_> = pixels.enumerate().filter(|(_, (a, b))| a != b).collect();
    let Some((pixel, (found, expected))) = different.first() else {
        super::print(&format!("drawn again on {place}: every pixel is the same\n"))?;
        return Ok(ExitCode::SUCCESS);
    };
    super::print(&format!(
        "drawn again on {place}: {} of {} pixels differ, first at row {}, column {}: {found:?} in the file, \
        {expected:?} now\n",
        different.len(),
        image.width * image.height,
        pixel / image.width,
        pixel % image.width
    ))?;
    Ok(ExitCode::FAILURE)
}

fn read(path: &Path) -> Result<(Image, Vec<(String, String)>)> {
    let of_file = || format!("cannot read {} as a PNG file", path.display());
    let (image, texts) = png::read(path).with_context(of_file)?;
    let is_ours = text(&texts, "Software").is_some_and(|text| text.starts_with("pixelcnn "));
    ensure!(is_ours, "{}: it says nothing of how it was drawn", path.display());
    Ok((image, texts))
}

/// The picture as its recipe draws it, and on what.
fn draw_again(
    image: &Image,
    texts: &Texts,
    model: Option<&Path>,
    device: Option<&str>,
) -> Result<(Image, String)> {
    let (model, recipe, run) = match Run::of(texts)? {
        Some(run) => {
            let recipe = Recipe::of(texts)?;
            (ModelArgs::of(model, &run, &recipe)?.load()?, recipe, run)
        }
        None => of_command(texts, model)?,
    };
    let expected = text(texts, "model_sha256").unwrap_or(&recipe.model_sha256);
    ensure!(
        model.sha256 == expected,
        "model {} is not the one that drew it: its sha256 is {}, expected {expected} (-m names another file)",
        model.name,
        model.sha256
    );
    if recipe.completion.is_some() {
        return complete::draw_again(model, recipe, run, image, device);
    }
    // The rest of its batch is drawn too where the size of a batch decides how sums are rounded.
    let batch = match text(texts, "engine").is_some_and(|engine| engine.starts_with("CPU")) {
        true => Some(1),
        false => text(texts, "batch").and_then(|batch| batch.parse().ok()),
    };
    let picture = match Item::of(texts, (image.width, image.height)) {
        Some(item) => Picture::Image(item.index, batch.unwrap_or(1)),
        None => Picture::Grid,
    };
    sample::draw_again(model, recipe, run, &picture, device)
}

/// Of a version before there were recipes, whose pictures have a command alone.
fn of_command(texts: &Texts, model: Option<&Path>) -> Result<(Model, Recipe, Run)> {
    let command = text(texts, "command").context("it says neither a run nor a command")?;
    let words = shlex::split(command).context("its command is broken")?;
    let cli = Cli::try_parse_from(words).context("its command is none of this version")?;
    let Command::Sample(args) = cli.command else {
        bail!("only what `pixelcnn sample` has drawn can be drawn again from what it says");
    };
    sample::older(args, model)
}
