//! The GPU engine: persistent buffers, and a fixed list of dispatches a step.
//!
//! Pixels never leave the device while a batch is drawn: sampling is a kernel, and the host only encodes
//! the next row while one runs.

pub mod adapter;
mod batch;
pub mod choice;
mod device;
pub mod dispatch;
#[cfg(test)]
mod faults;
mod graph_layout;
mod layout;
mod memory;
mod pipeline_cache;
mod pipelines;
pub mod plan;
mod planner;
pub mod profile;
mod run;
pub mod shaders;
pub mod speed;
pub mod support;
mod turns;
mod units;
mod weights;

use std::cell::RefCell;
use std::collections::HashSet;

use super::cost::Predictor;
use super::{Counts, Engine, EngineError, Outcome, Request, Room, Shape, largest, mebibytes};
use crate::graph::Network;
use crate::model::Model;
use adapter::Adapter;
use batch::Batch;
use device::OpenDevice;
use dispatch::DeviceFacts;
use pipeline_cache::PipelineCache;
use pipelines::Pipelines;
use plan::Plan;
use run::{Pace, Run};
use speed::Speed;
use weights::Weights;

/// Above this many images, larger batches no longer help.
pub const LARGEST_HELPFUL_BATCH: usize = 256;

/// Variants of the shaders, for tests and measurements.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Shaders check every index.
    pub checked: bool,
    /// Sums go through subgroup operations first, where the adapter has subgroups of one size.
    pub subgroups: bool,
    /// The size of the largest buffer in bytes, although the device has larger ones.
    pub buffer: Option<u64>,
    /// The number of workgroups that the device is taken to run at once.
    pub workgroups: Option<u32>,
    /// Workgroups have images to themselves, where that is possible, or never.
    pub chain: Option<bool>,
    /// True if invocations hand values to each other through coherent buffers. By default they do where the device has
    /// such buffers; a device without them runs no chain.
    pub coherent: Option<bool>,
}

/// A word that [`Options`] do not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "\"{0}\" is no option of the shaders; expected a comma list of checked, subgroups, chain, no-chain, coherent, \
     no-coherent, workgroups=N (N from 1)"
)]
pub struct UnknownOption(String);

impl Options {
    /// From words with commas between them: `checked`, `subgroups`, `chain`, `no-chain`, `coherent`, `no-coherent`,
    /// `workgroups=128`. Of two words that exclude each other, the later counts.
    ///
    /// # Errors
    /// [`UnknownOption`] for the first other word.
    pub fn from_words(words: &str) -> Result<Self, UnknownOption> {
        let mut options = Self::default();
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "checked" => options.checked = true,
                "subgroups" => options.subgroups = true,
                "chain" => options.chain = Some(true),
                "no-chain" => options.chain = Some(false),
                "coherent" => options.coherent = Some(true),
                "no-coherent" => options.coherent = Some(false),
                _ => {
                    let number = word.strip_prefix("workgroups=").and_then(|number| number.parse().ok());
                    let workgroups = number.filter(|&workgroups| workgroups > 0);
                    options.workgroups = Some(workgroups.ok_or_else(|| UnknownOption(word.to_owned()))?);
                }
            }
        }
        Ok(options)
    }
}

/// A network on a GPU.
pub struct GpuEngine {
    shape: Shape,
    gpu: Gpu,
    batch: Option<Batch>,
    pace: Pace,
    counts: Counts,
}

/// A device with what does not depend on the batch.
struct Gpu {
    network: Network,
    device: OpenDevice,
    weights: Weights,
    target: DeviceFacts,
    pipelines: RefCell<Pipelines>,
}

impl GpuEngine {
    /// A model for images of `width` by `height` pixels, on an adapter.
    ///
    /// # Errors
    /// [`EngineError::Device`] if the adapter gives no device that can hold the model.
    pub fn new(model: &Model, width: usize, height: usize, adapter: &Adapter) -> Result<Self, EngineError> {
        Self::with_options(model, width, height, adapter, Options::default())
    }

