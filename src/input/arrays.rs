//! Images in NumPy's files: `.npy`, one array, and `.npz`, a zip file of them.
//!
//! Images are uint8 `[N, H, W]` or `[N, H, W, C]`. In an `.npz` the labels of `x…` are `y…`, those of
//! `arr_0` are `arr_1`, and `classes` holds the names of the classes, or this program's metadata of images
//! that it drew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use super::{InputError, Pixels};
use crate::output::npz::open_archive;

/// An image of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// Numbers of a pixel.
    pub channels: usize,
    /// `[H, W, C]`
    pub levels: Vec<u16>,
}

/// Images, and their classes as far as known.
#[derive(Debug)]
pub struct ImageArray {
    width: usize,
    height: usize,
    channels: usize,
    /// True if the axes are stored in Fortran's order.
    fortran: bool,
    count: usize,
    /// Levels.
    values: Vec<u16>,
    labels: Option<Vec<u64>>,
    names: Option<Vec<String>>,
    /// True if the file says that this program drew the images.
    is_drawn: bool,
}

/// Reads a file of images of `levels` levels, in the format of its content, whatever its name; of an `.npz`
/// the array `name`.
pub fn read(path: &Path, name: Option<&str>, levels: usize) -> Result<ImageArray, InputError> {
    let mut file =
        BufReader::new(File::open(path).map_err(|error| super::walk::why_unreadable(path, error))?);
    let mut magic = [0; 6];
    let is_npy = file.read_exact(&mut magic).is_ok() && magic == *MAGIC;
    file.rewind()?;
    if !is_npy {
        return read_npz(file, name, levels);
    }
    if let Some(name) = name {
        return Err(InputError::Arrays(format!("is one array, and no .npz file with an array {name}")));
    }
    let header = Header::read(&mut file)?;
    if !header.is_image(levels) {
        return Err(InputError::Arrays(format!("is {}, expected {}", header.shown(), expected(levels))));
    }
    ImageArray::new(&header, header.values(&mut file)?, levels, None, None)
}

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Describes arrays that hold images of `levels` levels.
fn expected(levels: usize) -> &'static str {
    match levels {
        256 => "uint8 [N, H, W], [N, H, W, 1] or [N, H, W, 3]",
        _ => "whole numbers [N, H, W] or [N, H, W, C], levels",
    }
}

fn read_npz(file: BufReader<File>, name: Option<&str>, levels: usize) -> Result<ImageArray, InputError> {
    let broken =
        |error: &dyn Display| InputError::Arrays(format!("cannot be read as an .npz file: {error}"));
    let mut zip = open_archive(file).map_err(|error| broken(&error))?;
    let mut headers = BTreeMap::new();
    for i in 0..zip.len() {
        let mut entry = zip.by_index(i).map_err(|error| broken(&error))?;
        let name = entry.name().map_err(|error| broken(&error))?.strip_suffix(".npy").map(str::to_owned);
        if let Some(name) = name {
            headers.insert(name.clone(), Header::read(&mut entry).map_err(|error| within(&name, &error))?);
        }
    }
    let images: Vec<_> =
        headers.iter().filter(|(_, h)| h.is_image(levels)).map(|(name, _)| name.as_str()).collect();
    let chosen = match (name, &images[..]) {
        (Some(name), images) if images.contains(&name) => name,
        (None, [only]) => only,
        (None, [_, ..]) => {
            return Err(InputError::SeveralArrays(images.iter().map(|name| name.to_string()).collect()));
        }
        (_, _) => {
            let list: Vec<_> = headers.iter().map(|(name, h)| format!("{name} ({})", h.shown())).collect();
            let found = if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
            let wanted =
                name.map_or("an array of images".to_owned(), |name| format!("images in the array {name}"));
            let expected = expected(levels);
            return Err(InputError::Arrays(format!("expected {wanted}, {expected}; found {found}")));
        }
    };
    let mut values = |name: &str| {
        let header = headers.get(name)?;
        let read = |zip: &mut zip::ZipArchive<_>| {
            let mut entry = zip.by_name(&format!("{name}.npy")).map_err(|error| broken(&error))?;
            Header::read(&mut entry)?.values(&mut entry)
        };
        Some(read(&mut zip).map(|values| (header, values)).map_err(|error| within(name, &error)))
    };
    let Some(images) = values(chosen) else { unreachable!("its header has been read") };
    let (header, pixels) = images?;
    let labels = match labels_of(chosen, &headers) {
        Some(name) => match values(&name).transpose()? {
            Some((of, bytes)) => {
                Some(of.labels(&bytes, header.shape[0]).map_err(|error| within(&name, &error))?)
            }
            None => None,
        },
        None => None,
    };
    let names = match (values("classes").transpose()?, values("pixelcnn").transpose()?) {
        (Some((of, bytes)), _) => {
            let names = of.texts(&bytes).and_then(different);
            Some(names.map_err(|error| within("classes", &error))?)
        }
        (None, Some((of, bytes))) => of.texts(&bytes).ok().and_then(|about| own_classes(about.first()?)),
        (None, None) => None,
    };
    let is_drawn = headers.contains_key("pixelcnn");
    Ok(ImageArray { is_drawn, ..ImageArray::new(header, pixels, levels, labels, names)? })
}

