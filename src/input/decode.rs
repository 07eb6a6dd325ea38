//! Image files: from bytes to pixels, as libjpeg-turbo and Pillow give them.

use std::io::Cursor;

use image::codecs::pnm::PnmDecoder;
use image::metadata::Orientation;
use image::{
    DynamicImage, ExtendedColorType, GrayAlphaImage, ImageDecoder, ImageError, ImageFormat, ImageReader,
    Limits, RgbImage,
};
use libjpeg_turbo_rs as jpeg;
use tiff::decoder::DecodingResult;
use tiff::tags::Tag;

use super::{InputError, planes};

/// Larger images are refused before memory is taken for them.
pub const MOST_PIXELS: u64 = 1 << 27;

/// An image of 8 bits a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// `[H, W, 3]`; grey images have three equal channels.
    pub rgb: Vec<u8>,
}

impl Pixels {
    /// Column and row of the first pixel that is not grey.
    pub fn first_colour(&self) -> Option<(usize, usize)> {
        let (pixels, _) = self.rgb.as_chunks::<3>();
        let at = pixels.iter().position(|[r, g, b]| r != g || r != b)?;
        Some((at % self.width, at / self.width))
    }

    /// `[H, W, channels]`, for 3 channels, or for 1 if there is no colour.
    pub fn levels(self, channels: usize) -> Vec<u8> {
        match channels {
            3 => self.rgb,
            _ => self.rgb.as_chunks().0.iter().map(|[r, _, _]| *r).collect(),
        }
    }
}

/// Decodes a file of any of the formats, whatever its name; the first frame of an animation. Transparent
/// pixels lie on white.
///
/// # Errors
/// A defect of the file.
pub fn decode(bytes: &[u8]) -> Result<Pixels, InputError> {
    if bytes.starts_with(b"P7") {
        // PAM, which training does not read.
        return Err(InputError::Unknown);
    }
    let (mut image, orientation) = match image::guess_format(bytes) {
        // Bytes after its end, such as the video of a motion photo, are not part of the picture.
        Ok(ImageFormat::Jpeg) => decode_jpeg(&bytes[..end_of_jpeg(bytes).unwrap_or(bytes.len())])?,
        Ok(ImageFormat::Tiff) => decode_tiff(bytes)?,
        Ok(
            format @ (ImageFormat::Png
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp
            | ImageFormat::Pnm),
        ) => decode_other(bytes, format)?,
        _ => return Err(InputError::Unknown),
    };
    if !has_end(bytes) {
        return Err(InputError::Broken("its data ends too early".to_owned()));
    }
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let rgb = match image.color().has_alpha() {
        true => image.into_rgba8().pixels().flat_map(|pixel| on_white(pixel.0)).collect(),
        false => image.into_rgb8().into_raw(),
    };
    Ok(Pixels { width, height, rgb })
}

