//! Input images: their files, classes and pixels.
//!
//! [`find`] turns arguments (images, folders, arrays) into an ordered list of [`Item`]s, and gives the
//! reason for everything that it passes over. Pixels are decoded on demand. Training in Python follows the
//! same rules; a test gives both the same files.

mod arrays;
mod decode;
mod labels;
mod planes;
mod resize;
mod walk;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;

use arrays::ImageArray;
pub use arrays::Levels;
pub use decode::{Pixels, decode};
pub use labels::{Labels, Matched};
pub use resize::fitted;
pub use walk::{images_in, is_hidden};

/// Arguments of [`find`].
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Images, folders of images, `.npz` and `.npy` files.
    pub paths: &'a [PathBuf],
    /// Recurse into folders.
    pub recursive: bool,
    /// Name of the array of an `.npz` that holds the images, if there are several.
    pub array: Option<&'a str>,
    /// Levels of a channel: arrays of other than 256 hold them as whole numbers.
    pub levels: usize,
}

/// Result of [`find`].
#[derive(Debug, Default)]
pub struct Found {
    /// The images, in the order given; those of a folder by name.
    pub items: Vec<Item>,
    /// Named files, and files with the name of an image, that cannot be used.
    pub passed_over: Vec<PassedOver>,
    /// Other entries of folders.
    pub left_out: LeftOut,
}

/// An unusable file, and the reason.
#[derive(Debug)]
pub struct PassedOver {
    /// See [`Item::name`].
    pub name: String,
    /// The reason; as text, a sentence whose subject is the name.
    pub error: InputError,
}

/// Number of folder entries that are not meant to be images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Hidden files and folders; a folder with its contents counts as one.
    pub hidden: usize,
    /// Files whose names do not end like those of images.
    pub others: usize,
    /// Sub-folders, where a request is not recursive.
    pub folders: usize,
}

/// An image: a file, or one of an array.
#[derive(Clone, Debug)]
pub struct Item {
    /// Index of the request's path that it comes from.
    pub root: usize,
    path: PathBuf,
    /// Sub-folders that it lies in, outermost first, below the folder that was named.
    folders: Vec<OsString>,
    /// The name of the folder that was named, or that the named file lies in.
    around: Option<OsString>,
    array: Option<(Arc<ImageArray>, usize)>,
}

/// The reason why an image cannot be used. As text, a sentence whose subject is the file.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The system refused.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A link that leads nowhere.
    #[error("is a link to {}, which is not there", shown(.0))]
    DanglingLink(PathBuf),
    /// A link to a folder that the link itself lies in.
    #[error("is a link back to {}, in which it lies", shown(.0))]
    Loop(PathBuf),
    /// A pipe, a device, a socket.
    #[error("is no ordinary file")]
    Special,
    /// A folder without images.
    #[error("has no images: expected files that end in {}", walk::SUFFIXES.join(", "))]
    Empty,
    /// No known image format.
    #[error("is no image of a kind that can be read (PNG, JPEG, WebP, GIF, BMP, TIFF, PNM)")]
    Unknown,
    /// The decoder's complaint.
    #[error("is broken or cut off: {0}")]
    Broken(String),
    /// A variant of its format that is not read.
    #[error("is of a kind that is not supported: {0}")]
    Unsupported(String),
    /// Samples of 16 bits, or floats.
    #[error("has more than 8 bits per channel (convert it to 8)")]
    Deep,
    /// Colours for print.
    #[error("has CMYK colours; convert it to RGB first")]
    Cmyk,
    /// Width and height.
    #[error("is {0}x{1}, which is more than {max} pixels", max = decode::MOST_PIXELS)]
    Large(u32, u32),
    /// An `.npz` with several arrays of images, none of them requested: their names.
    #[error("holds several arrays of images: {}", .0.join(", "))]
    SeveralArrays(Vec<String>),
    /// A fault of an `.npz`, an `.npy`, or a table of labels.
    #[error("{0}")]
    Arrays(String),
}

/// Finds the requested images.
pub fn find(request: &Request) -> Found {
    let mut found = Found::default();
    for (root, path) in request.paths.iter().enumerate() {
        let before = found.items.len();
        if let Err(error) = found.add(path, request) {
            found.pass_over(path, error);
        }
        let around = surrounding(path);
        for item in &mut found.items[before..] {
            item.root = root;
            item.around.clone_from(&around);
        }
    }
    found
}

impl Found {
    fn add(&mut self, path: &Path, request: &Request) -> Result<(), InputError> {
        if path.is_dir() {
            return walk::walk(path, request.recursive, self);
        }
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        if extension == "npz" || extension == "npy" {
            let array = Arc::new(arrays::read(path, request.array, request.levels)?);
            let item =
                |index| Item { array: Some((Arc::clone(&array), index)), ..Item::new(path.to_owned()) };
            self.items.extend((0..array.count()).map(item));
        } else {
            self.items.push(Item::new(path.to_owned()));
        }
        Ok(())
    }

