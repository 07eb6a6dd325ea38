//! Animations: GIF, or animated PNG. Each frame holds only what it changes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::iter;
use std::path::{Path, PathBuf};

use color_quant::NeuQuant;

use super::frame::Frame;
use super::{Image, OutputError, file};

/// Pictures of more pixels are not animated.
const MOST_PIXELS: usize = 1 << 26;

/// Files that hold animations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnimationKind {
    /// GIF: where a frame changes more than 255 colours, these stand for the others.
    Gif,
    /// Animated PNG, exact; programs that do not know it show the first frame.
    Png,
}

impl AnimationKind {
    /// The kind of file that a name stands for, if it is one.
    pub fn of(path: &Path) -> Option<Self> {
        let is = |name| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(name));
        is("gif").then_some(Self::Gif).or(is("png").then_some(Self::Png))
    }
}

/// An animation to be written.
pub struct Animation<'a, F> {
    /// Number of moments, at least one.
    pub count: usize,
    /// The picture of a moment; all are of one size and number of channels.
    pub show: F,
    /// Frame of each picture.
    pub frame: &'a Frame,
    /// Hundredths of a second that a moment is shown, and the last one.
    pub delays: [u16; 2],
}

/// True if a picture of this size can be animated.
pub fn takes(width: usize, height: usize) -> bool {
    let most = usize::from(u16::MAX);
    width.max(height) <= most && width * height <= MOST_PIXELS
}

impl<F: Fn(usize) -> Image> Animation<'_, F> {
    /// Writes it with text (keyword, text), which a GIF has as its comment.
    ///
    /// # Errors
    /// [`OutputError::Io`], [`OutputError::Elsewhere`], and [`OutputError::Extension`] for a name that ends in
    /// neither `.gif` nor `.png`.
    pub fn write(&self, path: &Path, texts: &[(impl AsRef<str>, String)]) -> Result<(), OutputError> {
        match AnimationKind::of(path) {
            Some(AnimationKind::Gif) => {
                file::write(path, |writer| self.gif(writer, texts).map_err(io::Error::other))
            }
            Some(AnimationKind::Png) => file::write(path, |writer| Ok(self.png(writer, texts)?)),
            None => Err(OutputError::Extension { path: PathBuf::from(path), expected: "gif or .png" }),
        }
    }

    /// The first picture, and what each further one changes.
    fn changes(&self) -> (Image, impl Iterator<Item = Change>) {
        let first = (self.show)(0);
        let picture = self.frame.picture(&first);
        let mut before = first;
        let later = (1..self.count).map(move |k| {
            let now = (self.show)(k);
            let change = Change::between(Some(&before), &now).within(self.frame);
            before = now;
            change
        });
        (picture, later)
    }

    /// Hundredths of a second that the picture of a moment is shown.
    fn delay(&self, k: usize) -> u16 {
        self.delays[usize::from(k + 1 == self.count)]
    }

    fn gif(
        &self,
        writer: impl Write,
        texts: &[(impl AsRef<str>, String)],
    ) -> Result<(), gif::EncodingError> {
        let (first, later) = self.changes();
        let mut encoder = gif::Encoder::new(writer, first.width as u16, first.height as u16, &[])?;
        encoder.set_repeat(gif::Repeat::Infinite)?;
        let comment = texts
            .iter()
            .map(|(keyword, text)| format!("{}: {text}\n", keyword.as_ref()))
            .collect::<String>();
        encoder.write_raw_extension(gif::Extension::Comment.into(), &[comment.as_bytes()])?;
        for (k, change) in iter::once(Change::between(None, &first)).chain(later).enumerate() {
            let (palette, indices) = change.indexed();
            encoder.write_frame(&gif::Frame {
                delay: self.delay(k),
                dispose: gif::DisposalMethod::Keep,
                // Pillow takes a transparent colour of the first frame for an alpha channel of all others.
                transparent: (k > 0).then_some(TRANSPARENT),
                left: change.left as u16,
                top: change.top as u16,
                width: change.width as u16,
                height: change.height as u16,
                palette: Some(palette),
                buffer: indices.into(),
                ..gif::Frame::default()
            })?;
        }
        Ok(())
    }

    fn png(
        &self,
        writer: impl Write,
        texts: &[(impl AsRef<str>, String)],
    ) -> Result<(), png::EncodingError> {
        let (first, later) = self.changes();
        let mut encoder = super::png::encoder(writer, &first, texts)?;
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_animated(self.count as u32, 0)?;
        encoder.set_blend_op(png::BlendOp::Over)?;
        let mut writer = encoder.write_header()?;
        for (k, change) in iter::once(Change::between(None, &first)).chain(later).enumerate() {
            // A frame must lie within the picture at every moment, wherever the one before was.
            writer.set_frame_position(0, 0)?;
            writer.set_frame_dimension(change.width as u32, change.height as u32)?;
            writer.set_frame_position(change.left as u32, change.top as u32)?;
            writer.set_frame_delay(self.delay(k), 100)?;
            writer.write_image_data(&change.rgba)?;
        }
        writer.finish()
    }
}

/// The change that a frame makes: the rectangle around it, transparent where it stays as it was.
struct Change {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    rgba: Vec<u8>,
}

/// The index of a palette that stands for no colour.
const TRANSPARENT: u8 = 255;

