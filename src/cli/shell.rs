//! `pixelcnn completions` and `pixelcnn man`: what a shell and a reader of manuals need.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{CompleteEnv, Shells};
use clap_mangen::Man;

use crate::engine::devices::gpu;
use crate::model::Model;

use super::{Cli, class_argument, load_model};

/// Generate shell completions
///
/// bash: source <(pixelcnn completions bash), in ~/.bashrc. zsh: the same, in ~/.zshrc. fish: pixelcnn completions
/// fish > ~/.config/fish/completions/pixelcnn.fish. PowerShell: pixelcnn completions powershell | Out-String |
/// Invoke-Expression, in $PROFILE.
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write manual pages: pixelcnn.1, and one per subcommand
#[derive(clap::Args)]
pub struct ManArgs {
    /// Output folder; created if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// The variable by which the script asks for candidates.
const ASKED: &str = "PIXELCNN_COMPLETE";

const NAME: &str = "pixelcnn";

pub fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut text = Vec::new();
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell.to_string()).context("the shell is not supported")?;
    shell.write_registration(ASKED, NAME, NAME, NAME, &mut text)?;
    super::print(&String::from_utf8(text)?)
}

pub fn man(args: &ManArgs) -> Result<()> {
    let cannot = || format!("cannot write manual pages into {}", args.folder.display());
    fs::create_dir_all(&args.folder).with_context(cannot)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_page(&command, &args.folder).with_context(cannot)
}

/// The date of the pages: when commands or flags last changed.
const DATE: &str = "2026-11-30";

/// Writes the page of a command, and those of its subcommands.
fn write_page(command: &clap::Command, folder: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(NAME);
    let page = Man::new(command.clone()).title(name.to_uppercase()).date(DATE).manual("pixelcnn");
    let mut text = Vec::new();
    page.source(concat!("pixelcnn ", env!("CARGO_PKG_VERSION"))).render(&mut text)?;
    fs::write(folder.join(format!("{name}.1")), tidy(&String::from_utf8_lossy(&text)))?;
    command.get_subcommands().try_for_each(|command| write_page(command, folder))
}

/// The same page as `mandoc -T lint` wants it: no long lines of text, no blanks at their ends, and no break beside an empty
/// line.
fn tidy(page: &str) -> String {
    let lines: Vec<_> = page.lines().map(str::trim_end).collect();
    let is_space = |line: Option<&&str>| line.is_some_and(|line| matches!(*line, "" | ".sp"));
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| lines.get(i));
        if *line == ".br" && (is_space(before) || is_space(lines.get(i + 1))) {
            continue;
        }
        // Requests stay whole, and so do lines that are set as they are.
        match line.starts_with(['.', '\'', ' ']) {
            true => text += line,
            false => text += &wrapped(line),
        }
        text += "\n";
    }
    text
}

/// A line of text as several of at most 80 bytes, if its words allow it.
fn wrapped(line: &str) -> String {
    // Mandoc counts other characters as it escapes them: \[u2026].
    let bytes = |word: &str| word.chars().map(|c| if c.is_ascii() { 1 } else { 8 }).sum::<usize>();
    let (mut text, mut length) = (String::new(), 0);
    for word in line.split(' ') {
        if length > 0 && length + 1 + bytes(word) > 80 {
            text += "\n";
            length = 0;
            // A line that begins with one of these would be a request.
            if word.starts_with(['.', '\'']) {
                text += "\\&";
            }
        } else if length > 0 {
            text += " ";
            length += 1;
        }
        text += word;
        length += bytes(word);
    }
    text
}

/// Prints candidates if a shell asks for them; false for any other call.
///
/// # Errors
/// The shell is unknown, or stdout takes nothing.
pub fn answer(arguments: &[OsString]) -> clap::error::Result<bool> {
    let folder = env::current_dir().ok();
    let asked = CompleteEnv::with_factory(Cli::command).var(ASKED).bin(NAME).completer(NAME);
    asked.try_complete(arguments.iter().cloned(), folder.as_deref())
}

/// Completes a model: built-in ones and files.
pub fn model() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let is_model = |path: &Path| path.extension().is_some_and(|e| e == "safetensors");
        let names = Model::shipped_names().filter(|name| is_start(current, name));
        let names = names.map(CompletionCandidate::new);
        names.chain(PathCompleter::any().filter(is_model).complete(current)).collect()
    })
}

/// Completes a comma list of devices.
pub fn device() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let adapters = gpu::list(&mut |_| {}).map(|(adapters, _)| adapters).unwrap_or_default();
        let numbered = adapters.iter().enumerate();
        let numbered = numbered.map(|(i, adapter)| (i.to_string(), Some(gpu::name(adapter))));
        let words = ["auto", "cpu", "gpu", "all-gpus"].map(|word| (word.to_owned(), None));
        in_list(current, words.into_iter().chain(numbered))
    })
}

/// Completes a comma list of classes of the model that the command line names.
pub fn class() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Ok(model) = load_model(named_model(env::args_os()).as_deref()) else { return Vec::new() };
        let names = model.classes().iter().enumerate();
        let names = names.map(|(class, name)| {
            let argument = class_argument(class, model.classes());
            let help = (argument != *name).then(|| name.clone());
            (argument.into_owned(), help)
        });
        in_list(current, names)
    })
}

/// The model of a command line.
fn named_model(words: impl IntoIterator<Item = OsString>) -> Option<PathBuf> {
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        match &*text {
            "-m" | "--model" => return words.next().map(PathBuf::from),
            text if text.starts_with("-m") => return Some(text[2..].trim_start_matches('=').into()),
            text if text.starts_with("--model=") => return Some(text["--model=".len()..].into()),
            _ => {}
        }
    }
    None
}

/// Candidates for the last entry of a comma list, with what is said of each.
fn in_list(
    current: &OsStr,
    all: impl Iterator<Item = (String, Option<String>)>,
) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let (before, last) = current.rsplit_once(',').map_or(("", &*current), |(list, last)| (list, last));
    let comma = if current.contains(',') { "," } else { "" };
    let fitting = all.filter(|(word, _)| is_start(OsStr::new(last), word));
    let candidate = |(word, help): (String, Option<String>)| {
        CompletionCandidate::new(format!("{before}{comma}{word}")).help(help.map(Into::into))
    };
    fitting.map(candidate).collect()
}

fn is_start(current: &OsStr, word: &str) -> bool {
    word.starts_with(&*current.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_a_command_line_is_found() {
        let of = |line: &str| named_model(line.split(' ').map(OsString::from));
        for line in
            ["sample -m mnist --class", "sample -mmnist", "eval --model=mnist x", "eval --model mnist"]
        {
            assert_eq!(of(line), Some("mnist".into()), "{line}");
        }
        assert_eq!(of("sample --class 3"), None);
    }

    #[test]
    fn the_last_entry_of_a_list_is_completed() {
        let all = || ["cat", "cow", "dog"].map(|name| (name.to_owned(), None)).into_iter();
        let values = |current: &str| {
            let candidates = in_list(OsStr::new(current), all());
            candidates.iter().map(|c| c.get_value().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(values(""), ["cat", "cow", "dog"]);
        assert_eq!(values("dog,c"), ["dog,cat", "dog,cow"]);
        assert_eq!(values("x"), [""; 0]);
    }
}
