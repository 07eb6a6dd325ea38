//! The WGSL sources put together, and the variants of each kernel.
//!
//! A number lives once: tile shapes are constants here, handed to the shaders as pipeline overrides.

use std::collections::HashMap;

use crate::model::Nonlinearity;
use crate::model::network::MAX_TAPS;

const NODE: &str = include_str!("../../../shaders/shared/node.wgsl");
const CONV: &str = include_str!("../../../shaders/shared/conv.wgsl");
/// Elementary functions.
pub const MATH: &str = include_str!("../../../shaders/shared/math.wgsl");
/// The random number generator.
pub const THREEFRY: &str = include_str!("../../../shaders/shared/threefry.wgsl");
/// Drawing from the mixture; wants `parameter(i)` of its includer.
pub const MIXTURE: &str = include_str!("../../../shaders/shared/mixture.wgsl");

/// The kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Convolution of many positions.
    Tiled,
    /// Convolution of few positions.
    Split,
    /// Output, sampling, next input.
    Sample,
}

impl Kernel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tiled, Self::Split, Self::Sample];

    /// Its complete source.
    pub fn source(self) -> String {
        let parts = match self {
            Self::Tiled => vec![MATH, NODE, CONV, include_str!("../../../shaders/conv_tiled.wgsl")],
            Self::Split => vec![MATH, NODE, CONV, include_str!("../../../shaders/conv_split.wgsl")],
            Self::Sample => {
                vec![MATH, NODE, THREEFRY, MIXTURE, include_str!("../../../shaders/sample.wgsl")]
            }
        };
        format!("const MAX_TAPS = {MAX_TAPS}u;\nconst MAX_ROWS = {ROWS}u;\n{}", parts.join("\n"))
    }
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
/// Workgroup of the sampling kernel.
const SAMPLE_THREADS: u32 = 64;

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
    pub fn conv(positions: u32, halves: u32, epilogue: Epilogue, nonlinearity: Nonlinearity) -> Self {
        let mut constants =
            vec![nonlinearity_constant(nonlinearity), ("HALVES", halves), ("EPILOGUE", epilogue as u32)];
        if positions >= TILED_FROM {
            constants.extend([("TILE_X", TILE[0]), ("TILE_Y", TILE[1])]);
            return Self { kernel: Kernel::Tiled, constants };
        }
        constants.extend([("QUADS", SPLIT[0]), ("SPLITS", SPLIT[1]), ("ROWS", positions.min(ROWS))]);
        Self { kernel: Kernel::Split, constants }
    }

    /// The sampling kernel for a number of parameters, in quads, and of draws a pixel.
    pub fn sample(parameters: u32, draws: u32, nonlinearity: Nonlinearity) -> Self {
        let constants = vec![
            nonlinearity_constant(nonlinearity),
            ("THREADS", SAMPLE_THREADS),
            ("PARAMETERS", parameters),
            ("DRAWS", draws),
        ];
        Self { kernel: Kernel::Sample, constants }
    }

    /// Workgroups for `positions` positions and `quads` quads of outputs.
    pub fn workgroups(&self, positions: u32, quads: u32) -> [u32; 2] {
        match self.kernel {
            Kernel::Tiled => [quads.div_ceil(TILE[0]), positions.div_ceil(TILE[1] * ROWS)],
            Kernel::Split => [quads.div_ceil(SPLIT[0]), positions.div_ceil(positions.min(ROWS))],
            Kernel::Sample => [positions, 1],
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
    modules: HashMap<Kernel, (wgpu::ShaderModule, wgpu::PipelineLayout)>,
    compiled: HashMap<Variant, wgpu::ComputePipeline>,
}

impl Pipelines {
    /// Parses the shaders; `conv` and `sample` are the layouts of their bindings.
    pub fn new(
        device: &wgpu::Device,
        conv: &wgpu::BindGroupLayout,
        sample: &wgpu::BindGroupLayout,
    ) -> Self {
        let module = |kernel: Kernel| {
            let label = format!("pixelcnn {kernel:?}");
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(&label),
                source: wgpu::ShaderSource::Wgsl(kernel.source().into()),
            });
            let group = if kernel == Kernel::Sample { sample } else { conv };
            let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: &[Some(group)],
                immediate_size: 0,
            });
            (kernel, (module, layout))
        };
        Self { modules: Kernel::ALL.map(module).into(), compiled: HashMap::new() }
    }

    /// The pipeline of a variant, compiled when it is first asked for.
    pub fn get(&mut self, device: &wgpu::Device, variant: &Variant) -> wgpu::ComputePipeline {
        if let Some(pipeline) = self.compiled.get(variant) {
            return pipeline.clone();
        }
        let (module, layout) = &self.modules[&variant.kernel];
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&format!("pixelcnn {variant:?}")),
            layout: Some(layout),
            module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &variant.overrides(),
                ..Default::default()
            },
            cache: None,
        });
        self.compiled.insert(variant.clone(), pipeline.clone());
        pipeline
    }
}
