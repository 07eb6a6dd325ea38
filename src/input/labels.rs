//! A table of classes: a CSV file with the columns `path` and `class`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{InputError, Item, shown};

/// The classes of images by their paths.
#[derive(Debug)]
pub struct Labels {
    by_name: HashMap<String, String>,
    by_file: HashMap<PathBuf, String>,
}

impl Labels {
    /// Reads a table. Its paths are taken as they are, or from the folder that the table is in.
    ///
    /// # Errors
    /// [`InputError::Arrays`] if it is no such table.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let wrong =
            |error: csv::Error| InputError::Arrays(format!("cannot be read as a CSV file: {error}"));
        let mut reader = csv::Reader::from_reader(fs::File::open(path)?);
        let headers = reader.byte_headers().map_err(wrong)?.clone();
        let column = |name: &str| {
            let is_it = |header: &[u8]| header.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
            let found = || headers.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
            let expected =
                || format!("expected a first line with the columns path and class, found {}", found());
            headers.iter().position(is_it).ok_or_else(|| InputError::Arrays(expected()))
        };
        let (path_column, class_column) = (column("path")?, column("class")?);
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut labels = Self { by_name: HashMap::new(), by_file: HashMap::new() };
        for row in reader.byte_records() {
            let row = row.map_err(wrong)?;
            let class = String::from_utf8_lossy(&row[class_column]).trim().to_owned();
            let file = PathBuf::from(os_string(&row[path_column]));
            for place in [folder.join(&file), file.clone()] {
                if let Ok(place) = fs::canonicalize(place) {
                    labels.by_file.insert(place, class.clone());
                    break;
                }
            }
            labels.by_name.insert(shown(&file), class);
        }
        Ok(labels)
    }

    /// The class of an image, if the table has it.
    pub fn class(&self, item: &Item) -> Option<&str> {
        let by_name = || self.by_name.get(&item.name());
        let by_file = || match item.array {
            None => self.by_file.get(&fs::canonicalize(&item.path).ok()?),
            Some(_) => None,
        };
        by_name().or_else(by_file).map(String::as_str)
    }
}

#[cfg(unix)]
fn os_string(bytes: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn os_string(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}
