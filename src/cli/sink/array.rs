//! Images as one array of NumPy: `.npy`, or `.npz` in the layout that evaluators of generated images read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, BufWriter, Seek, SeekFrom, Stdout, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::output::NewFile;
use crate::output::npy::{self, Type};
use crate::output::npz::{NpzReader, NpzWriter};
use crate::output::stdout;

use super::{Item, Series, Texts};

/// The arrays of an `.npz`: the images, `uint8 [N, H, W, 3]`, or levels `[N, H, W, C]` if there are not 256 of them; their
/// classes, `int64 [N]`, if there are any; the 1-based index of each within its class, `int64 [N]`; of completions, the images
/// that they complete and the masks, 1 where a pixel was drawn; and the recipe, a JSON text.
pub const IMAGES: &str = "arr_0";
pub const LABELS: &str = "arr_1";
pub const NTHS: &str = "nth";
const ABOUT: &str = "pixelcnn";

/// Bytes of an `.npz` beside its numbers, about: headers, and how the images were drawn.
const MOST_TEXT: u64 = 1 << 16;

/// An array in the making, image by image.
pub struct ArraySink {
    path: PathBuf,
    file: ArrayFile,
    has_classes: bool,
    labels: Vec<u8>,
    nths: Vec<u8>,
    names: BTreeMap<usize, String>,
    numbers: Type,
    /// Grey is repeated where three channels are expected.
    repeats: usize,
    /// Arrays beside the images: names, types, shapes and bytes.
    beside: Vec<(&'static str, Type, Vec<usize>, Vec<u8>)>,
    size: [usize; 3],
}

#[allow(clippy::large_enum_variant, reason = "there is one")]
enum ArrayFile {
    Npy(Target),
    Npz(NpzWriter<Target>),
}

/// The place of the bytes.
#[allow(clippy::large_enum_variant, reason = "there is one")]
enum Target {
    File(NewFile),
    /// None once it has taken no more: what would end an archive is not tried again.
    Stdout(Option<BufWriter<Stdout>>),
}

impl Target {
    fn finish(mut self) -> Result<()> {
        match self {
            Self::File(file) => Ok(file.finish()?),
            Self::Stdout(_) => self.flush().context("writing to stdout"),
        }
    }
}

/// Does something with stdout, unless it has failed before.
fn with_stdout<T>(
    stdout: &mut Option<BufWriter<Stdout>>,
    done: T,
    act: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<T>,
) -> io::Result<T> {
    let Some(writer) = stdout else { return Ok(done) };
    let result = act(writer);
    if result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
        *stdout = None;
    }
    result
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(stdout) => with_stdout(stdout, bytes.len(), |writer| writer.write(bytes)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(stdout) => with_stdout(stdout, (), Write::flush),
        }
    }
}

impl Seek for Target {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Stdout(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// True for the name of an array.
pub fn is_array(path: &Path) -> bool {
    let of = |extension: &OsStr| ["npz", "npy"].iter().any(|kind| extension.eq_ignore_ascii_case(kind));
    path.extension().is_some_and(of)
}

impl ArraySink {
    /// Begins the file, with all the room it will take, or stdout.
    pub fn begin(path: &Path, series: &Series) -> Result<Self> {
        let count = series.count();
        let Series { width, height, channels, has_classes, levels, .. } = *series;
        let numbers = series.numbers();
        let is_archive = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz"));
        // Evaluators of pictures want three channels.
        let repeats = if is_archive && channels == 1 && levels == 256 { 3 } else { 1 };
        let shape = [count, height, width, channels * repeats];
        let bytes = shape.iter().map(|&length| length as u64).product::<u64>() * numbers.bytes() as u64;
        let target = match stdout::kind(path) {
            Some(_) => Target::Stdout(Some(BufWriter::new(io::stdout()))),
            None => {
                let mut file = NewFile::create(path)?;
                file.reserve(if is_archive { bytes + 16 * count as u64 + MOST_TEXT } else { bytes })?;
                Target::File(file)
            }
        };
        let mut file = match (is_archive, &target) {
            (false, _) => ArrayFile::Npy(target),
            (true, Target::Stdout(_)) => ArrayFile::Npz(NpzWriter::streaming(target)),
            (true, Target::File(_)) => ArrayFile::Npz(NpzWriter::new(target)),
        };
        let begun = match &mut file {
            ArrayFile::Npy(target) => npy::write_header(target, numbers, &shape),
            ArrayFile::Npz(npz) => npz.begin(IMAGES, numbers, &shape),
        };
        begun.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            has_classes,
            labels: Vec::new(),
            nths: Vec::new(),
            names: BTreeMap::new(),
            numbers,
            repeats,
            beside: Vec::new(),
            size: [height, width, channels * repeats],
        })
    }

