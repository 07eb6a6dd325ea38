//! Charts as PNG, SVG, or a buffer of pixels.

use std::io::Write;
use std::path::Path;

use ab_glyph::{Font, FontRef};
use anyhow::{Result, anyhow, bail};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::output::{self, Image, file, png};

pub type Area<'a, B> = DrawingArea<B, Shift>;
pub type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Something that can be drawn on any backend.
pub trait Chart {
    /// In pixels.
    fn size(&self) -> (u32, u32);

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B>;
}

/// Everything that could keep a chart from being written, before there is one.
pub fn check(path: &Path) -> Result<()> {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let Some(kind) = ["png", "svg"].into_iter().find(|kind| extension == *kind) else {
        bail!("cannot write {}: expected a file name that ends in .png or .svg", path.display());
    };
    Ok(output::check(path, kind)?)
}

/// Draws a chart into an SVG file if the name says so, else a PNG file.
pub fn write(path: &Path, chart: &impl Chart) -> Result<()> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("svg")) {
        register()?;
        let mut text = String::new();
        let backend = SVGBackend::with_string(&mut text, chart.size()).into_drawing_area();
        chart.draw(&backend).and_then(|()| backend.present()).map_err(|e| failed(e.to_string()))?;
        drop(backend);
        return Ok(file::write(path, |writer| writer.write_all(text.as_bytes()))?);
    }
    Ok(png::write(path, &pixels(chart)?, &[super::recipe::software()])?)
}

/// The pixels of a chart.
pub fn pixels(chart: &impl Chart) -> Result<Image> {
    register()?;
    let (width, height) = chart.size();
    let mut levels = vec![255; (width * height * 3) as usize];
    let backend = BitMapBackend::with_buffer(&mut levels, (width, height)).into_drawing_area();
    chart.draw(&backend).and_then(|()| backend.present()).map_err(|e| failed(e.to_string()))?;
    drop(backend);
    Ok(Image { width: width as usize, height: height as usize, channels: 3, levels })
}

/// A name as charts show it: its number, where the font lacks one of its characters.
pub fn label(name: &str, number: usize) -> String {
    let font = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT).ok();
    let has = |c: char| font.as_ref().is_some_and(|font| font.glyph_id(c).0 != 0);
    if name.chars().all(has) { name.to_owned() } else { number.to_string() }
}

fn failed(error: String) -> anyhow::Error {
    anyhow!("the chart cannot be drawn: {error}")
}

fn register() -> Result<()> {
    let font = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    font.map_err(|_| anyhow!("the font of charts is broken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_font_lacks_are_numbers() {
        for name in ["cat", "caf\u{e9}", "Ж", "α 7"] {
            assert_eq!(label(name, 3), name);
        }
        for name in ["猫", "고양이", "قط", "cat 猫"] {
            assert_eq!(label(name, 3), "3");
        }
    }
}
