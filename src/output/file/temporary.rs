//! A temporary file: what becomes of it, and of the file whose name it takes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::notes;
use super::owner;
use super::unfinished::unfinished;

/// A file that goes when it is dropped, or a signal ends the program, unless it has got its name.
#[derive(Debug)]
pub(super) struct Temporary {
    pub file: File,
    path: PathBuf,
    has_name: bool,
    /// Whether it moves to the folder for temporary files rather than fail.
    pub is_kept: bool,
    /// Why it has moved there.
    moved: Option<io::Error>,
}

impl Temporary {
    /// With a mode, of which the umask takes its part.
    pub fn new(folder: &Path, mode: u32) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        // No signal comes between the file and its entry.
        let mut unfinished = unfinished();
        let path = folder.join(owner::new_name());
        let file = options.open(&path)?;
        unfinished.insert(path.clone());
        Ok(Self { file, path, has_name: false, is_kept: false, moved: None })
    }

    /// In the folder for temporary files from the beginning, for that reason.
    pub fn elsewhere(reason: io::Error) -> io::Result<Self> {
        let Ok(mut file) = Self::new(&std::env::temp_dir(), 0o600) else { return Err(reason) };
        (file.is_kept, file.moved) = (true, Some(reason));
        Ok(file)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes room for so many bytes in all.
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

    /// Becomes the file `target`; if it `is_synced`, it is on the disk before. If it `is_kept`, it stays at another
    /// place where the system refuses: the reason, and the place.
    pub fn take_name(mut self, target: &Path, is_synced: bool) -> io::Result<Option<(io::Error, PathBuf)>> {
        if self.moved.is_none()
            && let Err(error) = self.replace(target, is_synced)
        {
            if !self.is_kept {
                return Err(error);
            }
            // Where there is no room for it, it stays beside its target.
            let _ = self.move_away();
            self.moved = Some(error);
        }
        let Some(reason) = self.moved.take() else { return Ok(None) };
        Ok(Some((reason, self.keep_as(target.file_name().unwrap_or("result".as_ref())))))
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
        let mut unfinished = unfinished();
        match (fs::rename(&self.path, target), replaced) {
            (Ok(()), _) => {
                self.has_name = true;
                unfinished.remove(&self.path);
                drop(unfinished);
                // Some file systems know no such thing of folders.
                if let (true, Ok(folder)) = (is_synced, File::open(super::folder_of(target))) {
                    let _ = folder.sync_all();
                }
                Ok(())
            }
            // A mount point, or a folder that takes no files.
            (Err(_), Some(replaced)) if replaced.is_file() => {
                self.file.rewind()?;
                let mut old = File::options().write(true).truncate(true).open(target)?;
                io::copy(&mut self.file, &mut old)?;
                drop(unfinished);
                if is_synced { sync(&old) } else { Ok(()) }
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Goes on in the folder for temporary files, with what has been written.
    fn move_away(&mut self) -> io::Result<()> {
        let position = self.file.stream_position()?;
        let mut other = Self::new(&std::env::temp_dir(), 0o600)?;
        self.file.rewind()?;
        let copied = io::copy(&mut self.file, &mut other.file);
        self.file.seek(SeekFrom::Start(position))?;
        copied?;
        other.file.seek(SeekFrom::Start(position))?;
        // The old file goes with `other`.
        std::mem::swap(&mut self.file, &mut other.file);
        std::mem::swap(&mut self.path, &mut other.path);
        std::mem::swap(&mut self.has_name, &mut other.has_name);
        Ok(())
    }

    /// Stays where it is, under this name in a new folder if that can be made.
    fn keep_as(&mut self, name: &OsStr) -> PathBuf {
        let _ = sync(&self.file);
        let mut unfinished = unfinished();
        let folder = tempfile::Builder::new().prefix("pixelcnn-").tempdir_in(super::folder_of(&self.path));
        let path = folder.and_then(|folder| {
            let path = folder.path().join(name);
            fs::rename(&self.path, &path)?;
            let _ = folder.keep();
            Ok(path)
        });
        unfinished.remove(&self.path);
        self.has_name = true;
        path.unwrap_or_else(|_| self.path.clone())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.has_name {
            let mut unfinished = unfinished();
            unfinished.remove(&self.path);
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write(bytes) {
            Err(error)
                if self.is_kept && self.moved.is_none() && error.kind() != io::ErrorKind::Interrupted =>
            {
                if self.move_away().is_err() {
                    return Err(error);
                }
                self.moved = Some(error);
                self.file.write(bytes)
            }
            result => result,
        }
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