impl Change {
    /// From one picture to another, or to the first.
    fn between(before: Option<&Image>, now: &Image) -> Self {
        let Image { width, channels, ref levels, .. } = *now;
        let rgb = |levels: &[u8], pixel: usize| {
            let at = |c: usize| levels[pixel * channels + c.min(channels - 1)];
            [at(0), at(1), at(2)]
        };
        let changes =
            |pixel: usize| before.is_none_or(|before| rgb(&before.levels, pixel) != rgb(levels, pixel));
        // A frame that changes nothing still takes its time, and must have a pixel.
        let (mut left, mut right, mut top, mut bottom) = (width - 1, 0, now.height - 1, 0);
        for pixel in (0..width * now.height).filter(|&pixel| changes(pixel)) {
            let (row, column) = (pixel / width, pixel % width);
            (left, right) = (left.min(column), right.max(column));
            (top, bottom) = (top.min(row), bottom.max(row));
        }
        (left, top) = (left.min(right), top.min(bottom));
        let mut rgba = Vec::with_capacity((right + 1 - left) * (bottom + 1 - top) * 4);
        for pixel in (top..=bottom).flat_map(|row| (row * width + left)..=(row * width + right)) {
            let [r, g, b] = rgb(levels, pixel);
            rgba.extend(if changes(pixel) { [r, g, b, u8::MAX] } else { [0; 4] });
        }
        Self { left, top, width: right + 1 - left, height: bottom + 1 - top, rgba }
    }

    /// The same of the picture in its frame.
    fn within(self, frame: &Frame) -> Self {
        let Self { left, top, width, height, rgba: levels } = self;
        let Image { width, height, levels: rgba, .. } =
            Image { width, height, channels: 4, levels }.enlarged(frame.scale());
        let (left, top) = frame.place((left, top));
        Self { left, top, width, height, rgba }
    }

    /// A palette of 256 colours, of which the last is transparent, and the index of every pixel in it.
    fn indexed(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut palette, indices) = palette(self.rgba.as_chunks::<4>().0);
        palette.resize(3 * (usize::from(TRANSPARENT) + 1), 0);
        (palette, indices)
    }
}

/// A palette of at most 255 colours, and the index of every pixel in it; [`TRANSPARENT`] where a pixel is.
pub(super) fn palette(pixels: &[[u8; 4]]) -> (Vec<u8>, Vec<u8>) {
    let is_opaque = |pixel: &&[u8; 4]| pixel[3] > 0;
    let colours: BTreeMap<_, _> = pixels.iter().filter(is_opaque).map(|pixel| (*pixel, 0)).collect();
    let most = usize::from(TRANSPARENT);
    let (palette, of_colour): (Vec<_>, BTreeMap<_, _>) = if colours.len() <= most {
        let palette = colours.keys().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        (palette, colours.into_keys().zip(0u8..).collect())
    } else {
        // Every pixel is looked at (1 of 1); a frame has few.
        let opaque: Vec<u8> = pixels.iter().filter(is_opaque).copied().flatten().collect();
        let quantised = NeuQuant::new(1, most, &opaque);
        let indices = colours.into_keys().map(|pixel| (pixel, quantised.index_of(&pixel) as u8));
        (quantised.color_map_rgb(), indices.collect())
    };
    let index = |pixel: &[u8; 4]| of_colour.get(pixel).copied().unwrap_or(TRANSPARENT);
    (palette, pixels.iter().map(index).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of three pixels, of which a frame shows one more than the one before.
    fn frame(k: usize) -> Image {
        let levels = [10, 20, 30].iter().enumerate().map(|(i, &level)| if i < k { level } else { 0 });
        Image { width: 3, height: 1, channels: 1, levels: levels.collect() }
    }

    #[test]
    fn a_frame_holds_what_it_changes() {
        let first = Change::between(None, &frame(0));
        assert_eq!((first.left, first.width, first.rgba), (0, 3, [0, 0, 0, 255].repeat(3)));
        let next = Change::between(Some(&frame(1)), &frame(3)).within(&Frame::new(2));
        assert_eq!((next.left, next.top, next.width, next.height), (2, 0, 4, 2));
        assert_eq!(next.rgba[4..12], [20, 20, 20, 255, 30, 30, 30, 255]);
        let none = Change::between(Some(&frame(1)), &frame(1));
        assert_eq!((none.width, none.height, none.rgba), (1, 1, vec![0; 4]));
    }

    #[test]
    fn colours_keep_their_values_up_to_255() {
        let change = |colours: usize| {
            let levels = (0..colours).flat_map(|i| [i as u8, (i >> 8) as u8, 7]).collect();
            Change::between(None, &Image { width: colours, height: 1, channels: 3, levels })
        };
        // The mean difference of a level.
        let difference = |change: &Change| {
            let (palette, indices) = change.indexed();
            let of_pixel = |(index, pixel): (&u8, &[u8])| {
                assert_ne!(*index, TRANSPARENT);
                let at = 3 * usize::from(*index);
                palette[at..at + 3].iter().zip(pixel).map(|(p, q)| f64::from(p.abs_diff(*q))).sum::<f64>()
            };
            indices.iter().zip(change.rgba.chunks(4)).map(of_pixel).sum::<f64>()
                / (3 * indices.len()) as f64
        };
        assert_eq!(difference(&change(255)), 0.0);
        let of_many = difference(&change(600));
        assert!(of_many > 0.0 && of_many < 4.0, "{of_many}");
    }

    #[test]
    fn sizes_have_limits() {
        assert!(takes(65_535, 1) && !takes(65_536, 1) && takes(800, 800));
        assert!(!takes(10_000, 10_000) && !takes(usize::MAX, 2));
    }
}
