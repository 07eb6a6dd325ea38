//! The plot of a bench: speed-up and images/s against batch size.

use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

use super::report::{Architecture, BenchReport, significant};
use crate::output::chart::{Area, Chart, Drawn, UNNAMED, label};

/// Pixels; text is twice as large as it must be, for half the size.
const SIZE: (u32, u32) = (1600, 1800);

/// Pixels at the right of the panels, for labels of lines.
const LABELS: i32 = 300;

/// Between labels that stand below each other, in pixels.
const LINE_HEIGHT: i32 = 42;

/// Ramachandran et al. 2017 (arXiv 1704.06001), figure 3: cached over naive sampling on one GPU, by batch
/// size; the figure says 2 for the first, whose bar is 2.9 high.
const PUBLISHED: [(f64, f64); 9] = [
    (1.0, 2.0),
    (2.0, 4.0),
    (4.0, 6.0),
    (8.0, 10.0),
    (16.0, 18.0),
    (32.0, 33.0),
    (64.0, 61.0),
    (128.0, 109.0),
    (256.0, 183.0),
];

const CACHED: RGBColor = RGBColor(0, 90, 170);
const NAIVE: RGBColor = RGBColor(200, 80, 0);
const GREY: RGBColor = RGBColor(110, 110, 110);

/// One line of a panel, with the quartiles of each point if it was measured.
struct Series {
    label: &'static str,
    color: RGBColor,
    points: Vec<Point>,
}

struct Point {
    batch: f64,
    value: f64,
    quartiles: [f64; 2],
}

