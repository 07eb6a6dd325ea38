//! Files that are there whole or not at all, whatever ends the program.
//!
//! A file is made under a temporary name beside its own, and renamed when it is complete. [`tidy_on_signals`] knows the
//! files that are not finished, and removes them.
//!
//! A file system only has to make whole files appear under their names: no locks, no hard links, and no modes are
//! needed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub use notes::take_note;
pub use owner::remove_abandoned;
pub use place::{Place, folded, ignores_case};
pub use series::Folder;
use temporary::Temporary;
pub use unfinished::tidy_on_signals;
use unfinished::unfinished;

mod notes;
mod owner;
mod place;
mod series;
mod temporary;
mod unfinished;

/// The reason for which a file was not written. A file that stood at its path before still does.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Another extension than the one kind of file that is written here.
    #[error("cannot write {}: expected a file name that ends in .{expected}", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
        /// The extension that would do.
        expected: &'static str,
    },
    /// The folder does not exist.
    #[error("cannot write {}: there is no folder {} (create it first)", path.display(), folder.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// The folder it should be in.
        folder: PathBuf,
    },
    /// The folder is another kind of thing.
    #[error("cannot write {}: {} is no folder (choose another name)", path.display(), folder.display())]
    NotAFolder {
        /// The file.
        path: PathBuf,
        /// The folder it should be in.
        folder: PathBuf,
    },
    /// Something that is no ordinary file, or a protected one, is in the way.
    #[error("cannot write {}: {found} is there already (remove it, or choose another name)", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
        /// The kind of thing found there.
        found: &'static str,
    },
    /// The system refused.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The system refused, after the work; what was made is at another place.
    #[error("cannot write {}: {reason}; it is kept as {}", path.display(), kept.display())]
    Elsewhere {
        /// The file.
        path: PathBuf,
        /// The system's error, as text.
        reason: String,
        /// The place where it was saved instead.
        kept: PathBuf,
    },
}

/// Checks that a [`NewFile`] will be able to take the name `path`, before the work that fills it, by writing
/// there.
///
/// # Errors
/// Any [`OutputError`].
pub fn check(path: &Path, extension: &'static str) -> Result<(), OutputError> {
    let has_extension = path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    if !has_extension {
        return Err(OutputError::Extension { path: path.to_owned(), expected: extension });
    }
    prove_writable(path)
}

/// The same, of a file of any name.
///
/// # Errors
/// Any [`OutputError`].
pub fn prove_writable(path: &Path) -> Result<(), OutputError> {
    let io = |source| OutputError::Io { path: path.to_owned(), source };
    let target = target_of(path).map_err(io)?;
    let folder = folder_of(&target);
    match fs::metadata(&target) {
        Ok(there) => {
            let found = match there.is_file() {
                true if there.permissions().readonly() => Some("a read-only file"),
                true => None,
                false if there.is_dir() => Some("a folder"),
                false => Some("a special file"),
            };
            match found {
                Some(found) => Err(OutputError::InTheWay { path: path.to_owned(), found }),
                None => File::options().append(true).open(&target).map(drop).map_err(io),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !folder.is_dir() {
                return Err(without_folder(path, folder));
            }
            // The surest way to learn whether a file can be made here is to make one, under its own name: a
            // file system may refuse that for its length, or for a character. No signal comes in between.
            let _guard = unfinished();
            let made = match File::create_new(&target) {
                // Another process has given a file of its own that name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                made => made.map_err(io)?,
            };
            // Or it has done so since.
            let is_own = made.metadata().is_ok_and(|made| is_same_file(&made, &target));
            drop(made);
            if is_own { fs::remove_file(&target).map_err(io) } else { Ok(()) }
        }
        Err(_) if !folder.is_dir() => Err(without_folder(path, folder)),
        Err(error) => Err(io(error)),
    }
}

/// The error of a file whose folder is none.
fn without_folder(path: &Path, folder: &Path) -> OutputError {
    let is_there = folder.exists();
    let (path, folder) = (path.to_owned(), folder.to_owned());
    if is_there { OutputError::NotAFolder { path, folder } } else { OutputError::NoFolder { path, folder } }
}

/// A file in the making, to be written and then finished. Until then whatever stood at its path still does;
/// if it is dropped, or a signal ends the program, nothing is left of it.
///
/// Once it is begun, its contents are not lost: if the disk is full, or the system refuses the file its name, it goes
/// to the folder for temporary files, and the error of [`NewFile::finish`] says where.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    /// The file that `path` leads to, if it is a symbolic link.
    target: PathBuf,
    is_synced: bool,
    writer: BufWriter<Temporary>,
}

