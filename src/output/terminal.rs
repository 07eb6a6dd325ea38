//! A picture on a terminal: by the graphics protocol of kitty or of iTerm2, as sixels, or as half blocks, two pixels a
//! character.
//!
//! Environment variables tell which terminal it is. Terminals are not asked, for one that does not answer would hold up the
//! program.

use std::io::{self, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::RgbImage;
use image::imageops;

use super::animation::palette;
use super::{Image, png};

/// The protocol by which a terminal shows pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// <https://sw.kovidgoyal.net/kitty/graphics-protocol/>
    Kitty,
    /// <https://iterm2.com/documentation-images.html>
    Iterm2,
    /// Of the DEC VT340.
    Sixel,
    /// Characters ▀, whose halves have two colours: any, or the nearest of 256.
    Blocks {
        /// True if the terminal has all colours.
        all_colours: bool,
    },
}

impl Protocol {
    /// That of the terminal which sets these environment variables; none if it has no colours.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let said = |name: &str| variable(name).filter(|value| !value.is_empty());
        let (term, program) = (said("TERM").unwrap_or_default(), said("TERM_PROGRAM").unwrap_or_default());
        if term == "dumb" {
            return None;
        }
        let all_colours = said("COLORTERM").is_some_and(|c| c == "truecolor" || c == "24bit");
        // Within these, the variables are those of the terminal around them, which does not get what is written.
        let is_within = said("TMUX").is_some() || said("STY").is_some();
        let is_multiplexer = is_within || ["screen", "tmux"].iter().any(|name| term.starts_with(name));
        let version: u32 = said("KONSOLE_VERSION").and_then(|version| version.parse().ok()).unwrap_or(0);
        Some(if is_multiplexer {
            Self::Blocks { all_colours }
        } else if ["xterm-kitty", "xterm-ghostty"].contains(&&*term)
            || program == "ghostty"
            || version >= 220_400
        {
            Self::Kitty
        } else if ["iTerm.app", "WezTerm", "mintty", "rio"].contains(&&*program)
            || said("LC_TERMINAL").is_some_and(|name| name == "iTerm2")
        {
            Self::Iterm2
        } else if ["foot", "mlterm", "contour"].iter().any(|name| term.starts_with(name)) {
            Self::Sixel
        } else {
            Self::Blocks { all_colours }
        })
    }

    /// True if it shows every pixel.
    pub fn is_exact(self) -> bool {
        !matches!(self, Self::Blocks { .. })
    }
}

/// Pixels that a character is taken to be wide; it is twice as high.
const CHARACTER: usize = 8;

/// Characters that a small picture is wide, at least.
const LEAST: usize = 24;

/// Bytes of base64 in a piece that kitty takes.
const PIECE: usize = 4096;

/// Shows a picture on a terminal of `columns` by `rows` cells, whole if the terminal shows pixels.
///
/// # Errors
///
/// Any error of the writer.
pub fn write(
    to: &mut impl Write,
    image: &Image,
    protocol: Protocol,
    (columns, rows): (usize, usize),
) -> io::Result<()> {
    let (width, height) = (image.width, image.height);
    let columns = columns.max(1);
    // Columns that it takes, no more than those with which it is as high as the terminal, but for two lines.
    let fitting = (2 * rows.saturating_sub(2) * width / height.max(1)).max(1);
    let across = columns.min(width.div_ceil(CHARACTER).max(LEAST)).min(fitting);
    match protocol {
        Protocol::Kitty => {
            let data = BASE64_STANDARD.encode(encoded(image)?);
            let mut pieces = data.as_bytes().chunks(PIECE).peekable();
            let mut head = format!("a=T,f=100,q=2,c={across},");
            while let Some(piece) = pieces.next() {
                write!(to, "\x1b_G{head}m={};", u8::from(pieces.peek().is_some()))?;
                to.write_all(piece)?;
                write!(to, "\x1b\\")?;
                head.clear();
            }
            writeln!(to)
        }
        Protocol::Iterm2 => {
            let file = encoded(image)?;
            let (size, data) = (file.len(), BASE64_STANDARD.encode(file));
            let settings = format!("inline=1;size={size};width={across};preserveAspectRatio=1");
            writeln!(to, "\x1b]1337;File={settings}:{data}\x07")
        }
        Protocol::Sixel => sixels(to, &resized(image, across * CHARACTER)),
        // As wide as the terminal if need be, and as high as that makes it: pixels are few.
        Protocol::Blocks { all_colours } => blocks(to, &resized(image, columns.min(width)), all_colours),
    }
}

