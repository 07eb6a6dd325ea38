//! Everything that a command which draws images writes, but for tables: flags, checks, what is there already, and the
//! way of an image into all of it.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::output::frame::Frame;
use crate::output::grid::Drawing;
use crate::output::{shades, stdout};

use super::{Folder, Item, Series, Sink, Template, Texts, is_array};
use crate::cli::drawing::ShowArgs;
use crate::cli::preview::Preview;
use crate::cli::recipe::Recipe;
use crate::cli::{Files, heading, note, say};

/// The outputs of a command that draws.
#[derive(clap::Args)]
#[command(next_help_heading = heading::OUTPUT)]
pub struct OutputArgs {
    /// Output file: .png (a grid), .npz or .npy; - is a PNG on stdout, -.npy an array there
    ///
    /// An existing file is replaced. A row of the grid shows one class if there are enough images; a row of
    /// completions shows one image. .npz holds arr_0 [N, H, W, 3], as evaluators of generated images read it, arr_1
    /// [N] (classes), and for completions the images and masks. .npy holds [N, H, W, channels]. -.npz is such a file on
    /// stdout.
    ///
    /// [default: samples.png, or completions.png]
    #[arg(short, long, value_name = "OUT", conflicts_with = "each", allow_hyphen_values = true)]
    output: Option<PathBuf>,

    /// Output folder, with one PNG file per image
    ///
    /// It is created if it does not exist. For completions, masks are saved too.
    #[arg(long, value_name = "DIR")]
    pub each: Option<PathBuf>,

    #[command(flatten)]
    pub names: NameArgs,

    /// Keep existing images of --each; fail if one does not match
    #[arg(long, requires = "each")]
    pub resume: bool,
}

/// Names of files in a folder, and the treatment of existing ones.
#[derive(clap::Args)]
#[command(next_help_heading = heading::OUTPUT)]
pub struct NameArgs {
    /// Template of file names in a folder, such as {class}_{nth:02}.png
    ///
    /// Fields are {index}, {class}, {class_index}, and {nth}, which counts from 1 within a class; for completions
    /// also {image} and {completion}. A width pads numbers with zeros: {nth:02}.
    ///
    /// [default: {index:06}.png; for completions {image:06}-{completion}.png]
    #[arg(long, value_name = "TEMPLATE", value_parser = Template::parse)]
    pub name: Option<Template>,

    /// Write into a folder of other images, replacing same-named files
    #[arg(long)]
    pub overwrite: bool,
}

impl NameArgs {
    /// The template, where none is given another.
    pub fn template(&self, default: &str) -> Template {
        let default = || Template::parse(default).expect("the default is valid");
        self.name.clone().unwrap_or_else(default)
    }
}

/// The images of a run, by index.
#[derive(Clone, Copy)]
pub struct Items<'a> {
    /// All images, by whichever process.
    pub whole: &'a Range<u64>,
    /// The images that this process draws.
    pub series: &'a Series,
    pub recipe: &'a Recipe,
    /// The image of an index.
    pub item: &'a dyn Fn(u64) -> Item,
    /// Frame of their grid.
    pub frame: &'a Frame,
    /// The file of all images, where none is named, and the names of files for each.
    pub defaults: [&'a str; 2],
    /// The word for them, in plural.
    pub word: &'a str,
}

/// The number of times that images are drawn again because they vanished with their folder.
const MOST_ROUNDS: usize = 5;

/// The number of images in ranges of indices.
pub fn images_of(ranges: &[Range<u64>]) -> usize {
    ranges.iter().map(|range| (range.end - range.start) as usize).sum()
}

impl OutputArgs {
    /// The file of all images, if there is one.
    pub fn file(&self, default: &str) -> Option<PathBuf> {
        self.each.is_none().then(|| self.output.clone().unwrap_or_else(|| default.into()))
    }

    /// Frame of the grid, if there is one; fails if there is none, and a flag is about it.
    pub fn frame(&self, show: &ShowArgs, series: &Series) -> Result<Frame> {
        if show.animate.is_none() && (self.each.is_some() || self.is_array()) {
            show.frame.refuse()?;
            return Ok(Frame::new(1));
        }
        show.frame.frame(series)
    }

    /// True if images are written into an array.
    pub fn is_array(&self) -> bool {
        self.each.is_none() && self.output.as_deref().is_some_and(is_array)
    }

    /// Fails if an output is a file that is read, or another output.
    pub fn check<'a>(&'a self, files: Files<'a>, show: &'a ShowArgs, items: &'a Items) -> Result<()> {
        for (flag, is_given) in
            [("--name", self.names.name.is_some()), ("--overwrite", self.names.overwrite)]
        {
            ensure!(
                self.each.is_some() || !is_given,
                "{flag}: is about files in a folder (add --each DIR)"
            );
        }
        ensure!(
            !show.show || !self.is_array(),
            "--show: shows a grid, and an array has none (name a .png file)"
        );
        let (file, template) = (self.file(items.defaults[0]), self.names.template(items.defaults[1]));
        let mut files = files;
        match &self.each {
            None => files.writes("-o", file.as_deref().filter(|path| stdout::kind(path).is_none())),
            Some(path) => {
                files.writes_each("--each", path, |name| {
                    template.makes(name, path, items.whole.clone(), items.item)
                });
            }
        }
        files.writes("--animate", show.animate.as_deref());
        files.check()
    }
}

