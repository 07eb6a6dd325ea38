//! Charts as PNG, SVG, or a buffer of pixels.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::{Image, check as check_name, file, png, software};

/// Where a chart is drawn.
pub type Area<'a, B> = DrawingArea<B, Shift>;
/// What drawing comes to.
pub type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Something that can be drawn on any backend.
pub trait Chart {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Draws it.
    ///
    /// # Errors
    /// What the backend says.
    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B>;
}

/// Checks that a chart can be written, before there is one.
///
/// # Errors
/// Another ending than .png or .svg, and a place that cannot be written to.
pub fn check(path: &Path) -> Result<()> {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let Some(kind) = ["png", "svg"].into_iter().find(|kind| extension == *kind) else {
        bail!("cannot write {}: expected a file name that ends in .png or .svg", path.display());
    };
    Ok(check_name(path, kind)?)
}

/// Draws a chart into an SVG file if the name says so, else a PNG file.
///
/// # Errors
/// What the system says, and charts that cannot be drawn.
pub fn write(path: &Path, chart: &impl Chart) -> Result<()> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("svg")) {
        register()?;
        let mut text = String::new();
        let backend = SVGBackend::with_string(&mut text, chart.size()).into_drawing_area();
        chart.draw(&backend).and_then(|()| backend.present()).map_err(|e| failed(e.to_string()))?;
        drop(backend);
        return Ok(file::write(path, |writer| writer.write_all(text.as_bytes()))?);
    }
    Ok(png::write(path, &pixels(chart)?, &[software()])?)
}

/// The pixels of a chart.
///
/// # Errors
/// Charts that cannot be drawn.
pub fn pixels(chart: &impl Chart) -> Result<Image> {
    register()?;
    let (width, height) = chart.size();
    let mut levels = vec![255; (width * height * 3) as usize];
    let backend = BitMapBackend::with_buffer(&mut levels, (width, height)).into_drawing_area();
    chart.draw(&backend).and_then(|()| backend.present()).map_err(|e| failed(e.to_string()))?;
    drop(backend);
    Ok(Image { width: width as usize, height: height as usize, channels: 3, levels })
}

fn failed(error: String) -> anyhow::Error {
    anyhow!("the chart cannot be drawn: {error}")
}

fn register() -> Result<()> {
    let font = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    font.map_err(|_| anyhow!("the font of charts is broken"))
}
