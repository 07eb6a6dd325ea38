//! A table of classes: a CSV file with the path of an image and its class in a line.

use std::collections::hash_map::{Entry, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use super::{InputError, Item, as_text, shown, walk};

/// Names of the columns, in any case.
const PATH: [&str; 4] = ["path", "file", "filename", "image"];
const CLASS: [&str; 2] = ["class", "label"];

/// The classes of images.
#[derive(Debug)]
pub struct Labels {
    rows: Vec<Row>,
    /// The row of each image, as an index.
    of_items: Vec<Option<usize>>,
    /// The number of entries that matched, by the way they did.
    pub matched: Matched,
}

/// Numbers of images and rows that match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Images with a row.
    pub images: usize,
    /// Those of them whose rows have other folders: they match by their base names alone.
    pub by_base_name: usize,
    /// Rows.
    pub rows: usize,
    /// Rows that match no image.
    pub unused: usize,
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    line: u64,
    path: PathBuf,
    class: String,
}

/// A file as the system knows it; and which image of it, if it is an array.
type Place = (PathBuf, Option<usize>);

impl Labels {
    /// Reads a table, and finds the rows of images. A path is taken from the folder of the table, from the current one,
    /// and from `folders`, with either slash. If there is no such file, the image is taken whose path ends with it, or
    /// else the one of that base name.
    ///
    /// # Errors
    /// [`InputError::Arrays`] if it is no such table, matches no image, gives an image two classes, or has a row that
    /// several images match.
    pub fn read(path: &Path, folders: &[&Path], items: &[Item]) -> Result<Self, InputError> {
        let rows = read_rows(path)?;
        let beside = path.parent().unwrap_or(Path::new(""));
        let mut bases = vec![beside, Path::new("")];
        bases.extend(folders);
        let mut labels = Self { rows, of_items: vec![None; items.len()], matched: Matched::default() };
        labels.refuse_twins()?;

        let mut by_place: HashMap<Place, Vec<usize>> = HashMap::new();
        for (i, item) in items.iter().enumerate() {
            if let Some(place) = place_of(item) {
                by_place.entry(place).or_default().push(i);
            }
        }
        let mut is_used = vec![false; labels.rows.len()];
        let mut rest = Vec::new();
        for (row, is_used) in is_used.iter_mut().enumerate() {
            let places = labels.rows[row].places(&bases);
            for item in places.iter().filter_map(|place| by_place.get(place)).flatten() {
                labels.give(*item, row)?;
                *is_used = true;
            }
            if places.is_empty() {
                rest.push(row);
            }
        }
        labels.match_names(items, &rest, &mut is_used)?;
        labels.matched.images = labels.of_items.iter().flatten().count();
        labels.matched.rows = labels.rows.len();
        labels.matched.unused = is_used.iter().filter(|is_used| !**is_used).count();
        labels.refuse_strangers(items)?;
        Ok(labels)
    }

