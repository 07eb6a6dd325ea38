//! From pixels to files: PNG with its settings inside, grids of images, NumPy arrays.

use std::fs;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

pub mod grid;
pub mod npy;
pub mod png;

/// A picture of 8-bit levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// 1 for grey, 3 for RGB.
    pub channels: usize,
    /// `[height, width, channels]`, row-major.
    pub levels: Vec<u8>,
}

/// Why a file was not written. Whatever stood at its path before still does.
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
    /// Something that is no ordinary file, or a protected one, is in the way.
    #[error("cannot write {}: {found} is there already (remove it, or choose another name)", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The system refused.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Checks that a [`NewFile`] will be able to take the name `path`, before the work that fills it.
///
/// # Errors
/// Any [`OutputError`].
pub fn check(path: &Path, extension: &'static str) -> Result<(), OutputError> {
    let has_extension = path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    if !has_extension {
        return Err(OutputError::Extension { path: path.to_owned(), expected: extension });
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(OutputError::NoFolder { path: path.to_owned(), folder: folder.to_owned() });
    }
    let io = |source| OutputError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(there) => {
            let found = match there.is_file() {
                true if there.permissions().readonly() => Some("a read-only file"),
                true => None,
                false if there.is_dir() => Some("a folder"),
                false => Some("a special file"),
            };
            if let Some(found) = found {
                return Err(OutputError::InTheWay { path: path.to_owned(), found });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // A name that is too long, for one.
        Err(error) => return Err(io(error)),
    }
    // The surest way to learn whether a file can be made here is to make one; it goes as soon as it is
    // dropped, so that a run that is killed leaves nothing behind.
    temporary(folder).map(drop).map_err(io)
}

/// A file in the making: a temporary one beside it, which takes its name once it is whole. Until then
/// whatever stood at its path still does; if it is dropped, nothing is left of it.
pub struct NewFile {
    path: PathBuf,
    writer: BufWriter<tempfile::NamedTempFile>,
}

impl NewFile {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        let path = path.to_owned();
        match temporary(folder_of(&path)) {
            Ok(file) => Ok(Self { path, writer: BufWriter::new(file) }),
            Err(source) => Err(OutputError::Io { path, source }),
        }
    }

    /// Writes to it.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn fill(
        &mut self,
        write: impl FnOnce(&mut BufWriter<tempfile::NamedTempFile>) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        write(&mut self.writer).map_err(|source| OutputError::Io { path: self.path.clone(), source })
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn finish(self) -> Result<(), OutputError> {
        let Self { path, writer } = self;
        let persist = || writer.into_inner()?.persist(&path).map_err(io::Error::from);
        persist().map(drop).map_err(|source| OutputError::Io { path, source })
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".pixelcnn-");
    // Temporary files are private by default; this one becomes an ordinary file, so the umask decides.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let mut file = NewFile::create(&path).unwrap();
        file.fill(|writer| writer.write_all(b"new")).unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_known_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        check(&at("new.PNG"), "png").unwrap();
        assert!(matches!(check(&at("new.jpg"), "png"), Err(OutputError::Extension { .. })));
        assert!(matches!(check(&at("png"), "png"), Err(OutputError::Extension { .. })));
        assert!(matches!(check(&at("no/new.png"), "png"), Err(OutputError::NoFolder { .. })));
        fs::create_dir(at("folder.png")).unwrap();
        assert!(matches!(check(&at("folder.png"), "png"), Err(OutputError::InTheWay { .. })));
        fs::write(at("old.png"), "").unwrap();
        check(&at("old.png"), "png").unwrap();
        let mut permissions = fs::metadata(at("old.png")).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(at("old.png"), permissions).unwrap();
        assert!(matches!(check(&at("old.png"), "png"), Err(OutputError::InTheWay { .. })));
    }
}
