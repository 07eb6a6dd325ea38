//! NumPy's `.npz`: arrays in a zip archive, not compressed, so that they are written as they come, to a pipe too.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;

use zip::result::ZipError;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::npy::{self, Type};

/// Writes arrays one after the other.
#[derive(Debug)]
pub enum NpzWriter<W: Write + Seek> {
    /// Sizes and checksums stand before each array, and are written last.
    Seeking(ZipWriter<W>),
    /// They stand behind each array.
    Streaming(ZipWriter<StreamWriter<W>>),
}

impl<W: Write + Seek> NpzWriter<W> {
    /// Begins an archive.
    pub fn new(writer: W) -> Self {
        Self::Seeking(ZipWriter::new(writer))
    }

    /// Begins an archive whose writer is never asked to seek.
    pub fn streaming(writer: W) -> Self {
        Self::Streaming(ZipWriter::new_stream(writer))
    }

    /// Begins an array; its elements are what is written until the next begins.
    ///
    /// # Errors
    /// What the writer says.
    pub fn begin(&mut self, name: &str, of: Type, shape: &[usize]) -> io::Result<()> {
        let bytes = shape.iter().map(|&length| length as u64).product::<u64>() * of.bytes() as u64;
        // More takes a longer form (zip64), which few readers lack.
        let is_large = bytes + 65_536 > u64::from(u32::MAX);
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(is_large);
        let name = format!("{name}.npy");
        match self {
            Self::Seeking(zip) => zip.start_file(name, options)?,
            Self::Streaming(zip) => zip.start_file(name, options)?,
        }
        npy::write_header(self, of, shape)
    }

    /// Writes an array of one text.
    ///
    /// # Errors
    /// What the writer says.
    pub fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.begin(name, Type::Text(text.chars().count()), &[])?;
        text.chars().try_for_each(|c| self.write_all(&u32::from(c).to_le_bytes()))
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish(self) -> io::Result<W> {
        Ok(match self {
            Self::Seeking(zip) => zip.finish()?,
            Self::Streaming(zip) => zip.finish()?.into_inner(),
        })
    }
}

impl<W: Write + Seek> Write for NpzWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Seeking(zip) => zip.write(bytes),
            Self::Streaming(zip) => zip.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Seeking(zip) => zip.flush(),
            Self::Streaming(zip) => zip.flush(),
        }
    }
}

/// Reads an archive that [`NpzWriter`] has written.
pub struct NpzReader(ZipArchive<BufReader<File>>);

/// Opens a Zip archive.
///
/// # Errors
/// Those of the system, and an error for a file that is no archive.
pub fn open_archive<R: Read + Seek>(file: R) -> io::Result<ZipArchive<R>> {
    ZipArchive::new(file).map_err(|error| match error {
        ZipError::InvalidArchive(_) => {
            io::Error::new(io::ErrorKind::InvalidData, "it is cut off, damaged, or another kind of file")
        }
        other => other.into(),
    })
}

