//! The subcommands, and what they share: which model, which engine, which class, how to speak.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use pixelcnn::engine::cost::{Device, predicted};
use pixelcnn::engine::cpu::{CpuEngine, startable_threads};
use pixelcnn::engine::gpu::adapter::{self, Description, Workload};
use pixelcnn::engine::gpu::plan::Target;
use pixelcnn::engine::gpu::{GpuEngine, LARGEST_HELPFUL_BATCH};
use pixelcnn::engine::{Engine, Method};
use pixelcnn::model::{self, Config, Model, ModelError, Network};
use pixelcnn::output::file;

mod architecture;
mod bench;
mod chart;
mod classify;
mod complete;
mod devices;
mod drawing;
mod eval;
mod figure;
mod input;
mod inspect;
mod likelihood;
mod merge;
mod picture;
mod sample;
mod shell;
mod target;
mod verify;

/// Draw images from PixelCNN++ models, fast, on a GPU or without one.
#[derive(Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// Say nothing but results, warnings and errors; no progress
    #[arg(short, long, global = true, display_order = 900)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  pixelcnn sample                          64 handwritten digits, as samples.png
  pixelcnn sample -n 10 --class 7 -s random
  pixelcnn sample -m model.safetensors -n 1000 --each pictures
  pixelcnn complete -m model.safetensors pictures --rows 16
  pixelcnn eval -m model.safetensors pictures
  pixelcnn classify -m mnist digits --plot confusion.png
  pixelcnn bench --plot bench.png          how fast this machine draws";

#[derive(Subcommand)]
pub enum Command {
    Sample(sample::Args),
    Complete(complete::Args),
    Merge(merge::Args),
    Eval(eval::Args),
    Classify(classify::Args),
    Verify(verify::Args),
    Inspect(inspect::Args),
    Bench(bench::Args),
    Devices(devices::Args),
    Completions(shell::Args),
    #[command(hide = true)]
    Man(shell::ManArgs),
}

/// Runs a subcommand.
pub fn run(cli: &Cli) -> Result<ExitCode> {
    QUIET.store(cli.quiet, Ordering::Relaxed);
    match &cli.command {
        Command::Sample(args) => sample::run(args)?,
        Command::Complete(args) => return complete::run(args),
        Command::Eval(args) => return eval::run(args),
        Command::Classify(args) => return classify::run(args),
        Command::Verify(args) => return verify::run(args),
        Command::Merge(args) => merge::run(args)?,
        Command::Inspect(args) => return inspect::run(args),
        Command::Bench(args) => bench::run(args)?,
        Command::Devices(args) => devices::run(args)?,
        Command::Completions(args) => shell::completions(args)?,
        Command::Man(args) => shell::man(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(clap::Args)]
pub struct ModelArgs {
    #[arg(short, long, value_name = "MODEL", help = model_help())]
    model: Option<PathBuf>,

    /// Precision of the weights; f16 takes half the memory on a GPU or with AVX-512, and changes results slightly
    #[arg(long, value_enum, default_value = "f32", hide_possible_values = true, value_name = "f32|f16")]
    precision: Precision,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Precision {
    F32,
    F16,
}

impl ModelArgs {
    fn load(&self) -> Result<Model> {
        self.with_precision(self.load_as_stored()?)
    }

    fn with_precision(&self, model: Model) -> Result<Model> {
        Ok(match self.precision {
            Precision::F32 => model,
            Precision::F16 => model.with_precision(model::Precision::F16)?,
        })
    }

    fn load_as_stored(&self) -> Result<Model> {
        let Some(path) = &self.model else {
            return Model::embedded().context("the built-in model");
        };
        let name = path.to_str().filter(|_| !path.is_file());
        if let Some(model) = name.and_then(Model::shipped) {
            return model.with_context(|| format!("the built-in model {}", path.display()));
        }
        if path.extension().is_none() && !path.exists() && !is_checkpoint(path) {
            bail!("model {}: neither a file nor a built-in model: {}", path.display(), shipped_names());
        }
        if path.is_dir() {
            bail!("model {}: is a folder (name the .safetensors file in it)", path.display());
        }
        Model::load(path).map_err(|error| match maker(path, &error) {
            Some(maker) => {
                anyhow!("model {}: is a checkpoint; `{maker}` makes a model of it", path.display())
            }
            None => anyhow!(error).context(format!("model {}", path.display())),
        })
    }
}

/// The command that makes a model of a file that is none yet.
fn maker(path: &Path, error: &ModelError) -> Option<String> {
    let model = quoted(&path.with_extension("safetensors").to_string_lossy());
    let checkpoint = quoted(&path.to_string_lossy());
    match error {
        ModelError::BadMetadata { key: "format", found, .. } if found.starts_with("pixelcnn-training") => {
            Some(format!("uv run scripts/train.py DATA -o {model} --resume {checkpoint} --minutes 0"))
        }
        ModelError::Read(_) | ModelError::NotSafetensors(_) if is_checkpoint(path) => {
            Some(format!("uv run scripts/convert.py {checkpoint} -o {model}"))
        }
        _ => None,
    }
}

/// Whether a file is named like a checkpoint of TensorFlow or PyTorch, or stands for the files of one.
fn is_checkpoint(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut index = path.as_os_str().to_owned();
    index.push(".index");
    let is_named = ["ckpt", "index", "meta", "pth", "pt", "bin"].contains(&extension.as_str());
    Path::new(&index).is_file() || path.is_file() && (is_named || extension.starts_with("data-"))
}

fn model_help() -> String {
    format!(
        "Model file (.safetensors), or a built-in model: {}; a file of that name wins [default: mnist, \
        handwritten digits]",
        shipped_names()
    )
}

fn shipped_names() -> String {
    Model::shipped_names().collect::<Vec<_>>().join(", ")
}

#[derive(clap::Args)]
pub struct EngineArgs {
    /// What to run on: auto (a hardware GPU if there is one and it is worth it, else the CPU), cpu, gpu, or the index
    /// or a part of the name of an adapter that `pixelcnn devices` lists; `sample` takes several, as a comma list, or
    /// all-gpus
    #[arg(long, value_name = "DEVICE", default_value = "auto", allow_negative_numbers = true)]
    #[arg(env = "PIXELCNN_DEVICE", hide_env_values = true)]
    device: String,

    /// Threads of the CPU engine [default: as many as the machine runs at once]
    #[arg(long, value_name = "N", value_parser = parse_threads, allow_negative_numbers = true)]
    threads: Option<Threads>,
}

#[derive(Clone, Copy)]
enum Threads {
    Auto,
    Number(usize),
}

fn parse_threads(text: &str) -> Result<Threads, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Threads::Auto),
        Ok(n @ 1..=1024) => Ok(Threads::Number(n)),
        _ => Err("expected a whole number from 1 to 1024, or auto".to_owned()),
    }
}

