//! Where completions go: rows of a grid, or a file each.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use crate::input::images_in;
use crate::model::Model;
use crate::output::file::Folder;
use crate::output::grid::{Drawing, Grid};
use crate::output::{self, Image, png, shades};

use super::{Args, Completion, Task};
use crate::cli::recipe::file_name;
use crate::cli::target::Texts;

/// Level of what is unknown.
const UNKNOWN: u8 = 128;

/// Where completions go.
pub struct Target {
    channels: usize,
    /// Levels of a channel.
    levels: usize,
    grid: Option<Grid>,
    drawing: Option<Drawing>,
    folder: Option<Folder>,
    /// Completions in the folder.
    done: usize,
    /// Of each image, its name and the classes of its completions.
    names: Vec<String>,
    classes: Vec<Vec<Option<String>>>,
}

impl Target {
    /// Checks all that can be checked before there is an image.
    pub fn open(args: &Args, tasks: &[Task], model: &Model) -> Result<Self> {
        let (channels, of) = (model.head().channels(), model.head().levels());
        let width = tasks.iter().map(|task| task.input.width).max().unwrap_or(0);
        let height = tasks.iter().map(|task| task.input.height).max().unwrap_or(0);
        let columns = args.count + 2;
        let count = columns * tasks.len();
        let mut grid = Grid::with_columns(columns, count, width, height, channels);
        let folder = match &args.each {
            Some(path) => {
                ensure!(!path.is_file(), "--each: {} is a file (give a folder)", path.display());
                let there = images_in(path, 1).find(|_| !args.overwrite);
                if let Some(image) = there {
                    bail!(
                        "--each {}: {} is there already, and others would be mixed with it (choose another \
                        folder; --overwrite replaces and mixes)",
                        path.display(),
                        image.display()
                    );
                }
                let folder = Folder::new(path, name(0, 0).as_ref())?;
                folder.make_for(&args.show.animate)?;
                Some(folder)
            }
            None => {
                output::check(&args.output, "png")?;
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
            let levels = &shades(&task.input.levels, of);
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
        let class = |class: usize| model.classes()[class].clone();
        let classes = |task: &Task| (0..args.count).map(|k| task.class(k).map(class)).collect();
        Ok(Self {
            channels,
            levels: of,
            grid,
            drawing,
            folder,
            done: 0,
            names: tasks.iter().map(|task| file_name(task.input.name.as_ref())).collect(),
            classes: tasks.iter().map(classes).collect(),
        })
    }

    /// Takes a completion of a task, which was drawn with these settings.
    pub fn put(
        &mut self,
        task: &Task,
        k: usize,
        args: &Args,
        completion: &Completion,
        settings: &Texts,
    ) -> Result<()> {
        let (position, width) = ((args.count + 2) * task.number + 1 + k, task.input.width);
        let Completion { levels, begun, effective } = completion;
        let levels = shades(levels, self.levels);
        if let Some(grid) = &mut self.grid {
            grid.place_smaller(position, width, &levels);
        }
        if let Some(drawing) = &mut self.drawing {
            let step = |pixel: usize| if task.known[pixel] { 0 } else { begun + pixel + 1 };
            drawing.place(position, width, &levels, step);
        }
        let Some(folder) = &mut self.folder else { return Ok(()) };
        let mut texts = settings.to_vec();
        let mut add = |key: &str, text: String| texts.push((key.to_owned(), text));
        add("index", (task.number * args.count + k).to_string());
        add("image", self.names[task.number].clone());
        if let Some(class) = &self.classes[task.number][k] {
            add("class", class.clone());
        }
        if args.particles > 1 {
            add("effective_sample_size", format!("{effective:.2}"));
        }
        let image = Image { width, height: task.input.height, channels: self.channels, levels };
        folder.put(name(task.number, k).as_ref(), true, |file| Ok(png::encode(file, &image, &texts)?))?;
        self.done += 1;
        Ok(())
    }

    /// Adds to an error what is left of the work, of so many completions.
    pub fn explain(&self, error: anyhow::Error, count: usize) -> anyhow::Error {
        match &self.folder {
            Some(folder) if self.done > 0 => error.context(format!(
                "stopped after {} of {count} completions, which are in {}",
                self.done,
                folder.path().display()
            )),
            _ => error,
        }
    }

    /// Writes what is not written yet, and says where everything is.
    pub fn finish(self, args: &Args, settings: &Texts, effective: &[f64]) -> Result<PathBuf> {
        let mut texts = settings.to_vec();
        let mut add = |key: &str, text: String| texts.push((key.to_owned(), text));
        add("images", self.names.join(","));
        let classes: Vec<_> = self.classes.iter().flatten().flatten().cloned().collect();
        if !classes.is_empty() {
            add("classes", classes.join(","));
        }
        if args.particles > 1 {
            let list: Vec<_> = effective.iter().map(|effective| format!("{effective:.2}")).collect();
            add("effective_sample_size", list.join(","));
        }
        let animated = args.show.finish(self.drawing.as_ref(), &texts);
        let Some(mut folder) = self.folder else {
            let write = |grid: &Grid| {
                Ok(png::write(&args.output, &grid.image().enlarged(args.show.scale), &texts)?)
            };
            crate::cli::all([self.grid.as_ref().map_or(Ok(()), write), animated])?;
            return Ok(args.output.clone());
        };
        let (vanished, path) = (folder.take_vanished(), folder.path().to_owned());
        ensure!(
            vanished == 0,
            "{} vanished with {vanished} completions in it, while it was written to",
            path.display()
        );
        animated.map(|()| path)
    }
}

/// The name of a completion's file.
fn name(number: usize, k: usize) -> String {
    format!("{number:06}-{k}.png")
}

/// Whether a name is one of those.
pub fn is_completion(name: &str) -> bool {
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let stem = name.len().checked_sub(4).filter(|_| name.to_ascii_lowercase().ends_with(".png"));
    let parts = stem.and_then(|end| name[..end].split_once('-'));
    parts.is_some_and(|(number, k)| number.len() >= 6 && is_number(number) && is_number(k))
}
