//! Files that are there whole or not at all, whatever ends the program.
//!
//! A file is made under a temporary name beside the one it will have, and renamed when it is complete. What
//! has been made so far and is not finished is known to [`tidy_on_signals`], which takes it away.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

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
    /// The system refused, after the work; what was made is at another place.
    #[error("cannot write {}: {reason}; it is kept as {}", path.display(), kept.display())]
    Elsewhere {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
        /// Where it is instead.
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
                return Err(OutputError::NoFolder { path: path.to_owned(), folder: folder.to_owned() });
            }
            // The surest way to learn whether a file can be made here is to make one, under its own name: a
            // file system may refuse that for its length, or for a character. No signal comes in between.
            let _guard = unfinished();
            File::create_new(&target).and_then(|_| fs::remove_file(&target)).map_err(io)
        }
        Err(_) if !folder.is_dir() => {
            Err(OutputError::NoFolder { path: path.to_owned(), folder: folder.to_owned() })
        }
        Err(error) => Err(io(error)),
    }
}

/// Checks that files can be made in a folder, and that the system takes such a name; touches no file of that name, so
/// that others may be making it.
///
/// # Errors
/// [`OutputError::Io`].
pub fn prove_folder_writable(folder: &Path, name: &Path) -> Result<(), OutputError> {
    let path = folder.join(name);
    match fs::symlink_metadata(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(OutputError::Io { path, source }),
        _ => Temporary::new(folder).map(drop).map_err(|source| OutputError::Io { path, source }),
    }
}

/// A file in the making, to be written and then finished. Until then whatever stood at its path still does;
/// if it is dropped, or a signal ends the program, nothing is left of it.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    /// Where `path` leads, if it is a symbolic link.
    target: PathBuf,
    writer: BufWriter<Temporary>,
}

impl NewFile {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        let begin = || {
            let target = target_of(path)?;
            // A file that may be changed can be in a folder that may not.
            let beside = Temporary::new(folder_of(&target));
            let temporary = match beside {
                Err(_) if target.is_file() => Temporary::new(&std::env::temp_dir()),
                beside => beside,
            };
            Ok(Self { path: path.to_owned(), target, writer: BufWriter::new(temporary?) })
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

