//! A plan on a device: its buffers, and its dispatches ready to be encoded.

use bytemuck::Zeroable;

use super::device::Device;
use super::layout::{JobUniform, LayerUniform, RingUniform, TapUniform, TargetUniform, bind, quads};
use super::plan::{Operation, Plan, QUAD, Region, horizontal_input, offset, output, residual_offset};
use super::weights::Weights;
use super::{EngineError, Gpu, Job};
use crate::engine::plan::Part;
use crate::model::network::{IMAGE, MAX_TAPS, padded};

/// What pixels are before they are drawn; no value in [−1, 1].
const UNTOUCHED: f32 = 4.0;

/// A dispatch, the same at every step.
struct Work {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    workgroups: [u32; 2],
}

/// Persistent buffers and dispatches for batches of a size.
pub struct Batch {
    /// What is dispatched, and where everything lies.
    pub plan: Plan,
    arenas: Vec<wgpu::Buffer>,
    /// For each image its class, and its index, which its noise depends on.
    lanes: wgpu::Buffer,
    /// For each image, whether a value of it was not finite.
    broken: wgpu::Buffer,
    job: wgpu::Buffer,
    /// The plan's dispatches by number; those that have been asked for.
    works: Vec<Option<Work>>,
}

impl Batch {
    /// Makes the buffers of a plan, or nothing if there is not enough memory for them.
    ///
    /// # Errors
    /// What the device reports.
    pub fn new(device: &Device, plan: Plan) -> Result<Option<Self>, EngineError> {
        use wgpu::BufferUsages as Usages;
        device.if_there_is_memory(|| {
            let storage = Usages::STORAGE | Usages::COPY_DST | Usages::COPY_SRC;
            let arena = |&quads: &usize| device.buffer("arena", QUAD * quads as u64, storage);
            let of_images = |label| device.buffer(label, QUAD * plan.batch as u64, storage);
            let job = size_of::<JobUniform>() as u64;
            Self {
                arenas: plan.memory.arenas.iter().map(arena).collect(),
                lanes: of_images("lanes"),
                broken: of_images("broken"),
                job: device.buffer("job", job, Usages::UNIFORM | Usages::COPY_DST),
                works: plan.all().map(|_| None).collect(),
                plan,
            }
        })
    }

    /// Images.
    pub fn size(&self) -> usize {
        self.plan.batch
    }

    /// Makes pipelines and bindings: those for drawing, and those for rows of known pixels too if they are needed.
    ///
    /// # Errors
    /// What the device reports.
    pub fn make_ready(&mut self, gpu: &Gpu, for_known_rows: bool) -> Result<(), EngineError> {
        for (number, dispatch) in self.plan.all() {
            let is_needed = match dispatch.operation {
                Operation::Conv { part, whole_row, .. } => {
                    !(whole_row && part == Part::Late) || for_known_rows
                }
                Operation::Sample => true,
                Operation::ShowRow => for_known_rows,
            };
            if is_needed && self.works[number].is_none() {
                let work = self.work(gpu, number);
                self.works[number] = Some(work);
            }
        }
        gpu.device.check()
    }

    fn work(&self, gpu: &Gpu, number: usize) -> Work {
        let (_, dispatch) = self.plan.all().nth(number).expect("numbers are the plan's");
        let mut arenas: Vec<_> = self.arenas.iter().collect();
        let (layout, pipeline) = gpu.pipeline(&dispatch.variant);
        let uniform;
        let (uniform, weights) = match dispatch.operation {
            Operation::Conv { layer, part, whole_row } => {
                let contents = self.layer_uniform(gpu, layer, part, whole_row);
                let bytes = bytemuck::bytes_of(&contents);
                uniform = gpu.device.filled("layer", bytes, wgpu::BufferUsages::UNIFORM);
                (&uniform, &gpu.weights.matrices[layer])
            }
            Operation::Sample | Operation::ShowRow => (&self.job, &gpu.weights.of_sampling),
        };
        let Weights { rows, columns, additions, .. } = &gpu.weights;
        let mut buffers = vec![rows, columns, uniform, weights, additions, &self.lanes, &self.broken];
        buffers.append(&mut arenas);
        let label = format!("pixelcnn {:?}", dispatch.operation);
        let bindings = bind(&gpu.device.handle, &layout, &label, &buffers);
        Work { pipeline, bindings, workgroups: dispatch.workgroups }
    }

    fn target(&self, gpu: &Gpu, node: usize) -> TargetUniform {
        let addition = gpu.weights.of_nodes[node];
        TargetUniform::new(&gpu.network.nodes[node], self.plan.memory.nodes[node], addition)
    }

    fn ring(&self, gpu: &Gpu, node: usize) -> RingUniform {
        RingUniform::new(&gpu.network.nodes[node], self.plan.memory.nodes[node])
    }

    fn context(&self, layer: usize) -> [u32; 2] {
        let region = self.plan.memory.contexts[layer].unwrap_or_default();
        [region.arena as u32, region.start as u32]
    }

