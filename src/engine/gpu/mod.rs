//! The GPU engine: persistent buffers, and a fixed list of dispatches a step.
//!
//! Pixels never leave the device while a batch is drawn: sampling is a kernel, and the host only encodes
//! the next row while one runs.

pub mod adapter;
mod batch;
mod layout;
pub mod profile;
pub mod shaders;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Counts, Engine, EngineError, Job, Method, Trace, begin_trace, trace_row};
use crate::model::network::{CHANNEL_ALIGN, Kind, Layer, Stream, padded};
use crate::model::{Model, Network, Precision};
use batch::{Batch, Pass, Recorder};
use shaders::{NOT_FINITE, Pipelines, Reduction};

/// What pixels are before they are drawn; no value in [−1, 1].
const UNTOUCHED: f32 = 4.0;

/// A submission should take no longer than this: drivers reset a device that does not answer.
const SUBMISSION: Duration = Duration::from_secs(1);

/// A device that takes longer than this for a submission is lost.
const PATIENCE: Duration = Duration::from_secs(300);

/// FLOP/s assumed until a row has been timed; less than any GPU gives.
const ASSUMED_RATE: f64 = 50e9;

/// Above this many images, larger batches no longer help.
const LARGEST_HELPFUL_BATCH: usize = 256;

/// Variants of the shaders, for tests and measurements.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Shaders check every index.
    pub checked: bool,
    /// Sums go through subgroup operations first, where the adapter has subgroups of one size.
    pub subgroups: bool,
}

impl Options {
    /// From the words of the environment variable `PIXELCNN_SHADERS`: `checked`, `subgroups`, with commas
    /// between them.
    pub fn from_environment() -> Self {
        let words = std::env::var("PIXELCNN_SHADERS").unwrap_or_default();
        let has = |word| words.split(',').any(|w| w.trim() == word);
        Self { checked: has("checked"), subgroups: has("subgroups") }
    }
}

/// A network on a GPU.
pub struct GpuEngine {
    gpu: Gpu,
    batch: Option<Batch>,
    /// Seconds that a row of the batch takes, as far as is known.
    row_seconds: f64,
    /// The submission that runs, and when the one before it had ended.
    running: Option<wgpu::SubmissionIndex>,
    finished: Instant,
    counts: Counts,
}

/// A device with what does not depend on the batch: weights, places, pipelines.
struct Gpu {
    name: String,
    network: Network,
    device: wgpu::Device,
    queue: wgpu::Queue,
    conv_layout: wgpu::BindGroupLayout,
    sample_layout: wgpu::BindGroupLayout,
    pipelines: Pipelines,
    weights: Vec<wgpu::Buffer>,
    /// How the weights of each layer are stored.
    precisions: Vec<Precision>,
    reduction: Reduction,
    /// What the sampling kernel reads: output weights and bias, and the input layer's last tap.
    sample_weights: wgpu::Buffer,
    /// Biases of each layer: one, or one a class.
    biases: Vec<Vec<Vec<f32>>>,
    /// The numbers 0, 1, …, `place_stride` bytes apart: the row or column that a dispatch works on.
    rows: wgpu::Buffer,
    columns: wgpu::Buffer,
    place_stride: u32,
    failure: Failure,
}

impl GpuEngine {
    /// A model for images of `width` by `height` pixels, on an adapter.
    ///
    /// # Errors
    /// [`EngineError::Device`] if the adapter gives no device that can hold the model.
    pub fn new(
        model: &Model,
        width: usize,
        height: usize,
        adapter: &wgpu::Adapter,
    ) -> Result<Self, EngineError> {
        Self::with_options(model, width, height, adapter, Options::from_environment())
    }

