//! A job on a device: what is submitted when, what is read back, and what comes of it.

use std::time::Instant;

use super::batch::{Batch, middle};
use super::device::Fetch;
use super::plan::Step;
use super::shaders::NOT_FINITE;
use super::speed::{LEAST_RATE, SUBMISSION};
use super::units::Region;
use super::{EngineError, Gpu};
use crate::engine::{Counts, Method, Outcome, Request, Shape, rows_made, trace_row};

/// Dispatches of a submission, at most, however little each of them does.
const MOST_DISPATCHES: usize = 20_000;

/// The measured speed of a device on a batch.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Multiplications with additions a second.
    pub macs_per_second: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { macs_per_second: LEAST_RATE }
    }
}

impl Pace {
    /// Divides a list of dispatches, each given by its products, into submissions: their lengths.
    fn cut(self, macs: impl IntoIterator<Item = u64>) -> Vec<usize> {
        let budget = (self.macs_per_second * SUBMISSION) as u64;
        let (mut lengths, mut length, mut sum) = (Vec::new(), 0, 0);
        for macs in macs {
            if length > 0 && (sum + macs > budget || length == MOST_DISPATCHES) {
                lengths.push(length);
                (length, sum) = (0, 0);
            }
            length += 1;
            sum += macs;
        }
        lengths.extend((length > 0).then_some(length));
        lengths
    }
}

