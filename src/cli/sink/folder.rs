//! The folder of `--each`: a file an image.

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::input::images_in;
use crate::output::file::{self, OutputError, Place, folded};
use crate::output::{Image, png, shades, software};

use super::{Item, Series, Template, Texts};
use crate::cli::recipe::Recipe;
use crate::cli::{counted, note, one_line};

/// A folder of files, named by a template.
pub struct Folder {
    /// The flag that names it.
    flag: &'static str,
    folder: file::Folder,
    template: Template,
    /// The recipe of its images.
    recipe: Recipe,
    /// Hashes of the images that this run has written.
    written: HashSet<u64>,
    channels: usize,
    /// Levels of a channel.
    levels: usize,
}

/// The images of a job that a folder already holds.
#[derive(Debug, Default)]
pub struct Found {
    /// Indices of those that are missing.
    pub missing: Vec<Range<u64>>,
    /// Those that are there.
    pub kept: usize,
    /// Those that are not whole.
    pub damaged: usize,
    /// Those of other images.
    pub others: usize,
}

impl Found {
    /// A note about files that are drawn again.
    pub fn redrawn_note(&self) -> String {
        let mut text = String::new();
        if self.damaged > 0 {
            text += &format!("; {} not whole, drawn again", self.damaged);
        }
        if self.others > 0 {
            text += &format!("; {} of other images, overwritten", self.others);
        }
        text
    }
}

impl Folder {
    /// Checks that the images can go there. `whole` are the indices of all of them, of whichever process.
    pub fn open(
        flag: &'static str,
        path: &Path,
        template: &Template,
        series: &Series,
        whole: Range<u64>,
        item: &dyn Fn(u64) -> Item,
        recipe: Recipe,
    ) -> Result<Self> {
        ensure!(!path.is_file(), "{flag}: {} is a file (give a folder)", path.display());
        series.check_picture()?;
        template.check(path, whole.clone(), item)?;
        let last = item(whole.end.saturating_sub(1));
        let folder = file::Folder::new(path, Path::new(&template.name(&last)))?;
        let Series { channels, levels, .. } = *series;
        let (template, written) = (template.clone(), HashSet::new());
        Ok(Self { flag, folder, template, recipe, written, channels, levels })
    }

