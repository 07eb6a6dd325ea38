//! The images that a subcommand works on: its flags for them, their classes, and what is said of those that
//! cannot be used.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::recipe::{Run, file_name, size_text};
use super::sizes::{OtherSize, SizeArgs, Sizes, Sizing};
use super::text::hex;
use super::{Files, heading};
use crate::input::{self, Item, Labels, LeftOut, Levels, Matched, Request};
use crate::model::Model;
use crate::output::level_of;

/// The images of a command.
#[derive(clap::Args)]
#[command(next_help_heading = heading::IMAGES)]
pub struct InputArgs {
    /// Images, folders of images, or arrays
    ///
    /// Images are PNG, JPEG, WebP, GIF, BMP, TIFF or PNM files; arrays are .npz or .npy files of uint8, [N, H, W] or
    /// [N, H, W, C]. Images are read in the given order, those of a folder by name.
    #[arg(required = true, value_name = "IMAGE|DIR|ARRAY", help_heading = None::<&str>)]
    paths: Vec<PathBuf>,

    /// Do not recurse into subfolders
    #[arg(long)]
    no_recursive: bool,

    /// Name of the array of images in an .npz file
    ///
    /// Needed if the file holds several. The classes of an array named x… are read from y….
    #[arg(long, value_name = "NAME")]
    array: Option<String>,

    /// CSV file of classes, with a path and a class in each line
    ///
    /// A first line may name the columns, path and class, and more. Paths are those from the table, from the current
    /// folder, or from the given ones; a base name is enough if no other image has it.
    #[arg(long, value_name = "FILE.csv")]
    labels: Option<PathBuf>,

    #[command(flatten)]
    size: SizeArgs,

    /// Stop at the first unusable image instead of skipping it
    #[arg(long)]
    strict: bool,

    /// List the images and exit
    ///
    /// Prints size, class, and SHA-256 of the pixels.
    #[arg(long)]
    pub list: bool,
}

/// The source of the images' classes.
pub enum Classes<'a> {
    /// By a list, of one for all or of one for each.
    Listed(&'a str),
    /// By folders, arrays or a table, and an image that has none cannot be used.
    Needed,
    /// By folders, arrays or a table, where these say it.
    Known,
}

/// Images as the network takes them, and what became of the others.
pub struct Inputs {
    pub images: Vec<Input>,
    pub others: Others,
}

/// Images that are named on a terminal when they are passed over; reports have all.
const MOST_NAMED: usize = 20;

/// An image as the network takes it.
pub struct Input {
    pub name: String,
    /// The index of its path among those given.
    pub root: usize,
    pub width: usize,
    pub height: usize,
    /// `[H, W, C]`.
    pub levels: Vec<u16>,
    pub sizing: Sizing,
    /// True if it has shades between those of the model's levels.
    pub is_rounded: bool,
    pub class: Option<usize>,
}

/// Counts of images that are not used, or not unchanged; flattened into reports.
#[derive(Serialize)]
pub struct Others {
    #[serde(flatten)]
    sizes: Sizes,
    passed_over: Vec<PassedOver>,
    left_out: Counts,
}

#[derive(Serialize)]
struct PassedOver {
    path: String,
    reason: String,
}

#[derive(Serialize)]
struct Counts {
    hidden: usize,
    other_files: usize,
    sub_folders: usize,
}

impl InputArgs {
    /// The paths that were given, for people.
    pub fn roots(&self) -> Vec<String> {
        self.paths.iter().map(|path| input::shown(path)).collect()
    }

    /// Tells a run what names the same images.
    pub fn tell(&self, run: &mut Run) {
        run.inputs = self.paths.iter().map(|path| file_name(path)).collect();
        run.no_recursive = self.no_recursive;
        run.native_size = self.size.native_size;
        run.array.clone_from(&self.array);
        run.labels = self.labels.as_deref().map(file_name);
    }

