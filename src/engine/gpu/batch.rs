//! All that depends on the batch size: caches, contexts, bind groups, and the list of dispatches.

use std::ops::Range;

use bytemuck::Zeroable;
use wgpu::util::DeviceExt;

use super::layout::{JobUniform, LayerUniform, NodeUniform, TapUniform, bind, quads};
use super::profile::{Class, Timestamps};
use super::shaders::{Epilogue, Variant};
use super::{Counts, Gpu, Job};
use crate::model::network::{IMAGE, Kind, Layer, MAX_TAPS, depth, padded};
use crate::sampling::random::Noise;

/// A dispatch of one layer, the same at every step.
struct Work {
    class: Class,
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    workgroups: [u32; 2],
    /// Multiplications with additions.
    macs: u64,
}

/// Persistent buffers and dispatches for batches of `size` images.
pub struct Batch {
    buffers: Buffers,
    /// Pixels of the batch, drawn or given: `[H, W, B, 4]`.
    pub pixels: wgpu::Buffer,
    job: wgpu::Buffer,
    /// By layer: what a row begins with.
    row_work: Vec<Option<Work>>,
    /// By layer: what a pixel needs.
    pixel_work: Vec<Option<Work>>,
    /// By layer: the same for all pixels of a row at once; made for the naive method alone.
    whole_rows: Vec<Option<Work>>,
    sample: Work,
}

/// What convolutions read and write.
struct Buffers {
    /// Images.
    size: usize,
    nodes: Vec<wgpu::Buffer>,
    contexts: Vec<Option<wgpu::Buffer>>,
    /// Bias of each layer, one an image for layers with classes.
    biases: Vec<wgpu::Buffer>,
    /// For each image, whether a value of it was not finite.
    broken: wgpu::Buffer,
}

/// Which terms of a layer's sum a dispatch takes, for which pixels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Those known when the row begins, into the context of the row.
    Early,
    /// The others, then the epilogue, for one pixel.
    Late,
    /// The others, then the epilogue, for a whole row.
    LateRow,
    /// All, then the epilogue, for a whole row.
    All,
}

impl Batch {
    /// Bytes of the largest buffer, and of all buffers, for a batch.
    pub fn bytes(gpu: &Gpu, size: usize) -> (u64, u64) {
        let network = &gpu.network;
        let nodes = network.nodes.iter().map(|node| node.len(size));
        let columns = |layer: &Layer| network.config.width >> layer.grid;
        let contexts = network.layers.iter().map(|l| columns(l) * size * l.outputs());
        let pixels = network.config.height * network.config.width * size * 4;
        let floats: Vec<_> = nodes.chain(contexts).chain([pixels]).collect();
        let bytes = |floats: usize| 4 * floats as u64;
        (bytes(*floats.iter().max().expect("networks have nodes")), bytes(floats.iter().sum()))
    }

    /// Makes everything for batches of `size` images.
    pub fn new(gpu: &mut Gpu, size: usize) -> Self {
        let config = gpu.network.config.clone();
        let buffers = Buffers::new(gpu, size);
        let pixels = gpu.storage("pixels", config.height * config.width * size * 4);
        let job = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("pixelcnn job"),
            size: size_of::<JobUniform>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let (mut row_work, mut pixel_work) = (Vec::new(), Vec::new());
        for l in 0..gpu.network.layers.len() {
            let layer = &gpu.network.layers[l];
            let of_row = match layer.is_row_work() {
                true => Some(Part::All),
                false => layer.has_context().then_some(Part::Early),
            };
            // The output layer of a pixel is a part of the sampling kernel.
            let of_pixel = (!layer.is_row_work() && layer.kind != Kind::Output).then_some(Part::Late);
            row_work.push(of_row.map(|part| buffers.conv(gpu, l, part)));
            pixel_work.push(of_pixel.map(|part| buffers.conv(gpu, l, part)));
        }
        let sample = buffers.sample(gpu, &job, &pixels);
        Self { buffers, pixels, job, row_work, pixel_work, whole_rows: Vec::new(), sample }
    }

    /// Images.
    pub fn size(&self) -> usize {
        self.buffers.size
    }

