//! The figure of the method: what is computed at each step along a row, as in Ramachandran et al. 2017.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::graph::Network;
use crate::graph::schedule::Timeline;

use super::animation::{Animation, AnimationKind};
use super::chart::{self, Area, Chart, Drawn};
use super::frame::Frame;
use super::software;

const NOW: RGBColor = RGBColor(232, 119, 34);
const CACHED: RGBColor = RGBColor(58, 124, 196);
const IDLE: RGBColor = RGBColor(222, 222, 222);
const LINE: RGBColor = RGBColor(120, 120, 120);

/// Pixels shown.
const COLUMNS: usize = 8;

/// Steps shown, after which the pattern of three levels comes round.
const STEPS: usize = 5;

/// The title where no font has the characters of the model's name.
const UNTITLED: &str = "The horizontal stream along a row";

/// A figure of some steps.
struct Figure<'a> {
    timeline: &'a Timeline,
    title: &'a str,
    /// From the input on: a layer, its name, and how many pixels lie between its positions.
    lines: &'a [(usize, String, usize)],
    steps: std::ops::Range<usize>,
}

/// Writes the figure of a network's row, or of the paper's own example where there is no network: its steps side by
/// side as PNG or SVG, or one after the other as GIF. Gives back what stands in it for names, as [`chart::write`] does.
///
/// # Errors
/// What the system says, and figures that cannot be drawn.
pub fn write(path: &Path, network: Option<(&Network, &str)>) -> Result<Vec<String>> {
    let timeline = network.map_or_else(Timeline::of_figure, |(network, _)| Timeline::of_row(network));
    let (title, lines): (_, Vec<_>) = match network {
        Some((network, name)) => {
            let nodes = network.nodes.iter().enumerate();
            // Row work is complete when the row begins.
            let of_row = nodes.filter(|(_, node)| !node.when.is_row());
            let lines = of_row.map(|(i, node)| (i, node.name.clone(), 1 << node.level));
            (format!("Model {name}: the horizontal stream along a row"), lines.collect())
        }
        None => {
            let name = |layer| match layer {
                0 => "input".to_owned(),
                1 | 2 => format!("strided {layer}"),
                _ => format!("transposed {}", layer - 2),
            };
            let stride = |layer| timeline.steps(0).len() / timeline.steps(layer).len();
            let lines = (0..timeline.nodes()).map(|layer| (layer, name(layer), stride(layer)));
            ("Two strided and two transposed convolutions".to_owned(), lines.collect())
        }
    };
    let figure = |steps| Figure { timeline: &timeline, title: &title, lines: &lines, steps };
    if AnimationKind::of(path) != Some(AnimationKind::Gif) {
        return chart::write(path, &figure(0..STEPS));
    }
    let replaced = chart::prepare(&figure(0..STEPS))?;
    let frames =
        (0..STEPS).map(|step| chart::pixels(&figure(step..step + 1))).collect::<Result<Vec<_>>>()?;
    let animation = Animation {
        count: frames.len(),
        show: |k: usize| frames[k].clone(),
        frame: &Frame::new(1),
        delays: [100, 100],
    };
    animation.write(path, &[software()])?;
    Ok(replaced)
}

/// The state of a position at a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PositionState {
    Now,
    Cached,
    Idle,
}

impl PositionState {
    fn color(self) -> RGBColor {
        match self {
            Self::Now => NOW,
            Self::Cached => CACHED,
            Self::Idle => IDLE,
        }
    }
}