fn encoded(image: &Image) -> io::Result<Vec<u8>> {
    let mut file = Vec::new();
    png::encode(&mut file, image, &[] as &[(&str, String)])?;
    Ok(file)
}

/// An image of at most `columns` columns: pixels become squares, or the means of squares.
fn resized(image: &Image, columns: usize) -> RgbImage {
    let Image { width, height, .. } = *image;
    let grown = image.enlarged((columns / width).max(1));
    let rgb = match grown.channels {
        3 => grown.levels,
        _ => grown.levels.iter().flat_map(|&level| [level; 3]).collect(),
    };
    let picture =
        RgbImage::from_raw(grown.width as u32, grown.height as u32, rgb).expect("it has all pixels");
    match width > columns {
        true => imageops::thumbnail(&picture, columns as u32, (height * columns).div_ceil(width) as u32),
        false => picture,
    }
}

/// Two rows of pixels a line.
fn blocks(to: &mut impl Write, picture: &RgbImage, all_colours: bool) -> io::Result<()> {
    let colour = |layer: u8, [r, g, b]: [u8; 3]| match all_colours {
        true => format!("{layer};2;{r};{g};{b}"),
        false => format!("{layer};5;{}", nearest([r, g, b])),
    };
    for y in (0..picture.height()).step_by(2) {
        for x in 0..picture.width() {
            let lower = match picture.get_pixel_checked(x, y + 1) {
                Some(pixel) => colour(48, pixel.0),
                None => "49".to_owned(),
            };
            write!(to, "\x1b[{};{lower}m▀", colour(38, picture.get_pixel(x, y).0))?;
        }
        writeln!(to, "\x1b[0m")?;
    }
    Ok(())
}

