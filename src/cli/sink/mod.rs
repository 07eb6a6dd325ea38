//! Outputs of images: a grid, a file each, or an array, with texts about them.

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::iter;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::cli::drawing::Captions;
use crate::output::frame::{Frame, can_show};
use crate::output::grid::{Grid, GridShape};
use crate::output::npy::Type;
use crate::output::{self, png, stdout};

pub use array::{ArraySink, IMAGES, LABELS, NTHS, class_names, is_array, read_about};
pub use folder::Folder;
pub use outputs::{Items, NameArgs, OutputArgs, Outputs, images_of};
pub use sheet::Sheet;
pub use template::Template;
pub use texts::{Completes, Item, Texts, own_texts, text};

mod array;
mod folder;
mod outputs;
mod sheet;
mod template;
mod texts;

/// The properties that all images of an output share.
#[derive(Clone, Debug)]
pub struct Series {
    /// Their indices.
    pub indices: Range<u64>,
    /// In pixels, of the largest.
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    /// Levels of a channel.
    pub levels: usize,
    /// True if each has a class.
    pub has_classes: bool,
    /// The classes that take turns, as [`turns`] lists them.
    pub turns: Vec<(usize, String)>,
    /// The number of completions of each image, if they are completions.
    pub completions: Option<usize>,
}

impl Series {
    /// Bytes of an image.
    pub fn bytes(&self) -> usize {
        self.width * self.height * self.channels
    }

    /// The type of their numbers in an array.
    pub fn numbers(&self) -> Type {
        if self.levels <= 256 { Type::U8 } else { Type::U16 }
    }

    /// Fails where they cannot be shown in a picture.
    pub fn check_picture(&self) -> Result<()> {
        ensure!(
            self.levels <= 256 && matches!(self.channels, 1 | 3),
            "images of {} levels and {} channels are no pictures: expected at most 256 levels, grey or RGB (-o FILE.npz or \
             FILE.npy writes them as an array)",
            self.levels,
            self.channels
        );
        Ok(())
    }

    /// Their places in a grid. An image that is completed has a row: what is known of it, its completions, and itself.
    pub fn shape(&self) -> GridShape {
        match self.completions {
            Some(of_one) => {
                let cells = (self.count() / of_one).saturating_mul(of_one + 2);
                GridShape::with_columns(of_one + 2, cells, self.width, self.height)
            }
            None => GridShape::new(self.count(), self.turns.len(), self.width, self.height),
        }
    }

    /// Channels of their grid: the unknown part of an image has a colour.
    pub fn grid_channels(&self) -> usize {
        if self.completions.is_some() { 3 } else { self.channels }
    }

    /// A grid for them, or nothing if it would be too large.
    pub fn grid(&self) -> Option<Grid> {
        Grid::new(self.shape(), self.grid_channels())
    }

    /// The frame of their grid, at the default scale if none is given.
    pub fn frame(&self, scale: Option<usize>, captions: Captions) -> Result<Frame> {
        let shape = self.shape();
        let plain = Frame::new(scale.unwrap_or_else(|| shape.default_scale()));
        // Small images whose pixels are left as they are are meant for programs.
        let is_raw = shape.is_small() && plain.scale() == 1;
        if captions == Captions::Never || captions == Captions::Auto && is_raw {
            return Ok(plain);
        }
        let framed = match (self.completions, shape.rows_of_kinds()) {
            (Some(of_one), _) => {
                let numbers = (1..=of_one).map(|number| number.to_string());
                let names = iter::once("known".to_owned()).chain(numbers).chain(["original".to_owned()]);
                plain.clone().with_columns(&shape, names.collect())
            }
            (None, Some(rows)) => {
                let names =
                    self.turns.iter().map(|(class, name)| match can_show(name) && !name.is_empty() {
                        true => name.clone(),
                        false => class.to_string(),
                    });
                let names: Vec<_> = names.collect();
                plain.clone().with_rows(&shape, names.into_iter().cycle().take(rows).collect())
            }
            (None, None) if captions == Captions::Always => {
                bail!("--captions always: rows of this grid have no class of their own")
            }
            (None, None) => None,
        };
        match framed {
            None if captions == Captions::Always => {
                bail!("--captions always: --scale {} leaves no room for captions", plain.scale())
            }
            framed => Ok(framed.unwrap_or(plain)),
        }
    }

    /// The replacements in a grid's captions for names that their font lacks: "3 for …".
    pub fn replaced(&self) -> Vec<String> {
        let lacking = self.turns.iter().filter(|(_, name)| !can_show(name));
        lacking.map(|(class, name)| format!("{class} for {name}")).collect()
    }

    /// The grid's position of an image.
    pub fn position(&self, index: u64) -> usize {
        let nth = (index - self.indices.start) as usize;
        self.completions.map_or(nth, |of_one| nth + 2 * (nth / of_one) + 1)
    }

