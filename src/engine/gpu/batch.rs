//! All that depends on the batch size: caches, contexts, bind groups, and the list of dispatches.

use bytemuck::Zeroable;
use wgpu::util::DeviceExt;

use super::layout::{JobUniform, LayerUniform, NodeUniform, TapUniform, bind, quads};
use super::shaders::{Epilogue, Variant};
use super::{Gpu, Job};
use crate::model::network::{IMAGE, Kind, Layer, MAX_TAPS, Tap, padded};
use crate::sampling::random::Noise;

/// A dispatch of one layer, the same at every step.
struct Work {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    workgroups: [u32; 2],
}

/// Persistent buffers and dispatches for batches of `size` images.
pub struct Batch {
    /// Images.
    pub size: usize,
    nodes: Vec<wgpu::Buffer>,
    /// For each image, whether a value of it was not finite.
    broken: wgpu::Buffer,
    /// Bias of each layer, one an image for layers with classes.
    biases: Vec<wgpu::Buffer>,
    /// Pixels of the batch, drawn or given: `[H, W, B, 4]`.
    pub pixels: wgpu::Buffer,
    job: wgpu::Buffer,
    /// By layer: what a row begins with.
    row_work: Vec<Option<Work>>,
    /// By layer: what a pixel needs.
    pixel_work: Vec<Option<Work>>,
    /// The horizontal input layer at the first column of a row; elsewhere `sample` runs it.
    first_column: Work,
    sample: Work,
}

/// Which terms of a layer's sum a dispatch takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Those known when the row begins, into the context.
    Early,
    /// The others, then the epilogue.
    Late,
    /// All, then the epilogue.
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
        let storage = |label: &str, floats: usize| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(&format!("pixelcnn {label}")),
                size: 4 * floats as u64,
                usage: wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_DST
                    | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            })
        };
        let (config, layers) = (&gpu.network.config, &gpu.network.layers);
        let nodes: Vec<_> = gpu.network.nodes.iter().map(|n| storage(&n.name, n.len(size))).collect();
        let context = |layer: &Layer| {
            let floats = (config.width >> layer.grid) * size * layer.outputs();
            layer.has_context().then(|| storage(&format!("{} context", layer.name), floats))
        };
        let contexts: Vec<_> = layers.iter().map(context).collect();
        let bias = |layer: &Layer| {
            let images = if layer.is_conditional() { size } else { 1 };
            storage(&format!("{} bias", layer.name), images * layer.outputs())
        };
        let biases: Vec<_> = layers.iter().map(bias).collect();
        let broken = storage("broken", size);
        let pixels = storage("pixels", config.height * config.width * size * 4);
        let job = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("pixelcnn job"),
            size: size_of::<JobUniform>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });

        let buffers =
            Buffers { size, nodes: &nodes, contexts: &contexts, biases: &biases, broken: &broken };
        let (mut row_work, mut pixel_work) = (Vec::new(), Vec::new());
        for l in 0..gpu.network.layers.len() {
            let layer = &gpu.network.layers[l];
            let of_row = match layer.is_row_work() {
                true => Some(Part::All),
                false => layer.has_context().then_some(Part::Early),
            };
            let of_pixel = (!layer.is_row_work() && layer.kind != Kind::Output).then_some(Part::Late);
            row_work.push(of_row.map(|part| buffers.conv(gpu, l, part)));
            pixel_work.push(of_pixel.map(|part| buffers.conv(gpu, l, part)));
        }
        let input = gpu.horizontal_input();
        let first_column = pixel_work[input].take().expect("the input layer reads the pixel to the left");
        let (source, target) = (gpu.output().taps[0].source, gpu.network.layers[input].target);
        let label = "pixelcnn sample";
        let bindings = bind(
            &gpu.device,
            &gpu.sample_layout,
            label,
            &[
                &gpu.rows,
                &gpu.columns,
                &job,
                &nodes[source],
                &gpu.sample_weights,
                contexts[input].as_ref().expect("the input layer reads the row above"),
                &nodes[IMAGE],
                &nodes[target],
                &pixels,
                &nodes[gpu.network.parameters()],
                &broken,
            ],
        );
        let config = &gpu.network.config;
        let parameters = quads(padded(config.parameters_per_pixel()));
        let draws = (config.mixtures + config.channels) as u32;
        let variant = Variant::sample(parameters, draws, config.nonlinearity);
        let workgroups = variant.workgroups(size as u32, parameters);
        let pipeline = gpu.pipelines.get(&gpu.device, &variant);
        let sample = Work { pipeline, bindings, workgroups };
        Self { size, nodes, broken, biases, pixels, job, row_work, pixel_work, first_column, sample }
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
            batch: self.size as u32,
            columns: config.width as u32,
            forced: u32::from(given.is_some()),
            continuous: u32::from(job.continuous),
        };
        gpu.queue.write_buffer(&self.job, 0, bytemuck::bytes_of(&uniform));
        for (biases, buffer) in gpu.biases.iter().zip(&self.biases) {
            let values: Vec<f32> = match &biases[..] {
                [one] => one.clone(),
                // Images past the job's are drawn with the rest, for nobody.
                each => (0..self.size)
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
                let config = &gpu.network.config;
                untouched = vec![super::UNTOUCHED; config.height * config.width * self.size * 4];
                &untouched[..]
            }
        };
        gpu.queue.write_buffer(&self.pixels, 0, bytemuck::cast_slice(pixels));
        let mut encoder = gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("pixelcnn clear") });
        for node in self.nodes.iter().chain([&self.broken]) {
            encoder.clear_buffer(node, 0, None);
        }
        gpu.queue.submit([encoder.finish()]);
    }

    /// The cache of a node, see [`crate::model::network::Node`].
    pub fn ring(&self, node: usize) -> &wgpu::Buffer {
        &self.nodes[node]
    }

    /// Encodes what a row begins with.
    pub fn encode_row(&self, gpu: &Gpu, pass: &mut wgpu::ComputePass, row: usize) {
        for (layer, work) in gpu.network.layers.iter().zip(&self.row_work) {
            if let Some(work) = work
                && layer.runs_on_row(row)
            {
                work.dispatch(gpu, pass, row, 0);
            }
        }
        self.first_column.dispatch(gpu, pass, row, 0);
    }

    /// Encodes some pixels of a row, up to their values.
    pub fn encode_pixels(
        &self,
        gpu: &Gpu,
        pass: &mut wgpu::ComputePass,
        row: usize,
        columns: std::ops::Range<usize>,
    ) {
        for column in columns {
            for (layer, work) in gpu.network.layers.iter().zip(&self.pixel_work) {
                if let Some(work) = work
                    && layer.runs_on_row(row)
                    && column % layer.run_every == 0
                {
                    work.dispatch(gpu, pass, row, column);
                }
            }
            self.sample.dispatch(gpu, pass, row, column);
        }
    }
}