    /// As [`Self::new`], with options that are otherwise taken from the environment.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_options(
        model: &Model,
        width: usize,
        height: usize,
        adapter: &wgpu::Adapter,
        options: Options,
    ) -> Result<Self, EngineError> {
        let network = Network::new(&model.config.with_size(width, height));
        let gpu = Gpu::new(model, network, adapter, options)?;
        Ok(Self {
            gpu,
            batch: None,
            row_seconds: 0.0,
            running: None,
            finished: Instant::now(),
            counts: Counts::default(),
        })
    }

    /// The batch, prepared for at least `size` images.
    fn prepared(&mut self, size: usize) -> Result<(), EngineError> {
        if self.batch.as_ref().is_some_and(|batch| batch.size() >= size) {
            return Ok(());
        }
        self.batch = None;
        let largest = self.gpu.largest_batch(size);
        if largest < size {
            let limits = self.gpu.device.limits();
            return Err(EngineError::BatchTooLarge {
                batch: size,
                needed: format!("buffers of {}", mebibytes(Batch::bytes(&self.gpu, size).0)),
                limit: format!(
                    "{} allows {}",
                    self.gpu.name,
                    mebibytes(limits.max_storage_buffer_binding_size.min(limits.max_buffer_size))
                ),
                largest,
            });
        }
        match self.gpu.allocate(size)? {
            Some(batch) => self.batch = Some(batch),
            None => {
                let mut largest = size / 2;
                while largest > 0 && self.gpu.allocate(largest)?.is_none() {
                    largest /= 2;
                }
                return Err(EngineError::BatchTooLarge {
                    batch: size,
                    needed: mebibytes(Batch::bytes(&self.gpu, size).1),
                    limit: format!("{} has less memory free", self.gpu.name),
                    largest,
                });
            }
        }
        let flops = 2.0 * self.gpu.network.macs_per_image() as f64 * size as f64;
        self.row_seconds = flops / self.gpu.network.config.height as f64 / ASSUMED_RATE;
        Ok(())
    }

    /// As [`Self::run`], with given pixels.
    fn run_given(
        &mut self,
        images: &[f32],
        classes: &[usize],
        each_row: &mut dyn FnMut(&Gpu, &Batch, usize) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let config = &self.gpu.network.config;
        let (dimensions, channels) = (config.dimensions(), config.channels);
        let count = images.len() / dimensions;
        self.prepared(count)?;
        let size = ready(&self.batch).size();
        let mut given = vec![0.0; dimensions / channels * size * 4];
        for (image, values) in images.chunks(dimensions).enumerate() {
            for (p, pixel) in values.chunks(channels).enumerate() {
                given[(p * size + image) * 4..][..channels].copy_from_slice(pixel);
            }
        }
        let job = Job { count, classes: classes.to_vec(), ..Job::default() };
        self.run(&job, Some(&given), each_row)
    }

    /// Runs a batch row by row; `each_row` is called when a row has been submitted.
    fn run(
        &mut self,
        job: &Job,
        given: Option<&[f32]>,
        each_row: &mut dyn FnMut(&Gpu, &Batch, usize) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.begin(job, given);
        let width = self.gpu.network.config.width;
        let last = job.pixels_of(&self.gpu.network.config);
        for row in 0..last.div_ceil(width) {
            self.submit_row(row, width, width.min(last - row * width), |gpu, batch, pass, columns| {
                if columns.start == 0 {
                    batch.encode_row(gpu, pass, row);
                }
                for column in columns {
                    batch.encode_pixel(gpu, pass, row, column);
                }
            })?;
            each_row(&self.gpu, ready(&self.batch), row)?;
        }
        self.finish()
    }

    /// Draws pixels by the naive method; `each_pixel` is called when all of one has been submitted.
    fn run_naive(&mut self, job: &Job, each_pixel: &mut dyn FnMut(usize)) -> Result<(), EngineError> {
        self.batch.as_mut().expect("prepared before").prepare_naive(&mut self.gpu);
        self.begin(job, None);
        let (height, width) = (self.gpu.network.config.height, self.gpu.network.config.width);
        let steps = ready(&self.batch).naive_steps();
        for pixel in 0..job.pixels_of(&self.gpu.network.config) {
            ready(&self.batch).restart(&self.gpu);
            for row in 0..height {
                self.submit_row(row, steps, steps, |gpu, batch, pass, part| {
                    let is_last = part.end == steps;
                    batch.encode_naive_row(gpu, pass, row, part);
                    if row == pixel / width && is_last {
                        batch.encode_sample(gpu, pass, row, pixel % width);
                    }
                })?;
            }
            each_pixel(pixel);
        }
        self.finish()
    }

    /// Submits the first `count` of the `steps` of a row: at once, or in parts if the row would take too long.
    fn submit_row(
        &mut self,
        row: usize,
        steps: usize,
        count: usize,
        encode: impl Fn(&Gpu, &Batch, &mut Pass, Range<usize>),
    ) -> Result<(), EngineError> {
        let parts = (self.row_seconds / SUBMISSION.as_secs_f64()).ceil().clamp(1.0, steps as f64);
        let span = steps.div_ceil(parts as usize);
        let mut seconds = 0.0;
        for start in (0..count).step_by(span) {
            let part = start..(start + span).min(count);
            seconds += self.submit(|gpu, batch, pass| encode(gpu, batch, pass, part))?;
        }
        if row > 0 {
            self.row_seconds = seconds;
        }
        Ok(())
    }

    fn begin(&mut self, job: &Job, given: Option<&[f32]>) {
        ready(&self.batch).begin(&self.gpu, job, given);
        self.finished = Instant::now();
    }

    /// Encodes and submits some work, while the submission before it runs, and waits for that one: no more
    /// than two are under way. Returns the seconds since the last wait.
    fn submit(&mut self, encode: impl FnOnce(&Gpu, &Batch, &mut Pass)) -> Result<f64, EngineError> {
        let start = Instant::now();
        let label = Some("pixelcnn row");
        let descriptor = wgpu::CommandEncoderDescriptor { label };
        let mut encoder = self.gpu.device.create_command_encoder(&descriptor);
        let descriptor = wgpu::ComputePassDescriptor { label, timestamp_writes: None };
        let recorder = Recorder::Pass(Box::new(encoder.begin_compute_pass(&descriptor)));
        let mut pass = Pass { recorder, counts: self.counts };
        encode(&self.gpu, ready(&self.batch), &mut pass);
        self.counts = pass.counts;
        drop(pass);
        let commands = encoder.finish();
        // Without the submission, in which software drivers may do the work itself.
        self.counts.encode_ns += start.elapsed().as_nanos() as u64;
        let submitted = self.gpu.queue.submit([commands]);
        self.counts.submissions += 1;
        if let Some(previous) = self.running.replace(submitted) {
            self.gpu.wait(previous)?;
        }
        let seconds = self.finished.elapsed().as_secs_f64();
        self.finished = Instant::now();
        Ok(seconds)
    }

    /// Waits for all that has been submitted.
    fn finish(&mut self) -> Result<(), EngineError> {
        self.running.take().map_or(Ok(()), |last| self.gpu.wait(last))
    }
}

