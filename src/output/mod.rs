//! From pixels to files: PNG with its settings inside, grids of images, NumPy arrays, archives of them.

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