    /// True if it is written to stdout as it comes.
    pub fn is_stdout(&self) -> bool {
        stdout::kind(&self.path).is_some()
    }

    /// Adds other images to an `.npz`, in the form of its own.
    pub fn add_images(&mut self, name: &'static str, levels: impl Iterator<Item = u16>) {
        let bytes = self.bytes(levels);
        let of_one = self.size.iter().product::<usize>() * self.numbers.bytes();
        let shape = [&[bytes.len() / of_one], &self.size[..]].concat();
        self.beside.push((name, self.numbers, shape, bytes));
    }

    /// Adds masks to an `.npz`, `[N, H, W]` of 0 and 1.
    pub fn add_masks(&mut self, name: &'static str, masks: Vec<u8>) {
        let [height, width, _] = self.size;
        self.beside.push((name, Type::U8, vec![masks.len() / (height * width), height, width], masks));
    }

    fn bytes(&self, levels: impl Iterator<Item = u16>) -> Vec<u8> {
        let width = self.numbers.bytes();
        levels.flat_map(|level| level.to_le_bytes()[..width].repeat(self.repeats)).collect()
    }

    /// Takes the next image.
    pub fn put(&mut self, item: &Item, levels: &[u16]) -> Result<PathBuf> {
        if let Some((class, name)) = &item.class {
            self.labels.extend((*class as u64).to_le_bytes());
            self.nths.extend(item.nth.to_le_bytes());
            self.names.entry(*class).or_insert_with(|| name.clone());
        }
        let bytes = self.bytes(levels.iter().copied());
        let written = match &mut self.file {
            ArrayFile::Npy(file) => file.write_all(&bytes),
            ArrayFile::Npz(npz) => npz.write_all(&bytes),
        };
        written.with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(self.path.clone())
    }

    /// Writes what comes after the images, and says where they are.
    pub fn finish(self, about: &Texts) -> Result<String> {
        let Self { path, file, labels, nths, has_classes, names, beside, .. } = self;
        let file = match file {
            ArrayFile::Npy(file) => file,
            ArrayFile::Npz(mut npz) => {
                let mut about: serde_json::Map<_, _> =
                    about.iter().map(|(key, text)| (key.clone(), text.as_str().into())).collect();
                if has_classes {
                    let names = names.iter().map(|(class, name)| (class.to_string(), name.as_str().into()));
                    let names = serde_json::Value::Object(names.collect());
                    about.insert("class_names".to_owned(), names.to_string().into());
                }
                let mut end = || {
                    if has_classes {
                        for (name, numbers) in [(LABELS, &labels), (NTHS, &nths)] {
                            npz.begin(name, Type::I64, &[numbers.len() / 8])?;
                            npz.write_all(numbers)?;
                        }
                    }
                    for (name, numbers, shape, bytes) in &beside {
                        npz.begin(name, *numbers, shape)?;
                        npz.write_all(bytes)?;
                    }
                    npz.text(ABOUT, &serde_json::Value::from(about.clone()).to_string())
                };
                let ended = end().and_then(|()| npz.finish());
                ended.with_context(|| format!("cannot write {}", path.display()))?
            }
        };
        file.finish()?;
        Ok(match stdout::kind(&path) {
            Some(_) => "stdout".to_owned(),
            None => path.display().to_string(),
        })
    }
}

/// The texts about its images in an `.npz` that was written here.
pub fn read_about(npz: &mut NpzReader) -> Result<Vec<(String, String)>> {
    const OTHER: &str = "it does not say how its images were drawn (expected an .npz of `pixelcnn`)";
    let text = npz.text(ABOUT)?.context(OTHER)?;
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).context(OTHER)?;
    let pair = |(key, value): (String, serde_json::Value)| Some((key, value.as_str()?.to_owned()));
    object.into_iter().map(pair).collect::<Option<_>>().context(OTHER)
}

/// The names of the classes that are there, by their numbers.
pub fn class_names(about: &Texts) -> BTreeMap<usize, String> {
    let names = super::text(about, "class_names");
    names.and_then(|names| serde_json::from_str(names).ok()).unwrap_or_default()
}
