//! The parts of a merge: pictures with their texts, and arrays of images.

use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use walkdir::WalkDir;

use crate::input::is_hidden;
use crate::output::npy::Type;
use crate::output::npz::NpzReader;
use crate::output::{level_of, png};

use crate::cli::recipe::{Recipe, parse_size};
use crate::cli::sink::{self, IMAGES, Item, LABELS, NTHS, Texts, own_texts, text};

/// A picture, or an array of images.
pub struct MergePart {
    pub path: PathBuf,
    pub is_array: bool,
    /// Its images, in order.
    pub items: Vec<Item>,
}

/// The form of images, and the texts that all of them share.
#[derive(Clone)]
pub struct Look {
    pub texts: Vec<(String, String)>,
    pub recipe: Recipe,
    pub width: usize,
    pub height: usize,
    pub channels: usize,
}

impl Look {
    /// Fails with the difference if images differ in size or in their number of channels.
    pub fn same_shape(&self, found: &Self) -> Result<(), String> {
        let shown = |l: &Self| format!("{}x{} with {} channels", l.width, l.height, l.channels);
        match shown(self) == shown(found) {
            true => Ok(()),
            false => Err(format!("it is {}, expected {}", shown(found), shown(self))),
        }
    }
}

/// Takes images to where they go, with the texts of their file.
type Put<'a> = dyn FnMut(&Item, &[u16], &Texts) -> Result<()> + 'a;

/// Hands over every part that a path stands for. Pictures are read whole.
pub fn find(path: &Path, add: &mut dyn FnMut(MergePart, Look) -> Result<()>) -> Result<()> {
    if !path.is_dir() {
        let (part, look) = array(path).with_context(|| path.display().to_string())?;
        return add(part, look);
    }
    let mut count = 0;
    let entries = WalkDir::new(path).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.path())) {
        let path = entry?.into_path();
        if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
            continue;
        }
        let of_file = || path.display().to_string();
        let (image, texts) = png::read(&path).with_context(of_file)?;
        let item = Item::of(&texts, (image.width, image.height)).filter(|_| image.channels > 0);
        let item = item
            .context(
                "it has no index of a run (merge takes images that `sample --each` drew, and .npz files)",
            )
            .with_context(of_file)?;
        let look = Look {
            recipe: Recipe::of(&texts).with_context(of_file)?,
            texts: own_texts(&texts),
            width: image.width,
            height: image.height,
            channels: image.channels,
        };
        add(MergePart { path, is_array: false, items: vec![item] }, look)?;
        count += 1;
    }
    ensure!(count > 0, "there are no PNG files in the folder {}", path.display());
    Ok(())
}

/// An array without its pixels.
fn array(path: &Path) -> Result<(MergePart, Look)> {
    let mut npz = NpzReader::open(path).context("cannot be read as an .npz file")?;
    let texts = sink::read_about(&mut npz)?;
    let number = |key: &str| text(&texts, key).and_then(|text| text.parse::<u64>().ok());
    let recipe = Recipe::of(&texts)?;
    let size = recipe.size.as_deref().and_then(|size| parse_size(size).ok());
    let (Some(first), Some(count), Some(channels), Some((width, height))) =
        (number("first_index"), number("count"), number("channels"), size)
    else {
        bail!("it has no indices of its images (merge takes .npz files that `sample` wrote)");
    };
    let names = sink::class_names(&texts);
    let labels = numbers(&mut npz, LABELS, count as usize)?;
    let nths = numbers(&mut npz, NTHS, count as usize)?;
    let item = |i: u64| {
        let label = labels.as_ref().map(|labels| labels[i as usize] as usize);
        let class = label.map(|label| (label, names.get(&label).cloned().unwrap_or_default()));
        let nth = nths.as_ref().map_or(first + i + 1, |nths| nths[i as usize]);
        Item { index: first + i, class, nth, size: (width, height), completes: None }
    };
    let items = (0..count).map(item).collect();
    let look = Look { texts: own_texts(&texts), recipe, width, height, channels: channels as usize };
    Ok((MergePart { path: path.to_owned(), is_array: true, items }, look))
}

/// An array of `int64`, if it is there.
fn numbers(npz: &mut NpzReader, name: &str, count: usize) -> Result<Option<Vec<u64>>> {
    let Some(mut array) = npz.array(name, Type::I64, &[count])? else { return Ok(None) };
    let mut bytes = Vec::new();
    array.read_to_end(&mut bytes)?;
    let (numbers, _) = bytes.as_chunks::<8>();
    ensure!(numbers.len() == count, "its array {name} is cut off");
    Ok(Some(numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()))
}

impl MergePart {
    pub fn first(&self) -> u64 {
        self.items.first().map_or(0, |item| item.index)
    }

    pub fn indices(&self) -> Range<u64> {
        self.first()..self.first() + self.items.len() as u64
    }

    /// Reads its images to the end.
    pub fn read(&self, look: &Look, put: &mut Put) -> Result<()> {
        let of_file = || self.path.display().to_string();
        if !self.is_array {
            let (image, texts) = png::read(&self.path).with_context(of_file)?;
            let levels: Vec<_> =
                image.levels.iter().map(|&shade| level_of(shade, look.recipe.levels).0).collect();
            return put(&self.items[0], &levels, &own_texts(&texts));
        }
        let mut npz = NpzReader::open(&self.path).with_context(of_file)?;
        let texts = own_texts(&sink::read_about(&mut npz).with_context(of_file)?);
        let Look { width, height, channels, .. } = *look;
        // As `Array` writes them.
        let stored = if look.recipe.levels == 256 { 3 } else { channels };
        let numbers = if look.recipe.levels <= 256 { Type::U8 } else { Type::U16 };
        let shape = [self.items.len(), height, width, stored];
        let array = npz.array(IMAGES, numbers, &shape).with_context(of_file)?;
        let mut array =
            array.with_context(|| format!("{}: it has no array {IMAGES}", self.path.display()))?;
        let mut pixels = vec![0; width * height * stored * numbers.bytes()];
        for item in &self.items {
            array.read_exact(&mut pixels).with_context(of_file)?;
            let level =
                |bytes: &[u8]| bytes.iter().rev().fold(0, |level, byte| level << 8 | u16::from(*byte));
            let levels = pixels.chunks(numbers.bytes()).map(level).step_by(stored / channels);
            put(item, &levels.collect::<Vec<_>>(), &texts)?;
        }
        // Its checksum is compared at its end.
        let rest = io::copy(&mut array, &mut io::sink()).with_context(of_file)?;
        ensure!(rest == 0, "{}: its array {IMAGES} is too long", self.path.display());
        Ok(())
    }
}
