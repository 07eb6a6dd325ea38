//! Where completions go: rows of a grid, or a file each.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::output::file::NewFolder;
use crate::output::grid::{Drawing, Grid};
use crate::output::{self, Image, png};

use super::{Args, Completion, Task, Texts};

/// Level of what is unknown.
const UNKNOWN: u8 = 128;

/// Where completions go.
pub struct Target {
    channels: usize,
    grid: Option<Grid>,
    drawing: Option<Drawing>,
    folder: Option<NewFolder>,
    /// For the folder, the completions, of image and number: files say what is known when all are drawn.
    kept: Vec<(usize, usize, Image)>,
}

impl Target {
    /// Checks all that can be checked before there is an image.
    pub fn open(args: &Args, tasks: &[Task], channels: usize) -> Result<Self> {
        let width = tasks.iter().map(|task| task.input.width).max().unwrap_or(0);
        let height = tasks.iter().map(|task| task.input.height).max().unwrap_or(0);
        let columns = args.count + 2;
        let count = columns * tasks.len();
        let mut grid = Grid::with_columns(columns, count, width, height, channels);
        let folder = match &args.each {
            Some(path) => {
                ensure!(!path.is_file(), "--each: {} is a file (give a folder)", path.display());
                let folder = NewFolder::create(path);
                let folder = folder.with_context(|| format!("--each: cannot create {}", path.display()))?;
                output::check(&file(&folder, 0, 0), "png")?;
                Some(folder)
            }
            None => {
                output::check(&args.output, "png")?;
                ensure!(
                    args.show.animate.as_ref() != Some(&args.output),
                    "--animate {}: is the file of the rows (choose another name, or another for -o)",
                    args.output.display()
                );
                let shown = grid
                    .as_ref()
                    .and_then(|grid| grid.image().levels.len().checked_mul(args.show.scale.pow(2)));
                ensure!(
                    shown.is_some_and(|bytes| bytes <= 1 << 30),
                    "the picture of {count} images would take more than 1 GiB (use --each DIR)"
                );
                None
            }
        };
        let mut drawing = args.show.begin(grid.as_ref())?;
        for task in tasks {
            let (first, width) = (columns * task.number, task.input.width);
            let levels = &task.input.levels;
            let pixels = levels.chunks(channels).zip(&task.known);
            let unknown = [UNKNOWN; 3];
            let greyed = |(pixel, &known): (&'_ [u8], &bool)| {
                if known { pixel.to_vec() } else { unknown[..channels].to_vec() }
            };
            let greyed: Vec<u8> = pixels.flat_map(greyed).collect();
            for (position, levels) in [(first, &greyed), (first + columns - 1, levels)] {
                if let Some(grid) = &mut grid {
                    grid.place_smaller(position, width, levels);
                }
                if let Some(drawing) = &mut drawing {
                    drawing.place(position, width, levels, |_| 0);
                }
            }
        }
        Ok(Self { channels, grid, drawing, folder, kept: Vec::new() })
    }

    /// Takes a completion of a task.
    pub fn put(&mut self, task: &Task, k: usize, count: usize, completion: &Completion) -> Result<()> {
        let (position, width) = ((count + 2) * task.number + 1 + k, task.input.width);
        let Completion { levels, begun, .. } = completion;
        if let Some(grid) = &mut self.grid {
            grid.place_smaller(position, width, levels);
        }
        if let Some(drawing) = &mut self.drawing {
            let step = |pixel: usize| if task.known[pixel] { 0 } else { begun + pixel + 1 };
            drawing.place(position, width, levels, step);
        }
        if self.folder.is_some() {
            let image =
                Image { width, height: task.input.height, channels: self.channels, levels: levels.clone() };
            self.kept.push((task.number, k, image));
        }
        Ok(())
    }

    /// Writes everything, and says where it is.
    pub fn finish(self, args: &Args, texts: &Texts) -> Result<PathBuf> {
        let list =
            |effective: &[f64]| effective.iter().map(|e| format!("{e:.2}")).collect::<Vec<_>>().join(",");
        let mut of_all = texts.shared.clone();
        of_all.push(("images", texts.names.join(",")));
        let classes: Vec<_> = texts.classes.iter().flatten().flatten().cloned().collect();
        if !classes.is_empty() {
            of_all.push(("classes", classes.join(",")));
        }
        of_all.extend(texts.effective.as_ref().map(|e| ("effective_sample_size", list(e))));
        args.show.finish(self.drawing.as_ref(), &of_all)?;
        let Some(folder) = &self.folder else {
            if let Some(grid) = &self.grid {
                png::write(&args.output, &grid.image().enlarged(args.show.scale), &of_all)?;
            }
            return Ok(args.output.clone());
        };
        for (number, k, image) in &self.kept {
            let mut of_one = texts.shared.clone();
            let index = number * args.count + k;
            of_one.extend([("index", index.to_string()), ("image", texts.names[*number].clone())]);
            of_one.extend(texts.classes[*number][*k].clone().map(|class| ("class", class)));
            of_one.extend(
                texts.effective.as_ref().map(|e| ("effective_sample_size", list(&e[index..=index]))),
            );
            png::write(&file(folder, *number, *k), image, &of_one)?;
        }
        Ok(folder.path().to_owned())
    }
}

fn file(folder: &NewFolder, number: usize, k: usize) -> PathBuf {
    folder.path().join(format!("{number:06}-{k}.png"))
}