    /// Makes what the naive method needs beside the rest.
    pub fn prepare_naive(&mut self, gpu: &mut Gpu) {
        for l in self.whole_rows.len()..gpu.network.layers.len() {
            let late = !gpu.network.layers[l].is_row_work();
            self.whole_rows.push(late.then(|| self.buffers.conv(gpu, l, Part::LateRow)));
        }
    }

    /// Clears the caches and sets what the next batch is to be; `given` are pixels to be taken instead of
    /// drawn ones, as they lie in `pixels`.
    pub fn begin(&self, gpu: &Gpu, job: &Job, given: Option<&[f32]>) {
        let (network, config) = (&gpu.network, &gpu.network.config);
        let node = |n: usize| NodeUniform::new(&network.nodes[n]);
        let tap = &gpu.output().taps[0];
        let offset = network.nodes[tap.source].offset(tap.form).expect("the network stores what is read");
        let uniform = JobUniform {
            key: Noise::new(job.seed, job.first).key(),
            source: node(tap.source),
            image: node(IMAGE),
            target: node(network.layers[gpu.horizontal_input()].target),
            source_offset: quads(offset),
            parameters: quads(padded(config.parameters_per_pixel())),
            mixtures: config.mixtures as u32,
            channels: config.channels as u32,
            batch: self.size() as u32,
            columns: config.width as u32,
            forced: u32::from(given.is_some()),
            continuous: u32::from(job.continuous),
        };
        gpu.queue.write_buffer(&self.job, 0, bytemuck::bytes_of(&uniform));
        for (biases, buffer) in gpu.biases.iter().zip(&self.buffers.biases) {
            let values: Vec<f32> = match &biases[..] {
                [one] => one.clone(),
                // Images past the job's are drawn with the rest, for nobody.
                each => (0..self.size())
                    .flat_map(|i| &each[job.classes.get(i).copied().unwrap_or(0)])
                    .copied()
                    .collect(),
            };
            gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&values));
        }
        let untouched;
        let pixels = match given {
            Some(given) => given,
            None => {
                untouched = vec![super::UNTOUCHED; config.height * config.width * self.size() * 4];
                &untouched[..]
            }
        };
        gpu.queue.write_buffer(&self.pixels, 0, bytemuck::cast_slice(pixels));
        clear(gpu, [&self.buffers.nodes[IMAGE], &self.buffers.broken]);
        self.restart(gpu);
    }

    /// Clears all caches but the image, to compute the same images from their first row.
    pub fn restart(&self, gpu: &Gpu) {
        clear(gpu, &self.buffers.nodes[IMAGE + 1..]);
    }

    /// The cache of a node, see [`crate::model::network::Node`].
    pub fn ring(&self, node: usize) -> &wgpu::Buffer {
        &self.buffers.nodes[node]
    }

    /// Encodes what a row begins with.
    pub fn encode_row(&self, gpu: &Gpu, pass: &mut Pass, row: usize) {
        for (layer, work) in gpu.network.layers.iter().zip(&self.row_work) {
            if layer.runs_on_row(row) {
                pass.dispatch(gpu, work.as_ref(), row, 0);
            }
        }
    }

    /// Encodes a pixel, up to its value.
    pub fn encode_pixel(&self, gpu: &Gpu, pass: &mut Pass, row: usize, column: usize) {
        for (layer, work) in gpu.network.layers.iter().zip(&self.pixel_work) {
            // Past the first column, the sampling kernel has run the input layer for its next pixel.
            let is_done = layer.kind == Kind::Input && column > 0;
            if layer.runs_on_row(row) && column.is_multiple_of(layer.run_every) && !is_done {
                pass.dispatch(gpu, work.as_ref(), row, column);
            }
        }
        self.encode_sample(gpu, pass, row, column);
    }

    /// Steps of [`Self::encode_naive_row`].
    pub fn naive_steps(&self) -> usize {
        self.row_work.len() + self.whole_rows.len()
    }

    /// Encodes some of the steps to the mixture parameters of all pixels of a row.
    pub fn encode_naive_row(&self, gpu: &Gpu, pass: &mut Pass, row: usize, steps: Range<usize>) {
        let layers = gpu.network.layers.iter().cycle();
        let works = self.row_work.iter().chain(&self.whole_rows);
        for (layer, work) in layers.zip(works).skip(steps.start).take(steps.len()) {
            if layer.runs_on_row(row) {
                pass.dispatch(gpu, work.as_ref(), row, 0);
            }
        }
    }

    /// Encodes the drawing of a pixel.
    pub fn encode_sample(&self, gpu: &Gpu, pass: &mut Pass, row: usize, column: usize) {
        pass.dispatch(gpu, Some(&self.sample), row, column);
        if column + 1 < gpu.network.config.width {
            let input = &gpu.network.layers[gpu.horizontal_input()];
            let left = &input.taps[input.taps.len() - 1];
            pass.counts.macs += (self.size() * left.depth() * input.outputs()) as u64;
        }
    }
}

