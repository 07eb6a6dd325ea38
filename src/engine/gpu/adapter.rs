//! The GPU adapters of this machine, and the rule that chooses between them and the CPU engine.

use std::fmt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use wgpu::{Backends, Instance, InstanceDescriptor};

use super::LARGEST_HELPFUL_BATCH;
use super::dispatch::DeviceFacts;
use super::plan::Plan;
use super::speed::{CPU_RATE, Speed};
use super::support::reason_against;
use crate::engine::Method;
use crate::engine::cost::Predictor;
use crate::graph::Network;
use crate::model::Model;

/// An adapter of this machine: a device by one of the interfaces that reach it.
#[derive(Clone, Debug)]
pub struct Adapter {
    handle: wgpu::Adapter,
    description: Description,
    cache: Option<PathBuf>,
}

impl Adapter {
    /// Its name, kind, backend and driver.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The folder in which compiled kernels are kept, if they are.
    pub(super) fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// Keeps what its driver makes of kernels in a folder, which need not be there, where the driver gives it out.
    pub fn keep_kernels_in(&mut self, folder: &Path) {
        self.cache = Some(folder.to_owned());
    }

    /// As wgpu knows it, for what this program alone asks.
    #[doc(hidden)]
    pub fn handle(&self) -> &wgpu::Adapter {
        &self.handle
    }
}

/// The kind of device that an adapter says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceType {
    /// With memory of its own.
    DiscreteGpu,
    /// Shares the memory of the CPU.
    IntegratedGpu,
    /// A part of a GPU, through a hypervisor.
    VirtualGpu,
    /// A driver in software.
    Cpu,
    /// Unknown.
    Other,
}

impl From<wgpu::DeviceType> for DeviceType {
    fn from(device_type: wgpu::DeviceType) -> Self {
        match device_type {
            wgpu::DeviceType::DiscreteGpu => Self::DiscreteGpu,
            wgpu::DeviceType::IntegratedGpu => Self::IntegratedGpu,
            wgpu::DeviceType::VirtualGpu => Self::VirtualGpu,
            wgpu::DeviceType::Cpu => Self::Cpu,
            wgpu::DeviceType::Other => Self::Other,
        }
    }
}

/// The adapters to look for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// A part of their names, in upper or lower case; any name without it.
    pub name: Option<String>,
    /// True if integrated GPUs are preferred.
    pub saves_power: bool,
    /// True if wgpu follows its own environment variables, such as `WGPU_BACKEND` (which interfaces to look at) and its
    /// flags for debugging.
    pub wgpu_environment: bool,
    /// The folder in which compiled kernels are kept from one run to the next ([`Adapter::keep_kernels_in`]); none without
    /// it.
    pub cache: Option<PathBuf>,
}

impl Search {
    /// Follows wgpu's environment variables. Compiled kernels are kept in the user's cache folder, if there is one.
    pub fn from_environment() -> Self {
        Self {
            name: std::env::var("WGPU_ADAPTER_NAME").ok(),
            saves_power: wgpu::PowerPreference::from_env() == Some(wgpu::PowerPreference::LowPower),
            wgpu_environment: true,
            cache: etcetera::base_strategy::choose_native_strategy()
                .ok()
                .map(|folders| folders.cache_dir().join("pixelcnn")),
        }
    }
}

/// An adapter as it is described before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name of the device.
    pub name: String,
    /// Discrete, integrated, software, …
    pub device_type: DeviceType,
    /// The interface it is reached through: `Vulkan`, `Metal`, `Dx12`.
    pub backend: String,
    /// The driver with its version, if it says.
    pub driver: String,
    /// True if its kind is preferred ([`Search::saves_power`]).
    pub is_preferred: bool,
}

impl Description {
    fn new(info: wgpu::AdapterInfo, saves_power: bool) -> Self {
        let device_type = info.device_type.into();
        Self {
            is_preferred: saves_power && device_type == DeviceType::IntegratedGpu,
            name: info.name,
            device_type,
            backend: format!("{:?}", info.backend),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        }
    }

