//! Damaged files: a reader returns the content or a message. It does not panic, and takes no more memory
//! than the file gives reason to.
//!
//! Inputs are mutations of good files and of `tests/corpus`. An input is mutated further if its answer is
//! new, digits and names aside, or if it runs new code: that leads to the checks behind the checks.
//! `scripts/fuzz` runs this for minutes, with counters of executed code, and adds its finds to the corpus;
//! here it runs for a moment.

use std::collections::HashSet;
use std::fs;
use std::io::{Cursor, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::fuzzing;
use crate::memory::peak_of;
use fastrand::Rng;
use image::{DynamicImage, ImageFormat, RgbImage};
use pixelcnn::internals::graph::pixelcnn_pp;
use pixelcnn::internals::input::{self, Request};
use pixelcnn::internals::model::{Config, Model};
use pixelcnn::internals::output::{Image, png};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Inputs of a target, where no time is given.
const INPUTS: u64 = 3000;
/// Only small files go into the corpus, and only this many.
const SMALL: usize = 4096;
const MOST_FILES: usize = 150;

#[test]
fn models() {
    let read =
        |bytes: &[u8]| Model::from_bytes(bytes, "fuzzed").map(drop).map_err(|error| error.to_string());
    // Copies of a file's tensors and texts, and a list of the parts of an architecture of any size.
    fuzz("model", &model_files(), read, |length| 16 * length + (8 << 20));
}

#[test]
fn images() {
    let read = |bytes: &[u8]| input::decode(bytes).map(drop).map_err(|error| error.to_string());
    // Decoders allow themselves half a GiB, and pixels are copied to be brought into one form.
    fuzz("image", &image_files(), read, |_| 2 << 30);
}

#[test]
fn pictures() {
    let read = |bytes: &[u8]| {
        let mut file = bytes.to_vec();
        correct_sums(&mut file);
        // Names of chunks vary without limit.
        let unnamed = |error: String| error.split("ChunkType").next().unwrap_or_default().to_owned();
        png::decode(&file).map(drop).map_err(|error| unnamed(error.to_string()))
    };
    // The most that a byte can decode to, and the decoder's own limit for texts.
    fuzz("picture", &picture_files(), read, |length| 1100 * length + (80 << 20));
}

#[test]
fn arrays() {
    let folder = tempfile::tempdir().unwrap();
    let path = [folder.path().join("fuzzed.npz")];
    let read = |bytes: &[u8]| {
        fs::write(&path[0], bytes).unwrap();
        let found = input::find(&Request { paths: &path, recursive: false, array: None, levels: 256 });
        match found.passed_over.first() {
            Some(passed_over) => Err(passed_over.error.to_string()),
            None => found
                .items
                .iter()
                .take(2)
                .try_for_each(|item| item.pixels().map(drop).map_err(|error| error.to_string())),
        }
    };
    // Packed data can be a thousand times smaller than its content.
    fuzz("array", &array_files(), read, |length| 2048 * length + (8 << 20));
}

#[test]
fn tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fuzzed.csv");
    let image = [folder.path().join("a.png")];
    fs::write(&image[0], "").unwrap();
    let found = input::find(&Request { paths: &image, recursive: false, array: None, levels: 256 });
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let table = input::Labels::read(&path, &[folder.path()], &found.items);
        table.map(drop).map_err(|error| error.to_string())
    };
    let tables = [
        "path,class\na.png,cat\na.png,cat\nb.png#7,dog\n",
        "\u{feff}Class,path\n\"a, b\",./a.png\r\n\"c\nd\",b\\c.png\r\n",
        "C:\\x\\a.png,cat\n ../a.png,cat\nother/b.png,dog\n",
    ];
    // Rows, each with its places, which are far longer than a cell can be.
    fuzz("table", &tables.map(|table| table.as_bytes().to_vec()), read, |length| 4096 * length + (8 << 20));
}

