//! Pictures on the terminal, beside the file.

use std::env;
use std::io::{self, IsTerminal};

use anyhow::Result;
use terminal_size::{Height, Width, terminal_size};

use crate::output::Image;
use crate::output::terminal::{self, Protocol};

use super::{note, text};

/// A terminal that shows pictures.
#[derive(Clone, Copy)]
pub struct Preview {
    protocol: Protocol,
    /// Columns and rows of the terminal.
    window: (usize, usize),
}

impl Preview {
    /// The terminal, if `--show` asks for it; else if it shows all pixels and `by_default` says so. Never a pipe or a file.
    pub fn wanted(asked: bool, by_default: bool) -> Option<Self> {
        let protocol = Protocol::of(|name| env::var(name).ok()).filter(|_| io::stdout().is_terminal());
        let Some(protocol) = protocol else {
            if asked {
                note("note: --show: stdout is no terminal that shows pictures; nothing is shown");
            }
            return None;
        };
        let window = terminal_size().map_or((80, 24), |(Width(w), Height(h))| (w.into(), h.into()));
        let is_wanted = asked || by_default && protocol.is_exact() && !text::is_quiet();
        is_wanted.then_some(Self { protocol, window })
    }

    /// Shows a picture.
    pub fn show(self, image: &Image) -> Result<()> {
        let mut bytes = Vec::new();
        terminal::write(&mut bytes, image, self.protocol, self.window)?;
        text::print_bytes(&bytes)
    }
}
