//! PNG files that say how they were made.

use std::fs;
use std::io::{self, Cursor};
use std::path::Path;

use super::{Image, OutputError, file};

/// Writes a picture with text chunks (keyword, text), as [`file::write`] does.
///
/// # Errors
/// [`OutputError::Io`] and [`OutputError::Elsewhere`].
pub fn write(path: &Path, image: &Image, texts: &[(impl AsRef<str>, String)]) -> Result<(), OutputError> {
    file::write(path, |writer| Ok(encode(writer, image, texts)?))
}

/// Writes a picture with text chunks (keyword, text).
///
/// # Errors
/// What the writer says, and pictures too large for the format.
pub fn encode(
    writer: impl io::Write,
    image: &Image,
    texts: &[(impl AsRef<str>, String)],
) -> Result<(), png::EncodingError> {
    let mut writer = encoder(writer, image, texts)?.write_header()?;
    writer.write_image_data(&image.levels)?;
    writer.finish()
}

/// An encoder for a picture with text chunks.
pub(super) fn encoder<W: io::Write>(
    writer: W,
    image: &Image,
    texts: &[(impl AsRef<str>, String)],
) -> Result<png::Encoder<'static, W>, png::EncodingError> {
    let too_large = |_| io::Error::other("the picture is too large for a PNG file");
    let width = u32::try_from(image.width).map_err(too_large)?;
    let height = u32::try_from(image.height).map_err(too_large)?;
    let mut encoder = png::Encoder::new(writer, width, height);
    encoder.set_color(if image.channels == 3 { png::ColorType::Rgb } else { png::ColorType::Grayscale });
    for (keyword, text) in texts {
        let keyword = keyword.as_ref().to_owned();
        // The format ends a text there.
        let text = &text.replace('\0', "\\0");
        // Plain text chunks hold Latin-1 alone, and most programs show them; names of classes can be
        // anything.
        if text.is_ascii() {
            encoder.add_text_chunk(keyword, text.clone())?;
        } else {
            encoder.add_itxt_chunk(keyword, text.clone())?;
        }
    }
    Ok(encoder)
}

/// The largest number of bytes that one byte of a file can hold: deflate packs at most 1032 into one. Files that claim
/// more do not end where they should.
const MOST_PACKED: usize = 1100;

/// Bytes of a compressed text, at most.
const MOST_TEXT: usize = 16 << 20;

/// Reads a picture such as [`write()`] makes, to its end, with its text chunks; of other kinds of PNG files the texts
/// alone, with no levels.
///
/// # Errors
/// What the system says, and files that are no whole PNG files.
pub fn read(path: &Path) -> Result<(Image, Vec<(String, String)>), png::DecodingError> {
    decode(&fs::read(path)?)
}

/// As [`read`], of a file's contents.
///
/// # Errors
/// As [`read`].
pub fn decode(file: &[u8]) -> Result<(Image, Vec<(String, String)>), png::DecodingError> {
    let mut reader = png::Decoder::new(Cursor::new(file)).read_info()?;
    let size = reader.output_buffer_size().filter(|&size| size / MOST_PACKED <= file.len());
    let mut levels = vec![0; size.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?];
    let shape = reader.next_frame(&mut levels)?;
    reader.finish()?;
    let channels = match (shape.color_type, shape.bit_depth) {
        (png::ColorType::Grayscale, png::BitDepth::Eight) => 1,
        (png::ColorType::Rgb, png::BitDepth::Eight) => 3,
        _ => 0,
    };
    if channels == 0 {
        levels.clear();
    }
    let info = reader.info().clone();
    let latin = info.uncompressed_latin1_text.into_iter().map(|t| (t.keyword, t.text));
    // Other programs compress texts when they write a picture anew. One that cannot be read is left out.
    let packed = info.compressed_latin1_text.into_iter().filter_map(|mut t| {
        t.decompress_text_with_limit(MOST_TEXT).ok()?;
        Some((t.keyword.clone(), t.get_text().ok()?))
    });
    let utf8 = info.utf8_text.into_iter().filter_map(|mut t| {
        t.decompress_text_with_limit(MOST_TEXT).ok()?;
        Some((t.keyword.clone(), t.get_text().ok()?))
    });
    let texts = latin.chain(packed).chain(utf8).collect();
    let (width, height) = (shape.width as usize, shape.height as usize);
    Ok((Image { width, height, channels, levels }, texts))
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

            let (read_image, read_texts) = read(&path).unwrap();
            assert_eq!(read_image, image);
            assert_eq!(read_texts, texts.map(|(keyword, text)| (keyword.to_owned(), text)));
            let whole = std::fs::read(&path).unwrap();
            for length in [0, 20, whole.len() - 13, whole.len() - 1] {
                std::fs::write(&path, &whole[..length]).unwrap();
                assert!(read(&path).is_err(), "{length} of {} bytes", whole.len());
            }
        }
    }

    #[test]
    fn texts_that_others_have_compressed_are_read() {
        let (short, long) = ("a ".repeat(500), "a".repeat(MOST_TEXT + 1));
        let mut file = Vec::new();
        let mut writer = png::Encoder::new(&mut file, 1, 1).write_header().unwrap();
        let latin = |text: &str| png::text_metadata::ZTXtChunk::new("latin", text);
        let mut unicode = png::text_metadata::ITXtChunk::new("unicode", "crème ".repeat(500));
        unicode.compressed = true;
        writer.write_text_chunk(&latin(&short)).unwrap();
        writer.write_text_chunk(&latin(&long)).unwrap();
        writer.write_text_chunk(&unicode).unwrap();
        writer.write_image_data(&[7]).unwrap();
        writer.finish().unwrap();
        assert!(file.len() < long.len() / 100);
        let texts = [("latin", short), ("unicode", "crème ".repeat(500))];
        assert_eq!(decode(&file).unwrap().1, texts.map(|(key, text)| (key.to_owned(), text)));
    }
}
