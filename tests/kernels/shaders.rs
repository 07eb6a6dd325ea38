//! Every kernel variant is valid WGSL and can be translated for the other shading languages.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use crate::spirv;
use naga::{back, front};
use pixelcnn::internals::engine::gpu::choice::{SHAPES, SHAPES_IN_SOFTWARE};
use pixelcnn::internals::engine::gpu::dispatch::DeviceFacts;
use pixelcnn::internals::engine::gpu::plan::Plan;
use pixelcnn::internals::engine::gpu::shaders::{
    DrawnFrom, Epilogue, Family, Kernel, ROWS, Reduction, Shape, Variant,
};
use pixelcnn::internals::engine::gpu::speed::Speed;
use pixelcnn::internals::graph::{Activation, Network, pixelcnn_pp};
use pixelcnn::internals::model::{Config, Precision};

const REDUCTIONS: [Reduction; 4] =
    [Reduction::Memory, Reduction::Subgroup(4), Reduction::Subgroup(32), Reduction::Subgroup(128)];

/// Quads of parameters and of logits, and draws, of a pixel of three channels with ten components.
const DRAWN: [u32; 3] = [25, 3, 13];

fn variants() -> Vec<Variant> {
    let nonlinearities = [Activation::ConcatElu, Activation::Elu, Activation::Relu];
    // Each combination of the others with one of them in turn: every pair is there, in a third of the time.
    let mut in_turn = nonlinearities.into_iter().cycle();
    let mut variants = Vec::new();
    for shape in SHAPES.into_iter().chain(SHAPES_IN_SOFTWARE) {
        for halves in [1, 2] {
            for (epilogue, whole_row, from_context) in [
                (Epilogue::Context, true, false),
                (Epilogue::Forms { has_class: true }, true, true),
                (Epilogue::Forms { has_class: false }, false, false),
                (Epilogue::Gate { has_class: true }, true, false),
                (Epilogue::Gate { has_class: false }, false, true),
            ] {
                for precision in [Precision::F32, Precision::F16] {
                    for reduction in REDUCTIONS {
                        let nonlinearity = in_turn.next().unwrap();
                        let variant =
                            Variant::conv(shape, halves, epilogue, nonlinearity, precision, reduction);
                        variants.push(variant.reading(whole_row, from_context));
                    }
                }
            }
        }
    }
    for nonlinearity in nonlinearities {
        for coherent in [false, true] {
            for speed in [Speed::DISCRETE, Speed::SOFTWARE] {
                let team = speed.team_of_pixel();
                variants.push(Variant::sample(team, DRAWN, nonlinearity, coherent));
                let teams = [1, 200, 1000].map(|batch| speed.team(batch));
                variants.extend(teams.map(|team| Variant::chain(team, DRAWN, nonlinearity, coherent)));
            }
        }
    }
    variants.extend(variants_of_graphs());
    variants.extend([Kernel::ShowRow(Family::PixelCnnPp), Kernel::Likelihood(None)].map(Variant::of_row));
    let in_several =
        |arenas| variants.iter().step_by(7).cloned().map(move |variant| variant.in_arenas(arenas));
    let all = [1, 2, 4].map(in_several).into_iter().flatten().chain(variants.clone());
    // Some shapes take no notice of how sums are reduced.
    let mut seen = HashSet::new();
    all.filter(|variant| seen.insert(variant.clone())).collect()
}

