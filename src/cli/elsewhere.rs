//! `pixelcnn convert` and `pixelcnn train`: errors that say where Python does these.

use std::ffi::OsString;

use anyhow::{Result, bail};

use super::text::quoted;

// The arguments of Python's parsers. No doc comment: it would stand in the help of both commands.
#[derive(clap::Args)]
pub struct ElsewhereArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<OsString>,
}

/// Says how checkpoints are converted. The Python package's own command line never gets here.
pub fn convert(args: &ElsewhereArgs) -> Result<()> {
    let words = args.as_typed("INPUT -o OUT.safetensors");
    bail!(
        "checkpoints are converted by Python: `uv run scripts/convert.py {words}` in the source tree, or \
        `pip install 'pixelcnn[convert]'` and `python -m pixelcnn convert {words}`"
    )
}

/// Says how networks are trained.
pub fn train(args: &ElsewhereArgs) -> Result<()> {
    let words = args.as_typed("DATA -o MODEL.safetensors");
    bail!(
        "networks are trained by Python: `uv run scripts/train.py {words}` in the source tree, or \
        `pip install 'pixelcnn[train]'` and `python -m pixelcnn train {words}`"
    )
}

impl ElsewhereArgs {
    /// The words, as a shell reads them; `usage` if there are none.
    fn as_typed(&self, usage: &str) -> String {
        match self.words.is_empty() {
            true => usage.to_owned(),
            false => {
                self.words.iter().map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
            }
        }
    }
}