    /// Matches the rows of files that are not there: by whole paths first, then by base names.
    fn match_names(
        &mut self,
        items: &[Item],
        rest: &[usize],
        is_used: &mut [bool],
    ) -> Result<(), InputError> {
        let spelled: Vec<_> = items.iter().map(|item| format!("/{}", spelled(&item.name()))).collect();
        let mut by_base_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, path) in spelled.iter().enumerate() {
            by_base_name.entry(base_name(path)).or_default().push(i);
        }
        for is_whole in [true, false] {
            let were_free: Vec<_> = self.of_items.iter().map(Option::is_none).collect();
            for &row in rest.iter().filter(|&&row| is_whole || !is_used[row]).collect::<Vec<_>>() {
                let path = self.rows[row].spelled();
                let ending = format!("/{}", if is_whole { &path } else { base_name(&path) });
                let named = by_base_name.get(base_name(&path)).into_iter().flatten().copied();
                let named: Vec<_> = named.filter(|&item| spelled[item].ends_with(&ending)).collect();
                match named[..] {
                    [item] if were_free[item] => {
                        let is_new = self.of_items[item].is_none();
                        self.give(item, row)?;
                        is_used[row] = true;
                        self.matched.by_base_name += usize::from(!is_whole && path.contains('/') && is_new);
                    }
                    [first, second, ..] if !is_whole && named.iter().any(|&item| were_free[item]) => {
                        return Err(InputError::Arrays(format!(
                            "line {} has {}, and several images have that name: {} and {} (give more of the path)",
                            self.rows[row].line,
                            shown(&self.rows[row].path),
                            items[first].name(),
                            items[second].name()
                        )));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn give(&mut self, item: usize, row: usize) -> Result<(), InputError> {
        match self.of_items[item] {
            Some(first) if self.rows[first].class != self.rows[row].class => {
                Err(two_classes(&self.rows[first], &self.rows[row]))
            }
            Some(_) => Ok(()),
            None => {
                self.of_items[item] = Some(row);
                Ok(())
            }
        }
    }

    /// Refuses a path with two classes, whether there is an image or not.
    fn refuse_twins(&self) -> Result<(), InputError> {
        let mut by_path = HashMap::new();
        for row in &self.rows {
            match by_path.entry(row.spelled()) {
                Entry::Vacant(entry) => _ = entry.insert(row),
                Entry::Occupied(entry) if entry.get().class != row.class => {
                    return Err(two_classes(entry.get(), row));
                }
                Entry::Occupied(_) => {}
            }
        }
        Ok(())
    }

    /// Refuses a table of none of the images.
    fn refuse_strangers(&self, items: &[Item]) -> Result<(), InputError> {
        match self.nearest(items) {
            None if self.rows.is_empty() => Err(InputError::Arrays("has no rows".to_owned())),
            Some((row, item)) if self.matched.images == 0 => Err(InputError::Arrays(format!(
                "0 of {} rows match an image; nearest: line {} has {:?}, and an image is {item:?} (paths are taken from \
                 the folder of the table, from the current one, and from the folders of images)",
                self.rows.len(),
                row.line,
                shown(&row.path)
            ))),
            _ => Ok(()),
        }
    }

    /// The class of an image by its index, and the line that has it, if one does.
    pub fn class(&self, item: usize) -> Option<(&str, u64)> {
        let row = &self.rows[self.of_items[item]?];
        Some((&row.class, row.line))
    }

    /// The row and the image whose paths have the most in common from their ends on, among the first ones.
    fn nearest(&self, items: &[Item]) -> Option<(&Row, String)> {
        const LOOKED_AT: usize = 100;
        let reversed = |path: &str| spelled(path).to_lowercase().chars().rev().collect::<Vec<_>>();
        let common =
            |a: &str, b: &str| reversed(a).iter().zip(&reversed(b)).take_while(|(a, b)| a == b).count();
        let pairs = self
            .rows
            .iter()
            .take(LOOKED_AT)
            .flat_map(|row| items.iter().take(LOOKED_AT).map(move |item| (row, item.name())));
        // The first of several.
        pairs.rev().max_by_key(|(row, item)| common(&row.spelled(), item))
    }
}

impl Row {
    /// The files that its path can mean, of those that exist.
    fn places(&self, bases: &[&Path]) -> Vec<Place> {
        let with_slashes = PathBuf::from(self.path.to_string_lossy().replace('\\', "/"));
        let is_other = with_slashes != self.path;
        let paths = [Some(&self.path), Some(&with_slashes).filter(|_| is_other)];
        let paths = paths.into_iter().flatten();
        paths.flat_map(|path| bases.iter().filter_map(move |base| place(&base.join(path)))).collect()
    }

    fn spelled(&self) -> String {
        spelled(&as_text(self.path.as_os_str()))
    }
}

fn two_classes(first: &Row, second: &Row) -> InputError {
    let told = |row: &Row| format!("line {} has {} as {}", row.line, shown(&row.path), row.class);
    InputError::Arrays(format!("gives an image two classes: {}, and {}", told(first), told(second)))
}

/// The rows of a table. Its first line names the columns, unless it begins with an image.
fn read_rows(path: &Path) -> Result<Vec<Row>, InputError> {
    let wrong = |error: csv::Error| InputError::Arrays(format!("cannot be read as a CSV file: {error}"));
    let file = fs::File::open(path)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(file);
    let mut columns = None;
    let mut rows = Vec::new();
    for record in reader.byte_records() {
        let record = record.map_err(wrong)?;
        let (path, class) = match columns {
            Some(columns) => columns,
            None => {
                let is_row = names_image(record.get(0).unwrap_or_default());
                columns = Some(if is_row { columns_of_row(&record)? } else { columns_by_name(&record)? });
                if !is_row {
                    continue;
                }
                (0, 1)
            }
        };
        rows.push(Row {
            line: record.position().map_or(0, csv::Position::line),
            path: PathBuf::from(os_string(record[path].trim_ascii())),
            class: String::from_utf8_lossy(&record[class]).trim().to_owned(),
        });
    }
    Ok(rows)
}

/// True for the path of an image, or of one in an array.
fn names_image(cell: &[u8]) -> bool {
    let text = String::from_utf8_lossy(cell.trim_ascii()).to_lowercase();
    let is_in_array = |(file, _): (&str, &str)| file.ends_with(".npz") || file.ends_with(".npy");
    walk::has_suffix(Path::new(&text)) || text.rsplit_once('#').is_some_and(is_in_array)
}

fn columns_of_row(first: &csv::ByteRecord) -> Result<(usize, usize), InputError> {
    match first.len() {
        2 => Ok((0, 1)),
        count => Err(InputError::Arrays(format!(
            "has {count} columns and no names of them: expected two, the path and the class, or a first line with the \
             columns path and class, found {}",
            line(first)
        ))),
    }
}

fn columns_by_name(header: &csv::ByteRecord) -> Result<(usize, usize), InputError> {
    let column = |names: &[&str]| {
        let is_it =
            |cell: &[u8]| names.iter().any(|name| cell.trim_ascii().eq_ignore_ascii_case(name.as_bytes()));
        let mut found = (0..header.len()).filter(|&at| is_it(&header[at]));
        let told = |what: &str| InputError::Arrays(format!("expected {what}, found {}", line(header)));
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(told(
                "a first line with the columns path and class, or a path and a class in each line",
            )),
            (Some(_), Some(_)) => Err(told(&format!("a first line with one column {}", names[0]))),
        }
    };
    Ok((column(&PATH)?, column(&CLASS)?))
}

fn line(record: &csv::ByteRecord) -> String {
    record.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",")
}

/// A path as it is compared: with one kind of slash, and one spelling of accents.
fn spelled(path: &str) -> String {
    path.trim().replace('\\', "/").trim_start_matches("./").nfc().collect()
}

/// The part of a path after its last slash.
fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
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