/// Variants for any other graph.
fn variants_of_graphs() -> Vec<Variant> {
    let mut variants = vec![Variant::of_row(Kernel::ShowRow(Family::Graph))];
    for shape in SHAPES.into_iter().chain(SHAPES_IN_SOFTWARE) {
        for halves in [1, 2] {
            for (epilogue, whole_row, from_context) in [
                (Epilogue::Context, true, false),
                (Epilogue::Forms { has_class: false }, true, true),
                (Epilogue::Forms { has_class: false }, false, false),
            ] {
                for precision in [Precision::F32, Precision::F16] {
                    let reductions = [REDUCTIONS[0], REDUCTIONS[2]];
                    variants.extend(reductions.map(|reduction| {
                        Variant::conv_of_graph(shape, halves, epilogue, precision, reduction)
                            .reading(whole_row, from_context)
                    }));
                }
            }
        }
    }
    for drawn_from in [DrawnFrom::Mixture, DrawnFrom::Softmax, DrawnFrom::Bernoulli] {
        variants.push(Variant::of_row(Kernel::Likelihood(Some(drawn_from))));
        // All channels at once, and the last of several steps.
        variants.extend([(0, 3), (2, 1)].map(|(step, channels)| Variant::draw(drawn_from, step, channels)));
        for coherent in [false, true] {
            for speed in [Speed::DISCRETE, Speed::SOFTWARE] {
                let teams = [1, 200, 1000].map(|batch| speed.team(batch));
                let chain = |team| Variant::chain_of_graph(team, drawn_from, 3, coherent);
                variants.extend(teams.map(chain));
            }
        }
    }
    variants
}

/// The invocations of a tile share the loads of a chunk evenly, in whole groups of positions, and each works on some of it.
#[test]
fn tiles_are_loaded_whole() {
    let tiled = SHAPES.into_iter().filter(|shape| matches!(shape, Shape::Tiled { .. }));
    for (shape, halves) in tiled.flat_map(|shape| [(shape, 1), (shape, 2)]) {
        let epilogue = Epilogue::Context;
        let (precision, reduction) = (Precision::F32, Reduction::Memory);
        let variant = Variant::conv_of_graph(shape, halves, epilogue, precision, reduction);
        let constants: HashMap<_, _> = variant.overrides().into_iter().collect();
        let [x, y, parts, chunk] =
            ["TILE_X", "TILE_Y", "PARTS", "CHUNK"].map(|name| constants[name] as u32);
        let (threads, positions) = (x * y * parts, y * ROWS);
        let apart = threads / chunk;
        assert!(apart >= ROWS && apart % ROWS == 0 && positions % apart == 0, "{shape:?}, {halves}");
        let loaders = threads / (halves * x);
        assert!(loaders > 0 && 4 * chunk % loaders == 0 && chunk % parts == 0, "{shape:?}, {halves}");
    }
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
    let kernels: HashSet<_> = variants().iter().map(|variant| (variant.kernel, variant.arenas)).collect();
    for (kernel, arenas) in kernels {
        let module = front::wgsl::parse_str(&kernel.source(arenas)).unwrap();
        assert!(!stores_a_component_by_index(&module), "{kernel:?}");
    }
    let source =
        Kernel::Sample { coherent: false }.source(1).replace("pixel.y = ", "pixel[job.channels - 2u] = ");
    assert!(stores_a_component_by_index(&front::wgsl::parse_str(&source).unwrap()));
}

#[test]
fn all_variants_translate_to_spirv_msl_and_hlsl() {
    for variant in variants() {
        let (module, info) = &spirv::resolved(&variant);
        back::spv::write_vec(module, info, &back::spv::Options::default(), None).unwrap();
        let msl = back::msl::Options { fake_missing_bindings: true, ..Default::default() };
        back::msl::write_string(module, info, &msl, &back::msl::PipelineOptions::default()).unwrap();
        let (mut hlsl, options) = (String::new(), back::hlsl::Options::default());
        let pipeline = back::hlsl::PipelineOptions::default();
        back::hlsl::Writer::new(&mut hlsl, &options, &pipeline).write(module, info, None).unwrap();
    }
}

