//! The frame of a grid: its pixels enlarged, names beside its rows or over its columns. The program holds the pixels of the
//! font, so that a picture is the same on every machine.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::Image;
use super::grid::{GAP, GridShape};

/// Level of the text, on that of the gaps.
const INK: u8 = 245;

/// Pixels between a name and what it names, and at its other side.
const PAD: usize = 8;

/// Characters of a name; longer ones are cut.
const LONGEST: usize = 24;

/// Sizes of the text, the largest first: the height of a line in pixels.
const SIZES: [RasterHeight; 4] =
    [RasterHeight::Size32, RasterHeight::Size24, RasterHeight::Size20, RasterHeight::Size16];

/// The scale of a grid, and the names around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    scale: usize,
    captions: Option<Captions>,
}

/// Names around the grid.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Captions {
    side: Side,
    texts: Vec<String>,
    /// Pixels of the picture from one text to the next, and those that each has.
    pitch: usize,
    length: usize,
    size: RasterHeight,
}

/// The side of the texts: left of rows, or over columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Top,
}

impl Frame {
    /// Every pixel becomes a square of `scale` by `scale`.
    pub fn new(scale: usize) -> Self {
        Self { scale, captions: None }
    }

    /// With a name beside each row; nothing if rows are lower than a line.
    pub fn with_rows(self, shape: &GridShape, names: Vec<String>) -> Option<Self> {
        self.with(Side::Left, shape, names)
    }

    /// With a name over each column; nothing if one is wider than its column.
    pub fn with_columns(self, shape: &GridShape, names: Vec<String>) -> Option<Self> {
        self.with(Side::Top, shape, names)
    }

    fn with(self, side: Side, shape: &GridShape, names: Vec<String>) -> Option<Self> {
        let ((width, height), (columns, rows)) = (shape.cell(), shape.cells());
        let (cell, count) = if side == Side::Left { (height, rows) } else { (width, columns) };
        let texts: Vec<_> = names.into_iter().take(count).map(cut).collect();
        let (pitch, length) = (self.scale * (cell + 1), self.scale * cell);
        let longest = texts.iter().map(|text| text.chars().count()).max()?;
        let fits = |size: RasterHeight| match side {
            Side::Left => size.val() <= length,
            Side::Top => longest * advance(size) <= length,
        };
        // Names are no larger than a quarter of what they name, where that can be read.
        let is_small = |size: RasterHeight| size == SIZES[SIZES.len() - 1] || 4 * size.val() <= length;
        let size = SIZES.into_iter().find(|&size| fits(size) && is_small(size))?;
        Some(Self { captions: Some(Captions { side, texts, pitch, length, size }), ..self })
    }

    /// Side of the square that a pixel becomes, in pixels.
    pub fn scale(&self) -> usize {
        self.scale
    }

    /// True if names are written.
    pub fn has_captions(&self) -> bool {
        self.captions.is_some()
    }

    /// Pixels on the left and at the top, for names.
    pub fn margins(&self) -> (usize, usize) {
        match &self.captions {
            None => (0, 0),
            Some(Captions { side: Side::Left, texts, size, .. }) => {
                let longest = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
                (2 * PAD + longest * advance(*size), 0)
            }
            Some(Captions { side: Side::Top, size, .. }) => (0, PAD + size.val()),
        }
    }

    /// Width and height of a grid as it is shown; nothing if these are no numbers.
    pub fn size(&self, (width, height): (usize, usize)) -> Option<(usize, usize)> {
        let (left, top) = self.margins();
        let side = |length: usize, margin: usize| length.checked_mul(self.scale)?.checked_add(margin);
        Some((side(width, left)?, side(height, top)?))
    }

    /// Column and row at which the square of a grid's pixel begins.
    pub fn place(&self, (x, y): (usize, usize)) -> (usize, usize) {
        let (left, top) = self.margins();
        (left + self.scale * x, top + self.scale * y)
    }

    /// The picture of a grid.
    pub fn picture(&self, grid: &Image) -> Image {
        let inner = grid.enlarged(self.scale);
        let Some(captions) = &self.captions else { return inner };
        let ((left, top), channels) = (self.margins(), grid.channels);
        let (width, height) = (left + inner.width, top + inner.height);
        let mut levels = vec![GAP; width * height * channels];
        for (row, inner) in inner.levels.chunks(inner.width * channels).enumerate() {
            let start = ((top + row) * width + left) * channels;
            levels[start..start + inner.len()].copy_from_slice(inner);
        }
        captions.write(left, |x, y, ink| {
            let start = (y * width + x) * channels;
            levels[start..start + channels].fill(ink);
        });
        Image { width, height, channels, levels }
    }
}

