//! The results of a bench: as a table, as JSON and as CSV.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::engine::Method;
use crate::engine::cpu::peak::{PRODUCT, TRIES};
use crate::model::Model;
use crate::output::{OutputError, file};

use super::measure::{Row, Stopped, Sweep, quantile};
use crate::cli::costs::Costs;
use crate::engine::devices::KernelTotal;

/// A row is marked as noisy if its interquartile range is a larger share of its median.
const NOISY: f64 = 0.15;

/// Everything that was measured; docs/bench.schema.json describes it.
#[derive(Serialize)]
pub struct BenchReport {
    pub pixelcnn_version: &'static str,
    pub architecture: Architecture,
    pub device: DeviceReport,
    /// Until the engine stood: weights packed or uploaded, shaders parsed.
    pub build_seconds: f64,
    pub repeats: usize,
    pub results: Vec<Measured>,
    pub stopped: Option<Stopped>,
    pub profiles: Vec<Profile>,
}

#[derive(Serialize)]
pub struct Architecture {
    pub name: String,
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub filters: Option<usize>,
    pub blocks: Option<usize>,
    levels: Option<usize>,
    mixtures: Option<usize>,
    nonlinearity: Option<&'static str>,
    dilations: Option<Vec<usize>>,
    classes: usize,
    parameters: usize,
    precision: &'static str,
    #[serde(flatten)]
    costs: Costs,
}

#[derive(Serialize)]
pub struct DeviceReport {
    pub name: String,
    pub kind: &'static str,
    pub threads: Option<usize>,
    pub driver: Option<String>,
    /// The rate of large matrix products on all cores of the CPU.
    pub peak_gflops: Option<f64>,
}

/// A method at a batch size.
#[derive(Serialize)]
pub struct Measured {
    pub engine: &'static str,
    pub batch: usize,
    /// The median of the runs.
    pub seconds_per_batch: f64,
    pub seconds_per_batch_first_quartile: f64,
    pub seconds_per_batch_third_quartile: f64,
    pub noisy: bool,
    seconds_per_batch_of_each_run: Vec<f64>,
    pub images_per_second: f64,
    milliseconds_per_pixel_step: f64,
    pub speedup_over_naive: Option<f64>,
    gflops: f64,
    peak_share: Option<f64>,
    dispatches_per_pixel: Option<f64>,
    encode_microseconds_per_pixel: Option<f64>,
    submissions_per_pixel: Option<f64>,
    memory_bytes: u64,
    prepare_seconds: f64,
    pub pixels_timed: usize,
    pub pixels_per_image: usize,
    pub extrapolated: bool,
    macs_counted: u64,
    macs_predicted: u64,
    dispatches_counted: Option<u64>,
    dispatches_predicted: Option<u64>,
}

/// Columns of the CSV file, in order: all of [`Measured`] that are one value.
const COLUMNS: [&str; 23] = [
    "engine",
    "batch",
    "seconds_per_batch",
    "seconds_per_batch_first_quartile",
    "seconds_per_batch_third_quartile",
    "noisy",
    "images_per_second",
    "milliseconds_per_pixel_step",
    "speedup_over_naive",
    "gflops",
    "peak_share",
    "dispatches_per_pixel",
    "encode_microseconds_per_pixel",
    "submissions_per_pixel",
    "memory_bytes",
    "prepare_seconds",
    "pixels_timed",
    "pixels_per_image",
    "extrapolated",
    "macs_counted",
    "macs_predicted",
    "dispatches_counted",
    "dispatches_predicted",
];

/// The time of each class of dispatches of a batch on a GPU.
#[derive(Serialize)]
pub struct Profile {
    batch: usize,
    /// Pixels of each image that were drawn for it.
    pixels_timed: usize,
    kernels: Vec<KernelTime>,
}

/// Dispatches of a kernel that begin rows, or that are steps of pixels, at a level.
#[derive(Serialize)]
struct KernelTime {
    kernel: &'static str,
    work: &'static str,
    level: usize,
    dispatches: u64,
    microseconds_per_dispatch: f64,
    microseconds_per_pixel: f64,
    share: f64,
}