impl Work {
    fn dispatch(&self, gpu: &Gpu, pass: &mut wgpu::ComputePass, row: usize, column: usize) {
        let places = [row, column].map(|index| gpu.place_stride * index as u32);
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &places);
        pass.dispatch_workgroups(self.workgroups[0], self.workgroups[1], 1);
    }
}

/// What convolutions read and write.
struct Buffers<'a> {
    size: usize,
    nodes: &'a [wgpu::Buffer],
    contexts: &'a [Option<wgpu::Buffer>],
    biases: &'a [wgpu::Buffer],
    broken: &'a wgpu::Buffer,
}

impl Buffers<'_> {
    /// The dispatch of a part of a layer.
    fn conv(&self, gpu: &mut Gpu, l: usize, part: Part) -> Work {
        let (network, layer) = (&gpu.network, &gpu.network.layers[l]);
        let taps = match part {
            Part::Early => &layer.taps[..layer.early],
            Part::Late => &layer.taps[layer.early..],
            Part::All => &layer.taps[..],
        };
        let first_input =
            if part == Part::Late { layer.taps[..layer.early].iter().map(Tap::depth).sum() } else { 0 };
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
                scale: if node.level < layer.grid { 2 } else { 1 },
                unused: [0; 2],
            };
        }
        assert!(sources.len() <= 2, "{}: the shader has two bindings for sources", layer.name);

        let columns = if part == Part::Late { 1 } else { network.config.width >> layer.grid };
        let positions = (columns * self.size) as u32;
        let (outputs, width) = (quads(layer.outputs()), quads(padded(layer.channels)));
        let from_context = part == Part::Late && layer.has_context();
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
                self.broken,
            ],
        );
        let variant = Variant::conv(positions, layer.halves as u32, epilogue, network.config.nonlinearity);
        let workgroups = variant.workgroups(positions, width);
        Work { pipeline: gpu.pipelines.get(&gpu.device, &variant), bindings, workgroups }
    }
}
