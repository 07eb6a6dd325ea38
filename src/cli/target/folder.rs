//! The folder of `--each`: a file an image.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::output::file::{self, NewFile, NewFolder, OutputError};
use crate::output::{Image, png};

use super::{Item, Series, Template, Texts, same_images};

/// A folder of files, named by a template.
pub struct Folder {
    folder: NewFolder,
    template: Template,
    width: usize,
    height: usize,
    channels: usize,
}

/// What a folder holds of what is to be drawn.
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
    /// What is to be said of files that are drawn anew.
    pub fn doubts(&self) -> String {
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
    /// Makes the folder, if need be. `whole` are the indices of all images that will go there, of whichever process.
    pub fn open(
        path: &Path,
        template: &Template,
        series: &Series,
        whole: Range<u64>,
        item: &dyn Fn(u64) -> Item,
    ) -> Result<Self> {
        ensure!(!path.is_file(), "--each: {} is a file (give a folder)", path.display());
        template.check(whole.clone(), item)?;
        let folder = NewFolder::create(path);
        let folder = folder.with_context(|| format!("--each: cannot create {}", path.display()))?;
        let last = item(whole.end.saturating_sub(1));
        file::prove_folder_writable(path, Path::new(&template.name(&last)))?;
        let Series { width, height, channels, .. } = *series;
        Ok(Self { folder, template: template.clone(), width, height, channels })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, item: &Item) -> PathBuf {
        self.path().join(self.template.name(item))
    }

    pub fn put(&self, item: &Item, levels: Vec<u8>, settings: &Texts) -> Result<PathBuf> {
        let image = Image { width: self.width, height: self.height, channels: self.channels, levels };
        let path = self.file(item);
        let texts = [settings, &item.texts()].concat();
        let subfolder = path.parent().filter(|parent| *parent != self.path());
        if let Some(folder) = subfolder {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let mut file = NewFile::create(&path)?;
        file.fill(|writer| Ok(png::encode(writer, &image, &texts)?))?;
        file.finish()?;
        Ok(path)
    }

    /// Which images are there, whole and as they would be drawn. Others stop it, unless they are to be overwritten.
    pub fn resume(
        &self,
        indices: Range<u64>,
        item: &dyn Fn(u64) -> Item,
        settings: &Texts,
        overwrite: bool,
    ) -> Result<Found> {
        self.remove_abandoned();
        let mut found = Found::default();
        for index in indices {
            let item = item(index);
            let path = self.file(&item);
            match png::read(&path) {
                Ok((image, texts)) => match self.difference(&item, settings, &image, &texts) {
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

    /// Files that a killed process has left half made.
    pub fn remove_abandoned(&self) {
        file::remove_abandoned(self.path());
        // Of templates with folders, one level down.
        for entry in fs::read_dir(self.path()).into_iter().flatten().flatten() {
            if self.template.as_str().contains('/') && entry.path().is_dir() {
                file::remove_abandoned(&entry.path());
            }
        }
    }

    fn difference(&self, item: &Item, settings: &Texts, image: &Image, texts: &Texts) -> Option<String> {
        let is_of_size =
            (image.width, image.height, image.channels) == (self.width, self.height, self.channels);
        match Item::of(texts) {
            None => Some("it does not say which".to_owned()),
            Some(found) if found.index != item.index => {
                Some(format!("its index is {}, expected {}", found.index, item.index))
            }
            Some(found) if found.class != item.class => {
                let name =
                    |item: &Item| item.class.as_ref().map_or("none".to_owned(), |(_, name)| name.clone());
                Some(format!("its class is {}, expected {}", name(&found), name(item)))
            }
            Some(_) if !is_of_size => Some("it has another size or other channels".to_owned()),
            Some(_) => same_images(settings, texts).err(),
        }
    }
}