/// The batch, which every caller has prepared.
fn ready(batch: &Option<Batch>) -> &Batch {
    batch.as_ref().expect("prepared before")
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

impl Gpu {
    fn new(
        model: &Model,
        network: Network,
        adapter: &wgpu::Adapter,
        options: Options,
    ) -> Result<Self, EngineError> {
        let info = adapter.get_info();
        let failed = |what: String| EngineError::Device(format!("{}: {what}", info.name));
        let subgroups = options.subgroups
            && adapter.features().contains(wgpu::Features::SUBGROUP)
            && info.subgroup_min_size == info.subgroup_max_size;
        // Timestamps are for profiles.
        let mut features = adapter.features() & wgpu::Features::TIMESTAMP_QUERY;
        features.set(wgpu::Features::SUBGROUP, subgroups);
        let (device, queue, failure) = open(adapter, features).map_err(|e| failed(e.to_string()))?;
        let buffer = |label: &str, contents: &[u8], usage| {
            use wgpu::util::DeviceExt;
            let label = format!("pixelcnn {label}");
            let descriptor = wgpu::util::BufferInitDescriptor { label: Some(&label), contents, usage };
            device.create_buffer_init(&descriptor)
        };
        let storage = |label: &str, floats: &[f32]| {
            buffer(label, bytemuck::cast_slice(floats), wgpu::BufferUsages::STORAGE)
        };
        let place_stride = device.limits().min_uniform_buffer_offset_alignment;
        let places = |count: usize| {
            let mut places = vec![0; count * place_stride as usize];
            for (index, place) in places.chunks_mut(place_stride as usize).enumerate() {
                place[..4].copy_from_slice(&(index as u32).to_le_bytes());
            }
            buffer("places", &places, wgpu::BufferUsages::UNIFORM)
        };
        let (rows, columns) = (places(network.config.height), places(network.config.width));
        let matrices: Vec<_> = network.layers.iter().map(|layer| layer.matrix(model)).collect();
        let limit = device.limits().max_storage_buffer_binding_size;
        for (layer, matrix) in network.layers.iter().zip(&matrices) {
            if size_of_val(&matrix[..]) as u64 > limit {
                let what = format!("the weights of {} need more than its limit of a buffer", layer.name);
                return Err(failed(format!("{what}, {}", mebibytes(limit))));
            }
        }
        let precisions: Vec<_> = network.layers.iter().map(|layer| layer.precision(model)).collect();
        let weights =
            network.layers.iter().zip(&precisions).zip(&matrices).map(|((layer, precision), matrix)| {
                match precision {
                    Precision::F32 => storage(&layer.name, matrix),
                    Precision::F16 => {
                        let halves: Vec<u16> =
                            matrix.iter().map(|&w| half::f16::from_f32(w).to_bits()).collect();
                        buffer(&layer.name, bytemuck::cast_slice(&halves), wgpu::BufferUsages::STORAGE)
                    }
                }
            });
        let weights = weights.collect();
        let classes: Vec<_> = (0..model.config.classes.len()).map(Some).collect();
        let biases = network.layers.iter().map(|layer| {
            let classes = if layer.is_conditional() { &classes[..] } else { &[None] };
            classes.iter().map(|&class| layer.bias(model, class)).collect()
        });
        let biases: Vec<Vec<Vec<f32>>> = biases.collect();

        let (input, output) = (horizontal_input(&network), network.layers.len() - 1);
        let left = CHANNEL_ALIGN * padded(network.config.filters);
        let last_tap = &matrices[input][matrices[input].len() - left..];
        let for_sampling = [&matrices[output][..], &biases[output][0], last_tap].concat();
        let sample_weights = storage("sample weights", &for_sampling);

        let (conv_layout, sample_layout) = (layout::conv_layout(&device), layout::sample_layout(&device));
        let pipelines = Pipelines::new(&device, &conv_layout, &sample_layout, options.checked);
        let reduction = match subgroups {
            true => Reduction::Subgroup(info.subgroup_min_size),
            false => Reduction::Memory,
        };
        let gpu = Self {
            name: info.name,
            network,
            device,
            queue,
            conv_layout,
            sample_layout,
            pipelines,
            weights,
            precisions,
            reduction,
            sample_weights,
            biases,
            rows,
            columns,
            place_stride,
            failure,
        };
        gpu.check()?;
        Ok(gpu)
    }

    /// A persistent buffer.
    fn storage(&self, label: &str, floats: usize) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(&format!("pixelcnn {label}")),
            size: 4 * floats as u64,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    }

    fn output(&self) -> &Layer {
        &self.network.layers[self.network.layers.len() - 1]
    }

    fn horizontal_input(&self) -> usize {
        horizontal_input(&self.network)
    }

    /// The largest batch up to `most` whose buffers the device's limits allow.
    fn largest_batch(&self, most: usize) -> usize {
        let limits = self.device.limits();
        let bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let groups = limits.max_compute_workgroups_per_dimension as usize;
        let of_one = Batch::bytes(self, 1).0;
        most.min((bytes / of_one) as usize).min(groups)
    }

    /// Buffers for a batch, or none if there is not enough memory for them.
    fn allocate(&mut self, size: usize) -> Result<Option<Batch>, EngineError> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let batch = Batch::new(self, size);
        let out_of_memory = pollster::block_on(memory.pop()).is_some();
        self.check()?;
        Ok((!out_of_memory).then_some(batch))
    }

    /// Whether the device has reported an error.
    fn check(&self) -> Result<(), EngineError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            Some(what) => Err(EngineError::Device(format!("{}: {what}", self.name))),
            None => Ok(()),
        }
    }

    /// Waits for a submission.
    fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<(), EngineError> {
        let poll = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        let polled = self.device.poll(poll);
        self.check()?;
        polled.map_err(|e| EngineError::Device(format!("{}: {e}", self.name)))?;
        Ok(())
    }

    /// The contents of a buffer.
    fn read(&self, buffer: &wgpu::Buffer) -> Result<Vec<f32>, EngineError> {
        let failed = |what: String| EngineError::Device(format!("{}: {what}", self.name));
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("pixelcnn read-back"),
            size: buffer.size(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let label = Some("pixelcnn read-back");
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
        let submitted = self.queue.submit([encoder.finish()]);
        let (sender, receiver) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| _ = sender.send(result));
        self.wait(submitted)?;
        match receiver.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(failed(e.to_string())),
            Err(_) => return Err(failed("a buffer was not read back".into())),
        }
        let view = staging.get_mapped_range(..).map_err(|e| failed(e.to_string()))?;
        Ok(bytemuck::pod_collect_to_vec(&view))
    }
}

