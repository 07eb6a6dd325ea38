//! Random graphs, causal by construction, and their files.

#![allow(dead_code, reason = "every test file uses its own part of this module")]

use std::collections::{BTreeMap, HashMap};

use fastrand::Rng;
use pixelcnn::internals::graph::{
    Activation, Encoding, Form, Graph, IMAGE, LayerKind, LayerSpec, NodeSpec, Slice, TapSpec, Tensors, Term,
};
use pixelcnn::internals::head::{Head, HeadKind};
use pixelcnn::internals::model::Model;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// The properties of a random graph; the rest follows from its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rows and columns of the coarsest level.
    pub units: [usize; 2],
    /// Resolutions.
    pub levels: usize,
    /// Layers before the one of the head.
    pub layers: usize,
    /// Channels of a node, at most.
    pub widest: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Levels of a channel, where the head leaves a choice.
    pub symbols: usize,
    pub head: HeadPlan,
    pub classes: usize,
    pub streams: Streams,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadPlan {
    Softmax,
    SoftmaxInSteps,
    Bernoulli,
    BernoulliInSteps,
    Mixture,
}

/// Pixels that nodes may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Anything.
    All,
    /// Pixels before their own.
    Pixels,
    /// Rows above.
    Rows,
}

/// The latest pixel that a node sees, relative to its own.
type Seen = (isize, isize);

/// A graph with its tensors.
#[derive(Clone, Debug)]
pub struct Made {
    pub graph: Graph,
    pub tensors: Tensors,
}

/// Makes the graph of a plan.
pub fn make(plan: &Plan) -> Made {
    let rng = Rng::with_seed(plan.seed);
    let channels = if plan.head == HeadPlan::Mixture { [1, 3][plan.channels % 2] } else { plan.channels };
    let symbols = plan.symbols;
    let head = match plan.head {
        HeadPlan::Softmax => Head::softmax(channels, symbols, false),
        HeadPlan::SoftmaxInSteps => Head::softmax(channels, symbols, true),
        HeadPlan::Bernoulli => Head::bernoulli(channels, false),
        HeadPlan::BernoulliInSteps => Head::bernoulli(channels, true),
        HeadPlan::Mixture => Head::logistic_mixture(channels, 1 + symbols % 3),
    };
    let [height, width] = plan.units.map(|units| units << (plan.levels - 1));
    let graph = Graph {
        height,
        width,
        classes: plan.classes,
        encodings: Vec::new(),
        nodes: Vec::new(),
        layers: Vec::new(),
        head,
        head_node: 0,
        tensors: BTreeMap::new(),
    };
    let mut maker = Maker {
        plan,
        rng,
        graph,
        tensors: Tensors::new(),
        seen: Vec::new(),
        masks: Vec::new(),
        sizes: Vec::new(),
    };
    maker.image();
    for _ in 0..plan.layers {
        maker.layer();
    }
    maker.head();
    let Maker { mut graph, tensors, .. } = maker;
    graph.tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    Made { graph, tensors }
}

struct Maker<'a> {
    plan: &'a Plan,
    rng: Rng,
    graph: Graph,
    tensors: Tensors,
    /// By node; none if it sees no pixel.
    seen: Vec<Option<Seen>>,
    /// For nodes that see channels of their own pixel: for each channel, their number. Then they see `(0,
    /// 0)`.
    masks: Vec<Option<Vec<usize>>>,
    /// About how large values are.
    sizes: Vec<f32>,
}

/// Something that a layer may read.
#[derive(Clone, Copy)]
struct Source {
    node: usize,
    form: usize,
    numbers: usize,
    size: f32,
}