/// The message of Khronos's validator about SPIR-V for Vulkan 1.2, if any.
fn fault(words: &[u32], file: &Path) -> Option<String> {
    std::fs::write(file, bytemuck::cast_slice(words)).unwrap();
    let output = Command::new("spirv-val").args(["--target-env", "vulkan1.2"]).arg(file).output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_validator_of_spirv_has_nothing_to_say() {
    if Command::new("spirv-val").arg("--version").output().is_err() {
        println!("SKIPPED: there is no spirv-val (on Debian, spirv-tools)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let seen = Mutex::new(HashSet::new());
    let variants = &variants();
    // The validator takes most of the time, and one core.
    let threads = thread::available_parallelism().unwrap().get();
    thread::scope(|scope| {
        for t in 0..threads {
            let (file, seen) = (folder.path().join(format!("kernel{t}.spv")), &seen);
            scope.spawn(move || {
                for (i, variant) in variants.iter().enumerate().skip(t).step_by(threads) {
                    let module = spirv::resolved(variant);
                    // Index checks are put in by wgpu, the same way everywhere.
                    for &checked in if i % 7 == 0 { &[false, true][..] } else { &[false] } {
                        let words = spirv::words(&module, checked);
                        let is_new = seen.lock().unwrap().insert(words.clone());
                        let fault = is_new.then(|| fault(&words, &file)).flatten();
                        assert!(fault.is_none(), "{variant:?}, index checks {checked}: {}", fault.unwrap());
                    }
                }
            });
        }
    });
    // Workgroup memory that is taken for a thread's own.
    let mut words = spirv::words(&spirv::resolved(&variants[0]), false);
    let (workgroup, private) = (4, 6);
    let is_variable = |words: &[u32]| words[0] == 4 << 16 | 59 && words[3] == workgroup;
    let variable = words.windows(4).position(is_variable).expect("it has some");
    words[variable + 3] = private;
    assert!(fault(&words, &folder.path().join("wrong.spv")).is_some());
}

/// The variables of a module that are decorated as coherent.
fn coherent_variables(words: &[u32]) -> usize {
    const DECORATE: u32 = 71;
    const COHERENT: u32 = 23;
    const HEADER: usize = 5;
    let mut rest = &words[HEADER..];
    let mut count = 0;
    while let [first, ..] = *rest {
        let (instruction, others) = rest.split_at(first as usize >> 16);
        count += usize::from(first & 0xffff == DECORATE && instruction[2] == COHERENT);
        rest = others;
    }
    count
}

/// Values that invocations hand to each other through buffers lie in coherent ones.
#[test]
fn what_invocations_hand_to_each_other_is_coherent() {
    let count = |variant: Variant| {
        let variant = variant.in_arenas(3);
        coherent_variables(&spirv::words(&spirv::resolved(&variant), false))
    };
    for (coherent, arenas) in [(true, 3), (false, 0)] {
        let team = Speed::DISCRETE.team_of_pixel();
        assert_eq!(count(Variant::sample(team, DRAWN, Activation::Elu, coherent)), arenas);
        let team = Speed::DISCRETE.team(1);
        assert_eq!(count(Variant::chain(team, DRAWN, Activation::Elu, coherent)), arenas);
    }
    // Devices are given them.
    let target = DeviceFacts { buffer: 1 << 30, chain: Some(true), ..DeviceFacts::SMALLEST };
    let network = Network::new(&pixelcnn_pp::graph(&Config::published(16, 1)), None);
    let plan = Plan::new(&network, 1, target);
    let kernels: Vec<_> = plan.all().map(|(_, dispatch)| dispatch.variant.kernel).collect();
    for kernel in [Kernel::Sample { coherent: true }, Kernel::Chain { coherent: true, graph: None }] {
        assert!(kernels.contains(&kernel), "{kernel:?}");
    }
}

#[test]
fn a_mistake_in_a_shader_would_be_seen() {
    let source = Kernel::Split(Family::PixelCnnPp, Precision::F32, Reduction::Memory).source(1);
    assert!(spirv::validated(&source).is_ok());
    assert!(spirv::validated(&source.replace("/ layers[0].batch", "/ 1.5")).is_err());
}
