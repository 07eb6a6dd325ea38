//! The command line: parse, validate, run, exit code. Here is what the subcommands share: which model, which class,
//! how to speak.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Once;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, Subcommand, ValueEnum};

use crate::model::{self, Config, Model, ModelError};
use crate::output::chart::{self, Chart};
use crate::output::file;

use engine::EngineArgs;
use files::Files;
use recipe::{Recipe, Run};
use text::{Verbosity, note, one_line, print, printable, quoted, say, table};

mod architecture;
mod bench;
mod classify;
mod complete;
mod costs;
mod devices;
mod drawing;
mod driver;
mod elsewhere;
mod engine;
mod eval;
mod files;
mod hints;
mod input;
mod inspect;
mod inspected;
mod likelihood;
mod merge;
mod models;
mod picture;
mod preview;
mod progress;
mod recipe;
mod sample;
mod shell;
mod sink;
mod sizes;
mod text;
mod verify;

/// Sample images from PixelCNN++ and other causal convolutional models, on a GPU or a CPU
#[derive(Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Print only results, warnings and errors
    #[arg(short, long, global = true, display_order = 900)]
    quiet: bool,

    /// Print why a device was chosen
    #[arg(short, long, global = true, conflicts_with = "quiet", display_order = 901)]
    verbose: bool,
}

const EXAMPLES: &str = "\
Examples:
  pixelcnn sample --scale 5                64 pixel-art faces, as samples.png
  pixelcnn sample -m mnist -n 10 --class 7 -s random
  pixelcnn sample -m model.safetensors -n 1000 --each pictures
  pixelcnn complete -m model.safetensors photos --rows 16
  pixelcnn eval -m model.safetensors pictures
  pixelcnn classify -m mnist digits --plot confusion.png
  pixelcnn bench --plot bench.png          the speed of this machine";

/// Groups of flags, the same in all commands.
mod heading {
    pub const MODEL: &str = "Model";
    pub const IMAGES: &str = "Images";
    pub const DRAWING: &str = "Drawing";
    pub const OUTPUT: &str = "Output";
    pub const DEVICE: &str = "Device";
}