    /// Its type, for people.
    pub fn type_name(&self) -> &'static str {
        match self.device_type {
            DeviceType::DiscreteGpu => "discrete GPU",
            DeviceType::IntegratedGpu => "integrated GPU",
            DeviceType::VirtualGpu => "virtual GPU",
            DeviceType::Cpu => "software",
            DeviceType::Other => "unknown type",
        }
    }

    /// True if its driver says that it is a hardware GPU.
    pub fn is_hardware(&self) -> bool {
        self.rank() >= 2
    }

    fn reason_for(&self) -> String {
        format!("{} is the best GPU here", self.name)
    }

    fn reason_against(&self) -> String {
        let what = match self.device_type {
            DeviceType::Cpu => "runs in software, far slower than the CPU engine",
            _ => "is of an unknown type",
        };
        format!("no hardware GPU was found; {} {what}", self.name)
    }

    /// Seconds that a GPU of its type is expected to take for some work, from nothing.
    fn seconds(&self, work: &Workload) -> f64 {
        work.seconds_on_gpu(Speed::of(self.device_type))
    }

    /// The higher, the likelier to be fast.
    fn rank(&self) -> u8 {
        match self.device_type {
            _ if self.is_preferred => 5,
            DeviceType::DiscreteGpu => 4,
            DeviceType::IntegratedGpu => 3,
            DeviceType::VirtualGpu => 2,
            DeviceType::Other => 1,
            DeviceType::Cpu => 0,
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.type_name(), self.backend)
    }
}

/// The job for which a GPU or the CPU is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    /// A network that the GPU engine can run.
    pub network: &'a Network,
    /// Images to be drawn.
    pub images: usize,
    /// Threads of the CPU engine.
    pub threads: usize,
}

impl Workload<'_> {
    fn pixels(&self) -> usize {
        self.network.width * self.network.height
    }

    fn seconds_on_cpu(&self) -> f64 {
        let cost = Predictor::of_layers().counts(self.network, Method::Cached, self.images, self.pixels());
        cost.macs as f64 / (CPU_RATE * self.threads as f64)
    }

    fn seconds_on_gpu(&self, speed: Speed) -> f64 {
        // As many batches as the largest that helps takes.
        let batches = self.images.div_ceil(LARGEST_HELPFUL_BATCH).max(1);
        let target = DeviceFacts { speed, buffer: u64::MAX, ..DeviceFacts::SMALLEST };
        let plan = Plan::new(self.network, self.images.div_ceil(batches), target);
        speed.start + batches as f64 * plan.seconds(self.pixels(), speed)
    }
}

/// The reason for which no device was chosen.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A GPU was asked for, and there is none.
    #[error(
        "no GPU adapter was found; a Vulkan, Metal or DirectX 12 driver makes one \
         (on Debian and Ubuntu, mesa-vulkan-drivers)"
    )]
    NoAdapter,
    /// No device goes by that index or name.
    #[error("there is no device \"{wanted}\"; expected auto, cpu{}", or_listed(.found))]
    Unknown {
        /// The device as the caller named it.
        wanted: String,
        /// The adapters of this machine.
        found: Vec<Description>,
    },
}

fn or_listed(found: &[Description]) -> String {
    if found.is_empty() {
        return " (no GPU adapter was found)".to_owned();
    }
    let list = found.iter().enumerate().map(|(i, description)| format!("\n  {i}: {description}"));
    format!(", gpu, or an index or a part of a name of:{}", list.collect::<String>())
}

/// The outcome of [`pick`].
#[derive(Debug, PartialEq, Eq)]
pub struct Pick {
    /// Indices of the adapters to try, in this order; the CPU engine if none.
    pub indices: Vec<usize>,
    /// The reason, in words.
    pub reason: String,
    /// True if a user would expect another choice, so that the reason must be printed.
    pub is_surprise: bool,
    /// True if a hardware GPU is left idle because the CPU engine is expected to be faster.
    pub leaves_gpu: bool,
}