/// Sets buffers to zero.
fn clear<'a>(gpu: &Gpu, buffers: impl IntoIterator<Item = &'a wgpu::Buffer>) {
    let label = Some("pixelcnn clear");
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
    for buffer in buffers {
        encoder.clear_buffer(buffer, 0, None);
    }
    gpu.queue.submit([encoder.finish()]);
}

/// A compute pass that counts.
pub struct Pass<'a> {
    /// Where dispatches go.
    pub recorder: Recorder<'a>,
    /// What has been dispatched.
    pub counts: Counts,
}

/// Where dispatches go: into one pass, or each into its own to be timed.
pub enum Recorder<'a> {
    /// One pass.
    Pass(Box<wgpu::ComputePass<'a>>),
    /// A pass each, timed.
    Timed(&'a mut wgpu::CommandEncoder, &'a mut Timestamps),
}

impl Work {
    fn encode(&self, pass: &mut wgpu::ComputePass, places: &[u32]) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, places);
        pass.dispatch_workgroups(self.workgroups[0], self.workgroups[1], 1);
    }
}

impl Pass<'_> {
    fn dispatch(&mut self, gpu: &Gpu, work: Option<&Work>, row: usize, column: usize) {
        let Some(work) = work else { return };
        let places = [row, column].map(|index| gpu.place_stride * index as u32);
        match &mut self.recorder {
            Recorder::Pass(pass) => work.encode(pass, &places),
            Recorder::Timed(encoder, timestamps) => {
                let label = Some("pixelcnn timed");
                let timestamp_writes = timestamps.next(work.class);
                let descriptor = wgpu::ComputePassDescriptor { label, timestamp_writes };
                work.encode(&mut encoder.begin_compute_pass(&descriptor), &places);
            }
        }
        self.counts.dispatches += 1;
        self.counts.macs += work.macs;
    }
}

impl Buffers {
    fn new(gpu: &Gpu, size: usize) -> Self {
        let (network, layers) = (&gpu.network, &gpu.network.layers);
        let context = |layer: &Layer| {
            let floats = (network.config.width >> layer.grid) * size * layer.outputs();
            layer.has_context().then(|| gpu.storage(&format!("{} context", layer.name), floats))
        };
        let bias = |layer: &Layer| {
            let images = if layer.is_conditional() { size } else { 1 };
            gpu.storage(&format!("{} bias", layer.name), images * layer.outputs())
        };
        Self {
            size,
            nodes: network.nodes.iter().map(|node| gpu.storage(&node.name, node.len(size))).collect(),
            contexts: layers.iter().map(context).collect(),
            biases: layers.iter().map(bias).collect(),
            broken: gpu.storage("broken", size),
        }
    }

    /// The dispatch of output, drawing, and the next pixel's input.
    fn sample(&self, gpu: &mut Gpu, job: &wgpu::Buffer, pixels: &wgpu::Buffer) -> Work {
        let (network, input) = (&gpu.network, gpu.horizontal_input());
        let (source, target) = (gpu.output().taps[0].source, network.layers[input].target);
        let context = self.contexts[input].as_ref().expect("the input layer reads the row above");
        let buffers = [
            &gpu.rows,
            &gpu.columns,
            job,
            &self.nodes[source],
            &gpu.sample_weights,
            context,
            &self.nodes[IMAGE],
            &self.nodes[target],
            pixels,
            &self.nodes[network.parameters()],
            &self.broken,
        ];
        let bindings = bind(&gpu.device, &gpu.sample_layout, "pixelcnn sample", &buffers);
        let config = &network.config;
        let parameters = quads(gpu.output().outputs());
        let draws = (config.mixtures + config.channels) as u32;
        let variant = Variant::sample(parameters, draws, config.nonlinearity);
        let workgroups = variant.workgroups(self.size as u32, parameters);
        let output = gpu.output().taps[0].depth() * gpu.output().outputs();
        let pipeline = gpu.pipelines.get(&gpu.device, &variant);
        let class = Class::new(variant.kernel, false, 0);
        Work { class, pipeline, bindings, workgroups, macs: (self.size * output) as u64 }
    }

