//! `pixelcnn models`: the built-in models.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::model::Model;

use super::NO_BUILT_IN;

/// List the built-in models
#[derive(clap::Args)]
pub struct ModelsArgs {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
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
    super::print(&format!(
        "{}\n-m NAME takes one; without -m, {} is taken. `pixelcnn inspect -m NAME` says more of it.\n",
        super::table(&rows),
        Model::DEFAULT
    ))
}