impl Maker<'_> {
    fn chance(&mut self, of_ten: u32) -> bool {
        self.rng.u32(..10) < of_ten
    }

    fn uniform(&mut self, range: f32) -> f32 {
        (2.0 * self.rng.f32() - 1.0) * range
    }

    /// A tensor of random numbers, which 16 bits can hold.
    fn tensor(&mut self, kind: &str, shape: Vec<usize>, middle: f32, range: f32) -> String {
        let name = format!("{kind}.{}", self.tensors.len());
        let count = shape.iter().product();
        let mut number = || half::f16::from_f32(middle + self.uniform(range)).to_f32();
        let data = (0..count).map(|_| number()).collect();
        self.tensors.insert(name.clone(), pixelcnn::internals::model::weights::Tensor { shape, data });
        name
    }

    /// A table of `width` numbers for classes and places, with some of the axes.
    fn table(&mut self, kind: &str, level: usize, width: usize, middle: f32) -> String {
        let (k, rows, columns) =
            (self.plan.classes.max(1), self.graph.height >> level, self.graph.width >> level);
        let shapes = [
            vec![width],
            vec![k, width],
            vec![1, width],
            vec![1, 1, 1, width],
            vec![k, 1, 1, width],
            vec![1, rows, 1, width],
            vec![1, 1, columns, width],
            vec![1, rows, columns, width],
            vec![k, rows, 1, width],
            vec![k, rows, columns, width],
        ];
        let shape = shapes[self.rng.usize(..shapes.len())].clone();
        self.tensor(kind, shape, middle, 0.3)
    }

    fn image(&mut self) {
        let (levels, channels) = (self.graph.head.levels(), self.graph.head.channels());
        let mut kinds = vec![(1, None), (3, None)];
        if levels <= 5 {
            kinds.push((levels, None));
        }
        for channel in 0..channels {
            kinds.extend([(1, Some(channel)), (2, Some(channel))]);
        }
        self.rng.shuffle(&mut kinds);
        kinds.truncate(1 + self.rng.usize(..3));
        for (width, channel) in kinds {
            let one_hot = width == levels && self.rng.bool();
            let table = (0..levels * width).map(|i| match one_hot {
                true => f64::from(u8::from(i / width == i % width)),
                false => f64::from(self.rng.f32()) * 2.0 - 1.0,
            });
            let table = table.collect();
            self.graph.encodings.push(Encoding { table, width, channel, constants: Vec::new() });
        }
        let channels = self.graph.encodings[0].len(channels);
        self.graph.nodes.push(NodeSpec { name: "image".to_owned(), level: 0, channels, forms: Vec::new() });
        self.seen.push(Some((0, 0)));
        self.masks.push(None);
        self.sizes.push(1.0);
    }

    /// An activation that keeps numbers of this size moderate.
    fn activation(&mut self, size: f32) -> Activation {
        loop {
            let activation = match Activation::ALL[self.rng.usize(..Activation::ALL.len())] {
                Activation::LeakyRelu(_) => Activation::LeakyRelu([0.01, 0.2, -0.5][self.rng.usize(..3)]),
                other => other,
            };
            if activation != Activation::Exp || size <= 2.0 {
                return activation;
            }
        }
    }

    fn node(&mut self, name: &str, level: usize, channels: usize) -> usize {
        let node = self.graph.nodes.len();
        let name = format!("{name} {node}");
        self.graph.nodes.push(NodeSpec { name, level, channels, forms: Vec::new() });
        self.seen.push(None);
        self.masks.push(None);
        self.sizes.push(1.0);
        node
    }

    fn forms(&mut self, node: usize) {
        let NodeSpec { level, channels, .. } = self.graph.nodes[node];
        let mut forms = if self.rng.bool() || node == self.graph.head_node {
            vec![Form::of(Activation::Raw)]
        } else {
            Vec::new()
        };
        for _ in 0..1 + self.rng.usize(..3) {
            let scale = self.chance(2).then(|| self.table("scale", level, channels, 1.0));
            let shift = self.chance(3).then(|| self.table("shift", level, channels, 0.0));
            let activation = self.activation(self.sizes[node] + 0.5);
            forms.push(Form { activation, negate: self.chance(2), scale, shift });
        }
        self.graph.nodes[node].forms = forms;
    }

    /// A form of a node that a layer of a level can read.
    fn source(&mut self, level: usize) -> Source {
        let fits = |node: &usize| self.graph.nodes[*node].level.abs_diff(level) <= 1;
        let nodes: Vec<_> = (0..self.graph.nodes.len()).filter(fits).filter(|n| self.is_made(*n)).collect();
        // The newest ones more often, so that not too much is in vain.
        let node = match nodes.is_empty() {
            true => IMAGE,
            false => {
                let i = self.rng.usize(..nodes.len());
                nodes[if self.rng.bool() { i } else { i.max(self.rng.usize(..nodes.len())) }]
            }
        };
        let forms =
            if node == IMAGE { self.graph.encodings.len() } else { self.graph.nodes[node].forms.len() };
        let form = self.rng.usize(..forms);
        self.form(node, form)
    }

    fn is_made(&self, node: usize) -> bool {
        node == IMAGE || self.graph.layers.iter().any(|l| l.target == node || l.pre == Some(node))
    }

    fn form(&self, node: usize, form: usize) -> Source {
        let size = self.sizes[node] + 0.5;
        let size = match node {
            IMAGE => 1.0,
            _ if self.graph.nodes[node].forms[form].activation == Activation::Exp => size.exp(),
            _ => size,
        };
        Source { node, form, numbers: self.graph.form_len(node, form), size }
    }

    /// The pixels that the target sees through a tap.
    fn through(
        &self,
        source: usize,
        level: usize,
        place: [isize; 2],
        phase: Option<[usize; 2]>,
    ) -> Option<Seen> {
        let of_source = self.graph.nodes[source].level;
        let [down, right] = [0, 1].map(|axis| match phase {
            Some(phase) => (2 * place[axis] - phase[axis] as isize) << level,
            None => place[axis] << of_source,
        });
        self.seen[source].map(|(row, column)| (row + down, column + right))
    }

    /// Places of a kernel from which a layer may read a source, at random.
    fn places(
        &mut self,
        source: usize,
        level: usize,
        limit: Seen,
        phase: Option<[usize; 2]>,
    ) -> Vec<[isize; 2]> {
        let [rows, columns] = match self.rng.u32(..6) {
            0..3 => [1, 1],
            3 => [1, 1 + self.rng.isize(0..5)],
            4 => [1 + self.rng.isize(0..3), 1 + self.rng.isize(0..3)],
            _ => [3 + self.rng.isize(0..2), 3 + self.rng.isize(0..3)],
        };
        let dilation = [1, 1, 1, 2, 3][self.rng.usize(..5)];
        let corner = [rows, columns].map(|n| -dilation * self.rng.isize(0..=n) + self.rng.isize(-1..=1));
        let all = (0..rows).flat_map(|i| (0..columns).map(move |j| [i, j]));
        let mut places: Vec<_> =
            all.map(|[i, j]| [corner[0] + dilation * i, corner[1] + dilation * j]).collect();
        let fits = |place: &[isize; 2]| self.through(source, level, *place, phase) <= Some(limit);
        places.retain(fits);
        if places.is_empty() {
            // As far up as needed, or in the row as far to the left.
            for row in (-9..=1).rev() {
                let mut columns: Vec<isize> = (-6..=2).collect();
                self.rng.shuffle(&mut columns);
                let place = columns
                    .into_iter()
                    .map(|column| [row, column])
                    .find(fits_in(self, source, level, limit, phase));
                if let Some(place) = place {
                    return vec![place];
                }
            }
        }
        places
    }

    /// Weights `[inputs, outputs]`, so small that the sum of `terms` of them is of size 1.
    fn weights(&mut self, source: Source, outputs: usize, terms: usize) -> String {
        let shape = vec![source.numbers, outputs];
        let old = self.tensors.iter().filter(|(name, t)| name.starts_with("weight") && t.shape == shape);
        let old: Vec<_> = old.map(|(name, _)| name.clone()).collect();
        if !old.is_empty() && source.size <= 2.0 && self.chance(2) {
            return old[self.rng.usize(..old.len())].clone();
        }
        let range = 0.9 / ((source.numbers * terms) as f32).sqrt() / source.size.max(1.0);
        let range = if self.rng.u32(..30) == 0 { 0.0 } else { range };
        self.tensor("weight", shape, 0.0, range)
    }

    /// For each number of a form, the number of channels of its pixel that must be known.
    fn needs(&self, source: Source) -> Option<Vec<usize>> {
        let of_channel: Vec<usize> = match source.node {
            IMAGE => {
                let encoding = &self.graph.encodings[source.form];
                let channel = |number: usize| encoding.channel.unwrap_or(number / encoding.width);
                return Some((0..source.numbers).map(|number| channel(number) + 1).collect());
            }
            node => self.masks[node].clone()?,
        };
        Some((0..source.numbers).map(|number| of_channel[number % of_channel.len()]).collect())
    }

    /// The taps of a layer whose target sees nothing after `limit`; with `mask`, channels of its own pixel too.
    fn taps(&mut self, level: usize, outputs: usize, limit: Seen, mask: Option<&[usize]>) -> Vec<TapSpec> {
        let mut taps = Vec::new();
        let kernels = 1 + self.rng.usize(..3);
        for _ in 0..kernels {
            let source = self.source(level);
            let of_source = self.graph.nodes[source.node].level;
            let phases: Vec<_> = match of_source > level {
                true if self.chance(2) => vec![Some([self.rng.usize(..2), self.rng.usize(..2)])],
                true => (0..4).filter(|_| self.chance(7)).map(|i| Some([i / 2, i % 2])).collect(),
                false => vec![None],
            };
            for phase in phases {
                let places = self.places(source.node, level, limit, phase);
                let terms = kernels * places.len().max(1);
                for [row, column] in places {
                    let is_selected = source.size <= 2.5 && self.chance(2);
                    let term = match is_selected {
                        true => {
                            let count = 1 + self.rng.usize(..source.numbers.min(outputs));
                            let first = self.rng.usize(..=source.numbers - count);
                            let output = self.rng.usize(..=outputs - count);
                            Term::Select { channels: first..first + count, outputs: output }
                        }
                        false => product(self.weights(source, outputs, terms)),
                    };
                    let is_many = is_selected && taps.len() > 8;
                    if !is_many {
                        taps.push(TapSpec {
                            source: source.node,
                            form: source.form,
                            row,
                            column,
                            phase,
                            term,
                        });
                    }
                }
            }
            if let Some(mask) = mask.filter(|_| of_source == 0 && level == 0) {
                self.masked_tap(source, outputs, mask, &mut taps);
            }
        }
        taps
    }

    /// A tap at the same pixel, of channels that are known when the target's are computed.
    fn masked_tap(&mut self, source: Source, outputs: usize, mask: &[usize], taps: &mut Vec<TapSpec>) {
        let Some(needs) = self.needs(source) else { return };
        let fits = |number: usize, output: usize| needs[number] <= mask[output % mask.len()];
        let tap =
            |term| TapSpec { source: source.node, form: source.form, row: 0, column: 0, phase: None, term };
        if source.size <= 2.5 && self.rng.bool() {
            for _ in 0..3 {
                let (number, output) = (self.rng.usize(..source.numbers), self.rng.usize(..outputs));
                if fits(number, output) {
                    taps.push(tap(Term::Select { channels: number..number + 1, outputs: output }));
                }
            }
            return;
        }
        let range = 0.9 / (source.numbers as f32).sqrt() / source.size.max(1.0);
        let name = self.tensor("masked", vec![source.numbers, outputs], 0.0, range);
        let data = &mut self.tensors.get_mut(&name).unwrap().data;
        for (number, row) in data.chunks_mut(outputs).enumerate() {
            let is_hidden = |(output, _): &(usize, &mut f32)| !fits(number, *output);
            row.iter_mut().enumerate().filter(is_hidden).for_each(|(_, w)| *w = 0.0);
        }
        taps.push(tap(product(name)));
    }

    /// A layer that computes a node, and perhaps another.
    fn layer(&mut self) {
        let reached = self.graph.nodes.iter().map(|node| node.level).max().unwrap_or(0) + 2;
        let level = self.rng.usize(..self.plan.levels.min(reached));
        let channels = 1 + self.rng.usize(..self.plan.widest);
        let far = 60;
        let limit = match (self.plan.streams, self.rng.u32(..14)) {
            (Streams::Rows, _) => (-1, far),
            (Streams::Pixels, _) | (_, 0..4) => (0, -1),
            (_, 4..7) => (-1, far),
            (_, 7..9) => (0, self.rng.isize(0..3)),
            (_, 9..11) => (0, far),
            (_, 11) => (1, self.rng.isize(-3..far)),
            (_, 12) => (-2, far),
            _ => (-4, far),
        };
        let steps = self.graph.head.steps();
        let mask: Option<Vec<usize>> = (steps > 1 && level == 0 && limit == (0, -1) && self.chance(7))
            .then(|| {
                let is_in_turns = self.rng.bool();
                let step = |k: usize| if is_in_turns { k % steps } else { k * steps / channels };
                (0..channels).map(step).collect()
            });
        self.finish(None, level, channels, limit, mask);
    }

    fn head(&mut self) {
        let (head, channels) = (self.graph.head, self.graph.head.parameters());
        let limit = if self.plan.streams == Streams::Rows { (-1, 60) } else { (0, -1) };
        let of_channel = channels / head.channels();
        let mask = (head.steps() > 1).then(|| (0..channels).map(|k| k / of_channel).collect());
        let node = self.node("head", 0, channels);
        self.graph.head_node = node;
        self.finish(Some(node), 0, channels, limit, mask);
    }

    fn finish(
        &mut self,
        head: Option<usize>,
        level: usize,
        channels: usize,
        limit: Seen,
        mask: Option<Vec<usize>>,
    ) {
        let gate = self.chance(4).then(|| {
            let mut function = || loop {
                let f = self.activation(1.5);
                // In a file they are names, without slopes.
                if f != Activation::ConcatElu && !matches!(f, Activation::LeakyRelu(_)) {
                    return f;
                }
            };
            [function(), function()]
        });
        let halves = if gate.is_some() { 2 } else { 1 };
        let outputs = halves * channels;
        let taps = self.taps(level, outputs, limit, mask.as_deref());
        let residual =
            self.chance(4).then(|| self.residual(level, channels, limit, mask.as_deref())).flatten();

        let mut seen = None;
        for tap in &taps {
            let is_masked = mask.is_some() && (tap.row, tap.column, tap.phase) == (0, 0, None);
            let through = match is_masked && self.needs(self.form(tap.source, tap.form)).is_some() {
                true => Some((0, 0)),
                false => self.through(tap.source, level, [tap.row, tap.column], tap.phase),
            };
            seen = seen.max(through);
        }
        let of_residual = residual.and_then(|(node, _)| self.seen[node]);
        let seen = seen.max(of_residual);
        let is_masked = mask.is_some() && seen == Some((0, 0));
        let count = self.rng.usize(..4);
        let additions = (0..count)
            .map(|_| {
                let width = if self.rng.bool() { outputs } else { channels };
                self.table("addition", level, width, 0.0)
            })
            .collect();
        let node = head.unwrap_or_else(|| self.node("node", level, channels));
        let pre = self.chance(3).then(|| self.node("pre", level, outputs));
        let selected = taps.iter().any(|tap| matches!(tap.term, Term::Select { .. }));
        let size = if selected { 5.0 } else { 1.5 };
        for node in [Some(node), pre].into_iter().flatten() {
            self.seen[node] = seen;
            let count = self.graph.nodes[node].channels;
            let own = mask.as_ref().filter(|_| is_masked);
            self.masks[node] = own.map(|mask| mask.iter().copied().cycle().take(count).collect());
            self.sizes[node] = size;
        }
        if gate.is_some_and(|gate| gate.contains(&Activation::Exp)) || residual.is_some() {
            self.sizes[node] = 6.0;
        }
        self.forms(node);
        pre.into_iter().for_each(|pre| self.forms(pre));
        let name = format!("layer {}", self.graph.layers.len());
        let layer = LayerSpec {
            name,
            kind: LayerKind::Convolution,
            target: node,
            taps,
            additions,
            gate,
            residual,
            pre,
        };
        self.graph.layers.push(layer);
    }

    /// A form with one number per channel, of which a layer may see its own pixel.
    fn residual(
        &mut self,
        level: usize,
        channels: usize,
        limit: Seen,
        mask: Option<&[usize]>,
    ) -> Option<(usize, usize)> {
        let mut found = Vec::new();
        for node in (0..self.graph.nodes.len()).filter(|node| self.is_made(*node)) {
            let forms =
                if node == IMAGE { self.graph.encodings.len() } else { self.graph.nodes[node].forms.len() };
            for form in 0..forms {
                let source = self.form(node, form);
                let is_doubled =
                    node != IMAGE && self.graph.nodes[node].forms[form].activation == Activation::ConcatElu;
                let is_masked = mask.is_some_and(|mask| {
                    self.needs(source).is_some_and(|needs| {
                        needs.len() == mask.len() && needs.iter().zip(mask).all(|(n, m)| n <= m)
                    })
                });
                let fits = self.graph.nodes[node].level == level
                    && source.numbers == channels
                    && source.size <= 4.0
                    && !is_doubled
                    && (self.seen[node] <= Some(limit) || is_masked);
                if fits {
                    found.push((node, form));
                }
            }
        }
        (!found.is_empty()).then(|| found[self.rng.usize(..found.len())])
    }
}

