//! PixelCNN++ as a graph, mirroring Salimans et al. 2017, *PixelCNN++* (arXiv 1701.05517,
//! `pixel_cnn_pp/model.py` of openai/pixel-cnn) line by line.

use std::collections::BTreeMap;

use super::{
    Activation, Encoding, Form, Graph, IMAGE, LayerKind, LayerSpec, NodeSpec, Slice, TapSpec, Term,
};
use crate::head::{Head, logistic_mixture};
use crate::model::{ClassPlace, Config, Nonlinearity};

/// The two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// `u`: sees the rows above.
    Vertical,
    /// `ul`: sees the rows above and the pixels to the left.
    Horizontal,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Vertical => "vertical",
            Self::Horizontal => "horizontal",
        }
    }

    /// Rows and columns of its convolutions' kernels.
    fn kernel(self) -> [usize; 2] {
        match self {
            Self::Vertical => [2, 3],
            Self::Horizontal => [2, 2],
        }
    }
}

/// The graph of an architecture.
pub fn graph(config: &Config) -> Graph {
    let mut net = Builder {
        config,
        graph: empty(config),
        phi: phi(config.nonlinearity),
        remembered: BTreeMap::new(),
    };
    let (levels, blocks) = (config.levels, config.blocks);
    let (mut u, mut ul) = net.input();
    let mut remembered = vec![(u, ul)];
    for level in 0..levels {
        for i in 0..blocks {
            u = net.block("up", level, i, Stream::Vertical, u, &[]);
            ul = net.block("up", level, i, Stream::Horizontal, ul, &[u]);
            remembered.push((u, ul));
        }
        if level + 1 < levels {
            u = net.strided(level, Stream::Vertical, u);
            ul = net.strided(level, Stream::Horizontal, ul);
            remembered.push((u, ul));
        }
    }
    remembered.pop();
    net.class_at_the_bottleneck(u, Stream::Vertical);
    net.class_at_the_bottleneck(ul, Stream::Horizontal);
    for &(u, ul) in &remembered {
        net.class_where_remembered(u);
        net.class_where_remembered(ul);
    }
    for level in (0..levels).rev() {
        for i in 0..blocks + usize::from(level + 1 < levels) {
            let (u_up, ul_up) = remembered.pop().expect("the up pass remembered as many");
            u = net.block("down", level, i, Stream::Vertical, u, &[u_up]);
            ul = net.block("down", level, i, Stream::Horizontal, ul, &[u, ul_up]);
        }
        if level > 0 {
            u = net.transposed(level, Stream::Vertical, u);
            ul = net.transposed(level, Stream::Horizontal, ul);
        }
    }
    net.output(ul);
    net.graph
}

/// The image only: levels are values in [−1, 1], and a channel of ones tells black from padding.
fn empty(config: &Config) -> Graph {
    let table =
        (0..logistic_mixture::LEVELS).map(|level| (f64::from(level as u32) - 127.5) / 127.5).collect();
    let image =
        NodeSpec { name: "image".to_owned(), level: 0, channels: config.channels + 1, forms: Vec::new() };
    Graph {
        height: config.height,
        width: config.width,
        classes: config.classes.len(),
        encodings: vec![Encoding { table, width: 1, channel: None, constants: vec![1.0] }],
        nodes: vec![image],
        layers: Vec::new(),
        head: Head::logistic_mixture(config.channels, config.mixtures),
        head_node: IMAGE,
        tensors: BTreeMap::new(),
    }
}

/// φ.
fn phi(nonlinearity: Nonlinearity) -> Activation {
    match nonlinearity {
        Nonlinearity::ConcatElu => Activation::ConcatElu,
        Nonlinearity::Elu => Activation::Elu,
        Nonlinearity::Relu => Activation::Relu,
    }
}

struct Builder<'a> {
    config: &'a Config,
    graph: Graph,
    /// φ.
    phi: Activation,
    /// By node, the class table added to its value where later layers read it.
    remembered: BTreeMap<usize, String>,
}