/// Gives a reader damaged files, until the time is over.
fn fuzz(
    target: &str,
    seeds: &[Vec<u8>],
    read: impl Fn(&[u8]) -> Result<(), String>,
    most_bytes: impl Fn(usize) -> usize,
) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut pool = seeds.to_vec();
    let mut files: Vec<PathBuf> =
        fs::read_dir(&corpus).map_or(vec![], |f| f.map(|f| f.unwrap().path()).collect());
    files.sort();
    pool.extend(files.iter().map(|file| fs::read(file).unwrap()));
    let (mut answers, mut most, mut count, mut reached) = (HashSet::new(), 0, 0, 0);
    let mut judge = |bytes: &[u8]| {
        let (answer, taken) = peak_of(|| catch_unwind(AssertUnwindSafe(|| read(bytes))));
        count += 1;
        most = most.max(taken);
        let problem = match &answer {
            Err(_) => "the reader panicked".to_owned(),
            Ok(Err(error)) if error.len() > 2000 => format!("its message is {} bytes long", error.len()),
            Ok(_) if taken > most_bytes(bytes.len()) => {
                format!("{} bytes take {taken} of memory", bytes.len())
            }
            Ok(answer) => {
                let reached_before = std::mem::replace(&mut reached, coverage::reached());
                return answers.insert(kind(answer)) | (reached > reached_before);
            }
        };
        let file = std::env::temp_dir().join(format!("pixelcnn-fuzz-{target}"));
        fs::write(&file, bytes).unwrap();
        panic!("{target}: {problem}, for {}", file.display());
    };
    for (i, bytes) in pool.iter().enumerate() {
        judge(bytes);
        assert!(i > 0 || read(bytes).is_ok(), "the first seed is a good file");
    }

    let start = Instant::now();
    let mut rng = Rng::with_seed(fuzzing::seed());
    for _ in fuzzing::rounds(INPUTS) {
        let mut bytes = pool[rng.usize(..pool.len())].clone();
        for _ in 0..1 << rng.u32(..4) {
            mutate(&mut bytes, &pool, &mut rng);
        }
        if judge(&bytes) {
            if fuzzing::seconds().is_some() && bytes.len() <= SMALL && files.len() < MOST_FILES {
                fs::create_dir_all(&corpus).unwrap();
                let name = format!(
                    "{:016x}",
                    bytes.iter().fold(14695981039346656037, |hash: u64, byte| {
                        (hash ^ u64::from(*byte)).wrapping_mul(1099511628211)
                    })
                );
                let file = corpus.join(name);
                fs::File::create(&file).unwrap().write_all(&bytes).unwrap();
                files.push(file);
            }
            pool.push(bytes);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (kinds, mebibytes) = (answers.len(), most >> 20);
    println!(
        "{target}: {count} inputs in {seconds:.0} s, {kinds} different answers, {reached} counters of code reached, at \
        most {mebibytes} MiB"
    );
}

/// Counts executed code, if the compiler has put counters into everything linked: `-C instrument-coverage
/// --cfg coverage`.
mod coverage {
    #[cfg(coverage)]
    unsafe extern "C" {
        fn __llvm_profile_begin_counters() -> *const u64;
        fn __llvm_profile_end_counters() -> *const u64;
    }

    /// Number of counters that are not 0; each counts a stretch of code.
    #[cfg(coverage)]
    pub fn reached() -> usize {
        // SAFETY: the runtime's counters lie between these addresses.
        unsafe {
            let (begin, end) = (__llvm_profile_begin_counters(), __llvm_profile_end_counters());
            (0..end.offset_from_unsigned(begin)).filter(|&i| begin.add(i).read_volatile() != 0).count()
        }
    }

    #[cfg(not(coverage))]
    pub fn reached() -> usize {
        0
    }
}

/// An answer without the parts that differ from file to file.
fn kind(answer: &Result<(), String>) -> String {
    let Err(error) = answer else { return "read".to_owned() };
    fuzzing::first_words(error, 8)
}

/// Damages a file, as transfers, disks and enemies do.
fn mutate(bytes: &mut Vec<u8>, pool: &[Vec<u8>], rng: &mut Rng) {
    const NUMBERS: [&str; 12] = [
        "0",
        "-1",
        "1",
        "2",
        "8",
        "64",
        "1e9",
        "4294967296",
        "9223372036854775807",
        "18446744073709551615",
        "NaN",
        "99999999999999999999",
    ];
    if bytes.is_empty() {
        return bytes.extend_from_slice(b"0");
    }
    let at = rng.usize(..bytes.len());
    // Near the start more often, where formats have their headers.
    let at = if rng.bool() { at } else { at.min(rng.usize(..512)) };
    let end = (at + 1 + rng.usize(..64)).min(bytes.len());
    match rng.u8(..9) {
        0 => bytes[at] ^= 1 << rng.u8(..8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.usize(..5)],
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        5 => {
            let other = &pool[rng.usize(..pool.len())];
            let from = rng.usize(..=other.len());
            let part = other[from..(from + 1 + rng.usize(..128)).min(other.len())].to_vec();
            bytes.splice(at..end, part);
        }
        6 => {
            // A number in text.
            let is_digit = |b: &u8| b.is_ascii_digit();
            let start = at + bytes[at..].iter().position(is_digit).unwrap_or(0);
            let length = bytes[start..].iter().take_while(|b| is_digit(b)).count();
            bytes.splice(start..start + length, NUMBERS[rng.usize(..NUMBERS.len())].bytes());
        }
        7 => {
            // A number of four or eight bytes.
            let number =
                [0, 1, rng.u64(..), u64::MAX, bytes.len() as u64, 1 << rng.u8(..64)][rng.usize(..6)];
            let number = if rng.bool() { number.to_le_bytes() } else { number.to_be_bytes() };
            let length = [4, 8][rng.usize(..2)].min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&number[..length]);
        }
        _ => {
            let other = rng.usize(..bytes.len());
            bytes.swap(at, other);
        }
    }
    bytes.truncate(1 << 20);
}