/// True if a source may be read at a place.
fn fits_in<'a>(
    maker: &'a Maker,
    source: usize,
    level: usize,
    limit: Seen,
    phase: Option<[usize; 2]>,
) -> impl Fn(&[isize; 2]) -> bool + use<'a> {
    let seen = maker.seen[source];
    let of_source = maker.graph.nodes[source].level;
    move |place| {
        let [down, right] = [0, 1].map(|axis| match phase {
            Some(phase) => (2 * place[axis] - phase[axis] as isize) << level,
            None => place[axis] << of_source,
        });
        seen.map(|(row, column)| (row + down, column + right)) <= Some(limit)
    }
}

fn product(tensor: String) -> Term {
    Term::Product(Slice { tensor, kernel: [0, 0], groups: Vec::new(), bias: None })
}

impl Made {
    /// With the groups of its slices, which a file does not tell.
    pub fn complete(mut self) -> Self {
        let lengths = |graph: &Graph, tap: &TapSpec| match tap.source {
            IMAGE => [1, 0],
            source => {
                let node = &graph.nodes[source];
                [node.forms[tap.form].activation.groups(), node.channels]
            }
        };
        let graph = self.graph.clone();
        for tap in self.graph.layers.iter_mut().flat_map(|layer| &mut layer.taps) {
            let [groups, channels] = lengths(&graph, tap);
            if let Term::Product(slice) = &mut tap.term {
                slice.groups = (0..groups).map(|group| group * channels).collect();
            }
        }
        self
    }