impl NewFile {
    /// Begins a file that will be at `path`, and on the disk before it has its name.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        Self::begin(path, true, true)
    }

    /// Begins one of many files; one that cannot be written there is not kept elsewhere.
    fn of_series(path: &Path, is_synced: bool) -> Result<Self, OutputError> {
        Self::begin(path, is_synced, false)
    }

    fn begin(path: &Path, is_synced: bool, is_kept: bool) -> Result<Self, OutputError> {
        let begin = || {
            let target = target_of(path)?;
            let mode = mode_of(&target);
            // A file that may be changed can be in a folder that may not.
            let beside = Temporary::new(folder_of(&target), mode);
            let mut temporary = match beside {
                Err(_) if is_kept && target.is_file() => Temporary::new(&std::env::temp_dir(), mode)?,
                beside => beside?,
            };
            if is_kept {
                temporary.keep_as(target.file_name().unwrap_or("result".as_ref()).to_owned());
            }
            Ok(Self { path: path.to_owned(), target, is_synced, writer: BufWriter::new(temporary) })
        };
        begin().map_err(|source| OutputError::Io { path: path.to_owned(), source })
    }

    /// Writes to it, with errors that say which file they are about.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn fill(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) -> Result<(), OutputError> {
        write(self).map_err(|source| OutputError::Io { path: self.path.clone(), source })
    }

    /// Reserves `bytes` bytes in all, so that a full disk is noticed before they are made.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`].
    pub fn reserve(&mut self, bytes: u64) -> Result<(), OutputError> {
        let reserved = self.writer.get_ref().reserve(bytes);
        reserved.map_err(|source| OutputError::Io { path: self.path.clone(), source })
    }

    /// Gives it its name, and the mode and owner of the file that it replaces, as far as that is allowed; else see
    /// [`take_note`].
    ///
    /// # Errors
    /// [`OutputError::Io`] and [`OutputError::Elsewhere`].
    pub fn finish(self) -> Result<(), OutputError> {
        let Self { path, target, is_synced, writer } = self;
        let finish = || writer.into_inner()?.take_name(&target, is_synced);
        match finish() {
            Ok(None) => Ok(()),
            Ok(Some((reason, kept))) => {
                Err(OutputError::Elsewhere { path, reason: reason.to_string(), kept })
            }
            Err(source) => Err(OutputError::Io { path, source }),
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.writer.seek(to)
    }
}

/// Writes a file at once. If it cannot be written at its place after all, it goes to the folder for temporary
/// files, and the error says where.
///
/// # Errors
/// [`OutputError::Io`] and [`OutputError::Elsewhere`].
pub fn write(path: &Path, fill: impl FnOnce(&mut NewFile) -> io::Result<()>) -> Result<(), OutputError> {
    let mut file = match NewFile::create(path) {
        // Its folder has gone since it was proved writable.
        Err(OutputError::Io { path, source }) => {
            let name = path.file_name().unwrap_or("result".as_ref()).to_owned();
            match Temporary::elsewhere(name, source) {
                Ok(temporary) => {
                    let writer = BufWriter::new(temporary);
                    NewFile { target: path.clone(), path, is_synced: true, writer }
                }
                Err(source) => return Err(OutputError::Io { path, source }),
            }
        }
        created => created?,
    };
    file.fill(fill)?;
    file.finish()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The mode of a new file: that of the one it will replace, so that what is private is so from the beginning.
fn mode_of(target: &Path) -> u32 {
    #[cfg(unix)]
    if let Ok(there) = fs::metadata(target) {
        return std::os::unix::fs::MetadataExt::mode(&there) & 0o666;
    }
    let _ = target;
    0o666
}

fn is_same_file(file: &fs::Metadata, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (file.dev(), file.ino()))
    }
    #[cfg(not(unix))]
    fs::symlink_metadata(path).is_ok_and(|there| there.len() == file.len())
}

