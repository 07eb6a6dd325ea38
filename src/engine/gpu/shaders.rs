//! The WGSL sources put together, and the variants of each kernel.
//!
//! A number lives once: tile shapes are constants here, handed to the shaders as pipeline overrides.

use std::collections::HashMap;

use crate::model::network::MAX_TAPS;
use crate::model::{Nonlinearity, Precision};

const ARENA: &str = include_str!("../../../shaders/shared/arena.wgsl");
const TARGET: &str = include_str!("../../../shaders/shared/target.wgsl");
const JOB: &str = include_str!("../../../shaders/shared/job.wgsl");
const CONV: &str = include_str!("../../../shaders/shared/conv.wgsl");
/// Elementary functions.
pub const MATH: &str = include_str!("../../../shaders/shared/math.wgsl");
/// The random number generator.
pub const THREEFRY: &str = include_str!("../../../shaders/shared/threefry.wgsl");
/// Drawing from the mixture; wants `parameter(i)` of its includer.
pub const MIXTURE: &str = include_str!("../../../shaders/shared/mixture.wgsl");

/// The kernels, with the variants that differ in more than constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Convolution of many positions.
    Tiled(Precision),
    /// Convolution of few positions, its sums through subgroups first or not.
    Split(Precision, Reduction),
    /// Output, sampling, next input.
    Sample,
    /// Known pixels of a row into the image's ring.
    ShowRow,
}

/// How partial sums are brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Through workgroup memory.
    Memory,
    /// Within subgroups of this many invocations, then through workgroup memory.
    Subgroup(u32),
}

impl Kernel {
    /// Its complete source, for nodes and contexts in so many buffers.
    pub fn source(self, arenas: u32) -> String {
        let weights = |precision| match precision {
            Precision::F32 => include_str!("../../../shaders/shared/weights_f32.wgsl"),
            Precision::F16 => include_str!("../../../shaders/shared/weights_f16.wgsl"),
        };
        let parts = match self {
            Self::Tiled(precision) => {
                vec![
                    MATH,
                    ARENA,
                    TARGET,
                    CONV,
                    weights(precision),
                    include_str!("../../../shaders/conv_tiled.wgsl"),
                ]
            }
            Self::Split(precision, reduction) => {
                let sum = match reduction {
                    Reduction::Memory => include_str!("../../../shaders/shared/no_subgroup_sum.wgsl"),
                    Reduction::Subgroup(_) => include_str!("../../../shaders/shared/subgroup_sum.wgsl"),
                };
                let kernel = include_str!("../../../shaders/conv_split.wgsl");
                vec![MATH, ARENA, TARGET, CONV, weights(precision), sum, kernel]
            }
            Self::Sample => {
                let kernel = include_str!("../../../shaders/sample.wgsl");
                vec![MATH, ARENA, TARGET, JOB, THREEFRY, MIXTURE, kernel]
            }
            Self::ShowRow => vec![ARENA, TARGET, MATH, JOB, include_str!("../../../shaders/show_row.wgsl")],
        };
        let constants = format!("const MAX_TAPS = {MAX_TAPS}u;\nconst MAX_ROWS = {ROWS}u;\n");
        constants + &access(arenas) + &parts.join("\n")
    }
}

/// Bindings of the arenas, and the functions that read and write them: WGSL has no pointers to choose between.
fn access(arenas: u32) -> String {
    let binding = |a| {
        format!("@group(0) @binding({}) var<storage, read_write> arena_{a}: array<vec4<f32>>;\n", 7 + a)
    };
    let choose = |statement: &dyn Fn(u32) -> String| -> String {
        let all_but_last =
            (0..arenas - 1).map(|a| format!("    if arena == {a}u {{ {} }}\n", statement(a)));
        all_but_last.chain([format!("    {}\n", statement(arenas - 1))]).collect()
    };
    let bindings: String = (0..arenas).map(binding).collect();
    let load = choose(&|a| format!("return arena_{a}[at];"));
    let keep = choose(&|a| match a + 1 < arenas {
        true => format!("arena_{a}[at] = value; return;"),
        false => format!("arena_{a}[at] = value;"),
    });
    format!(
        "{bindings}fn load(arena: u32, at: u32) -> vec4<f32> {{\n{load}}}\n\
         fn keep(arena: u32, at: u32, value: vec4<f32>) {{\n{keep}}}\n"
    )
}

/// What a convolution does with its sums; the constants of `shaders/shared/conv.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Keeps them as row context.
    Context = 0,
    /// Stores them in the forms of the target.
    Forms = 1,
    /// Adds `a·σ(b)` to the residual, and stores that.
    Gate = 2,
}

/// A kernel with its constants: one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The kernel.
    pub kernel: Kernel,
    /// How many buffers nodes and contexts are in.
    pub arenas: u32,
    constants: Vec<(&'static str, u32)>,
}

/// Positions that an invocation works on, in either convolution.
const ROWS: u32 = 4;
/// Workgroup of the tiled convolution: quads of outputs, and groups of [`ROWS`] positions.
const TILE: [u32; 2] = [8, 8];
/// Workgroup of the split convolution: quads of outputs, and parts of the sum.
const SPLIT: [u32; 2] = [4, 16];
/// From this many positions on, the tiled convolution is used.
const TILED_FROM: u32 = 32;
/// Workgroup of the other kernels.
const THREADS: u32 = 64;

