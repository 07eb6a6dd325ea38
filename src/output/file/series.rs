//! A folder of images that several processes may fill at once.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::place::{Place, nearest};
use super::temporary::Temporary;
use super::{NewFile, OutputError, folder_of};

/// A folder may vanish more than once while something is done in it; one that always does is an error.
const ATTEMPTS: usize = 10;

/// A folder for images. It is made when it gets its first image, so that a run that ends before leaves none. It is made
/// anew if it vanishes. It is never removed, because others may use it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The number of images written and the last of them, by the folder that they are in.
    written: HashMap<PathBuf, (usize, PathBuf)>,
    vanished: usize,
}

impl Folder {
    /// Checks that files can be made there, and that the system takes such a name.
    ///
    /// # Errors
    /// [`OutputError::Io`] and [`OutputError::InTheWay`].
    pub fn new(path: &Path, name: &Path) -> Result<Self, OutputError> {
        let io = |source| OutputError::Io { path: path.join(name), source };
        let mut attempt = 1;
        let there = loop {
            if path.is_symlink() && !path.exists() {
                return Err(OutputError::InTheWay { path: path.to_owned(), found: "a link to nowhere" });
            }
            let there = nearest(path);
            match Temporary::new(&there, 0o600).and_then(|file| file.prove_rename()) {
                Ok(()) => break there,
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => attempt += 1,
                Err(_) if there.exists() && !there.is_dir() => {
                    return Err(OutputError::InTheWay { path: there, found: "a file" });
                }
                Err(error) => return Err(io(error)),
            }
        };
        for name in [name, path].into_iter().filter_map(Path::file_name) {
            match fs::symlink_metadata(there.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
                _ => {}
            }
        }
        Ok(Self { path: path.to_owned(), written: HashMap::new(), vanished: 0 })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it now if one of these files, which are begun before there is an image, is to be in it.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn make_for<'a>(&self, files: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), OutputError> {
        let path = &self.path;
        let io = |source| OutputError::Io { path: path.clone(), source };
        let place = Place::of(path).map_err(io)?;
        let is_needed = files.into_iter().any(|file| place.name_below(file).is_some());
        if is_needed { fs::create_dir_all(path).map_err(io) } else { Ok(()) }
    }

    /// Writes a file there; if it `is_synced`, it is on the disk then. A link is not followed, for where it leads
    /// another file would be replaced.
    ///
    /// # Errors
    /// [`OutputError::Io`] and [`OutputError::InTheWay`].
    pub fn put(
        &mut self,
        name: &Path,
        is_synced: bool,
        fill: impl Fn(&mut NewFile) -> io::Result<()>,
    ) -> Result<PathBuf, OutputError> {
        let path = self.path.join(name);
        let folder = folder_of(&path);
        if path.is_symlink() {
            return Err(OutputError::InTheWay { path, found: "a link" });
        }
        let write = || {
            let mut file = NewFile::of_series(&path, is_synced)?;
            file.fill(&fill)?;
            file.finish()
        };
        for attempt in 1.. {
            self.look_for_last(folder);
            match write() {
                Ok(()) => break,
                Err(OutputError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS =>
                {
                    match fs::create_dir_all(folder) {
                        // One above it has just gone.
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(OutputError::Io { path, source: error });
                        }
                        _ => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let (count, last) = self.written.entry(folder.to_owned()).or_default();
        *count += 1;
        last.clone_from(&path);
        Ok(path)
    }

    /// Finds out whether a folder has vanished. Another process may have made it anew, so that its last image tells.
    fn look_for_last(&mut self, folder: &Path) {
        if let Some((count, last)) = self.written.get_mut(folder)
            && !last.exists()
        {
            self.vanished += std::mem::take(count);
        }
    }

    /// The number of images written there that vanished with it, or with a folder in it, since the last call.
    pub fn take_vanished(&mut self) -> usize {
        let gone = self.written.extract_if(|_, (_, last)| !last.exists());
        let gone: usize = gone.map(|(_, (count, _))| count).sum();
        std::mem::take(&mut self.vanished) + gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &mut Folder, name: &str) -> Result<PathBuf, OutputError> {
        folder.put(Path::new(name), false, |file| io::Write::write_all(file, b"image"))
    }

    #[test]
    fn a_folder_that_vanishes_is_made_anew() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("a/b");
        let mut folder = Folder::new(&path, Path::new("0.png")).unwrap();
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 0, "it is made with its first image");
        put(&mut folder, "0.png").unwrap();
        put(&mut folder, "c/1.png").unwrap();
        put(&mut folder, "c/2.png").unwrap();
        assert_eq!(folder.take_vanished(), 0);
        fs::remove_dir_all(path.join("c")).unwrap();
        assert_eq!((folder.take_vanished(), folder.take_vanished()), (2, 0));
        put(&mut folder, "c/3.png").unwrap();
        fs::remove_dir_all(path.join("c")).unwrap();
        put(&mut folder, "c/3.png").unwrap();
        assert_eq!(folder.take_vanished(), 1);
        fs::remove_dir_all(above.path().join("a")).unwrap();
        // By another process.
        fs::create_dir_all(&path).unwrap();
        put(&mut folder, "4.png").unwrap();
        assert_eq!(folder.take_vanished(), 2);
        drop(folder);
        assert!(path.join("4.png").is_file());
        fs::remove_file(path.join("4.png")).unwrap();
        drop(Folder::new(&path, Path::new("0.png")).unwrap());
        assert!(path.is_dir(), "others may use it");
    }

    #[test]
    fn what_cannot_be_a_folder_is_known_beforehand() {
        let above = tempfile::tempdir().unwrap();
        fs::write(above.path().join("file"), "").unwrap();
        let new = |path: &str, name: &str| Folder::new(&above.path().join(path), Path::new(name));
        assert!(matches!(new("file", "0.png"), Err(OutputError::InTheWay { .. })));
        assert!(matches!(new("file/deep", "0.png"), Err(OutputError::InTheWay { .. })));
        assert!(matches!(new("d", &"x".repeat(300)), Err(OutputError::Io { .. })));
        assert!(matches!(new(&"x".repeat(300), "0.png"), Err(OutputError::Io { .. })));
    }

    #[test]
    #[cfg(unix)]
    fn links_are_not_followed() {
        let above = tempfile::tempdir().unwrap();
        fs::write(above.path().join("other"), "old").unwrap();
        std::os::unix::fs::symlink("other", above.path().join("0.png")).unwrap();
        let mut folder = Folder::new(above.path(), Path::new("0.png")).unwrap();
        assert!(matches!(put(&mut folder, "0.png"), Err(OutputError::InTheWay { .. })));
        assert_eq!(fs::read(above.path().join("other")).unwrap(), b"old");
    }
}
