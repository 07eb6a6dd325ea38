//! `pixelcnn completions` and `pixelcnn man`: what a shell and a reader of manuals need.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// Print what makes a shell complete this program's command lines
///
/// For bash: pixelcnn completions bash > ~/.local/share/bash-completion/completions/pixelcnn
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual pages
#[derive(clap::Args)]
pub struct ManArgs {
    /// Folder for them: pixelcnn.1, and a page for each subcommand
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pixelcnn", &mut text);
    super::print(&String::from_utf8(text)?)
}

pub fn man(args: &ManArgs) -> Result<()> {
    let cannot = || format!("cannot write manual pages into {}", args.folder.display());
    fs::create_dir_all(&args.folder).with_context(cannot)?;
    clap_mangen::generate_to(Cli::command(), &args.folder).with_context(cannot)?;
    Ok(())
}