/// True for PNG files that say how this program drew them: by a text with the keyword of a recipe, or of files from
/// before there were recipes.
pub fn is_drawn(bytes: &[u8]) -> bool {
    let Some(mut chunks) = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n") else { return false };
    // Length, kind, contents, check sum.
    while let Some((&[a, b, c, d, ref kind @ ..], rest)) = chunks.split_first_chunk::<8>() {
        let is_text = [b"tEXt", b"zTXt", b"iTXt"].contains(&kind);
        if is_text && [&b"recipe\0"[..], b"model_sha256\0"].iter().any(|keyword| rest.starts_with(keyword))
        {
            return true;
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        chunks = rest.get(length.saturating_add(4)..).unwrap_or_default();
    }
    false
}

/// True if a file has its end. Decoders are content once they have all pixels, even if a file was cut off
/// shortly before its end.
fn has_end(bytes: &[u8]) -> bool {
    match *bytes {
        [0xff, 0xd8, ..] => end_of_jpeg(bytes).is_some(),
        [0x89, b'P', ..] => bytes.windows(8).any(|window| window == b"\0\0\0\0IEND"),
        [b'R', b'I', b'F', b'F', a, b, c, d, ..] => {
            bytes.len() as u64 >= 8 + u64::from(u32::from_le_bytes([a, b, c, d]))
        }
        _ => true,
    }
}

/// Offset of a JPEG's end, by its markers; none if it is missing.
fn end_of_jpeg(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        // The next marker. Data of a scan and stray bytes come before it; 0 and restarts belong to a scan.
        at += bytes
            .get(at..)?
            .windows(2)
            .position(|two| two[0] == 0xff && !matches!(two[1], 0 | 1 | 0xd0..=0xd8 | 0xff))?;
        if bytes[at + 1] == 0xd9 {
            return Some(at + 2);
        }
        let length = bytes.get(at + 2..at + 4)?;
        at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
}

fn on_white([r, g, b, a]: [u8; 4]) -> [u8; 3] {
    let a = u32::from(a);
    [r, g, b].map(|c| ((u32::from(c) * a + 255 * (255 - a) + 127) / 255) as u8)
}

fn check_size(width: u32, height: u32) -> Result<(), InputError> {
    let is_large = u64::from(width) * u64::from(height) > MOST_PIXELS;
    if is_large { Err(InputError::Large(width, height)) } else { Ok(()) }
}

/// A decoder's message, cut short: some quote whole tables from the file.
fn brief(error: &dyn std::fmt::Display) -> String {
    const SHOWN: usize = 200;
    let text = error.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// By a decoder whose pixels are those of libjpeg-turbo, to the level.
fn decode_jpeg(bytes: &[u8]) -> Result<(DynamicImage, Orientation), InputError> {
    let broken = |error: jpeg::JpegError| match error {
        jpeg::JpegError::UnexpectedEof => InputError::Broken("its data ends too early".to_owned()),
        jpeg::JpegError::Unsupported(what) => InputError::Unsupported(brief(&what)),
        error => InputError::Broken(brief(&error)),
    };
    let mut decoder = jpeg::Decoder::new(bytes).map_err(broken)?;
    check_size(decoder.header().width.into(), decoder.header().height.into())?;
    if decoder.header().precision != 8 {
        return Err(InputError::Deep);
    }
    match decoder.jpeg_color_space() {
        jpeg::ColorSpace::Cmyk | jpeg::ColorSpace::Ycck => return Err(InputError::Cmyk),
        _ => decoder.set_output_format(jpeg::PixelFormat::Rgb),
    }
    let exif = decoder.exif_orientation();
    let (width, height) = (decoder.header().width.into(), decoder.header().height.into());
    let rgb = match planes::is_luma_coarse(decoder.header()) {
        true => planes::decode_rgb(decoder).map_err(broken)?,
        false => decoder.decode_image().map_err(broken)?.data,
    };
    let rgb = RgbImage::from_raw(width, height, rgb);
    let rgb = rgb.ok_or_else(|| InputError::Broken("its size is not that of its data".to_owned()))?;
    Ok((rgb.into(), exif.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)))
}

fn refused(error: ImageError) -> InputError {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            InputError::Broken("its data ends too early".to_owned())
        }
        ImageError::Unsupported(error) => InputError::Unsupported(brief(&error)),
        error => InputError::Broken(brief(&error)),
    }
}

