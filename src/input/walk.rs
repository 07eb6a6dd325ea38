//! Walks folders: finds images, ignores other entries, names unreadable ones.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::{Found, InputError, Item};

/// Endings of image names, in any case.
pub const SUFFIXES: [&str; 12] =
    ["bmp", "gif", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"];

/// Adds the images in a folder. Links are followed; hidden files and folders are left out.
pub fn walk(root: &Path, recursive: bool, found: &mut Found) -> Result<(), InputError> {
    let before = found.items.len();
    let depth = if recursive { usize::MAX } else { 1 };
    let mut entries =
        WalkDir::new(root).follow_links(true).sort_by_file_name().max_depth(depth).into_iter();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.depth() == 0 => return Err(why(root, error)),
            // It is not read anyway.
            Err(error) if !recursive && error.loop_ancestor().is_some() => {
                found.left_out.folders += 1;
                continue;
            }
            Err(error) => {
                let path = error.path().unwrap_or(root).to_owned();
                match is_hidden(&path) {
                    true => found.left_out.hidden += 1,
                    false => found.pass_over(&path, why(&path, error)),
                }
                continue;
            }
        };
        let kind = entry.file_type();
        if entry.depth() > 0 && is_hidden(entry.path()) {
            found.left_out.hidden += 1;
            if kind.is_dir() {
                entries.skip_current_dir();
            }
        } else if kind.is_dir() {
            found.left_out.folders += usize::from(!recursive && entry.depth() > 0);
        } else if !has_suffix(entry.path()) {
            found.left_out.others += 1;
        } else if kind.is_file() {
            found.items.push(item(root, entry));
        } else {
            found.pass_over(entry.path(), InputError::Special);
        }
    }
    if found.items.len() == before { Err(InputError::Empty) } else { Ok(()) }
}

/// The files in a folder that are named like images, and in the folders in it down to a depth; 1 is the folder alone.
pub fn images_in(folder: &Path, depth: usize) -> impl Iterator<Item = PathBuf> {
    let entries = WalkDir::new(folder).max_depth(depth).sort_by_file_name().into_iter();
    let entries = entries.filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.path())).flatten();
    entries.filter(|entry| !entry.file_type().is_dir() && has_suffix(entry.path())).map(DirEntry::into_path)
}

fn item(root: &Path, entry: DirEntry) -> Item {
    let within = entry.path().strip_prefix(root).unwrap_or(entry.path());
    let folders = within.parent().into_iter().flatten().map(Into::into).collect();
    Item { folders, ..Item::new(entry.into_path()) }
}

pub fn has_suffix(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    SUFFIXES.iter().any(|suffix| extension == *suffix)
}

/// Files that systems put beside people's, in any case: macOS in zip files, servers of Synology and QNAP,
/// Windows, file systems of Linux. Training has the same list.
const OF_SYSTEMS: [&str; 11] = [
    "__macosx",
    "@eadir",
    "#recycle",
    "#snapshot",
    "@recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
];

/// True for files and folders that are not the user's data. Leading dots hide files everywhere but on
/// Windows.
pub fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b".")
        || OF_SYSTEMS.iter().any(|other| name.eq_ignore_ascii_case(other))
}

fn why(path: &Path, error: walkdir::Error) -> InputError {
    if let Some(ancestor) = error.loop_ancestor() {
        return InputError::Loop(ancestor.to_owned());
    }
    why_unreadable(path, error.into_io_error().expect("what is no loop is an error of the system"))
}

/// The system's reason for an unreadable path; a link to nowhere is named as such.
pub fn why_unreadable(path: &Path, error: io::Error) -> InputError {
    match fs::read_link(path) {
        Ok(target) if error.kind() == io::ErrorKind::NotFound => InputError::DanglingLink(target),
        _ => InputError::Io(error),
    }
}