impl NpzReader {
    /// Opens an archive.
    ///
    /// # Errors
    /// What the system says, and archives that are broken.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open_archive(BufReader::new(File::open(path)?))?))
    }

    /// The elements of an array, to be read to their end, where they are found to be those that were written; none if
    /// there is no such array.
    ///
    /// # Errors
    /// What the system says, archives that are broken, and arrays of another type or shape.
    pub fn array<'a>(
        &'a mut self,
        name: &str,
        of: Type,
        shape: &[usize],
    ) -> io::Result<Option<impl Read + use<'a>>> {
        let Ok(mut array) = self.0.by_name(&format!("{name}.npy")) else { return Ok(None) };
        let mut expected = Vec::new();
        npy::write_header(&mut expected, of, shape)?;
        let mut found = vec![0; expected.len()];
        array.read_exact(&mut found)?;
        match found == expected {
            true => Ok(Some(array)),
            false => Err(io::Error::other(format!("expected {of:?} {shape:?} in its array {name}"))),
        }
    }

    /// A text that was written; none if there is no such array.
    ///
    /// # Errors
    /// What the system says, and archives that are broken.
    pub fn text(&mut self, name: &str) -> io::Result<Option<String>> {
        let Ok(mut array) = self.0.by_name(&format!("{name}.npy")) else { return Ok(None) };
        let mut bytes = Vec::new();
        array.read_to_end(&mut bytes)?;
        let decode = || {
            let length = u16::from_le_bytes(*bytes.get(8..10)?.as_array()?);
            let (codes, rest) = bytes.get(10 + usize::from(length)..)?.as_chunks::<4>();
            let text = codes.iter().map(|code| char::from_u32(u32::from_le_bytes(*code)));
            text.collect::<Option<String>>().filter(|_| rest.is_empty())
        };
        Ok(decode())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::SeekFrom;

    use super::*;

    #[test]
    fn what_is_written_comes_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let mut npz = NpzWriter::new(File::create(&path).unwrap());
        npz.begin("numbers", Type::U8, &[2, 3]).unwrap();
        npz.write_all(&[1, 2, 3, 4, 5, 6]).unwrap();
        npz.text("says", "crème 🐈").unwrap();
        npz.finish().unwrap();

        let read = |shape: &[usize]| {
            let mut bytes = Vec::new();
            let mut npz = NpzReader::open(&path)?;
            npz.array("numbers", Type::U8, shape)?.unwrap().read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(bytes)
        };
        assert_eq!(read(&[2, 3]).unwrap(), [1, 2, 3, 4, 5, 6]);
        assert!(read(&[3, 2]).is_err());
        let mut npz = NpzReader::open(&path).unwrap();
        assert_eq!(npz.text("says").unwrap().unwrap(), "crème 🐈");
        assert!(npz.text("more").unwrap().is_none());

        let mut bytes = std::fs::read(&path).unwrap();
        let place = bytes.windows(6).position(|window| window == [1, 2, 3, 4, 5, 6]).unwrap();
        bytes[place] = 9;
        std::fs::write(&path, bytes).unwrap();
        assert!(read(&[2, 3]).is_err(), "a number has changed");
    }

    /// A file of which only blocks with something in them are kept.
    #[derive(Default)]
    struct Sparse {
        blocks: BTreeMap<u64, Vec<u8>>,
        at: u64,
        length: u64,
    }

    const BLOCK: u64 = 1 << 16;

    impl Sparse {
        /// The number of the next `bytes` bytes that are in the block at the current place, and their offset in it.
        fn part(&self, bytes: usize) -> (usize, usize) {
            let start = self.at % BLOCK;
            (start as usize, bytes.min((BLOCK - start) as usize))
        }
    }

    impl Write for Sparse {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (start, count) = self.part(bytes.len());
            let block = self.at / BLOCK;
            if self.blocks.contains_key(&block) || bytes[..count].iter().any(|&byte| byte != 0) {
                let block = self.blocks.entry(block).or_insert_with(|| vec![0; BLOCK as usize]);
                block[start..start + count].copy_from_slice(&bytes[..count]);
            }
            self.at += count as u64;
            self.length = self.length.max(self.at);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Sparse {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let (start, count) = self.part(bytes.len().min((self.length - self.at) as usize));
            match self.blocks.get(&(self.at / BLOCK)) {
                Some(block) => bytes[..count].copy_from_slice(&block[start..start + count]),
                None => bytes[..count].fill(0),
            }
            self.at += count as u64;
            Ok(count)
        }
    }

    impl Seek for Sparse {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.at = match to {
                SeekFrom::Start(at) => at,
                SeekFrom::Current(by) => self.at.checked_add_signed(by).unwrap(),
                SeekFrom::End(by) => self.length.checked_add_signed(by).unwrap(),
            };
            Ok(self.at)
        }
    }

    /// The versions of the format that arrays of an archive need, by their headers: 4.5 has sizes of 64 bits.
    fn versions(file: &mut Sparse, count: usize) -> Vec<u16> {
        let mut versions = Vec::new();
        let mut at = 0;
        while versions.len() < count {
            let mut header = [0; 6];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut header).unwrap();
            if let [b'P', b'K', 3, 4, low, high] = header {
                versions.push(u16::from_le_bytes([low, high]));
            }
            at += 1;
        }
        versions
    }

    /// The declared size of an array when it begins decides its header.
    #[test]
    fn arrays_of_4_gib_get_sizes_of_64_bits() {
        let mut npz = NpzWriter::new(Sparse::default());
        let images = (1 << 32) / (32 * 32 * 3);
        for (name, images) in [("arr_0", images + 1), ("arr_1", 2), ("arr_2", images - 100)] {
            npz.begin(name, Type::U8, &[images, 32, 32, 3]).unwrap();
            npz.write_all(&[8, 9]).unwrap();
        }
        let mut file = npz.finish().unwrap();
        let is_64_bits: Vec<_> = versions(&mut file, 3).iter().map(|&version| version == 45).collect();
        assert_eq!(is_64_bits, [true, false, false]);
    }

    /// Arrays that begin where 32 bits do not reach, as after one that is as large as that.
    #[test]
    fn arrays_that_begin_after_4_gib_come_back() {
        let far = 5 << 30;
        let mut npz = NpzWriter::new(Sparse { at: far, length: far, ..Sparse::default() });
        for (name, numbers) in [("arr_0", [1, 2]), ("arr_1", [8, 9])] {
            npz.begin(name, Type::U8, &[2]).unwrap();
            npz.write_all(&numbers).unwrap();
        }
        let file = npz.finish().unwrap();
        assert!(file.length > far);
        let mut zip = ZipArchive::new(file).unwrap();
        for (name, expected) in [("arr_0.npy", [1, 2]), ("arr_1.npy", [8, 9])] {
            let mut bytes = Vec::new();
            zip.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes[128..], expected);
        }
    }
}
