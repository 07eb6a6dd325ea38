//! The known pixels of an image, by rows, a box or a mask.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest, Sha256};

use crate::input::{Pixels, decode};

use crate::cli::recipe::{Mask, file_name, parse_size, size_text};
use crate::cli::text::hex;
use crate::cli::{Files, heading, whole};

/// The known pixels.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
#[command(next_help_heading = heading::IMAGES)]
pub struct KnownArgs {
    /// Keep the first N rows
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0..=u16::MAX.into()))]
    rows: Option<usize>,

    /// Redraw only the W by H box with top left corner X,Y
    #[arg(long = "box", value_name = "X,Y,WxH", value_parser = parse_hole)]
    hole: Option<Hole>,

    /// Mask of the same size as the images: white = redraw, black = keep
    #[arg(long, value_name = "MASK.png")]
    mask: Option<PathBuf>,
}

/// An unknown part.
#[derive(Clone, Copy)]
pub struct Hole {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

fn parse_hole(text: &str) -> Result<Hole, String> {
    let parse = || {
        let [left, top, size] = text.split(',').map(str::trim).collect::<Vec<_>>().try_into().ok()?;
        let (width, height) = size.split_once(['x', 'X'])?;
        let hole = Hole {
            left: left.parse().ok()?,
            top: top.parse().ok()?,
            width: width.parse().ok()?,
            height: height.parse().ok()?,
        };
        (hole.width > 0 && hole.height > 0).then_some(hole)
    };
    parse().ok_or("expected the left column, the top row, width and height, such as 4,8,16x12".to_owned())
}

/// The same, read and checked as far as no image is needed.
pub enum Known {
    Rows(usize),
    Outside(String, Hole),
    Black(String, Pixels),
}

impl KnownArgs {
    /// The mask is read, if there is one.
    pub fn add_to(&self, files: &mut Files) {
        if let Some(path) = &self.mask {
            files.reads("--mask", path);
        }
    }

    pub fn read(&self) -> Result<Known> {
        Ok(match (&self.rows, &self.hole, &self.mask) {
            (Some(rows), ..) => Known::Rows(*rows),
            (_, Some(hole), _) => {
                let Hole { left, top, width, height } = hole;
                Known::Outside(format!("{left},{top},{width}x{height}"), *hole)
            }
            (.., Some(path)) => {
                let shown = || format!("--mask {}", path.display());
                let bytes = fs::read(path).with_context(|| format!("{}: cannot be read", shown()))?;
                Known::Black(file_name(path), decode(&bytes).with_context(shown)?)
            }
            _ => unreachable!("one of them is required"),
        })
    }
}

impl Known {
    /// As a recipe has it, with the runs of its mask.
    pub fn parse(flag: &str, mask: Option<&Mask>) -> Result<Self> {
        let broken = || format!("\"{flag}\" does not say what is known");
        match flag.split_once(' ').with_context(broken)? {
            ("rows", rows) => Ok(Self::Rows(rows.parse().with_context(broken)?)),
            ("box", hole) => {
                Ok(Self::Outside(hole.to_owned(), parse_hole(hole).map_err(|_| anyhow!(broken()))?))
            }
            ("mask", name) => Ok(Self::Black(name.to_owned(), mask.with_context(broken)?.pixels()?)),
            _ => Err(anyhow!(broken())),
        }
    }

    /// The SHA-256 of the mask's pixels, if there is one.
    pub fn mask_sha256(&self) -> Option<String> {
        let Self::Black(_, mask) = self else { return None };
        let bytes: Vec<u8> = black(mask).map(u8::from).collect();
        Some(hex(&Sha256::digest(bytes)))
    }

    /// The mask, if there is one.
    pub fn runs(&self) -> Option<Mask> {
        let Self::Black(_, mask) = self else { return None };
        let mut runs = vec![0];
        let mut was_known = true;
        for is_known in black(mask) {
            if is_known != was_known {
                runs.push(0);
            }
            *runs.last_mut().expect("there is one") += 1;
            was_known = is_known;
        }
        Some(Mask { size: size_text(mask.width, mask.height), runs })
    }

