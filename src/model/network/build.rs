//! From an architecture to its graph: where the published network is written down.

use std::collections::BTreeMap;

use super::{Activation, Form, Kind, Layer, MAX_TAPS, Network, Node, Stream, Tap, padded};
use crate::model::schedule::{self, Edge, Rate};
use crate::model::{ClassPlace, Config, Nonlinearity};

impl Network {
    /// Builds the graph of an architecture.
    pub fn new(config: &Config) -> Self {
        let mut net = Self {
            config: config.clone(),
            nodes: Vec::new(),
            layers: Vec::new(),
            tensors: BTreeMap::new(),
        };
        let (levels, blocks) = (config.levels, config.blocks);
        let image = net.node("image", Stream::Horizontal, 0, config.channels + 1);
        let (mut u, mut ul) = net.input(image);
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
        net.class_at_the_bottleneck(u, ul);
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
        net.finish();
        net
    }

    /// `u₀ = shift_down(vconv[2×3](x))`, `ul₀ = shift_down(vconv[1×3](x)) + shift_right(hconv[2×1](x))`.
    ///
    /// A shifted output has no bias on the row or column shifted in. Each convolution therefore adds its
    /// bias to the weight of the channel of ones, at the tap that falls on padding exactly there.
    fn input(&mut self, image: usize) -> (usize, usize) {
        let mut shifted = |name: &str, shape, corner, bias_at: usize| {
            let mut taps = self.kernel(name, (image, Form::RAW), shape, corner, 1, 1);
            taps[bias_at].ones_bias = Some(self.bias_tensor(name, 1));
            taps
        };
        let vertical = shifted("input.vertical", [2, 3], [-2, -1], 4);
        let above = shifted("input.above", [1, 3], [-1, -1], 1);
        let left = shifted("input.left", [2, 1], [-1, -1], 1);
        let u = self.layer(Kind::Input, Stream::Vertical, "input.vertical", 0, vertical);
        let taps = [above, left].concat();
        let ul = self.layer(Kind::Input, Stream::Horizontal, "input.horizontal", 0, taps);
        [u, ul]
            .map(|layer| {
                let additions = self.class_map(ClassPlace::Input, &layer.name, 0).into_iter().collect();
                self.push(Layer { additions, ..layer })
            })
            .into()
    }

    /// The tensor `[K, outputs]` of what a class adds at a place `name`, if it adds anything at places of this kind.
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
    fn class_at_the_bottleneck(&mut self, u: usize, ul: usize) {
        for node in [u, ul] {
            let Node { stream, level, .. } = self.nodes[node];
            let name = format!("bottleneck.{}", stream.name());
            self.nodes[node].class = self.class_map(ClassPlace::Bottleneck, &name, level);
        }
    }

    /// The class is added to a remembered value when the down pass reads it, which the up pass has not seen.
    fn class_where_remembered(&mut self, node: usize) {
        let name = self.nodes[node].name.trim_end_matches(".conv_out").to_owned();
        let filters = self.config.filters;
        let vector = self.class_vector(ClassPlace::Remembered, &format!("{name}.remembered"), filters);
        self.nodes[node].class = vector;
    }

    /// The form in which the down pass reads a value of the up pass.
    fn with_class(&self, node: usize, form: Form) -> Form {
        if self.nodes[node].class.is_some() { form.of_class() } else { form }
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
        let source = (x, self.with_class(x, Form::PHI));
        let mut taps = self.kernel(&name, source, stream.kernel(), corner, dilation, 1);
        let mut additions = vec![self.bias_tensor(&name, 1)];
        if !aux.is_empty() {
            let skip = format!("{place}.skip");
            taps.extend(self.skip(&skip, aux));
            additions.push(self.bias_tensor(&skip, 1));
        }
        additions.extend(self.class_vector(ClassPlace::ConvIn, &name, filters));
        let conv_in = self.layer(Kind::ConvIn, stream, &name, level, taps);
        let hidden = self.push(Layer { additions, ..conv_in });

        let name = format!("{place}.conv_out");
        let taps = self.kernel(&name, (hidden, Form::PHI), stream.kernel(), corner, dilation, 2);
        let mut additions = vec![self.bias_tensor(&name, 2)];
        additions.extend(self.class_vector(ClassPlace::ConvOut, &place, 2 * filters));
        let conv_out = self.layer(Kind::ConvOut, stream, &name, level, taps);
        let residual = Some((x, self.with_class(x, Form::RAW)));
        self.push(Layer { additions, halves: 2, residual, ..conv_out })
    }

