//! A plan on a device: its buffers, and its dispatches ready to be encoded.

use bytemuck::Zeroable;

use super::device::{BufferPart, OpenDevice};
use super::dispatch::{Dispatch, Operation};
use super::graph_layout::{self, Lists, activation_words};
use super::layout::{JobUniform, LayerUniform, RingUniform, TapUniform, TargetUniform, bind};
use super::memory::Memory;
use super::plan::{ByDispatch, Id, Plan, Step, offset};
use super::shaders::{Family, MAX_TAPS, MIDDLE, Team};
use super::support::{family, output, phi, pixel_input};
use super::units::{QUAD, Region, depth, half_width, outputs, quads};
use super::weights::Weights;
use super::{EngineError, Gpu, Request};
use crate::engine::work::Terms;
use crate::graph::network::{CHANNEL_ALIGN, Layer, padded};
use crate::graph::{IMAGE, Network};
use crate::head::HeadKind;

/// The value of a pixel before it is drawn; no level.
const UNTOUCHED: f32 = -512.0;

/// A dispatch, the same at every step.
struct BoundDispatch {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    workgroups: [u32; 2],
}

/// Persistent buffers and dispatches for batches of a size.
pub struct Batch {
    /// Its dispatches and the layout of its buffers.
    pub plan: Plan,
    arenas: Vec<wgpu::Buffer>,
    /// For each image its class, and its index, which its noise depends on.
    lanes: wgpu::Buffer,
    /// `Health` in `shaders/shared/arena.wgsl`.
    health: wgpu::Buffer,
    job: wgpu::Buffer,
    /// The parts of a graph's layers, which are `lists` in WGSL; a PixelCNN++ has none.
    lists: Option<(Lists, wgpu::Buffer)>,
    /// The plan's dispatches, those that have been asked for.
    works: ByDispatch<Option<BoundDispatch>>,
}

impl Batch {
    /// Makes the buffers of a plan, or nothing if there is not enough memory for them.
    ///
    /// # Errors
    /// What the device reports.
    pub fn new(
        device: &OpenDevice,
        network: &Network,
        weights: &Weights,
        plan: Plan,
    ) -> Result<Option<Self>, EngineError> {
        use wgpu::BufferUsages as Usages;
        let lists = match family(network) {
            Family::PixelCnnPp => None,
            Family::Graph => {
                let lists = Lists::new(network, &plan.memory, plan.batch, weights);
                let words = bytemuck::cast_slice(&lists.words);
                let buffer = device.filled("lists", words, Usages::STORAGE)?;
                Some((lists, buffer))
            }
        };
        device.if_there_is_memory(|| {
            let storage = Usages::STORAGE | Usages::COPY_DST | Usages::COPY_SRC;
            let arena = |&quads: &usize| device.buffer("arena", QUAD * quads as u64, storage);
            let health = QUAD * health_quads(plan.batch) as u64;
            let job = size_of::<JobUniform>().max(size_of::<graph_layout::JobUniform>()) as u64;
            Self {
                arenas: plan.memory.arenas.iter().map(arena).collect(),
                lanes: device.buffer("lanes", QUAD * plan.batch as u64, storage),
                health: device.buffer("health", health, storage),
                job: device.buffer("job", job, Usages::UNIFORM | Usages::COPY_DST),
                works: ByDispatch::new(&plan),
                lists,
                plan,
            }
        })
    }

    /// Images.
    pub fn size(&self) -> usize {
        self.plan.batch
    }