/// The target of a symbolic link: the file there is replaced, and the link stays.
fn target_of(path: &Path) -> io::Result<PathBuf> {
    // As many as Linux follows.
    const MOST_LINKS: usize = 40;
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(link) => target = folder_of(&target).join(link),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("too many symbolic links, one leading to the next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_finished_leaves_the_old_one_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.png");
        fs::write(&path, "old").unwrap();
        let mut file = NewFile::create(&path).unwrap();
        let error = file.fill(|writer| {
            writer.write_all(b"half of the new")?;
            Err(io::Error::other("disk full"))
        });
        assert!(matches!(error, Err(OutputError::Io { .. })));
        assert!(unfinished().iter().any(|path| path.starts_with(folder.path())));
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let mut file = NewFile::create(&path).unwrap();
        file.reserve(1000).unwrap();
        file.write_all(b"mew").unwrap();
        file.rewind().unwrap();
        file.write_all(b"n").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(!unfinished().iter().any(|path| path.starts_with(folder.path())));
    }

    #[test]
    fn what_cannot_be_written_is_known_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        check(&at("new.PNG"), "png").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(matches!(check(&at("new.jpg"), "png"), Err(OutputError::Extension { .. })));
        assert!(matches!(check(&at("png"), "png"), Err(OutputError::Extension { .. })));
        assert!(matches!(check(&at("no/new.png"), "png"), Err(OutputError::NoFolder { .. })));
        let long = at(&"a".repeat(300));
        assert!(matches!(prove_writable(&long), Err(OutputError::Io { .. })));
        fs::create_dir(at("folder.png")).unwrap();
        assert!(matches!(check(&at("folder.png"), "png"), Err(OutputError::InTheWay { .. })));
        fs::write(at("old.png"), "old").unwrap();
        check(&at("old.png"), "png").unwrap();
        assert_eq!(fs::read(at("old.png")).unwrap(), b"old");
        let mut permissions = fs::metadata(at("old.png")).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(at("old.png"), permissions).unwrap();
        assert!(matches!(check(&at("old.png"), "png"), Err(OutputError::InTheWay { .. })));
    }

    #[test]
    #[cfg(unix)]
    fn links_stay_and_files_keep_their_mode() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("real"), "old").unwrap();
        fs::set_permissions(at("real"), PermissionsExt::from_mode(0o600)).unwrap();
        symlink("real", at("link")).unwrap();
        symlink("link", at("link of link")).unwrap();
        write(&at("link of link"), |file| file.write_all(b"new")).unwrap();
        assert!(at("link").is_symlink() && at("link of link").is_symlink());
        assert_eq!(fs::read(at("real")).unwrap(), b"new");
        assert_eq!(fs::metadata(at("real")).unwrap().permissions().mode() & 0o777, 0o600);

        symlink("to be made", at("ahead")).unwrap();
        prove_writable(&at("ahead")).unwrap();
        write(&at("ahead"), |file| file.write_all(b"new")).unwrap();
        assert!(at("ahead").is_symlink() && at("to be made").is_file());
        symlink("no/such", at("dangling")).unwrap();
        assert!(matches!(prove_writable(&at("dangling")), Err(OutputError::NoFolder { .. })));
        symlink("round", at("round")).unwrap();
        assert!(matches!(prove_writable(&at("round")), Err(OutputError::Io { .. })));
    }

    #[test]
    fn what_is_begun_is_kept_though_its_folder_goes() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let mut file = NewFile::create(&folder.join("array.npy")).unwrap();
        file.write_all(&[1; 20_000]).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        file.write_all(&[2; 20_000]).unwrap();
        file.rewind().unwrap();
        file.write_all(&[3]).unwrap();
        let error = file.finish().unwrap_err();
        let OutputError::Elsewhere { kept, .. } = &error else { panic!("{error}") };
        assert_eq!(kept.file_name().unwrap(), "array.npy");
        assert_eq!(fs::read(kept).unwrap(), [&[3][..], &[1; 19_999], &[2; 20_000]].concat());
        fs::remove_dir_all(kept.parent().unwrap()).unwrap();
        assert!(!unfinished().iter().any(|path| path.starts_with(kept.parent().unwrap())));
    }

    #[test]
    fn what_finds_no_place_at_the_end_is_kept_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join("result.csv");
        let error = write(&path, |file| file.write_all(b"hours of work")).unwrap_err();
        let OutputError::Elsewhere { kept, .. } = &error else { panic!("{error}") };
        assert_eq!(fs::read(kept).unwrap(), b"hours of work");
        assert!(error.to_string().contains(&kept.display().to_string()), "{error}");
        fs::remove_dir_all(kept.parent().unwrap()).unwrap();
    }
}
