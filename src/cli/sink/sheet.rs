//! One picture for all images: a grid; of completions, a row an image.

use anyhow::{Context, Result};

use crate::output::grid::Grid;
use crate::output::{Image, shades};

use super::{Item, Series};

/// Bytes of a picture, at most.
const LIMIT: usize = 1 << 30;

/// A grid in the making.
pub struct Sheet {
    grid: Grid,
    series: Series,
    /// Pixels become squares of so many by so many.
    scale: usize,
}

impl Sheet {
    /// An empty sheet; fails where it would take too much memory.
    pub fn new(series: &Series, scale: usize) -> Result<Self> {
        series.check_picture()?;
        let bytes = |grid: &Grid| grid.image().levels.len().saturating_mul(scale * scale);
        let grid = series.grid().filter(|grid| bytes(grid) <= LIMIT).with_context(|| {
            let count = series.count();
            format!("a grid of {count} images would take more than 1 GiB (use --each DIR, or -o FILE.npz)")
        })?;
        Ok(Self { grid, series: series.clone(), scale })
    }

    /// Takes an image, `[H, W, C]` levels.
    pub fn put(&mut self, item: &Item, levels: &[u16]) {
        self.place(self.series.position(item.index), item.size.0, &shades(levels, self.series.levels));
    }

    /// Puts shades `[H, W, C]` into the cell of a position.
    pub fn place(&mut self, position: usize, width: usize, shades: &[u8]) {
        self.grid.place_smaller(position, width, shades);
    }

    /// The picture of all.
    pub fn image(&self) -> Image {
        self.grid.image().enlarged(self.scale)
    }
}
