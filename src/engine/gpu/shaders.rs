//! The WGSL sources put together, and the variants of each kernel.
//!
//! A number lives once: tile shapes are constants here, handed to the shaders as pipeline overrides.

use crate::graph::Activation;
use crate::model::Precision;

/// Taps of a layer of a PixelCNN++, at most: 2×3, and two skips.
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
const LEVELS: &str = wgsl!("shared/levels.wgsl");
const PIXEL: &str = wgsl!("shared/pixel.wgsl");
const MIXTURE_PIXEL: &str = wgsl!("shared/mixture_pixel.wgsl");
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

/// A family of networks, each with its own parts of kernels: those for PixelCNN++ know its few epilogues beforehand;
/// the others read what a layer is made of from lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// A network for which [`super::support`] returns this family.
    PixelCnnPp,
    /// Any other.
    Graph,
}

/// The distribution that the pixels of a graph are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DrawnFrom {
    /// A mixture of logistics.
    Mixture,
    /// A softmax over at most [`MOST_LEVELS`] levels, for each channel.
    Softmax,
    /// Two levels a channel.
    Bernoulli,
}

/// Levels of a softmax, at most: the invocations of a workgroup share them.
pub const MOST_LEVELS: u32 = 1024;
/// Blocks of levels of a softmax: an invocation each, where a workgroup draws a single channel.
const BLOCKS: u32 = 64;
/// The same in a chain, whose workgroup memory holds sums too.
pub const BLOCKS_OF_CHAIN: u32 = 16;

/// The kernels, with the variants that differ in more than constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Convolution of many positions.
    Tiled(Family, Precision),
    /// Convolution of few positions, its sums through subgroups first or not.
    Split(Family, Precision, Reduction),
    /// Output, sampling, next input, of a PixelCNN++.
    Sample {
        /// See [`Self::Chain`].
        coherent: bool,
    },
    /// The end of a step of a pixel of a graph.
    Draw(DrawnFrom),
    /// All layers of a pixel, and the same, for all pixels of a part of a row.
    Chain {
        /// The arenas are marked as coherent: invocations of a workgroup read what others of it have just stored, and
        /// Vulkan's memory model promises them that for coherent buffers alone, whatever the barriers between them.
        coherent: bool,
        /// Of a graph, what its pixels are drawn from; nothing for a PixelCNN++.
        graph: Option<DrawnFrom>,
    },
    /// Known pixels of a row into the image's ring.
    ShowRow(Family),
    /// The log-likelihood of the pixels of a row; for a graph, under the given distribution.
    Likelihood(Option<DrawnFrom>),
}

/// The way in which partial sums are reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Through workgroup memory.
    Memory,
    /// Within subgroups of this many invocations, then through workgroup memory.
    Subgroup(u32),
}

