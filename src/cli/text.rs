//! Messages, printed output and quoting.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use anstream::AutoStream;
use anstyle::{AnsiColor, Color, Style};
use anyhow::{Context, Result};
use unicode_width::UnicodeWidthStr;

use crate::output::stdout;

use super::hints::hint;

/// Writes a line to stderr, where a terminal shows "error:" and "warning:" in colour, as clap does. A stderr that takes no
/// more is no reason to stop.
pub fn say(line: &str) {
    let style = Style::new().bold();
    let labels = [("error:", style.fg_color(Some(RED))), ("warning:", style.fg_color(Some(YELLOW)))];
    let label = labels.into_iter().find(|(label, _)| line.starts_with(label));
    let (label, style) = label.unwrap_or(("", Style::new()));
    let _ = writeln!(anstream::stderr().lock(), "{style}{label}{style:#}{}", shown(&line[label.len()..]));
}

const RED: Color = Color::Ansi(AnsiColor::Red);
const YELLOW: Color = Color::Ansi(AnsiColor::Yellow);

/// Says something of interest that is no warning and no error, unless the user wants quiet.
pub fn note(line: &str) {
    if verbosity() >= Verbosity::Normal {
        say(line);
    }
}

/// Says something that is of interest to a user who asks for more.
pub fn detail(line: &str) {
    if verbosity() >= Verbosity::Verbose {
        say(line);
    }
}

/// The verbosity of messages on stderr.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verbosity {
    /// Warnings and errors.
    Quiet,
    Normal,
    /// The reason for the choice of a device, too.
    Verbose,
}

static VERBOSITY: AtomicU8 = AtomicU8::new(Verbosity::Normal as u8);

pub fn set_verbosity(verbosity: Verbosity) {
    VERBOSITY.store(verbosity as u8, Ordering::Relaxed);
}

pub fn verbosity() -> Verbosity {
    let all = [Verbosity::Quiet, Verbosity::Normal, Verbosity::Verbose];
    all[usize::from(VERBOSITY.load(Ordering::Relaxed))]
}

pub fn is_quiet() -> bool {
    verbosity() == Verbosity::Quiet
}

/// A text that is safe for a terminal: names from files must not steer it.
pub fn shown(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    // As JSON has it, which this may be.
    let escape = |c: char| if steers(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    if text.contains(steers) { text.chars().map(escape).collect() } else { Cow::Borrowed(text) }
}

/// A name in one line.
pub fn printable(name: &str) -> String {
    shown(name).replace(['\n', '\t'], " ")
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,/:=+@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a result to stdout, whose reader may have seen enough (`pixelcnn inspect | head`).
pub fn print(text: &str) -> Result<()> {
    print_bytes(shown(text).as_bytes())
}

/// Writes to stdout. A reader that has gone is no error.
pub fn print_bytes(bytes: &[u8]) -> Result<()> {
    stdout::check()?;
    // It has Windows' console heed escape sequences.
    let mut stdout = AutoStream::always_ansi(io::stdout().lock());
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("writing to stdout"),
        _ => Ok(()),
    }
}

/// An error with its causes in one line, and what to do about each. A cause that the message before it quotes is not
/// repeated.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |line, cause| {
        let (text, hint) = (cause.to_string(), hint(cause).unwrap_or_default());
        match line.as_str() {
            "" => text + hint,
            line if line.ends_with(&text) => format!("{line}{hint}"),
            line => format!("{line}: {text}{hint}"),
        }
    })
}

/// Rows of cells, the first of them the header, as columns; numbers to the right.
pub fn table<Row: AsRef<[String]>>(rows: &[Row]) -> String {
    let is_number =
        |row: &Row, i: usize| row.as_ref()[i].starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let column = |i: usize| {
        let width = rows.iter().map(|row| row.as_ref()[i].width()).max().unwrap_or(0);
        (width, rows.iter().skip(1).all(|row| is_number(row, i)))
    };
    let columns: Vec<_> = (0..rows.first().map_or(0, |row| row.as_ref().len())).map(column).collect();
    let line = |row: &Row| {
        let cells = row.as_ref().iter().zip(&columns).map(|(cell, &(width, right))| {
            let blank = " ".repeat(width - cell.width());
            if right { blank + cell } else { cell.clone() + &blank }
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineError;

    #[test]
    fn names_do_not_steer_the_terminal() {
        assert_eq!(shown("plain, élan\n\t"), "plain, élan\n\t");
        assert_eq!(shown("a\u{1b}[31mb\r\u{9b}\0"), r"a\u001b[31mb\u000d\u009b\u0000");
        assert_eq!(printable("two\nlines"), "two lines");
    }

    #[test]
    fn tables_are_aligned_where_characters_are_wide() {
        let rows = [["class", "n"], ["猫", "10"], ["cat", "2"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "class   n\n猫     10\ncat     2\n");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("samples.png"), "samples.png");
        assert_eq!(quoted("NVIDIA H100"), "'NVIDIA H100'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn causes_stand_in_one_line_once() {
        let error = anyhow::anyhow!("no such file").context("cannot read: no such file").context("model x");
        assert_eq!(one_line(&error), "model x: cannot read: no such file");
        let error = anyhow::Error::from(EngineError::Threads("no room".to_owned())).context("image y");
        assert_eq!(
            one_line(&error),
            "image y: cannot start a thread: no room (--threads 1 needs the fewest)"
        );
    }
}
