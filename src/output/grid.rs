//! Many small images as one, a grid with 1-pixel gaps; and the grid as it is drawn.

use super::Image;
use super::animation::Animation;

/// Level of the gaps: neither the black of most backgrounds nor the white of most strokes.
const GAP: u8 = 96;

/// A picture of at most this many bytes is made; more belongs into files of their own.
const LIMIT: usize = 1 << 30;

/// Pixels that are not drawn yet: a colour that no grey image has.
const UNDRAWN: [u8; 3] = [38, 60, 110];

/// Frames of an animation, about, beside the first.
const FRAMES: usize = 100;

/// Hundredths of a second that a frame is shown, and the last one.
const DELAYS: [u16; 2] = [5, 300];

/// A grid that fills up image by image.
#[derive(Clone, Debug)]
pub struct Grid {
    rows: usize,
    columns: usize,
    /// Whether positions count along the columns.
    by_column: bool,
    width: usize,
    height: usize,
    image: Image,
}

impl Grid {
    /// An empty grid for `count` images of a size, about as wide as high, or nothing if the picture would be over
    /// 1 GiB. Images of `turns` kinds that take turns have a row a kind, one or more times, if there are enough of
    /// them: positions count along the columns then, and else along the rows.
    pub fn new(count: usize, turns: usize, width: usize, height: usize, channels: usize) -> Option<Self> {
        let (cell_width, cell_height) = (width + 1, height + 1);
        // As many columns as make the picture, not the count, as wide as high.
        let columns = (count as f64 * cell_height as f64 / cell_width as f64).sqrt().ceil() as usize;
        let columns = columns.clamp(1, count);
        let rows = count.div_ceil(columns);
        if turns < 2 || turns > rows + rows / 4 {
            return Self::with_columns(columns, count, width, height, channels);
        }
        let rows = (rows / turns).max(1) * turns;
        let grid = Self::empty(rows, count.div_ceil(rows), width, height, channels)?;
        Some(Self { by_column: true, ..grid })
    }

    /// With so many columns; positions count along the rows.
    pub fn with_columns(
        columns: usize,
        count: usize,
        width: usize,
        height: usize,
        channels: usize,
    ) -> Option<Self> {
        Self::empty(count.div_ceil(columns), columns, width, height, channels)
    }

    fn empty(rows: usize, columns: usize, width: usize, height: usize, channels: usize) -> Option<Self> {
        let full_width = columns.checked_mul(width + 1)? - 1;
        let full_height = rows.checked_mul(height + 1)? - 1;
        let bytes = full_width.checked_mul(full_height)?.checked_mul(channels)?;
        let levels = (bytes <= LIMIT).then(|| vec![GAP; bytes])?;
        let image = Image { width: full_width, height: full_height, channels, levels };
        Some(Self { rows, columns, by_column: false, width, height, image })
    }

    /// Puts the image of a position in its place: `[height, width, channels]`.
    pub fn place(&mut self, position: usize, levels: &[u8]) {
        self.place_smaller(position, self.width, levels);
    }

    /// The same for an image that is `width` pixels wide, at the top left of its cell.
    pub fn place_smaller(&mut self, position: usize, width: usize, levels: &[u8]) {
        let channels = self.image.channels;
        for (row, levels) in levels.chunks(width * channels).enumerate() {
            let start = self.pixel(position, row, 0) * channels;
            self.image.levels[start..start + levels.len()].copy_from_slice(levels);
        }
    }

    /// The pixel of the picture where the one of an image is.
    fn pixel(&self, position: usize, row: usize, column: usize) -> usize {
        let (down, across) = match self.by_column {
            true => (position % self.rows, position / self.rows),
            false => (position / self.columns, position % self.columns),
        };
        let (top, left) = (down * (self.height + 1), across * (self.width + 1));
        (top + row) * self.image.width + left + column
    }

    /// The picture.
    pub fn image(&self) -> &Image {
        &self.image
    }
}

/// A grid, and when each of its pixels was drawn.
#[derive(Debug)]
pub struct Drawing {
    grid: Grid,
    /// For each pixel of the picture; 0 from the start.
    steps: Vec<usize>,
}

impl Drawing {
    /// Of a grid to be filled.
    pub fn new(grid: Grid) -> Self {
        Self { steps: vec![0; grid.image.width * grid.image.height], grid }
    }

    /// Puts an image in its place, as [`Grid::place_smaller`]; `step` says when its pixels, in raster order, were
    /// drawn: 0 from the start.
    pub fn place(&mut self, position: usize, width: usize, levels: &[u8], step: impl Fn(usize) -> usize) {
        self.grid.place_smaller(position, width, levels);
        for pixel in 0..levels.len() / self.grid.image.channels {
            let place = self.grid.pixel(position, pixel / width, pixel % width);
            self.steps[place] = step(pixel);
        }
    }

