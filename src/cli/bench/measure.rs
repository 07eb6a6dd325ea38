//! The measurements of `bench`: their length, their order, and the statistics of their times.

use std::time::Instant;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::engine::cost::{self, Predictor};
use crate::engine::{Counts, Engine, EngineError, Method, Request, RequestError, Room, Shape};
use crate::graph::Network;

/// The part of a run that is timed.
#[derive(Clone, Copy)]
pub enum Effort {
    /// All of it.
    Full,
    /// As many rows as take about this many seconds.
    Seconds(f64),
    /// This number of rows past the first group; of naive runs, the part that takes about `naive_seconds` seconds.
    Rows { rows: usize, naive_seconds: f64 },
}

/// All runs, one method and batch size after another, and again as often as they are repeated: whatever
/// disturbs the machine for a while disturbs a run of each, not all runs of one.
pub struct Sweep<'a> {
    pub network: &'a Network,
    pub predictor: Predictor,
    pub methods: Vec<Method>,
    pub effort: Effort,
    pub repeats: usize,
}

/// Cached runs are not cut to fewer seconds: progress, by which the first group is timed, can be late by
/// a few milliseconds.
const SHORTEST: f64 = 0.5;

/// The measurements of a method at a batch size.
pub struct Row {
    pub method: Method,
    pub batch: usize,
    /// Pixels of each image that a run computes.
    pub pixels: usize,
    /// Seconds a batch, of each run, extrapolated if `pixels` are not all.
    pub seconds: Vec<f64>,
    /// Seconds that it took to make room and kernels.
    pub prepare_seconds: f64,
    /// The work of one run, by the engine's own count.
    pub counted: Counts,
    pub memory_bytes: u64,
}

/// The reason for which the sweep ended early.
#[derive(Serialize)]
pub struct Stopped {
    pub batch: usize,
    pub reason: String,
}

