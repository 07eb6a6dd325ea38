//! Sizes of images: brought to the size that the model was trained on, as training does, and what is said of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Serialize;

use super::heading;
use super::input::Input;
use super::recipe::size_text;
use crate::input::{self, Pixels};
use crate::model::Model;

/// The treatment of images of another size than the model was trained on.
#[derive(clap::Args)]
#[command(next_help_heading = heading::IMAGES)]
pub struct SizeArgs {
    /// Keep the images' own sizes
    ///
    /// By default, an image of another size than the model was trained on is cropped to its middle and resized, as in
    /// training. Images that this program drew at another size keep it.
    #[arg(long, conflicts_with = "no_resize")]
    pub native_size: bool,

    /// Stop at an image of another size instead of resizing it
    #[arg(long)]
    no_resize: bool,
}

/// The treatment of an image's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizing {
    /// It is as it was. That is the model's size, unless the user or the model's file wants no other.
    Same,
    /// The image had another width and height.
    Resized(usize, usize),
    /// This program drew it at another size than the model's.
    Drawn,
}

/// An image that `--no-resize` refuses. It stops the command; other unusable images are passed over.
#[derive(Debug, thiserror::Error)]
#[error("is {found}, and model {model} was trained on {expected} images (--no-resize)")]
pub struct OtherSize {
    found: String,
    expected: String,
    model: String,
}

impl SizeArgs {
    /// The image at the size that the model was trained on, if its file tells that. One that this program drew keeps its own.
    ///
    /// # Errors
    /// [`OtherSize`]; and images that are smaller, which training leaves out.
    pub fn fit(&self, pixels: Pixels, is_drawn: bool, model: &Model) -> Result<(Pixels, Sizing)> {
        let found = (pixels.width, pixels.height);
        let (width, height) = model.known_size().unwrap_or(found);
        if self.native_size || found == (width, height) {
            return Ok((pixels, Sizing::Same));
        }
        if is_drawn {
            return Ok((pixels, Sizing::Drawn));
        }
        let (found, expected) = (size_text(found.0, found.1), size_text(width, height));
        if self.no_resize {
            bail!(OtherSize { found, expected, model: model.name.clone() });
        }
        if pixels.width < width || pixels.height < height {
            bail!(
                "is {found}, smaller than the {expected} images that model {} was trained on; training leaves such \
                 images out (--native-size takes them as they are)",
                model.name
            );
        }
        Ok((input::fitted(&pixels, width, height), Sizing::Resized(pixels.width, pixels.height)))
    }
}

/// Counts of images that were resized, and of those whose size differs from the model's; flattened into reports.
#[derive(Serialize)]
pub struct Sizes {
    resized: usize,
    /// The most frequent first.
    resized_from: Vec<OfSize>,
    /// Images that this program drew at another size than the model's.
    drawn_at_other_sizes: usize,
}

#[derive(Serialize)]
struct OfSize {
    width: usize,
    height: usize,
    images: usize,
}

impl Sizes {
    pub fn of(images: &[Input]) -> Self {
        let mut counts = BTreeMap::new();
        for input in images {
            if let Sizing::Resized(width, height) = input.sizing {
                *counts.entry((width, height)).or_insert(0) += 1;
            }
        }
        let of_size = |((width, height), images)| OfSize { width, height, images };
        let mut resized_from: Vec<_> = counts.into_iter().map(of_size).collect();
        resized_from.sort_by_key(|of_size| Reverse(of_size.images));
        Self {
            resized: resized_from.iter().map(|of_size| of_size.images).sum(),
            resized_from,
            drawn_at_other_sizes: images.iter().filter(|input| input.sizing == Sizing::Drawn).count(),
        }
    }

    /// Says it of `all` images.
    pub fn speak(&self, all: usize, model: &Model) {
        let (width, height) = model.size();
        let size = size_text(width, height);
        let shown = |of: &OfSize| size_text(of.width, of.height);
        let from = match &self.resized_from[..] {
            [] => None,
            [one] => Some(shown(one)),
            [one, other] => Some(format!("{} and {}", shown(one), shown(other))),
            [one, others @ ..] => Some(format!("{} and {} other sizes", shown(one), others.len())),
        };
        if let Some(from) = from {
            super::note(&format!(
                "note: {} of {} resized to {size} as training does, from {from} (--native-size keeps their sizes)",
                self.resized,
                super::counted(all)
            ));
        }
        if self.drawn_at_other_sizes > 0 {
            super::note(&format!(
                "note: {} of {} drawn by this program at other sizes than {size}, which are kept",
                self.drawn_at_other_sizes,
                super::counted(all)
            ));
        }
    }
}