    /// Makes the pipelines and bindings that a job needs.
    ///
    /// # Errors
    /// What the device reports.
    pub fn make_ready(&mut self, gpu: &Gpu, request: &Request) -> Result<(), EngineError> {
        let for_known_rows = self.plan.has_known_rows(request);
        let is_missing = |id: Id, dispatch: &Dispatch| {
            let is_needed = match dispatch.operation {
                Operation::Conv { whole_row: false, .. } => !self.plan.is_in_chain(dispatch),
                Operation::Conv { terms: Terms::Late, .. } | Operation::ShowRow => for_known_rows,
                Operation::Conv { .. } | Operation::Chain { .. } => true,
                Operation::Sample | Operation::Draw { .. } => !self.plan.has_chain() || for_known_rows,
                Operation::Likelihood => request.want().likelihood,
            };
            is_needed && self.works[id].is_none()
        };
        let missing = self.plan.all().filter(|(id, dispatch)| is_missing(*id, dispatch));
        let missing: Vec<_> = missing.collect();
        let variants = missing.iter().map(|(_, dispatch)| &dispatch.variant);
        gpu.pipelines.borrow_mut().compile(&gpu.device.handle, variants);
        gpu.device.check()?;
        let works = missing.into_iter().map(|(id, dispatch)| Ok((id, self.work(gpu, dispatch)?)));
        for (id, work) in works.collect::<Result<Vec<_>, EngineError>>()? {
            self.works[id] = Some(work);
        }
        gpu.device.check()
    }

    fn work(&self, gpu: &Gpu, dispatch: &Dispatch) -> Result<BoundDispatch, EngineError> {
        let pipelines = gpu.pipelines.borrow();
        let (layout, pipeline) = pipelines.get(&dispatch.variant);
        let filled = |contents: &[u8], usage| gpu.device.filled("layers", contents, usage);
        let lists = self.lists.as_ref().map(|(_, buffer)| buffer);
        let (own, layers);
        let (uniform, weights, layers) = match dispatch.operation {
            Operation::Conv { layer, .. } => {
                own = filled(&self.layer_bytes(gpu, dispatch, 0, None), wgpu::BufferUsages::UNIFORM)?;
                (&own, &gpu.weights.matrices[layer], None)
            }
            Operation::Sample | Operation::Draw { .. } | Operation::ShowRow => {
                (&self.job, &gpu.weights.of_sampling, None)
            }
            Operation::Likelihood => (&self.job, &gpu.weights.anchors, None),
            Operation::Chain { team } => {
                let (weights, starts) =
                    gpu.weights.of_chain.as_ref().expect("made where there may be a chain");
                let uniforms = self.plan.chained().flat_map(|part| match part.operation {
                    Operation::Conv { layer, .. } => self.layer_bytes(gpu, part, starts[layer], Some(team)),
                    _ => unreachable!("a chain is of layers"),
                });
                layers = filled(&uniforms.collect::<Vec<_>>(), wgpu::BufferUsages::STORAGE)?;
                (&self.job, weights, Some(&layers))
            }
        };
        let Weights { rows, columns, additions, .. } = &gpu.weights;
        let mut buffers = vec![rows, columns, uniform, weights, additions, &self.lanes, &self.health];
        buffers.extend(self.arenas.iter().chain(layers).chain(lists));
        let label = format!("pixelcnn {:?}", dispatch.operation);
        let bindings = bind(&gpu.device.handle, layout, &label, &buffers);
        Ok(BoundDispatch { pipeline: pipeline.clone(), bindings, workgroups: dispatch.workgroups })
    }

    fn target(&self, gpu: &Gpu, node: usize) -> TargetUniform {
        let addition = gpu.weights.of_nodes[node];
        TargetUniform::new(&gpu.network.nodes[node], phi(&gpu.network), self.ring(gpu, node, 0), addition)
    }

    /// A node, from some quads into its records on.
    fn ring(&self, gpu: &Gpu, node: usize, offset: u32) -> RingUniform {
        RingUniform::new(&gpu.network.nodes[node], self.plan.memory.nodes[node], self.size(), offset)
    }

    fn context(&self, layer: usize) -> [u32; 2] {
        let region = self.plan.memory.contexts[layer].unwrap_or_default();
        [region.arena as u32, region.start as u32]
    }

    /// The ring of what is added to a layer's result; its target's, if nothing is.
    fn residual(&self, gpu: &Gpu, layer: &Layer) -> RingUniform {
        match layer.residual {
            Some((node, form)) => self.ring(gpu, node, offset(&gpu.network, node, form)),
            None => self.ring(gpu, layer.target, 0),
        }
    }

