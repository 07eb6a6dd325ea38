//! A table of classes: a CSV file with the columns `path` and `class`.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{InputError, Item, shown};

/// The classes of images by their paths.
#[derive(Debug)]
pub struct Labels {
    rows: Vec<Row>,
    by_place: HashMap<Place, usize>,
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    line: u64,
    path: String,
    class: String,
    places: Vec<Place>,
}

/// A file as the system knows it, or its name if it is not there; and which image of it, if it is an array.
type Place = (PathBuf, Option<usize>);

impl Labels {
    /// Reads a table. Its paths are taken as they are, and from the folder that the table is in.
    ///
    /// # Errors
    /// [`InputError::Arrays`] if it is no such table, or gives an image two classes.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let wrong =
            |error: csv::Error| InputError::Arrays(format!("cannot be read as a CSV file: {error}"));
        let mut reader = csv::Reader::from_reader(fs::File::open(path)?);
        let headers = reader.byte_headers().map_err(wrong)?.clone();
        let column = |name: &str| {
            let is_it = |header: &[u8]| header.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
            let mut found = (0..headers.len()).filter(|&at| is_it(&headers[at]));
            let told = |what: &str| {
                let line = headers.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
                InputError::Arrays(format!("expected a first line with {what}, found {line}"))
            };
            match (found.next(), found.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => Err(told("the columns path and class")),
                (Some(_), Some(_)) => Err(told(&format!("one column {name}"))),
            }
        };
        let (path_column, class_column) = (column("path")?, column("class")?);
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut labels = Self { rows: Vec::new(), by_place: HashMap::new() };
        for row in reader.byte_records() {
            let row = row.map_err(wrong)?;
            let line = row.position().map_or(0, csv::Position::line);
            let class = String::from_utf8_lossy(&row[class_column]).trim().to_owned();
            let file = PathBuf::from(os_string(&row[path_column]));
            let mut places: Vec<_> =
                [&folder.join(&file), &file].into_iter().filter_map(|path| place(path)).collect();
            if places.is_empty() {
                // No image has this path, but it may not occur twice with two classes either.
                places.push((file.clone(), None));
            }
            labels.add(Row { line, path: shown(&file), class, places })?;
        }
        Ok(labels)
    }

    fn add(&mut self, row: Row) -> Result<(), InputError> {
        for place in &row.places {
            match self.by_place.entry(place.clone()) {
                Entry::Vacant(entry) => _ = entry.insert(self.rows.len()),
                Entry::Occupied(entry) => match self.rows.get(*entry.get()) {
                    Some(first) if first.class != row.class => {
                        return Err(InputError::Arrays(format!(
                            "gives an image two classes: line {} has {} as {}, and line {} has {} as {}",
                            first.line, first.path, first.class, row.line, row.path, row.class
                        )));
                    }
                    // The same class again, or this row's own entry.
                    _ => {}
                },
            }
        }
        self.rows.push(row);
        Ok(())
    }

    /// The class of an image, if the table has it.
    pub fn class(&self, item: &Item) -> Option<&str> {
        let row = *self.by_place.get(&place_of(item)?)?;
        Some(&self.rows[row].class)
    }

    /// Number of rows that match no image, and number of rows.
    ///
    /// # Errors
    /// [`InputError::Arrays`] if there is no row, or none matches any image.
    pub fn unmatched(&self, items: &[Item]) -> Result<(usize, usize), InputError> {
        let places: HashSet<_> = items.iter().filter_map(place_of).collect();
        let is_matched = |row: &&Row| row.places.iter().any(|place| places.contains(place));
        let (matched, all) = (self.rows.iter().filter(is_matched).count(), self.rows.len());
        match self.nearest(items) {
            None if all == 0 => Err(InputError::Arrays("has no rows".to_owned())),
            Some((row, item)) if matched == 0 => Err(InputError::Arrays(format!(
                "0 of {all} rows match an image; nearest: line {} has {:?}, and an image is {item:?} (paths are taken as \
                 they are, or from the folder of the table)",
                row.line, row.path
            ))),
            _ => Ok((all - matched, all)),
        }
    }

    /// The row and the image whose paths have the most in common from their ends on, among the first ones.
    fn nearest(&self, items: &[Item]) -> Option<(&Row, String)> {
        const LOOKED_AT: usize = 100;
        let spelled =
            |path: &str| path.trim().replace('\\', "/").to_lowercase().chars().rev().collect::<Vec<_>>();
        let common =
            |a: &str, b: &str| spelled(a).iter().zip(&spelled(b)).take_while(|(a, b)| a == b).count();
        let pairs = self
            .rows
            .iter()
            .take(LOOKED_AT)
            .flat_map(|row| items.iter().take(LOOKED_AT).map(move |item| (row, item.name())));
        // The first of several.
        pairs.rev().max_by_key(|(row, item)| common(&row.path, item))
    }
}

/// The place that a path of a table names, if it exists: a file, or with `#` and an index an image of an
/// array.
fn place(path: &Path) -> Option<Place> {
    let of_array = || {
        let (file, index) = path.to_str()?.rsplit_once('#')?;
        Some((fs::canonicalize(file).ok()?, Some(index.parse().ok()?)))
    };
    fs::canonicalize(path).ok().map(|file| (file, None)).or_else(of_array)
}

fn place_of(item: &Item) -> Option<Place> {
    Some((fs::canonicalize(&item.path).ok()?, item.array.as_ref().map(|(_, index)| *index)))
}

#[cfg(unix)]
fn os_string(bytes: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn os_string(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}
