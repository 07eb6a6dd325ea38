//! The WGSL sources put together, and the variants of each kernel.
//!
//! A number lives once: tile shapes are constants here, handed to the shaders as pipeline overrides.

use crate::graph::Activation;
use crate::model::Precision;

/// Taps of a layer, at most: 2×3, and two skips.
pub const MAX_TAPS: usize = 8;

/// A file of `shaders/`.
macro_rules! wgsl {
    ($name:literal) => {
        include_str!(concat!("../../../shaders/", $name))
    };
}

const ARENA: &str = wgsl!("shared/arena.wgsl");
const TARGET: &str = wgsl!("shared/target.wgsl");
const JOB: &str = wgsl!("shared/job.wgsl");
const CONV: &str = wgsl!("shared/conv.wgsl");
const ONE_LAYER: &str = wgsl!("shared/one_layer.wgsl");
const PIXEL: &str = wgsl!("shared/pixel.wgsl");
/// Elementary functions.
pub const MATH: &str = wgsl!("shared/math.wgsl");
/// The random number generator.
pub const THREEFRY: &str = wgsl!("shared/threefry.wgsl");
/// Drawing from the mixture; wants `parameter(i)` of its includer.
pub const MIXTURE: &str = wgsl!("shared/mixture.wgsl");

/// The likelihood under the mixture; wants `parameter(i)` and `anchor(k)`, the k-th of [`anchors`], of its includer.
pub fn likelihood() -> String {
    format!("const ANCHORS = {ANCHORS}u;\n{}", wgsl!("shared/likelihood.wgsl"))
}

/// Numbers between 0 and 1 whose inverse hyperbolic tangents the likelihood knows: k / ANCHORS. A power of two.
const ANCHORS: u32 = 64;

/// The inverse hyperbolic tangents of all k / ANCHORS, in units of 2⁻²⁹.
pub fn anchors() -> Vec<i32> {
    let anchor = |k| (f64::from(k) / f64::from(ANCHORS)).atanh() * f64::from(1 << 29);
    (0..ANCHORS).map(|k| anchor(k).round() as i32).collect()
}

/// The kernels, with the variants that differ in more than constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Convolution of many positions.
    Tiled(Precision),
    /// Convolution of few positions, its sums through subgroups first or not.
    Split(Precision, Reduction),
    /// Output, sampling, next input.
    Sample {
        /// See [`Self::Chain`].
        coherent: bool,
    },
    /// All layers of a pixel, and the same, for all pixels of a part of a row.
    Chain {
        /// The arenas are marked as coherent: invocations of a workgroup read what others of it have just stored, and
        /// Vulkan's memory model promises them that for coherent buffers alone, whatever the barriers between them.
        coherent: bool,
    },
    /// Known pixels of a row into the image's ring.
    ShowRow,
    /// How likely the pixels of a row are.
    Likelihood,
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
            Precision::F32 => wgsl!("shared/weights_f32.wgsl"),
            Precision::F16 => wgsl!("shared/weights_f16.wgsl"),
        };
        let likelihood;
        let parts = match self {
            Self::Tiled(precision) => {
                vec![MATH, ARENA, TARGET, CONV, ONE_LAYER, weights(precision), wgsl!("conv_tiled.wgsl")]
            }
            Self::Split(precision, reduction) => {
                let sum = match reduction {
                    Reduction::Memory => wgsl!("shared/no_subgroup_sum.wgsl"),
                    Reduction::Subgroup(_) => wgsl!("shared/subgroup_sum.wgsl"),
                };
                let kernel = wgsl!("conv_split.wgsl");
                vec![MATH, ARENA, TARGET, CONV, ONE_LAYER, weights(precision), sum, kernel]
            }
            Self::Sample { .. } => {
                vec![MATH, ARENA, TARGET, JOB, PIXEL, THREEFRY, MIXTURE, wgsl!("sample.wgsl")]
            }
            Self::Chain { .. } => {
                let pixel = [MATH, ARENA, TARGET, JOB, PIXEL, THREEFRY, MIXTURE];
                [&pixel[..], &[CONV, wgsl!("chain.wgsl")]].concat()
            }
            Self::ShowRow => vec![MATH, ARENA, TARGET, JOB, wgsl!("show_row.wgsl")],
            Self::Likelihood => {
                likelihood = self::likelihood();
                vec![MATH, ARENA, TARGET, JOB, &likelihood, wgsl!("likelihood.wgsl")]
            }
        };
        let mut constants = format!("const MAX_TAPS = {MAX_TAPS}u;\nconst MAX_ROWS = {ROWS}u;\n");
        constants += &format!("const MAX_SPLIT_ROWS = {MAX_SPLIT_ROWS}u;\n");
        if matches!(self, Self::Chain { .. }) {
            // Naga wants all overrides before the first array whose length depends on one.
            constants += "override QUADS: u32;\n";
            constants += &format!("const MAX_IMAGES = {MAX_IMAGES}u;\nconst MAX_QUADS = {MAX_QUADS}u;\n");
            let binding = FIRST_ARENA + arenas;
            constants +=
                &format!("@group(0) @binding({binding}) var<storage, read> layers: array<Layer>;\n");
        }
        constants + &access(arenas, self.is_coherent()) + &parts.join("\n")
    }

    fn is_coherent(self) -> bool {
        matches!(self, Self::Sample { coherent: true } | Self::Chain { coherent: true })
    }
}

