//! The table of `--scores`: how likely the model finds each of its own images.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::output::{self, NewFile, OutputError};

/// A table that grows as images are drawn.
pub struct Scores {
    path: PathBuf,
    table: csv::Writer<NewFile>,
    sum: f64,
    count: usize,
    /// The index after that of the last row.
    next: u64,
}

impl Scores {
    /// Begins it, if it is asked for.
    pub fn begin(path: Option<&Path>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        output::check(path, "csv")?;
        let mut table = csv::Writer::from_writer(NewFile::create(path)?);
        table.write_record(["index", "class", "bits_per_dim", "file"]).map_err(|e| failed(path, e))?;
        Ok(Some(Self { path: path.to_owned(), table, sum: 0.0, count: 0, next: 0 }))
    }

    /// Adds an image; one that is drawn again has its row already.
    pub fn put(&mut self, index: u64, class: Option<&str>, bits_per_dim: f64, file: &Path) -> Result<()> {
        if index < self.next {
            return Ok(());
        }
        self.next = index + 1;
        let (index, bits, file) = (index.to_string(), format!("{bits_per_dim:.6}"), file.to_string_lossy());
        let row = [&*index, class.unwrap_or(""), &*bits, &*file];
        self.table.write_record(row).map_err(|e| failed(&self.path, e))?;
        self.sum += bits_per_dim;
        self.count += 1;
        Ok(())
    }

    /// The mean of all images.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// Gives the file its name.
    pub fn finish(self) -> Result<()> {
        let Self { path, table, .. } = self;
        let file = table.into_inner().map_err(|e| io::Error::new(e.error().kind(), e.to_string()));
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(file.finish()?)
    }
}

fn failed(path: &Path, error: csv::Error) -> OutputError {
    OutputError::Io { path: path.to_owned(), source: error.into() }
}