    /// The graph as a model file has it.
    pub fn json(&self) -> Value {
        let graph = &self.graph;
        let name = |node: usize| graph.nodes[node].name.clone();
        let activation = |activation: Activation| match activation {
            Activation::LeakyRelu(slope) => json!({"activation": "leaky_relu", "slope": slope}),
            other => json!({"activation": other.name()}),
        };
        let form = |form: &Form| {
            let mut entry = activation(form.activation);
            for (key, table) in [("scale", &form.scale), ("shift", &form.shift)] {
                if let Some(table) = table {
                    entry[key] = json!(table);
                }
            }
            if form.negate {
                entry["negate"] = json!(true);
            }
            entry
        };
        let tap = |tap: &TapSpec| {
            let mut entry =
                json!({"source": name(tap.source), "form": tap.form, "row": tap.row, "column": tap.column});
            if let Some(phase) = tap.phase {
                entry["phase"] = json!(phase);
            }
            match &tap.term {
                Term::Product(slice) => entry["weight"] = json!(slice.tensor),
                Term::Select { channels, outputs } => {
                    entry["select"] = json!([channels.start, channels.end]);
                    entry["outputs"] = json!(outputs);
                }
            }
            entry
        };
        // A gate's functions are names without parameters.
        let layer = |layer: &LayerSpec| {
            let taps: Vec<_> = layer.taps.iter().map(tap).collect();
            let mut entry = json!({"name": layer.name, "target": name(layer.target), "taps": taps});
            if !layer.additions.is_empty() {
                entry["add"] = json!(layer.additions);
            }
            if let Some(gate) = layer.gate {
                entry["gate"] = json!(gate.map(Activation::name));
            }
            if let Some((node, form)) = layer.residual {
                entry["residual"] = json!([name(node), form]);
            }
            if let Some(pre) = layer.pre {
                entry["pre"] = json!(name(pre));
            }
            entry
        };
        let node = |node: &NodeSpec| {
            let forms: Vec<_> = node.forms.iter().map(form).collect();
            json!({"name": node.name, "channels": node.channels, "level": node.level, "forms": forms})
        };
        let encoding = |(i, encoding): (usize, &Encoding)| {
            let mut entry = json!({"table": format!("encoding.{i}")});
            if let Some(channel) = encoding.channel {
                entry["channel"] = json!(channel);
            }
            entry
        };
        let head = &graph.head;
        let kind = match head.kind() {
            HeadKind::Softmax => "softmax",
            HeadKind::Bernoulli => "bernoulli",
            HeadKind::LogisticMixture { .. } => "logistic_mixture",
        };
        json!({
            "canvas": [graph.height, graph.width, head.channels()],
            "classes": (0..graph.classes).map(|class| class.to_string()).collect::<Vec<_>>(),
            "levels": head.levels(),
            "encoding": graph.encodings.iter().enumerate().map(encoding).collect::<Vec<_>>(),
            "nodes": graph.nodes[1..].iter().map(node).collect::<Vec<_>>(),
            "layers": graph.layers.iter().map(layer).collect::<Vec<_>>(),
            "head": {"node": name(graph.head_node), "kind": kind, "steps": head.steps() > 1},
        })
    }

