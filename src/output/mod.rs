//! From pixels to files: PNG with its settings inside, grids of images, animations, NumPy arrays and archives.

pub mod animation;
pub mod file;
pub mod grid;
pub mod npy;
pub mod npz;
pub mod png;

pub use file::{NewFile, OutputError, check};

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
    fn pixels_become_squares() {
        let image = Image { width: 2, height: 1, channels: 3, levels: vec![1, 2, 3, 4, 5, 6] };
        let large = image.enlarged(2);
        assert_eq!((large.width, large.height), (4, 2));
        assert_eq!(large.levels, [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6].repeat(2));
        assert_eq!(image.enlarged(1), image);
    }
}