impl Captions {
    /// Writes the texts; `put` takes a column, a row and a level. Rows have `left` pixels for theirs.
    fn write(&self, left: usize, mut put: impl FnMut(usize, usize, u8)) {
        let advance = advance(self.size);
        for (i, text) in self.texts.iter().enumerate() {
            let width = text.chars().count() * advance;
            let (x, y) = match self.side {
                Side::Left => (left - PAD - width, i * self.pitch + (self.length - self.size.val()) / 2),
                Side::Top => (i * self.pitch + (self.length - width) / 2, PAD / 2),
            };
            for (k, c) in text.chars().enumerate() {
                let Some(glyph) = get_raster(c, FontWeight::Regular, self.size) else { continue };
                for (row, shares) in glyph.rows().enumerate() {
                    for (column, &share) in shares.iter().enumerate().filter(|(_, share)| **share > 0) {
                        let level = usize::from(GAP) * 255 + usize::from(INK - GAP) * usize::from(share);
                        put(x + k * advance + column, y + row, (level / 255) as u8);
                    }
                }
            }
        }
    }
}

/// Pixels from one character to the next.
fn advance(size: RasterHeight) -> usize {
    get_raster_width(FontWeight::Regular, size)
}

/// True if the font has all characters of a name.
pub fn can_show(name: &str) -> bool {
    name.chars().all(|c| get_raster(c, FontWeight::Regular, SIZES[0]).is_some())
}

/// The start of a name that is too long.
fn cut(name: String) -> String {
    match name.chars().count() > LONGEST {
        true => name.chars().take(LONGEST - 3).chain("...".chars()).collect(),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// The rectangle of a picture around what is as light as text and lies in columns and rows from `x` and `y` on.
    fn inked(image: &Image, xs: std::ops::Range<usize>, ys: std::ops::Range<usize>) -> [usize; 4] {
        let is_ink = |&(x, y): &(usize, usize)| image.levels[(y * image.width + x) * image.channels] > 200;
        let places = ys.flat_map(|y| xs.clone().map(move |x| (x, y)));
        let found: Vec<_> = places.filter(is_ink).collect();
        let (xs, ys) = (found.iter().map(|at| at.0), found.iter().map(|at| at.1));
        let [left, right] = [xs.clone().min(), xs.max()].map(|x| x.expect("there is ink"));
        [left, ys.clone().min().unwrap(), right, ys.max().unwrap()]
    }

    #[test]
    fn names_stand_beside_the_middle_of_their_rows() {
        let shape = GridShape::new(16, 4, 28, 28);
        let (width, height) = shape.size().unwrap();
        let grid = Image { width, height, channels: 3, levels: vec![0; 3 * width * height] };
        let frame = Frame::new(3).with_rows(&shape, names(&["a", "bcd", "x", "o"])).unwrap();
        let (left, top) = frame.margins();
        let picture = frame.picture(&grid);
        assert_eq!(Some((picture.width, picture.height)), frame.size((width, height)));
        assert!(left > 2 * PAD && top == 0 && picture.width == left + 3 * width);
        for row in 0..4 {
            let rows = row * 3 * 29..row * 3 * 29 + 3 * 28;
            let middle = (rows.start + rows.end) / 2;
            let [x, y, right, bottom] = inked(&picture, 0..left, rows);
            assert!(x >= PAD && right < left - PAD && y < middle && bottom > middle, "{row}");
        }
        // The grid itself is as it was.
        let inner = (0..picture.height).flat_map(|y| (left..picture.width).map(move |x| (x, y)));
        let of = |(x, y): (usize, usize)| picture.levels[3 * (y * picture.width + x)];
        assert!(inner.into_iter().all(|at| of(at) == 0));
        assert_eq!(frame.place((2, 5)), (left + 6, 15));
    }

    #[test]
    fn names_stand_over_the_middle_of_their_columns() {
        let shape = GridShape::with_columns(3, 6, 24, 24);
        let (width, height) = shape.size().unwrap();
        let grid = Image { width, height, channels: 1, levels: vec![0; width * height] };
        let frame = Frame::new(4).with_columns(&shape, names(&["known", "1", "original"])).unwrap();
        let (left, top) = frame.margins();
        let picture = frame.picture(&grid);
        assert_eq!((left, picture.width, picture.height), (0, 4 * width, top + 4 * height));
        for column in 0..3 {
            let columns = column * 100..column * 100 + 96;
            let [x, y, right, bottom] = inked(&picture, columns.clone(), 0..top);
            assert!(bottom < top && y > 0 && (x + right).abs_diff(columns.start + columns.end) <= 6);
        }
    }

    #[test]
    fn there_are_no_names_without_room() {
        let shape = GridShape::new(12, 4, 8, 8);
        assert!(Frame::new(1).with_rows(&shape, names(&["a"; 4])).is_none());
        assert!(Frame::new(2).with_rows(&shape, names(&["a"; 4])).is_some());
        assert!(Frame::new(4).with_columns(&shape, names(&["original"])).is_none());
        assert!(Frame::new(8).with_columns(&shape, names(&["original"])).is_some());
        let long = Frame::new(2).with_rows(&shape, names(&[&"long ".repeat(100)])).unwrap();
        assert!(long.margins().0 < 300);
        assert!(can_show("caf\u{e9} Łódź 7") && !can_show("猫") && !can_show("Ж"));
    }
}
