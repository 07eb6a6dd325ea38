//! The kernels as a driver compiled them, kept in a file for the next run. Only Vulkan provides them.
//!
//! A file is the SHA-256 of its contents, and the contents. A file that is damaged, too large, or of another device,
//! driver or version of wgpu counts as none; a file that cannot be written costs the next run its time, and no more.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Bytes of a file, at most; what grows over that begins anew.
const MOST: u64 = 32 << 20;

/// Bytes of a digest.
const DIGEST: usize = 32;

/// Kernels that a driver has compiled, in memory and in a file.
pub struct PipelineCache {
    handle: wgpu::PipelineCache,
    file: PathBuf,
    /// Of what the file holds, if that can be used.
    digest: Option<[u8; DIGEST]>,
}

impl PipelineCache {
    /// The cache of a device in a folder, which need not be there; nothing where the device has none.
    pub fn open(device: &wgpu::Device, adapter: &wgpu::AdapterInfo, folder: &Path) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let file = folder.join(wgpu::util::pipeline_cache_key(adapter)?);
        let contents = read(&file);
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("pixelcnn"),
            data: contents.as_deref(),
            fallback: true,
        };
        // SAFETY: the contents are what `get_data` gave to a process of this user, as their digest shows; wgpu looks at
        // which device, driver and version they are of.
        let handle = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Self { handle, file, digest: contents.as_deref().map(digest) })
    }

    /// For pipelines to be looked up in, and added to.
    pub fn handle(&self) -> &wgpu::PipelineCache {
        &self.handle
    }

    /// Writes what there is now to the file, if it is something else.
    pub fn keep(&mut self) {
        let Some(contents) = self.handle.get_data() else { return };
        let now = digest(&contents);
        if self.digest != Some(now) {
            // Without it, the next run compiles.
            let _ = write(&self.file, &contents);
            self.digest = Some(now);
        }
    }
}

fn digest(contents: &[u8]) -> [u8; DIGEST] {
    Sha256::digest(contents).into()
}

/// The contents of a file, if it is whole.
fn read(file: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(MOST + 1).read_to_end(&mut bytes).ok()?;
    let (expected, contents) = bytes.split_first_chunk::<DIGEST>()?;
    (bytes.len() as u64 <= MOST && digest(contents) == *expected).then(|| contents.to_vec())
}

/// Puts contents in place of a file, whole or not at all; too large ones only take it away.
fn write(file: &Path, contents: &[u8]) -> io::Result<()> {
    if (DIGEST + contents.len()) as u64 > MOST {
        return fs::remove_file(file);
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(&digest(contents))?;
    temporary.write_all(contents)?;
    temporary.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_damaged_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("not/yet/there");
        assert_eq!(read(&file), None);
        for contents in [&b"compiled"[..], b"compiled anew", b""] {
            write(&file, contents).unwrap();
            assert_eq!(read(&file).as_deref(), Some(contents));
        }
        write(&file, b"compiled").unwrap();
        let whole = fs::read(&file).unwrap();
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1;
            fs::write(&file, &damaged).unwrap();
            assert_eq!(read(&file), None, "byte {byte}");
            fs::write(&file, &whole[..byte]).unwrap();
            assert_eq!(read(&file), None, "cut at {byte}");
        }
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no other file is left");
    }

    #[test]
    fn a_cache_that_has_grown_too_large_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cache");
        write(&file, b"compiled").unwrap();
        write(&file, &vec![0; MOST as usize]).unwrap();
        assert!(!file.exists());
        let mut large = digest(&vec![0; MOST as usize]).to_vec();
        large.extend(vec![0; MOST as usize]);
        fs::write(&file, large).unwrap();
        assert_eq!(read(&file), None);
    }
}
