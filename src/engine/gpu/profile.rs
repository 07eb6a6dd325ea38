//! The time of each dispatch on a GPU, by timestamps around it.

use std::collections::BTreeMap;

use super::adapter::Adapter;
use super::device::BufferPart;
use super::dispatch::{Dispatch, Operation, kernel_name};
use super::plan::Step;
use super::{Engine, EngineError, GpuEngine, Request, Room};

/// Dispatches that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// The kernel, without its variant.
    pub kernel: &'static str,
    /// True if they begin a row; else they are a step of a pixel.
    pub is_row_work: bool,
    /// Resolution of what they make: `1/2^level` of the image.
    pub level: usize,
}

impl Class {
    fn new(dispatch: &Dispatch) -> Self {
        let is_row_work = matches!(dispatch.operation, Operation::Conv { whole_row: true, .. });
        Self { kernel: kernel_name(dispatch.variant.kernel), is_row_work, level: dispatch.level }
    }
}

/// The dispatches of a class together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Their number.
    pub dispatches: u64,
    /// On the device, in nanoseconds.
    pub nanoseconds: f64,
}

/// Dispatches that are timed in one submission: two timestamps each.
const AT_ONCE: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

impl GpuEngine {
    /// True if the adapter can time a dispatch.
    pub fn can_profile(adapter: &Adapter) -> bool {
        adapter.handle().features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Draws the first `rows` rows of a batch with every dispatch timed, once without and once for the
    /// record. Each runs by itself, so their sum is more than what a batch takes.
    ///
    /// # Errors
    /// Any [`EngineError`]; [`EngineError::Device`] where [`Self::can_profile`] says no.
    pub fn profile(
        &mut self,
        request: &Request,
        rows: usize,
    ) -> Result<BTreeMap<Class, Total>, EngineError> {
        if !self.gpu.device.handle.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(self.gpu.device.error("it has no timestamps"));
        }
        let (width, height) = (self.gpu.network.width, self.gpu.network.height);
        let rows = rows.min(height);
        self.prepare(Room::For(request.lanes().len()))?;
        self.run(&request.clone().first(rows * width), &mut |_| {})?;
        let batch = self.batch.as_ref().expect("prepared before");
        batch.begin(&self.gpu, request)?;
        let queries = self.gpu.device.handle.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("pixelcnn timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count: 2 * AT_ONCE as u32,
        });
        let mut totals = BTreeMap::new();
        let plan = &batch.plan;
        for row in 0..rows {
            let pixels = (0..width).flat_map(|column| plan.pixel(row, column));
            let steps: Vec<_> = plan.row(row).chain(pixels).chain(plan.end_of_row(row)).collect();
            for steps in steps.chunks(AT_ONCE) {
                let times = self.timed(&queries, steps)?;
                for (&(id, ..), nanoseconds) in steps.iter().zip(times) {
                    let total: &mut Total = totals.entry(Class::new(&plan[id])).or_default();
                    total.dispatches += 1;
                    total.nanoseconds += nanoseconds;
                }
            }
        }
        Ok(totals)
    }

    /// Submits some dispatches, each in a pass of its own, waits for them, and tells how many nanoseconds each took.
    fn timed(&self, queries: &wgpu::QuerySet, steps: &[Step]) -> Result<Vec<f64>, EngineError> {
        let (gpu, batch) = (&self.gpu, self.batch.as_ref().expect("prepared before"));
        let mut encoder = gpu.device.encoder("pixelcnn profile");
        for (query, step) in (0..).step_by(2).zip(steps) {
            let descriptor = wgpu::ComputePassDescriptor {
                label: Some("pixelcnn timed"),
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: queries,
                    beginning_of_pass_write_index: Some(query),
                    end_of_pass_write_index: Some(query + 1),
                }),
            };
            batch.encode(&mut encoder.begin_compute_pass(&descriptor), gpu.weights.stride, *step);
        }
        // Two timestamps of 8 bytes are a quad.
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = gpu.device.buffer("timestamps", 16 * steps.len() as u64, usage);
        encoder.resolve_query_set(queries, 0..2 * steps.len() as u32, &resolved, 0);
        let part = BufferPart { buffer: &resolved, start: 0, quads: steps.len() };
        let fetch = gpu.device.fetch(&mut encoder, &[part]);
        let submission = gpu.device.queue.submit([encoder.finish()]);
        let ticks: Vec<u64> = gpu.device.collect(fetch, submission)?.concat();
        let period = f64::from(gpu.device.queue.get_timestamp_period());
        Ok(ticks.chunks(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 * period).collect())
    }
}
