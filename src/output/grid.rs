//! Many small images as one: a near-square grid with 1-pixel gaps.

use super::Image;

/// Level of the gaps: neither the black of most backgrounds nor the white of most strokes.
const GAP: u8 = 96;

/// A picture of at most this many bytes is made; more belongs into files of their own.
const LIMIT: usize = 1 << 30;

/// A grid that fills up image by image.
#[derive(Debug)]
pub struct Grid {
    columns: usize,
    width: usize,
    height: usize,
    image: Image,
}

impl Grid {
    /// An empty grid for `count` images of a size, or nothing if the picture would be over 1 GiB.
    pub fn new(count: usize, width: usize, height: usize, channels: usize) -> Option<Self> {
        let (cell_width, cell_height) = (width + 1, height + 1);
        // As many columns as make the picture, not the count, as wide as high.
        let columns = (count as f64 * cell_height as f64 / cell_width as f64).sqrt().ceil() as usize;
        let columns = columns.clamp(1, count);
        let full_width = columns.checked_mul(cell_width)? - 1;
        let full_height = count.div_ceil(columns).checked_mul(cell_height)? - 1;
        let bytes = full_width.checked_mul(full_height)?.checked_mul(channels)?;
        let levels = (bytes <= LIMIT).then(|| vec![GAP; bytes])?;
        let image = Image { width: full_width, height: full_height, channels, levels };
        Some(Self { columns, width, height, image })
    }

    /// Puts the image of a position, counted along the rows, in its place: `[height, width, channels]`.
    pub fn place(&mut self, position: usize, levels: &[u8]) {
        let Image { width, channels, .. } = self.image;
        let left = position % self.columns * (self.width + 1);
        let top = position / self.columns * (self.height + 1);
        for (row, levels) in levels.chunks(self.width * channels).enumerate() {
            let start = ((top + row) * width + left) * channels;
            self.image.levels[start..start + levels.len()].copy_from_slice(levels);
        }
    }

    /// The picture.
    pub fn into_image(self) -> Image {
        self.image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_near_square() {
        let size = |count, width, height| {
            let image = Grid::new(count, width, height, 1).unwrap().into_image();
            (image.width, image.height)
        };
        assert_eq!(size(1, 28, 28), (28, 28));
        assert_eq!(size(2, 28, 28), (57, 28));
        assert_eq!(size(10, 28, 28), (4 * 29 - 1, 3 * 29 - 1));
        assert_eq!(size(64, 28, 28), (8 * 29 - 1, 8 * 29 - 1));
        // Images twice as wide as high: fewer columns than rows.
        assert_eq!(size(8, 31, 15), (2 * 32 - 1, 4 * 16 - 1));
        assert!(Grid::new(usize::MAX, 28, 28, 3).is_none());
        assert!(Grid::new(5_000_000, 28, 28, 1).is_none());
    }

    #[test]
    fn images_stand_in_their_cells() {
        let mut grid = Grid::new(3, 2, 1, 1).unwrap();
        for (position, levels) in [[1, 2], [3, 4], [5, 6]].iter().enumerate() {
            grid.place(position, levels);
        }
        let g = GAP;
        let expected = [1, 2, g, 3, 4, g, g, g, g, g, 5, 6, g, g, g];
        assert_eq!(grid.into_image().levels, expected);
    }
}
