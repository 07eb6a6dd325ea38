//! Compiles a graph to the form that engines read: the parts of a layer, their time, the ring of each node.

use super::network::{CHANNEL_ALIGN, Layer, Network, Node, Read, Selection, Tap, padded};
use super::schedule::{NotCausal, Times, When, offset};
use super::{Graph, IMAGE, LayerSpec, Slice, TapSpec, Tensors, Term};

impl Network {
    /// Schedules a graph; `tensors` are needed where channels are drawn one after another.
    ///
    /// # Panics
    /// If the graph is not causal, which [`Graph::check`](super::check) finds.
    pub fn new(graph: &Graph, tensors: Option<&Tensors>) -> Self {
        Self::try_new(graph, tensors).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`Self::new`].
    ///
    /// # Errors
    /// [`NotCausal`]
    pub fn try_new(graph: &Graph, tensors: Option<&Tensors>) -> Result<Self, NotCausal> {
        let times = Times::new(graph, tensors)?;
        let compiler = Compiler { graph, tensors, times: &times };
        let mut network = Self {
            height: graph.height,
            width: graph.width,
            head: graph.head,
            head_node: graph.head_node,
            encodings: graph.encodings.clone(),
            nodes: (0..graph.nodes.len()).map(|node| compiler.node(node)).collect(),
            layers: graph.layers.iter().flat_map(|layer| compiler.parts(layer)).collect(),
            size_multiple: graph.size_multiple(),
        };
        network.make_room();
        Ok(network)
    }

    /// Widens every node's ring to the region that its readers see.
    pub(super) fn make_room(&mut self) {
        for layer in &self.layers {
            // Any row on which it runs: its sources advance by as many rows.
            let at = layer.lag + (layer.row_parity.unwrap_or(0) << layer.level) as isize;
            for Read { source, row, column, scale, .. } in layer.reads() {
                let node = &mut self.nodes[source];
                node.left = node.left.max((-column).max(0) as usize);
                node.right = node.right.max(column.max(0) as usize);
                let read = ((at - layer.lag) >> layer.grid) * scale as isize + row;
                let newest = (at - node.when.lag()) >> node.level;
                node.rows = node.rows.max((newest - read + 1).max(1) as usize);
            }
        }
        for layer in &self.layers {
            for node in [Some(layer.target), layer.pre].into_iter().flatten() {
                self.nodes[node].made_every = layer.run_every;
            }
        }
        for node in &mut self.nodes {
            // Rows ahead of the image are known when the image begins.
            node.rows = node.rows.max(node.newest(0).map_or(1, |newest| newest + 1));
            // A ring's row is then found without a division.
            node.rows = node.rows.next_power_of_two();
        }
    }
}

struct Compiler<'a> {
    graph: &'a Graph,
    tensors: Option<&'a Tensors>,
    times: &'a Times,
}

/// The part of a layer that computes the rows and columns of a parity, and some channels.
#[derive(Clone)]
struct ParityPart {
    /// One level coarser than the target for a parity.
    grid: usize,
    row_parity: Option<usize>,
    column_parity: Option<usize>,
    /// Channels of the target.
    channels: std::ops::Range<usize>,
    delay: isize,
}

