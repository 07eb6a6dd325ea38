//! Notes about files that were written: modes and owners that could not be kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static NOTES: Mutex<Vec<(PathBuf, String)>> = Mutex::new(Vec::new());

/// The file at `path` has not got the mode, or the owner, of the one that it replaces.
pub(super) fn add(path: &Path, error: &io::Error) {
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    notes.push((path.to_owned(), error.to_string()));
}

/// A sentence on the files whose mode or owner could not be kept since the last call, if there are any.
pub fn take_note() -> Option<String> {
    let notes = std::mem::take(&mut *NOTES.lock().unwrap_or_else(PoisonError::into_inner));
    let (path, reason) = notes.first()?;
    let more = match notes.len() - 1 {
        0 => String::new(),
        more => format!(" (and of {more} more)"),
    };
    Some(format!("the mode or owner of {}{more} could not be kept: {reason}", path.display()))
}