    /// As [`Self::new`], with options.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_options(
        model: &Model,
        width: usize,
        height: usize,
        adapter: &Adapter,
        options: Options,
    ) -> Result<Self, EngineError> {
        let network = model.network(width, height).with_sums_apart();
        if let Some(reason) = support::reason_against(&network) {
            return Err(EngineError::NotOnGpu(reason));
        }
        let device = OpenDevice::open(adapter, options)?;
        let limits = device.handle.limits();
        let buffer = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let target = DeviceFacts {
            buffer: options.buffer.map_or(buffer, |bytes| bytes.min(buffer)),
            arenas: limits.max_storage_buffers_per_shader_stage as usize - units::OTHER_BUFFERS,
            workgroups: limits.max_compute_workgroups_per_dimension,
            reduction: device.reduction,
            precision: model.precision,
            speed: options.workgroups.map_or(device.speed, |n| Speed { workgroups: n, ..Speed::DISCRETE }),
            // Barriers alone are not relied on, unless that is asked for.
            turns: device.turns,
            chain: match device.has_coherence() || options.coherent == Some(false) {
                true => options.chain,
                false => Some(false),
            },
            coherent: device.has_coherence() && options.coherent != Some(false),
        };
        let weights = Weights::new(&device, model, &network, target)?;
        let folder = adapter.cache();
        let info = adapter.handle().get_info();
        let cache = folder.and_then(|folder| PipelineCache::open(&device.handle, &info, folder));
        let pipelines = RefCell::new(Pipelines::new(options.checked, cache));
        let gpu = Gpu { network, device, weights, target, pipelines };
        gpu.device.check()?;
        Ok(Self {
            shape: model.shape(width, height),
            gpu,
            batch: None,
            pace: Pace::default(),
            counts: Counts::default(),
        })
    }

    fn plan(&self, batch: usize) -> Plan {
        Plan::new(&self.gpu.network, batch, self.gpu.target)
    }

    /// The largest batch up to `most` that the device's limits allow.
    fn largest(&self, most: usize) -> usize {
        largest(most, |batch| batch == 0 || self.plan(batch).fits(self.gpu.target))
    }

    /// Sizes of batches, up to `most`, that between them run every kernel that a batch of any size up to `most` runs on this
    /// device: each the smallest that runs some of them.
    pub fn batches_of_all_kernels(&self, most: usize) -> Vec<usize> {
        let mut seen = HashSet::new();
        let has_new = |&batch: &usize| {
            let plan = self.plan(batch);
            let new = plan.shipped().filter(|dispatch| seen.insert(dispatch.variant.clone())).count();
            new > 0
        };
        (1..=self.largest(most)).filter(has_new).collect()
    }

    /// Buffers for a plan, or for the largest batch of a half, a quarter, … that there is memory for.
    ///
    /// # Errors
    /// Whatever the device reports.
    fn allocate(&self, mut plan: Plan) -> Result<Option<Batch>, EngineError> {
        loop {
            let size = plan.batch;
            if let Some(batch) = Batch::new(&self.gpu.device, &self.gpu.network, &self.gpu.weights, plan)? {
                return Ok(Some(batch));
            }
            if size < 2 {
                return Ok(None);
            }
            plan = self.plan(size / 2);
        }
    }

    fn too_large(&self, batch: usize, limit: String, largest: usize) -> EngineError {
        let needed = mebibytes(self.plan(batch).memory.bytes());
        EngineError::BatchTooLarge { batch, needed, limit, largest: Some(largest) }
    }
}

impl Engine for GpuEngine {
    fn name(&self) -> String {
        format!("GPU ({})", self.gpu.device.name)
    }