    /// From `level` to the next, at half the size.
    fn strided(&mut self, level: usize, stream: Stream, x: usize) -> usize {
        let name = format!("up.{level}.stride.{}", stream.name());
        let taps = self.kernel(&name, (x, Form::RAW), stream.kernel(), [-1, -1], 1, 1);
        let additions = vec![self.bias_tensor(&name, 1)];
        let strided = self.layer(Kind::Strided, stream, &name, level + 1, taps);
        self.push(Layer { additions, ..strided })
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
        let additions = vec![self.bias_tensor(&name, 1)];
        let mut target = None;
        for i in 0..rows {
            let at = |j| Some(([i, j], 0));
            let terms = match stream {
                Stream::Vertical => vec![(0, vec![at(1), at(2)]), (1, vec![None, at(0)])],
                Stream::Horizontal => vec![(0, vec![at(0), at(1)])],
            };
            let taps = terms.into_iter().map(|(column, halves)| Tap {
                source: x,
                form: Form::RAW,
                row: 0,
                column,
                channels: filters,
                tensor: tensor.clone(),
                groups: vec![0],
                halves,
                ones_bias: None,
            });
            let layer = Layer {
                grid: level,
                row_parity: Some(i),
                halves: 2,
                additions: additions.clone(),
                ..self.layer(Kind::Transposed, stream, &name, level - 1, taps.collect())
            };
            target = Some(self.push_into(target, layer));
        }
        target.expect("a kernel has rows")
    }

    /// `nin(elu(ul))`: the mixture parameters.
    fn output(&mut self, ul: usize) {
        let (inputs, outputs) = (self.config.filters, self.config.parameters_per_pixel());
        let tap = Tap {
            source: ul,
            // elu is all of φ, or its first group, unless φ is relu.
            form: match self.config.nonlinearity {
                Nonlinearity::Relu => Form::ELU,
                Nonlinearity::Elu | Nonlinearity::ConcatElu => Form::PHI,
            },
            row: 0,
            column: 0,
            channels: inputs,
            tensor: self.tensor("output.weight", &[inputs, outputs]),
            groups: vec![0],
            halves: vec![Some(([0, 0], 0))],
            ones_bias: None,
        };
        let mut additions = vec![self.tensor("output.bias", &[outputs])];
        additions.extend(self.class_vector(ClassPlace::Output, "output", outputs));
        let layer = self.layer(Kind::Output, Stream::Horizontal, "output", 0, vec![tap]);
        let target = self.push(Layer { channels: outputs, additions, ..layer });
        self.nodes[target].offsets[Form::RAW.index()] = Some(0);
    }

    /// Taps of a convolution to `halves · filters` channels whose first tap is at `corner`, the others
    /// `dilation` pixels apart.
    fn kernel(
        &mut self,
        name: &str,
        (source, form): (usize, Form),
        shape: [usize; 2],
        corner: [isize; 2],
        dilation: usize,
        halves: usize,
    ) -> Vec<Tap> {
        let channels = self.nodes[source].channels;
        let groups: Vec<_> = (0..self.groups(form)).map(|g| g * channels).collect();
        let (inputs, filters) = (groups.len() * channels, self.config.filters);
        let [rows, columns] = shape;
        let tensor = self.tensor(&format!("{name}.weight"), &[rows, columns, inputs, halves * filters]);
        let mut taps = Vec::new();
        for i in 0..rows {
            for j in 0..columns {
                taps.push(Tap {
                    source,
                    form,
                    row: corner[0] + (i * dilation) as isize,
                    column: corner[1] + (j * dilation) as isize,
                    channels,
                    tensor: tensor.clone(),
                    groups: groups.clone(),
                    halves: (0..halves).map(|h| Some(([i, j], h * filters))).collect(),
                    ones_bias: None,
                });
            }
        }
        taps
    }

    /// `nin(φ(aux))` of the concatenated `aux`, a tap for each of them.
    fn skip(&mut self, name: &str, aux: &[usize]) -> Vec<Tap> {
        let (filters, count) = (self.config.filters, self.groups(Form::PHI));
        let inputs = count * aux.len() * filters;
        let tensor = self.tensor(&format!("{name}.weight"), &[inputs, filters]);
        let tap = |(nth, &source): (usize, &usize)| Tap {
            source,
            form: self.with_class(source, Form::PHI),
            row: 0,
            column: 0,
            channels: filters,
            tensor: tensor.clone(),
            // concat_elu([p, q]) = elu([p, q, −p, −q])
            groups: (0..count).map(|g| (g * aux.len() + nth) * filters).collect(),
            halves: vec![Some(([0, 0], 0))],
            ones_bias: None,
        };
        aux.iter().enumerate().map(tap).collect()
    }