    /// Reads all images; says which ones cannot be used, and why. `files` are the call's others, none of whose outputs
    /// may be an image; they come back with the images, for outputs that are named by them.
    pub fn read<'a>(
        &self,
        model: &Model,
        classes: &Classes,
        mut files: Files<'a>,
    ) -> Result<(Inputs, Files<'a>)> {
        let recursive = !self.no_recursive;
        let (array, levels) = (self.array.as_deref(), model.head().levels());
        let found = input::find(&Request { paths: &self.paths, recursive, array, levels });
        self.add_to(&mut files, &found.items);
        files.check()?;
        let of_items = self.classes(&found.items, model, classes)?;
        let mut images = Vec::new();
        let mut passed_over = Vec::new();
        let mut pass_over = |path: String, reason: String| {
            if self.strict {
                bail!("{path}: {reason}");
            }
            passed_over.push(PassedOver { path, reason });
            Ok(())
        };
        for input::PassedOver { name, error } in found.passed_over {
            pass_over(name, super::hints::told(&error))?;
        }
        for (item, class) in found.items.iter().zip(of_items) {
            match class.and_then(|class| read(item, class, model, &self.size)) {
                Ok(input) => images.push(input),
                Err(error) if error.is::<OtherSize>() => return Err(error.context(item.name())),
                Err(error) => pass_over(item.name(), super::one_line(&error))?,
            }
        }
        let LeftOut { hidden, others, folders } = found.left_out;
        let left_out = Counts { hidden, other_files: others, sub_folders: folders };
        let sizes = Sizes::of(&images);
        sizes.speak(images.len(), model);
        let inputs = Inputs { images, others: Others { sizes, passed_over, left_out } };
        let rounded = inputs.images.iter().filter(|input| input.is_rounded).count();
        if rounded > 0 {
            super::note(&format!(
                "note: {} shades between the model's {levels} levels; each is taken as the nearest",
                if rounded == 1 { "1 image has".to_owned() } else { format!("{rounded} images have") }
            ));
        }
        inputs.speak(if self.list { usize::MAX } else { MOST_NAMED })?;
        Ok((inputs, files))
    }

    fn add_to(&self, files: &mut Files, items: &[Item]) {
        self.paths.iter().filter(|path| path.is_file()).for_each(|path| files.reads("image", path));
        if let Some(path) = &self.labels {
            files.reads("--labels", path);
        }
        self.paths.iter().filter(|path| path.is_dir()).for_each(|path| files.reads_images_in(path));
        for item in items {
            files.reads("image", item.path());
            if let (true, Some(folder)) = (self.paths[item.root].is_dir(), item.path().parent()) {
                files.reads_images_in(folder);
            }
        }
    }

    /// The class of each item, or why it cannot be used.
    fn classes(
        &self,
        items: &[Item],
        model: &Model,
        classes: &Classes,
    ) -> Result<Vec<Result<Option<usize>>>> {
        let names = &model.classes();
        if let Classes::Listed(list) = classes {
            return Ok(listed(list, model, items.len())?
                .into_iter()
                .map(|class| Ok(Some(class)))
                .collect());
        }
        if names.is_empty() {
            if let Some(path) = &self.labels {
                bail!(
                    "--labels {}: model {} was trained without classes (leave --labels out)",
                    path.display(),
                    model.name
                );
            }
            return Ok(items.iter().map(|_| Ok(None)).collect());
        }
        let mut of_items: Vec<_> = match &self.labels {
            None => {
                let classes = input::classes(items, names).into_iter();
                classes.map(|class| class.map_err(Into::into)).collect()
            }
            Some(path) => {
                let folders: Vec<_> =
                    self.paths.iter().filter(|path| path.is_dir()).map(PathBuf::as_path).collect();
                let table = Labels::read(path, &folders, items);
                let table = table.with_context(|| format!("--labels {}", path.display()))?;
                say_matched(path, items.len(), table.matched);
                let class =
                    |item| table.class(item).map(|(name, line)| labelled(name, line, names)).transpose();
                (0..items.len()).map(class).collect()
            }
        };
        if matches!(classes, Classes::Needed) {
            let is_unknown = |class: &Result<Option<usize>>| matches!(class, Ok(None));
            if !items.is_empty() && of_items.iter().all(is_unknown) {
                bail!(
                    "model {} has classes, and the images' classes are not given: expected --class (one for all, or a \
                     comma list with one for each), --labels, or a folder named after each class: {}",
                    model.name,
                    super::class_list(names)
                );
            }
            for class in of_items.iter_mut().filter(|class| is_unknown(class)) {
                *class = Err(anyhow!(
                    "its class is not given (--class, --labels, or a folder named after a class)"
                ));
            }
        }
        Ok(of_items)
    }
}