    /// A dispatch's layer as its kernel knows it; its matrix begins `start` quads into the weights. `team` is
    /// that of a chain.
    fn layer_bytes(&self, gpu: &Gpu, dispatch: &Dispatch, start: usize, team: Option<Team>) -> Vec<u8> {
        match &self.lists {
            None => bytemuck::bytes_of(&self.layer_uniform(gpu, dispatch, start, team)).to_vec(),
            Some((lists, _)) => {
                bytemuck::bytes_of(&self.graph_layer(gpu, lists, dispatch, start, team)).to_vec()
            }
        }
    }

    /// A layer of a graph.
    fn graph_layer(
        &self,
        gpu: &Gpu,
        lists: &Lists,
        dispatch: &Dispatch,
        start: usize,
        team: Option<Team>,
    ) -> graph_layout::LayerUniform {
        let Operation::Conv { layer: l, terms, whole_row, epilogue, .. } = dispatch.operation else {
            unreachable!("only convolutions are layers")
        };
        let (network, layer, when) = (&gpu.network, &gpu.network.layers[l], dispatch.when);
        let columns = if whole_row { network.width >> layer.grid } else { 1 };
        let [context_arena, context_base] = self.context(l);
        let width = outputs(layer);
        let [columns_of_chain, splits_of_chain] = team.map_or([0; 2], |team| team.shares(width));
        let early = if terms == Terms::Late { depth(&layer.taps[..layer.early]) } else { 0 };
        let gate = layer.gate.map(|gate| gate.map(activation_words));
        let [(gate_f, slope_f), (gate_g, slope_g)] = gate.unwrap_or([(graph_layout::NONE, 0.0); 2]);
        let mut uniform = graph_layout::LayerUniform {
            target_node: lists.target(network, layer, self.ring(gpu, layer.target, 0)),
            residual: self.residual(gpu, layer),
            tap_count: terms.taps(layer).len() as u32,
            weights: start as u32 + CHANNEL_ALIGN as u32 * early * width,
            width: half_width(layer),
            positions: (columns * self.size()) as u32,
            batch: self.size() as u32,
            grid: layer.grid as u32,
            level: layer.level as u32,
            context_arena,
            context_base,
            context_of_column: self.size() as u32 * width,
            context_of_image: width,
            halves: layer.halves as u32,
            epilogue: epilogue.number(),
            has_context: terms.begins_with_context(layer).into(),
            has_residual: layer.residual.is_some().into(),
            gate_f,
            gate_g,
            slope_f,
            slope_g,
            first_column: layer.column_parity.unwrap_or(0) as u32,
            row_bits: when.run_every as u32 - 1,
            row_like: when.first_row as u32,
            lag: when.lag as i32,
            late: when.late as i32,
            column_bits: when.run_every as u32 - 1,
            columns: columns_of_chain,
            splits: splits_of_chain,
            ..graph_layout::LayerUniform::zeroed()
        };
        lists.fill(l, layer.early, terms, &mut uniform);
        uniform
    }

    /// A layer of a PixelCNN++.
    fn layer_uniform(
        &self,
        gpu: &Gpu,
        dispatch: &Dispatch,
        start: usize,
        team: Option<Team>,
    ) -> LayerUniform {
        let Operation::Conv { layer: l, terms, whole_row, epilogue, .. } = dispatch.operation else {
            unreachable!("only convolutions are layers")
        };
        let (network, layer) = (&gpu.network, &gpu.network.layers[l]);
        let mut taps = [TapUniform::zeroed(); MAX_TAPS];
        for (uniform, tap) in taps.iter_mut().zip(terms.taps(layer)) {
            let source = self.ring(gpu, tap.source, offset(network, tap.source, tap.form));
            *uniform = TapUniform::new(tap, source);
        }
        let columns = if whole_row { network.width >> layer.grid } else { 1 };
        let [context_arena, context_base] = self.context(l);
        let outputs = outputs(layer);
        let [columns_of_chain, splits_of_chain] = team.map_or([0; 2], |team| team.shares(outputs));
        LayerUniform {
            taps,
            target_node: self.target(gpu, layer.target),
            residual: self.residual(gpu, layer),
            addition: gpu.weights.of_layers[l][0],
            tap_count: terms.taps(layer).len() as u32,
            weights: start as u32 + terms.first_input(layer) as u32 * outputs,
            width: quads(padded(layer.channels)),
            positions: (columns * self.size()) as u32,
            batch: self.size() as u32,
            grid: layer.grid as u32,
            level: layer.level as u32,
            context_arena,
            context_base,
            context_of_column: self.size() as u32 * outputs,
            context_of_image: outputs,
            halves: layer.halves as u32,
            epilogue: epilogue.number(),
            has_context: terms.begins_with_context(layer).into(),
            row_bits: dispatch.when.run_every as u32 - 1,
            row_like: dispatch.when.first_row as u32,
            // Past the first column, a pixel has run the input layer for its next.
            column_bits: if self.plan.is_input(dispatch) {
                u32::MAX
            } else {
                dispatch.when.run_every as u32 - 1
            },
            columns: columns_of_chain,
            splits: splits_of_chain,
            unused: 0,
        }
    }