    fn prepare(&mut self, room: Room) -> Result<usize, EngineError> {
        let wanted = match room {
            Room::For(batch) => batch,
            Room::UpTo(most) => self.largest(most.min(LARGEST_HELPFUL_BATCH)).max(1),
        };
        // All images of a larger one would be computed, wanted or not.
        if self.batch.as_ref().is_some_and(|batch| batch.size() == wanted) {
            return Ok(wanted);
        }
        self.batch = None;
        self.pace = Pace::default();
        let plan = self.plan(wanted);
        if !plan.fits(self.gpu.target) {
            let largest = self.largest(wanted - 1);
            let DeviceFacts { buffer, arenas, workgroups, .. } = self.gpu.target;
            let (name, buffer) = (&self.gpu.device.name, mebibytes(buffer));
            let limit = format!("{name} allows {arenas} buffers of {buffer} and {workgroups} workgroups");
            return Err(self.too_large(wanted, limit, largest));
        }
        let limit = || format!("{} has less memory free", self.gpu.device.name);
        let Some(mut batch) = self.allocate(plan)? else {
            return Err(self.too_large(wanted, limit(), 0));
        };
        let size = batch.size();
        if size < wanted && room == Room::For(wanted) {
            drop(batch);
            return Err(self.too_large(wanted, limit(), size));
        }
        let usual = Request::new(self.shape, 0, Vec::new()).expect("it has no lanes");
        batch.make_ready(&self.gpu, &usual)?;
        self.batch = Some(batch);
        Ok(size)
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn run(&mut self, request: &Request, watch: &mut dyn FnMut(usize)) -> Result<Outcome, EngineError> {
        request.check(&self.shape)?;
        let lanes = request.lanes().len();
        if lanes == 0 {
            return Ok(Outcome::default());
        }
        if self.batch.as_ref().is_none_or(|batch| batch.size() < lanes) {
            self.prepare(Room::For(lanes))?;
        }
        let Self { gpu, batch, pace, counts, .. } = self;
        let batch = batch.as_mut().expect("prepared before");
        batch.make_ready(gpu, request)?;
        Run::new(gpu, batch, request, counts, pace)?.run(watch)
    }

    fn predictor(&self) -> Predictor {
        Plan::predictor(self.gpu.target)
    }

    fn counts(&self) -> Counts {
        self.counts
    }

    fn bytes(&self) -> u64 {
        self.gpu.weights.bytes() + self.batch.as_ref().map_or(0, |batch| batch.plan.memory.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::shaders::Kernel;
    use super::*;
    use crate::engine::Method;
    use crate::model::Config;

    /// As tests elsewhere choose it (`tests/common`).
    pub(super) fn test_adapter() -> Adapter {
        let device = std::env::var("PIXELCNN_TEST_ADAPTER").unwrap_or("gpu".to_owned());
        let search = adapter::Search { wgpu_environment: true, ..Default::default() };
        adapter::choose(&device, None, &search).unwrap().0.remove(0)
    }

    #[test]
    fn options_are_words_and_other_words_are_errors() {
        let options = Options::from_words(" checked,workgroups=3 ,no-coherent,chain").unwrap();
        assert!(options.checked && !options.subgroups);
        let Options { workgroups, chain, coherent, .. } = options;
        assert_eq!((workgroups, chain, coherent), (Some(3), Some(true), Some(false)));
        assert!(Options::from_words("").unwrap().coherent.is_none());
        for word in ["coherrent", "workgroups", "workgroups=", "workgroups=0", "workgroups=-1"] {
            let error = Options::from_words(&format!("checked,{word}")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("\"{word}\" is no option")), "{error}");
        }
    }

    /// A row that takes several submissions gives what one of a single one does.
    #[test]
    #[ignore = "needs a Vulkan adapter"]
    fn split_rows_are_the_same() {
        let adapter = test_adapter();
        let model = Model::synthetic(Config { width: 8, height: 4, ..Config::published(8, 1) }, 3);
        let mut engine = GpuEngine::new(&model, 8, 4, &adapter).unwrap();
        for method in [Method::Cached, Method::Naive] {
            let images = [(0, None), (1, None)];
            let request = Request::sample(engine.shape(), 0, images).unwrap().by(method).first(4);
            engine.prepare(Room::For(2)).unwrap();
            let [whole, split] = [1e15, 1.0].map(|macs_per_second| {
                let before = engine.counts;
                engine.pace = Pace { macs_per_second };
                let images = engine.run(&request, &mut |_| {}).unwrap().levels;
                (images, engine.counts.submissions - before.submissions)
            });
            assert_eq!(whole.0, split.0, "{method:?}");
            assert!(split.1 > whole.1, "{method:?}: {} submissions, and split {}", whole.1, split.1);
        }
    }

    /// Kernels that were kept by an earlier engine, or that were damaged since, draw what new ones do.
    #[test]
    #[ignore = "needs a Vulkan adapter"]
    fn kernels_are_kept_from_one_engine_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let model = Model::synthetic(Config { width: 8, height: 4, ..Config::published(8, 1) }, 3);
        let draw = |adapter: &Adapter| {
            let mut engine = GpuEngine::new(&model, 8, 4, adapter).unwrap();
            let request = Request::sample(engine.shape(), 0, (0..2).map(|i| (i, None))).unwrap();
            engine.run(&request, &mut |_| {}).unwrap().levels
        };
        let mut adapter = test_adapter();
        let expected = draw(&adapter);
        adapter.keep_kernels_in(folder.path());
        let files = || {
            let entries = std::fs::read_dir(folder.path()).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        assert!(draw(&adapter) == expected);
        if !adapter.handle().features().contains(wgpu::Features::PIPELINE_CACHE) {
            assert!(files().is_empty());
            return;
        }
        let [file] = &files()[..] else { panic!("{:?}", files()) };
        let kept = std::fs::read(file).unwrap();
        assert!(draw(&adapter) == expected);
        std::fs::write(file, &kept[..kept.len() - 1]).unwrap();
        assert!(draw(&adapter) == expected);
        assert_eq!(files().len(), 1);
        assert_ne!(std::fs::read(file).unwrap().len(), kept.len() - 1, "it is written anew");
    }

    /// Loading a model takes little of the memory that host and device share, and leaves none of it taken.
    #[test]
    #[ignore = "needs a Vulkan adapter"]
    fn little_is_staged_at_once() {
        let model = Model::synthetic(Config::published(160, 1), 3);
        let engine = GpuEngine::new(&model, 32, 32, &test_adapter()).unwrap();
        let (device, most) = (&engine.gpu.device, 32 << 20);
        let bytes = engine.bytes();
        assert!(bytes > most, "{bytes} bytes of weights do not show it");
        assert!((1 << 20..=most).contains(&device.most_staged()), "{} bytes", device.most_staged());
        let Some(report) = device.handle.generate_allocator_report() else { return };
        assert!(
            report.total_allocated_bytes < bytes + most,
            "{} bytes are taken for {bytes} of weights",
            report.total_allocated_bytes
        );
    }

    /// A chain over a whole row takes more turns here than some drivers allow: it does a part of the row at once. A
    /// chain that takes too many turns is an error.
    #[test]
    #[ignore = "needs a Vulkan adapter"]
    fn rows_that_take_many_turns_are_drawn() {
        let model = Model::shipped("mnist").unwrap().unwrap();
        let request = Request::sample(model.shape(216, 8), 0, [(0, Some(3))]).unwrap();
        let options = Options { chain: Some(true), ..Options::default() };
        let mut engine = GpuEngine::with_options(&model, 216, 8, &test_adapter(), options).unwrap();
        let limit = engine.gpu.target.turns;
        let mut draw = |turns| {
            engine.gpu.target.turns = turns;
            engine.batch = None;
            let before = engine.counts.dispatches;
            let outcome = engine.run(&request, &mut |_| {});
            (outcome.map(|outcome| outcome.levels), engine.counts.dispatches - before)
        };
        let [(levels, dispatches), (in_parts, more)] = [limit, 10_000].map(&mut draw);
        assert!(
            levels.unwrap() == in_parts.unwrap() && more > dispatches,
            "{dispatches} dispatches, and {more}"
        );
        if limit < u64::MAX {
            let error = draw(u64::MAX).0.unwrap_err().to_string();
            assert!(error.contains("have run to their end"), "{error}");
        }
    }

    /// Nodes and contexts in several buffers give what those in one do.
    #[test]
    #[ignore = "needs a Vulkan adapter"]
    fn several_arenas_are_the_same() {
        let adapter = test_adapter();
        let model = Model::synthetic(Config { width: 8, height: 4, ..Config::published(8, 1) }, 3);
        let draw = |buffer| {
            let options = Options { buffer, ..Options::default() };
            let mut engine = GpuEngine::with_options(&model, 8, 4, &adapter, options).unwrap();
            let request = Request::sample(engine.shape(), 0, (0..5).map(|i| (i, None))).unwrap();
            let images = engine.run(&request, &mut |_| {}).unwrap().levels;
            (images, engine.batch.unwrap().plan.memory.arenas.len())
        };
        let (expected, one) = draw(None);
        let needed = Plan::new(&model.network(8, 4), 5, DeviceFacts::SMALLEST).memory.bytes();
        let (images, several) = draw(Some(needed / 3 + 4096));
        assert_eq!((one, several > 1), (1, true), "{several} arenas");
        assert_eq!(images, expected);
    }

    /// Batches of a few sizes run all kernels that any batch runs, and none of them is idle.
    #[test]
    #[ignore = "needs a Vulkan adapter"]
    fn a_few_batches_run_all_kernels() {
        let model = Model::synthetic(Config { width: 8, height: 8, ..Config::published(12, 1) }, 3);
        for (workgroups, chain) in [(None, None), (Some(128), Some(false)), (Some(128), Some(true))] {
            let options = Options { workgroups, chain, buffer: Some(1 << 22), ..Options::default() };
            let engine = GpuEngine::with_options(&model, 8, 8, &test_adapter(), options).unwrap();
            let kernels = |batch| {
                engine
                    .plan(batch)
                    .shipped()
                    .map(|dispatch| dispatch.variant.clone())
                    .collect::<HashSet<_>>()
            };
            let batches = engine.batches_of_all_kernels(300);
            let most = engine.largest(300);
            assert!(batches.len() > 1 && batches[0] == 1, "{batches:?}");
            let run: HashSet<_> = batches.iter().copied().flat_map(kernels).collect();
            assert!((1..=most).all(|batch| kernels(batch).is_subset(&run)), "{batches:?}");
            for (i, &batch) in batches.iter().enumerate() {
                let before: HashSet<_> = batches[..i].iter().copied().flat_map(kernels).collect();
                assert!(!kernels(batch).is_subset(&before), "{batch} of {batches:?}");
            }
            if workgroups.is_some() {
                assert!(run.iter().any(|variant| variant.arenas > 1), "several arenas");
                let has = |kernel: fn(&Kernel) -> bool| run.iter().any(|variant| kernel(&variant.kernel));
                assert!(has(|kernel| matches!(kernel, Kernel::Tiled(..))));
                assert_eq!(has(|kernel| matches!(kernel, Kernel::Chain { .. })), chain == Some(true));
            }
        }
    }

    /// The whole need counts, not the largest buffer.
    #[test]
    #[ignore = "needs a Vulkan adapter"]
    fn what_does_not_fit_into_all_buffers_is_refused() {
        let adapter = test_adapter();
        let model = Model::synthetic(Config { width: 8, height: 4, ..Config::published(8, 1) }, 3);
        let needed = Plan::new(&model.network(8, 4), 1, DeviceFacts::SMALLEST).memory.bytes();
        let options = Options { buffer: Some(2 * needed), ..Options::default() };
        let mut engine = GpuEngine::with_options(&model, 8, 4, &adapter, options).unwrap();
        let most = 2 * engine.gpu.target.arenas;
        let refused = engine.prepare(Room::For(most + 1));
        let Err(EngineError::BatchTooLarge { largest: Some(largest), .. }) = refused else {
            panic!("{refused:?}")
        };
        assert!(most / 2 < largest && largest <= most, "{largest} of {most}");
        assert_eq!(engine.prepare(Room::UpTo(most + 1)).unwrap(), largest);
    }
}