    /// True for each known pixel of an image of `width` by `height` pixels.
    pub fn of(&self, width: usize, height: usize) -> Result<Vec<bool>> {
        let at = |is_known: &dyn Fn(usize, usize) -> bool| {
            (0..width * height).map(|pixel| is_known(pixel % width, pixel / width)).collect::<Vec<_>>()
        };
        let known = match self {
            Self::Rows(rows) => {
                ensure!(*rows <= height, "--rows {rows}: expected at most {height}, the rows of the image");
                at(&|_, y| y < *rows)
            }
            Self::Outside(text, hole) => {
                let fits = |start: usize, length: usize, all: usize| {
                    start.checked_add(length).is_some_and(|end| end <= all)
                };
                ensure!(
                    fits(hole.left, hole.width, width) && fits(hole.top, hole.height, height),
                    "--box {text}: expected a box within the image, which is {width}x{height}"
                );
                let inside = |start: usize, length: usize, at: usize| (start..start + length).contains(&at);
                at(&|x, y| !inside(hole.left, hole.width, x) || !inside(hole.top, hole.height, y))
            }
            Self::Black(name, mask) => {
                ensure!(
                    (mask.width, mask.height) == (width, height),
                    "--mask {name}: is {}x{}, and the image is {width}x{height}, at the size of the model unless \
                     --native-size keeps its own",
                    mask.width,
                    mask.height
                );
                black(mask).collect()
            }
        };
        ensure!(
            known.contains(&false),
            "there is nothing to draw: --{} leaves no pixel unknown",
            self.flag().join(" ")
        );
        Ok(known)
    }

    /// The flag that says it, without its dashes, and its value.
    pub fn flag(&self) -> [String; 2] {
        match self {
            Self::Rows(rows) => ["rows".to_owned(), rows.to_string()],
            Self::Outside(text, _) => ["box".to_owned(), text.clone()],
            Self::Black(name, _) => ["mask".to_owned(), name.clone()],
        }
    }
}

/// True for each black pixel of a mask: it is known.
fn black(mask: &Pixels) -> impl Iterator<Item = bool> {
    mask.rgb.as_chunks().0.iter().map(|[r, g, b]| *r.max(g).max(b) < 128)
}

impl Mask {
    fn pixels(&self) -> Result<Pixels> {
        let (width, height) = parse_size(&self.size).map_err(anyhow::Error::msg)?;
        let runs: Vec<usize> = self.runs.iter().map(|run| *run as usize).collect();
        ensure!(runs.iter().sum::<usize>() == width * height, "its mask is not {}, as it says", self.size);
        let run = |(i, length): (usize, &usize)| vec![if i % 2 == 0 { 0 } else { 255 }; 3 * length];
        Ok(Pixels { width, height, rgb: runs.iter().enumerate().flat_map(run).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known() {
        let known = |known: &Known| known.of(3, 2).map_err(|error| error.to_string());
        assert_eq!(known(&Known::Rows(0)).unwrap(), [false; 6]);
        assert_eq!(known(&Known::Rows(1)).unwrap(), [true, true, true, false, false, false]);
        assert!(known(&Known::Rows(2)).unwrap_err().starts_with("there is nothing to draw: --rows 2"));
        assert!(known(&Known::Rows(3)).is_err());
        let hole = |text: &str| Known::Outside(text.to_owned(), parse_hole(text).unwrap());
        assert_eq!(known(&hole("1,0,2x1")).unwrap(), [true, false, false, true, true, true]);
        assert!(known(&hole("1,0,3x1")).is_err() && known(&hole("0,2,1x1")).is_err());
        assert!(parse_hole("1,2,3").is_err() && parse_hole("1,2,0x4").is_err());
        let mask = |width, levels: [u8; 6]| {
            let rgb = levels.iter().flat_map(|l| [*l; 3]).collect();
            Known::Black("mask.png".to_owned(), Pixels { width, height: 6 / width, rgb })
        };
        let scattered = [0, 255, 127, 128, 0, 200];
        assert_eq!(known(&mask(3, scattered)).unwrap(), [true, false, true, false, true, false]);
        assert!(known(&mask(2, scattered)).unwrap_err().contains("is 2x3, and the image is 3x2"));
        assert!(known(&mask(3, [0; 6])).is_err());
        // As a file has it.
        for levels in [scattered, [255; 6], [0, 0, 255, 255, 255, 0]] {
            let mask = mask(3, levels);
            let [flag, name] = mask.flag();
            let again = Known::parse(&format!("{flag} {name}"), mask.runs().as_ref()).unwrap();
            assert_eq!(known(&again).unwrap(), known(&mask).unwrap());
            assert_eq!(again.mask_sha256(), mask.mask_sha256());
        }
        for flag in ["rows x", "box 1", "mask m.png", "lines 3", ""] {
            assert!(Known::parse(flag, None).is_err(), "{flag}");
        }
        assert_eq!(known(&mask(3, [255; 6])).unwrap(), [false; 6]);
    }
}