/// The first error that a device reported.
type Failure = Arc<Mutex<Option<String>>>;

/// Opens a device that remembers its first error.
fn open(
    adapter: &wgpu::Adapter,
    required_features: wgpu::Features,
) -> Result<(wgpu::Device, wgpu::Queue, Failure), wgpu::RequestDeviceError> {
    let offered = adapter.limits();
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("pixelcnn"),
        required_features,
        required_limits: wgpu::Limits {
            // For larger batches.
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_buffer_size: offered.max_buffer_size,
            ..wgpu::Limits::default()
        },
        ..Default::default()
    }))?;
    let failure = Failure::default();
    let remember = || {
        let failure = Arc::clone(&failure);
        move |what: String| {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
        }
    };
    let (on_error, on_loss) = (remember(), remember());
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| on_error(error.to_string())));
    device.set_device_lost_callback(move |reason, message| {
        // The device is also "lost" when it is dropped at the end.
        if reason != wgpu::DeviceLostReason::Destroyed {
            on_loss(format!("the device was lost: {message}"));
        }
    });
    Ok((device, queue, failure))
}

/// Index of the layer that reads the pixel to the left.
fn horizontal_input(network: &Network) -> usize {
    let is_it = |layer: &Layer| layer.kind == Kind::Input && layer.stream == Stream::Horizontal;
    network.layers.iter().position(is_it).expect("every network has an input layer")
}

