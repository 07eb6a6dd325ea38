//! A temporary file: what becomes of it, and of the file whose name it takes.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;

use super::notes;
use super::owner;
use super::unfinished::unfinished;

/// A file that goes when it is dropped, or a signal ends the program, unless it has got its name.
#[derive(Debug)]
pub(super) struct Temporary {
    file: File,
    path: PathBuf,
    has_name: bool,
    /// The name under which it goes to the folder for temporary files, rather than be lost.
    kept_as: Option<OsString>,
    /// The reason for which it is there.
    moved: Option<io::Error>,
    /// The folder that was made for it there.
    folder: Option<TempDir>,
}

impl Temporary {
    /// With a mode, of which the umask takes its part.
    pub fn new(folder: &Path, mode: u32) -> io::Result<Self> {
        Self::at(folder.join(owner::new_name()), mode)
    }

    fn at(path: PathBuf, mode: u32) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        // No signal comes between the file and its entry.
        let mut unfinished = unfinished();
        let file = options.open(&path)?;
        unfinished.insert(path.clone());
        Ok(Self { file, path, has_name: false, kept_as: None, moved: None, folder: None })
    }

    /// In the folder for temporary files from the beginning, under this name, for that reason.
    pub fn elsewhere(name: OsString, reason: io::Error) -> io::Result<Self> {
        let Ok(mut file) = Self::in_own_folder(&name) else { return Err(reason) };
        (file.kept_as, file.moved) = (Some(name), Some(reason));
        Ok(file)
    }

    fn in_own_folder(name: &OsStr) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("pixelcnn-").tempdir()?;
        unfinished().insert(folder.path().to_owned());
        let mut file = Self::at(folder.path().join(name), 0o600)?;
        file.folder = Some(folder);
        Ok(file)
    }

    /// From now on it goes to the folder for temporary files, under this name, rather than be lost.
    pub fn keep_as(&mut self, name: OsString) {
        self.kept_as = Some(name);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// That the file system gives files other names.
    pub fn prove_rename(mut self) -> io::Result<()> {
        let mut unfinished = unfinished();
        let path = self.path.with_file_name(owner::new_name());
        fs::rename(&self.path, &path)?;
        unfinished.remove(&self.path);
        unfinished.insert(path.clone());
        self.path = path;
        drop(unfinished);
        Ok(())
    }

    /// When it was last written to, by the clock of its file system.
    pub fn modified(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    /// Reserves `bytes` bytes in all.
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes.max(1)) {
                // Some file systems have no such thing.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                result => result?,
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
        Ok(())
    }

    /// Becomes the file `target`; if it `is_synced`, it is on the disk before. If it is to be kept, and the system
    /// refuses, it stays elsewhere: the reason, and the place.
    pub fn take_name(mut self, target: &Path, is_synced: bool) -> io::Result<Option<(io::Error, PathBuf)>> {
        if self.moved.is_none()
            && let Err(error) = self.replace(target, is_synced)
        {
            let Some(name) = self.kept_as.clone() else { return Err(error) };
            if self.move_away(&name).is_err() {
                // There is no room for it there.
                self.stay(&name);
            }
            self.moved = Some(error);
        }
        let Some(reason) = self.moved.take() else { return Ok(None) };
        let _ = sync(&self.file);
        self.get_name();
        Ok(Some((reason, self.path.clone())))
    }

    fn replace(&mut self, target: &Path, is_synced: bool) -> io::Result<()> {
        let replaced = fs::metadata(target).ok();
        if let Some(replaced) = &replaced {
            keep_rights(&self.file, replaced).unwrap_or_else(|error| notes::add(target, &error));
        }
        // Before signals have to wait: it may take long.
        if is_synced {
            sync(&self.file)?;
        }
        let signals_wait = unfinished();
        match fs::rename(&self.path, target) {
            Ok(()) => {
                drop(signals_wait);
                self.get_name();
                // Some file systems know no such thing of folders.
                if let (true, Ok(folder)) = (is_synced, File::open(super::folder_of(target))) {
                    let _ = folder.sync_all();
                }
                Ok(())
            }
            // A mount point, or a folder that takes no files.
            Err(_) if self.kept_as.is_some() && replaced.is_some_and(|replaced| replaced.is_file()) => {
                self.file.rewind()?;
                let mut old = File::options().write(true).truncate(true).open(target)?;
                io::copy(&mut self.file, &mut old)?;
                drop(signals_wait);
                if is_synced { sync(&old) } else { Ok(()) }
            }
            Err(error) => Err(error),
        }
    }

    /// It is not temporary any more.
    fn get_name(&mut self) {
        self.has_name = true;
        let mut unfinished = unfinished();
        unfinished.remove(&self.path);
        if let Some(folder) = self.folder.take() {
            unfinished.remove(&folder.keep());
        }
    }

    /// Goes on in the folder for temporary files, with what has been written.
    fn move_away(&mut self, name: &OsStr) -> io::Result<()> {
        let position = self.file.stream_position()?;
        let mut other = Self::in_own_folder(name)?;
        self.file.rewind()?;
        let copied = io::copy(&mut self.file, &mut other.file);
        self.file.seek(SeekFrom::Start(position))?;
        copied?;
        other.file.seek(SeekFrom::Start(position))?;
        other.kept_as = self.kept_as.take();
        // The former value is dropped.
        *self = other;
        Ok(())
    }

    /// Stays beside its target, under a name that tells it from temporary files if that is allowed.
    fn stay(&mut self, name: &OsStr) {
        let mut visible = OsString::from(format!("kept-{}-", owner::random()));
        visible.push(name);
        let path = super::folder_of(&self.path).join(visible);
        if fs::rename(&self.path, &path).is_ok() {
            unfinished().remove(&self.path);
            self.path = path;
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.has_name {
            let mut unfinished = unfinished();
            unfinished.remove(&self.path);
            let _ = fs::remove_file(&self.path);
            if let Some(folder) = &self.folder {
                unfinished.remove(folder.path());
            }
        }
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let error = match self.file.write(bytes) {
            Err(error) if self.moved.is_none() && error.kind() != io::ErrorKind::Interrupted => error,
            result => return result,
        };
        let Some(name) = self.kept_as.clone() else { return Err(error) };
        if self.move_away(&name).is_err() {
            return Err(error);
        }
        self.moved = Some(error);
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Temporary {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Gives a file the mode and the owner of the one that it replaces, as far as they differ and the system allows.
#[cfg(unix)]
fn keep_rights(new: &File, old: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    const RIGHTS: u32 = 0o777;
    let now = new.metadata()?;
    let mut result = Ok(());
    if now.uid() != old.uid() {
        result = fchown(new, Some(old.uid()), None);
    }
    if now.gid() != old.gid() {
        result = result.and(fchown(new, None, Some(old.gid())));
    }
    if now.mode() & RIGHTS != old.mode() & RIGHTS {
        let mode = new.set_permissions(PermissionsExt::from_mode(old.mode() & RIGHTS));
        result = result.and(mode);
    }
    result
}

#[cfg(not(unix))]
fn keep_rights(_: &File, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

/// Waits until a file is on the disk, where the file system knows such a thing.
fn sync(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
            Ok(())
        }
        result => result,
    }
}
