//! Places of files, existing or not, and the comparison of two: different names may mean one file.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::temporary::Temporary;
use super::{folder_of, target_of};

/// A place of a file, the same for every spelling of its name: links are followed, and case counts where the file
/// system says so.
#[derive(Debug)]
pub struct Place {
    /// Of the file, or of the nearest folder above it that exists.
    identity: Identity,
    folder: PathBuf,
    /// Names below that folder.
    missing: Vec<OsString>,
}

/// Device and number of a file.
#[cfg(unix)]
type Identity = (u64, u64);

/// The path of a file without links.
#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<Identity> {
    fs::canonicalize(path)
}

impl Place {
    /// The place that a name stands for, whether there is a file or not.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut folder = target_of(path)?;
        let mut missing = Vec::new();
        loop {
            if folder.as_os_str().is_empty() {
                folder.push(".");
            }
            match identity(&folder) {
                Ok(identity) => {
                    missing.reverse();
                    return Ok(Self { identity, folder, missing });
                }
                Err(error) => match folder.file_name() {
                    Some(name) if is_missing(&error) => missing.push(name.to_owned()),
                    _ => return Err(error),
                },
            }
            folder.pop();
        }
    }

    /// True if a file there and one at the other place would be the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.identity == other.identity && self.are_same(&self.missing, &other.missing)
    }

    /// The name of a file from here, if it is, or will be, below here.
    pub fn name_below(&self, path: &Path) -> Option<PathBuf> {
        let path = target_of(path).ok()?;
        let Self { identity: nearest, folder, missing } = Self::of(folder_of(&path)).ok()?;
        let names = missing.iter().map(OsString::as_os_str).chain(path.file_name());
        if self.missing.is_empty() {
            let folder = fs::canonicalize(folder).ok()?;
            let here =
                folder.ancestors().find(|above| identity(above).is_ok_and(|id| id == self.identity))?;
            return Some(folder.strip_prefix(here).ok()?.iter().chain(names).collect());
        }
        let (above, _) = missing.split_at_checked(self.missing.len())?;
        let is_below = nearest == self.identity && self.are_same(&self.missing, above);
        is_below.then(|| names.skip(self.missing.len()).collect())
    }

    /// True if names below the folder are the same there.
    fn are_same(&self, names: &[OsString], others: &[OsString]) -> bool {
        let is_alike = |(a, b): (&OsString, &OsString)| folded(a) == folded(b);
        names == others
            || names.len() == others.len()
                && names.iter().zip(others).all(is_alike)
                && ignores_case(&self.folder)
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A name as file systems that ignore case compare it.
pub fn folded(name: impl AsRef<std::ffi::OsStr>) -> String {
    name.as_ref().to_string_lossy().to_lowercase()
}

/// True if the file system of a folder, or of the nearest one above it that exists, ignores the case of names. It is
/// tried there, because a system may have file systems of both kinds.
pub fn ignores_case(folder: &Path) -> bool {
    let folder = nearest(folder);
    match Temporary::new(&folder, 0o600) {
        Ok(file) => file
            .path()
            .file_name()
            .is_some_and(|name| folder.join(name.to_string_lossy().to_uppercase()).exists()),
        // As is usual on the system.
        Err(_) => cfg!(any(windows, target_os = "macos")),
    }
}

/// The folder, or the nearest one above it that exists.
pub(super) fn nearest(folder: &Path) -> PathBuf {
    let existing = folder.ancestors().filter(|f| !f.as_os_str().is_empty()).find(|f| f.exists());
    existing.unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn places_are_the_same_whatever_their_spelling() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/old"), "").unwrap();
        fs::hard_link(at("d/old"), at("hard")).unwrap();
        symlink("d", at("link")).unwrap();
        symlink("d/new", at("ahead")).unwrap();
        symlink("../link/old", at("d/x")).unwrap();
        let same = |a: &str, b: &str| Place::of(&at(a)).unwrap().is_same(&Place::of(&at(b)).unwrap());
        for (a, b, expected) in [
            ("d/old", "./d/../d/old", true),
            ("d/old", "hard", true),
            ("d/old", "link/old", true),
            ("d/old", "d/x", true),
            ("d/old", "d/new", false),
            ("d/new", "link/./new", true),
            ("d/new", "ahead", true),
            ("d/new", "d/newer", false),
            ("d/new", "d/NEW", ignores_case(folder.path())),
            ("d/new/er", "link/new/er", true),
            ("d/new/er", "d/er", false),
            ("d", "link", true),
        ] {
            assert_eq!(same(a, b), expected, "{a}, {b}");
            assert_eq!(same(b, a), expected, "{b}, {a}");
        }
        let below = |a: &str, b: &str| Place::of(&at(a)).unwrap().name_below(&at(b));
        assert_eq!(below("d", "link/new"), Some("new".into()));
        assert_eq!(below("d/q", "link/q/a/new"), Some("a/new".into()));
        assert_eq!(below("", "link/q/a/new"), Some("d/q/a/new".into()));
        assert_eq!(below("d/q", "d/q/../q/new"), None, "the system knows no such place");
        assert_eq!(below("d", "d/../link/new"), Some("new".into()));
        assert_eq!(below("d", "d"), None);
        assert_eq!(below("d/q", "d/new"), None);
        assert_eq!(ignores_case(&at("d/q")), ignores_case(folder.path()), "of the nearest that exists");
        assert_eq!(fs::read_dir(at("d")).unwrap().count(), 2, "nothing is left of finding out");
    }
}
