//! Brings images to the size of a model, as training does: the middle of the picture, by Pillow's Lanczos filter, to the level.
//!
//! Training calls Pillow (`fitted` in `python/pixelcnn/train/folders.py`). This is its fixed-point arithmetic for 8 bits
//! (`src/libImaging/Resample.c`): weights of 22 bits, all columns first, then rows, with a rounding after each.

use std::f64::consts::PI;
use std::ops::Range;

use super::Pixels;

/// Bits of a weight behind the point: 32 bits, less those of a level, and 2 for sums beyond 1.
const PRECISION: u32 = 32 - 8 - 2;

/// Reach of the filter, in pixels of the result.
const LOBES: f64 = 3.0;

const CHANNELS: usize = 3;

/// The pixels of a picture that a pixel of the result is a sum of, along one axis, and their weights.
struct Sum {
    first: usize,
    weights: Vec<i32>,
}

/// The middle of a picture, as large as it can be with the shape of `width` by `height` pixels, at that size. The
/// picture is at least as large.
pub fn fitted(pixels: &Pixels, width: usize, height: usize) -> Pixels {
    let (across, down) = middle((pixels.width, pixels.height), (width, height));
    let columns = sums(pixels.width, &across, width);
    let rows = sums(pixels.height, &down, height);
    // The filter reaches beyond the middle, but not to all rows.
    let first = rows.first().map_or(0, |sum| sum.first);
    let end = rows.last().map_or(0, |sum| sum.first + sum.weights.len());
    let mut narrow = Vec::with_capacity((end - first) * width * CHANNELS);
    for row in pixels.rgb.chunks_exact(pixels.width * CHANNELS).take(end).skip(first) {
        narrow.extend(columns.iter().flat_map(|sum| sum.of(row, sum.first, 0, CHANNELS)));
    }
    let mut rgb = Vec::with_capacity(height * width * CHANNELS);
    for sum in &rows {
        let column = |x: usize| sum.of(&narrow, sum.first - first, x * CHANNELS, width * CHANNELS);
        rgb.extend((0..width).flat_map(column));
    }
    Pixels { width, height, rgb }
}

/// Columns and rows of the largest box with the shape of `to`, in the middle of a picture.
fn middle(from: (usize, usize), to: (usize, usize)) -> (Range<usize>, Range<usize>) {
    // Rounded; where sides are equal, as in all training on folders, there is nothing to round.
    let share = |whole: usize, part: usize, of: usize| (whole * part + of / 2) / of;
    let (width, height) = match from.0 * to.1 > from.1 * to.0 {
        true => (share(from.1, to.0, to.1), from.1),
        false => (from.0, share(from.0, to.1, to.0)),
    };
    let (left, top) = ((from.0 - width) / 2, (from.1 - height) / 2);
    (left..left + width, top..top + height)
}

/// The sums of `to` pixels that a range of `length` pixels becomes.
fn sums(length: usize, range: &Range<usize>, to: usize) -> Vec<Sum> {
    let scale = range.len() as f64 / to as f64;
    let filter_scale = scale.max(1.0);
    let reach = LOBES * filter_scale;
    let sum = |at: usize| {
        let center = range.start as f64 + (at as f64 + 0.5) * scale;
        // Conversion cuts off, and takes what is negative as 0.
        let first = (center - reach + 0.5) as usize;
        let end = ((center + reach + 0.5) as usize).min(length);
        let weight = |x: usize| lanczos((x as f64 - center + 0.5) * (1.0 / filter_scale));
        let weights: Vec<_> = (first..end).map(weight).collect();
        let total: f64 = weights.iter().sum();
        Sum { first, weights: weights.iter().map(|weight| fixed(weight / total)).collect() }
    };
    (0..to).map(sum).collect()
}

/// A weight in units of 2^-[`PRECISION`], the nearest.
fn fixed(weight: f64) -> i32 {
    (weight * f64::from(1 << PRECISION) + 0.5f64.copysign(weight)) as i32
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
    if (-LOBES..LOBES).contains(&x) { sinc(x) * sinc(x / LOBES) } else { 0.0 }
}

impl Sum {
    /// A pixel, of levels whose pixels lie `stride` apart from `offset` on; the sum begins with number `first`.
    fn of(&self, levels: &[u8], first: usize, offset: usize, stride: usize) -> [u8; CHANNELS] {
        let mut sum = [1 << (PRECISION - 1); CHANNELS];
        for (i, weight) in self.weights.iter().enumerate() {
            let at = offset + (first + i) * stride;
            for (sum, level) in sum.iter_mut().zip(&levels[at..at + CHANNELS]) {
                *sum += i32::from(*level) * weight;
            }
        }
        sum.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Results of Pillow, which `tests/python/record_resized.py` recorded.
    const RECORDED: &str = include_str!("../../tests/golden/resized.json");

    /// As the script has it.
    fn source(width: usize, height: usize) -> Pixels {
        let level = |x: usize, y: usize, c: usize| {
            (x * x * 7 + y * 13 * (x + 1) + y * y * 3 + c * 50 + (x * y % 3) * 100) as u8
        };
        let pixel = |i: usize| std::array::from_fn::<_, CHANNELS, _>(|c| level(i % width, i / width, c));
        Pixels { width, height, rgb: (0..width * height).flat_map(pixel).collect() }
    }

    #[test]
    fn levels_are_those_of_pillow() {
        let recorded: serde_json::Value = serde_json::from_str(RECORDED).unwrap();
        let cases = recorded["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 9);
        for case in cases {
            let [from, to] =
                ["from", "to"].map(|key| [0, 1].map(|i| case[key][i].as_u64().unwrap() as usize));
            let hex = case["rgb"].as_str().unwrap();
            let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
            let expected: Vec<_> = (0..hex.len() / 2).map(byte).collect();
            let picture = source(from[0], from[1]);
            let got = fitted(&picture, to[0], to[1]);
            assert_eq!((got.width, got.height, got.rgb.len()), (to[0], to[1], expected.len()));
            let first = got.rgb.iter().zip(&expected).position(|(got, expected)| got != expected);
            let told = |at: usize| (at / 3 / to[0], at / 3 % to[0], at % 3, got.rgb[at], expected[at]);
            assert_eq!(first.map(told), None, "{from:?} to {to:?}: y, x, channel, got, expected");
            // The comparison sees one pixel of the source.
            let mut other = picture.clone();
            let middle = (from[1] / 2 * from[0] + from[0] / 2) * CHANNELS;
            other.rgb[middle] ^= 0x80;
            assert_ne!(fitted(&other, to[0], to[1]), got, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn an_image_of_the_size_is_as_it_was() {
        for (width, height) in [(1, 1), (8, 8), (5, 9)] {
            let picture = source(width, height);
            assert_eq!(fitted(&picture, width, height), picture);
        }
    }

    #[test]
    fn sums_are_within_the_picture_and_keep_brightness() {
        let white = |width, height| Pixels { width, height, rgb: vec![255; width * height * CHANNELS] };
        for (from, to) in [((1000, 3), (3, 3)), ((3, 700), (1, 2)), ((33, 32), (32, 32))] {
            assert_eq!(fitted(&white(from.0, from.1), to.0, to.1), white(to.0, to.1));
        }
    }
}
