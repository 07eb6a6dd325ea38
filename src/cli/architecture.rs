//! `-m`, or `--architecture`: a model, or a network with made-up weights where weights do not matter.

use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::Result;

use crate::graph::Sizes;
use crate::graph::check::limits;
use crate::model::{ClassPlace, Config, MadeUp, Model, Nonlinearity};

use super::{Files, ModelArgs, heading, whole};

/// A model, or an architecture that stands for one where weights do not matter.
#[derive(clap::Args)]
#[command(next_help_heading = heading::MODEL)]
pub struct ArchitectureArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Network with random weights instead of a model, such as gated:64x7
    ///
    /// published is 32x32 RGB with 160 filters and 5 blocks; FILTERSxBLOCKS, such as 64x2, is the same with other
    /// numbers. Options follow after commas: grey, elu, relu, levels=N, dilated, classes=N, everywhere (where the
    /// class enters).
    ///
    /// gated:FILTERSxLAYERS and masked:FILTERSxLAYERS have 28x28 grey pixels of 256 levels; prior:FILTERSxLAYERS is a
    /// gated network over 8x8 codes out of 512. Other sizes and levels follow as @WIDTHxHEIGHT or
    /// @WIDTHxHEIGHTkLEVELS: prior:64x15@16x16k1024.
    #[arg(long, conflicts_with = "model", value_parser = parse)]
    architecture: Option<MadeUp>,
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
            Some(made_up) => self.model.with_precision(made_up.model(0)),
            None => self.model.load(),
        }
    }
}

fn parse(text: &str) -> Result<MadeUp, String> {
    // A network of 4 GiB.
    const MOST_PARAMETERS: usize = 1 << 30;
    let made_up = match text.split_once(':') {
        Some((kind, sizes)) => other(kind, sizes)?,
        None => {
            let mut words = text.split(',');
            let mut config = size(words.next().unwrap_or_default())?;
            words.try_for_each(|word| change(&mut config, word))?;
            MadeUp::PixelCnnPp(config)
        }
    };
    match made_up.parameters() {
        ..=MOST_PARAMETERS => Ok(made_up),
        parameters => Err(format!("expected at most {MOST_PARAMETERS} parameters, found {parameters}")),
    }
}

/// A network that is no PixelCNN++: `FILTERSxLAYERS`, and what follows `@`.
fn other(kind: &str, text: &str) -> Result<MadeUp, String> {
    let (make, side, levels): (fn(Sizes) -> MadeUp, _, _) = match kind {
        "gated" => (MadeUp::Gated, 28, 256),
        "masked" => (MadeUp::Masked, 28, 256),
        "prior" => (MadeUp::Prior, 8, 512),
        _ => {
            return Err(format!("\"{kind}\" is unknown; expected gated, masked or prior before the colon"));
        }
    };
    let number = |text: &str, range: RangeInclusive<usize>| text.parse().ok().filter(|n| range.contains(n));
    let pair = |text: &str, [first, second]: [usize; 2]| {
        let (a, b) = text.split_once(['x', 'X'])?;
        Some((number(a, 1..=first)?, number(b, 1..=second)?))
    };
    let (network, image) = match text.split_once('@') {
        Some((network, image)) => (network, Some(image)),
        None => (text, None),
    };
    let most @ [most_filters, most_layers] = ["filters", "blocks"].map(Config::limit);
    let (filters, layers) = pair(network, most).ok_or_else(|| {
        format!(
            "{kind}: expected numbers of filters (up to {most_filters}) and layers (up to {most_layers}), such as \
            {kind}:64x7"
        )
    })?;
    let mut sizes = Sizes { filters, layers, width: side, height: side, levels };
    if let Some(image) = image {
        let (size, levels) = match image.split_once(['k', 'K']) {
            Some((size, levels)) => (size, number(levels, 2..=limits::LEVELS)),
            None => (image, Some(levels)),
        };
        (sizes.width, sizes.height, sizes.levels) = pair(size, [limits::SIDE; 2])
            .zip(levels)
            .map(|((width, height), levels)| (width, height, levels))
            .ok_or_else(|| {
                format!(
                    "@{image}: expected width and height (at most {}), and optionally a number of levels (2 to {}), such as \
                    @{side}x{side} or @{side}x{side}k{levels_of}",
                    limits::SIDE,
                    limits::LEVELS,
                    levels_of = sizes.levels
                )
            })?;
    }
    Ok(make(sizes))
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
                "expected published, FILTERSxBLOCKS such as 64x2 (at most {most_filters} and {most_blocks}), or another network \
                such as gated:64x7, masked:64x7 or prior:64x15"
            )
        }),
    }
}

/// Makes a network another in one respect.
fn change(config: &mut Config, word: &str) -> Result<(), String> {
    let number = |text: &str, most: usize| {
        whole::<usize>(1..=most as u64)(text).map_err(|expected| format!("{word}: {expected}"))
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
        let is = |text: &str, config: Config| assert_eq!(parse(text).unwrap(), MadeUp::PixelCnnPp(config));
        is("8x2", base.clone());
        is("8x2,grey", Config { channels: 1, ..base.clone() });
        is("8x2,relu", Config { nonlinearity: Nonlinearity::Relu, ..base.clone() });
        is("8x2,levels=1", Config { levels: 1, ..base.clone() });
        is("8x2,dilated", Config { dilations: vec![1, 2, 4], ..base.clone() });
        let classes = base.with_classes(&["0", "1"]);
        is("8x2,classes=2", classes.clone());
        is("8x2,classes=2,everywhere", Config { class_places: ClassPlace::ALL.to_vec(), ..classes });
        for wrong in
            ["8x2,", "8x2,gray", "8x2,levels=7", "8x2,levels", "8x2,everywhere", "grey", "8x2,elu=1"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_networks_have_sizes_of_their_own() {
        let sizes =
            |filters, layers, width, height, levels| Sizes { filters, layers, width, height, levels };
        for (text, expected) in [
            ("gated:64x7", MadeUp::Gated(sizes(64, 7, 28, 28, 256))),
            ("masked:64x8", MadeUp::Masked(sizes(64, 8, 28, 28, 256))),
            ("prior:64x15", MadeUp::Prior(sizes(64, 15, 8, 8, 512))),
            ("prior:64x15@8x8k512", MadeUp::Prior(sizes(64, 15, 8, 8, 512))),
            ("gated:8X1@32x16", MadeUp::Gated(sizes(8, 1, 32, 16, 256))),
            ("masked:8x1@5x9k2", MadeUp::Masked(sizes(8, 1, 5, 9, 2))),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for wrong in [
            "gate:64x7",
            ":64x7",
            "gated:",
            "gated:64",
            "gated:0x7",
            "gated:64x65",
            "gated:64x7,grey",
            "gated:64x7@",
            "gated:64x7@28",
            "gated:64x7@28x28k",
            "gated:64x7@28x28k1",
            "gated:64x7@0x28",
            "gated:64x7@8193x28",
            "gated:64x7@k256",
            "gated:64x7@28x28k256@28x28",
            "masked:4096x64",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