/// Binding of the first arena.
const FIRST_ARENA: u32 = 7;

/// Bindings of the arenas, and the functions that read and write them: WGSL has no pointers to choose between.
fn access(arenas: u32, coherent: bool) -> String {
    let coherent = if coherent { "@coherent " } else { "" };
    let binding = |a| {
        format!(
            "{coherent}@group(0) @binding({}) var<storage, read_write> arena_{a}: array<vec4<f32>>;\n",
            FIRST_ARENA + a
        )
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
    Context,
    /// Stores them in the forms of the target.
    Forms {
        /// Whether the class adds to any of them.
        has_class: bool,
    },
    /// Adds `a·σ(b)` to the residual, and stores that.
    Gate {
        /// See [`Self::Forms`].
        has_class: bool,
    },
}

impl Epilogue {
    /// Its number in WGSL.
    pub fn number(self) -> u32 {
        match self {
            Self::Context => 0,
            Self::Forms { .. } => 1,
            Self::Gate { .. } => 2,
        }
    }

    fn constants(self) -> [(&'static str, u32); 2] {
        let has_class = matches!(self, Self::Forms { has_class: true } | Self::Gate { has_class: true });
        [("EPILOGUE", self.number()), ("HAS_CLASS", has_class.into())]
    }
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

/// Positions that an invocation of a tile works on.
pub const ROWS: u32 = 4;
/// Positions that one of a split convolution works on, at most.
const MAX_SPLIT_ROWS: u32 = 8;
/// Invocations of a workgroup of the convolutions and of sampling.
pub const THREADS: u32 = 64;
/// Invocations of any workgroup, at most; WebGPU promises so many.
pub const MOST_THREADS: u32 = 256;
/// Quads of outputs of a tile.
const TILE_X: u32 = 8;

/// Images of a chain's workgroup, at most.
const MAX_IMAGES: u32 = 8;
/// Quads of outputs of an invocation of a chain, at most.
const MAX_QUADS: u32 = 2;

/// The invocations of a chain's workgroup, and what they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Team {
    /// Invocations.
    pub threads: u32,
    /// Images that the workgroup has to itself: at most 8.
    pub images: u32,
    /// Quads of outputs that an invocation sums: at most 2.
    pub quads: u32,
}

/// How a convolution is shared out to workgroups, and to the invocations of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A tile of `groups` times [`ROWS`] positions, through workgroup memory; each sum in `parts`.
    Tiled {
        /// Groups of positions.
        groups: u32,
        /// Parts of a sum.
        parts: u32,
    },
    /// `rows` positions, at most 8, by `quads` quads of outputs; each sum in `splits` parts.
    Split {
        /// Quads of outputs.
        quads: u32,
        /// Positions.
        rows: u32,
        /// Parts of a sum.
        splits: u32,
    },
}

impl Shape {
    /// Quads of outputs, and positions, of a workgroup.
    pub fn tile(self) -> [u32; 2] {
        match self {
            Self::Tiled { groups, .. } => [TILE_X, groups * ROWS],
            Self::Split { quads, rows, .. } => [quads, rows],
        }
    }

    /// Workgroups along both axes.
    pub fn workgroups(self, positions: u32, quads: u32) -> [u32; 2] {
        let tile = self.tile();
        [quads.div_ceil(tile[0]), positions.div_ceil(tile[1])]
    }

    fn constants(self, halves: u32, reduction: Reduction) -> Vec<(&'static str, u32)> {
        match self {
            Self::Tiled { groups, parts } => {
                // Two quads at least for each part, and no more memory than there is.
                let chunk = (2 * parts).max(4);
                let weights = 4 * chunk * halves * TILE_X;
                let sums = if parts > 1 { ROWS * parts * groups * TILE_X } else { 0 };
                let shared = ("SHARED", weights.max(sums));
                vec![("TILE_X", TILE_X), ("TILE_Y", groups), ("PARTS", parts), ("CHUNK", chunk), shared]
            }
            Self::Split { quads, rows, splits } => {
                let lanes = match reduction {
                    Reduction::Memory => 1,
                    Reduction::Subgroup(lanes) => lanes.min(quads * splits),
                };
                vec![("QUADS", quads), ("SPLITS", splits), ("ROWS", rows), ("LANES", lanes)]
            }
        }
    }
}

/// The middle level: kernels know levels as their distance from it, which a product alone turns into a value from −1 to 1.
pub const MIDDLE: f32 = 127.5;

/// What is written as a level, or as a log-likelihood, where the parameters are not finite: neither can be so large.
pub const NOT_FINITE: f32 = 512.0;

fn nonlinearity_constant(phi: Activation) -> (&'static str, u32) {
    let value = match phi {
        Activation::ConcatElu => 0,
        Activation::Elu => 1,
        _ => 2,
    };
    ("NONLINEARITY", value)
}

impl Variant {
    /// A convolution of some shape.
    pub fn conv(
        shape: Shape,
        halves: u32,
        epilogue: Epilogue,
        phi: Activation,
        precision: Precision,
        reduction: Reduction,
    ) -> Self {
        let kernel = match shape {
            Shape::Tiled { .. } => Kernel::Tiled(precision),
            Shape::Split { .. } => Kernel::Split(precision, reduction),
        };
        let mut constants = vec![nonlinearity_constant(phi), ("HALVES", halves)];
        constants.extend(epilogue.constants());
        constants.extend(shape.constants(halves, reduction));
        Self { kernel, arenas: 1, constants }
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

    /// A kernel of which an invocation does a pixel of a row.
    pub fn of_row(kernel: Kernel) -> Self {
        Self { kernel, arenas: 1, constants: vec![("THREADS", THREADS)] }
    }

    /// The sampling kernel for a number of parameters, in quads, of quads that logits are in, and of draws a pixel.
    pub fn sample(drawn: [u32; 3], phi: Activation, coherent: bool) -> Self {
        Self::drawing(Kernel::Sample { coherent }, THREADS, 1, drawn, phi)
    }

    /// The chain kernel, for the same.
    pub fn chain(team: Team, drawn: [u32; 3], phi: Activation, coherent: bool) -> Self {
        let Team { threads, images, quads } = team;
        let mut chain = Self::drawing(Kernel::Chain { coherent }, threads, images, drawn, phi);
        chain.constants.push(("QUADS", quads));
        chain
    }

    fn drawing(
        kernel: Kernel,
        threads: u32,
        images: u32,
        [parameters, logits, draws]: [u32; 3],
        phi: Activation,
    ) -> Self {
        let constants = vec![
            nonlinearity_constant(phi),
            ("THREADS", threads),
            ("IMAGES", images),
            ("PARAMETERS", parameters),
            ("LOGITS", logits),
            ("DRAWS", draws),
        ];
        Self { kernel, arenas: 1, constants }
    }

    /// Values of the shader's overrides.
    pub fn overrides(&self) -> Vec<(&'static str, f64)> {
        let mut overrides: Vec<_> = self.constants.iter().map(|&(k, v)| (k, f64::from(v))).collect();
        if matches!(self.kernel, Kernel::Sample { .. } | Kernel::Chain { .. } | Kernel::Likelihood) {
            overrides.push(("NOT_FINITE", f64::from(NOT_FINITE)));
        }
        overrides
    }
}
