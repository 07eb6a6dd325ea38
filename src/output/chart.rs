//! Charts as PNG, SVG, or a buffer of pixels.

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use ab_glyph::{Font, FontRef};
use anyhow::{Result, anyhow, bail};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use unicode_width::UnicodeWidthStr;

use super::bitmap::Bitmap;
use super::{Image, check as check_name, file, png, software};

/// The model where no font has the characters of its name.
pub const UNNAMED: &str = "a model file";

/// The area on which a chart is drawn.
pub type Area<'a, B> = DrawingArea<B, Shift>;
/// The result of drawing.
pub type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Something that can be drawn on any backend.
pub trait Chart {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// The user's names in it, each after what stands for it where no font has its characters.
    fn names(&self) -> Vec<(String, String)> {
        vec![]
    }

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

/// Draws a chart into an SVG file if the name says so, else a PNG file. Gives back what stands in it for names that no font
/// has: "3 for …".
///
/// # Errors
/// What the system says, and charts that cannot be drawn.
pub fn write(path: &Path, chart: &impl Chart) -> Result<Vec<String>> {
    let replaced = prepare(chart)?;
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("svg")) {
        let mut text = String::new();
        let backend = SVGBackend::with_string(&mut text, chart.size()).into_drawing_area();
        chart.draw(&backend).and_then(|()| backend.present()).map_err(|e| failed(e.to_string()))?;
        drop(backend);
        file::write(path, |writer| writer.write_all(text.as_bytes()))?;
    } else {
        png::write(path, &pixels(chart)?, &[software()])?;
    }
    Ok(replaced)
}

/// The pixels of a chart, which is to be prepared.
///
/// # Errors
/// Charts that cannot be drawn.
pub fn pixels(chart: &impl Chart) -> Result<Image> {
    let (width, height) = chart.size();
    let mut levels = vec![255; (width * height * 3) as usize];
    let font = FontRef::try_from_slice(font())?;
    let backend = Bitmap::new(&mut levels, (width, height), font).into_drawing_area();
    chart.draw(&backend).and_then(|()| backend.present()).map_err(|e| failed(e.to_string()))?;
    drop(backend);
    Ok(Image { width: width as usize, height: height as usize, channels: 3, levels })
}

/// A name as charts show it; `otherwise`, where their font lacks one of its characters.
pub fn label(name: &str, otherwise: &str) -> String {
    if can_show(font(), name) { name.to_owned() } else { otherwise.to_owned() }
}

/// The number of text columns that a name takes: Chinese, Japanese and Korean characters take two.
pub fn columns(name: &str) -> i32 {
    name.width() as i32
}

/// The start of a name, of no more columns.
pub fn cut(name: &str, most: i32) -> &str {
    let ends = name.char_indices().map(|(at, c)| &name[..at + c.len_utf8()]);
    ends.take_while(|start| columns(start) <= most).last().unwrap_or_default()
}

fn failed(error: String) -> anyhow::Error {
    anyhow!("the chart cannot be drawn: {error}")
}

/// The font of the charts of this process, which the first of them chooses.
static FONT: OnceLock<&'static [u8]> = OnceLock::new();

fn font() -> &'static [u8] {
    FONT.get().copied().unwrap_or(epaint_default_fonts::UBUNTU_LIGHT)
}

/// Has the font ready, and gives back what stands for names that it lacks: "3 for …".
///
/// # Errors
/// The font is broken.
pub fn prepare(chart: &impl Chart) -> Result<Vec<String>> {
    let names = chart.names();
    let font = FONT.get_or_init(|| font_for(&names));
    register_font("sans-serif", FontStyle::Normal, font)
        .map_err(|_| anyhow!("the font of charts is broken"))?;
    let replaced = names.iter().filter(|(_, name)| !can_show(font, name));
    Ok(replaced.map(|(otherwise, name)| format!("{otherwise} for {name}")).collect())
}

/// Our own font, or one of the system's, if that has characters of Chinese, Japanese or Korean names that ours lacks, and all
/// of the other names.
fn font_for(names: &[(String, String)]) -> &'static [u8] {
    let ours = epaint_default_fonts::UBUNTU_LIGHT;
    let shown: String = names.iter().map(|(_, name)| &name[..]).filter(|name| is_unshaped(name)).collect();
    if can_show(ours, &shown) {
        return ours;
    }
    let needed = shown + &('!'..='~').collect::<String>();
    let mut fonts = fontdb::Database::new();
    fonts.load_system_fonts();
    let mut faces: Vec<_> =
        fonts.faces().filter(|face| face.index == 0 && face.style == fontdb::Style::Normal).collect();
    faces.sort_by_key(|face| (face.weight.0.abs_diff(fontdb::Weight::NORMAL.0), &face.post_script_name));
    let copied = |face: &&fontdb::FaceInfo| {
        let copy = |bytes: &[u8], _| can_show(bytes, &needed).then(|| &*bytes.to_vec().leak());
        fonts.with_face_data(face.id, copy).flatten()
    };
    faces.iter().find_map(copied).unwrap_or(ours)
}

fn can_show(font: &[u8], text: &str) -> bool {
    let Ok(font) = FontRef::try_from_slice(font) else { return false };
    is_unshaped(text) && text.chars().all(|c| font.glyph_id(c).0 != 0)
}

/// True if a text is its characters one after the other. Those of other scripts, such as Arabic, are joined, which
/// charts cannot do.
fn is_unshaped(text: &str) -> bool {
    let ours = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT);
    let is_ours = |c: char| ours.as_ref().is_ok_and(|font| font.glyph_id(c).0 != 0);
    // Han, kana, Hangul; their punctuation; wide and half-width forms.
    let is_of_east_asia = |c| {
        matches!(c, '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
            | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
    };
    text.chars().all(|c| is_ours(c) || is_of_east_asia(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_font_lacks_is_not_shown() {
        let ours = epaint_default_fonts::UBUNTU_LIGHT;
        for name in ["cat", "caf\u{e9}", "Ж", "α 7"] {
            assert!(can_show(ours, name), "{name}");
            assert!(font_for(&[(String::new(), name.to_owned())]) == ours, "{name}");
        }
        for name in ["猫", "고양이", "قط", "cat 猫", "😀"] {
            assert!(!can_show(ours, name), "{name}");
        }
        assert!(is_unshaped("cat 猫カ고") && !is_unshaped("قط") && !is_unshaped("क्ष"));
        assert_eq!((columns("cat"), columns("猫 고")), (3, 5));
        assert_eq!(
            (cut("cat", 2), cut("猫 고", 4), cut("猫", 2), cut("猫", 1), cut("", 1)),
            ("ca", "猫 ", "猫", "", "")
        );
    }
}