impl Kernel {
    /// Its complete source, for nodes and contexts in `arenas` buffers.
    pub fn source(self, arenas: u32) -> String {
        let weights = |precision| match precision {
            Precision::F32 => wgsl!("shared/weights_f32.wgsl"),
            Precision::F16 => wgsl!("shared/weights_f16.wgsl"),
        };
        let likelihood = self::likelihood();
        let layer = |family| match family {
            Family::PixelCnnPp => vec![MATH, ARENA, TARGET, CONV],
            Family::Graph => GRAPH_LAYER.to_vec(),
        };
        let draw = |drawn_from| match drawn_from {
            DrawnFrom::Mixture => vec![MIXTURE, MIXTURE_PIXEL, wgsl!("graph/mixture.wgsl")],
            DrawnFrom::Softmax => vec![wgsl!("graph/softmax.wgsl")],
            DrawnFrom::Bernoulli => vec![wgsl!("graph/bernoulli.wgsl")],
        };
        let parts = match self {
            Self::Tiled(family, precision) => {
                [&layer(family)[..], &[ONE_LAYER, weights(precision), wgsl!("conv_tiled.wgsl")]].concat()
            }
            Self::Split(family, precision, reduction) => {
                let sum = match reduction {
                    Reduction::Memory => wgsl!("shared/no_subgroup_sum.wgsl"),
                    Reduction::Subgroup(_) => wgsl!("shared/subgroup_sum.wgsl"),
                };
                let kernel = [ONE_LAYER, weights(precision), sum, wgsl!("conv_split.wgsl")];
                [&layer(family)[..], &kernel].concat()
            }
            Self::Sample { .. } => [OF_PIXEL, &[wgsl!("sample.wgsl")]].concat(),
            Self::Draw(drawn_from) => {
                [GRAPH_PIXEL, &draw(drawn_from)[..], &[wgsl!("graph/draw.wgsl")]].concat()
            }
            Self::Chain { graph: None, .. } => {
                [OF_PIXEL, &[CONV, wgsl!("shared/one_step.wgsl"), wgsl!("chain.wgsl")]].concat()
            }
            Self::Chain { graph: Some(drawn_from), .. } => {
                let layers = [
                    TARGET_OF_GRAPH,
                    LAYER_OF_GRAPH,
                    wgsl!("graph/steps.wgsl"),
                    wgsl!("shared/weights_f32.wgsl"),
                ];
                [GRAPH_PIXEL, &draw(drawn_from)[..], &layers, &[wgsl!("chain.wgsl")]].concat()
            }
            Self::ShowRow(Family::PixelCnnPp) => {
                vec![MATH, ARENA, TARGET, LEVELS, JOB, wgsl!("show_row.wgsl")]
            }
            Self::ShowRow(Family::Graph) => [GRAPH_ROW, &[wgsl!("graph/show_row.wgsl")]].concat(),
            Self::Likelihood(None) => {
                vec![MATH, ARENA, TARGET, LEVELS, JOB, &likelihood, wgsl!("likelihood.wgsl")]
            }
            Self::Likelihood(Some(drawn_from)) => {
                let of_head = match drawn_from {
                    DrawnFrom::Mixture => vec![&likelihood[..], wgsl!("graph/mixture_likelihood.wgsl")],
                    DrawnFrom::Softmax => vec![wgsl!("graph/softmax_likelihood.wgsl")],
                    DrawnFrom::Bernoulli => vec![wgsl!("graph/bernoulli_likelihood.wgsl")],
                };
                [GRAPH_ROW, &of_head[..], &[wgsl!("graph/likelihood.wgsl")]].concat()
            }
        };
        let mut constants = format!("const MAX_WEIGHTS = {MAX_WEIGHTS}u;\n");
        constants += &format!("const MAX_TAPS = {MAX_TAPS}u;\nconst MAX_ROWS = {ROWS}u;\n");
        constants += &format!("const MAX_SPLIT_ROWS = {MAX_SPLIT_ROWS}u;\n");
        if matches!(self, Self::Chain { .. }) {
            // Naga wants all overrides before the first array whose length depends on one.
            constants += "override QUADS: u32;\noverride ADDERS: u32;\n";
            constants += &format!("const MAX_IMAGES = {MAX_IMAGES}u;\nconst MAX_QUADS = {MAX_QUADS}u;\n");
        }
        if matches!(self, Self::Draw(_)) {
            constants += "override STEP: u32;\n";
        }
        if let Self::Draw(drawn_from) | Self::Chain { graph: Some(drawn_from), .. } = self {
            constants += match drawn_from {
                DrawnFrom::Mixture => "override PARTS: u32;\n",
                DrawnFrom::Softmax => "override CHANNELS: u32;\noverride BLOCKS: u32;\n",
                DrawnFrom::Bernoulli => "override CHANNELS: u32;\n",
            };
        }
        for (binding, table) in (FIRST_ARENA + arenas..).zip(self.tables()) {
            constants += &format!("@group(0) @binding({binding}) var<storage, read> {table};\n");
        }
        constants + &access(arenas, self.is_coherent()) + &parts.join("\n")
    }