    fn layer_uniform(&self, gpu: &Gpu, l: usize, part: Part, whole_row: bool) -> LayerUniform {
        let (network, layer) = (&gpu.network, &gpu.network.layers[l]);
        let mut taps = [TapUniform::zeroed(); MAX_TAPS];
        for (uniform, tap) in taps.iter_mut().zip(part.taps(layer)) {
            *uniform = TapUniform {
                source: self.ring(gpu, tap.source),
                row: tap.row as i32,
                column: tap.column as i32,
                offset: offset(network, tap.source, tap.form),
                depth: quads(tap.depth()),
                scale: layer.scale(&network.nodes[tap.source]) as i32,
                unused: [0; 3],
            };
        }
        let columns = if whole_row { network.config.width >> layer.grid } else { 1 };
        LayerUniform {
            taps,
            target: self.target(gpu, layer.target),
            residual: self.ring(gpu, layer.residual.map_or(layer.target, |(node, _)| node)),
            addition: gpu.weights.of_layers[l],
            tap_count: part.taps(layer).len() as u32,
            first_input: part.first_input(layer) as u32,
            width: quads(padded(layer.channels)),
            positions: (columns * self.size()) as u32,
            batch: self.size() as u32,
            grid: layer.grid as u32,
            level: layer.level as u32,
            residual_offset: residual_offset(network, layer),
            context: self.context(l),
            unused: [0; 2],
        }
    }

    /// Clears the caches and sets what the next batch is to be.
    pub fn begin(&self, gpu: &Gpu, job: &Job) {
        let (network, config) = (&gpu.network, &gpu.network.config);
        let tap = &output(network).taps[0];
        let (input, input_layer) = horizontal_input(network);
        let pixels = self.plan.memory.pixels;
        let uniform = JobUniform {
            source: self.ring(gpu, tap.source),
            image: self.ring(gpu, IMAGE),
            parameters: self.ring(gpu, network.parameters()),
            target: self.target(gpu, input_layer.target),
            addition: gpu.weights.of_layers[network.layers.len() - 1],
            seed: [job.seed as u32, (job.seed >> 32) as u32],
            temperature: job.draw.temperature,
            truncation: job.draw.truncation,
            source_offset: offset(network, tap.source, tap.form),
            mixtures: config.mixtures as u32,
            channels: config.channels as u32,
            batch: self.size() as u32,
            columns: config.width as u32,
            continuous: u32::from(job.draw.continuous),
            pixels: [pixels.arena as u32, pixels.start as u32],
            context: self.context(input),
            unused: [0; 2],
        };
        let queue = &gpu.device.queue;
        queue.write_buffer(&self.job, 0, bytemuck::bytes_of(&uniform));
        // Images past the job's are drawn with the rest, for nobody.
        let mut lanes = vec![[0u32; 4]; self.size()];
        let mut canvas = vec![[UNTOUCHED, UNTOUCHED, UNTOUCHED, 0.0]; pixels.length];
        for (image, lane) in job.lanes.iter().enumerate() {
            let class = lane.class.unwrap_or(0) as u32;
            lanes[image] = [class, lane.index as u32, (lane.index >> 32) as u32, 0];
            for pixel in 0..config.width * config.height {
                if let Some(given) = lane.canvas.pixel(pixel, config.channels) {
                    let to = &mut canvas[pixel * self.size() + image];
                    to[..given.len()].copy_from_slice(given);
                    to[3] = 1.0;
                }
            }
        }
        queue.write_buffer(&self.lanes, 0, bytemuck::cast_slice(&lanes));
        let at = QUAD * pixels.start as u64;
        queue.write_buffer(&self.arenas[pixels.arena], at, bytemuck::cast_slice(&canvas));
        let mut encoder = gpu.device.encoder("pixelcnn begin");
        encoder.clear_buffer(&self.broken, 0, None);
        queue.submit([encoder.finish()]);
        self.restart(gpu);
    }

    /// Clears all caches, to compute the same images from their first row.
    pub fn restart(&self, gpu: &Gpu) {
        let mut encoder = gpu.device.encoder("pixelcnn clear");
        for (arena, &quads) in self.arenas.iter().zip(&self.plan.memory.cleared) {
            if quads > 0 {
                encoder.clear_buffer(arena, 0, Some(QUAD * quads as u64));
            }
        }
        gpu.device.queue.submit([encoder.finish()]);
    }

    /// Encodes a dispatch of the plan at a row and a column.
    pub fn encode(
        &self,
        pass: &mut wgpu::ComputePass,
        stride: u32,
        (number, row, column): (usize, usize, usize),
    ) {
        let work = self.works[number].as_ref().expect("it was made ready");
        pass.set_pipeline(&work.pipeline);
        pass.set_bind_group(0, &work.bindings, &[row, column].map(|index| stride * index as u32));
        pass.dispatch_workgroups(work.workgroups[0], work.workgroups[1], 1);
    }

    /// The numbers of a region.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn read(&self, device: &Device, region: Region) -> Result<Vec<f32>, EngineError> {
        device.read(&self.arenas[region.arena], region.start, region.length)
    }

    /// Which images have had a value that is not finite.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn broken(&self, device: &Device) -> Result<Vec<bool>, EngineError> {
        let flags: Vec<u32> = device.read(&self.broken, 0, self.size().div_ceil(4))?;
        Ok(flags.iter().take(self.size()).map(|&flag| flag != 0).collect())
    }
}
