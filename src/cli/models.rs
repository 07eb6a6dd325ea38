//! `pixelcnn models`: the built-in models.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::engine::cpu::CpuEngine;
use crate::engine::devices::machine_threads;
use crate::engine::{Engine, Request, Room};
use crate::model::Model;
use crate::output::grid::{Grid, GridShape};
use crate::output::{Image, shades};

use super::NO_BUILT_IN;
use super::preview::Preview;

/// List the built-in models
#[derive(clap::Args)]
pub struct ModelsArgs {
    /// Print the list as JSON
    #[arg(long, conflicts_with = "show")]
    json: bool,

    /// Also draw images from each, and show them on the terminal
    #[arg(long)]
    show: bool,
}

pub fn run(args: &ModelsArgs) -> Result<()> {
    let models = Model::shipped_names().filter_map(Model::shipped).collect::<Result<Vec<_>, _>>()?;
    ensure!(!models.is_empty(), "{NO_BUILT_IN}");
    let said = |model: &Model, key: &str| model.metadata.get(key).cloned();
    if args.json {
        let models = models.iter().map(|model| {
            let (width, height) = model.size();
            json!({
                "name": model.name,
                "is_default": model.name == Model::DEFAULT,
                "width": width,
                "height": height,
                "channels": model.head().channels(),
                "classes": model.classes(),
                "bits_per_dim": said(model, "bits_per_dim").and_then(|bits| bits.parse::<f64>().ok()),
                "data": said(model, "data"),
                "license": said(model, "license"),
            })
        });
        let models = json!({"models": models.collect::<Vec<_>>()});
        return super::print(&(serde_json::to_string_pretty(&models)? + "\n"));
    }
    let mut rows = vec![["MODEL", "IMAGES", "CLASSES", "BITS/DIM", "TRAINED ON"].map(str::to_owned)];
    rows.extend(models.iter().map(|model| {
        let (width, height) = model.size();
        let colour = if model.head().channels() == 1 { "grey" } else { "RGB" };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            model.name.clone(),
            format!("{width}x{height} {colour}"),
            model.classes().len().to_string(),
            or_none(said(model, "bits_per_dim")),
            or_none(said(model, "data")),
        ]
    }));
    if let Some(preview) = Preview::wanted(args.show, false) {
        for model in &models {
            super::print(&format!("{}\n", model.name))?;
            preview.show(&examples(model)?)?;
        }
    }
    super::print(&format!(
        "{}\n-m NAME takes one; without -m, {} is taken. `pixelcnn inspect -m NAME` says more of it.\n",
        super::table(&rows),
        Model::DEFAULT
    ))
}

/// Number of images that are shown of a model.
const EXAMPLES: usize = 10;

/// A row of images, of its classes in turn.
fn examples(model: &Model) -> Result<Image> {
    let ((width, height), classes) = (model.size(), model.classes().len());
    let mut engine = CpuEngine::new(model, width, height, machine_threads());
    engine.prepare(Room::UpTo(EXAMPLES))?;
    let images = (0..EXAMPLES).map(|i| (i as u64, i.checked_rem(classes)));
    let drawn = engine.run(&Request::sample(engine.shape(), 0, images)?, &mut |_| {})?;
    let channels = model.head().channels();
    let mut grid = Grid::new(GridShape::with_columns(EXAMPLES, EXAMPLES, width, height), channels)
        .context("the images are too large")?;
    let shades = shades(&drawn.levels, model.head().levels());
    shades.chunks(width * height * channels).enumerate().for_each(|(i, image)| grid.place(i, image));
    Ok(grid.image().enlarged(grid.shape().default_scale().min(4)))
}
