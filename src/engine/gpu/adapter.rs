//! Which device runs: the GPU adapters of this machine, and the rule that chooses between them and the
//! CPU engine.

use std::fmt;

use wgpu::{Backends, DeviceType, Instance, InstanceDescriptor};

/// What is known of an adapter before it is opened.
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
}

impl Description {
    /// Describes an adapter.
    pub fn new(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        Self {
            name: info.name,
            device_type: info.device_type,
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

    /// Whether it is a hardware GPU, as far as its driver says.
    pub fn is_hardware(&self) -> bool {
        self.rank() >= 2
    }

    fn praise(&self) -> String {
        format!("{} is the best GPU here", self.name)
    }

    fn excuse(&self) -> String {
        let what = match self.device_type {
            DeviceType::Cpu => "runs in software, far slower than the CPU engine",
            _ => "is of an unknown type",
        };
        format!("no hardware GPU was found; {} {what}", self.name)
    }

    /// The higher, the likelier to be fast.
    fn rank(&self) -> u8 {
        match self.device_type {
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

/// Why no device was chosen.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A GPU was asked for, and there is none.
    #[error(
        "no GPU adapter was found; a Vulkan, Metal or DirectX 12 driver makes one \
         (on Debian and Ubuntu, mesa-vulkan-drivers), and --device cpu needs none"
    )]
    NoAdapter,
    /// No device goes by that index or name.
    #[error("there is no device \"{wanted}\"; expected auto, cpu, gpu{}", or_listed(.found))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: Vec<Description>,
    },
}

fn or_listed(found: &[Description]) -> String {
    if found.is_empty() {
        return " (no GPU adapter was found)".to_owned();
    }
    let list = found.iter().enumerate().map(|(i, description)| format!("\n  {i}: {description}"));
    format!(", or an index or a part of a name of:{}", list.collect::<String>())
}

/// The outcome of [`pick`].
#[derive(Debug, PartialEq, Eq)]
pub struct Pick {
    /// Index of the adapter; the CPU engine if none.
    pub index: Option<usize>,
    /// Why, in words.
    pub reason: String,
    /// Whether it is other than what one would expect, so that the reason must be said.
    pub is_surprise: bool,
}

/// The rule: which of the adapters `found` a request means.
///
/// - `auto`: the best hardware GPU, else the CPU engine; never a software adapter, which is far slower.
/// - `cpu`: the CPU engine.
/// - `gpu`: the best adapter, a software one if there is nothing better.
/// - a number: the adapter of that index.
/// - anything else: the best adapter with that in its name, in upper or lower case.
///
/// # Errors
/// Any [`DeviceError`].
pub fn pick(request: &str, found: &[Description]) -> Result<Pick, DeviceError> {
    let best = |name: &str| {
        let named = found.iter().enumerate().filter(|(_, d)| d.name.to_lowercase().contains(name));
        // Of equals the first: drivers list the preferred device first, and so does wgpu its backends.
        named.rev().max_by_key(|(_, d)| d.rank())
    };
    let request = request.to_lowercase();
    let (index, reason, is_surprise) = match request.as_str() {
        "cpu" => (None, "the CPU engine was asked for".to_owned(), false),
        "auto" => match best("") {
            Some((i, adapter)) if adapter.is_hardware() => (Some(i), adapter.praise(), false),
            Some((_, adapter)) => (None, adapter.excuse(), true),
            None => (None, "no GPU adapter was found".to_owned(), true),
        },
        "gpu" => match best("").ok_or(DeviceError::NoAdapter)? {
            (i, adapter) if adapter.is_hardware() => (Some(i), adapter.praise(), false),
            (i, adapter) => (Some(i), adapter.excuse(), true),
        },
        other => {
            let by_index = other.parse().ok().filter(|i| *i < found.len());
            let by_name = || best(other).map(|(i, _)| i).filter(|_| !other.is_empty());
            let index = by_index.or_else(by_name);
            let unknown = || DeviceError::Unknown { wanted: request.clone(), found: found.to_vec() };
            (Some(index.ok_or_else(unknown)?), "it was asked for".to_owned(), false)
        }
    };
    Ok(Pick { index, reason, is_surprise })
}

/// All adapters of this machine, in the order of their indices; none where there is no driver.
pub fn enumerate() -> Vec<wgpu::Adapter> {
    // OpenGL is left out: it shows the same devices once more, with less than we need.
    let backends = Backends::PRIMARY;
    if !Instance::enabled_backend_features().intersects(backends) {
        return Vec::new();
    }
    let instance =
        Instance::new(InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() });
    pollster::block_on(instance.enumerate_adapters(backends))
}