/// Good model files, as small as they can be.
fn model_files() -> Vec<Vec<u8>> {
    let base = Config { height: 4, width: 4, levels: 1, mixtures: 1, ..Config::published(1, 1) };
    let grey = Config { channels: 1, levels: 2, mixtures: 2, ..base.with_classes(&["cat", "dog"]) };
    [base, grey].map(|config| model_file(&config)).to_vec()
}

fn model_file(config: &Config) -> Vec<u8> {
    let tensors = Model::synthetic(config.clone(), 0).tensors;
    assert_eq!(tensors.len(), pixelcnn_pp::graph(config).tensors.len());
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, t)| (name, t.shape, t.data.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(n, s, b)| (n, TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
    let list = |items: &dyn std::fmt::Debug| format!("{items:?}");
    let metadata = [
        ("format", "pixelcnn-1".to_owned()),
        ("family", "pixelcnn++".to_owned()),
        ("channels", config.channels.to_string()),
        ("height", config.height.to_string()),
        ("width", config.width.to_string()),
        ("filters", config.filters.to_string()),
        ("blocks", config.blocks.to_string()),
        ("levels", config.levels.to_string()),
        ("mixtures", config.mixtures.to_string()),
        ("nonlinearity", config.nonlinearity.name().to_owned()),
        ("dilations", list(&config.dilations)),
        ("classes", list(&config.classes)),
    ];
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    safetensors::serialize(views, Some(metadata)).unwrap()
}

/// A small picture in every format.
fn image_files() -> Vec<Vec<u8>> {
    let picture = RgbImage::from_fn(5, 3, |x, y| image::Rgb([50 * x as u8, 80 * y as u8, 7]));
    let mut files = Vec::new();
    for picture in [DynamicImage::from(picture.clone()), DynamicImage::from(picture).into_luma8().into()] {
        use ImageFormat::*;
        for format in [Png, Bmp, Gif, Tiff, WebP, Pnm] {
            let mut file = Cursor::new(Vec::new());
            let picture = if format == Gif { picture.to_rgba8().into() } else { picture.clone() };
            picture.write_to(&mut file, format).unwrap();
            files.push(file.into_inner());
        }
    }
    let jpegs = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images")).unwrap();
    let mut jpegs: Vec<_> = jpegs.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    jpegs.sort();
    files.extend(jpegs);
    files
}

/// Corrects the check sums of a PNG file's chunks, which would otherwise catch all damage first.
fn correct_sums(file: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = file.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let Some(summed) = file.get(at + 4..at + 8 + length) else { return };
        let sum = summed.iter().fold(u32::MAX, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
            })
        });
        at += 8 + length;
        let Some(to) = file.get_mut(at..at + 4) else { return };
        to.copy_from_slice(&(!sum).to_be_bytes());
        at += 4;
    }
}

/// Pictures that say how they were drawn, in text of each kind.
fn picture_files() -> Vec<Vec<u8>> {
    let texts =
        [("seed", "7".to_owned()), ("class", "crème".to_owned()), ("command", "pixelcnn ".repeat(9))];
    let picture = |channels| {
        let levels = (0..5 * 3 * channels as u8).collect();
        let mut file = Vec::new();
        png::encode(&mut file, &Image { width: 5, height: 3, channels, levels }, &texts).unwrap();
        file
    };
    let mut others = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut others, 9, 2);
    encoder.set_color(::png::ColorType::Grayscale);
    encoder.set_depth(::png::BitDepth::One);
    encoder.add_ztxt_chunk("command".to_owned(), "pixelcnn ".repeat(9)).unwrap();
    encoder.write_header().unwrap().write_image_data(&[0x55; 4]).unwrap();
    vec![picture(1), picture(3), others]
}

/// Arrays of NumPy, single and packed.
fn array_files() -> Vec<Vec<u8>> {
    let npy = |descr: &str, shape: &str, data: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend_from_slice(&(header.len() as u16 + 1).to_le_bytes());
        file.extend_from_slice(header.as_bytes());
        file.push(b'\n');
        file.extend_from_slice(data);
        file
    };
    let images = npy("|u1", "(2, 2, 3, 3)", &[9; 36]);
    let labels = npy("<i8", "(2,)", &[0; 16]);
    let about = r#"{"class_names":"{\"0\":\"cat\",\"7\":\"dog\"}","model":"m"}"#;
    let codes: Vec<_> = about.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    let members = [
        ("x.npy", images.clone()),
        ("y.npy", labels.clone()),
        ("classes.npy", npy("<U1", "(2,)", &[97, 0, 0, 0, 98, 0, 0, 0])),
    ];
    let drawn = [
        ("arr_0.npy", images.clone()),
        ("arr_1.npy", labels),
        ("pixelcnn.npy", npy(&format!("<U{}", about.len()), "()", &codes)),
    ];
    let packed = |members: &[(&str, Vec<u8>)], method| {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, data) in members {
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            zip.start_file(*name, options).unwrap();
            zip.write_all(data).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let (stored, deflated) = (zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated);
    vec![packed(&members, stored), packed(&members, deflated), packed(&drawn, stored), images]
}
