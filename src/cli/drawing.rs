//! Flags shared by the subcommands that draw: the distribution, the seed, and the look of pictures.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::engine::Draw;
use crate::output::animation;
use crate::output::frame::Frame;
use crate::output::grid::{Drawing, Grid};
use crate::output::{OutputError, file};

use super::sink::Series;
use super::{Misuse, heading, whole};

/// The seed of the noise.
#[derive(Clone, Copy)]
pub enum Seed {
    Random,
    Number(u64),
}

fn parse_seed(text: &str) -> Result<Seed, String> {
    match text {
        // Other programs call it -1.
        "random" | "-1" => Ok(Seed::Random),
        _ => {
            let number = text.parse().map(Seed::Number);
            let expected =
                || format!("expected a whole number from 0 to {}, or `random` (or -1)", u64::MAX);
            number.map_err(|_| expected())
        }
    }
}

impl Seed {
    /// The number; one that was made here is said.
    pub fn number(self) -> u64 {
        match self {
            Self::Number(seed) => seed,
            Self::Random => {
                // The standard library's hash maps have random keys: all the randomness that is needed here.
                let seed = RandomState::new().build_hasher().finish();
                super::note(&format!("seed: {seed}"));
                seed
            }
        }
    }
}

/// The seed and the distribution of pixels.
#[derive(clap::Args)]
#[command(next_help_heading = heading::DRAWING)]
pub struct DrawArgs {
    /// Random seed: a whole number, or random
    #[arg(short, long, default_value = "0", value_parser = parse_seed)]
    pub seed: Seed,

    /// Temperature: below 1, closer to the most likely values
    ///
    /// 0 takes the most likely level, or the mean of the most likely component, without noise.
    #[arg(long, value_name = "T", default_value = "1", value_parser = parse_temperature)]
    temperature: f32,

    /// Cut tails of total probability P from each pixel's distribution
    ///
    /// For a briefly trained model, 0.01 to 0.05 stops images from dissolving into noise.
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_truncation)]
    truncate: f32,

    /// Drop levels less than P times as likely as the most likely one
    ///
    /// 0.02 to 0.1 removes stray pixels; higher values also remove rare content. Of a mixture, components are
    /// dropped.
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_min_p)]
    min_p: f32,

    /// Draw from the K most likely levels only; 0 means all
    ///
    /// Only for models with a softmax, such as gated ones.
    #[arg(long, value_name = "K", default_value = "0")]
    top_k: usize,

    /// Condition on unrounded values, as the published samplers do
    #[arg(long)]
    continuous: bool,
}

fn parse_temperature(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(t) if (0.0..f32::INFINITY).contains(&t) => Ok(t),
        _ => Err("expected a number from 0, such as 0.9".to_owned()),
    }
}

fn parse_truncation(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(p) if (0.0..1.0).contains(&p) => Ok(p),
        _ => Err("expected a number of at least 0 and below 1, such as 0.05".to_owned()),
    }
}

fn parse_min_p(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("expected a number from 0 to 1, such as 0.05".to_owned()),
    }
}

impl DrawArgs {
    pub fn draw(&self) -> Draw {
        let &Self { temperature, truncate, min_p, top_k, continuous, .. } = self;
        Draw { continuous, temperature, truncation: truncate, min_p, top_k }
    }
}

/// Scale and labels of the grid.
#[derive(clap::Args)]
#[command(next_help_heading = heading::OUTPUT)]
pub struct FrameArgs {
    /// Enlarge each pixel to NxN [default: automatic]
    ///
    /// Animations are enlarged too. For images up to 64x64, automatic is the smallest scale at which the short side
    /// of the grid has at least 512 pixels; otherwise it is 1.
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..=512))]
    pub scale: Option<usize>,

    /// Label the grid with classes or numbers of completions
    ///
    /// Classes stand beside rows of one class, numbers above the columns of completions. auto labels if the scale
    /// leaves room.
    #[arg(
        long,
        value_enum,
        value_name = "auto|always|never",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub captions: Captions,
}

/// Scale and labels of the grid, its animation, and its preview.
#[derive(clap::Args)]
#[command(next_help_heading = heading::OUTPUT)]
pub struct ShowArgs {
    #[command(flatten)]
    pub frame: FrameArgs,

    /// Also write an animation of the grid as it is drawn
    ///
    /// A GIF has at most 255 new colours per frame; an animated PNG has all colours.
    #[arg(long, value_name = "OUT.gif|OUT.png")]
    pub animate: Option<PathBuf>,

    /// Also show the grid on the terminal
    ///
    /// It uses the graphics of kitty, iTerm2 or sixels, else half blocks. [default: if -o is left out and the terminal
    /// is known to have such graphics]
    #[arg(long, conflicts_with = "each")]
    pub show: bool,
}

/// The choice of labels on a grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Captions {
    /// If there is room.
    Auto,
    Always,
    /// Grids of earlier versions have none.
    #[default]
    Never,
}

impl FrameArgs {
    /// The frame of a series' grid. A note lists names that the font lacks, with the numbers that replace them.
    pub fn frame(&self, series: &Series) -> Result<Frame> {
        let frame = series.frame(self.scale, self.captions)?;
        let replaced = series.replaced();
        if frame.has_captions() && !replaced.is_empty() {
            super::note(&format!(
                "note: the font of grids lacks some names; there is {}",
                replaced.join(", ")
            ));
        }
        Ok(frame)
    }

    /// Fails if a flag is given that is about a grid alone. For outputs that hold the pixels as they were drawn.
    pub fn refuse(&self) -> Result<()> {
        let flags = [
            (self.scale.is_some(), "--scale: enlarges a grid"),
            (self.captions == Captions::Always, "--captions: labels a grid"),
        ];
        match flags.into_iter().find(|(is_given, _)| *is_given) {
            Some((_, flag)) => bail!(Misuse(format!(
                "{flag}; a folder or an array holds the pixels that were drawn (leave it out, or name a grid: -o FILE.png)"
            ))),
            None => Ok(()),
        }
    }
}

impl ShowArgs {
    /// Checks that there is a way to make the animation, if one is asked for, of a grid that there is memory for.
    pub fn begin(&self, grid: impl FnOnce() -> Option<Grid>, frame: &Frame) -> Result<Option<Drawing>> {
        let Some(path) = &self.animate else { return Ok(None) };
        if animation::AnimationKind::of(path).is_none() {
            let path = path.clone();
            bail!(OutputError::Extension { path, expected: "gif or .png" });
        }
        file::prove_writable(path)?;
        let grid = grid();
        let size = grid.as_ref().and_then(|grid| frame.size((grid.image().width, grid.image().height)));
        let fits = size.is_some_and(|(width, height)| animation::takes(width, height));
        ensure!(
            fits,
            "--animate: the grid{} would be too large to animate (fewer images, or a smaller --scale)",
            size.map_or(String::new(), |(w, h)| format!(", {w}x{h} pixels,"))
        );
        Ok(grid.map(Drawing::new))
    }

    /// Writes the animation.
    pub fn finish(
        &self,
        drawing: Option<&Drawing>,
        frame: &Frame,
        texts: &[(impl AsRef<str>, String)],
    ) -> Result<()> {
        if let (Some(path), Some(drawing)) = (&self.animate, drawing) {
            drawing.animation(frame).write(path, texts)?;
        }
        Ok(())
    }
}