impl EngineArgs {
    fn threads(&self) -> usize {
        match self.threads {
            Some(Threads::Number(threads)) => threads,
            Some(Threads::Auto) | None => machine_threads(),
        }
    }

    /// The devices that `--device` allows for drawing or evaluating so many images of a model; says so if the first is
    /// not what one would expect.
    fn choose(&self, model: &Model, images: usize) -> Result<Devices> {
        if self.device.trim() == ALL_GPUS || device_list(&self.device).len() > 1 {
            bail!("--device {}: expected one device (`pixelcnn sample` takes several)", self.device);
        }
        self.choose_one(&self.device, self.threads(), model, images)
    }

    /// The same, for several devices that share the images.
    fn choose_all(&self, model: &Model, images: usize) -> Result<Vec<Devices>> {
        if self.device.trim() == ALL_GPUS {
            let one =
                |adapter| Devices { adapters: vec![adapter], is_auto: false, threads: self.threads() };
            return Ok(adapter::all_gpus()?.into_iter().map(one).collect());
        }
        let names = device_list(&self.device);
        if names.len() > 1
            && let Some(odd) = names.iter().find(|name| ["auto", ALL_GPUS, ""].contains(name))
        {
            bail!("--device {}: \"{odd}\" is no device of a list", self.device);
        }
        // Engines on the CPU share its threads.
        let on_cpu = names.iter().filter(|name| **name == "cpu").count().max(1);
        let threads = (self.threads() / on_cpu).max(1);
        names.iter().map(|name| self.choose_one(name, threads, model, images)).collect()
    }

    fn choose_one(&self, device: &str, threads: usize, model: &Model, images: usize) -> Result<Devices> {
        let work = (device == "auto").then(|| self.workload(model, images));
        let (adapters, pick) = adapter::choose(device, work.as_ref())?;
        if pick.is_surprise {
            match adapters[..] {
                [] => note(&format!("using the CPU engine: {}", pick.reason)),
                _ => say(&format!("warning: {}", pick.reason)),
            }
        }
        Ok(Devices { adapters, is_auto: work.is_some(), threads })
    }

    fn workload(&self, model: &Model, images: usize) -> Workload {
        let network = Network::new(&model.config);
        let pixels = model.config.width * model.config.height;
        // As many batches as the largest that helps takes.
        let batches = images.div_ceil(LARGEST_HELPFUL_BATCH);
        let batch = images.div_ceil(batches.max(1));
        let cost = predicted(&network, Method::Cached, batch, pixels, Device::Gpu(Target::SMALLEST));
        let of_all = |count| count * batches as u64;
        Workload { macs: of_all(cost.macs), dispatches: of_all(cost.dispatches), threads: self.threads() }
    }
}

