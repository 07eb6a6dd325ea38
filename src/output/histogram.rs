//! A histogram of the bits/dim of images, one line for each path that was given.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{Area, Chart, Drawn, UNNAMED, columns, cut, label};

/// Pixels, without the legend.
const SIZE: (u32, u32) = (1000, 660);

/// Pixels at the top, for the title.
const TITLE: u32 = 56;

/// Columns of a name in the legend; longer ones are cut.
const LONGEST: i32 = 40;

const COLORS: [RGBColor; 6] = [
    RGBColor(0, 90, 170),
    RGBColor(200, 80, 0),
    RGBColor(0, 130, 80),
    RGBColor(140, 60, 160),
    RGBColor(110, 110, 110),
    RGBColor(190, 150, 0),
];

/// Values by where they come from.
#[derive(Debug)]
pub struct Histogram {
    /// The name of the model.
    model: String,
    lines: Vec<Line>,
    least: f64,
    /// Width of a bin.
    step: f64,
}

#[derive(Debug)]
struct Line {
    /// From 1, of all names.
    number: usize,
    name: String,
    /// The number of its values, and the share of them in each bin.
    count: usize,
    shares: Vec<f64>,
}

impl Histogram {
    /// Of bits/dim under a model; `values`: which of `names` each belongs to, and the value.
    pub fn new(model: &str, names: &[String], values: Vec<(usize, f64)>) -> Self {
        let least = values.iter().map(|value| value.1).fold(f64::INFINITY, f64::min);
        let most = values.iter().map(|value| value.1).fold(f64::NEG_INFINITY, f64::max);
        // As many bins as the square root of the smallest line's values, within reason.
        let of = |root: usize| values.iter().filter(|value| value.0 == root).count();
        let fewest = (0..names.len()).map(of).filter(|&count| count > 0).min().unwrap_or(1);
        let bins = (2.0 * (fewest as f64).sqrt()).ceil().clamp(8.0, 60.0);
        let step = if most > least { (most - least) / bins } else { 1e-3 };
        let line = |(root, name): (usize, &String)| {
            let mut shares = vec![0.0; bins as usize];
            let count = of(root);
            for (_, value) in values.iter().filter(|value| value.0 == root) {
                let bin = ((value - least) / step) as usize;
                shares[bin.min(bins as usize - 1)] += 1.0 / count as f64;
            }
            Line { number: root + 1, name: name.clone(), count, shares }
        };
        let lines = names.iter().enumerate().filter(|(root, _)| of(*root) > 0).map(line).collect();
        Self { model: model.to_owned(), lines, least, step }
    }

    /// The lines' names and how many images they have, as the legend shows them.
    fn legend(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(|line| {
            let name = label(&line.name, &line.number.to_string());
            let images = if line.count == 1 { "image" } else { "images" };
            format!("{} ({} {images})", cut(&name, LONGEST), line.count)
        })
    }

    /// Pixels beside the plot.
    fn legend_width(&self) -> u32 {
        let longest = self.legend().map(|text| columns(&text)).max().unwrap_or(0);
        40 + 11 * longest as u32
    }
}

impl Chart for Histogram {
    fn size(&self) -> (u32, u32) {
        (SIZE.0 + self.legend_width(), SIZE.1)
    }

    fn names(&self) -> Vec<(String, String)> {
        let lines = self.lines.iter().map(|line| (line.number.to_string(), line.name.clone()));
        [(UNNAMED.to_owned(), self.model.clone())].into_iter().chain(lines).collect()
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B> {
        area.fill(&WHITE)?;
        let text = |size: i32, color: &RGBColor| {
            ("sans-serif", size).into_font().color(color).pos(Pos::new(HPos::Left, VPos::Center))
        };
        let title = format!("Bits per dimension under {}", label(&self.model, UNNAMED));
        area.draw_text(&title, &text(26, &BLACK), (24, TITLE as i32 / 2 + 6))?;
        let (_, below) = area.split_vertically(TITLE);
        let (plot, legend) = below.split_horizontally(SIZE.0);
        let bins = self.lines[0].shares.len();
        let highest = self.lines.iter().flat_map(|line| &line.shares).copied().fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&plot)
            .margin(24)
            .x_label_area_size(64)
            .y_label_area_size(84)
            .build_cartesian_2d(
                self.least - self.step..self.least + self.step * (bins + 1) as f64,
                0.0..highest * 1.1,
            )?;
        let style = ("sans-serif", 20).into_font().color(&BLACK);
        chart
            .configure_mesh()
            .x_desc("bits per dimension")
            .y_desc("share of images")
            .y_label_formatter(&|share| format!("{:.0} %", 100.0 * share))
            .label_style(style.clone())
            .axis_desc_style(style)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (i, (Line { shares, .. }, name)) in self.lines.iter().zip(self.legend()).enumerate() {
            let color = COLORS[i % COLORS.len()];
            let edge = |bin: usize| self.least + self.step * bin as f64;
            let inner = shares.iter().enumerate();
            let inner = inner.flat_map(|(bin, &share)| [(edge(bin), share), (edge(bin + 1), share)]);
            let outline: Vec<_> =
                [(edge(0), 0.0)].into_iter().chain(inner).chain([(edge(bins), 0.0)]).collect();
            chart.draw_series([Polygon::new(outline.clone(), color.mix(0.18).filled())])?;
            chart.draw_series(LineSeries::new(outline, color.stroke_width(2)))?;
            legend.draw_text(&name, &text(22, &color), (0, 40 + 30 * i as i32))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_whole_and_the_bins_are_common() {
        let values = (0..100).map(|i| (i % 2, f64::from(i as u32))).chain([(0, 150.0)]).collect();
        let histogram = Histogram::new("m", &["a".to_owned(), "b".to_owned(), "none".to_owned()], values);
        assert_eq!(histogram.lines.len(), 2);
        for Line { name, shares, .. } in &histogram.lines {
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{name}");
        }
        assert!(
            histogram.lines[0].shares.last() > Some(&0.0) && histogram.lines[1].shares.last() == Some(&0.0)
        );
    }
}