fn decode_other(bytes: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), InputError> {
    if format == ImageFormat::Bmp && bytes.get(28..30) == Some(&[16, 0]) {
        return Err(InputError::Unsupported("a BMP of 16 bits a pixel".to_owned()));
    }
    // Bitmaps have no maximum.
    if format == ImageFormat::Pnm && !matches!(bytes, [_, b'1' | b'4', ..]) {
        match PnmDecoder::new(bytes).map_err(refused)?.into_inner().1.maximal_sample() {
            255 => {}
            256.. => return Err(InputError::Deep),
            most => return Err(InputError::Unsupported(format!("a PNM with a maximum of {most}"))),
        }
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(8 * MOST_PIXELS);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if matches!(decoder.original_color_type(), ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16) {
        return Err(InputError::Cmyk);
    }
    let colour = decoder.color_type();
    if colour.bytes_per_pixel() > colour.channel_count() {
        return Err(InputError::Deep);
    }
    // A broken description of the picture is no reason to refuse it.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder).map_err(refused)?, orientation))
}

/// Like [`decode_other`], with colours as before the multiplication by alpha.
fn decode_tiff(bytes: &[u8]) -> Result<(DynamicImage, Orientation), InputError> {
    // A file that cannot be opened is left to the decoder of all formats, whose error says why.
    let Ok(mut file) = tiff::decoder::Decoder::new(Cursor::new(bytes)) else {
        return decode_other(bytes, ImageFormat::Tiff);
    };
    // The decoder of TIFFs decodes JPEG to slightly other levels.
    if let Ok(6 | 7) = file.get_tag_u32(Tag::Compression) {
        return Err(InputError::Unsupported("a TIFF that holds a JPEG".to_owned()));
    }
    let extra = file.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten().unwrap_or_default();
    if let Some(problem) = problem_of_channels(&mut file, &extra) {
        return Err(InputError::Unsupported(problem.to_owned()));
    }
    if let Ok(tiff::ColorType::Multiband { bit_depth, num_samples: 2 }) = file.colortype() {
        return match (bit_depth, &extra[..], file.get_tag_u32(Tag::PhotometricInterpretation)) {
            (8, [2], Ok(1)) => grey_with_alpha(file),
            (9.., _, _) => Err(InputError::Deep),
            _ => Err(InputError::Unsupported(
                "a grey TIFF whose second channel is not straight alpha".to_owned(),
            )),
        };
    }
    let (mut image, orientation) = decode_other(bytes, ImageFormat::Tiff)?;
    if let (Some(1), DynamicImage::ImageRgba8(image)) = (extra.first(), &mut image) {
        image.pixels_mut().for_each(|pixel| pixel.0 = divided_by_alpha(pixel.0));
    }
    Ok((image, orientation))
}

/// The reason why this program, or Pillow in training, would misread the channels of a TIFF, if there is one.
fn problem_of_channels(
    file: &mut tiff::decoder::Decoder<Cursor<&[u8]>>,
    extra: &[u16],
) -> Option<&'static str> {
    let mut tag = |tag, default| file.get_tag_u32(tag).unwrap_or(default);
    let is_apart = tag(Tag::PlanarConfiguration, 1) == 2;
    let kind = (tag(Tag::PhotometricInterpretation, 1), tag(Tag::SamplesPerPixel, 1));
    let is_predicted = tag(Tag::Predictor, 1) != 1;
    let is_known = match extra {
        [] => true,
        [first, others @ ..] => *first <= 2 && others.len() <= 2 && others.iter().all(|kind| *kind == 0),
    };
    match () {
        _ if !is_known => Some("a TIFF with channels beside its colours that are no single alpha"),
        _ if is_apart && !matches!((kind, extra), ((1, 1) | (2, 3), []) | ((2, 4), [2])) => Some(
            "a TIFF that stores its channels apart, and others than red, green, blue and straight alpha",
        ),
        // The decoder takes such channels out before it undoes the prediction.
        _ if is_predicted && extra.contains(&0) => {
            Some("a TIFF with channels without a meaning, stored with a predictor")
        }
        _ => None,
    }
}

/// Straight colours of associated ("premultiplied") ones, as Pillow rounds them.
fn divided_by_alpha([r, g, b, a]: [u8; 4]) -> [u8; 4] {
    let divided = |c: u8| (255 * u32::from(c)).checked_div(a.into()).map_or(c, |c| c.min(255) as u8);
    [divided(r), divided(g), divided(b), a]
}

/// A kind that the decoder of all formats lacks.
fn grey_with_alpha(
    mut file: tiff::decoder::Decoder<Cursor<&[u8]>>,
) -> Result<(DynamicImage, Orientation), InputError> {
    let broken = |error: tiff::TiffError| match error {
        tiff::TiffError::UnsupportedError(error) => InputError::Unsupported(brief(&error)),
        error => InputError::Broken(brief(&error)),
    };
    let (width, height) = file.dimensions().map_err(broken)?;
    check_size(width, height)?;
    let mut samples = DecodingResult::U8(Vec::new());
    file.read_image_to_buffer(&mut samples).map_err(broken)?;
    let DecodingResult::U8(samples) = samples else { return Err(InputError::Deep) };
    let orientation =
        file.get_tag_u32(Tag::Orientation).ok().and_then(|tag| Orientation::from_exif(tag as u8));
    let image = GrayAlphaImage::from_raw(width, height, samples)
        .ok_or_else(|| InputError::Broken("its size is not that of its data".to_owned()))?;
    Ok((image.into(), orientation.unwrap_or(Orientation::NoTransforms)))
}