/// All hardware GPUs.
const ALL_GPUS: &str = "all-gpus";

/// The devices of a comma list; commas in parentheses belong to a name.
fn device_list(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let separates = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    };
    list.split(separates).map(str::trim).collect()
}

/// Devices to run on.
struct Devices {
    /// The first is tried first; the CPU engine if there is none.
    adapters: Vec<wgpu::Adapter>,
    /// Whether the next is tried where one cannot be opened.
    is_auto: bool,
    threads: usize,
}

impl Devices {
    /// The GPU that is used, if any.
    fn adapter(&self) -> Option<&wgpu::Adapter> {
        self.adapters.first()
    }

    /// What to give `--device` to get the same.
    fn argument(&self) -> String {
        self.adapter().map_or("cpu".to_owned(), |adapter| Description::new(adapter).to_string())
    }

    /// An engine on the first device that can be opened.
    fn start(&mut self, model: &Model, width: usize, height: usize) -> Result<Box<dyn Engine>> {
        while let Some(adapter) = self.adapters.first() {
            match GpuEngine::new(model, width, height, adapter) {
                Ok(engine) => return Ok(Box::new(engine)),
                Err(error) if self.is_auto => {
                    self.adapters.remove(0);
                    let next = if self.adapters.is_empty() { "the CPU engine" } else { "the next device" };
                    note(&format!("using {next}: {error}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let threads = startable_threads(self.threads);
        if threads < self.threads {
            say(&format!("warning: {threads} of {} threads can be started", self.threads));
        }
        Ok(Box::new(CpuEngine::new(model, width, height, threads)))
    }
}

fn machine_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The size of batches that `count` images fall into evenly, none larger than `most`.
fn even(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most))
}

fn counted(images: usize) -> String {
    if images == 1 { "1 image".to_owned() } else { format!("{images} images") }
}

/// Parses a number of images; so many that sizes in bytes stay far from overflowing.
fn images(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1_000_000_000) => Ok(n),
        _ => Err("expected a whole number from 1 to 1000000000".to_owned()),
    }
}

/// The classes that `--class` lists, each a name or, where no class has that name, an index.
fn parse_classes(list: &str, model: &Model) -> Result<Vec<usize>> {
    let names = &model.config.classes;
    if names.is_empty() {
        bail!("--class {list}: model {} was trained without classes (leave --class out)", model.name);
    }
    let parse = |item: &str| {
        let item = item.trim();
        class_named(item, names).with_context(|| {
            let last = names.len() - 1;
            format!(
                "--class {list}: model {} has no class \"{item}\"; expected an index from 0 to {last}, \
                or a name of: {}",
                model.name,
                class_list(names)
            )
        })
    };
    list.split(',').map(parse).collect()
}

/// The class of this name, or, where no class has that name, of this index.
fn class_named(text: &str, names: &[String]) -> Option<usize> {
    let by_index = || text.parse().ok().filter(|i| *i < names.len());
    pixelcnn::input::class_named(text, names).or_else(by_index)
}

/// What to give `--class` for a class: its name, unless that would be read as something else.
fn class_argument(class: usize, names: &[String]) -> Cow<'_, str> {
    let name = &names[class];
    let is_readable = name.trim() == name && !name.contains(',') && !name.is_empty();
    match names.iter().position(|other| other == name) {
        Some(first) if first == class && is_readable => Cow::Borrowed(name),
        _ => Cow::Owned(class.to_string()),
    }
}

/// Names of classes for a message: the first ones, if there are many.
fn class_list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let list = printable(&names[..names.len().min(SHOWN)].join(", "));
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => list,
        Some(more) => format!("{list}, and {more} more (`pixelcnn inspect` lists them)"),
    }
}

/// Why a network cannot work on images of a size.
fn size_problem(width: usize, height: usize, model: &Model) -> Option<String> {
    let Config { width: w, height: h, .. } = model.config;
    let (multiple, most) = (model.config.size_multiple(), Config::limit("width"));
    let expected = match width.max(height) > most {
        true => format!("at most {most} pixels a side"),
        false if !model.config.class_maps.is_empty() => {
            format!("{w}x{h} alone, for what its classes add differs from pixel to pixel")
        }
        false => format!("multiples of {multiple}"),
    };
    (!model.config.takes_size(width, height)).then(|| {
        format!(
            "model {} cannot work on {width}x{height} images: expected {expected} (it was trained on {w}x{h})",
            model.name
        )
    })
}

