//! Many small images as one, a grid with 1-pixel gaps; and the grid as it is drawn.

use super::Image;
use super::animation::Animation;
use super::frame::Frame;

/// Level of the gaps: neither the black of most backgrounds nor the white of most strokes.
pub const GAP: u8 = 96;

/// A picture of at most this many bytes is made; more belongs into files of their own.
const LIMIT: usize = 1 << 30;

/// The colour of pixels that are unknown, or not drawn yet; no grey image has it.
pub const UNKNOWN: [u8; 3] = [38, 60, 110];

/// Frames of an animation, about, beside the first.
const FRAMES: usize = 100;

/// Hundredths of a second that a frame is shown, and the last one.
const DELAYS: [u16; 2] = [5, 300];

/// Images of at most this many pixels a side are enlarged.
const SMALL: usize = 64;

/// The short side of a grid of such images, at least, in pixels.
const SHORT: usize = 512;

/// The long side of a grid that is enlarged without being asked to, at most: viewers show no larger ones.
const LONGEST: usize = 1 << 14;

/// Places of images of one size in a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridShape {
    rows: usize,
    columns: usize,
    /// True if positions count along the columns.
    by_column: bool,
    /// Of an image, in pixels.
    width: usize,
    height: usize,
}

impl GridShape {
    /// For `count` images, about as wide as high. Images of `turns` kinds that take turns have a row a kind, one or more
    /// times, if there are enough of them: positions count along the columns then, and else along the rows.
    pub fn new(count: usize, turns: usize, width: usize, height: usize) -> Self {
        let (count, cell_width, cell_height) = (count.max(1), width + 1, height + 1);
        // As many columns as make the picture, not the count, as wide as high.
        let columns = (count as f64 * cell_height as f64 / cell_width as f64).sqrt().ceil() as usize;
        let columns = columns.clamp(1, count);
        let rows = count.div_ceil(columns);
        if turns < 2 || turns > rows + rows / 4 {
            return Self::with_columns(columns, count, width, height);
        }
        let rows = (rows / turns).max(1) * turns;
        Self { rows, columns: count.div_ceil(rows), by_column: true, width, height }
    }

    /// A grid of `columns` columns; positions count along the rows.
    pub fn with_columns(columns: usize, count: usize, width: usize, height: usize) -> Self {
        Self { rows: count.div_ceil(columns), columns, by_column: false, width, height }
    }

    /// Width and height of the picture in pixels; nothing if these are no numbers.
    pub fn size(&self) -> Option<(usize, usize)> {
        let side = |count: usize, length: usize| Some(count.checked_mul(length + 1)? - 1);
        Some((side(self.columns, self.width)?, side(self.rows, self.height)?))
    }

    /// Number of rows with images of one kind each, which begin anew after the last kind; nothing if kinds lie elsewhere.
    pub fn rows_of_kinds(&self) -> Option<usize> {
        self.by_column.then_some(self.rows)
    }

    /// Columns and rows of images.
    pub fn cells(&self) -> (usize, usize) {
        (self.columns, self.rows)
    }

    /// Width and height of an image.
    pub fn cell(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The side of the square that a pixel becomes by default: small images are hard to see.
    pub fn default_scale(&self) -> usize {
        match self.size() {
            Some((width, height)) if self.is_small() => {
                SHORT.div_ceil(width.min(height)).min(LONGEST / width.max(height)).max(1)
            }
            _ => 1,
        }
    }

    /// True if images are small enough to be enlarged.
    pub fn is_small(&self) -> bool {
        self.width.max(self.height) <= SMALL
    }

    /// The pixel of the picture where the one of an image is: its column and row.
    pub fn pixel(&self, position: usize, row: usize, column: usize) -> (usize, usize) {
        let (down, across) = match self.by_column {
            true => (position % self.rows, position / self.rows),
            false => (position / self.columns, position % self.columns),
        };
        (across * (self.width + 1) + column, down * (self.height + 1) + row)
    }
}

/// A grid that fills up image by image.
#[derive(Clone, Debug)]
pub struct Grid {
    shape: GridShape,
    image: Image,
}

impl Grid {
    /// An empty grid, or nothing if the picture would be over 1 GiB.
    pub fn new(shape: GridShape, channels: usize) -> Option<Self> {
        let (width, height) = shape.size()?;
        let bytes = width.checked_mul(height)?.checked_mul(channels)?;
        let levels = (bytes <= LIMIT).then(|| vec![GAP; bytes])?;
        Some(Self { shape, image: Image { width, height, channels, levels } })
    }