impl Builder<'_> {
    /// `u₀ = shift_down(vconv[2×3](x))`, `ul₀ = shift_down(vconv[1×3](x)) + shift_right(hconv[2×1](x))`.
    ///
    /// A shifted output has no bias on the row or column shifted in. Each convolution therefore adds its
    /// bias to the weight of the channel of ones, at the tap that falls on padding exactly there.
    fn input(&mut self) -> (usize, usize) {
        let mut shifted = |name: &str, shape, corner, bias_at: usize| {
            let mut taps = self.kernel(name, (IMAGE, 0), shape, corner, 1, 1);
            let bias = self.bias(name, 1);
            let Term::Product(slice) = &mut taps[bias_at].term else {
                unreachable!("kernels are products")
            };
            slice.bias = Some(bias);
            taps
        };
        let vertical = shifted("input.vertical", [2, 3], [-2, -1], 4);
        let above = shifted("input.above", [1, 3], [-1, -1], 1);
        let left = shifted("input.left", [2, 1], [-1, -1], 1);
        let mut layer = |name: &str, taps| {
            let additions = self.class_map(ClassPlace::Input, name, 0).into_iter().collect();
            self.layer(LayerKind::Input, name, 0, taps, additions)
        };
        (layer("input.vertical", vertical), layer("input.horizontal", [above, left].concat()))
    }

    /// The tensor `[K, outputs]` that a class adds at place `name`, if it adds anything at places of this
    /// kind.
    fn class_vector(&mut self, place: ClassPlace, name: &str, outputs: usize) -> Option<String> {
        let classes = self.config.classes.len();
        let is_there = self.config.class_places.contains(&place);
        is_there.then(|| self.tensor(&format!("{name}.class.weight"), &[classes, outputs]))
    }

    /// The same for a value of a level, `[K, F]` or `[K, rows, columns, F]`.
    fn class_map(&mut self, place: ClassPlace, name: &str, level: usize) -> Option<String> {
        let filters = self.config.filters;
        let name = self.class_vector(place, name, filters)?;
        if self.config.class_maps.contains(&name) {
            let [rows, columns] = [self.config.height, self.config.width].map(|n| n >> level);
            self.tensor(&name, &[self.config.classes.len(), rows, columns, filters]);
        }
        Some(name)
    }

    /// The class is added to the pair that the down pass starts from, which the up pass has not seen.
    fn class_at_the_bottleneck(&mut self, node: usize, stream: Stream) {
        let name = format!("bottleneck.{}", stream.name());
        let map = self.class_map(ClassPlace::Bottleneck, &name, self.graph.nodes[node].level);
        self.remembered.extend(map.map(|map| (node, map)));
    }

    /// The class is added to a remembered value when the down pass reads it, which the up pass has not seen.
    fn class_where_remembered(&mut self, node: usize) {
        let name = self.graph.nodes[node].name.trim_end_matches(".conv_out").to_owned();
        let filters = self.config.filters;
        let vector = self.class_vector(ClassPlace::Remembered, &format!("{name}.remembered"), filters);
        self.remembered.extend(vector.map(|vector| (node, vector)));
    }

    /// The index of an activation of a node's value plus its class table; the form is stored from now on.
    fn form(&mut self, node: usize, activation: Activation) -> usize {
        let form = match self.remembered.get(&node) {
            Some(class) => Form::shifted(activation, class),
            None => Form::of(activation),
        };
        let forms = &mut self.graph.nodes[node].forms;
        forms.iter().position(|other| *other == form).unwrap_or_else(|| {
            forms.push(form);
            forms.len() - 1
        })
    }

    /// `x' = x + a·σ(b)`, `[a, b] = conv_out(φ(conv_in(φ(x)) + skip(φ(aux)))) (+ class)`.
    fn block(
        &mut self,
        pass: &str,
        level: usize,
        i: usize,
        stream: Stream,
        x: usize,
        aux: &[usize],
    ) -> usize {
        let dilation = self.config.dilations[i];
        let corner = [-(dilation as isize); 2];
        let place = format!("{pass}.{level}.block.{i}.{}", stream.name());
        let filters = self.config.filters;

        let name = format!("{place}.conv_in");
        let form = self.form(x, self.phi);
        let mut taps = self.kernel(&name, (x, form), stream.kernel(), corner, dilation, 1);
        let mut additions = vec![self.bias(&name, 1)];
        if !aux.is_empty() {
            let skip = format!("{place}.skip");
            taps.extend(self.skip(&skip, aux));
            additions.push(self.bias(&skip, 1));
        }
        additions.extend(self.class_vector(ClassPlace::ConvIn, &name, filters));
        let hidden = self.layer(LayerKind::ConvIn, &name, level, taps, additions);

        let name = format!("{place}.conv_out");
        let form = self.form(hidden, self.phi);
        let taps = self.kernel(&name, (hidden, form), stream.kernel(), corner, dilation, 2);
        let mut additions = vec![self.bias(&name, 2)];
        additions.extend(self.class_vector(ClassPlace::ConvOut, &place, 2 * filters));
        let raw = self.form(x, Activation::Raw);
        let made = self.layer(LayerKind::ConvOut, &name, level, taps, additions);
        let layer = self.graph.layers.last_mut().expect("one was added");
        layer.gate = Some([Activation::Raw, Activation::Sigmoid]);
        layer.residual = Some((x, raw));
        made
    }

    /// From `level` to the next, at half the size.
    fn strided(&mut self, level: usize, stream: Stream, x: usize) -> usize {
        let name = format!("up.{level}.stride.{}", stream.name());
        let raw = self.form(x, Activation::Raw);
        let taps = self.kernel(&name, (x, raw), stream.kernel(), [-1, -1], 1, 1);
        let additions = vec![self.bias(&name, 1)];
        self.layer(LayerKind::Strided, &name, level + 1, taps, additions)
    }

    /// From `level` to the one before, at twice the size.
    ///
    /// As a gather: `in(k, m)` gives columns `2m` and `2m + 1` of row `2k + i`; for the vertical stream,
    /// whose kernel is three columns wide and cropped by one on each side, column `2m + 1` also reads
    /// `in(k, m + 1)`.
    fn transposed(&mut self, level: usize, stream: Stream, x: usize) -> usize {
        let name = format!("down.{level}.stride.{}", stream.name());
        let filters = self.config.filters;
        let [rows, columns] = stream.kernel();
        let tensor = self.tensor(&format!("{name}.weight"), &[rows, columns, filters, filters]);
        let additions = vec![self.bias(&name, 1)];
        let form = self.form(x, Activation::Raw);
        // Column parity, Δcolumn, column of the kernel.
        let terms: &[(usize, isize, usize)] = match stream {
            Stream::Vertical => &[(0, 0, 1), (1, 0, 2), (1, 1, 0)],
            Stream::Horizontal => &[(0, 0, 0), (1, 0, 1)],
        };
        let taps = (0..rows).flat_map(|i| terms.iter().map(move |term| (i, *term)));
        let tap = |(i, (parity, column, j))| {
            let slice = Slice { tensor: tensor.clone(), kernel: [i, j], groups: vec![0], bias: None };
            TapSpec {
                source: x,
                form,
                row: 0,
                column,
                phase: Some([i, parity]),
                term: Term::Product(slice),
            }
        };
        let taps = taps.map(tap).collect();
        self.layer(LayerKind::Transposed, &name, level - 1, taps, additions)
    }

    /// `nin(elu(ul))`: the mixture parameters.
    fn output(&mut self, ul: usize) {
        let (inputs, outputs) = (self.config.filters, self.graph.head.parameters());
        // elu is all of φ, or its first group, unless φ is relu.
        let form = match self.config.nonlinearity {
            Nonlinearity::Relu => self.form(ul, Activation::Elu),
            Nonlinearity::Elu | Nonlinearity::ConcatElu => self.form(ul, self.phi),
        };
        let tensor = self.tensor("output.weight", &[inputs, outputs]);
        let slice = Slice { tensor, kernel: [0, 0], groups: vec![0], bias: None };
        let tap = TapSpec { source: ul, form, row: 0, column: 0, phase: None, term: Term::Product(slice) };
        let mut additions = vec![self.tensor("output.bias", &[outputs])];
        additions.extend(self.class_vector(ClassPlace::Output, "output", outputs));
        let node = self.layer(LayerKind::Output, "output", 0, vec![tap], additions);
        self.graph.nodes[node].channels = outputs;
        self.graph.nodes[node].forms.push(Form::of(Activation::Raw));
        self.graph.head_node = node;
    }

    /// Taps of a convolution to `halves · filters` channels whose first tap is at `corner`, the others
    /// `dilation` pixels apart.
    fn kernel(
        &mut self,
        name: &str,
        (source, form): (usize, usize),
        shape: [usize; 2],
        corner: [isize; 2],
        dilation: usize,
        halves: usize,
    ) -> Vec<TapSpec> {
        let channels = self.graph.nodes[source].channels;
        let groups: Vec<_> =
            (0..self.graph.form_len(source, form) / channels).map(|g| g * channels).collect();
        let (inputs, filters) = (groups.len() * channels, self.config.filters);
        let [rows, columns] = shape;
        let tensor = self.tensor(&format!("{name}.weight"), &[rows, columns, inputs, halves * filters]);
        let mut taps = Vec::new();
        for i in 0..rows {
            for j in 0..columns {
                let slice =
                    Slice { tensor: tensor.clone(), kernel: [i, j], groups: groups.clone(), bias: None };
                taps.push(TapSpec {
                    source,
                    form,
                    row: corner[0] + (i * dilation) as isize,
                    column: corner[1] + (j * dilation) as isize,
                    phase: None,
                    term: Term::Product(slice),
                });
            }
        }
        taps
    }

    /// `nin(φ(aux))` of the concatenated `aux`, a tap for each of them.
    fn skip(&mut self, name: &str, aux: &[usize]) -> Vec<TapSpec> {
        let (filters, count) = (self.config.filters, self.phi.groups());
        let inputs = count * aux.len() * filters;
        let tensor = self.tensor(&format!("{name}.weight"), &[inputs, filters]);
        let mut taps = Vec::new();
        for (nth, &source) in aux.iter().enumerate() {
            // concat_elu([p, q]) = elu([p, q, −p, −q])
            let groups = (0..count).map(|g| (g * aux.len() + nth) * filters).collect();
            let slice = Slice { tensor: tensor.clone(), kernel: [0, 0], groups, bias: None };
            let form = self.form(source, self.phi);
            taps.push(TapSpec { source, form, row: 0, column: 0, phase: None, term: Term::Product(slice) });
        }
        taps
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> String {
        self.graph.tensors.insert(name.to_owned(), shape.to_vec());
        name.to_owned()
    }

    fn bias(&mut self, name: &str, halves: usize) -> String {
        self.tensor(&format!("{name}.bias"), &[halves * self.config.filters])
    }

    /// Adds a layer that makes a node of its own; returns that.
    fn layer(
        &mut self,
        kind: LayerKind,
        name: &str,
        level: usize,
        taps: Vec<TapSpec>,
        additions: Vec<String>,
    ) -> usize {
        let channels = self.config.filters;
        let (name, target) = (name.to_owned(), self.graph.nodes.len());
        self.graph.nodes.push(NodeSpec { name: name.clone(), level, channels, forms: Vec::new() });
        self.graph.layers.push(LayerSpec {
            name,
            kind,
            target,
            taps,
            additions,
            gate: None,
            residual: None,
            pre: None,
        });
        target
    }
}