/// The adapter that a request means, or none for the CPU engine, with the outcome of [`pick`].
///
/// Does not look for adapters where the CPU engine was asked for, which takes time.
///
/// # Errors
/// Any [`DeviceError`].
pub fn choose(request: &str) -> Result<(Option<wgpu::Adapter>, Pick), DeviceError> {
    let mut adapters = if request.eq_ignore_ascii_case("cpu") { Vec::new() } else { enumerate() };
    let found: Vec<_> = adapters.iter().map(Description::new).collect();
    let pick = pick(request, &found)?;
    Ok((pick.index.map(|i| adapters.swap_remove(i)), pick))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(types: &[DeviceType]) -> Vec<Description> {
        let describe = |(i, &device_type): (usize, &DeviceType)| Description {
            name: format!(
                "Model {}{i}",
                if device_type == DeviceType::Cpu { "llvmpipe" } else { "RTX 409" }
            ),
            device_type,
            backend: "Vulkan".to_owned(),
            driver: String::new(),
        };
        types.iter().enumerate().map(describe).collect()
    }

    #[test]
    fn auto_takes_the_best_hardware_gpu_and_no_other() {
        use DeviceType::*;
        let auto = |types: &[DeviceType]| pick("auto", &machine(types)).unwrap();
        assert_eq!(auto(&[Cpu, IntegratedGpu, DiscreteGpu, DiscreteGpu]).index, Some(2));
        assert_eq!(auto(&[IntegratedGpu, Cpu]).index, Some(0));
        for types in [&[][..], &[Cpu], &[Other]] {
            let pick = auto(types);
            assert!(pick.index.is_none() && pick.is_surprise, "{types:?}: {pick:?}");
        }
        assert!(auto(&[Cpu]).reason.contains("llvmpipe0"));
    }

    #[test]
    fn gpu_takes_a_software_adapter_if_there_is_nothing_better_and_says_so() {
        use DeviceType::*;
        let gpu = |types: &[DeviceType]| pick("gpu", &machine(types));
        let pick = gpu(&[Cpu, VirtualGpu]).unwrap();
        assert!(pick.index == Some(1) && !pick.is_surprise);
        let pick = gpu(&[Cpu]).unwrap();
        assert!(pick.index == Some(0) && pick.is_surprise);
        assert!(matches!(gpu(&[]), Err(DeviceError::NoAdapter)));
    }

    #[test]
    fn devices_go_by_index_and_by_a_part_of_their_name() {
        use DeviceType::*;
        let found = machine(&[Cpu, DiscreteGpu, IntegratedGpu]);
        let index = |request| pick(request, &found).unwrap().index;
        assert_eq!(index("cpu"), None);
        assert_eq!(index("0"), Some(0));
        assert_eq!(index("2"), Some(2));
        assert_eq!(index("LLVM"), Some(0));
        assert_eq!(index("model"), Some(1));
        assert_eq!(index("4092"), Some(2), "a number beyond the list can be a part of a name");
        let message = pick("radeon", &found).unwrap_err().to_string();
        assert!(message.contains("\"radeon\"") && message.contains("0: Model llvmpipe0"), "{message}");
        assert!(matches!(pick("", &found), Err(DeviceError::Unknown { .. })));
        assert!(matches!(pick("3", &[]), Err(DeviceError::Unknown { .. })));
    }
}