impl Chart for BenchReport {
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn names(&self) -> Vec<(String, String)> {
        vec![(UNNAMED.to_owned(), self.architecture.name.clone())]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B> {
        draw(area, self)
    }
}

fn draw<B: DrawingBackend>(area: &Area<B>, report: &BenchReport) -> Drawn<B> {
    area.fill(&WHITE)?;
    let write = |text: &str, size: i32, color: &RGBColor, y: i32| {
        area.draw_text(text, &("sans-serif", size).into_font().color(color), (40, y))
    };
    let architecture = &report.architecture;
    let (width, height) = (architecture.width, architecture.height);
    write(
        &format!("pixelcnn bench: {}, {width}x{height}", label(&architecture.name, UNNAMED)),
        48,
        &BLACK,
        24,
    )?;
    write(&report.device.name, 36, &GREY, 84)?;
    for (i, line) in notes(report).iter().enumerate() {
        write(line, 28, &GREY, SIZE.1 as i32 - 126 + 36 * i as i32)?;
    }

    let batches = report.results.iter().map(|row| row.batch as f64);
    let (least, most) = batches.fold((1.0, 2.0), |(low, high): (f64, f64), b| (low.min(b), high.max(b)));
    let measured = |name, color, label, value: &dyn Fn(usize, f64) -> Option<f64>| {
        let points = report.results.iter().enumerate().filter(|(_, row)| row.engine == name);
        let points = points.filter_map(|(i, row)| {
            Some(Point {
                batch: row.batch as f64,
                value: value(i, row.seconds_per_batch)?,
                quartiles: [
                    value(i, row.seconds_per_batch_third_quartile)?,
                    value(i, row.seconds_per_batch_first_quartile)?,
                ],
            })
        });
        Series { label, color, points: points.collect() }
    };
    let speedup = |i: usize, seconds: f64| {
        let row = &report.results[i];
        Some(row.speedup_over_naive? * row.seconds_per_batch / seconds)
    };
    let rate = |i: usize, seconds: f64| Some(report.results[i].batch as f64 / seconds);
    let mut speedups = vec![measured("cached", CACHED, "here", &speedup)];
    let rates = vec![measured("cached", CACHED, "cached", &rate), measured("naive", NAIVE, "naive", &rate)];

    let (_, panels) = area.split_vertically(140);
    let (panels, _) = panels.split_vertically(SIZE.1 - 140 - 146);
    if speedups[0].points.is_empty() {
        return panel(&panels, "images/s", "", least..most, &rates);
    }
    let published = PUBLISHED.map(|(batch, value)| Point { batch, value, quartiles: [value; 2] });
    let points = published.into_iter().filter(|point| point.batch <= most.max(256.0)).collect();
    speedups.push(Series { label: "published", color: GREY, points });
    let (above, below) = panels.split_vertically((SIZE.1 - 286) / 2);
    let range = least..most.max(256.0);
    panel(&above, "speed-up of cached over naive sampling", "x", range.clone(), &speedups)?;
    panel(&below, "images/s", "", range, &rates)
}

/// Notes on the origin of the numbers.
fn notes(report: &BenchReport) -> [String; 3] {
    let of = |name: &str| {
        let rows: Vec<_> = report.results.iter().filter(|row| row.engine == name).collect();
        let timed = || rows.iter().map(|row| row.pixels_timed);
        let (least, most) = (timed().min()?, timed().max()?);
        let all = rows[0].pixels_per_image;
        Some(match (least == all, least == most) {
            (true, _) => format!("{name}: whole images timed"),
            (_, true) => format!("{name}: {least} of {all} pixels timed, the rest extrapolated"),
            _ => format!("{name}: {least} to {most} of {all} pixels timed, the rest extrapolated"),
        })
    };
    let methods = [of("cached"), of("naive")].into_iter().flatten().collect::<Vec<_>>().join("; ");
    let runs = match report.repeats {
        1 => "one run each".to_owned(),
        runs => format!("medians of {runs} runs in turns, bars from first to third quartile"),
    };
    let published = match report.architecture {
        Architecture {
            filters: Some(160), blocks: Some(5), width: 32, height: 32, channels: 3, ..
        } => "",
        _ => ", another network than this one",
    };
    let published = match report.results.iter().any(|row| row.speedup_over_naive.is_some()) {
        true => {
            format!("published: arXiv 1704.06001, figure 3, PixelCNN++ 160x5, 32x32, on one GPU{published}")
        }
        false => String::new(),
    };
    [methods, runs, published]
}

/// Logarithmic both ways.
fn panel<B: DrawingBackend>(
    area: &Area<B>,
    title: &str,
    unit: &str,
    batches: Range<f64>,
    series: &[Series],
) -> Drawn<B> {
    let values =
        || series.iter().flat_map(|s| &s.points).flat_map(|p| [p.value, p.quartiles[0], p.quartiles[1]]);
    let least = values().fold(f64::INFINITY, f64::min);
    let most = values().fold(0.0, f64::max);
    // With room for labels.
    let (least, most) = (least / 2.5, most * 2.5);
    let doublings =
        (0..31).map(|i| f64::from(1u32 << i)).filter(|b| batches.contains(b) || *b == batches.end);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 40).into_font().color(&BLACK))
        .margin(20)
        .margin_right(LABELS)
        .x_label_area_size(100)
        .y_label_area_size(140)
        .build_cartesian_2d(
            (batches.start * 0.9..batches.end * 1.1).log_scale().with_key_points(doublings.collect()),
            (least..most).log_scale().with_key_points(round_numbers(least, most)),
        )?;
    let label = ("sans-serif", 32).into_font().color(&BLACK);
    chart
        .configure_mesh()
        .x_desc("images at once")
        .x_label_formatter(&|b| format!("{b:.0}"))
        .y_label_formatter(&|v| format!("{v}{unit}"))
        .label_style(label.clone())
        .axis_desc_style(label.clone())
        .bold_line_style(RGBColor(215, 215, 215))
        .light_line_style(TRANSPARENT)
        .draw()?;
    let mut labels = Vec::new();
    for Series { label, color, points } in series {
        let line = points.iter().map(|p| (p.batch, p.value));
        chart.draw_series(LineSeries::new(line.clone(), color.stroke_width(4)))?;
        chart.draw_series(line.map(|at| Circle::new(at, 9, color.filled())))?;
        let bars = points.iter().filter(|p| p.quartiles[0] < p.quartiles[1]);
        chart.draw_series(bars.map(|p| {
            PathElement::new(p.quartiles.map(|value| (p.batch, value)).to_vec(), color.stroke_width(3))
        }))?;
        let Some(end) = points.last() else { continue };
        let (x, y) = chart.backend_coord(&(end.batch, end.value));
        labels.push((x, y, format!("{label}: {}{unit}", significant(end.value)), color));
    }
    // A label stands to the right of its line's last point; where two lines end close to each other, the lower one makes
    // room.
    labels.sort_by_key(|&(_, y, ..)| y);
    let (left, top) = area.get_base_pixel();
    let mut least = i32::MIN;
    for (x, y, text, color) in labels {
        let style = ("sans-serif", 34).into_font().color(color).pos(Pos::new(HPos::Left, VPos::Center));
        let y = y.max(least);
        area.draw_text(&text, &style, (x + 22 - left, y - top))?;
        least = y + LINE_HEIGHT;
    }
    area.present()
}

/// 1, 2 and 5 times powers of ten within a range; powers alone if there are many.
fn round_numbers(least: f64, most: f64) -> Vec<f64> {
    let powers = least.log10().floor() as i32..=most.log10().ceil() as i32;
    let digits: &[f64] = if powers.clone().count() > 5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let numbers = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
    numbers.filter(|number| (least..=most).contains(number)).collect()
}