    fn groups(&self, form: Form) -> usize {
        if form.activation == Activation::Phi { self.config.nonlinearity.growth() } else { 1 }
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> String {
        self.tensors.insert(name.to_owned(), shape.to_vec());
        name.to_owned()
    }

    fn bias_tensor(&mut self, name: &str, halves: usize) -> String {
        self.tensor(&format!("{name}.bias"), &[halves * self.config.filters])
    }

    fn node(&mut self, name: &str, stream: Stream, level: usize, channels: usize) -> usize {
        self.nodes.push(Node {
            name: name.to_owned(),
            stream,
            level,
            width: self.config.width >> level,
            channels,
            rows: 1,
            left: 0,
            right: 0,
            offsets: [None; 6],
            class: None,
            growth: self.config.nonlinearity.growth(),
            record: 0,
            made_every: 0,
        });
        self.nodes.len() - 1
    }

    fn layer(&self, kind: Kind, stream: Stream, name: &str, level: usize, taps: Vec<Tap>) -> Layer {
        Layer {
            name: name.to_owned(),
            kind,
            stream,
            level,
            grid: level,
            row_parity: None,
            taps,
            early: 0,
            channels: self.config.filters,
            halves: 1,
            residual: None,
            target: 0,
            run_every: 0,
            additions: Vec::new(),
        }
    }

    fn push(&mut self, layer: Layer) -> usize {
        self.push_into(None, layer)
    }

    /// Adds a layer that makes `target`, or a node of its own, and tells its sources what it reads.
    fn push_into(&mut self, target: Option<usize>, mut layer: Layer) -> usize {
        let target =
            target.unwrap_or_else(|| self.node(&layer.name, layer.stream, layer.level, layer.channels));
        for tap in &layer.taps {
            let node = &mut self.nodes[tap.source];
            node.offsets[tap.form.index()] = Some(0);
            node.rows = node.rows.max(1 + tap.row.unsigned_abs());
            node.left = node.left.max((-tap.column).max(0) as usize);
            node.right = node.right.max(tap.column.max(0) as usize);
        }
        if let Some((residual, form)) = layer.residual {
            self.nodes[residual].offsets[form.index()] = Some(0);
        }
        // Whole rows are known of the vertical stream, of all rows above, and of a coarser row that is
        // read once more by the odd row below it.
        let is_early = |tap: &Tap| {
            self.nodes[tap.source].stream == Stream::Vertical || tap.row < 0 || layer.row_parity == Some(1)
        };
        let (early, late): (Vec<_>, Vec<_>) = layer.taps.into_iter().partition(is_early);
        layer.early = early.len();
        layer.taps = [early, late].concat();
        // Shaders without index checks rely on it.
        assert!(layer.taps.len() <= MAX_TAPS, "{}: {} taps", layer.name, layer.taps.len());
        layer.target = target;
        self.layers.push(layer);
        target
    }

    /// Lays out the records, now that all readers are known, and derives the schedule.
    fn finish(&mut self) {
        let growth = self.config.nonlinearity.growth();
        for node in &mut self.nodes {
            for form in Form::ALL {
                let groups = if form.activation == Activation::Phi { growth } else { 1 };
                if let Some(offset) = &mut node.offsets[form.index()] {
                    *offset = node.record;
                    node.record += groups * padded(node.channels);
                }
            }
            // A ring's row is then found without a division.
            node.rows = node.rows.next_power_of_two();
        }
        let every = schedule::periods(&schedule::first_steps(
            &self.edges(|layer, k| Some(layer.taps[k].row)),
            &self.canvas(),
            |row| row + 1,
        ));
        for (node, every) in self.nodes.iter_mut().zip(&every) {
            node.made_every = *every;
        }
        for layer in &mut self.layers {
            layer.run_every = every[layer.target];
        }
    }

    /// What every node reads along one axis, for the schedule; `offset` of a layer's k-th tap.
    pub(in crate::model) fn edges(
        &self,
        offset: impl Fn(&Layer, usize) -> Option<isize>,
    ) -> Vec<Vec<Edge>> {
        let mut edges = vec![Vec::new(); self.nodes.len()];
        for layer in &self.layers {
            for (k, tap) in layer.taps.iter().enumerate() {
                let rate = if layer.grid > layer.level {
                    Rate::Half
                } else if layer.scale(&self.nodes[tap.source]) == 2 {
                    Rate::Double
                } else {
                    Rate::Same
                };
                if let Some(offset) = offset(layer, k) {
                    edges[layer.target].push(Edge { from: tap.source, rate, offset });
                }
            }
        }
        edges
    }

    /// Nodes along an axis of a canvas large enough to show every period.
    pub(in crate::model) fn canvas(&self) -> Vec<usize> {
        let length = 4 * self.config.size_multiple();
        self.nodes.iter().map(|node| length >> node.level).collect()
    }
}