/// What the sampling kernel writes for a pixel whose parameters are not finite.
pub const NOT_FINITE: f32 = 2.0;

fn nonlinearity_constant(nonlinearity: Nonlinearity) -> (&'static str, u32) {
    let value = match nonlinearity {
        Nonlinearity::ConcatElu => 0,
        Nonlinearity::Elu => 1,
        Nonlinearity::Relu => 2,
    };
    ("NONLINEARITY", value)
}

impl Variant {
    /// The convolution for a number of positions.
    pub fn conv(
        positions: u32,
        halves: u32,
        epilogue: Epilogue,
        nonlinearity: Nonlinearity,
        precision: Precision,
        reduction: Reduction,
    ) -> Self {
        let mut constants =
            vec![nonlinearity_constant(nonlinearity), ("HALVES", halves), ("EPILOGUE", epilogue as u32)];
        if positions >= TILED_FROM {
            constants.extend([("TILE_X", TILE[0]), ("TILE_Y", TILE[1])]);
            return Self { kernel: Kernel::Tiled(precision), arenas: 1, constants };
        }
        let lanes = match reduction {
            Reduction::Memory => 1,
            Reduction::Subgroup(lanes) => lanes.min(SPLIT[0] * SPLIT[1]),
        };
        let rows = positions.min(ROWS);
        constants.extend([("QUADS", SPLIT[0]), ("SPLITS", SPLIT[1]), ("ROWS", rows), ("LANES", lanes)]);
        Self { kernel: Kernel::Split(precision, reduction), arenas: 1, constants }
    }

    /// The convolution for whole rows or for one pixel, whose sums begin with the row's context or with what the
    /// layer adds.
    pub fn reading(mut self, whole_row: bool, from_context: bool) -> Self {
        self.constants.extend([("WHOLE_ROW", whole_row.into()), ("FROM_CONTEXT", from_context.into())]);
        self
    }

    /// The same for so many arenas.
    pub fn in_arenas(self, arenas: u32) -> Self {
        Self { arenas, ..self }
    }

    /// The kernel that shows the network a row of known pixels.
    pub fn show_row() -> Self {
        let constants = vec![("THREADS", THREADS)];
        Self { kernel: Kernel::ShowRow, arenas: 1, constants }
    }

    /// The sampling kernel for a number of parameters, in quads, and of draws a pixel.
    pub fn sample(parameters: u32, draws: u32, nonlinearity: Nonlinearity) -> Self {
        let constants = vec![
            nonlinearity_constant(nonlinearity),
            ("THREADS", THREADS),
            ("PARAMETERS", parameters),
            ("DRAWS", draws),
        ];
        Self { kernel: Kernel::Sample, arenas: 1, constants }
    }

    /// Workgroups for `positions` positions and `quads` quads of outputs.
    pub fn workgroups(&self, positions: u32, quads: u32) -> [u32; 2] {
        match self.kernel {
            Kernel::Tiled(_) => [quads.div_ceil(TILE[0]), positions.div_ceil(TILE[1] * ROWS)],
            Kernel::Split(..) => [quads.div_ceil(SPLIT[0]), positions.div_ceil(positions.min(ROWS))],
            Kernel::Sample => [positions, 1],
            Kernel::ShowRow => [positions.div_ceil(THREADS), 1],
        }
    }

    /// Values of the shader's overrides.
    pub fn overrides(&self) -> Vec<(&'static str, f64)> {
        let mut overrides: Vec<_> = self.constants.iter().map(|&(k, v)| (k, f64::from(v))).collect();
        if self.kernel == Kernel::Sample {
            overrides.push(("NOT_FINITE", f64::from(NOT_FINITE)));
        }
        overrides
    }
}

/// Compiled kernels of a device.
pub struct Pipelines {
    /// Whether shaders check their indices.
    checked: bool,
    modules: HashMap<(Kernel, u32), wgpu::ShaderModule>,
    compiled: HashMap<Variant, wgpu::ComputePipeline>,
}

impl Pipelines {
    /// No kernel yet.
    pub fn new(checked: bool) -> Self {
        Self { checked, modules: HashMap::new(), compiled: HashMap::new() }
    }

    /// The pipeline of a variant, compiled when it is first asked for; `layout` is that of its bindings.
    pub fn get(
        &mut self,
        device: &wgpu::Device,
        layout: &wgpu::PipelineLayout,
        variant: &Variant,
    ) -> wgpu::ComputePipeline {
        if let Some(pipeline) = self.compiled.get(variant) {
            return pipeline.clone();
        }
        let Variant { kernel, arenas, .. } = *variant;
        let checked = self.checked;
        let module = self.modules.entry((kernel, arenas)).or_insert_with(|| {
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(&format!("pixelcnn {kernel:?}")),
                source: wgpu::ShaderSource::Wgsl(kernel.source(arenas).into()),
            };
            if checked {
                return device.create_shader_module(descriptor);
            }
            // SAFETY: every index follows from the network's shapes, which the host has checked when it
            // made buffers and uniforms, and every loop ends; tests run the same work with checks.
            unsafe {
                let no_checks = wgpu::ShaderRuntimeChecks::unchecked();
                device.create_shader_module_trusted(descriptor, no_checks)
            }
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&format!("pixelcnn {variant:?}")),
            layout: Some(layout),
            module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &variant.overrides(),
                // The kernels write all workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        self.compiled.insert(variant.clone(), pipeline.clone());
        pipeline
    }
}