/// The array with the labels of an array of images, by the names that people use, or evaluators and this
/// program. Without names an array beside the images can be anything, such as scores.
fn labels_of(images: &str, headers: &BTreeMap<String, Header>) -> Option<String> {
    match images {
        "arr_0" => {
            let is_list = |of: &Header| of.shape.len() == 1 && matches!(of.kind(), Some(('u' | 'i', _)));
            headers.get("arr_1").is_some_and(is_list).then(|| "arr_1".to_owned())
        }
        _ => images.strip_prefix('x').map(|rest| format!("y{rest}")),
    }
}

/// Refuses equal names: a label would mean either class.
fn different(names: Vec<String>) -> Result<Vec<String>, InputError> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(twice) => Err(InputError::Arrays(format!("has {twice:?} twice, expected different names"))),
        None => Ok(names),
    }
}

/// Names of classes in this program's metadata of images that it drew, by number. Classes without images
/// have no name there.
fn own_classes(about: &str) -> Option<Vec<String>> {
    const MOST: usize = 1 << 16;
    let about: BTreeMap<String, String> = serde_json::from_str(about).ok()?;
    let by_number: BTreeMap<usize, String> = serde_json::from_str(about.get("class_names")?).ok()?;
    let count = by_number.keys().last().filter(|&&last| last < MOST)? + 1;
    Some((0..count).map(|number| by_number.get(&number).cloned().unwrap_or_default()).collect())
}

fn within(name: &str, error: &InputError) -> InputError {
    InputError::Arrays(format!("its array {name} {error}"))
}