/// The colour of a terminal's 256 that is nearest: of its cube of six levels a channel, or of its 24 greys.
fn nearest(rgb: [u8; 3]) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let distance = |other: [u8; 3]| -> u32 {
        rgb.iter().zip(other).map(|(&a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
    };
    let step = |level: u8| (0..6).min_by_key(|&step: &usize| LEVELS[step].abs_diff(level)).unwrap_or(0);
    let [r, g, b] = rgb.map(step);
    let mean = rgb.iter().map(|&level| u32::from(level)).sum::<u32>() / 3;
    let grey = mean.saturating_sub(3).min(230) / 10;
    let is_grey = distance([8 + 10 * grey as u8; 3]) < distance([LEVELS[r], LEVELS[g], LEVELS[b]]);
    if is_grey { 232 + grey as u8 } else { (16 + 36 * r + 6 * g + b) as u8 }
}

/// Six rows of pixels a line, a colour of at most 255 after the other.
fn sixels(to: &mut impl Write, picture: &RgbImage) -> io::Result<()> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let rgba: Vec<_> =
        picture.pixels().map(|pixel| [pixel.0[0], pixel.0[1], pixel.0[2], u8::MAX]).collect();
    let (palette, indices) = palette(&rgba);
    write!(to, "\x1bP0;1;0q\"1;1;{width};{height}")?;
    for (i, rgb) in palette.chunks(3).enumerate() {
        let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(|level| (u32::from(level) * 100 + 127) / 255);
        write!(to, "#{i};2;{r};{g};{b}")?;
    }
    for rows in indices.chunks(6 * width) {
        let mut used = rows.to_vec();
        used.sort_unstable();
        used.dedup();
        for (nth, colour) in used.into_iter().enumerate() {
            // Bit r of a column is set where row r of it has the colour.
            let bits = |x: usize| {
                let has = |(row, pixels): (usize, &[u8])| u8::from(pixels[x] == colour) << row;
                rows.chunks(width).enumerate().map(has).sum::<u8>()
            };
            let back = if nth > 0 { "$" } else { "" };
            write!(to, "{back}#{colour}")?;
            let columns: Vec<_> = (0..width).map(bits).collect();
            for run in columns.chunk_by(|a, b| a == b) {
                write!(to, "!{}{}", run.len(), char::from(b'?' + run[0]))?;
            }
        }
        write!(to, "-")?;
    }
    writeln!(to, "\x1b\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<Protocol> {
        Protocol::of(|name| Some(variables.iter().find(|(key, _)| *key == name)?.1.to_owned()))
    }

    #[test]
    fn terminals_are_known_by_their_variables() {
        let blocks = |all_colours| Some(Protocol::Blocks { all_colours });
        for (variables, expected) in [
            (&[("TERM", "xterm-kitty")][..], Some(Protocol::Kitty)),
            (&[("TERM", "xterm-256color"), ("KONSOLE_VERSION", "230801")], Some(Protocol::Kitty)),
            (&[("TERM", "xterm-256color"), ("KONSOLE_VERSION", "200400")], blocks(false)),
            (&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "iTerm.app")], Some(Protocol::Iterm2)),
            (&[("TERM", "xterm-256color"), ("LC_TERMINAL", "iTerm2")], Some(Protocol::Iterm2)),
            (&[("TERM", "foot-extra")], Some(Protocol::Sixel)),
            (&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")], blocks(true)),
            (&[("TERM", "xterm-kitty"), ("TMUX", "/tmp/tmux-0/default")], blocks(false)),
            (&[("TERM", "screen"), ("TERM_PROGRAM", "iTerm.app")], blocks(false)),
            (&[("TERM", "dumb"), ("COLORTERM", "truecolor")], None),
            (&[], blocks(false)),
        ] {
            assert_eq!(of(variables), expected, "{variables:?}");
        }
    }

    fn shown(image: &Image, protocol: Protocol, window: (usize, usize)) -> String {
        let mut text = Vec::new();
        write(&mut text, image, protocol, window).unwrap();
        String::from_utf8(text).unwrap()
    }

    /// Red and blue above green.
    fn picture() -> Image {
        let levels = vec![255, 0, 0, 0, 0, 255, 0, 255, 0, 0, 255, 0];
        Image { width: 2, height: 2, channels: 3, levels }
    }

    #[test]
    fn half_blocks_have_two_colours() {
        let all = shown(&picture(), Protocol::Blocks { all_colours: true }, (80, 24));
        let expected = "\x1b[38;2;255;0;0;48;2;0;255;0m▀\x1b[38;2;0;0;255;48;2;0;255;0m▀\x1b[0m\n";
        assert_eq!(all, expected);
        let few = shown(&picture(), Protocol::Blocks { all_colours: false }, (80, 24));
        assert_eq!(few, "\x1b[38;5;196;48;5;46m▀\x1b[38;5;21;48;5;46m▀\x1b[0m\n");
        for (rgb, expected) in [
            ([0; 3], 16),
            ([255; 3], 231),
            ([8; 3], 232),
            ([238; 3], 255),
            ([128; 3], 244),
            ([95, 135, 175], 67),
        ] {
            assert_eq!(nearest(rgb), expected, "{rgb:?}");
        }
        // An odd row, and a picture that is wider than the terminal.
        let wide = Image { width: 100, height: 50, channels: 1, levels: vec![7; 5000] };
        let text = shown(&wide, Protocol::Blocks { all_colours: true }, (10, 24));
        assert_eq!((text.lines().count(), text.matches('▀').count()), (3, 30));
        assert_eq!(text.matches("48;2;7;7;7").count(), 20);
    }

    #[test]
    fn kitty_gets_a_png_file_in_pieces() {
        let noise: Vec<u8> =
            (0..90_000_u32).map(|i| (i.wrapping_mul(i).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let image = Image { width: 300, height: 100, channels: 3, levels: noise };
        let text = shown(&image, Protocol::Kitty, (80, 24));
        let pieces: Vec<_> = text.trim_end().split_terminator("\x1b\\").collect();
        assert!(pieces.len() > 10 && pieces[0].starts_with("\x1b_Ga=T,f=100,q=2,c=38,m=1;"));
        let mut data = String::new();
        for (i, piece) in pieces.iter().enumerate() {
            let (head, part) = piece.split_once(';').unwrap();
            assert!(
                head.ends_with(if i + 1 < pieces.len() { "m=1" } else { "m=0" }) && part.len() <= PIECE
            );
            data += part;
        }
        assert_eq!(png::decode(&BASE64_STANDARD.decode(data).unwrap()).unwrap().0, image);
        // It lies in the window as a whole.
        assert!(shown(&image, Protocol::Kitty, (20, 24)).contains(",c=20,"));
        assert!(shown(&image, Protocol::Kitty, (80, 5)).contains(",c=18,"));
        let text = shown(&image, Protocol::Iterm2, (80, 24));
        assert!(text.starts_with("\x1b]1337;File=inline=1;size=") && text.ends_with("\x07\n"));
    }

    #[test]
    fn sixels_have_the_pixels() {
        let text = shown(&picture(), Protocol::Sixel, (1, 24));
        // Eight pixels wide, as one character: squares of four.
        assert!(text.starts_with("\x1bP0;1;0q\"1;1;8;8#0;2;0;0;100#1;2;0;100;0#2;2;100;0;0"), "{text:?}");
        // Four rows of the upper colours and two of the lower, then two rows.
        assert!(text.ends_with("#0!4?!4N$#1!8o$#2!4N!4?-#1!8B-\x1b\\\n"), "{text:?}");
    }
}
