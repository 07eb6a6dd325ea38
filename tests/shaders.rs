//! Every kernel variant is valid WGSL and can be translated for the other shading languages.

use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{ShaderStage, back, front};
use pixelcnn::engine::gpu::choice::{SHAPES, SHAPES_IN_SOFTWARE, Speed};
use pixelcnn::engine::gpu::shaders::{Epilogue, Kernel, Reduction, Variant};
use pixelcnn::model::{Nonlinearity, Precision};

const REDUCTIONS: [Reduction; 4] =
    [Reduction::Memory, Reduction::Subgroup(4), Reduction::Subgroup(32), Reduction::Subgroup(128)];

fn variants() -> Vec<Variant> {
    let mut variants = Vec::new();
    for nonlinearity in [Nonlinearity::ConcatElu, Nonlinearity::Elu, Nonlinearity::Relu] {
        for shape in SHAPES.into_iter().chain(SHAPES_IN_SOFTWARE) {
            for halves in [1, 2] {
                for (epilogue, whole_row, from_context) in [
                    (Epilogue::Context, true, false),
                    (Epilogue::Forms, true, true),
                    (Epilogue::Forms, false, false),
                    (Epilogue::Gate, true, false),
                    (Epilogue::Gate, false, true),
                ] {
                    for precision in [Precision::F32, Precision::F16] {
                        for reduction in REDUCTIONS {
                            let variant =
                                Variant::conv(shape, halves, epilogue, nonlinearity, precision, reduction);
                            variants.push(variant.reading(whole_row, from_context));
                        }
                    }
                }
            }
        }
        variants.push(Variant::sample(25, 13, nonlinearity));
        for speed in [Speed::DISCRETE, Speed::SOFTWARE] {
            let teams = [1, 200, 1000].map(|batch| speed.team(batch));
            variants.extend(teams.map(|team| Variant::chain(team, 25, 13, nonlinearity)));
        }
    }
    variants.extend([Kernel::ShowRow, Kernel::Likelihood].map(Variant::of_row));
    let in_several =
        |arenas| variants.iter().step_by(7).cloned().map(move |variant| variant.in_arenas(arenas));
    [1, 2, 4].map(in_several).into_iter().flatten().chain(variants.clone()).collect()
}

/// The older of the compilers for DirectX 12 rejects a component of a vector that is stored by an index which is
/// known only when the shader runs.
fn stores_a_component_by_index(module: &naga::Module) -> bool {
    use naga::{Expression, Statement, TypeInner};
    let mut found = false;
    let functions = module.functions.iter().map(|(_, function)| function);
    for function in functions.chain(module.entry_points.iter().map(|entry| &entry.function)) {
        let is_vector = |handle| {
            let pointed = match &function.expressions[handle] {
                Expression::LocalVariable(local) => Some(function.local_variables[*local].ty),
                Expression::GlobalVariable(global) => Some(module.global_variables[*global].ty),
                _ => None,
            };
            pointed.is_some_and(|ty| matches!(module.types[ty].inner, TypeInner::Vector { .. }))
        };
        let mut blocks = vec![&function.body];
        while let Some(block) = blocks.pop() {
            for statement in block {
                match statement {
                    Statement::Store { pointer, .. } => {
                        if let Expression::Access { base, .. } = function.expressions[*pointer] {
                            found |= is_vector(base);
                        }
                    }
                    Statement::Block(block) => blocks.push(block),
                    Statement::If { accept, reject, .. } => blocks.extend([accept, reject]),
                    Statement::Switch { cases, .. } => blocks.extend(cases.iter().map(|case| &case.body)),
                    Statement::Loop { body, continuing, .. } => blocks.extend([body, continuing]),
                    _ => {}
                }
            }
        }
    }
    found
}

#[test]
fn no_component_is_stored_by_index() {
    let mut kernels: Vec<_> = variants().iter().map(|variant| (variant.kernel, variant.arenas)).collect();
    kernels.dedup();
    for (kernel, arenas) in kernels {
        let module = front::wgsl::parse_str(&kernel.source(arenas)).unwrap();
        assert!(!stores_a_component_by_index(&module), "{kernel:?}");
    }
    let source = Kernel::Sample.source(1).replace("pixel.y = ", "pixel[job.channels - 2u] = ");
    assert!(stores_a_component_by_index(&front::wgsl::parse_str(&source).unwrap()));
}

fn validate(variant: &Variant) -> Result<(naga::Module, naga::valid::ModuleInfo), String> {
    let source = variant.kernel.source(variant.arenas);
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
        let (module, info) = validate(&variant).unwrap_or_else(|e| panic!("{variant:?}\n{e}"));
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
        Kernel::Split(Precision::F32, Reduction::Memory).source(1).replace("/ layers[0].batch", "/ 1.5");
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