impl Compiler<'_> {
    fn node(&self, index: usize) -> Node {
        let spec = &self.graph.nodes[index];
        let sizes: Vec<_> = match index {
            IMAGE => {
                let channels = self.graph.head.channels();
                self.graph.encodings.iter().map(|encoding| padded(encoding.len(channels))).collect()
            }
            _ => spec.forms.iter().map(|form| form.activation.groups() * padded(spec.channels)).collect(),
        };
        let mut record = 0;
        let mut offsets = Vec::with_capacity(sizes.len());
        for size in sizes {
            offsets.push(record);
            record += size;
        }
        Node {
            name: spec.name.clone(),
            when: self.times.nodes[index].clone(),
            level: spec.level,
            width: self.graph.width >> spec.level,
            channels: spec.channels,
            rows: 1,
            left: 0,
            right: 0,
            forms: spec.forms.clone(),
            offsets,
            record: record.max(CHANNEL_ALIGN),
            made_every: 1,
        }
    }

    /// The parts of a layer: by row and column parity, if it reads a coarser level, and by the time at
    /// which channels are computed.
    fn parts(&self, layer: &LayerSpec) -> Vec<Layer> {
        let level = self.graph.nodes[layer.target].level;
        let channels = self.graph.nodes[layer.target].channels;
        let whole = ParityPart {
            grid: level,
            row_parity: None,
            column_parity: None,
            channels: 0..channels,
            delay: 0,
        };
        let mut parts = vec![whole];
        if layer.taps.iter().any(|tap| tap.phase.is_some()) {
            let columns = if self.makes_both_columns(layer) { vec![None] } else { vec![Some(0), Some(1)] };
            let of_row = |row| columns.iter().map(move |&column| (Some(row), column));
            let parities = (0..2).flat_map(of_row);
            let part = |(row_parity, column_parity)| ParityPart {
                grid: level + 1,
                row_parity,
                column_parity,
                ..parts[0].clone()
            };
            parts = parities.map(part).collect();
        }
        if let When::Pixel { delays, .. } = &self.times.nodes[layer.target] {
            let split = |part: ParityPart| -> Vec<ParityPart> {
                let delay = |channel: usize| delays[if delays.len() > 1 { channel } else { 0 }];
                let mut parts = Vec::new();
                let mut first = 0;
                for channel in 1..=channels {
                    if channel == channels || delay(channel) != delay(first) {
                        parts.push(ParityPart {
                            channels: first..channel,
                            delay: delay(first),
                            ..part.clone()
                        });
                        first = channel;
                    }
                }
                parts
            };
            parts = parts.into_iter().flat_map(split).collect();
        }
        parts.iter().map(|part| self.part(layer, part)).collect()
    }

    /// True if a layer that reads a coarser level computes two columns of the target at once: if it reads
    /// nothing else, and all of its weights belong to one kernel. The second column is computed with the
    /// first, so its inputs must be known by then.
    fn makes_both_columns(&self, layer: &LayerSpec) -> bool {
        let kernel = |tap: &TapSpec| match &tap.term {
            Term::Product(slice) if tap.phase.is_some() => Some((slice.tensor.clone(), slice.kernel)),
            _ => None,
        };
        let kernels: Option<Vec<_>> = layer.taps.iter().map(kernel).collect();
        let is_map = |name: &String| self.graph.tensors[name].len() > 2;
        let Some(mut kernels) = kernels else { return false };
        let is_read_by_the_first = |tap: &TapSpec| {
            let phase = tap.phase.map(|[row, _]| [row, 0]);
            layer.taps.iter().any(|other| {
                (other.source, other.row, other.phase) == (tap.source, tap.row, phase)
                    && other.column >= tap.column
            })
        };
        let is_known =
            self.times.nodes[layer.target].is_row() || layer.taps.iter().all(is_read_by_the_first);
        kernels.sort();
        kernels.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1)
            && is_known
            && layer.gate.is_none()
            && layer.residual.is_none()
            && layer.pre.is_none()
            && self.graph.head.steps() == 1
            && !layer.additions.iter().any(is_map)
    }

    fn part(&self, layer: &LayerSpec, part: &ParityPart) -> Layer {
        let graph = self.graph;
        let level = graph.nodes[layer.target].level;
        let is_both_columns = part.grid > level && part.column_parity.is_none();
        let halves = if layer.gate.is_some() || is_both_columns { 2 } else { 1 };
        let lag = self.times.nodes[layer.target].lag();
        let steps = graph.head.steps() as isize;
        let mut selections = Vec::new();
        // Each with true if its source is known when the row begins.
        let mut taps: Vec<(bool, Tap)> = Vec::new();
        for spec in &layer.taps {
            let phase_fits = spec.phase.is_none_or(|[row, column]| {
                part.row_parity == Some(row) && part.column_parity.is_none_or(|parity| parity == column)
            });
            if !phase_fits {
                continue;
            }
            let is_early = self.is_early(layer, spec, part, lag);
            match &spec.term {
                Term::Select { channels, outputs } => {
                    selections.extend(self.selections(layer, spec, part, (channels, *outputs, is_early)));
                }
                Term::Product(slice) => {
                    let both = spec.phase.filter(|_| is_both_columns);
                    for tap in self.taps(layer, spec, slice, part, both) {
                        // Two columns of a transposed convolution read the same through different slices.
                        let same = |(_, other): &&mut (bool, Tap)| {
                            is_both_columns
                                && (other.source, other.form, other.row, other.column)
                                    == (tap.source, tap.form, tap.row, tap.column)
                        };
                        match taps.iter_mut().find(same) {
                            Some((_, other)) => {
                                let pairs = other.halves.iter_mut().zip(tap.halves);
                                pairs.for_each(|(to, from)| *to = from.or(*to));
                            }
                            None => taps.push((is_early, tap)),
                        }
                    }
                }
            }
        }
        let (early, late): (Vec<_>, Vec<_>) = taps.into_iter().partition(|(is_early, _)| *is_early);
        let reads_image = layer.taps.iter().any(|tap| tap.source == IMAGE);
        Layer {
            name: layer.name.clone(),
            kind: layer.kind,
            target: layer.target,
            level,
            grid: part.grid,
            row_parity: part.row_parity,
            column_parity: part.column_parity,
            early: early.len(),
            taps: early.into_iter().chain(late).map(|(_, tap)| tap).collect(),
            selections,
            channels: part.channels.len(),
            first_channel: part.channels.start,
            halves,
            gate: layer.gate,
            residual: layer.residual,
            pre: layer.pre,
            residual_is_early: layer
                .residual
                .is_none_or(|(source, _)| self.times.nodes[source].whole() <= lag),
            run_every: 1 << part.grid,
            lag,
            late: part.delay.div_euclid(steps),
            step: part.delay.rem_euclid(steps) as usize,
            additions: layer.additions.clone(),
            of_half: graph.nodes[layer.target].channels,
            may_be_halved: !reads_image && layer.target != graph.head_node,
        }
    }

    /// True if the source of a tap is known for a whole row when the row begins: rows above, nodes computed
    /// by rows, and a coarser row that the odd row below it reads again.
    fn is_early(&self, layer: &LayerSpec, tap: &TapSpec, part: &ParityPart, lag: isize) -> bool {
        let row = offset(self.graph, layer, tap, 0);
        debug_assert!(tap.phase.is_none() || tap.phase.map(|phase| phase[0]) == part.row_parity);
        row + self.times.nodes[tap.source].whole() <= lag
    }

    /// Converts a tap's offset to that of a part's positions, on the source.
    fn place(&self, tap: &TapSpec, part: &ParityPart) -> (isize, isize, usize) {
        let level = self.graph.nodes[tap.source].level;
        let scale = 1 << (part.grid - level);
        // Position p of a parity is row 2p + parity of the target.
        let parity = |parity: Option<usize>| match tap.phase {
            None => (parity.unwrap_or(0) * scale / 2) as isize,
            Some(_) => 0,
        };
        (tap.row + parity(part.row_parity), tap.column + parity(part.column_parity), scale)
    }

    /// The products of a tap in a part of a layer; `both` is the tap's phase if the part computes both
    /// columns.
    fn taps(
        &self,
        layer: &LayerSpec,
        spec: &TapSpec,
        slice: &Slice,
        part: &ParityPart,
        both: Option<[usize; 2]>,
    ) -> Vec<Tap> {
        let graph = self.graph;
        let (row, column, scale) = self.place(spec, part);
        let all = graph.group_len(spec.source, spec.form);
        let of_half = graph.nodes[layer.target].channels;
        let halves = match both {
            // The half of a column.
            Some([_, parity]) => (0..2).map(|half| (half == parity).then_some((slice.kernel, 0))).collect(),
            None => {
                let halves = if layer.gate.is_some() { 2 } else { 1 };
                (0..halves).map(|half| Some((slice.kernel, half * of_half + part.channels.start))).collect()
            }
        };
        let whole = Tap {
            source: spec.source,
            form: spec.form,
            row,
            column,
            scale,
            first: 0,
            depth: slice.groups.len() * padded(all),
            channels: all,
            slice: slice.clone(),
            halves,
        };
        if graph.head.steps() == 1 {
            return vec![whole];
        }
        slice
            .groups
            .iter()
            .enumerate()
            .flat_map(|(group, &first)| self.runs(&whole, part, group, first))
            .collect()
    }

    /// The channels of a tap's group for which the outputs of a part have weights, in runs. Channels that
    /// are not computed yet are not read, even with weights of 0.
    fn runs(&self, whole: &Tap, part: &ParityPart, group: usize, first: usize) -> Vec<Tap> {
        let tensor =
            &self.tensors.expect("given where channels are drawn one after another")[&whole.slice.tensor];
        let columns = tensor.shape[tensor.shape.len() - 1];
        let is_used = |channel: usize| {
            let row = &tensor.data[(first + channel) * columns..][..columns];
            let mut outputs =
                whole.halves.iter().flatten().flat_map(|(_, first)| *first..first + part.channels.len());
            outputs.any(|output| row[output] != 0.0)
        };
        let is_made_by_pixel = !self.times.nodes[whole.source].is_row();
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for channel in (0..whole.channels).filter(|channel| is_used(*channel)) {
            match runs.last_mut() {
                // Channels between two runs are read too if they are computed by rows.
                Some(run) if run.end == channel || !is_made_by_pixel => run.end = channel + 1,
                _ => runs.push(channel..channel + 1),
            }
        }
        let tap = |run: std::ops::Range<usize>| Tap {
            first: group * padded(whole.channels) + run.start,
            depth: run.len(),
            channels: run.len(),
            slice: Slice { groups: vec![first + run.start], ..whole.slice.clone() },
            ..whole.clone()
        };
        runs.into_iter().map(tap).collect()
    }

    /// A selection in a part of a layer: split if its numbers come from two groups of a form, or go to two
    /// halves.
    fn selections(
        &self,
        layer: &LayerSpec,
        spec: &TapSpec,
        part: &ParityPart,
        (channels, outputs, is_early): (&std::ops::Range<usize>, usize, bool),
    ) -> Vec<Selection> {
        let (row, column, scale) = self.place(spec, part);
        let graph = self.graph;
        let of_half = graph.nodes[layer.target].channels;
        let of_group = graph.group_len(spec.source, spec.form);
        let mut selections: Vec<Selection> = Vec::new();
        for (i, number) in channels.clone().enumerate() {
            let (half, output) = ((outputs + i) / of_half, (outputs + i) % of_half);
            if !part.channels.contains(&output) {
                continue;
            }
            let (first, output) =
                (number / of_group * padded(of_group) + number % of_group, output - part.channels.start);
            let goes_on = |s: &&mut Selection| {
                s.half == half && s.output + s.count == output && s.first + s.count == first
            };
            match selections.last_mut().filter(goes_on) {
                Some(selection) => selection.count += 1,
                None => selections.push(Selection {
                    source: spec.source,
                    form: spec.form,
                    row,
                    column,
                    scale,
                    first,
                    count: 1,
                    half,
                    output,
                    is_early,
                }),
            }
        }
        selections
    }
}