impl Engine for GpuEngine {
    fn name(&self) -> String {
        format!("GPU ({})", self.gpu.name)
    }

    fn suggested_batch(&self, count: usize) -> usize {
        self.gpu.largest_batch(count.min(LARGEST_HELPFUL_BATCH)).max(1)
    }

    fn prepare(&mut self, batch: usize) -> Result<(), EngineError> {
        // All images of a larger one would be computed, wanted or not.
        self.batch.take_if(|larger| larger.size() > batch);
        self.prepared(batch)
    }

    fn sample(&mut self, job: &Job, progress: &mut dyn FnMut(usize)) -> Result<Vec<f32>, EngineError> {
        self.prepared(job.count)?;
        let width = self.gpu.network.config.width;
        match job.method {
            Method::Cached => self.run(job, None, &mut |_, _, row| {
                // The row before has been waited for.
                progress(row * width);
                Ok(())
            })?,
            Method::Naive => self.run_naive(job, progress)?,
        }
        let config = &self.gpu.network.config;
        let last = job.pixels_of(config);
        progress(last);
        let batch = ready(&self.batch);
        let pixels = self.gpu.read(&batch.pixels)?;
        let mut images = vec![0.0; job.count * config.dimensions()];
        for (p, drawn) in pixels.chunks(4 * batch.size()).enumerate().take(last) {
            for (image, drawn) in drawn.chunks(4).take(job.count).enumerate() {
                let (row, column) = (p / width, p % width);
                let drawn = &drawn[..config.channels];
                if drawn.contains(&NOT_FINITE) {
                    return Err(EngineError::NotFinite { image: job.first + image as u64, row, column });
                }
                if !drawn.iter().all(|x| (-1.0..=1.0).contains(x)) {
                    let what = format!("pixel {row}, {column} of image {image} was left as {drawn:?}");
                    return Err(EngineError::Device(format!("{}: {what}", self.gpu.name)));
                }
                let to = image * config.dimensions() + p * config.channels;
                images[to..to + config.channels].copy_from_slice(drawn);
            }
        }
        Ok(images)
    }

