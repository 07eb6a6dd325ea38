//! Where the time goes on a GPU: timestamps around every dispatch.

use std::collections::BTreeMap;

use super::batch::{Batch, Pass, Recorder};
use super::shaders::Kernel;
use super::{Engine, EngineError, Gpu, GpuEngine, Job};

/// Dispatches that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// The kernel, without its variant.
    pub kernel: &'static str,
    /// Whether they begin a row; else they are a step of a pixel.
    pub is_row_work: bool,
    /// Resolution of what they make: `1/2^level` of the image.
    pub level: usize,
}

impl Class {
    pub(super) fn new(kernel: Kernel, is_row_work: bool, level: usize) -> Self {
        let kernel = match kernel {
            Kernel::Tiled(..) => "conv_tiled",
            Kernel::Split(..) => "conv_split",
            Kernel::Sample => "sample",
        };
        Self { kernel, is_row_work, level }
    }
}

/// What the dispatches of a class took together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// How many.
    pub dispatches: u64,
    /// On the device, in nanoseconds.
    pub nanoseconds: f64,
}

/// Timestamps of the dispatches of one submission.
pub struct Timestamps {
    queries: wgpu::QuerySet,
    /// Class of each dispatch that is timed.
    classes: Vec<Class>,
}

impl Timestamps {
    fn new(gpu: &Gpu) -> Self {
        let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("pixelcnn timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count: wgpu::QUERY_SET_MAX_QUERIES,
        });
        Self { queries, classes: Vec::new() }
    }

    /// Timestamps for the next dispatch; none if the set is full.
    pub fn next(&mut self, class: Class) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let first = 2 * self.classes.len() as u32;
        (first + 2 <= wgpu::QUERY_SET_MAX_QUERIES).then(|| {
            self.classes.push(class);
            wgpu::ComputePassTimestampWrites {
                query_set: &self.queries,
                beginning_of_pass_write_index: Some(first),
                end_of_pass_write_index: Some(first + 1),
            }
        })
    }
}

impl GpuEngine {
    /// Whether the adapter can tell how long a dispatch took.
    pub fn can_profile(adapter: &wgpu::Adapter) -> bool {
        adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Draws the first `rows` rows of a batch with every dispatch timed, once without and once for the
    /// record. Each runs by itself, so their sum is more than what a batch takes.
    ///
    /// # Errors
    /// Any [`EngineError`]; [`EngineError::Device`] where [`Self::can_profile`] says no.
    pub fn profile(&mut self, job: &Job, rows: usize) -> Result<BTreeMap<Class, Total>, EngineError> {
        if !self.gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(EngineError::Device(format!("{} has no timestamps", self.gpu.name)));
        }
        let (width, height) = (self.gpu.network.config.width, self.gpu.network.config.height);
        let rows = rows.min(height);
        self.sample(&Job { pixels: Some(rows * width), ..job.clone() }, &mut |_| {})?;
        let batch = self.batch.as_ref().expect("prepared before");
        batch.begin(&self.gpu, job, None);
        let mut timestamps = Timestamps::new(&self.gpu);
        let mut totals = BTreeMap::new();
        for row in 0..rows {
            self.timed(&mut timestamps, &mut totals, |gpu, batch, pass| batch.encode_row(gpu, pass, row))?;
            for column in 0..width {
                self.timed(&mut timestamps, &mut totals, |gpu, batch, pass| {
                    batch.encode_pixel(gpu, pass, row, column);
                })?;
            }
        }
        Ok(totals)
    }

    /// Submits some work, waits for it, and adds up what its dispatches took.
    fn timed(
        &mut self,
        timestamps: &mut Timestamps,
        totals: &mut BTreeMap<Class, Total>,
        encode: impl FnOnce(&Gpu, &Batch, &mut Pass),
    ) -> Result<(), EngineError> {
        let gpu = &self.gpu;
        let label = Some("pixelcnn profile");
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        timestamps.classes.clear();
        let recorder = Recorder::Timed(&mut encoder, timestamps);
        let mut pass = Pass { recorder, counts: self.counts };
        encode(gpu, self.batch.as_ref().expect("prepared before"), &mut pass);
        self.counts = pass.counts;
        drop(pass);
        let queries = 2 * timestamps.classes.len() as u32;
        if queries == 0 {
            return Ok(());
        }
        let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label,
            size: u64::from(queries) * u64::from(wgpu::QUERY_SIZE),
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        encoder.resolve_query_set(&timestamps.queries, 0..queries, &resolved, 0);
        gpu.queue.submit([encoder.finish()]);
        // Read as floats, which are bits to a copy.
        let words: Vec<u64> = bytemuck::cast_slice(&gpu.read(&resolved)?)
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u64::from_le_bytes(*bytes))
            .collect();
        let period = f64::from(gpu.queue.get_timestamp_period());
        for (class, times) in timestamps.classes.iter().zip(words.chunks(2)) {
            let total: &mut Total = totals.entry(*class).or_default();
            total.dispatches += 1;
            total.nanoseconds += times[1].saturating_sub(times[0]) as f64 * period;
        }
        Ok(())
    }
}