    /// The job of a request, for the kernels of a PixelCNN++.
    fn job(&self, gpu: &Gpu, request: &Request) -> JobUniform {
        let (network, shape) = (&gpu.network, request.shape());
        let HeadKind::LogisticMixture { mixtures } = shape.head.kind() else {
            unreachable!("it is a PixelCNN++")
        };
        let (channels, draw) = (shape.head.channels(), request.draw());
        let tap = &output(network).taps[0];
        let (input, input_layer) = pixel_input(network);
        let pixels = self.plan.memory.pixels;
        let [context_arena, context_base] = self.context(input);
        JobUniform {
            source: self.ring(gpu, tap.source, offset(network, tap.source, tap.form)),
            image: self.ring(gpu, IMAGE, 0),
            parameters: self.ring(gpu, network.head_node, 0),
            target_node: self.target(gpu, input_layer.target),
            addition: gpu.weights.of_layers[network.layers.len() - 1][0],
            seed: [request.seed() as u32, (request.seed() >> 32) as u32],
            temperature: draw.temperature,
            truncation: draw.truncation,
            mixtures: mixtures as u32,
            channels: channels as u32,
            batch: self.size() as u32,
            columns: shape.width as u32,
            continuous: u32::from(draw.continuous),
            pixels_arena: pixels.arena as u32,
            pixels_base: pixels.start as u32,
            wanted: request.pixels() as u32,
            context_arena,
            context_base,
            layers: self.plan.chained().count() as u32,
            span: self.plan.span as u32,
            reach: draw.reach(),
            changing: gpu.weights.changing,
            unused_0: 0,
            unused_1: 0,
        }
    }

    /// The same for the kernels of any graph.
    fn graph_job(&self, gpu: &Gpu, lists: &Lists, request: &Request) -> graph_layout::JobUniform {
        let (network, shape, draw) = (&gpu.network, request.shape(), request.draw());
        let head = shape.head;
        let mixtures = match head.kind() {
            HeadKind::LogisticMixture { mixtures } => mixtures,
            HeadKind::Softmax | HeadKind::Bernoulli => 0,
        };
        let pixels = self.plan.memory.pixels;
        let mut ends = [0; 4];
        for (step, end) in ends.iter_mut().enumerate() {
            *end = self.plan.chained().filter(|dispatch| dispatch.when.step <= step).count() as u32;
        }
        let (first_encoding, encodings) = lists.encodings;
        graph_layout::JobUniform {
            image: self.ring(gpu, IMAGE, 0),
            parameters: self.ring(gpu, network.head_node, 0),
            seed: [request.seed() as u32, (request.seed() >> 32) as u32],
            temperature: draw.temperature,
            truncation: draw.truncation,
            reach: draw.reach(),
            top_k: draw.top_k as u32,
            levels: head.levels() as u32,
            channels: head.channels() as u32,
            of_step: head.channels_of(0).len() as u32,
            mixtures: mixtures as u32,
            batch: self.size() as u32,
            columns: shape.width as u32,
            rows: shape.height as u32,
            continuous: u32::from(draw.continuous),
            pixels_arena: pixels.arena as u32,
            pixels_base: pixels.start as u32,
            middle: middle(network),
            wanted: request.pixels() as u32,
            first_encoding,
            encodings,
            ends,
            steps: head.steps() as u32,
            span: self.plan.span as u32,
            unused_0: 0,
            unused_1: 0,
        }
    }