/// A job under way.
pub struct Run<'a> {
    gpu: &'a Gpu,
    batch: &'a Batch,
    request: &'a Request,
    counts: &'a mut Counts,
    /// Dispatches of earlier jobs.
    dispatched_before: u64,
    pace: &'a mut Pace,
    /// The submission that runs, and when the one before it had ended.
    running: Option<wgpu::SubmissionIndex>,
    /// The data to read back of the last row that was submitted, if any, and the submission that brings it.
    fetched: Option<(usize, Fetch, wgpu::SubmissionIndex)>,
    finished: Instant,
    /// The first value found that is not finite: image, row, column.
    not_finite: Option<(usize, [usize; 2])>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    /// Begins a job.
    ///
    /// # Errors
    /// Any [`EngineError`].
    pub fn new(
        gpu: &'a Gpu,
        batch: &'a Batch,
        request: &'a Request,
        counts: &'a mut Counts,
        pace: &'a mut Pace,
    ) -> Result<Self, EngineError> {
        batch.begin(gpu, request)?;
        let outcome = Outcome::new(&gpu.network, request);
        Ok(Self {
            gpu,
            batch,
            request,
            dispatched_before: counts.dispatches,
            counts,
            pace,
            running: None,
            fetched: None,
            finished: Instant::now(),
            not_finite: None,
            outcome,
        })
    }

    /// Runs it.
    ///
    /// # Errors
    /// Any [`EngineError`].
    pub fn run(mut self, watch: &mut dyn FnMut(usize)) -> Result<Outcome, EngineError> {
        let last = self.request.pixels();
        match self.request.method() {
            Method::Cached | Method::ByPixel => self.cached(last, watch)?,
            Method::Naive => self.naive(last, watch)?,
        }
        if let Some(running) = self.running.take() {
            self.gpu.device.wait(running)?;
        }
        self.take_row()?;
        watch(last);
        self.take_pixels(last)?;
        Ok(self.outcome)
    }

    fn shape(&self) -> &'a Shape {
        self.request.shape()
    }

    fn cached(&mut self, last: usize, watch: &mut dyn FnMut(usize)) -> Result<(), EngineError> {
        let (plan, width) = (&self.batch.plan, self.shape().width);
        let rows_given = self.request.rows_given();
        for row in 0..last.div_ceil(width) {
            self.request.go_on()?;
            let end = width.min(last - row * width);
            let mut steps: Vec<Step> = if row < rows_given {
                plan.known_row(row).collect()
            } else {
                let pixels = (0..end).flat_map(|column| plan.pixel(row, column));
                let lag = plan.end_of_row(row).filter(|_| end == width);
                plan.row(row).chain(pixels).chain(lag).collect()
            };
            steps.extend(self.likelihood(row));
            let fetch = self.submit(&steps, end, &self.wanted(row))?;
            // The row before has been waited for; what it gave is taken while this one runs.
            watch(row * width);
            self.take_row()?;
            self.fetched = fetch.map(|(fetch, submission)| (row, fetch, submission));
        }
        if self.request.want().trace && last == self.shape().pixels() {
            for (row, steps) in plan.rows_after() {
                let fetch = self.submit(&steps, width, &self.wanted(row))?;
                self.take_row()?;
                self.fetched = fetch.map(|(fetch, submission)| (row, fetch, submission));
            }
        }
        Ok(())
    }

    fn naive(&mut self, last: usize, watch: &mut dyn FnMut(usize)) -> Result<(), EngineError> {
        let (plan, Shape { width, height, .. }) = (&self.batch.plan, self.shape());
        for pixel in 0..last {
            for (step, &draw) in plan.draws().iter().enumerate() {
                self.request.go_on()?;
                self.batch.restart(self.gpu);
                for row in 0..*height {
                    let mut steps: Vec<Step> = plan.known_row(row).collect();
                    if row == pixel / width {
                        steps.push((draw, row, pixel % width));
                        // It is of a row, whose pixels are known at its end.
                        let is_end = (pixel + 1).is_multiple_of(*width) || pixel + 1 == last;
                        let is_end = is_end && step + 1 == plan.draws().len();
                        steps.extend(self.likelihood(row).filter(|_| is_end));
                    }
                    self.submit(&steps, *width, &[])?;
                }
            }
            watch(pixel);
        }
        Ok(())
    }

    /// The step that says how likely the pixels of a row are, if that is wanted.
    fn likelihood(&self, row: usize) -> Option<Step> {
        self.request.want().likelihood.then(|| self.batch.plan.likelihood(row))
    }

    /// The regions to read back of a row: the mixture parameters, then every node that is made on it.
    fn wanted(&self, row: usize) -> Vec<Region> {
        let (network, nodes, want) =
            (&self.gpu.network, &self.batch.plan.memory.nodes, self.request.want());
        let is_of_image = row < network.height;
        let parameters = (want.parameters && is_of_image).then(|| nodes[network.head_node]);
        let traced = network
            .nodes
            .iter()
            .zip(nodes)
            .filter(|(node, _)| want.trace && !rows_made(network, node, row).is_empty());
        parameters.into_iter().chain(traced.map(|(_, &region)| region)).collect()
    }

    /// Submits the dispatches of a row, whose pixels up to column `end` are wanted: at once, or in parts if the row
    /// would take too long. Each is encoded while the submission before it runs, and no more than two are under way.
    /// The last fetches what is wanted, if anything.
    fn submit(
        &mut self,
        steps: &[Step],
        end: usize,
        wanted: &[Region],
    ) -> Result<Option<(Fetch, wgpu::SubmissionIndex)>, EngineError> {
        let (plan, device) = (&self.batch.plan, &self.gpu.device);
        let macs = |step: &Step| plan.macs_at(*step, end);
        let mut rest = steps;
        let mut seconds = 0.0;
        let mut fetched = None;
        for length in self.pace.cut(steps.iter().map(macs)) {
            let (part, others) = rest.split_at(length);
            rest = others;
            let start = Instant::now();
            let mut encoder = device.encoder("pixelcnn row");
            {
                let label = Some("pixelcnn row");
                let descriptor = wgpu::ComputePassDescriptor { label, timestamp_writes: None };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                for step in part {
                    self.batch.encode(&mut pass, self.gpu.weights.stride, *step);
                }
            }
            let fetch = (rest.is_empty() && !wanted.is_empty()).then(|| {
                let parts: Vec<_> = wanted.iter().map(|&region| self.batch.part(region)).collect();
                device.fetch(&mut encoder, &parts)
            });
            let commands = encoder.finish();
            // Without the submission, in which software drivers may do the work itself.
            self.counts.encode_ns += start.elapsed().as_nanos() as u64;
            self.counts.dispatches += length as u64;
            self.counts.macs += part.iter().map(macs).sum::<u64>();
            self.counts.submissions += 1;
            let submitted = device.queue.submit([commands]);
            fetched = fetch.map(|fetch| (fetch, submitted.clone()));
            if let Some(previous) = self.running.replace(submitted) {
                device.wait(previous)?;
                seconds += self.finished.elapsed().as_secs_f64();
            }
            self.finished = Instant::now();
        }
        // The time waited for is that of one submission earlier, of about the same rate.
        if seconds > 0.0 {
            let macs: u64 = steps.iter().map(macs).sum();
            self.pace.macs_per_second = (macs as f64 / seconds).max(LEAST_RATE / 10.0);
        }
        Ok(fetched)
    }

    /// The numbers of what was fetched, part by part.
    fn collect(
        &mut self,
        fetch: Fetch,
        submission: wgpu::SubmissionIndex,
    ) -> Result<std::vec::IntoIter<Vec<f32>>, EngineError> {
        self.counts.read += fetch.bytes();
        Ok(self.gpu.device.collect(fetch, submission)?.into_iter())
    }

    /// Takes what is wanted of the last row that was submitted.
    fn take_row(&mut self) -> Result<(), EngineError> {
        let Some((row, fetch, submission)) = self.fetched.take() else { return Ok(()) };
        let mut parts = self.collect(fetch, submission)?;
        let mut next = || parts.next().expect("all that is wanted was fetched");
        let (network, size) = (&self.gpu.network, self.batch.size());
        let Shape { width, height, head, .. } = *self.shape();
        let (per_pixel, count, want) = (head.parameters(), self.request.lanes().len(), self.request.want());
        if want.parameters && row < height {
            let node = &network.nodes[network.head_node];
            // The row in the ring, without what pads its columns.
            let of_row = node.columns() * size * node.record;
            let first = (row & (node.rows - 1)) * of_row + node.left * size * node.record;
            let ring = next();
            let of_row = ring[first..].chunks(node.record).take(width * size);
            for (at, parameters) in of_row.enumerate() {
                let (column, image) = (at / size, at % size);
                if image >= count {
                    continue;
                }
                let parameters = &parameters[..per_pixel];
                if !parameters.iter().all(|p| p.is_finite()) {
                    self.not_finite.get_or_insert((image, [row, column]));
                }
                let to = ((image * height + row) * width + column) * per_pixel;
                self.outcome.parameters[to..to + per_pixel].copy_from_slice(parameters);
            }
        }
        if want.trace {
            trace_row(network, &mut self.outcome.trace, row, size, |_| Ok(next()))?;
        }
        Ok(())
    }

    /// Reads back the first `last` pixels, with how likely they are, and whether all went well.
    fn take_pixels(&mut self, last: usize) -> Result<(), EngineError> {
        let Shape { width, height, head, .. } = *self.shape();
        let channels = head.channels();
        let (batch, device) = (self.batch, &self.gpu.device);
        let (middle, of_pixel) = (middle(&self.gpu.network), batch.plan.memory.of_pixel);
        // The position of the log-likelihood in a pixel.
        let told = if of_pixel > 1 { 4 } else { 3 };
        let levels = -middle..=head.levels() as f32 - 1.0 - middle;
        let (count, size, want) = (self.request.lanes().len(), batch.size(), self.request.want());
        let pixels = Region { length: last * size * of_pixel, ..batch.plan.memory.pixels };
        let mut encoder = device.encoder("pixelcnn end");
        let fetch = device.fetch(&mut encoder, &[batch.part(pixels), batch.health()]);
        let submission = device.queue.submit([encoder.finish()]);
        let mut parts = self.collect(fetch, submission)?;
        let mut next = || parts.next().expect("two were fetched");
        let (pixels, health) = (next(), next());
        let (runs, broken) = health.split_first().expect("it has a count");
        self.check_complete(runs.to_bits())?;
        for (p, of_images) in pixels.chunks(4 * of_pixel * size).enumerate() {
            for (image, pixel) in of_images.chunks(4 * of_pixel).take(count).enumerate() {
                let (log_likelihood, pixel) = (pixel[told], &pixel[..channels]);
                let (row, column) = (p / width, p % width);
                if pixel.contains(&NOT_FINITE) || want.likelihood && log_likelihood == NOT_FINITE {
                    self.not_finite.get_or_insert((image, [row, column]));
                } else if !pixel.iter().all(|x| levels.contains(x)) {
                    let what = format!("pixel {row}, {column} of image {image} was left as {pixel:?}");
                    return Err(device.error(what));
                }
                let to = image * height * width + p;
                let to_levels = self.outcome.levels[to * channels..][..channels].iter_mut();
                // Unrounded, if the draw was.
                to_levels.zip(pixel).for_each(|(level, x)| *level = (x + middle + 0.5).floor() as u16);
                if want.likelihood {
                    self.outcome.log_likelihood[to] = f64::from(log_likelihood);
                }
            }
        }
        self.check_finite(broken)
    }

    /// Fails unless everything that was submitted has run to its end: work that a driver drops leaves zeros, or values
    /// of the row before.
    fn check_complete(&self, runs: u32) -> Result<(), EngineError> {
        let dispatched = (self.counts.dispatches - self.dispatched_before) as u32;
        if runs == dispatched {
            return Ok(());
        }
        Err(self
            .gpu
            .device
            .error(format!("of {dispatched} kernels that were submitted, {runs} have run to their end")))
    }

    /// Fails if a value of an image was not finite; the device takes note of each one that it stores.
    fn check_finite(&self, broken: &[f32]) -> Result<(), EngineError> {
        let first_broken =
            broken.iter().take(self.request.lanes().len()).position(|flag| flag.to_bits() != 0);
        let (image, pixel) = match (self.not_finite, first_broken) {
            (Some((image, pixel)), _) => (image, Some(pixel)),
            (None, Some(image)) => (image, None),
            (None, None) => return Ok(()),
        };
        Err(EngineError::NotFinite { image: self.request.lanes()[image].index, pixel })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submissions_are_cut_by_their_products() {
        let pace = |macs_per_second| Pace { macs_per_second };
        // Half a second of ten products a second.
        assert_eq!(pace(10.0).cut([3, 2, 1, 4, 9, 1]), [2, 2, 1, 1]);
        assert_eq!(pace(1e12).cut([3, 2, 1, 4, 9, 1]), [6]);
        assert_eq!(pace(1e12).cut([]), [0; 0]);
        let many = vec![0; 2 * MOST_DISPATCHES + 1];
        assert_eq!(pace(1.0).cut(many), [MOST_DISPATCHES, MOST_DISPATCHES, 1]);
    }
}