    /// Makes room for so many bytes in all, so that a disk that is too small is known before they are made.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn reserve(&mut self, bytes: u64) -> Result<(), OutputError> {
        let reserved = self.writer.get_ref().reserve(bytes);
        reserved.map_err(|source| OutputError::Io { path: self.path.clone(), source })
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn finish(self) -> Result<(), OutputError> {
        let Self { path, target, writer } = self;
        let persist = || writer.into_inner()?.take_name(&target);
        persist().map_err(|source| OutputError::Io { path, source })
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
pub fn write(path: &Path, fill: impl Fn(&mut NewFile) -> io::Result<()>) -> Result<(), OutputError> {
    let write_at = |path: &Path| {
        let mut file = NewFile::create(path)?;
        file.fill(&fill)?;
        file.finish()
    };
    let Err(error) = write_at(path) else { return Ok(()) };
    let keep = || {
        let folder = tempfile::Builder::new().prefix("pixelcnn-").tempdir().ok()?;
        let name = path.file_name()?;
        write_at(&folder.path().join(name)).ok()?;
        Some(folder.keep().join(name))
    };
    match (error, keep()) {
        (OutputError::Io { path, source }, Some(kept)) => {
            Err(OutputError::Elsewhere { path, reason: source.to_string(), kept })
        }
        (error, _) => Err(error),
    }
}

/// A folder that may have been made for files to come. What of it is new and still empty goes again when this
/// is dropped, or a signal ends the program.
#[derive(Debug)]
pub struct NewFolder {
    path: PathBuf,
    /// Those that did not exist, the deepest first.
    made: Vec<PathBuf>,
}

impl NewFolder {
    /// Makes a folder, and those it is in, as far as they do not exist.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists());
        let made: Vec<_> = missing.map(Path::to_owned).collect();
        let mut unfinished = unfinished();
        unfinished.extend(made.iter().cloned());
        drop(unfinished);
        // Dropped if it fails: part of them may be there.
        let folder = Self { path: path.to_owned(), made };
        fs::create_dir_all(path)?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        let mut unfinished = unfinished();
        for folder in &self.made {
            unfinished.remove(folder);
            // Refused for a folder with files in it, which is meant.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Takes away what programs that were killed have left unfinished in a folder. Files that another one is still making
/// are locked, and stay; where the file system has no locks, all stay.
pub fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            // The lock goes with the file, at the end of the block.
            let file = File::options().write(true).open(entry.path());
            if file.is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Of the names of files in the making.
const PREFIX: &str = ".pixelcnn-";

/// From now on, SIGINT, SIGTERM and SIGHUP take away what is not finished before they end the program; as far
/// as whoever started it does not want them ignored. On other systems than Unix, Ctrl-C does.
///
/// # Errors
/// What the system says.
pub fn tidy_on_signals() -> io::Result<()> {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let wanted: Vec<_> =
            [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal)).collect();
        let (ready, is_ready) = std::sync::mpsc::channel::<()>();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            // Where they cannot be caught, they do what they do by themselves.
            let Ok(mut signals) = signal_hook::iterator::Signals::new(wanted) else { return };
            drop(ready);
            for signal in signals.forever() {
                // Held to the end: nothing new is begun, and nothing is half renamed.
                let unfinished = unfinished();
                remove(&unfinished);
                // A file that only proved that it can be written may have kept a folder from going.
                std::thread::sleep(std::time::Duration::from_millis(20));
                remove(&unfinished);
                // The shell is to see which signal it was.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        })?;
        // It ends when there is nobody to send: from then on they are caught.
        let _ = is_ready.recv();
    }
    #[cfg(windows)]
    ctrlc::set_handler(|| {
        let unfinished = unfinished();
        remove(&unfinished);
        std::process::exit(130);
    })
    .map_err(io::Error::other)?;
    Ok(())
}

#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: an action of zeros is a valid one; nothing is changed, for there is no new action.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Files and folders that are to go if the program ends now; the set sorts what is inside a folder after it.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove(unfinished: &BTreeSet<PathBuf>) {
    for path in unfinished.iter().rev() {
        if fs::remove_file(path).is_err() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// A temporary file that [`UNFINISHED`] knows.
#[derive(Debug)]
struct Temporary(Option<NamedTempFile>);

impl Temporary {
    fn new(folder: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        // Temporary files are private by default; this one becomes an ordinary file, so the umask decides.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut unfinished = unfinished();
        let file = loop {
            let file = builder.tempfile_in(folder)?;
            // For `remove_abandoned`, which may have been faster. Some file systems have no locks.
            let _ = file.as_file().lock();
            if file.path().exists() {
                break file;
            }
        };
        unfinished.insert(file.path().to_owned());
        Ok(Self(Some(file)))
    }

    fn file(&self) -> &NamedTempFile {
        self.0.as_ref().expect("it is there until it is dropped or has its name")
    }

    fn file_mut(&mut self) -> &mut NamedTempFile {
        self.0.as_mut().expect("it is there until it is dropped or has its name")
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            match fallocate(self.file().as_file(), FallocateFlags::KEEP_SIZE, 0, bytes.max(1)) {
                // Some file systems have no such thing.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                result => result?,
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
        Ok(())
    }

    /// Becomes the file `target`.
    fn take_name(mut self, target: &Path) -> io::Result<()> {
        let mut unfinished = unfinished();
        let Some(file) = self.0.take() else { return Ok(()) };
        let name = file.path().to_owned();
        unfinished.remove(&name);
        let replaced = fs::metadata(target).ok();
        if let Some(replaced) = &replaced {
            fs::set_permissions(&name, replaced.permissions())?;
        }
        file.persist(target).map(drop).or_else(|error| match replaced {
            // A mount point, or a folder that takes no files.
            Some(replaced) if replaced.is_file() => {
                let mut new = File::open(error.file.path())?;
                let mut old = File::options().write(true).truncate(true).open(target)?;
                io::copy(&mut new, &mut old).map(drop)
            }
            _ => Err(error.error),
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            let mut unfinished = unfinished();
            unfinished.remove(file.path());
            drop(file);
        }
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file_mut().flush()
    }
}

impl Seek for Temporary {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file_mut().seek(to)
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Where a symbolic link leads, for the file there is to be replaced, and the link to stay.
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
    fn what_finds_no_place_at_the_end_is_kept_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join("result.csv");
        let error = write(&path, |file| file.write_all(b"hours of work")).unwrap_err();
        let OutputError::Elsewhere { kept, .. } = &error else { panic!("{error}") };
        assert_eq!(fs::read(kept).unwrap(), b"hours of work");
        assert!(error.to_string().contains(&kept.display().to_string()), "{error}");
        fs::remove_dir_all(kept.parent().unwrap()).unwrap();
    }

    #[test]
    fn files_that_nobody_makes_any_more_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at(".pixelcnn-killed"), "half").unwrap();
        fs::write(at("other"), "whole").unwrap();
        let mut file = NewFile::create(&at("new")).unwrap();
        remove_abandoned(folder.path());
        assert!(!at(".pixelcnn-killed").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "what is being made stays");
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        remove_abandoned(folder.path());
        assert!(at("new").is_file() && at("other").is_file());
    }

    #[test]
    fn new_folders_that_stay_empty_go_again() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        let made = NewFolder::create(&deep).unwrap();
        assert!(deep.is_dir() && unfinished().contains(&deep));
        drop(made);
        assert!(!folder.path().join("a").exists() && !unfinished().contains(&deep));

        let made = NewFolder::create(&deep).unwrap();
        fs::write(deep.join("file"), "").unwrap();
        drop(made);
        drop(NewFolder::create(&deep).unwrap());
        assert!(deep.join("file").is_file(), "folders that are used, or old, stay");
    }
}