/// The class that a line of a table names.
fn labelled(name: &str, line: u64, names: &[String]) -> Result<usize> {
    super::class_named(name, names).with_context(|| {
        let list = super::class_list(names);
        format!("its class {name} (--labels, line {line}) is none of the model's: {list}")
    })
}

/// Says how many images a table names, and how.
fn say_matched(path: &Path, all: usize, matched: Matched) {
    let Matched { images, by_base_name, rows, unused } = matched;
    let mut text = format!("note: {}: {images} of {} named", path.display(), super::counted(all));
    if by_base_name > 0 {
        text += &format!(", {by_base_name} of them by base name alone");
    }
    if unused > 0 {
        text += &format!("; {unused} of {rows} rows match no image");
    }
    super::note(&text);
}

/// The classes of a `--class` list.
fn listed(list: &str, model: &Model, count: usize) -> Result<Vec<usize>> {
    match super::parse_classes(list, model)? {
        classes if classes.len() == 1 => Ok(classes.repeat(count)),
        classes if classes.len() == count => Ok(classes),
        classes => bail!(
            "--class lists {} classes for {count} images: expected one for all, or one for each",
            classes.len()
        ),
    }
}

/// An image as the network takes it.
fn read(item: &Item, class: Option<usize>, model: &Model, size: &SizeArgs) -> Result<Input> {
    let (head, name, root) = (model.head(), item.name(), item.root);
    let check_size = |width, height| match super::size_problem(width, height, model) {
        Some(problem) => Err(anyhow!(problem)),
        None => Ok(()),
    };
    if let Some(Levels { width, height, channels, levels }) = item.levels().filter(|_| head.levels() != 256)
    {
        check_size(width, height)?;
        if channels != head.channels() {
            bail!(
                "model {} takes {} numbers a pixel, and this image has {channels}",
                model.name,
                head.channels()
            );
        }
        return Ok(Input {
            name,
            root,
            width,
            height,
            levels,
            sizing: Sizing::Same,
            is_rounded: false,
            class,
        });
    }
    let (pixels, is_drawn) = item.pixels()?;
    let (pixels, sizing) = size.fit(pixels, is_drawn, model)?;
    let (width, height) = (pixels.width, pixels.height);
    check_size(width, height)?;
    if head.levels() > 256 || !matches!(head.channels(), 1 | 3) {
        bail!(
            "model {} takes {} levels of {} channels, which no picture has (give them as an .npy or .npz array)",
            model.name,
            head.levels(),
            head.channels()
        );
    }
    if let (1, Some((x, y))) = (model.head().channels(), pixels.first_colour()) {
        bail!("model {} expects grey images, and this one has a colour at column {x}, row {y}", model.name);
    }
    let shades = pixels.levels(head.channels());
    let levels: Vec<_> = shades.iter().map(|&shade| level_of(shade, head.levels())).collect();
    let is_rounded = levels.iter().any(|(_, is_exact)| !is_exact);
    let levels = levels.into_iter().map(|(level, _)| level).collect();
    Ok(Input { name, root, width, height, levels, sizing, is_rounded, class })
}

