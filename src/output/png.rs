//! PNG files that say how they were made.

use std::io;
use std::path::Path;

use super::{Image, OutputError, file};

/// Writes a picture with text chunks (keyword, text), as [`file::write`] does.
///
/// # Errors
/// [`OutputError::Io`] and [`OutputError::Elsewhere`].
pub fn write(path: &Path, image: &Image, texts: &[(&str, String)]) -> Result<(), OutputError> {
    file::write(path, |writer| Ok(encode(writer, image, texts)?))
}

fn encode(
    writer: impl io::Write,
    image: &Image,
    texts: &[(&str, String)],
) -> Result<(), png::EncodingError> {
    let mut writer = encoder(writer, image, texts)?.write_header()?;
    writer.write_image_data(&image.levels)?;
    writer.finish()
}

/// An encoder for a picture with text chunks.
pub(super) fn encoder<W: io::Write>(
    writer: W,
    image: &Image,
    texts: &[(&str, String)],
) -> Result<png::Encoder<'static, W>, png::EncodingError> {
    let too_large = |_| io::Error::other("the picture is too large for a PNG file");
    let width = u32::try_from(image.width).map_err(too_large)?;
    let height = u32::try_from(image.height).map_err(too_large)?;
    let mut encoder = png::Encoder::new(writer, width, height);
    encoder.set_color(if image.channels == 3 { png::ColorType::Rgb } else { png::ColorType::Grayscale });
    for (keyword, text) in texts {
        // The format ends a text there.
        let text = &text.replace('\0', "\\0");
        // Plain text chunks hold Latin-1 alone, and most programs show them; names of classes can be
        // anything.
        if text.is_ascii() {
            encoder.add_text_chunk((*keyword).to_owned(), text.clone())?;
        } else {
            encoder.add_itxt_chunk((*keyword).to_owned(), text.clone())?;
        }
    }
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_and_its_texts_come_back() {
        let folder = tempfile::tempdir().unwrap();
        for channels in [1, 3] {
            let levels: Vec<u8> = (0..2 * 3 * channels as u8).map(|i| 40 * (i % 7)).collect();
            let image = Image { width: 3, height: 2, channels, levels };
            let path = folder.path().join("image.png");
            let texts = [("seed", "7".to_owned()), ("class", "chat à la crème 🐈".to_owned())];
            write(&path, &image, &texts).unwrap();

            let file = io::BufReader::new(std::fs::File::open(&path).unwrap());
            let mut reader = png::Decoder::new(file).read_info().unwrap();
            let mut levels = vec![0; reader.output_buffer_size().unwrap()];
            let shape = reader.next_frame(&mut levels).unwrap();
            assert_eq!((shape.width, shape.height, levels), (3, 2, image.levels));
            let info = reader.info();
            assert_eq!(info.uncompressed_latin1_text[0].text, "7");
            assert_eq!(info.utf8_text[0].get_text().unwrap(), texts[1].1);
        }
    }
}
