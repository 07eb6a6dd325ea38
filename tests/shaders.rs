//! Every kernel variant is valid WGSL and can be translated for the other shading languages.

use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{ShaderStage, back, front};
use pixelcnn::engine::gpu::shaders::{Epilogue, Kernel, Reduction, Variant};
use pixelcnn::model::{Nonlinearity, Precision};

const REDUCTIONS: [Reduction; 4] =
    [Reduction::Memory, Reduction::Subgroup(4), Reduction::Subgroup(32), Reduction::Subgroup(128)];

fn variants() -> Vec<Variant> {
    let mut variants = Vec::new();
    for nonlinearity in [Nonlinearity::ConcatElu, Nonlinearity::Elu, Nonlinearity::Relu] {
        for positions in [1, 3, 4, 31, 32, 1000] {
            for halves in [1, 2] {
                for epilogue in [Epilogue::Context, Epilogue::Forms, Epilogue::Gate] {
                    for precision in [Precision::F32, Precision::F16] {
                        for reduction in REDUCTIONS {
                            variants.push(Variant::conv(
                                positions,
                                halves,
                                epilogue,
                                nonlinearity,
                                precision,
                                reduction,
                            ));
                        }
                    }
                }
            }
        }
        variants.push(Variant::sample(25, 13, nonlinearity));
    }
    variants
}

fn validate(kernel: Kernel) -> Result<(naga::Module, naga::valid::ModuleInfo), String> {
    let source = kernel.source();
    let module = front::wgsl::parse_str(&source).map_err(|e| e.emit_to_string(&source))?;
    let info = Validator::new(
        ValidationFlags::all(),
        Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
    )
    .validate(&module)
    .map_err(|e| e.emit_to_string(&source))?;
    Ok((module, info))
}

#[test]
fn all_variants_translate_to_spirv_msl_and_hlsl() {
    for variant in variants() {
        let (module, info) = validate(variant.kernel).unwrap_or_else(|e| panic!("{variant:?}\n{e}"));
        let constants = variant.overrides().into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let entry = Some((ShaderStage::Compute, "main"));
        let (module, info) = process_overrides(&module, &info, entry, &constants).unwrap();
        let (module, info) = (module.as_ref(), info.as_ref());

        back::spv::write_vec(module, info, &back::spv::Options::default(), None).unwrap();
        let msl = back::msl::Options { fake_missing_bindings: true, ..Default::default() };
        back::msl::write_string(module, info, &msl, &back::msl::PipelineOptions::default()).unwrap();
        let (mut hlsl, options) = (String::new(), back::hlsl::Options::default());
        let pipeline = back::hlsl::PipelineOptions::default();
        back::hlsl::Writer::new(&mut hlsl, &options, &pipeline).write(module, info, None).unwrap();
    }
}

#[test]
fn a_mistake_in_a_shader_would_be_seen() {
    let source =
        Kernel::Split(Precision::F32, Reduction::Memory).source().replace("% layer.batch", "% 1.5");
    let module = front::wgsl::parse_str(&source).map_err(|e| e.to_string());
    let valid = |module: &naga::Module| {
        Validator::new(
            ValidationFlags::all(),
            Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
        )
        .validate(module)
        .is_ok()
    };
    assert!(!module.is_ok_and(|module| valid(&module)));
}
