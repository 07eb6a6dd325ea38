//! Where the images go: a grid, or a file each.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use pixelcnn::model::Config;
use pixelcnn::output::grid::Grid;
use pixelcnn::output::{self, Image, png};

use super::Args;
use super::plan::Plan;

/// Where the images go. Files have their names only once they are whole.
pub enum Target {
    Grid { path: PathBuf, grid: Grid },
    Each(Folder),
}

/// The folder of `--each`. If it is new, and stays empty, it goes again.
pub struct Folder {
    path: PathBuf,
    is_new: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_new {
            // Refused for a folder with files in it, which is meant.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

impl Target {
    /// Checks all that can be checked before there is an image.
    pub fn open(args: &Args, width: usize, height: usize, channels: usize) -> Result<Self> {
        let Some(path) = &args.each else {
            output::check(&args.output, "png")?;
            let grid = Grid::new(args.count, width, height, channels).with_context(|| {
                format!("a grid of {} images would take more than 1 GiB (use --each DIR)", args.count)
            })?;
            return Ok(Self::Grid { path: args.output.clone(), grid });
        };
        let is_new = !path.exists();
        ensure!(is_new || path.is_dir(), "--each: {} is a file (give a folder)", path.display());
        fs::create_dir_all(path).with_context(|| format!("--each: cannot create {}", path.display()))?;
        let folder = Folder { path: path.clone(), is_new };
        output::check(&folder.file(0), "png")?;
        Ok(Self::Each(folder))
    }

    /// Takes an image, `[H, W, C]` levels.
    pub fn put(&mut self, plan: &Plan, index: usize, levels: Vec<u8>) -> Result<()> {
        match self {
            Self::Grid { grid, .. } => grid.place(index, &levels),
            Self::Each(folder) => {
                let Plan { width, height, model, .. } = plan;
                let Config { channels, classes, .. } = &model.config;
                let image = Image { width: *width, height: *height, channels: *channels, levels };
                let mut texts = vec![("index", index.to_string())];
                texts.extend(plan.class(index).map(|class| ("class", classes[class].clone())));
                png::write(&folder.file(index), &image, &plan.texts(&texts))?;
            }
        }
        Ok(())
    }

    /// Writes what is not written yet, and says where everything is.
    pub fn finish(self, plan: &Plan) -> Result<PathBuf> {
        match self {
            Self::Grid { path, grid } => {
                let names = plan.classes.iter().map(|&class| plan.model.config.classes[class].as_str());
                let mut texts = vec![("first_index", "0".to_owned()), ("count", plan.count.to_string())];
                if !plan.classes.is_empty() {
                    texts.push(("classes", names.collect::<Vec<_>>().join(",")));
                }
                png::write(&path, &grid.into_image(), &plan.texts(&texts))?;
                Ok(path)
            }
            Self::Each(folder) => Ok(folder.path.clone()),
        }
    }

    /// Adds to an error what is left of the work.
    pub fn explain(&self, error: anyhow::Error, done: usize, count: usize) -> anyhow::Error {
        match self {
            Self::Each(folder) if done > 0 => {
                let folder = folder.path.display();
                error.context(format!("stopped after {done} of {count} images, which are in {folder}"))
            }
            _ => error,
        }
    }
}

impl Folder {
    fn file(&self, index: usize) -> PathBuf {
        self.path.join(format!("{index:06}.png"))
    }
}
