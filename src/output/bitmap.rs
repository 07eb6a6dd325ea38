//! A chart as pixels, with text that is spaced as its font says.
//!
//! The bitmaps of plotters 0.3.7 leave out the space before an outline, and cut positions to whole pixels.

use ab_glyph::{Font, FontRef, PxScaleFont, ScaleFont, point};
use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind};

/// RGB pixels to draw on.
pub struct Bitmap<'a> {
    pixels: BitMapBackend<'a>,
    font: FontRef<'static>,
}

type Failed = DrawingErrorKind<<BitMapBackend<'static> as DrawingBackend>::ErrorType>;

impl<'a> Bitmap<'a> {
    /// On levels `[height, width, 3]`, with text in a font.
    pub fn new(levels: &'a mut [u8], size: (u32, u32), font: FontRef<'static>) -> Self {
        Self { pixels: BitMapBackend::with_buffer(levels, size), font }
    }

    fn line(&self, size: f64) -> Line<'_> {
        Line(self.font.as_scaled(size as f32))
    }
}

/// A line of text in a size.
struct Line<'a>(PxScaleFont<&'a FontRef<'static>>);

impl Line<'_> {
    /// Each character, and where it begins; then the end of the text.
    fn layout(&self, text: &str) -> (Vec<(char, f32)>, f32) {
        let (mut places, mut x, mut before) = (Vec::new(), 0.0, None);
        for c in text.chars() {
            let glyph = self.0.glyph_id(c);
            x += before.map_or(0.0, |before| self.0.kern(before, glyph));
            places.push((c, x));
            x += self.0.h_advance(glyph);
            before = Some(glyph);
        }
        (places, x)
    }

    /// As plotters has it: an em.
    fn height(&self) -> f32 {
        self.0.scale().y / 1.24
    }

    /// From the top of the line: capitals have as much room above as below.
    fn baseline(&self) -> f32 {
        let capital = self.0.outline_glyph(self.0.scaled_glyph('H'));
        (self.height() + capital.map_or(0.0, |capital| capital.px_bounds().height())) / 2.0
    }
}

impl DrawingBackend for Bitmap<'_> {
    type ErrorType = <BitMapBackend<'static> as DrawingBackend>::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.pixels.get_size()
    }

    fn ensure_prepared(&mut self) -> Result<(), Failed> {
        self.pixels.ensure_prepared()
    }

    fn present(&mut self) -> Result<(), Failed> {
        self.pixels.present()
    }

    fn draw_pixel(&mut self, at: BackendCoord, color: BackendColor) -> Result<(), Failed> {
        self.pixels.draw_pixel(at, color)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Result<(), Failed> {
        self.pixels.draw_line(from, to, style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Result<(), Failed> {
        self.pixels.draw_rect(from, to, style, fill)
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        at: BackendCoord,
    ) -> Result<(), Failed> {
        let line = self.line(style.size());
        let (places, width) = line.layout(text);
        let left = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -width / 2.0,
            HPos::Right => -width,
        };
        let top = match style.anchor().v_pos {
            VPos::Top => 0.0,
            VPos::Center => -line.height() / 2.0,
            VPos::Bottom => -line.height(),
        };
        let (color, transform) = (style.color(), style.transform());
        let baseline = top + line.baseline();
        let mut inked = Vec::new();
        for (c, x) in places {
            let mut glyph = line.0.scaled_glyph(c);
            glyph.position = point(left + x, baseline);
            let Some(outline) = line.0.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|x, y, share| {
                let (x, y) = transform.transform(corner.x as i32 + x as i32, corner.y as i32 + y as i32);
                inked.push(((at.0 + x, at.1 + y), share));
            });
        }
        inked.into_iter().try_for_each(|(at, share)| {
            self.draw_pixel(at, BackendColor { alpha: color.alpha * f64::from(share.min(1.0)), ..color })
        })
    }

    fn estimate_text_size<S: BackendTextStyle>(&self, text: &str, style: &S) -> Result<(u32, u32), Failed> {
        let line = self.line(style.size());
        Ok((line.layout(text).1.ceil() as u32, line.height().ceil() as u32))
    }
}

#[cfg(test)]
mod tests {
    use epaint_default_fonts::UBUNTU_LIGHT;
    use plotters::prelude::*;

    use super::*;

    /// Columns that have ink, of a text in black on white.
    fn inked(text: &str, size: i32) -> Vec<usize> {
        let (width, height) = (400, 60);
        let mut levels = vec![255; width * height * 3];
        let font = FontRef::try_from_slice(UBUNTU_LIGHT).unwrap();
        plotters::style::register_font("sans-serif", FontStyle::Normal, UBUNTU_LIGHT).ok().unwrap();
        let bitmap = Bitmap::new(&mut levels, (width as u32, height as u32), font);
        let area = bitmap.into_drawing_area();
        area.draw_text(text, &("sans-serif", size).into_font().color(&BLACK), (10, 10)).unwrap();
        drop(area);
        let is_inked = |x: &usize| (0..height).any(|y| levels[3 * (y * width + x)] < 128);
        (0..width).filter(is_inked).collect()
    }

    #[test]
    fn characters_are_spaced_evenly() {
        // Blank columns between the stems of "iiii".
        for size in [24, 33, 48] {
            let columns = inked("iiiiiiii", size);
            let starts = columns.windows(2).filter(|pair| pair[1] > pair[0] + 1).map(|pair| pair[1]);
            let starts: Vec<_> = starts.collect();
            assert_eq!(starts.len(), 7, "{size}: {columns:?}");
            let steps: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let (least, most) = (steps.iter().min().unwrap(), steps.iter().max().unwrap());
            assert!(most - least <= 1, "{size}: {steps:?}");
            // The outline of an i stands in the middle of its advance: not where the text begins.
            assert!(columns[0] > 10, "{size}: {columns:?}");
        }
    }
}