/// Everywhere that images go, one by one.
pub struct Outputs<'a> {
    pub sink: Sink,
    items: Items<'a>,
    show: &'a ShowArgs,
    /// The terminal that shows the grid.
    preview: Option<Preview>,
    drawing: Option<Drawing>,
    /// Images that are where they belong.
    done: usize,
}

impl<'a> Outputs<'a> {
    /// Checks all that can be checked before there is an image, and finds which are missing. `own` are other files of this
    /// call, which may lie among the images.
    pub fn open(
        args: &OutputArgs,
        show: &'a ShowArgs,
        items: Items<'a>,
        own: &[PathBuf],
    ) -> Result<(Self, Vec<Range<u64>>)> {
        let Items { whole, series, recipe, item, frame, defaults, word } = items;
        if show.animate.is_some() {
            series.check_picture()?;
        }
        let own: Vec<_> = own.iter().chain(&show.animate).collect();
        let sink = match (&args.each, args.file(defaults[0])) {
            (Some(path), _) => {
                let template = args.names.template(defaults[1]);
                let folder =
                    Folder::open("--each", path, &template, series, whole.clone(), item, recipe.clone())?;
                folder.make_for(own.iter().copied())?;
                Sink::Each(folder)
            }
            (None, Some(path)) => Sink::file(&path, series, frame)?,
            (None, None) => unreachable!("images go into a file or a folder"),
        };
        let drawing = show.begin(|| series.grid(), frame)?;
        let mut missing = vec![series.indices.clone()];
        let mut done = 0;
        if let Sink::Each(folder) = &sink {
            if args.resume {
                folder.remove_abandoned();
                let found = folder.resume(series.indices.clone(), item, args.names.overwrite)?;
                let count = series.count();
                note(&format!(
                    "{} of {count} {word} are there already{}",
                    found.kept,
                    found.redrawn_note()
                ));
                (missing, done) = (found.missing, found.kept);
            } else if !args.names.overwrite {
                let own: Vec<_> = own.iter().map(|path| path.as_path()).collect();
                folder.refuse_others(whole, item, &own, "--resume goes on with a run; ")?;
            }
        }
        let is_seen = matches!(sink, Sink::Sheet(Some(_), _));
        let preview = Preview::wanted(show.show, args.output.is_none()).filter(|_| is_seen);
        Ok((Self { sink, items, show, preview, drawing, done }, missing))
    }

    /// Takes an image, `[H, W, C]` levels, with the settings it was drawn with; `step` says when each of its pixels was,
    /// 0 from the start. Gives back which file it goes to.
    pub fn put(
        &mut self,
        item: &Item,
        levels: &[u16],
        settings: &Texts,
        step: impl Fn(usize) -> usize,
    ) -> Result<PathBuf> {
        if let Some(drawing) = &mut self.drawing {
            let series = self.items.series;
            let shades = shades(levels, series.levels);
            drawing.place(series.position(item.index), item.size.0, series.channels, &shades, step);
        }
        let path = self.sink.put(item, levels, settings)?;
        self.done += 1;
        Ok(path)
    }

    /// Puts colours `[H, W, 3]` that are no image of the series into the cell of a position, where there is one.
    pub fn show(&mut self, position: usize, width: usize, colours: &[u8]) {
        if let Some(drawing) = &mut self.drawing {
            drawing.place(position, width, 3, colours, |_| 0);
        }
        if let Sink::Sheet(_, sheet) = &mut self.sink {
            sheet.place(position, width, 3, colours);
        }
    }

    /// Has what is missing drawn, until all is where it belongs. Gives back how many images were drawn.
    pub fn fill(
        &mut self,
        mut missing: Vec<Range<u64>>,
        mut draw: impl FnMut(&[Range<u64>], &mut Self) -> Result<()>,
    ) -> Result<usize> {
        let count = self.items.series.count();
        let mut drawn = 0;
        for _ in 0..MOST_ROUNDS {
            if missing.is_empty() {
                break;
            }
            drawn += images_of(&missing);
            draw(&missing, self)
                .map_err(|error| self.sink.explain(error, self.done, count, self.items.word))?;
            missing = self.vanished()?;
            self.done = count - images_of(&missing);
        }
        Ok(drawn)
    }

    /// Images that were written and are missing, for their folder has vanished.
    fn vanished(&mut self) -> Result<Vec<Range<u64>>> {
        let Sink::Each(folder) = &mut self.sink else { return Ok(Vec::new()) };
        if folder.take_vanished() == 0 {
            return Ok(Vec::new());
        }
        let found = folder.resume(self.items.series.indices.clone(), self.items.item, true)?;
        say(&format!(
            "warning: {} vanished while {word} were drawn; {} {word} are drawn again",
            folder.path().display(),
            images_of(&found.missing),
            word = self.items.word
        ));
        Ok(found.missing)
    }

    /// Writes what is not written yet, and says where the images are. `about` tells of all of them.
    pub fn finish(self, about: &Texts) -> Result<String> {
        let mut place = String::new();
        let shown = match (&self.sink, self.preview) {
            (Sink::Sheet(_, sheet), Some(preview)) => Some((preview, sheet.image())),
            _ => None,
        };
        crate::cli::all([
            self.sink.finish(about).map(|at| place = at),
            self.show.finish(self.drawing.as_ref(), self.items.frame, about),
        ])?;
        if let Some((preview, image)) = shown {
            preview.show(&image)?;
        }
        Ok(place)
    }
}
