//! Kernels as SPIR-V, in the form that a Vulkan driver gets.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use naga::back::pipeline_constants::process_overrides;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage, front};
use pixelcnn::internals::engine::gpu::shaders::{Kernel, Variant};

/// Parses and validates WGSL; the error says what is wrong.
pub fn validated(source: &str) -> Result<(Module, ModuleInfo), String> {
    let module = front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let capabilities = Capabilities::SUBGROUP
        | Capabilities::MEMORY_DECORATION_COHERENT
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| e.emit_to_string(source))?;
    Ok((module, info))
}

/// A kernel's WGSL, for this many arenas; each is parsed once.
fn kernel(kernel: Kernel, arenas: u32) -> Arc<(Module, ModuleInfo)> {
    type Kernels = HashMap<(Kernel, u32), Arc<(Module, ModuleInfo)>>;
    static READ: LazyLock<Mutex<Kernels>> = LazyLock::new(Mutex::default);
    let read = || {
        let source = kernel.source(arenas);
        Arc::new(validated(&source).unwrap_or_else(|e| panic!("{kernel:?}\n{e}")))
    };
    READ.lock().unwrap().entry((kernel, arenas)).or_insert_with(read).clone()
}

/// A variant's WGSL with its constants.
pub fn resolved(variant: &Variant) -> (Module, ModuleInfo) {
    let read = kernel(variant.kernel, variant.arenas);
    let (module, info) = &*read;
    let constants = variant.overrides().into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let entry = Some((ShaderStage::Compute, "main"));
    let (module, info) = process_overrides(module, info, entry, &constants).unwrap();
    (module.into_owned(), info.into_owned())
}

/// Translates it to SPIR-V as wgpu does, with index checks or without.
pub fn words((module, info): &(Module, ModuleInfo), checked: bool) -> Vec<u32> {
    let policy = if checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    let options = spv::Options {
        lang_version: (1, 5),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies {
            index: policy,
            buffer: policy,
            image_load: policy,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: checked,
        emit_int_div_checks: checked,
        ..spv::Options::default()
    };
    spv::write_vec(module, info, &options, None).unwrap()
}