impl BenchReport {
    pub fn new(
        model: &Model,
        sweep: &Sweep,
        rows: Vec<Row>,
        stopped: Option<Stopped>,
        device: DeviceReport,
        build_seconds: f64,
    ) -> Self {
        let (config, network) = (model.config(), sweep.network);
        let pixels = network.width * network.height;
        let of_device = |method| sweep.predictor.counts(network, method, 1, pixels);
        let architecture = Architecture {
            name: model.name.clone(),
            width: network.width,
            height: network.height,
            channels: network.head.channels(),
            filters: config.map(|config| config.filters),
            blocks: config.map(|config| config.blocks),
            levels: config.map(|config| config.levels),
            mixtures: config.map(|config| config.mixtures),
            nonlinearity: config.map(|config| config.nonlinearity.name()),
            dilations: config.map(|config| config.dilations.clone()),
            classes: model.classes().len(),
            parameters: model.parameter_count(),
            precision: model.precision.name(),
            costs: Costs::with_macs(network, [Method::Cached, Method::Naive].map(|m| of_device(m).macs)),
        };
        let naive: BTreeMap<usize, f64> = rows
            .iter()
            .filter(|row| row.method == Method::Naive)
            .map(|row| (row.batch, quantile(&row.seconds, 0.5)))
            .collect();
        let measured = rows.into_iter().map(|row| {
            let [first, median, third] = [0.25, 0.5, 0.75].map(|share| quantile(&row.seconds, share));
            let of_batch = sweep.predictor.counts(network, row.method, row.batch, pixels);
            let of_run = sweep.predictor.counts(network, row.method, row.batch, row.pixels);
            let gflops = 2.0 * of_batch.macs as f64 / median / 1e9;
            let on_gpu = device.kind == "gpu";
            let per_pixel = |total: f64| on_gpu.then(|| total / row.pixels as f64);
            Measured {
                engine: method_name(row.method),
                batch: row.batch,
                seconds_per_batch: median,
                seconds_per_batch_first_quartile: first,
                seconds_per_batch_third_quartile: third,
                noisy: third - first > NOISY * median,
                images_per_second: row.batch as f64 / median,
                milliseconds_per_pixel_step: 1e3 * median / pixels as f64,
                speedup_over_naive: naive.get(&row.batch).map(|seconds| seconds / median),
                gflops,
                peak_share: device.peak_gflops.map(|peak| gflops / peak),
                dispatches_per_pixel: per_pixel(row.counted.dispatches as f64),
                encode_microseconds_per_pixel: per_pixel(row.counted.encode_ns as f64 / 1e3),
                submissions_per_pixel: per_pixel(row.counted.submissions as f64),
                memory_bytes: row.memory_bytes,
                prepare_seconds: row.prepare_seconds,
                pixels_timed: row.pixels,
                pixels_per_image: pixels,
                extrapolated: row.pixels < pixels,
                macs_counted: row.counted.macs,
                macs_predicted: of_run.macs,
                dispatches_counted: on_gpu.then_some(row.counted.dispatches),
                dispatches_predicted: on_gpu.then_some(of_run.dispatches),
                seconds_per_batch_of_each_run: row.seconds,
            }
        });
        let mut results: Vec<_> = measured.collect();
        results.sort_by_key(|row| (row.batch, row.engine));
        Self {
            pixelcnn_version: env!("CARGO_PKG_VERSION"),
            architecture,
            results,
            device,
            build_seconds,
            repeats: sweep.repeats,
            stopped,
            profiles: Vec::new(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let Architecture { name, width, height, parameters, costs, .. } = &self.architecture;
        let mut text = format!(
            "{name}: {width}x{height}, {} M parameters, {} GMAC an image\n{}, built in {:.2} s",
            significant(*parameters as f64 / 1e6),
            significant(costs.macs_per_image as f64 / 1e9),
            self.device.name,
            self.build_seconds,
        );
        if let Some(peak) = self.device.peak_gflops {
            let peak = significant(peak);
            let [inputs, outputs, positions] = PRODUCT.map(|n| n.to_string());
            let product = format!("{positions}x{inputs}x{outputs}");
            _ = write!(
                text,
                "; peak: {peak} GFLOP/s, its own kernel's best of {TRIES} {product} products a thread"
            );
        }
        text.push('\n');
        if !self.results.is_empty() {
            _ = write!(text, "\n{}\n{}", super::super::table(&self.table()), self.legend());
        }
        for profile in &self.profiles {
            text.push_str(&profile.text());
        }
        text
    }

    fn table(&self) -> Vec<Vec<String>> {
        let on_gpu = self.device.kind == "gpu";
        let mut header =
            vec!["ENGINE", "BATCH", "SECONDS", "IQR", "IMAGES/S", "MS/PIXEL", "SPEED-UP", "GFLOP/S"];
        match on_gpu {
            true => header.extend(["DISPATCHES/PIXEL", "ENCODE/PIXEL"]),
            false => header.push("OF PEAK"),
        }
        header.extend(["MEMORY", "PIXELS TIMED"]);
        let mut rows: Vec<Vec<String>> = vec![header.into_iter().map(str::to_owned).collect()];
        let optional = |value: Option<f64>, unit: &str| {
            value.map_or("-".to_owned(), |value| significant(value) + unit)
        };
        for row in &self.results {
            let iqr = row.seconds_per_batch_third_quartile - row.seconds_per_batch_first_quartile;
            let noisy = if row.noisy { " noisy" } else { "" };
            let mut cells = vec![
                row.engine.to_owned(),
                row.batch.to_string(),
                significant(row.seconds_per_batch),
                format!("{:.0} %{noisy}", 100.0 * iqr / row.seconds_per_batch),
                significant(row.images_per_second),
                significant(row.milliseconds_per_pixel_step),
                optional(row.speedup_over_naive, "x"),
                significant(row.gflops),
            ];
            match on_gpu {
                true => cells.extend([
                    optional(row.dispatches_per_pixel, ""),
                    optional(row.encode_microseconds_per_pixel, " us"),
                ]),
                false => cells.push(optional(row.peak_share.map(|share| 100.0 * share), " %")),
            }
            cells.push(format!("{} MB", significant(row.memory_bytes as f64 / 1e6)));
            cells.push(match row.extrapolated {
                true => format!("{} of {}", row.pixels_timed, row.pixels_per_image),
                false => "all".to_owned(),
            });
            rows.push(cells);
        }
        rows
    }

    fn legend(&self) -> String {
        let mut text = match self.repeats {
            1 => "seconds a batch: of one run".to_owned(),
            runs => {
                format!("seconds a batch: median of {runs} runs in turns; IQR: their interquartile range")
            }
        };
        if self.results.iter().any(|row| row.noisy) {
            text.push_str(", noisy if over 15 % of it");
        }
        text.push('\n');
        if self.results.iter().any(|row| row.extrapolated) {
            text.push_str(
                "pixels timed, if not all: seconds are extrapolated from the first pixels of each image; \
                 naive pixels all\ncost the same; of cached ones, the first group of rows counts once, as \
                 it was\n",
            );
        }
        text
    }

    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The table, a row a method and batch size.
    pub fn csv(&self) -> Result<String> {
        let mut text = COLUMNS.join(",") + "\n";
        for row in &self.results {
            let row = serde_json::to_value(row)?;
            let cell = |column: &&str| match &row[*column] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            text += &(COLUMNS.iter().map(cell).collect::<Vec<_>>().join(",") + "\n");
        }
        Ok(text)
    }
}

/// # Errors
/// If the file cannot be written.
pub fn write_text(path: &Path, text: &str) -> Result<(), OutputError> {
    file::write(path, |writer| writer.write_all(text.as_bytes()))
}

fn method_name(method: Method) -> &'static str {
    match method {
        Method::Cached | Method::ByPixel => "cached",
        Method::Naive => "naive",
    }
}

/// A number with three digits that matter.
pub fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 9) as usize)
}