    /// The tables that it binds after the arenas, as they are declared.
    fn tables(self) -> &'static [&'static str] {
        match (self, self.family()) {
            (Self::Chain { .. }, Family::PixelCnnPp) => &["layers: array<Layer>"],
            (Self::Chain { .. }, Family::Graph) => &["layers: array<Layer>", "lists: array<vec4<u32>>"],
            (_, Family::Graph) => &["lists: array<vec4<u32>>"],
            (_, Family::PixelCnnPp) => &[],
        }
    }

    /// The number of tables that it binds after the arenas.
    pub fn table_count(self) -> u32 {
        self.tables().len() as u32
    }

    /// The family of networks that it runs.
    fn family(self) -> Family {
        match self {
            Self::Tiled(family, _) | Self::Split(family, ..) | Self::ShowRow(family) => family,
            Self::Chain { graph: None, .. } | Self::Sample { .. } | Self::Likelihood(None) => {
                Family::PixelCnnPp
            }
            Self::Chain { .. } | Self::Draw(_) | Self::Likelihood(_) => Family::Graph,
        }
    }

    fn is_coherent(self) -> bool {
        matches!(self, Self::Sample { coherent: true } | Self::Chain { coherent: true, .. })
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

/// Parts of a PixelCNN++'s pixel.
const OF_PIXEL: &[&str] = &[MATH, ARENA, TARGET, LEVELS, JOB, PIXEL, THREEFRY, MIXTURE, MIXTURE_PIXEL];
const LISTS: &str = wgsl!("graph/lists.wgsl");
const ACTIVATIONS: &str = wgsl!("graph/activations.wgsl");
const TARGET_OF_GRAPH: &str = wgsl!("graph/target.wgsl");
const LAYER_OF_GRAPH: &str = wgsl!("graph/layer.wgsl");
const GRAPH_LAYER: &[&str] = &[MATH, ARENA, LISTS, ACTIVATIONS, TARGET_OF_GRAPH, LAYER_OF_GRAPH];
const GRAPH_ROW: &[&str] = &[MATH, ARENA, LISTS, ACTIVATIONS, LEVELS, wgsl!("graph/job.wgsl")];
const GRAPH_PIXEL: &[&str] = &[
    MATH,
    ARENA,
    LISTS,
    ACTIVATIONS,
    LEVELS,
    wgsl!("graph/job.wgsl"),
    wgsl!("graph/pixel.wgsl"),
    THREEFRY,
];

/// The use that a convolution makes of its sums; the constants of `shaders/shared/conv.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Keeps them as row context.
    Context,
    /// Stores them in the forms of the target.
    Forms {
        /// True if the class adds to any of them.
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
    /// The number of buffers that hold nodes and contexts.
    pub arenas: u32,
    constants: Vec<(&'static str, u32)>,
}

/// Positions that an invocation of a tile works on.
pub const ROWS: u32 = 4;
/// Quads of weights of a tile that an invocation loads at a time, at most.
const MAX_WEIGHTS: u32 = 8;
/// Positions that one of a split convolution works on, at most.
const MAX_SPLIT_ROWS: u32 = 8;
/// Invocations of a workgroup of the convolutions and of sampling.
pub const THREADS: u32 = 64;
/// The largest number of invocations in a workgroup, as WebGPU promises it.
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
    /// The number of parts to which all invocations reduce a sum, before one adds them up; `threads` if one adds up
    /// all.
    pub adders: u32,
}

impl Team {
    /// A workgroup of `threads` invocations that ends one pixel, outside a chain.
    pub const fn of_pixel(threads: u32) -> Self {
        Self { threads, images: 1, quads: 1, adders: threads }
    }

    /// The shares of a layer with `outputs` quads of outputs: columns, each of [`Self::quads`] of them, and parts of
    /// each sum.
    pub fn shares(self, outputs: u32) -> [u32; 2] {
        let columns = outputs.div_ceil(self.quads).max(1);
        [columns, (self.threads / columns).max(1)]
    }
}

/// Invocations that share the components of a mixture, for each image of a team.
pub fn parts_of_draw(team: Team) -> u32 {
    (team.threads / team.images).min(16)
}

/// The division of a convolution into workgroups, and of each into invocations.
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
                // As much work as hides the loads of the next chunk, of which an invocation holds up to MAX_WEIGHTS quads
                // of weights; and as many quads as give every invocation a position to load.
                let threads = TILE_X * groups * parts;
                let chunk = ((4 * parts).min(threads / TILE_X) / halves).max(2 * parts);
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

/// The level or log-likelihood that is stored if the parameters are not finite: neither can be this large.
pub const NOT_FINITE: f32 = 4096.0;

fn nonlinearity_constant(phi: Activation) -> (&'static str, u32) {
    let value = match phi {
        Activation::ConcatElu => 0,
        Activation::Elu => 1,
        _ => 2,
    };
    ("NONLINEARITY", value)
}

impl Variant {
    /// A convolution of some shape, of a PixelCNN++ with an activation φ.
    pub fn conv(
        shape: Shape,
        halves: u32,
        epilogue: Epilogue,
        phi: Activation,
        precision: Precision,
        reduction: Reduction,
    ) -> Self {
        let mut variant = Self::of_shape(Family::PixelCnnPp, shape, halves, epilogue, precision, reduction);
        variant.constants.push(nonlinearity_constant(phi));
        variant
    }

    /// A convolution of some shape, of any graph, whose layers say themselves what gates and classes there are: the epilogue is
    /// the row context, or forms.
    pub fn conv_of_graph(
        shape: Shape,
        halves: u32,
        epilogue: Epilogue,
        precision: Precision,
        reduction: Reduction,
    ) -> Self {
        Self::of_shape(Family::Graph, shape, halves, epilogue, precision, reduction)
    }

    fn of_shape(
        family: Family,
        shape: Shape,
        halves: u32,
        epilogue: Epilogue,
        precision: Precision,
        reduction: Reduction,
    ) -> Self {
        let kernel = match shape {
            Shape::Tiled { .. } => Kernel::Tiled(family, precision),
            Shape::Split { .. } => Kernel::Split(family, precision, reduction),
        };
        let mut constants = vec![("HALVES", halves)];
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

    /// Read-write buffers, and tables after them, that it binds.
    pub fn bindings(&self) -> u32 {
        self.arenas + self.kernel.table_count()
    }

    /// The same for `arenas` arenas.
    pub fn in_arenas(self, arenas: u32) -> Self {
        Self { arenas, ..self }
    }

    /// A kernel of which an invocation does a pixel of a row.
    pub fn of_row(kernel: Kernel) -> Self {
        Self { kernel, arenas: 1, constants: vec![("THREADS", THREADS)] }
    }

    /// The sampling kernel for a number of parameters, in quads, of quads that logits are in, and of draws a pixel.
    pub fn sample(team: Team, drawn: [u32; 3], phi: Activation, coherent: bool) -> Self {
        Self::drawing(Kernel::Sample { coherent }, team, drawn, phi)
    }

    /// The chain kernel, for the same.
    pub fn chain(team: Team, drawn: [u32; 3], phi: Activation, coherent: bool) -> Self {
        let mut chain = Self::drawing(Kernel::Chain { coherent, graph: None }, team, drawn, phi);
        chain.constants.extend([("QUADS", team.quads), ("ADDERS", team.adders)]);
        chain
    }

    /// The kernel that ends a step of a graph's pixel, in which `channels` channels are drawn.
    pub fn draw(drawn_from: DrawnFrom, step: u32, channels: u32) -> Self {
        let kernel = Kernel::Draw(drawn_from);
        let mut variant =
            Self::drawing_graph(kernel, Team::of_pixel(THREADS), drawn_from, channels, BLOCKS);
        variant.constants.push(("STEP", step));
        variant
    }

    /// The chain kernel of a graph, in each of whose steps `channels` channels are drawn.
    pub fn chain_of_graph(team: Team, drawn_from: DrawnFrom, channels: u32, coherent: bool) -> Self {
        let kernel = Kernel::Chain { coherent, graph: Some(drawn_from) };
        let mut variant = Self::drawing_graph(kernel, team, drawn_from, channels, BLOCKS_OF_CHAIN);
        variant.constants.extend([("QUADS", team.quads), ("ADDERS", team.adders)]);
        variant
    }

    fn drawing_graph(
        kernel: Kernel,
        team: Team,
        drawn_from: DrawnFrom,
        channels: u32,
        blocks: u32,
    ) -> Self {
        let mut constants = match drawn_from {
            DrawnFrom::Mixture => vec![("PARTS", parts_of_draw(team))],
            DrawnFrom::Softmax => vec![("CHANNELS", channels), ("BLOCKS", blocks)],
            DrawnFrom::Bernoulli => vec![("CHANNELS", channels)],
        };
        constants.extend([("THREADS", team.threads), ("IMAGES", team.images)]);
        Self { kernel, arenas: 1, constants }
    }

    fn drawing(kernel: Kernel, team: Team, [parameters, logits, draws]: [u32; 3], phi: Activation) -> Self {
        let constants = vec![
            nonlinearity_constant(phi),
            ("THREADS", team.threads),
            ("IMAGES", team.images),
            ("PARTS", parts_of_draw(team)),
            ("PARAMETERS", parameters),
            ("LOGITS", logits),
            ("DRAWS", draws),
        ];
        Self { kernel, arenas: 1, constants }
    }

    /// Quads of inputs that an invocation of a tile multiplies between two barriers; 1 for other kernels.
    pub fn turns_of_chunk(&self) -> u32 {
        let constant =
            |name| self.constants.iter().find(|(k, _)| *k == name).map_or(1, |&(_, value)| value);
        constant("CHUNK") / constant("PARTS")
    }

    /// Values of the shader's overrides.
    pub fn overrides(&self) -> Vec<(&'static str, f64)> {
        let mut overrides: Vec<_> = self.constants.iter().map(|&(k, v)| (k, f64::from(v))).collect();
        let is_conv = matches!(self.kernel, Kernel::Tiled(..) | Kernel::Split(..) | Kernel::ShowRow(_));
        if !is_conv {
            overrides.push(("NOT_FINITE", f64::from(NOT_FINITE)));
        }
        overrides
    }
}