/// The rule: which of the adapters `found` a request means.
///
/// - `auto`: the hardware GPUs, the best first, else the CPU engine; never a software adapter, which is far slower.
///   If it is known what for, the CPU engine where it is expected to be faster.
/// - `cpu`: the CPU engine.
/// - `gpu`: the best adapter, a software one if there is nothing better.
/// - a number: the adapter of that index.
/// - anything else: the best adapter with that in its description, in upper or lower case.
///
/// # Errors
/// Any [`DeviceError`].
pub fn pick(request: &str, found: &[Description], work: Option<&Workload>) -> Result<Pick, DeviceError> {
    let request = request.trim().to_lowercase();
    let described = |words: &str| {
        let is_meant = |i: &usize| found[*i].to_string().to_lowercase().contains(words);
        let mut meant: Vec<usize> = (0..found.len()).filter(is_meant).collect();
        // Of equals the first: drivers list the preferred device first, and so does wgpu its backends.
        meant.sort_by_key(|&i| std::cmp::Reverse(found[i].rank()));
        meant
    };
    let best = described("").first().map(|&i| (i, &found[i]));
    let pick = |indices, reason, is_surprise| Pick { indices, reason, is_surprise, leaves_gpu: false };
    Ok(match request.as_str() {
        "cpu" => pick(vec![], "the CPU engine was asked for".into(), false),
        "auto" => match best {
            Some((_, gpu)) if gpu.is_hardware() => {
                match work.filter(|w| w.seconds_on_cpu() < gpu.seconds(w)) {
                    None => {
                        let mut gpus = described("");
                        gpus.retain(|&i| found[i].is_hardware());
                        pick(gpus, gpu.reason_for(), false)
                    }
                    Some(work) => {
                        let (on_cpu, on_gpu) = (work.seconds_on_cpu(), gpu.seconds(work));
                        let what = "is expected to be faster for so little work";
                        let than = format!("about {on_cpu:.2} s, and {on_gpu:.2} s on {}", gpu.name);
                        Pick { leaves_gpu: true, ..pick(vec![], format!("it {what} ({than})"), true) }
                    }
                }
            }
            Some((_, other)) => pick(vec![], other.reason_against(), false),
            None => pick(vec![], "no GPU adapter was found".into(), false),
        },
        "gpu" => match best.ok_or(DeviceError::NoAdapter)? {
            (i, gpu) if gpu.is_hardware() => pick(vec![i], gpu.reason_for(), false),
            (i, other) => pick(vec![i], other.reason_against(), true),
        },
        words => {
            let is_number = |text: &str| text.trim_start_matches('-').chars().all(|c| c.is_ascii_digit());
            let index = match words.parse::<usize>() {
                Ok(index) => Some(index).filter(|&i| i < found.len()),
                Err(_) if is_number(words) => None,
                Err(_) => described(words).first().copied(),
            };
            let unknown = || DeviceError::Unknown { wanted: request.clone(), found: found.to_vec() };
            pick(vec![index.ok_or_else(unknown)?], "it was asked for".into(), false)
        }
    })
}

/// The indices of all hardware GPUs of `found`; of all adapters if there is none. Of the interfaces that they are reached
/// through, only that of the best, for each shows the same devices.
fn pick_all(found: &[Description]) -> Result<Vec<usize>, DeviceError> {
    let best = pick("gpu", found, None)?.indices[0];
    let is_meant = |adapter: &Description| {
        adapter.backend == found[best].backend && adapter.is_hardware() == found[best].is_hardware()
    };
    Ok((0..found.len()).filter(|&i| is_meant(&found[i])).collect())
}

/// The adapters of all hardware GPUs; software ones if there is none.
///
/// # Errors
/// [`DeviceError::NoAdapter`].
pub fn all_gpus(search: &Search) -> Result<Vec<Adapter>, DeviceError> {
    let adapters = enumerate(search);
    let found: Vec<_> = adapters.iter().map(|adapter| adapter.description.clone()).collect();
    let indices = pick_all(&found)?;
    Ok(indices.into_iter().map(|i| adapters[i].clone()).collect())
}