impl Profile {
    pub fn new(batch: usize, pixels: usize, totals: &[KernelTotal]) -> Self {
        let all: f64 = totals.iter().map(|total| total.nanoseconds).sum();
        let kernels = totals.iter().map(|total| KernelTime {
            kernel: total.kernel,
            work: if total.is_row_work { "row" } else { "pixel" },
            level: total.level,
            dispatches: total.dispatches,
            microseconds_per_dispatch: total.nanoseconds / 1e3 / total.dispatches as f64,
            microseconds_per_pixel: total.nanoseconds / 1e3 / pixels as f64,
            share: if all > 0.0 { total.nanoseconds / all } else { 0.0 },
        });
        Self { batch, pixels_timed: pixels, kernels: kernels.collect() }
    }

    fn text(&self) -> String {
        let header = ["KERNEL", "WORK", "LEVEL", "DISPATCHES", "US/DISPATCH", "US/PIXEL", "SHARE"];
        let mut rows = vec![header.map(str::to_owned)];
        for line in &self.kernels {
            rows.push([
                line.kernel.to_owned(),
                line.work.to_owned(),
                line.level.to_string(),
                line.dispatches.to_string(),
                significant(line.microseconds_per_dispatch),
                significant(line.microseconds_per_pixel),
                format!("{:.0} %", 100.0 * line.share),
            ]);
        }
        format!(
            "\nprofile of batch {}, cached, the first {} pixels, every dispatch by itself\n{}",
            self.batch,
            self.pixels_timed,
            super::super::table(&rows)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_matter() {
        let numbers = [0.0123456, 1.0, 9.876, 12.34, 1234.5, 0.0];
        assert_eq!(numbers.map(significant), ["0.0123", "1.00", "9.88", "12.3", "1234", "0"]);
    }
}
