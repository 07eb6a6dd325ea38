//! One picture for all images: a grid; of completions, a row an image.

use anyhow::{Context, Result};

use crate::output::frame::Frame;
use crate::output::grid::Grid;
use crate::output::{Image, shades};

use super::{Item, Series};

/// Bytes of a picture, at most.
const LIMIT: usize = 1 << 30;

/// A grid in the making.
pub struct Sheet {
    grid: Grid,
    series: Series,
    frame: Frame,
}

impl Sheet {
    /// An empty sheet; fails where it would take too much memory.
    pub fn new(series: &Series, frame: &Frame) -> Result<Self> {
        series.check_picture()?;
        let size = series.shape().size().and_then(|size| frame.size(size));
        let bytes =
            size.map(|(width, height)| width.saturating_mul(height).saturating_mul(series.grid_channels()));
        let fits = bytes.is_some_and(|bytes| bytes <= LIMIT);
        let grid = fits.then(|| series.grid()).flatten().with_context(|| {
            let count = series.count();
            let smaller = if frame.scale() > 1 { "a smaller --scale, " } else { "" };
            format!(
                "a grid of {count} images would take more than 1 GiB (use {smaller}--each DIR, or -o FILE.npz)"
            )
        })?;
        Ok(Self { grid, series: series.clone(), frame: frame.clone() })
    }

    /// Takes an image, `[H, W, C]` levels.
    pub fn put(&mut self, item: &Item, levels: &[u16]) {
        let shades = shades(levels, self.series.levels);
        self.place(self.series.position(item.index), item.size.0, self.series.channels, &shades);
    }

    /// Puts shades `[H, W, C]` into the cell of a position.
    pub fn place(&mut self, position: usize, width: usize, channels: usize, shades: &[u8]) {
        self.grid.place_smaller(position, width, channels, shades);
    }

    /// See [`Frame::scale`].
    pub fn scale(&self) -> usize {
        self.frame.scale()
    }

    /// The picture of all.
    pub fn image(&self) -> Image {
        self.frame.picture(self.grid.image())
    }
}