impl ImageArray {
    fn new(
        header: &Header,
        bytes: Vec<u8>,
        levels: usize,
        labels: Option<Vec<u64>>,
        names: Option<Vec<String>>,
    ) -> Result<Self, InputError> {
        let [count, height, width] = header.shape[..3] else { unreachable!("images have 3 or 4 axes") };
        if bytes.is_empty() {
            return Err(InputError::Arrays("has no images".to_owned()));
        }
        let values = match levels {
            256 => bytes.into_iter().map(u16::from).collect(),
            _ => header.levels(&bytes, levels)?,
        };
        let channels = header.shape.get(3).copied().unwrap_or(1);
        Ok(Self {
            width,
            height,
            channels,
            fortran: header.fortran,
            count,
            values,
            labels,
            names,
            is_drawn: false,
        })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// See [`super::Item::is_drawn`].
    pub fn is_drawn(&self) -> bool {
        self.is_drawn
    }

    /// An image of 256 levels as a picture.
    pub fn image(&self, index: usize) -> Pixels {
        let Levels { width, height, channels, levels } = self.levels(index);
        let pixel =
            |pixel: &[u16]| -> [u8; 3] { std::array::from_fn(|c| pixel[c.min(channels - 1)] as u8) };
        Pixels { width, height, rgb: levels.chunks(channels).flat_map(pixel).collect() }
    }

    /// An image as it is stored.
    pub fn levels(&self, index: usize) -> Levels {
        let Self { width, height, channels, .. } = *self;
        let at = |y: usize, x: usize, c: usize| match self.fortran {
            true => index + self.count * (y + height * (x + width * c)),
            false => c + channels * (x + width * (y + height * index)),
        };
        let mut levels = Vec::with_capacity(channels * width * height);
        for y in 0..height {
            for x in 0..width {
                levels.extend((0..channels).map(|c| self.values[at(y, x, c)]));
            }
        }
        Levels { width, height, channels, levels }
    }

    pub fn class(&self, index: usize, classes: &[String]) -> Result<Option<usize>, InputError> {
        let Some(label) = self.labels.as_ref().map(|labels| labels[index]) else { return Ok(None) };
        let number = usize::try_from(label).ok();
        let (class, shown) = match &self.names {
            None => (number.filter(|&n| n < classes.len()), label.to_string()),
            Some(names) => {
                let name = number.and_then(|n| names.get(n));
                let class = name.and_then(|name| super::class_named(name, classes));
                (class, name.cloned().unwrap_or_else(|| label.to_string()))
            }
        };
        let none = || InputError::Arrays(format!("its class {shown} is none of the model's"));
        class.map(Some).ok_or_else(none)
    }
}

/// The header of an `.npy` file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    /// NumPy's short name of the type, such as `<f4`.
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Format 1.0 to 3.0 of `numpy.lib.format`: magic, version, length, a Python literal.
    fn read(reader: &mut impl Read) -> Result<Self, InputError> {
        let broken = || InputError::Arrays("is no .npy array, or is cut off".to_owned());
        let mut start = [0; 8];
        reader.read_exact(&mut start).map_err(|_| broken())?;
        let mut length = [0; 4];
        let bytes = match start[6] {
            1 => 2,
            2 | 3 => 4,
            _ => return Err(broken()),
        };
        reader.read_exact(&mut length[..bytes]).map_err(|_| broken())?;
        let length = u32::from_le_bytes(length);
        let mut text = Vec::new();
        reader.take(length.into()).read_to_end(&mut text).map_err(|_| broken())?;
        let text = String::from_utf8_lossy(&text);
        match start.starts_with(MAGIC) {
            true => Self::parse(&text).ok_or_else(broken),
            false => Err(broken()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let after = |key: &str| Some(text.split_once(&format!("'{key}':"))?.1.trim_start());
        let descr = match after("descr")?.strip_prefix('\'') {
            Some(name) => name.split_once('\'')?.0.to_owned(),
            None => "a structure".to_owned(),
        };
        let shape = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
        let lengths = shape.split(',').map(str::trim).filter(|length| !length.is_empty());
        Some(Self {
            descr,
            fortran: after("fortran_order")?.starts_with("True"),
            shape: lengths.map(|length| length.parse().ok()).collect::<Option<_>>()?,
        })
    }

    fn is_image(&self, levels: usize) -> bool {
        let (channels, number) = match levels {
            256 => (matches!(self.shape[..], [_, _, _] | [_, _, _, 1 | 3]), self.kind() == Some(('u', 1))),
            _ => (
                matches!(self.shape[..], [_, _, _] | [_, _, _, 1..=4]),
                matches!(self.kind(), Some(('u' | 'i', 1 | 2 | 4 | 8))),
            ),
        };
        channels && number && self.bytes().is_some()
    }

    /// Its values as levels below `levels`.
    fn levels(&self, bytes: &[u8], levels: usize) -> Result<Vec<u16>, InputError> {
        let level = |(at, number): (usize, Option<u64>)| match number.filter(|n| *n < levels as u64) {
            Some(level) => Ok(level as u16),
            None => {
                let found = number.map_or("a negative number".to_owned(), |number| number.to_string());
                let of_image: usize = self.shape[1..].iter().product();
                let image = if self.fortran { at % self.shape[0] } else { at / of_image.max(1) };
                Err(InputError::Arrays(format!(
                    "holds {found} in image {image}, expected levels below {levels}"
                )))
            }
        };
        self.integers(bytes).enumerate().map(level).collect()
    }

    /// Its values as whole numbers; none for a negative one. They must be integers.
    fn integers<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Option<u64>> + 'a {
        let (kind, size) = self.kind().unwrap_or(('u', 1));
        let number = move |bytes: &[u8]| {
            let mut wide = [0; 8];
            wide[..size].copy_from_slice(bytes);
            if self.descr.starts_with('>') {
                wide[..size].reverse();
            }
            let number = u64::from_le_bytes(wide);
            let is_negative = kind == 'i' && number >> (8 * size - 1) != 0;
            (!is_negative).then_some(number)
        };
        bytes.chunks_exact(size).map(number)
    }

    /// Kind and size in bytes of an element: `u` unsigned, `i` signed, `U` text, and so on.
    fn kind(&self) -> Option<(char, usize)> {
        let mut rest = self.descr.trim_start_matches(['<', '>', '|', '=']).chars();
        let kind = rest.next()?;
        let size: usize = rest.as_str().parse().ok()?;
        Some((kind, if kind == 'U' { size.checked_mul(4)? } else { size }))
    }

    fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.kind()?.1, |bytes, &length| bytes.checked_mul(length))
    }

    fn shown(&self) -> String {
        let kind = match self.kind() {
            Some(('u', size)) => format!("uint{}", 8 * size),
            Some(('i', size)) => format!("int{}", 8 * size),
            Some(('f', size)) => format!("float{}", 8 * size),
            _ => self.descr.clone(),
        };
        format!("{kind} {:?}", self.shape)
    }

    /// The bytes of the array. A false length allocates no memory.
    fn values(&self, reader: &mut impl Read) -> Result<Vec<u8>, InputError> {
        let expected = self.bytes().ok_or_else(|| InputError::Arrays(format!("is {}", self.shown())))?;
        let mut values = Vec::new();
        reader.take(expected as u64).read_to_end(&mut values)?;
        match values.len() == expected {
            true => Ok(values),
            false => Err(InputError::Arrays(format!(
                "is cut off: {} of {expected} bytes are there",
                values.len()
            ))),
        }
    }

    /// Its values as class numbers of `count` images.
    fn labels(&self, bytes: &[u8], count: usize) -> Result<Vec<u64>, InputError> {
        let wrong =
            || InputError::Arrays(format!("is {}, expected [{count}] class numbers from 0", self.shown()));
        let (kind, size) = self.kind().ok_or_else(wrong)?;
        if self.shape != [count] || !matches!(kind, 'u' | 'i') || !matches!(size, 1 | 2 | 4 | 8) {
            return Err(wrong());
        }
        self.integers(bytes).map(|number| number.ok_or_else(wrong)).collect()
    }

    /// Its values as texts, such as names of classes.
    fn texts(&self, bytes: &[u8]) -> Result<Vec<String>, InputError> {
        let wrong = || InputError::Arrays(format!("is {}, expected a list of texts", self.shown()));
        let decode = |bytes: &[u8]| match self.kind() {
            Some(('U', _)) => {
                let (codes, _) = bytes.as_chunks::<4>();
                let codes = codes.iter().map(|code| match self.descr.starts_with('>') {
                    true => u32::from_be_bytes(*code),
                    false => u32::from_le_bytes(*code),
                });
                codes.map(char::from_u32).collect::<Option<String>>()
            }
            Some(('S', _)) => String::from_utf8(bytes.to_vec()).ok(),
            _ => None,
        };
        match (&self.shape[..], self.kind()) {
            ([_] | [], Some((_, size @ 1..))) => {
                let texts =
                    bytes.chunks(size).map(|text| Some(decode(text)?.trim_end_matches('\0').to_owned()));
                texts.collect::<Option<_>>().ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(descr: &str, fortran: bool, shape: &[usize]) -> Header {
        Header { descr: descr.to_owned(), fortran, shape: shape.to_vec() }
    }

    #[test]
    fn headers_as_numpy_writes_them() {
        let parse = |text| Header::parse(text);
        let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4, 5), }   \n";
        assert_eq!(parse(text), Some(header("|u1", false, &[3, 4, 5])));
        let text = "{'descr': '<U7', 'fortran_order': True, 'shape': (4,), }\n";
        assert_eq!(parse(text), Some(header("<U7", true, &[4])));
        let text = "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (), }\n";
        assert_eq!(parse(text), Some(header("a structure", false, &[])));
        for text in ["", "{'descr': '|u1'}", "{'descr': '|u1', 'fortran_order': False, 'shape': (-3,), }"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(!header("|u1", false, &[usize::MAX, 4, 5]).is_image(256));
    }

    #[test]
    fn the_order_of_axes_is_that_of_the_header() {
        // Value = 100 image + 10 row + column.
        let array = |fortran, values: [u8; 8]| {
            ImageArray::new(&header("|u1", fortran, &[2, 2, 2]), values.to_vec(), 256, None, None).unwrap()
        };
        for array in [
            array(false, [0, 1, 10, 11, 100, 101, 110, 111]),
            array(true, [0, 100, 10, 110, 1, 101, 11, 111]),
        ] {
            assert_eq!(array.image(1).levels(1), [100, 101, 110, 111]);
        }
    }

    #[test]
    fn labels_of_any_integer_type() {
        for (descr, bytes) in
            [("|u1", &[1, 200][..]), ("<i2", &[1, 0, 200, 0]), (">i4", &[0, 0, 0, 1, 0, 0, 0, 200])]
        {
            assert_eq!(header(descr, false, &[2]).labels(bytes, 2).unwrap(), [1, 200]);
        }
        assert!(header("|i1", false, &[2]).labels(&[1, 200], 2).is_err(), "it is negative");
        assert!(header("|u1", false, &[2]).labels(&[1, 200], 3).is_err());
        assert!(header("<f4", false, &[1]).labels(&[0; 4], 1).is_err());
    }
}