/// All adapters of this machine that are looked for, in the order of their indices; none where there is no driver.
pub fn enumerate(search: &Search) -> Vec<Adapter> {
    // OpenGL is left out: it shows the same devices once more, with less than we need.
    let mut backends = Backends::PRIMARY;
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    if search.wgpu_environment {
        // An empty variable chooses nothing.
        if std::env::var("WGPU_BACKEND").is_ok_and(|value| !value.trim().is_empty()) {
            backends = backends.with_env();
        }
        descriptor = descriptor.with_env();
    }
    if !Instance::enabled_backend_features().intersects(backends) {
        return Vec::new();
    }
    descriptor.backends = backends;
    // If the driver reports its memory, a buffer that would take the last of it is refused.
    descriptor.memory_budget_thresholds.for_resource_creation = Some(95);
    let found = pollster::block_on(Instance::new(descriptor).enumerate_adapters(backends));
    let describe = |handle: wgpu::Adapter| Adapter {
        description: Description::new(handle.get_info(), search.saves_power),
        handle,
        cache: search.cache.clone(),
    };
    let mut adapters: Vec<_> = found.into_iter().map(describe).collect();
    if let Some(name) = search.name.as_ref().map(|name| name.to_lowercase()) {
        adapters.retain(|adapter| adapter.description.name.to_lowercase().contains(&name));
    }
    adapters
}

/// The adapters that a request means, the first to be tried first, or none for the CPU engine; with the outcome of
/// [`pick`].
///
/// Does not look for adapters where the CPU engine was asked for, which takes time.
///
/// # Errors
/// Any [`DeviceError`].
pub fn choose(
    request: &str,
    work: Option<&Workload>,
    search: &Search,
) -> Result<(Vec<Adapter>, Pick), DeviceError> {
    let adapters = if request.eq_ignore_ascii_case("cpu") { Vec::new() } else { enumerate(search) };
    let found: Vec<_> = adapters.iter().map(|adapter| adapter.description.clone()).collect();
    let pick = pick(request, &found, work)?;
    Ok((pick.indices.iter().map(|&i| adapters[i].clone()).collect(), pick))
}

