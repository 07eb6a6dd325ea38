//! Where completions go: rows of a grid, or a file each.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use crate::input::images_in;
use crate::output::file::Folder;
use crate::output::grid::{Drawing, Grid};
use crate::output::{self, Image, OutputError, png, shades};

use super::{Args, Completion, Task, Texts};

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
    /// For the folder, the completions, of image and number: files say what is known when all are drawn.
    kept: Vec<(usize, usize, Image)>,
}

impl Target {
    /// Checks all that can be checked before there is an image.
    pub fn open(args: &Args, tasks: &[Task], channels: usize, of: usize) -> Result<Self> {
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
        Ok(Self { channels, levels: of, grid, drawing, folder, kept: Vec::new() })
    }

    /// Takes a completion of a task.
    pub fn put(&mut self, task: &Task, k: usize, count: usize, completion: &Completion) -> Result<()> {
        let (position, width) = ((count + 2) * task.number + 1 + k, task.input.width);
        let Completion { levels, begun, .. } = completion;
        let levels = &shades(levels, self.levels);
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
    pub fn finish(mut self, args: &Args, texts: &Texts) -> Result<PathBuf> {
        let list =
            |effective: &[f64]| effective.iter().map(|e| format!("{e:.2}")).collect::<Vec<_>>().join(",");
        let mut of_all = texts.shared.clone();
        let mut add = |key: &str, text: String| of_all.push((key.to_owned(), text));
        add("images", texts.names.join(","));
        let classes: Vec<_> = texts.classes.iter().flatten().flatten().cloned().collect();
        if !classes.is_empty() {
            add("classes", classes.join(","));
        }
        if let Some(effective) = &texts.effective {
            add("effective_sample_size", list(effective));
        }
        let animated = args.show.finish(self.drawing.as_ref(), &of_all);
        let Some(mut folder) = self.folder.take() else {
            let write = |grid: &Grid| {
                Ok(png::write(&args.output, &grid.image().enlarged(args.show.scale), &of_all)?)
            };
            crate::cli::all([self.grid.as_ref().map_or(Ok(()), write), animated])?;
            return Ok(args.output.clone());
        };
        let of_one = |number: usize, k: usize| {
            let mut of_one = texts.shared.clone();
            let index = number * args.count + k;
            let mut add = |key: &str, text: String| of_one.push((key.to_owned(), text));
            add("index", index.to_string());
            add("image", texts.names[number].clone());
            if let Some(class) = &texts.classes[number][k] {
                add("class", class.clone());
            }
            if let Some(effective) = &texts.effective {
                add("effective_sample_size", list(&effective[index..=index]));
            }
            of_one
        };
        crate::cli::all([put_each(&mut folder, &self.kept, &of_one), animated])?;
        Ok(folder.path().to_owned())
    }
}

/// Writes every completion into the folder; those that the system refuses there, into another one.
fn put_each(
    folder: &mut Folder,
    kept: &[(usize, usize, Image)],
    texts: &dyn Fn(usize, usize) -> Vec<(String, String)>,
) -> Result<()> {
    let put = |folder: &mut Folder, (number, k, image): &(usize, usize, Image)| {
        let texts = texts(*number, *k);
        folder.put(name(*number, *k).as_ref(), true, |file| Ok(png::encode(file, image, &texts)?))
    };
    for (done, completion) in kept.iter().enumerate() {
        let Err(error) = put(folder, completion) else { continue };
        let keep = || {
            let mut elsewhere = Folder::elsewhere()?;
            kept[done..].iter().try_for_each(|completion| put(&mut elsewhere, completion).map(drop))?;
            Ok::<_, OutputError>(elsewhere)
        };
        let (error, after) = (anyhow::Error::from(error), kept.len() - done - 1);
        match keep() {
            Ok(elsewhere) => bail!(
                "{}; it and the {after} after it are kept in {}",
                crate::cli::one_line(&error),
                elsewhere.path().display()
            ),
            Err(_) => return Err(error),
        }
    }
    let (vanished, path) = (folder.take_vanished(), folder.path().display());
    ensure!(vanished == 0, "{path} vanished with {vanished} completions in it, while it was written to");
    Ok(())
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