#[derive(Subcommand)]
enum Command {
    Sample(sample::SampleArgs),
    Complete(complete::CompleteArgs),
    Merge(merge::MergeArgs),
    Eval(eval::EvalArgs),
    Classify(classify::ClassifyArgs),
    Verify(verify::VerifyArgs),
    Inspect(inspect::InspectArgs),
    Bench(bench::BenchArgs),
    #[command(alias = "list")]
    Models(models::ModelsArgs),
    Devices(devices::DevicesArgs),
    /// Convert a checkpoint to a model file (needs Python)
    #[command(disable_help_flag = true)]
    Convert(elsewhere::ElsewhereArgs),
    /// Train a network on your own images (needs Python)
    #[command(disable_help_flag = true)]
    Train(elsewhere::ElsewhereArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// Runs the program: parses its arguments, the first of which is its own name, runs the command, and returns its exit
/// code. It prints to stdout and stderr.
///
/// Call it once a process, if possible: from then on, signals remove temporary files.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let answered = shell::answer(&arguments);
    if let Ok(true) = answered {
        return ExitCode::SUCCESS;
    }
    let cli = match answered.and_then(|_| Cli::try_parse_from(arguments)) {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that has gone is no reason to fail otherwise.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    quiet_mesa();
    static TIDY: Once = Once::new();
    TIDY.call_once(|| {
        if let Err(error) = file::tidy_on_signals() {
            say(&format!("warning: signals will leave temporary files: {error}"));
        }
    });
    let result = run(&cli);
    if let Some(note) = file::take_note() {
        say(&format!("note: {note}"));
    }
    match result {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {}", one_line(&error)));
            if error.is::<Misuse>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Flags that do not go together, found after parsing: the exit code is that of clap's errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

/// Keeps Mesa's device selection layer from looking for a Wayland compositor where there is none: it
/// finds nothing to select by, and writes lines to stderr that begin with "error:" like our own.
fn quiet_mesa() {
    // Another thread may be reading the environment, for example one of a Python process.
    let is_alone = || std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() && is_alone() {
        // SAFETY: there are no other threads.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// Runs a subcommand.
fn run(cli: &Cli) -> Result<ExitCode> {
    text::set_verbosity(match cli {
        Cli { quiet: true, .. } => Verbosity::Quiet,
        Cli { verbose: true, .. } => Verbosity::Verbose,
        _ => Verbosity::Normal,
    });
    match &cli.command {
        Command::Sample(args) => sample::run(args)?,
        Command::Complete(args) => return complete::run(args),
        Command::Eval(args) => return eval::run(args),
        Command::Classify(args) => return classify::run(args),
        Command::Verify(args) => return verify::run(args),
        Command::Merge(args) => merge::run(args)?,
        Command::Inspect(args) => return inspect::run(args),
        Command::Bench(args) => bench::run(args)?,
        Command::Models(args) => models::run(args)?,
        Command::Devices(args) => devices::run(args)?,
        Command::Convert(args) => elsewhere::convert(args)?,
        Command::Train(args) => elsewhere::train(args)?,
        Command::Completions(args) => shell::completions(args)?,
        Command::Man(args) => shell::man(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(clap::Args)]
#[command(next_help_heading = heading::MODEL)]
struct ModelArgs {
    #[arg(short, long, value_name = "MODEL", help = model_help().0, long_help = model_help().1, add = shell::model())]
    model: Option<PathBuf>,

    /// Precision of the weights
    ///
    /// f16 halves the memory of the weights on a GPU, and on a CPU with AVX-512. It changes results slightly.
    #[arg(long, value_enum, default_value = "f32", hide_possible_values = true, value_name = "f32|f16")]
    precision: Precision,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Precision {
    F32,
    F16,
}

impl ModelArgs {
    /// The model of a recipe, by the name that its run has for it, or another file.
    fn of(file: Option<&Path>, run: &Run, recipe: &Recipe) -> Result<Self> {
        let model = file.map(Path::to_owned).or(run.model.as_ref().map(PathBuf::from));
        let precision = Precision::from_str(&recipe.precision, false).map_err(anyhow::Error::msg)?;
        Ok(Self { model, precision })
    }

    /// The model file is read, unless the model is a built-in one.
    fn add_to(&self, files: &mut Files) {
        if let Some(path) = self.model.as_deref().filter(|path| path.is_file()) {
            files.reads("-m", path);
        }
    }

    fn load(&self) -> Result<Model> {
        self.with_precision(load_model(self.model.as_deref())?)
    }

    fn with_precision(&self, model: Model) -> Result<Model> {
        Ok(match self.precision {
            Precision::F32 => model,
            Precision::F16 => model.with_precision(model::Precision::F16)?,
        })
    }
}

/// Reads a model file, or a built-in model; without a name the default one.
fn load_model(path: Option<&Path>) -> Result<Model> {
    let Some(path) = path else {
        return Model::shipped(Model::DEFAULT)
            .with_context(|| format!("{NO_BUILT_IN}; name a model file (-m MODEL.safetensors)"))?
            .context("the built-in model");
    };
    let name = path.to_str().filter(|_| !path.is_file());
    if let Some(model) = name.and_then(Model::shipped) {
        return model.with_context(|| format!("the built-in model {}", path.display()));
    }
    if path.extension().is_none() && !path.exists() && !is_checkpoint(path) {
        match shipped_names() {
            names if names.is_empty() => bail!("model {}: not a file; {NO_BUILT_IN}", path.display()),
            names => bail!("model {}: neither a file nor a built-in model: {names}", path.display()),
        }
    }
    if path.is_dir() {
        bail!("model {} is a folder (name the .safetensors file in it)", path.display());
    }
    Model::load(path).map_err(|error| match maker(path, &error) {
        Some(maker) => {
            anyhow!("model {} is a checkpoint, not a model (convert it: `{maker}`)", path.display())
        }
        None => anyhow!(error).context(format!("model {}", path.display())),
    })
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

/// True if a file has a name like a checkpoint of TensorFlow or PyTorch, or like the prefix of one's files.
fn is_checkpoint(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut index = path.as_os_str().to_owned();
    index.push(".index");
    let is_named = ["ckpt", "index", "meta", "pth", "pt", "bin"].contains(&extension.as_str());
    Path::new(&index).is_file() || path.is_file() && (is_named || extension.starts_with("data-"))
}

/// The help of `-m`: a line for `-h`, and the text for `--help`.
fn model_help() -> (String, String) {
    let names = shipped_names();
    if names.is_empty() {
        let help = format!("Model file (.safetensors); {NO_BUILT_IN}");
        return (help.clone(), help);
    }
    let line = format!("Model file (.safetensors), or a built-in model [default: {}]", Model::DEFAULT);
    let more = format!("Built-in models are {names}. A file with one of these names takes precedence.");
    (line.clone(), line + "\n\n" + &more)
}

/// The message of a program without the feature `builtin-models`.
const NO_BUILT_IN: &str = "this program was built without built-in models";

fn shipped_names() -> String {
    Model::shipped_names().collect::<Vec<_>>().join(", ")
}

/// The size of batches that `count` images fall into evenly, none larger than `most`.
fn even(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most))
}

fn counted(images: usize) -> String {
    if images == 1 { "1 image".to_owned() } else { format!("{images} images") }
}

/// A parser of whole numbers within a range.
fn whole<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
    }
}

/// Adds `auto` to the expected values of a flag.
fn or_auto<T>(parsed: Result<T, String>) -> Result<T, String> {
    parsed.map_err(|expected| format!("{expected}, or auto"))
}

/// Parses a number of images, small enough that sizes in bytes stay far from overflowing.
fn images(text: &str) -> Result<usize, String> {
    whole(1..=1_000_000_000)(text)
}

/// The classes that `--class` lists, each a name or, where no class has that name, an index.
fn parse_classes(list: &str, model: &Model) -> Result<Vec<usize>> {
    let names = &model.classes();
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
    crate::input::class_named(text, names).or_else(by_index)
}

/// The value for `--class` that names a class: its name, unless that would be read as something else.
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

/// The reason for which a network cannot work on images of a size, if there is one.
fn size_problem(width: usize, height: usize, model: &Model) -> Option<String> {
    let ((w, h), multiple, most) = (model.size(), model.size_multiple(), Config::limit("width"));
    let expected = if width == 0 || height == 0 {
        "at least 1 pixel a side".to_owned()
    } else if width.max(height) > most {
        format!("at most {most} pixels a side")
    } else if model.has_one_size() {
        format!("{w}x{h} alone, because its additions differ from pixel to pixel")
    } else {
        format!("width and height in multiples of {multiple}")
    };
    (!model.takes_size(width, height)).then(|| {
        format!(
            "model {} cannot work on {width}x{height} images: expected {expected} (it was trained on {w}x{h})",
            model.name
        )
    })
}

/// The result of the last steps of a run, all of which have been taken. If one fails, the results of the others are
/// there.
fn all<const N: usize>(results: [Result<()>; N]) -> Result<()> {
    let mut errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => bail!("{}", errors.iter().map(one_line).collect::<Vec<_>>().join("; and ")),
    }
}

/// Writes a chart, and says which names no font has.
fn write_chart(path: &Path, drawn: &impl Chart) -> Result<()> {
    say_replaced(&chart::write(path, drawn)?);
    Ok(())
}

/// Says what stands in a chart for names that no font has.
fn say_replaced(replaced: &[String]) {
    if !replaced.is_empty() {
        let list = replaced.join(", ");
        note(&format!("note: no font for these names is installed; the chart has {list}"));
    }
}

/// Writes rows of cells as a CSV file.
fn write_csv(path: &Path, rows: Vec<Vec<String>>) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.write_record(row))?;
    let bytes = writer.into_inner().map_err(|error| anyhow!("a table cannot be made: {error}"))?;
    Ok(file::write(path, |file| file.write_all(&bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_classes(names: &[&str]) -> Model {
        Model::synthetic(Config::published(1, 1).with_classes(names), 0)
    }

    #[test]
    fn class_names_come_before_indices() {
        let model = with_classes(&["1", "0", "cat, or dog", "bird"]);
        let parse = |list: &str| parse_classes(list, &model);
        assert_eq!(parse("1,0, bird,2,3").unwrap(), [0, 1, 3, 2, 3]);
        assert!(parse("bird,").is_err() && parse("4").is_err() && parse("-1").is_err());
        for class in 0..4 {
            assert_eq!(parse(&class_argument(class, model.classes())).unwrap(), [class]);
        }
    }

    #[test]
    fn names_are_the_same_in_either_spelling_of_accents() {
        let model = with_classes(&["cr\u{e8}me", "cafe\u{301}", "caf\u{e9}"]);
        let parse = |list: &str| parse_classes(list, &model);
        assert_eq!(parse("cre\u{300}me,caf\u{e9},cafe\u{301}").unwrap(), [0, 2, 1]);
        assert!(parse("creme").is_err());
    }
}