    fn parameters(&mut self, images: &[f32], classes: &[usize]) -> Result<Vec<f32>, EngineError> {
        let config = self.gpu.network.config.clone();
        let (width, per_pixel) = (config.width, config.parameters_per_pixel());
        let count = images.len() / config.dimensions();
        let mut parameters = vec![0.0; count * config.height * width * per_pixel];
        self.run_given(images, classes, &mut |gpu, batch, row| {
            // All images of a column, then those of the next.
            let of_row = gpu.read(batch.ring(gpu.network.parameters()))?;
            for (at, values) in of_row.chunks(padded(per_pixel)).enumerate() {
                let (column, image) = (at / batch.size(), at % batch.size());
                if image < count {
                    let to = ((image * config.height + row) * width + column) * per_pixel;
                    parameters[to..to + per_pixel].copy_from_slice(&values[..per_pixel]);
                }
            }
            Ok(())
        })?;
        Ok(parameters)
    }

    fn counts(&self) -> Counts {
        self.counts
    }

    fn bytes(&self) -> u64 {
        let weights: u64 = self.gpu.weights.iter().map(wgpu::Buffer::size).sum();
        weights + self.batch.as_ref().map_or(0, |batch| Batch::bytes(&self.gpu, batch.size()).1)
    }

    fn trace(&mut self, image: &[f32], class: Option<usize>) -> Result<Trace, EngineError> {
        let classes: Vec<_> = class.into_iter().collect();
        let mut trace = begin_trace(&self.gpu.network);
        self.run_given(image, &classes, &mut |gpu, batch, row| {
            trace_row(&gpu.network, &mut trace, row, batch.size(), |node| gpu.read(batch.ring(node)))
        })?;
        Ok(trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Config;

    /// A row that takes several submissions, one for each of its steps, gives what one of a single one does.
    #[test]
    #[ignore = "needs a Vulkan adapter"]
    fn split_rows_are_the_same() {
        let (adapter, _) = adapter::choose("gpu").unwrap();
        let model = Model::synthetic(Config { width: 8, height: 4, ..Config::published(8, 1) }, 3);
        let mut engine = GpuEngine::new(&model, 8, 4, &adapter.unwrap()).unwrap();
        for method in [Method::Cached, Method::Naive] {
            let job = Job { count: 2, method, pixels: Some(4), ..Job::default() };
            engine.prepare(2).unwrap();
            let [whole, split] = [0.0, 1e9].map(|seconds| {
                let before = engine.counts;
                engine.row_seconds = seconds;
                let images = engine.sample(&job, &mut |_| {}).unwrap();
                (images, engine.counts.submissions - before.submissions)
            });
            assert_eq!(whole.0, split.0, "{method:?}");
            assert!(split.1 > whole.1, "{method:?}: {} submissions, and split {}", whole.1, split.1);
        }
    }
}