impl Sweep<'_> {
    /// Measures up to the first batch that does not fit.
    pub fn run(&self, engine: &mut dyn Engine, batches: &[usize]) -> Result<(Vec<Row>, Option<Stopped>)> {
        let mut rows: Vec<Row> = Vec::new();
        let mut batches = batches.to_vec();
        let mut stopped = None;
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{wide_msg}")?);
        for repeat in 0..self.repeats {
            for (i, batch) in batches.clone().into_iter().enumerate() {
                bar.set_message(format!("batch {batch}, run {} of {}", repeat + 1, self.repeats));
                match self.run_batch(engine, batch, &mut rows) {
                    Err(error @ EngineError::BatchTooLarge { .. }) => {
                        batches.truncate(i);
                        // An incomplete measurement is left out.
                        rows.retain(|row| row.batch < batch);
                        stopped = Some(Stopped { batch, reason: error.to_string() });
                        break;
                    }
                    other => other?,
                }
            }
        }
        bar.finish_and_clear();
        Ok((rows, stopped))
    }

    /// Runs each method once; for the first time, if they have no row yet.
    fn run_batch(
        &self,
        engine: &mut dyn Engine,
        batch: usize,
        rows: &mut Vec<Row>,
    ) -> Result<(), EngineError> {
        let start = Instant::now();
        engine.prepare(Room::For(batch))?;
        let prepare_seconds = start.elapsed().as_secs_f64();
        for &method in &self.methods {
            // Makes what is made at the first use, without a pixel.
            let kernels = self.timed(engine, method, batch, 0)?.total;
            let known = rows.iter().position(|row| (row.method, row.batch) == (method, batch));
            let row = match known {
                Some(row) => &mut rows[row],
                None => {
                    let pixels = self.choose_pixels(engine, method, batch)?;
                    rows.push(Row {
                        method,
                        batch,
                        pixels,
                        seconds: Vec::new(),
                        prepare_seconds: prepare_seconds + kernels,
                        counted: Counts::default(),
                        memory_bytes: 0,
                    });
                    rows.last_mut().expect("pushed before")
                }
            };
            let before = engine.counts();
            let times = self.timed(engine, method, batch, row.pixels)?;
            let after = engine.counts();
            if row.seconds.is_empty() {
                // Sizes ascend: later, memory of larger batches may still be held.
                row.memory_bytes = engine.bytes();
            }
            row.seconds.push(self.extrapolated(method, row.pixels, &times));
            row.counted = after.since(before);
        }
        Ok(())
    }

    /// Pixels of the rows after which the pattern of work repeats.
    fn group(&self) -> usize {
        cost::group_of_rows(self.network) * self.network.width
    }

    fn all(&self) -> usize {
        self.network.width * self.network.height
    }

    /// The number of pixels to time, from a warm-up run that is not counted.
    fn choose_pixels(
        &self,
        engine: &mut dyn Engine,
        method: Method,
        batch: usize,
    ) -> Result<usize, EngineError> {
        let (all, group) = (self.all(), self.group());
        let first_group = self.timed(engine, Method::Cached, batch, group)?.total;
        if method == Method::Cached {
            let groups = match self.effort {
                Effort::Full => all / group,
                Effort::Seconds(seconds) => ((seconds.max(SHORTEST) / first_group) as usize).max(2),
                Effort::Rows { rows, .. } => 1 + (rows * self.network.width).div_ceil(group),
            };
            return Ok(groups.min(all / group) * group);
        }
        let seconds = match self.effort {
            Effort::Full => return Ok(all),
            Effort::Seconds(seconds) | Effort::Rows { naive_seconds: seconds, .. } => seconds,
        };
        // As if it reached no higher rate than the cached method.
        let macs = |method, pixels| self.predictor.counts(self.network, method, 1, pixels).macs as f64;
        let expected = first_group * macs(Method::Naive, 1) / macs(Method::Cached, group);
        if expected > seconds {
            return Ok(1);
        }
        let one = self.timed(engine, method, batch, 1)?.total;
        Ok(match (seconds / one) as usize {
            few @ 0..=15 => few.max(1),
            // Whole 4x4 blocks; every pixel costs the same here.
            many => (many / 16 * 16).min(all),
        })
    }

    fn timed(
        &self,
        engine: &mut dyn Engine,
        method: Method,
        batch: usize,
        pixels: usize,
    ) -> Result<Times, EngineError> {
        let request = request(engine.shape(), batch)?.by(method).first(pixels);
        let group = self.group();
        let (mut head, mut body) = (None, None);
        let start = Instant::now();
        engine.run(&request, &mut |done| {
            let now = start.elapsed().as_secs_f64();
            if done >= group {
                head.get_or_insert(now);
            }
            if done >= pixels {
                body.get_or_insert(now);
            }
        })?;
        let total = start.elapsed().as_secs_f64();
        let body = body.unwrap_or(total);
        Ok(Times { head: head.unwrap_or(body), body, total })
    }

    /// Seconds a batch, from the times of a run of `pixels` pixels.
    fn extrapolated(&self, method: Method, pixels: usize, times: &Times) -> f64 {
        let all = self.all();
        if pixels == all {
            return times.total;
        }
        // The start and the first group count once, as measured; the end, too.
        let (from, head) = match method {
            Method::Cached | Method::ByPixel => (self.group(), times.head),
            Method::Naive => (0, 0.0),
        };
        let of_pixel = (times.body - head) / (pixels - from) as f64;
        head + of_pixel * (all - from) as f64 + (times.total - times.body)
    }
}

/// Seconds from the start of a run.
struct Times {
    /// Until the first group of rows was done.
    head: f64,
    /// Until the last pixel was done.
    body: f64,
    /// Until the images were there.
    total: f64,
}

/// Images to draw, of one class after the other if the network has any.
pub fn request(shape: Shape, batch: usize) -> Result<Request, RequestError> {
    let class = |i: u64| i.checked_rem(shape.classes as u64).map(|class| class as usize);
    Request::sample(shape, 0, (0..batch as u64).map(|i| (i, class(i))))
}

/// The value below which a share of the values lie, between neighbours in proportion.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::pixelcnn_pp;
    use crate::model::Config;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|share| quantile(&values, share)), [1.0, 1.75, 2.5, 4.0]);
        assert_eq!(quantile(&[5.0], 0.75), 5.0);
    }

    #[test]
    fn start_and_end_are_not_multiplied() {
        let network = Network::new(&pixelcnn_pp::graph(&Config::published(8, 1)), None);
        let sweep = Sweep {
            network: &network,
            predictor: Predictor::of_layers(),
            methods: vec![],
            effort: Effort::Seconds(1.0),
            repeats: 1,
        };
        // A second for the start, two a group of four rows, half a second for the end.
        let times = Times { head: 3.0, body: 7.0, total: 7.5 };
        assert_eq!(sweep.extrapolated(Method::Cached, 3 * 128, &times), 1.0 + 8.0 * 2.0 + 0.5);
        assert_eq!(sweep.extrapolated(Method::Cached, 1024, &times), 7.5);
        let times = Times { head: 3.0, body: 4.0, total: 4.5 };
        assert_eq!(sweep.extrapolated(Method::Naive, 4, &times), 1024.5);
    }
}