impl Figure<'_> {
    /// Between pixels, and between layers.
    fn spacing(&self) -> (i32, i32) {
        if self.lines.len() > 12 { (28, 22) } else { (44, 60) }
    }

    fn label_width(&self) -> i32 {
        let longest = self.lines.iter().map(|(_, name, _)| name.len()).max().unwrap_or(0);
        30 + 9 * longest as i32
    }

    fn panel_width(&self) -> i32 {
        self.spacing().0 * COLUMNS as i32 + 30
    }

    /// The positions that a step computes, and those that it reads.
    fn at_step(&self, step: usize) -> (Vec<Position>, Vec<[Position; 2]>) {
        let shown = |layer| self.lines.iter().any(|(shown, ..)| *shown == layer);
        let layers = self.lines.iter().map(|&(layer, ..)| layer).filter(|&layer| layer > 0);
        let positions =
            |layer| self.timeline.steps(layer).iter().enumerate().map(move |(i, at)| (layer, i, *at));
        let now: Vec<_> = layers
            .flat_map(positions)
            .filter(|&(.., at)| at == step)
            .map(|(layer, i, _)| (layer, i))
            .collect();
        let reads = now.iter().flat_map(|&(layer, i)| {
            let sources = self.timeline.reads(layer, i).filter(|&(source, _)| shown(source));
            sources.map(move |source| [source, (layer, i)])
        });
        let reads = reads.collect();
        (now, reads)
    }
}

/// A layer, and a position of it.
type Position = (usize, usize);

impl Chart for Figure<'_> {
    fn size(&self) -> (u32, u32) {
        let width = self.label_width() + self.panel_width() * self.steps.len() as i32;
        let height = 150 + self.spacing().1 * self.lines.len() as i32;
        (width.max(760) as u32, height as u32)
    }

    fn names(&self) -> Vec<(String, String)> {
        let layers = self.lines.iter().map(|(layer, name, _)| (format!("layer {layer}"), name.clone()));
        [(UNTITLED.to_owned(), self.title.to_owned())].into_iter().chain(layers).collect()
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B> {
        area.fill(&WHITE)?;
        let text = |size: i32, color: &RGBColor, side: HPos| {
            ("sans-serif", size).into_font().color(color).pos(Pos::new(side, VPos::Center))
        };
        let (dx, dy) = self.spacing();
        let radius = dx.min(dy) * 3 / 10;
        let bottom = self.size().1 as i32 - 60;
        area.draw_text(&chart::label(self.title, UNTITLED), &text(24, &BLACK, HPos::Left), (20, 28))?;
        let legend =
            [(NOW, "computed at this step"), (CACHED, "kept, and read at this step"), (IDLE, "neither")];
        let mut left = 28;
        for (color, what) in legend {
            area.draw(&Circle::new((left, 62), 8, color.filled()))?;
            area.draw_text(what, &text(18, &BLACK, HPos::Left), (left + 16, 62))?;
            left += 50 + 9 * what.len() as i32;
        }
        let height = |line: usize| bottom - dy * line as i32 - dy / 2;
        for (line, (layer, name, _)) in self.lines.iter().enumerate() {
            let name = chart::label(name, &format!("layer {layer}"));
            let right = self.label_width() - 20;
            area.draw_text(&name, &text(dy.min(22) - 5, &BLACK, HPos::Right), (right, height(line)))?;
        }
        for (panel, step) in self.steps.clone().enumerate() {
            let left = self.label_width() + self.panel_width() * panel as i32;
            let label = text(20, &BLACK, HPos::Left);
            area.draw_text(&format!("t = {step}"), &label, (left, bottom + 26))?;
            let (now, reads) = self.at_step(step);
            let place = |(layer, position): (usize, usize)| {
                let line = self.lines.iter().position(|(shown, ..)| *shown == layer)?;
                let column = position * self.lines[line].2;
                let at = (left + dx * column as i32 + dx / 2, height(line));
                (column < COLUMNS).then_some(at)
            };
            for [from, to] in &reads {
                if let (Some(from), Some(to)) = (place(*from), place(*to)) {
                    area.draw(&PathElement::new(vec![from, to], LINE.stroke_width(1)))?;
                }
            }
            for (layer, _, stride) in self.lines {
                for position in (0..COLUMNS / stride).map(|position| (*layer, position)) {
                    let is_read = || reads.iter().any(|[from, _]| *from == position);
                    let state = match () {
                        () if now.contains(&position) => PositionState::Now,
                        () if is_read() => PositionState::Cached,
                        () => PositionState::Idle,
                    };
                    if let Some(at) = place(position) {
                        area.draw(&Circle::new(at, radius, state.color().filled()))?;
                    }
                }
            }
        }
        Ok(())
    }
}