    /// The dispatch of a part of a layer.
    fn conv(&self, gpu: &mut Gpu, l: usize, part: Part) -> Work {
        let (network, layer) = (&gpu.network, &gpu.network.layers[l]);
        let taps = match part {
            Part::Early => &layer.taps[..layer.early],
            Part::Late | Part::LateRow => &layer.taps[layer.early..],
            Part::All => &layer.taps[..],
        };
        let is_late = matches!(part, Part::Late | Part::LateRow);
        let first_input = if is_late { depth(&layer.taps[..layer.early]) } else { 0 };
        let mut sources: Vec<usize> = Vec::new();
        let mut uniforms = [TapUniform::zeroed(); MAX_TAPS];
        for (uniform, tap) in uniforms.iter_mut().zip(taps) {
            let known = sources.iter().position(|&s| s == tap.source);
            let binding = known.unwrap_or(sources.len());
            if known.is_none() {
                sources.push(tap.source);
            }
            let node = &network.nodes[tap.source];
            *uniform = TapUniform {
                source: NodeUniform::new(node),
                binding: binding as u32,
                row: tap.row as i32,
                column: tap.column as i32,
                offset: quads(node.offset(tap.form).expect("the network stores what is read")),
                depth: quads(tap.depth()),
                scale: layer.scale(node) as i32,
                unused: [0; 2],
            };
        }
        assert!(sources.len() <= 2, "{}: the shader has two bindings for sources", layer.name);

        let columns = if part == Part::Late { 1 } else { network.config.width >> layer.grid };
        let positions = (columns * self.size) as u32;
        let (outputs, width) = (quads(layer.outputs()), quads(padded(layer.channels)));
        let from_context = is_late && layer.has_context();
        let init = match &self.contexts[l] {
            Some(context) if from_context => context,
            _ => &self.biases[l],
        };
        let uniform = LayerUniform {
            taps: uniforms,
            target: NodeUniform::new(&network.nodes[layer.target]),
            residual: NodeUniform::new(&network.nodes[layer.residual.unwrap_or(layer.target)]),
            tap_count: taps.len() as u32,
            first_input: first_input as u32,
            width,
            positions,
            batch: self.size as u32,
            grid: layer.grid as u32,
            level: layer.level as u32,
            init_column: if from_context { self.size as u32 * outputs } else { 0 },
            init_image: if from_context || layer.is_conditional() { outputs } else { 0 },
            unused: [0; 3],
        };
        let epilogue = match part {
            Part::Early => Epilogue::Context,
            _ if layer.residual.is_some() => Epilogue::Gate,
            _ => Epilogue::Forms,
        };
        let target = match (&self.contexts[l], part) {
            (Some(context), Part::Early) => context,
            _ => &self.nodes[layer.target],
        };
        let label = format!("pixelcnn {}", layer.name);
        let uniform = gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some(&label),
            contents: bytemuck::bytes_of(&uniform),
            usage: wgpu::BufferUsages::UNIFORM,
        });
        let first_source = &self.nodes[sources[0]];
        let bindings = bind(
            &gpu.device,
            &gpu.conv_layout,
            &label,
            &[
                &gpu.rows,
                &gpu.columns,
                &uniform,
                first_source,
                sources.get(1).map_or(first_source, |&s| &self.nodes[s]),
                &gpu.weights[l],
                init,
                layer.residual.map_or(first_source, |r| &self.nodes[r]),
                target,
                &self.broken,
            ],
        );
        let macs = (positions as usize * depth(taps) * layer.outputs()) as u64;
        let variant = Variant::conv(
            positions,
            layer.halves as u32,
            epilogue,
            network.config.nonlinearity,
            gpu.precisions[l],
            gpu.reduction,
        );
        let workgroups = variant.workgroups(positions, width);
        let class = Class::new(variant.kernel, part != Part::Late, layer.level);
        let pipeline = gpu.pipelines.get(&gpu.device, &variant);
        Work { class, pipeline, bindings, workgroups, macs }
    }
}