    fn pass_over(&mut self, path: &Path, error: InputError) {
        self.passed_over.push(PassedOver { name: shown(path), error });
    }
}

impl Item {
    fn new(path: PathBuf) -> Self {
        Self { root: 0, path, folders: vec![], around: None, array: None }
    }

    /// Its path, with `#` and its index if it is one of an array.
    pub fn name(&self) -> String {
        match &self.array {
            None => shown(&self.path),
            Some((_, index)) => format!("{}#{index}", shown(&self.path)),
        }
    }

    /// Its file, or that of its array.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Index of its class in `classes`, by the label beside its array, or by the outermost sub-folder with
    /// the name of a class; `None` if neither tells.
    ///
    /// # Errors
    /// [`InputError::Arrays`] if its label is none of `classes`.
    pub fn class(&self, classes: &[String]) -> Result<Option<usize>, InputError> {
        match &self.array {
            Some((array, index)) => array.class(*index, classes),
            None => Ok(self.folders.iter().find_map(|folder| class_named(&as_text(folder), classes))),
        }
    }

    /// Its levels, if it is one of an array.
    pub fn levels(&self) -> Option<Levels> {
        self.array.as_ref().map(|(array, index)| array.levels(*index))
    }

    /// Its pixels, upright; and true if this program drew it, as its file says.
    ///
    /// # Errors
    /// A defect of the file.
    pub fn pixels(&self) -> Result<(Pixels, bool), InputError> {
        match &self.array {
            Some((array, index)) => Ok((array.image(*index), array.is_drawn())),
            None => {
                let bytes =
                    fs::read(&self.path).map_err(|error| walk::why_unreadable(&self.path, error))?;
                Ok((decode(&bytes)?, decode::is_drawn(&bytes)))
            }
        }
    }
}

/// The class of each image as [`Item::class`] has it. If that tells none of a path of the request, a folder that was named
/// can be that of a class itself, or the folder that a named file lies in.
pub fn classes(items: &[Item], classes: &[String]) -> Vec<Result<Option<usize>, InputError>> {
    let mut of_items: Vec<_> = items.iter().map(|item| item.class(classes)).collect();
    let is_told = |(item, class): (&Item, &Result<_, _>)| (!matches!(class, Ok(None))).then_some(item.root);
    let told: HashSet<_> = items.iter().zip(&of_items).filter_map(is_told).collect();
    for (item, class) in items.iter().zip(&mut of_items) {
        if !told.contains(&item.root) && item.array.is_none() {
            *class = Ok(item.around.as_ref().and_then(|folder| class_named(&as_text(folder), classes)));
        }
    }
    of_items
}

/// The name of a folder, or of the one that a file lies in.
fn surrounding(path: &Path) -> Option<OsString> {
    let folder = if path.is_dir() { path } else { path.parent()? };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let absolute = std::path::absolute(folder).ok()?;
    // After `..` it has no name.
    let named = if absolute.file_name().is_some() { absolute } else { fs::canonicalize(folder).ok()? };
    named.file_name().map(OsStr::to_owned)
}

/// The class of this name. Accents can be spelled in two ways that look the same, and systems differ in which
/// they make of a folder's name.
pub fn class_named(name: &str, classes: &[String]) -> Option<usize> {
    let by_look = || classes.iter().position(|class| class.nfc().eq(name.nfc()));
    classes.iter().position(|class| class == name).or_else(by_look)
}

/// A path as text of one line: bytes that are not UTF-8, and control characters, are escaped.
pub fn shown(path: &Path) -> String {
    let escape = |c: char| match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c if c.is_control() => format!("\\x{:02x}", u32::from(c)),
        c => c.to_string(),
    };
    as_text(path.as_os_str()).chars().map(escape).collect()
}

/// A name of the system as text: bytes that are not UTF-8 are escaped.
fn as_text(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_the_same_in_either_spelling_of_accents() {
        let classes = ["cr\u{e8}me", "cafe\u{301}", "caf\u{e9}"].map(String::from);
        let mut item = Item::new("x.png".into());
        let mut class_in = |folders: &[&str]| {
            item.folders = folders.iter().map(Into::into).collect();
            item.class(&classes).unwrap()
        };
        assert_eq!(class_in(&["test", "cre\u{300}me", "caf\u{e9}"]), Some(0));
        assert_eq!((class_in(&["cafe\u{301}"]), class_in(&["caf\u{e9}"])), (Some(1), Some(2)));
        assert_eq!((class_in(&["cafe"]), class_in(&[])), (None, None));
    }

    #[test]
    fn paths_are_shown_in_one_line() {
        assert_eq!(shown(Path::new("a b/ü, \"x\".png")), "a b/ü, \"x\".png");
        assert_eq!(shown(Path::new("a\nb\u{1b}.png")), "a\\nb\\x1b.png");
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            assert_eq!(shown(Path::new(std::ffi::OsStr::from_bytes(b"x\xff.png"))), "x\\xff.png");
        }
    }
}