    /// Puts the image of a position in its place: `[height, width, channels]`.
    pub fn place(&mut self, position: usize, levels: &[u8]) {
        self.place_smaller(position, self.shape.width, self.image.channels, levels);
    }

    /// The same for an image that is `width` pixels wide, at the top left of its cell. It may be grey where the grid is not.
    pub fn place_smaller(&mut self, position: usize, width: usize, channels: usize, levels: &[u8]) {
        for (pixel, levels) in levels.chunks(channels).enumerate() {
            let start = self.pixel(position, pixel / width, pixel % width) * self.image.channels;
            let place = &mut self.image.levels[start..start + self.image.channels];
            if let [grey] = levels { place.fill(*grey) } else { place.copy_from_slice(levels) }
        }
    }

    fn pixel(&self, position: usize, row: usize, column: usize) -> usize {
        let (x, y) = self.shape.pixel(position, row, column);
        y * self.image.width + x
    }

    /// Its layout.
    pub fn shape(&self) -> &GridShape {
        &self.shape
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
    pub fn place(
        &mut self,
        position: usize,
        width: usize,
        channels: usize,
        levels: &[u8],
        step: impl Fn(usize) -> usize,
    ) {
        self.grid.place_smaller(position, width, channels, levels);
        for pixel in 0..levels.len() / channels {
            let place = self.grid.pixel(position, pixel / width, pixel % width);
            self.steps[place] = step(pixel);
        }
    }

    /// From nothing drawn to the whole picture.
    pub fn animation<'a>(&'a self, frame: &'a Frame) -> Animation<'a, impl Fn(usize) -> Image> {
        let mut moments: Vec<_> = self.steps.iter().copied().filter(|&step| step > 0).collect();
        moments.sort_unstable();
        moments.dedup();
        let frames = moments.len().min(FRAMES);
        let show = move |k: usize| {
            // The last step that frame k shows.
            let until =
                (k * moments.len()).checked_div(frames).filter(|&n| n > 0).map_or(0, |n| moments[n - 1]);
            self.until(until)
        };
        Animation { count: frames + 1, show, frame, delays: DELAYS }
    }

    fn until(&self, step: usize) -> Image {
        let Image { width, height, channels, ref levels } = self.grid.image;
        let pixels = levels.chunks(channels).zip(&self.steps);
        let levels = pixels.flat_map(|(pixel, &drawn)| match drawn <= step {
            true => [pixel[0], pixel[1.min(channels - 1)], pixel[2.min(channels - 1)]],
            false => UNKNOWN,
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
            let size = GridShape::new(count, 0, width, height).size().unwrap();
            let grid = Grid::new(GridShape::new(count, 0, width, height), 1).unwrap();
            assert_eq!(size, (grid.image().width, grid.image().height));
            size
        };
        assert_eq!(size(1, 28, 28), (28, 28));
        assert_eq!(size(2, 28, 28), (57, 28));
        assert_eq!(size(10, 28, 28), (4 * 29 - 1, 3 * 29 - 1));
        assert_eq!(size(64, 28, 28), (8 * 29 - 1, 8 * 29 - 1));
        // Images twice as wide as high: fewer columns than rows.
        assert_eq!(size(8, 31, 15), (2 * 32 - 1, 4 * 16 - 1));
        assert!(Grid::new(GridShape::new(usize::MAX, 0, 28, 28), 3).is_none());
        assert!(Grid::new(GridShape::new(5_000_000, 4, 28, 28), 1).is_none());
    }

    #[test]
    fn small_images_are_enlarged() {
        for (shape, scale) in [
            (GridShape::new(64, 4, 24, 24), 3),
            (GridShape::new(1, 0, 64, 64), 8),
            (GridShape::new(1, 0, 1, 1), 512),
            (GridShape::new(1, 0, 65, 32), 1),
            (GridShape::new(4000, 0, 28, 28), 1),
            (GridShape::with_columns(10, 40, 28, 28), 5),
            // Long ones only so far.
            (GridShape::with_columns(10, 10_000, 28, 28), 1),
            (GridShape::new(1, 0, 1, 64), 256),
            (GridShape::new(usize::MAX, 0, 28, 28), 1),
        ] {
            assert_eq!(shape.default_scale(), scale, "{shape:?}");
            let short = shape.size().map(|(width, height)| width.min(height) * scale);
            assert!(scale == 1 || short.is_some_and(|short| short >= 512 || shape.cell() == (1, 64)));
        }
    }

    #[test]
    fn kinds_that_take_turns_have_rows_of_their_own() {
        // Of images of one pixel, the places of the positions, and how many rows and columns there are.
        let places = |count, turns| {
            let shape = GridShape::new(count, turns, 1, 1);
            let place = |position| {
                let (x, y) = shape.pixel(position, 0, 0);
                (y / 2, x / 2)
            };
            (shape.rows, shape.columns, (0..count).map(place).collect::<Vec<_>>())
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
        let mut grid = Grid::new(GridShape::new(3, 0, 2, 1), 1).unwrap();
        for (position, levels) in [[1, 2], [3, 4], [5, 6]].iter().enumerate() {
            grid.place(position, levels);
        }
        let g = GAP;
        let expected = [1, 2, g, 3, 4, g, g, g, g, g, 5, 6, g, g, g];
        assert_eq!(grid.image().levels, expected);

        let mut grid = Grid::new(GridShape::with_columns(2, 2, 2, 2), 1).unwrap();
        grid.place_smaller(1, 1, 1, &[7]);
        assert_eq!(grid.image().levels, [g, g, g, 7, g, g, g, g, g, g]);

        // A grey image in a grid of colours.
        let mut grid = Grid::new(GridShape::with_columns(1, 1, 1, 2), 3).unwrap();
        grid.place_smaller(0, 1, 1, &[7, 8]);
        assert_eq!(grid.image().levels, [7, 7, 7, 8, 8, 8]);
        grid.place(0, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(grid.image().levels, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn frames_show_pixels_as_they_were_drawn() {
        let mut drawing = Drawing::new(Grid::new(GridShape::with_columns(2, 2, 2, 1), 1).unwrap());
        drawing.place(0, 2, 1, &[1, 2], |pixel| pixel + 1);
        // Its first pixel was given.
        drawing.place(1, 2, 1, &[3, 4], |pixel| 3 * pixel);
        let frame = Frame::new(1);
        let animation = drawing.animation(&frame);
        let rgb = |levels: [Option<u8>; 5]| levels.map(|l| l.map_or(UNKNOWN, |l| [l; 3])).concat();
        assert_eq!(animation.count, 4);
        let g = Some(GAP);
        assert_eq!((animation.show)(0).levels, rgb([None, None, g, Some(3), None]));
        assert_eq!((animation.show)(1).levels, rgb([Some(1), None, g, Some(3), None]));
        assert_eq!((animation.show)(2).levels, rgb([Some(1), Some(2), g, Some(3), None]));
        assert_eq!((animation.show)(3).levels, rgb([Some(1), Some(2), g, Some(3), Some(4)]));
        // Nothing to draw.
        let given = Drawing::new(Grid::new(GridShape::new(1, 0, 2, 1), 1).unwrap());
        assert_eq!(given.animation(&frame).count, 1);
        // Many pixels.
        let mut large = Drawing::new(Grid::new(GridShape::new(1, 0, 50, 20), 1).unwrap());
        large.place(0, 50, 1, &[0; 1000], |pixel| pixel + 1);
        assert_eq!(large.animation(&frame).count, FRAMES + 1);
    }
}