    /// The number of images.
    pub fn count(&self) -> usize {
        (self.indices.end - self.indices.start) as usize
    }
}

/// The classes that take turns in a series; none if they come in another order.
pub fn turns(classes: &[usize]) -> &[usize] {
    let different = classes.iter().collect::<HashSet<_>>().len();
    let in_turn = classes.iter().skip(different).eq(&classes[..classes.len() - different]);
    if in_turn { &classes[..different] } else { &[] }
}

/// An output of images. Its files get their names only once they are whole.
#[allow(clippy::large_enum_variant, reason = "there is one")]
pub enum Sink {
    /// One picture; to stdout if it has no path.
    Sheet(Option<PathBuf>, Sheet),
    Each(Folder),
    Array(ArraySink),
}

impl Sink {
    /// A picture, or an array, as the name of the file says. Checks all that can be checked before there is an image.
    pub fn file(path: &Path, series: &Series, frame: &Frame) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        let is_folder = path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/');
        let kind = ["png", "npz", "npy"].into_iter().find(|kind| extension == *kind);
        let to_stdout = stdout::kind(path);
        match (to_stdout, kind) {
            (Some(_), _) => {
                stdout::check().with_context(|| format!("-o {}", path.display()))?;
                ensure!(
                    !io::stdout().is_terminal(),
                    "-o {}: stdout is a terminal (name a file, or add `| program`)",
                    path.display()
                );
            }
            (None, Some(kind)) => output::check(path, kind)?,
            (None, None) if is_folder => {
                let folder = path.display();
                bail!(
                    "-o {folder}: expected the name of a file, found one of a folder (name a file in it, or use --each \
                     {folder} for a file per image)"
                );
            }
            (None, None) => bail!(
                "cannot write {}: expected a file name that ends in .png, .npz or .npy",
                path.display()
            ),
        }
        Ok(match is_array(path) {
            true => Self::Array(ArraySink::begin(path, series)?),
            false => Self::Sheet(
                Some(path.to_owned()).filter(|_| to_stdout.is_none()),
                Sheet::new(series, frame)?,
            ),
        })
    }

    /// True if images must come in the order of their indices.
    pub fn needs_order(&self) -> bool {
        matches!(self, Self::Array(_))
    }

    /// Takes an image, `[H, W, C]` levels; gives back which file it goes to. `settings` are those it was drawn with.
    pub fn put(&mut self, item: &Item, levels: &[u16], settings: &Texts) -> Result<PathBuf> {
        match self {
            Self::Sheet(path, sheet) => {
                sheet.put(item, levels);
                Ok(path.clone().unwrap_or_else(|| "-".into()))
            }
            Self::Each(folder) => folder.put(item, levels, settings),
            Self::Array(array) => array.put(item, levels),
        }
    }

    /// Writes what is not written yet, and says where everything is. `about` tells of all images.
    pub fn finish(self, about: &Texts) -> Result<String> {
        match self {
            Self::Sheet(Some(path), sheet) => {
                png::write(&path, &sheet.image(), about)?;
                Ok(path.display().to_string())
            }
            Self::Sheet(None, sheet) => {
                let mut bytes = Vec::new();
                png::encode(&mut bytes, &sheet.image(), about)?;
                let mut stdout = io::stdout().lock();
                stdout.write_all(&bytes).and_then(|()| stdout.flush()).context("writing to stdout")?;
                Ok("stdout".to_owned())
            }
            Self::Each(folder) => folder.finish(),
            Self::Array(array) => array.finish(about),
        }
    }

    /// Adds to an error what is left of the work; `done` of `count` images reached the sink.
    fn explain(&self, error: anyhow::Error, done: usize, count: usize, images: &str) -> anyhow::Error {
        match self {
            Self::Each(folder) if done > 0 => {
                let folder = folder.path().display();
                error.context(format!(
                    "stopped after {done} of {count} {images}, which are in {folder} (--resume goes on from there)"
                ))
            }
            Self::Array(array) if done > 0 && !array.is_stdout() => error.context(format!(
                "stopped after {done} of {count} {images}, of which none is kept (--each DIR keeps them)"
            )),
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_take_turns_are_told_from_others() {
        for (classes, expected) in [
            (&[][..], &[][..]),
            (&[2, 2, 2], &[2]),
            (&[0, 1, 2, 0, 1, 2, 0], &[0, 1, 2]),
            (&[3, 1], &[3, 1]),
            (&[0, 0, 1, 0, 0, 1], &[]),
            (&[0, 1, 2, 0, 2, 1], &[]),
        ] {
            assert_eq!(turns(classes), expected, "{classes:?}");
        }
    }
}
