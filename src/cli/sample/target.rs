//! Where the images go: a grid, or a file each.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use pixelcnn::model::Config;
use pixelcnn::output::file::NewFolder;
use pixelcnn::output::grid::Grid;
use pixelcnn::output::{self, Image, png};

use super::Args;
use super::plan::Plan;

/// Where the images go. Files have their names only once they are whole.
pub enum Target {
    Grid { path: PathBuf, grid: Grid },
    Each(NewFolder),
}

impl Target {
    /// Checks all that can be checked before there is an image.
    pub fn open(args: &Args, width: usize, height: usize, channels: usize) -> Result<Self> {
        let Some(path) = &args.each else {
            let is_folder =
                args.output.is_dir() || args.output.as_os_str().to_string_lossy().ends_with('/');
            if is_folder && args.output.extension().is_none_or(|e| e != "png") {
                let folder = args.output.display();
                bail!(
                    "-o {folder}: is a folder (name a file in it, or use --each {folder} for a file an image)"
                );
            }
            output::check(&args.output, "png")?;
            let grid = Grid::new(args.count, width, height, channels).with_context(|| {
                format!("a grid of {} images would take more than 1 GiB (use --each DIR)", args.count)
            })?;
            return Ok(Self::Grid { path: args.output.clone(), grid });
        };
        ensure!(!path.is_file(), "--each: {} is a file (give a folder)", path.display());
        let folder = NewFolder::create(path);
        let folder = folder.with_context(|| format!("--each: cannot create {}", path.display()))?;
        output::check(&image_file(&folder, 0), "png")?;
        Ok(Self::Each(folder))
    }

    /// Takes an image, `[H, W, C]` levels, and its bits per dimension, if they are known; gives back which file it
    /// goes to.
    pub fn put(
        &mut self,
        plan: &Plan,
        index: usize,
        levels: Vec<u8>,
        bits: Option<f64>,
    ) -> Result<PathBuf> {
        match self {
            Self::Grid { path, grid } => {
                grid.place(index, &levels);
                Ok(path.clone())
            }
            Self::Each(folder) => {
                let Plan { width, height, model, .. } = plan;
                let Config { channels, classes, .. } = &model.config;
                let image = Image { width: *width, height: *height, channels: *channels, levels };
                let mut texts = vec![("index", index.to_string())];
                texts.extend(plan.class(index).map(|class| ("class", classes[class].clone())));
                texts.extend(bits.map(bits_text));
                let file = image_file(folder, index);
                png::write(&file, &image, &plan.texts(&texts))?;
                Ok(file)
            }
        }
    }

    /// Writes what is not written yet, enlarged, with the mean of the bits per dimension; says where everything is.
    pub fn finish(self, plan: &Plan, scale: usize, mean: Option<f64>) -> Result<PathBuf> {
        match self {
            Self::Grid { path, grid } => {
                let names = plan.classes.iter().map(|&class| plan.model.config.classes[class].as_str());
                let mut texts = vec![("first_index", "0".to_owned()), ("count", plan.count.to_string())];
                if !plan.classes.is_empty() {
                    texts.push(("classes", names.collect::<Vec<_>>().join(",")));
                }
                texts.extend(mean.map(bits_text));
                png::write(&path, &grid.image().enlarged(scale), &plan.texts(&texts))?;
                Ok(path)
            }
            Self::Each(folder) => Ok(folder.path().to_owned()),
        }
    }

    /// Adds to an error what is left of the work.
    pub fn explain(&self, error: anyhow::Error, done: usize, count: usize) -> anyhow::Error {
        match self {
            Self::Each(folder) if done > 0 => {
                let folder = folder.path().display();
                error.context(format!("stopped after {done} of {count} images, which are in {folder}"))
            }
            _ => error,
        }
    }
}

fn bits_text(bits: f64) -> (&'static str, String) {
    ("bits_per_dim", format!("{bits:.6}"))
}

fn image_file(folder: &NewFolder, index: usize) -> PathBuf {
    folder.path().join(format!("{index:06}.png"))
}