/// The same for `auto`: drawing `images` images of a model, with `threads` threads on the CPU.
///
/// # Errors
///
/// Any [`DeviceError`].
pub fn choose_for(
    model: &Model,
    images: usize,
    threads: usize,
    search: &Search,
) -> Result<(Vec<Adapter>, Pick), DeviceError> {
    let (width, height) = model.size();
    let network = model.network(width, height).with_sums_apart();
    if let Some(reason) = reason_against(&network) {
        let reason = format!("the GPU engine cannot run this network: {reason}");
        return Ok((
            Vec::new(),
            Pick { indices: Vec::new(), reason, is_surprise: true, leaves_gpu: false },
        ));
    }
    choose("auto", Some(&Workload { network: &network, images, threads }), search)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::pixelcnn_pp;
    use crate::model::Config;

    fn machine(types: &[DeviceType]) -> Vec<Description> {
        let describe = |(i, &device_type): (usize, &DeviceType)| Description {
            name: format!(
                "Model {}{i}",
                if device_type == DeviceType::Cpu { "llvmpipe" } else { "RTX 409" }
            ),
            device_type,
            backend: "Vulkan".to_owned(),
            driver: String::new(),
            is_preferred: false,
        };
        types.iter().enumerate().map(describe).collect()
    }

    #[test]
    fn auto_takes_the_best_hardware_gpu_and_no_other() {
        use DeviceType::*;
        let auto = |types: &[DeviceType]| pick("auto", &machine(types), None).unwrap();
        assert_eq!(auto(&[Cpu, IntegratedGpu, DiscreteGpu, DiscreteGpu]).indices, [2, 3, 1]);
        assert_eq!(auto(&[IntegratedGpu, Cpu]).indices, [0]);
        for types in [&[][..], &[Cpu], &[Other]] {
            let pick = auto(types);
            assert!(pick.indices.is_empty() && !pick.is_surprise, "{types:?}: {pick:?}");
        }
        assert!(auto(&[Cpu]).reason.contains("llvmpipe0"));
    }

    #[test]
    fn gpu_takes_a_software_adapter_if_there_is_nothing_better_and_says_so() {
        use DeviceType::*;
        let gpu = |types: &[DeviceType]| pick("gpu", &machine(types), None);
        let pick = gpu(&[Cpu, VirtualGpu]).unwrap();
        assert!(pick.indices == [1] && !pick.is_surprise);
        let pick = gpu(&[Cpu]).unwrap();
        assert!(pick.indices == [0] && pick.is_surprise);
        assert!(matches!(gpu(&[]), Err(DeviceError::NoAdapter)));
    }

    #[test]
    fn devices_go_by_index_and_by_a_part_of_their_name() {
        use DeviceType::*;
        let found = machine(&[Cpu, DiscreteGpu, IntegratedGpu]);
        let index = |request| pick(request, &found, None).unwrap().indices;
        assert_eq!(index("cpu"), [0; 0]);
        assert_eq!(index("0"), [0]);
        assert_eq!(index("2"), [2]);
        assert_eq!(index("LLVM"), [0]);
        assert_eq!(index("model"), [1]);
        assert_eq!(index(&found[2].to_string()), [2], "what a picture's text says");
        for number in ["3", "4092", "-1", "99999999999999999999"] {
            let refused = pick(number, &found, None);
            assert!(
                matches!(refused, Err(DeviceError::Unknown { .. })),
                "{number} is an index, not a part of a name"
            );
        }
        let message = pick("radeon", &found, None).unwrap_err().to_string();
        assert!(message.contains("\"radeon\"") && message.contains("0: Model llvmpipe0"), "{message}");
        assert!(matches!(pick("gtx", &found, None), Err(DeviceError::Unknown { .. })));
        assert!(matches!(pick("3", &[], None), Err(DeviceError::Unknown { .. })));
    }

    /// Two descriptions of one GPU, by two interfaces, are told apart by what a picture's text says.
    #[test]
    fn one_gpu_twice_can_be_told_apart() {
        let vulkan = machine(&[DeviceType::DiscreteGpu]).remove(0);
        let found = [vulkan.clone(), Description { backend: "Dx12".into(), ..vulkan }];
        for (i, description) in found.iter().enumerate() {
            assert_eq!(pick(&description.to_string(), &found, None).unwrap().indices, [i]);
        }
    }

    #[test]
    fn auto_leaves_little_work_to_the_cpu() {
        let network = |config: &Config| Network::new(&pixelcnn_pp::graph(config), None);
        let digits = network(&Config { channels: 1, width: 28, height: 28, ..Config::published(32, 2) });
        let published = network(&Config::published(160, 5));
        let auto = |device_type, network, images, threads| {
            let work = Workload { network, images, threads };
            pick("auto", &machine(&[device_type]), Some(&work)).unwrap()
        };
        // A few digits, which are drawn before a GPU has started, and many images of the published network.
        let pick = auto(DeviceType::IntegratedGpu, &digits, 16, 8);
        assert!(pick.indices.is_empty() && pick.is_surprise && pick.reason.contains("RTX"), "{pick:?}");
        assert_eq!(auto(DeviceType::DiscreteGpu, &digits, 16, 8).indices, [0; 0]);
        assert_eq!(auto(DeviceType::DiscreteGpu, &digits, 10_000, 4).indices, [0]);
        assert_eq!(auto(DeviceType::DiscreteGpu, &published, 100, 8).indices, [0]);
        assert_eq!(auto(DeviceType::IntegratedGpu, &published, 100, 2).indices, [0]);
        assert_eq!(auto(DeviceType::IntegratedGpu, &published, 100, 32).indices, [0; 0]);
    }
}