/// A bar over the pixels of images, with images/s, where stderr is a terminal; nothing elsewhere.
fn progress(images: usize, pixels: usize) -> ProgressBar {
    let rate = move |state: &ProgressState, w: &mut dyn std::fmt::Write| {
        let done = state.pos() as f64 / state.elapsed().as_secs_f64().max(1e-3);
        let _ = write!(w, "{:.1} images/s", done / pixels as f64);
    };
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {rate}  {eta} left");
    let style = style.expect("the template is valid").with_key("rate", rate);
    let bar = match is_quiet() {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(images as u64 * pixels as u64).with_style(style),
    };
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}

/// Rows of cells, the first of them the header, as columns; numbers to the right.
fn table<Row: AsRef<[String]>>(rows: &[Row]) -> String {
    let is_number =
        |row: &Row, i: usize| row.as_ref()[i].starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let column = |i: usize| {
        let width = rows.iter().map(|row| row.as_ref()[i].chars().count()).max().unwrap_or(0);
        (width, rows.iter().skip(1).all(|row| is_number(row, i)))
    };
    let columns: Vec<_> = (0..rows.first().map_or(0, |row| row.as_ref().len())).map(column).collect();
    let line = |row: &Row| {
        let cells = row.as_ref().iter().zip(&columns).map(|(cell, &(width, right))| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Writes rows of cells as a CSV file.
fn write_csv(path: &Path, rows: Vec<Vec<String>>) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.write_record(row))?;
    let bytes = writer.into_inner().map_err(|error| anyhow!("a table cannot be made: {error}"))?;
    Ok(file::write(path, |file| file.write_all(&bytes))?)
}

/// Writes a line to stderr. A stderr that takes no more is no reason to stop.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", shown(line));
}

/// Says what is of interest, and no warning or error.
fn note(line: &str) {
    if !is_quiet() {
        say(line);
    }
}

/// Whether only warnings and errors are to be said.
static QUIET: AtomicBool = AtomicBool::new(false);

fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// What a terminal may be given: names out of files do not get to steer it.
fn shown(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    // As JSON has it, which this may be.
    let escape = |c: char| if steers(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    if text.contains(steers) { text.chars().map(escape).collect() } else { Cow::Borrowed(text) }
}

/// A name in one line.
fn printable(name: &str) -> String {
    shown(name).replace(['\n', '\t'], " ")
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,/:=+@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Writes a result to stdout, whose reader may have seen enough (`pixelcnn inspect | head`).
fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(shown(text).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("writing to stdout"),
        _ => Ok(()),
    }
}

/// An error with its causes in one line. A cause that the message before it quotes is not repeated.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |line, cause| {
        let cause = cause.to_string();
        match line.as_str() {
            "" => cause,
            line if line.ends_with(&cause) => line.to_owned(),
            line => format!("{line}: {cause}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_come_before_indices() {
        let mut model = Model::embedded().unwrap();
        model.config.classes = ["1", "0", "cat, or dog", "bird"].map(String::from).to_vec();
        let parse = |list: &str| parse_classes(list, &model);
        assert_eq!(parse("1,0, bird,2,3").unwrap(), [0, 1, 3, 2, 3]);
        assert!(parse("bird,").is_err() && parse("4").is_err() && parse("-1").is_err());
        for class in 0..4 {
            assert_eq!(parse(&class_argument(class, &model.config.classes)).unwrap(), [class]);
        }
    }

    #[test]
    fn names_are_the_same_in_either_spelling_of_accents() {
        let mut model = Model::embedded().unwrap();
        model.config.classes = ["cr\u{e8}me", "cafe\u{301}", "caf\u{e9}"].map(String::from).to_vec();
        let parse = |list: &str| parse_classes(list, &model);
        assert_eq!(parse("cre\u{300}me,caf\u{e9},cafe\u{301}").unwrap(), [0, 2, 1]);
        assert!(parse("creme").is_err());
    }

    #[test]
    fn names_do_not_steer_the_terminal() {
        assert_eq!(shown("plain, élan\n\t"), "plain, élan\n\t");
        assert_eq!(shown("a\u{1b}[31mb\r\u{9b}\0"), r"a\u001b[31mb\u000d\u009b\u0000");
        assert_eq!(printable("two\nlines"), "two lines");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("samples.png"), "samples.png");
        assert_eq!(quoted("NVIDIA H100"), "'NVIDIA H100'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn commas_in_names_of_devices_are_theirs() {
        assert_eq!(device_list("cpu"), ["cpu"]);
        assert_eq!(device_list("0, cpu"), ["0", "cpu"]);
        let (a, b) =
            ("llvmpipe (LLVM 19.1, 256 bits) (software, Vulkan)", "RTX 4090 (discrete GPU, Vulkan)");
        assert_eq!(device_list(&format!("{a},{b}")), [a, b]);
    }

    #[test]
    fn causes_stand_in_one_line_once() {
        let error = anyhow::anyhow!("no such file").context("cannot read: no such file").context("model x");
        assert_eq!(one_line(&error), "model x: cannot read: no such file");
    }
}