    /// The tensors of its file: those that are used, and the encodings.
    pub fn parts(&self) -> BTreeMap<String, Part> {
        let mut parts = BTreeMap::new();
        let used: Vec<_> = self.graph.tensor_names().collect();
        for (i, (name, tensor)) in
            self.tensors.iter().filter(|(name, _)| used.contains(&&name[..])).enumerate()
        {
            let (dtype, bytes) = match i % 2 {
                0 => (Dtype::F32, tensor.data.iter().flat_map(|w| w.to_le_bytes()).collect()),
                _ => {
                    let half = |w: &f32| half::f16::from_f32(*w).to_le_bytes();
                    (Dtype::F16, tensor.data.iter().flat_map(half).collect())
                }
            };
            parts.insert(name.clone(), Part { dtype, shape: tensor.shape.clone(), bytes });
        }
        for (i, encoding) in self.graph.encodings.iter().enumerate() {
            let levels = encoding.table.len() / encoding.width;
            let shape = if encoding.width == 1 { vec![levels] } else { vec![levels, encoding.width] };
            let bytes = encoding.table.iter().flat_map(|x| x.to_le_bytes()).collect();
            parts.insert(format!("encoding.{i}"), Part { dtype: Dtype::F64, shape, bytes });
        }
        parts
    }

    /// The file that holds it.
    pub fn file(&self) -> Vec<u8> {
        file(&self.json().to_string(), &self.parts())
    }

    /// Loads it.
    pub fn load(&self) -> Result<Model, String> {
        Model::from_bytes(&self.file(), "random").map_err(|error| error.to_string())
    }
}

/// A tensor of a file.
#[derive(Clone, Debug)]
pub struct Part {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// A model file of a graph's text and tensors.
pub fn file(graph: &str, parts: &BTreeMap<String, Part>) -> Vec<u8> {
    let views = parts.iter().map(|(name, part)| {
        (name.clone(), TensorView::new(part.dtype, part.shape.clone(), &part.bytes).unwrap())
    });
    let metadata = [("format", "pixelcnn-2"), ("version", "1.0"), ("graph", graph)];
    let metadata: HashMap<_, _> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    safetensors::serialize(views, Some(metadata)).unwrap()
}
