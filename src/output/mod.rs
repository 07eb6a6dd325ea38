//! From pixels to files: PNG with its settings inside, grids of images, animations, NumPy arrays and archives.

pub mod animation;
pub mod bitmap;
pub mod chart;
pub mod confusion;
pub mod figure;
pub mod file;
pub mod frame;
pub mod grid;
pub mod histogram;
pub mod npy;
pub mod npz;
pub mod png;
pub mod stdout;
pub mod terminal;

pub use file::{NewFile, OutputError, check};

/// The keyword and the text that say what made a file.
pub fn software() -> (&'static str, String) {
    ("Software", concat!("pixelcnn ", env!("CARGO_PKG_VERSION")).to_owned())
}

/// The shades that levels are shown as in a picture: from 0 to 255, in even steps.
///
/// # Panics
/// If there are more than 256 levels.
pub fn shades(levels: &[u16], of: usize) -> Vec<u8> {
    assert!(of <= 256, "{of} levels are no shades");
    let shade = |level: u16| (usize::from(level) * 255 + (of - 1) / 2) / (of - 1);
    levels.iter().map(|&level| shade(level) as u8).collect()
}

/// The level whose shade is nearest, and whether it is that shade.
pub fn level_of(shade: u8, of: usize) -> (u16, bool) {
    let level = ((usize::from(shade) * (of - 1) + 127) / 255) as u16;
    (level, shades(&[level], of) == [shade])
}

/// A picture of 8-bit levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// 1 for grey, 3 for RGB.
    pub channels: usize,
    /// `[height, width, channels]`, row-major.
    pub levels: Vec<u8>,
}

impl Image {
    /// With every pixel as a square of `scale` by `scale`.
    pub fn enlarged(&self, scale: usize) -> Self {
        let row = |row: &[u8]| {
            let row: Vec<u8> = row.chunks(self.channels).flat_map(|pixel| pixel.repeat(scale)).collect();
            row.repeat(scale)
        };
        Self {
            width: scale * self.width,
            height: scale * self.height,
            channels: self.channels,
            levels: self.levels.chunks(self.width * self.channels).flat_map(row).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_come_back_from_their_shades() {
        for of in 2..=256 {
            let levels: Vec<_> = (0..of as u16).collect();
            let shades = shades(&levels, of);
            assert_eq!((shades[0], shades[of - 1]), (0, 255));
            let back: Vec<_> = shades.iter().map(|&shade| level_of(shade, of)).collect();
            assert!(back.iter().zip(levels).all(|(back, level)| *back == (level, true)), "{of} levels");
        }
        assert_eq!(level_of(100, 2), (0, false));
    }

    #[test]
    fn pixels_become_squares() {
        let image = Image { width: 2, height: 1, channels: 3, levels: vec![1, 2, 3, 4, 5, 6] };
        let large = image.enlarged(2);
        assert_eq!((large.width, large.height), (4, 2));
        assert_eq!(large.levels, [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6].repeat(2));
        assert_eq!(image.enlarged(1), image);
    }
}
