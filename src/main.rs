//! `pixelcnn`, the command line: parse, validate, run, exit code.

use std::process::ExitCode;

use clap::Parser;

mod cli;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    quiet_mesa();
    if let Err(error) = pixelcnn::output::file::tidy_on_signals() {
        cli::say(&format!("warning: signals will leave temporary files: {error}"));
    }
    let result = cli::run(&cli);
    if let Some(note) = pixelcnn::output::file::take_note() {
        cli::say(&format!("note: {note}"));
    }
    match result {
        Ok(code) => code,
        Err(error) => {
            cli::say(&format!("error: {}", cli::one_line(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Keeps Mesa's device selection layer from looking for a Wayland compositor where there is none: it
/// finds nothing to select by, and writes lines to stderr that begin with "error:" like our own.
fn quiet_mesa() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: there are no other threads yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