impl Input {
    /// Of its levels as bytes, little-endian where there are more than 256.
    pub fn sha256(&self) -> String {
        let wide = self.levels.iter().any(|level| *level > 255);
        let bytes = |level: &u16| level.to_le_bytes().into_iter().take(1 + usize::from(wide));
        hex(&Sha256::digest(self.levels.iter().flat_map(bytes).collect::<Vec<_>>()))
    }
}

impl Inputs {
    /// Names at most `most` of the images left out and counts the rest; an error if no others are left.
    fn speak(&self, most: usize) -> Result<()> {
        let Others { passed_over, left_out, .. } = &self.others;
        match (&self.images[..], &passed_over[..]) {
            ([], [PassedOver { path, reason }]) => bail!("{path}: {reason}"),
            ([], []) => bail!("there are no images"),
            _ => {}
        }
        let shown = passed_over.len().min(most);
        for PassedOver { path, reason } in &passed_over[..shown] {
            super::say(&format!("passed over {path}: {reason}"));
        }
        if shown < passed_over.len() {
            super::say(&format!("and {} more (--list names all)", passed_over.len() - shown));
        }
        let count = |n: usize, what: &str| (n > 0).then(|| format!("{n} {what}"));
        let left_out: Vec<_> = [
            count(left_out.hidden, "hidden"),
            count(left_out.other_files, "of other kinds"),
            count(left_out.sub_folders, "sub-folders (--no-recursive)"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !left_out.is_empty() {
            super::note(&format!("note: left out in folders: {}", left_out.join(", ")));
        }
        let all = self.images.len() + passed_over.len();
        if self.images.is_empty() {
            bail!("none of the {all} images can be used");
        }
        if !passed_over.is_empty() {
            let some = passed_over.len();
            super::note(&format!(
                "note: {some} of {all} images were passed over (--strict stops at the first)"
            ));
        }
        Ok(())
    }

    /// Failure if anything was passed over.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(!self.others.passed_over.is_empty()))
    }

    /// Prints what [`InputArgs::list`] asks for.
    pub fn list(&self, model: &Model, json: bool) -> Result<ExitCode> {
        let images = self.images.iter().map(|input| Listed {
            path: &input.name,
            width: input.width,
            height: input.height,
            resized_from: match input.sizing {
                Sizing::Resized(width, height) => Some(size_text(width, height)),
                Sizing::Same | Sizing::Drawn => None,
            },
            class: input.class.map(|class| model.classes()[class].as_str()),
            sha256: input.sha256(),
        });
        let list = List { images: images.collect(), others: &self.others };
        let text = match json {
            true => format!("{}\n", serde_json::to_string_pretty(&list)?),
            false => list.table(),
        };
        super::print(&text)?;
        Ok(self.exit_code())
    }
}

#[derive(Serialize)]
struct List<'a> {
    images: Vec<Listed<'a>>,
    #[serde(flatten)]
    others: &'a Others,
}

#[derive(Serialize)]
struct Listed<'a> {
    path: &'a str,
    width: usize,
    height: usize,
    resized_from: Option<String>,
    class: Option<&'a str>,
    /// Of the pixels as the network takes them, `[H, W, C]`.
    sha256: String,
}

impl List<'_> {
    fn table(&self) -> String {
        let header = ["size", "class", "sha256", "image"].map(str::to_owned);
        let row = |image: &Listed| {
            let from = image.resized_from.as_ref().map_or(String::new(), |size| format!(" from {size}"));
            [
                format!("{}{from}", size_text(image.width, image.height)),
                image.class.unwrap_or("-").to_owned(),
                image.sha256[..16].to_owned(),
                image.path.to_owned(),
            ]
        };
        super::table(&[header].into_iter().chain(self.images.iter().map(row)).collect::<Vec<_>>())
    }
}
