//! `-m`, or `--architecture`: a model, or a network with made-up weights where weights do not matter.

use std::path::Path;

use anyhow::Result;

use crate::graph::pixelcnn_pp;
use crate::model::{ClassPlace, Config, Model, Nonlinearity};

use super::{Files, ModelArgs};

/// A model, or an architecture that stands for one where weights do not matter.
#[derive(clap::Args)]
pub struct ArchitectureArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Instead of a model, an architecture with weights made from a seed: published (32x32 RGB, 160
    /// filters, 5 blocks), or the same with other FILTERSxBLOCKS, such as 64x2; with commas, what else is
    /// other: grey, elu, relu, levels=N, dilated, classes=N, everywhere (where the class enters)
    #[arg(long, conflicts_with = "model", value_parser = parse)]
    architecture: Option<Config>,
}

impl ArchitectureArgs {
    /// The model file that is named.
    pub fn path(&self) -> Option<&Path> {
        self.model.model.as_deref()
    }

    /// The model file is read, if one is named.
    pub fn add_to(&self, files: &mut Files) {
        self.model.add_to(files);
    }

    pub fn load(&self) -> Result<Model> {
        match &self.architecture {
            Some(config) => self.model.with_precision(Model::synthetic(config.clone(), 0)),
            None => self.model.load(),
        }
    }
}

fn parse(text: &str) -> Result<Config, String> {
    // A network of 4 GiB.
    const MOST_PARAMETERS: usize = 1 << 30;
    let mut words = text.split(',');
    let mut config = size(words.next().unwrap_or_default())?;
    words.try_for_each(|word| change(&mut config, word))?;
    let sizes =
        pixelcnn_pp::graph(&config).tensors.into_values().map(|shape| shape.iter().product::<usize>());
    match sizes.sum() {
        ..=MOST_PARAMETERS => Ok(config),
        parameters => Err(format!("it has {parameters} parameters; {MOST_PARAMETERS} is the most")),
    }
}

fn size(text: &str) -> Result<Config, String> {
    let (most_filters, most_blocks) = (Config::limit("filters"), Config::limit("blocks"));
    let parse = |(filters, blocks): (&str, &str)| {
        let (filters, blocks): (u16, u8) = (filters.parse().ok()?, blocks.parse().ok()?);
        let (filters, blocks) = (filters.into(), blocks.into());
        let is_sane = (1..=most_filters).contains(&filters) && (1..=most_blocks).contains(&blocks);
        is_sane.then(|| Config::published(filters, blocks))
    };
    match text {
        "published" => Ok(Config::published(160, 5)),
        _ => text.split_once(['x', 'X']).and_then(parse).ok_or_else(|| {
            format!(
                "expected published, or numbers of filters (up to {most_filters}) and blocks (up to \
                {most_blocks}), such as 64x2"
            )
        }),
    }
}

/// Makes a network another in one respect.
fn change(config: &mut Config, word: &str) -> Result<(), String> {
    let number = |text: &str, most: usize| match text.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("{word}: expected a whole number from 1 to {most}")),
    };
    match word.split_once('=').unwrap_or((word, "")) {
        ("grey", "") => config.channels = 1,
        ("elu", "") => config.nonlinearity = Nonlinearity::Elu,
        ("relu", "") => config.nonlinearity = Nonlinearity::Relu,
        // Of 32 pixels, one is left at the sixth level.
        ("levels", levels) => config.levels = number(levels, 6)?,
        ("dilated", "") => config.dilations = (0..=config.blocks).map(|block| 1 << (block % 3)).collect(),
        ("classes", count) => {
            let names: Vec<_> = (0..number(count, 1000)?).map(|class| class.to_string()).collect();
            *config = config.with_classes(&names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        ("everywhere", "") if !config.classes.is_empty() => config.class_places = ClassPlace::ALL.to_vec(),
        ("everywhere", "") => return Err("everywhere: expected classes=N before it".to_owned()),
        _ => {
            return Err(format!(
                "\"{word}\" is unknown; expected grey, elu, relu, levels=N, dilated, classes=N or everywhere"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_change_one_thing_each() {
        let base = Config::published(8, 2);
        assert_eq!(parse("8x2").unwrap(), base);
        assert_eq!(parse("8x2,grey").unwrap(), Config { channels: 1, ..base.clone() });
        assert_eq!(parse("8x2,relu").unwrap(), Config { nonlinearity: Nonlinearity::Relu, ..base.clone() });
        assert_eq!(parse("8x2,levels=1").unwrap(), Config { levels: 1, ..base.clone() });
        assert_eq!(parse("8x2,dilated").unwrap(), Config { dilations: vec![1, 2, 4], ..base.clone() });
        let classes = base.with_classes(&["0", "1"]);
        assert_eq!(parse("8x2,classes=2").unwrap(), classes);
        let everywhere = Config { class_places: ClassPlace::ALL.to_vec(), ..classes };
        assert_eq!(parse("8x2,classes=2,everywhere").unwrap(), everywhere);
        for wrong in
            ["8x2,", "8x2,gray", "8x2,levels=7", "8x2,levels", "8x2,everywhere", "grey", "8x2,elu=1"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
