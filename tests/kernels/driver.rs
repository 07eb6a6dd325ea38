//! A Vulkan driver's compiler: statistics of a kernel, through `VK_KHR_pipeline_executable_properties`.

use std::collections::BTreeMap;
use std::ffi::CStr;

use ash::vk;
use pixelcnn::internals::engine::gpu::shaders::Variant;

use crate::spirv;

/// A compiler's statistics of a kernel, by the driver's own names.
pub type Statistics = BTreeMap<String, u64>;

/// The first Vulkan device that there is, of which kernels are compiled and never run.
pub struct Driver {
    _entry: ash::Entry,
    instance: ash::Instance,
    device: ash::Device,
    /// Device and version of the driver.
    pub name: String,
}

impl Driver {
    /// Opens the driver; none if there is none.
    pub fn open() -> Option<Self> {
        // SAFETY: Vulkan as its specification wants it: one thread, handles that live until the process ends, and
        // structures that outlive the calls that they are given to.
        unsafe {
            let entry = ash::Entry::load().ok()?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
            let create = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&create, None).ok()?;
            let physical = *instance.enumerate_physical_devices().ok()?.first()?;
            let mut properties = vk::PhysicalDeviceDriverProperties::default();
            let mut all = vk::PhysicalDeviceProperties2::default().push_next(&mut properties);
            instance.get_physical_device_properties2(physical, &mut all);
            let name = all.properties.device_name_as_c_str().ok()?.to_string_lossy().into_owned();
            let version = properties.driver_info_as_c_str().ok()?.to_string_lossy().into_owned();
            let mut statistics = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                .pipeline_executable_info(true);
            let queue = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let extensions = [ash::khr::pipeline_executable_properties::NAME.as_ptr()];
            // As wgpu opens it.
            let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
            let create = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queue)
                .enabled_extension_names(&extensions)
                .enabled_features(&features)
                .push_next(&mut statistics);
            let device = instance.create_device(physical, &create, None).ok()?;
            Some(Self { _entry: entry, instance, device, name: format!("{name}, {version}") })
        }
    }

    /// Compiles a variant. Returns its statistics and its assembly, empty if the driver keeps that to itself.
    pub fn compile(&self, variant: &Variant) -> (Statistics, String) {
        let words = spirv::words(&spirv::resolved(variant), false);
        // SAFETY: as above; the words are a valid module, whose bindings are those of the layout.
        unsafe {
            let module = vk::ShaderModuleCreateInfo::default().code(&words);
            let module = self.device.create_shader_module(&module, None).unwrap();
            // Bindings of all kernels, and the tables that some bind after them.
            let bindings: Vec<_> = (0..9 + variant.arenas)
                .map(|binding| {
                    let kind = match binding {
                        0 | 1 => vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC,
                        2 => vk::DescriptorType::UNIFORM_BUFFER,
                        _ => vk::DescriptorType::STORAGE_BUFFER,
                    };
                    vk::DescriptorSetLayoutBinding::default()
                        .binding(binding)
                        .descriptor_type(kind)
                        .descriptor_count(1)
                        .stage_flags(vk::ShaderStageFlags::COMPUTE)
                })
                .collect();
            let sets = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [self.device.create_descriptor_set_layout(&sets, None).unwrap()];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = self.device.create_pipeline_layout(&layout, None).unwrap();
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let create = vk::ComputePipelineCreateInfo::default()
                .flags(
                    vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                        | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
                )
                .stage(stage)
                .layout(layout);
            let pipelines =
                self.device.create_compute_pipelines(vk::PipelineCache::null(), &[create], None);
            let pipeline = pipelines.map_err(|(_, error)| error).unwrap()[0];
            let properties =
                ash::khr::pipeline_executable_properties::Device::new(&self.instance, &self.device);
            let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
            let statistics = properties.get_pipeline_executable_statistics(&executable).unwrap();
            let numbers = statistics.iter().map(|statistic| {
                let name = CStr::from_ptr(statistic.name.as_ptr()).to_string_lossy().into_owned();
                let value = match statistic.format {
                    vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => statistic.value.f64 as u64,
                    _ => statistic.value.u64,
                };
                (name, value)
            });
            let numbers = numbers.collect();
            let mut texts =
                properties.get_pipeline_executable_internal_representations(&executable).unwrap();
            let mut bytes: Vec<_> = texts.iter().map(|text| vec![0_u8; text.data_size]).collect();
            for (text, bytes) in texts.iter_mut().zip(&mut bytes) {
                text.p_data = bytes.as_mut_ptr().cast();
            }
            let mut count = texts.len() as u32;
            (properties.fp().get_pipeline_executable_internal_representations_khr)(
                self.device.handle(),
                &raw const executable,
                &raw mut count,
                texts.as_mut_ptr(),
            )
            .result()
            .unwrap();
            let is_code = |text: &vk::PipelineExecutableInternalRepresentationKHR| {
                text.name_as_c_str() == Ok(c"Assembly")
            };
            let code =
                texts.iter().position(is_code).map(|i| CStr::from_bytes_until_nul(&bytes[i]).unwrap());
            (numbers, code.unwrap_or_default().to_string_lossy().into_owned())
        }
    }
}
