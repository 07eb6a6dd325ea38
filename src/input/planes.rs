//! JPEGs whose luma is coarser than their chroma, which the decoder does not enlarge: as libjpeg-turbo does it, to the level.

use libjpeg_turbo_rs::{ColorSpace, Decoder, FrameHeader, JpegError, PixelFormat, Subsampling, yuv};

/// True if the first component is coarser than another one.
pub fn is_luma_coarse(frame: &FrameHeader) -> bool {
    let [first, others @ ..] = &frame.components[..] else { return false };
    others.iter().any(|other| {
        other.horizontal_sampling > first.horizontal_sampling
            || other.vertical_sampling > first.vertical_sampling
    })
}

/// `[H, W, 3]`, of a file with three components.
///
/// # Errors
/// A defect of the file. Sizes of components that are no multiples of each other are not supported.
pub fn decode_rgb(decoder: Decoder) -> Result<Vec<u8>, JpegError> {
    let (frame, colours) = (decoder.header().clone(), decoder.jpeg_color_space());
    let (width, height) = (usize::from(frame.width), usize::from(frame.height));
    let samplings = || frame.components.iter().map(|c| (c.horizontal_sampling, c.vertical_sampling));
    let most_across = samplings().map(|(across, _)| usize::from(across)).max().unwrap_or(1);
    let most_down = samplings().map(|(_, down)| usize::from(down)).max().unwrap_or(1);
    let stored = decoder.decode_raw()?;
    let planes =
        samplings().zip(&stored.planes).zip(&stored.plane_widths).map(|((sampling, samples), &stride)| {
            let (across, down) = (usize::from(sampling.0), usize::from(sampling.1));
            if most_across % across != 0 || most_down % down != 0 {
                let sizes =
                    format!("a component of {across}x{down} samples beside {most_across}x{most_down}");
                return Err(JpegError::Unsupported(sizes));
            }
            let plane = Plane {
                samples,
                stride,
                width: (width * across).div_ceil(most_across),
                height: (height * down).div_ceil(most_down),
            };
            Ok(plane.enlarged(most_across / across, most_down / down, width, height))
        });
    let planes = planes.collect::<Result<Vec<_>, _>>()?;
    let [a, b, c] = &planes[..] else {
        return Err(JpegError::Unsupported(format!("{} components of several sizes", planes.len())));
    };
    match colours {
        ColorSpace::YCbCr => {
            yuv::decode_yuv_planes(&[a, b, c], width, height, Subsampling::S444, PixelFormat::Rgb)
        }
        _ => Ok(a.iter().zip(b).zip(c).flat_map(|((a, b), c)| [*a, *b, *c]).collect()),
    }
}

/// A component as it is stored.
struct Plane<'a> {
    samples: &'a [u8],
    stride: usize,
    width: usize,
    height: usize,
}

impl Plane<'_> {
    /// Rows of `width` samples, each repeated `across` times and `down` times. If twice, intermediate
    /// samples are those of libjpeg's "fancy upsampling" (jdsample.c): three parts of the nearer and one of
    /// the farther.
    fn enlarged(&self, across: usize, down: usize, width: usize, height: usize) -> Vec<u8> {
        let at = |x: usize, y: usize| u32::from(self.samples[y * self.stride + x]);
        let is_wide = self.width > 2;
        let pixel = |x: usize, y: usize| {
            let (i, j) = (x / across, y / down);
            let (beside, below) = (beside(x, i, self.width), beside(y, j, self.height));
            match (across, down) {
                (2, 1) if is_wide => (3 * at(i, j) + at(beside, j) + [1, 2][x % 2]) >> 2,
                (1, 2) => (3 * at(i, j) + at(i, below) + [1, 2][y % 2]) >> 2,
                (2, 2) if is_wide => {
                    let column = |i| 3 * at(i, j) + at(i, below);
                    (3 * column(i) + column(beside) + [8, 7][x % 2]) >> 4
                }
                _ => at(i, j),
            }
        };
        (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| pixel(x, y) as u8).collect()
    }
}

/// The second nearest sample to a pixel, of `count`, if the nearest is `nearest`: the one before it for
/// even pixels.
fn beside(pixel: usize, nearest: usize, count: usize) -> usize {
    match pixel % 2 {
        0 => nearest.saturating_sub(1),
        _ => (nearest + 1).min(count - 1),
    }
}