    /// From nothing drawn to the whole picture.
    pub fn animation(&self, scale: usize) -> Animation<impl Fn(usize) -> Image> {
        let mut moments: Vec<_> = self.steps.iter().copied().filter(|&step| step > 0).collect();
        moments.sort_unstable();
        moments.dedup();
        let frames = moments.len().min(FRAMES);
        let frame = move |k: usize| {
            // The last step that frame k shows.
            let until =
                (k * moments.len()).checked_div(frames).filter(|&n| n > 0).map_or(0, |n| moments[n - 1]);
            self.until(until)
        };
        Animation { count: frames + 1, frame, scale, delays: DELAYS }
    }

    fn until(&self, step: usize) -> Image {
        let Image { width, height, channels, ref levels } = self.grid.image;
        let pixels = levels.chunks(channels).zip(&self.steps);
        let levels = pixels.flat_map(|(pixel, &drawn)| match drawn <= step {
            true => [pixel[0], pixel[1.min(channels - 1)], pixel[2.min(channels - 1)]],
            false => UNDRAWN,
        });
        Image { width, height, channels: 3, levels: levels.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_near_square() {
        let size = |count, width, height| {
            let grid = Grid::new(count, 0, width, height, 1).unwrap();
            (grid.image().width, grid.image().height)
        };
        assert_eq!(size(1, 28, 28), (28, 28));
        assert_eq!(size(2, 28, 28), (57, 28));
        assert_eq!(size(10, 28, 28), (4 * 29 - 1, 3 * 29 - 1));
        assert_eq!(size(64, 28, 28), (8 * 29 - 1, 8 * 29 - 1));
        // Images twice as wide as high: fewer columns than rows.
        assert_eq!(size(8, 31, 15), (2 * 32 - 1, 4 * 16 - 1));
        assert!(Grid::new(usize::MAX, 0, 28, 28, 3).is_none());
        assert!(Grid::new(5_000_000, 4, 28, 28, 1).is_none());
    }

    #[test]
    fn kinds_that_take_turns_have_rows_of_their_own() {
        // Of images of one pixel, the places of the positions, and how many rows and columns there are.
        let places = |count, turns| {
            let grid = Grid::new(count, turns, 1, 1, 1).unwrap();
            let place = |position| {
                let pixel = grid.pixel(position, 0, 0);
                (pixel / grid.image.width / 2, pixel % grid.image.width / 2)
            };
            (grid.rows, grid.columns, (0..count).map(place).collect::<Vec<_>>())
        };
        assert_eq!(places(6, 2), (2, 3, vec![(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]));
        for (count, turns, rows, columns) in
            [(64, 4, 8, 8), (64, 10, 10, 7), (100, 10, 10, 10), (100, 4, 8, 13), (28, 4, 4, 7)]
        {
            let (r, c, places) = places(count, turns);
            assert_eq!((r, c), (rows, columns));
            assert!((0..count).all(|i| places[i].0 % turns == i % turns));
        }
        // Too few for that, or one kind.
        assert_eq!(places(4, 4).2, [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!(places(64, 1000).2, places(64, 1).2);
        assert_eq!(places(64, 1).2[9], (1, 1));
    }

    #[test]
    fn images_stand_in_their_cells() {
        let mut grid = Grid::new(3, 0, 2, 1, 1).unwrap();
        for (position, levels) in [[1, 2], [3, 4], [5, 6]].iter().enumerate() {
            grid.place(position, levels);
        }
        let g = GAP;
        let expected = [1, 2, g, 3, 4, g, g, g, g, g, 5, 6, g, g, g];
        assert_eq!(grid.image().levels, expected);

        let mut grid = Grid::with_columns(2, 2, 2, 2, 1).unwrap();
        grid.place_smaller(1, 1, &[7]);
        assert_eq!(grid.image().levels, [g, g, g, 7, g, g, g, g, g, g]);
    }

    #[test]
    fn frames_show_pixels_as_they_were_drawn() {
        let mut drawing = Drawing::new(Grid::with_columns(2, 2, 2, 1, 1).unwrap());
        drawing.place(0, 2, &[1, 2], |pixel| pixel + 1);
        // Its first pixel was given.
        drawing.place(1, 2, &[3, 4], |pixel| 3 * pixel);
        let animation = drawing.animation(1);
        let rgb = |levels: [Option<u8>; 5]| levels.map(|l| l.map_or(UNDRAWN, |l| [l; 3])).concat();
        assert_eq!(animation.count, 4);
        let g = Some(GAP);
        assert_eq!((animation.frame)(0).levels, rgb([None, None, g, Some(3), None]));
        assert_eq!((animation.frame)(1).levels, rgb([Some(1), None, g, Some(3), None]));
        assert_eq!((animation.frame)(2).levels, rgb([Some(1), Some(2), g, Some(3), None]));
        assert_eq!((animation.frame)(3).levels, rgb([Some(1), Some(2), g, Some(3), Some(4)]));
        // Nothing to draw.
        let given = Drawing::new(Grid::new(1, 0, 2, 1, 1).unwrap());
        assert_eq!(given.animation(1).count, 1);
        // Many pixels.
        let mut large = Drawing::new(Grid::new(1, 0, 50, 20, 1).unwrap());
        large.place(0, 50, &[0; 1000], |pixel| pixel + 1);
        assert_eq!(large.animation(1).count, FRAMES + 1);
    }
}