    /// Clears the caches and sets what the next batch is to be.
    ///
    /// # Errors
    /// What the device reports.
    pub fn begin(&self, gpu: &Gpu, request: &Request) -> Result<(), EngineError> {
        let shape = request.shape();
        let (channels, middle) = (shape.head.channels(), middle(&gpu.network));
        let Memory { pixels, of_pixel, .. } = self.plan.memory;
        match &self.lists {
            None => gpu.device.write(&self.job, 0, bytemuck::bytes_of(&self.job(gpu, request)))?,
            Some((lists, _)) => {
                let job = self.graph_job(gpu, lists, request);
                gpu.device.write(&self.job, 0, bytemuck::bytes_of(&job))?;
            }
        }
        // Padding lanes: computed with the rest, and discarded.
        let mut lanes = vec![[0u32; 4]; self.size()];
        // Levels, and whether they are given: in the last number, or the first after four channels.
        let of_pixel = 4 * of_pixel;
        let flag = if of_pixel > 4 { 4 } else { 3 };
        let mut canvas = vec![UNTOUCHED; 4 * pixels.length];
        canvas.chunks_mut(of_pixel).for_each(|pixel| pixel[flag..].fill(0.0));
        for (image, lane) in request.lanes().iter().enumerate() {
            let class = lane.class.unwrap_or(0) as u32;
            lanes[image] = [class, lane.index as u32, (lane.index >> 32) as u32, 0];
            for pixel in 0..shape.pixels() {
                if let Some(given) = lane.canvas.pixel(pixel, channels) {
                    let to = &mut canvas[(pixel * self.size() + image) * of_pixel..][..of_pixel];
                    to.iter_mut().zip(given).for_each(|(to, level)| *to = f32::from(*level) - middle);
                    to[flag] = 1.0;
                }
            }
        }
        gpu.device.write(&self.lanes, 0, bytemuck::cast_slice(&lanes))?;
        let at = QUAD * pixels.start as u64;
        gpu.device.write(&self.arenas[pixels.arena], at, bytemuck::cast_slice(&canvas))?;
        let mut encoder = gpu.device.encoder("pixelcnn begin");
        encoder.clear_buffer(&self.health, 0, None);
        gpu.device.queue.submit([encoder.finish()]);
        self.restart(gpu);
        Ok(())
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
    pub fn encode(&self, pass: &mut wgpu::ComputePass, stride: u32, (id, row, column): Step) {
        let work = self.works[id].as_ref().expect("it was made ready");
        pass.set_pipeline(&work.pipeline);
        pass.set_bind_group(0, &work.bindings, &[row, column].map(|index| stride * index as u32));
        pass.dispatch_workgroups(work.workgroups[0], work.workgroups[1], 1);
    }

    /// A region, to be fetched.
    pub fn part(&self, region: Region) -> BufferPart<'_> {
        BufferPart { buffer: &self.arenas[region.arena], start: region.start, quads: region.length }
    }

    /// The number of dispatches run since [`Self::begin`], then one 32-bit number for each image: other than 0 if the
    /// image has had a value that is not finite.
    pub fn health(&self) -> BufferPart<'_> {
        BufferPart { buffer: &self.health, start: 0, quads: health_quads(self.size()) }
    }

    /// Changes how many workgroups a dispatch has, if it has been asked for, and tells how many it had.
    #[cfg(test)]
    pub fn set_workgroups(&mut self, id: Id, workgroups: [u32; 2]) -> Option<[u32; 2]> {
        self.works[id].as_mut().map(|work| std::mem::replace(&mut work.workgroups, workgroups))
    }
}

/// The offset that kernels subtract from levels.
pub fn middle(network: &Network) -> f32 {
    match network.head.kind() {
        HeadKind::LogisticMixture { .. } => MIDDLE,
        HeadKind::Softmax | HeadKind::Bernoulli => 0.0,
    }
}

/// A count of dispatches, and a flag an image.
fn health_quads(batch: usize) -> usize {
    (1 + batch).div_ceil(4)
}