    /// Makes the folder if one of these files, which are begun before there is an image, is to be in it.
    pub fn make_for<'a>(&self, files: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
        Ok(self.folder.make_for(files)?)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, item: &Item) -> PathBuf {
        self.path().join(self.template.name(item))
    }

    pub fn put(&mut self, item: &Item, levels: &[u16], settings: &Texts) -> Result<PathBuf> {
        let ((width, height), levels) = (item.size, shades(levels, self.levels));
        let image = Image { width, height, channels: self.channels, levels };
        let name = self.template.name(item);
        if let Some(other) = self.own_image(&self.path().join(&name)).filter(|other| other != item) {
            bail!(
                "cannot write {}: it holds image {} of this run (--name: add {{index}})",
                self.path().join(name).display(),
                other.index
            );
        }
        let texts = [settings, &item.texts()].concat();
        // Not on the disk at once, which takes long for many: --resume draws again what a power failure takes.
        let encode = |file: &mut _| Ok(png::encode(file, &image, &texts)?);
        let path = self.folder.put(Path::new(&name), false, encode)?;
        self.written.insert(hash(item));
        Ok(path)
    }

    /// Writes a picture that is no image of the run.
    pub fn put_beside(&mut self, name: &str, image: &Image) -> Result<()> {
        self.folder.put(Path::new(name), false, |file| Ok(png::encode(file, image, &[software()])?))?;
        Ok(())
    }

    /// The image of a file, if this run has written it. Names that differ may be one file: what is checked beforehand
    /// is how the file system compares them, and that may be more than case.
    fn own_image(&self, path: &Path) -> Option<Item> {
        let (image, texts) = png::read(path).ok()?;
        let item = Item::of(&texts, (image.width, image.height))
            .filter(|item| self.written.contains(&hash(item)))?;
        Recipe::of(&texts).is_ok_and(|recipe| recipe == self.recipe).then_some(item)
    }

    /// The number of images that have vanished since the last call, with the folder or one in it.
    pub fn take_vanished(&mut self) -> usize {
        self.folder.take_vanished()
    }

    /// Says where the images are, all of them.
    pub fn finish(mut self) -> Result<String> {
        let (vanished, path) = (self.take_vanished(), self.path().display());
        ensure!(
            vanished == 0,
            "{path} vanished with {} in it; it was made anew for the rest (the same command draws what is missing)",
            counted(vanished)
        );
        Ok(path.to_string())
    }

    /// Fails if the folder holds an image that this run, by any of its processes, does not make. `own` are other
    /// files of this call, `instead` is a flag that helps.
    pub fn refuse_others(
        &self,
        whole: &Range<u64>,
        item: &dyn Fn(u64) -> Item,
        own: &[&Path],
        instead: &str,
    ) -> Result<()> {
        let own: Vec<_> = own.iter().filter_map(|path| Place::of(path).ok()).collect();
        for path in images_in(self.path(), self.template.depth()) {
            let difference = match png::read(&path) {
                Err(::png::DecodingError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {
                    None
                }
                Err(_) => Some("it is not whole, or of another kind".to_owned()),
                Ok((image, texts)) => match Item::of(&texts, (image.width, image.height)) {
                    None => Some("it does not say which".to_owned()),
                    Some(found) if !whole.contains(&found.index) => {
                        let (first, last) = (whole.start, whole.end - 1);
                        Some(format!("its index is {}, expected {first} to {last}", found.index))
                    }
                    Some(found) => {
                        let item = item(found.index);
                        self.difference(&item, &image, &texts).or_else(|| {
                            let expected = self.file(&item);
                            let is_named = folded(&expected) == folded(&path);
                            (!is_named).then(|| format!("its name would be {}", expected.display()))
                        })
                    }
                },
            };
            let is_own = || Place::of(&path).is_ok_and(|place| own.iter().any(|own| own.is_same(&place)));
            if let Some(difference) = difference.filter(|_| !is_own()) {
                bail!(
                    "{} {}: {} is an image of another run: {difference} (choose another folder; \
                    {instead}--overwrite replaces and mixes)",
                    self.flag,
                    self.path().display(),
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// The images that are there, whole and as they would be drawn. Others are an error, unless they may be
    /// overwritten.
    pub fn resume(
        &self,
        indices: Range<u64>,
        item: &dyn Fn(u64) -> Item,
        overwrite: bool,
    ) -> Result<Found> {
        let mut found = Found::default();
        for index in indices {
            let item = item(index);
            let path = self.file(&item);
            match png::read(&path) {
                Ok((image, texts)) => match self.difference(&item, &image, &texts) {
                    None => {
                        found.kept += 1;
                        continue;
                    }
                    Some(_) if overwrite => found.others += 1,
                    Some(difference) => bail!(
                        "--resume: {} is another image: {difference} (choose another folder, or add --overwrite)",
                        path.display()
                    ),
                },
                Err(::png::DecodingError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(::png::DecodingError::IoError(source))
                    if !matches!(
                        source.kind(),
                        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
                    ) =>
                {
                    return Err(OutputError::Io { path, source }).context("--resume");
                }
                Err(_) => found.damaged += 1,
            }
            match found.missing.last_mut() {
                Some(range) if range.end == index => range.end += 1,
                _ => found.missing.push(index..index + 1),
            }
        }
        Ok(found)
    }

    /// Removes files that processes have left half made, and says so of those whose processes may not have ended.
    pub fn remove_abandoned(&self) {
        let mut folders = vec![(self.path().to_owned(), 1)];
        let mut old = 0;
        while let Some((folder, depth)) = folders.pop() {
            old += file::remove_abandoned(&folder).len();
            if depth < self.template.depth() {
                let inside = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
                folders.extend(inside.filter(|path| path.is_dir()).map(|path| (path, depth + 1)));
            }
        }
        if old > 0 {
            note(&format!(
                "removed {old} temporary files of other machines, which are hours old, from {}",
                self.path().display()
            ));
        }
    }

    fn difference(&self, item: &Item, image: &Image, texts: &Texts) -> Option<String> {
        let Some(found) = Item::of(texts, (image.width, image.height)) else {
            return Some("it does not say which".to_owned());
        };
        item.difference(&found).or_else(|| match Recipe::of(texts) {
            Ok(recipe) if recipe == self.recipe && image.channels != self.channels => {
                Some(format!("it has {} channels, expected {}", image.channels, self.channels))
            }
            Ok(recipe) => self.recipe.difference(&recipe),
            Err(error) => Some(one_line(&error)),
        })
    }
}

fn hash(item: &Item) -> u64 {
    let mut hasher = DefaultHasher::new();
    item.hash(&mut hasher);
    hasher.finish()
}
