//! What the subcommands that draw share: how pixels are drawn, and how the pictures are shown.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use super::heading;
use crate::engine::Draw;
use crate::output::animation;
use crate::output::grid::{Drawing, Grid};
use crate::output::{OutputError, file};

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
            let expected = || format!("expected `random`, or a whole number from 0 to {}", u64::MAX);
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

/// How pixels are drawn.
#[derive(clap::Args)]
#[command(next_help_heading = heading::DRAWING)]
pub struct DrawArgs {
    /// Seed: a whole number, or random
    ///
    /// -1 means random too.
    #[arg(short, long, default_value = "0", value_parser = parse_seed)]
    pub seed: Seed,

    /// Temperature; lower values stay closer to the most likely ones
    ///
    /// 0 takes the most likely level, or the mean of the most likely component, without noise.
    #[arg(long, value_name = "T", default_value = "1", value_parser = parse_temperature)]
    temperature: f32,

    /// Cut probability P from the tails of each pixel's distribution
    ///
    /// Values of 0.01 to 0.05 keep images of briefly trained models from collapsing into noise.
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_truncation)]
    truncate: f32,

    /// Drop levels less than P times as likely as the top one
    ///
    /// Removes stray pixels; higher values drop more rare content. Values of 0.02 to 0.1 help. Of a mixture, it drops components.
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_min_p)]
    min_p: f32,

    /// Draw from the K most likely levels only; 0 means all
    ///
    /// For models with a softmax.
    #[arg(long, value_name = "K", default_value = "0")]
    top_k: usize,

    /// Feed back unrounded pixel values, as the published samplers do
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
        _ => Err("expected a number from 0 to below 1, such as 0.05".to_owned()),
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

/// How the grid is shown.
#[derive(clap::Args)]
#[command(next_help_heading = heading::OUTPUT)]
pub struct ShowArgs {
    /// Make every pixel of the grid, and of the animation, a square of NxN
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_scale)]
    pub scale: usize,

    /// Also write the grid as it is drawn, as a GIF (at most 255 new colours a frame), or as an animated PNG (all
    /// colours) if the name ends in .png
    #[arg(long, value_name = "OUT.gif|OUT.png")]
    pub animate: Option<PathBuf>,
}

fn parse_scale(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=64) => Ok(n),
        _ => Err("expected a whole number from 1 to 64".to_owned()),
    }
}

impl ShowArgs {
    /// Checks that there is a way to make the animation, if one is asked for, of a grid that there is memory for.
    pub fn begin(&self, grid: impl FnOnce() -> Option<Grid>) -> Result<Option<Drawing>> {
        let Some(path) = &self.animate else { return Ok(None) };
        if animation::AnimationKind::of(path).is_none() {
            let path = path.clone();
            bail!(OutputError::Extension { path, expected: "gif or .png" });
        }
        file::prove_writable(path)?;
        let grid = grid();
        let size = grid.as_ref().map(|grid| (grid.image().width, grid.image().height));
        let fits = size.is_some_and(|(width, height)| animation::takes(width, height, self.scale));
        ensure!(
            fits,
            "--animate: the grid{} would be too large to animate (fewer images, or a smaller --scale)",
            size.map_or(String::new(), |(w, h)| format!(", {w}x{h} times {},", self.scale))
        );
        Ok(grid.map(Drawing::new))
    }

    /// Writes the animation.
    pub fn finish(&self, drawing: Option<&Drawing>, texts: &[(impl AsRef<str>, String)]) -> Result<()> {
        if let (Some(path), Some(drawing)) = (&self.animate, drawing) {
            drawing.animation(self.scale).write(path, texts)?;
        }
        Ok(())
    }
}
