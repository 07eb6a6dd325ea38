//! The step at which each node runs, from one rule: a node runs at the first step at which all its inputs
//! exist (Ramachandran et al. 2017, *Fast Generation for Convolutional Autoregressive Models*).
//!
//! [`Times`] follows the rule through a graph, relative to a pixel. [`first_steps`] follows it along one
//! axis, step by step, as the paper's figure does; tests compare the two.

use super::{Graph, IMAGE, LayerSpec, Network, TapSpec, Tensors, Term};

/// The time at which the values of a node are computed. Lags are in rows of the image, and negative if rows
/// are computed before their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// A whole row at once, when the image row `lag` rows below its own begins.
    Row {
        /// In rows of the image.
        lag: isize,
    },
    /// Pixel by pixel, while the image row `lag` rows below its own is drawn: a channel of a pixel when that many sub-pixels
    /// (pixels, in a network without steps) have followed the beginning of the pixel in its column; before that, if negative.
    Pixel {
        /// In rows of the image.
        lag: isize,
        /// A number for all channels, or for each.
        delays: Vec<isize>,
    },
}

impl When {
    /// True if whole rows are computed.
    pub fn is_row(&self) -> bool {
        matches!(self, Self::Row { .. })
    }

    /// Rows of the image from a row to the one with which it is computed.
    pub fn lag(&self) -> isize {
        match self {
            Self::Row { lag } | Self::Pixel { lag, .. } => *lag,
        }
    }

    /// Rows of the image from a row to the one at whose beginning all of it is known.
    pub fn whole(&self) -> isize {
        self.lag() + isize::from(!self.is_row())
    }
}

/// The latest pixel that a value depends on, relative to its own: its row, and in that row the sub-pixel.
type Latest = (isize, isize);

/// The latest pixels that a node depends on.
///
/// Earlier ones do not matter: they are known once the latest is, by whatever path they are seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reach {
    /// The last row that any channel of its sources depends on, including channels that are not read.
    row: Option<isize>,
    /// One entry for all channels together, or one for each; none where a channel depends on no pixel.
    channels: Vec<Option<Latest>>,
}

impl Reach {
    fn of_channel(&self, channel: usize) -> Option<Latest> {
        self.channels[if self.channels.len() > 1 { channel } else { 0 }]
    }
}

/// A graph that cannot be sampled pixel by pixel, and the dependence that forbids it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not causal: the parameters of a pixel{} depend on the pixel {row} rows below it and {column} columns to the right{}; \
     the path: {}",
    of_channel(*.channel), of_step(*.step), shortened(path)
)]
pub struct NotCausal {
    /// The channel whose parameters they are, where channels are drawn one after another.
    pub channel: Option<usize>,
    /// Rows below.
    pub row: isize,
    /// Columns to the right.
    pub column: isize,
    /// The channel of that pixel, where channels are drawn one after another.
    pub step: Option<usize>,
    /// The reads from the head to the image, with their offsets.
    pub path: Vec<String>,
}

fn of_channel(channel: Option<usize>) -> String {
    channel.map_or(String::new(), |channel| format!(" for channel {channel}"))
}

fn of_step(step: Option<usize>) -> String {
    step.map_or(String::new(), |step| format!(", channel {step}"))
}

/// A path, without its middle if it is long.
fn shortened(path: &[String]) -> String {
    const SHOWN: usize = 4;
    let short = |name: &String| match name.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.clone(),
    };
    let join = |part: &[String]| part.iter().map(short).collect::<Vec<_>>().join(" <- ");
    match path.len() {
        0..=8 => join(path),
        n => format!(
            "{} <- … ({} more) <- {}",
            join(&path[..SHOWN]),
            n - 2 * SHOWN,
            join(&path[n - SHOWN..])
        ),
    }
}

/// The times at which the nodes of a graph are computed.
#[derive(Clone, Debug)]
pub struct Times {
    /// By node.
    pub nodes: Vec<When>,
}

/// Rows or columns of the image from a layer's position to the position that a tap reads, along one axis.
pub fn offset(graph: &Graph, layer: &LayerSpec, tap: &TapSpec, axis: usize) -> isize {
    let (target, source) = (graph.nodes[layer.target].level, graph.nodes[tap.source].level);
    let delta = [tap.row, tap.column][axis];
    match tap.phase {
        Some(phase) => (2 * delta - phase[axis] as isize) << target,
        None => delta << source,
    }
}

/// All reads of a layer: its taps, and its residual as one more.
fn reads<'a>(graph: &'a Graph, layer: &'a LayerSpec) -> impl Iterator<Item = TapSpec> + 'a {
    let residual = layer.residual.map(|(source, form)| {
        let term = Term::Select { channels: 0..graph.nodes[layer.target].channels, outputs: 0 };
        TapSpec { source, form, row: 0, column: 0, phase: None, term }
    });
    layer.taps.iter().cloned().chain(residual)
}

/// Calls back for every nonzero weight and every selected number, with the channel of the layer's target
/// and the channel of the source's value that it connects. For networks whose channels are drawn one after
/// another.
fn connections(
    graph: &Graph,
    layer: &LayerSpec,
    tap: &TapSpec,
    tensors: &Tensors,
    mut connect: impl FnMut(usize, usize),
) {
    let channels = graph.nodes[layer.target].channels;
    // The channel of the value from which a number of the form is computed.
    let channel_of = |number: usize| match tap.source {
        IMAGE => {
            let encoding = &graph.encodings[tap.form];
            encoding.channel.or(Some(number / encoding.width)).filter(|&c| c < graph.head.channels())
        }
        source => Some(number % graph.nodes[source].channels),
    };
    match &tap.term {
        Term::Select { channels: numbers, outputs } => {
            for (output, number) in (*outputs..).zip(numbers.clone()) {
                if let Some(channel) = channel_of(number) {
                    connect(output % channels, channel);
                }
            }
        }
        Term::Product(slice) => {
            let tensor = &tensors[&slice.tensor];
            let columns = tensor.shape[tensor.shape.len() - 1];
            for (number, row) in tensor.data.chunks(columns).enumerate() {
                let Some(channel) = channel_of(number) else { continue };
                for (output, _) in row.iter().enumerate().filter(|(_, w)| **w != 0.0) {
                    connect(output % channels, channel);
                }
            }
        }
    }
}

impl Times {
    /// Follows the taps of a graph; `tensors` are needed where channels are drawn one after another.
    ///
    /// # Errors
    /// [`NotCausal`] if the parameters of a pixel depend on it or on one after it.
    pub fn new(graph: &Graph, tensors: Option<&Tensors>) -> Result<Self, NotCausal> {
        let search = Search { graph, tensors, steps: graph.head.steps() as isize };
        let reaches = search.reaches();
        search.check(&reaches)?;
        Ok(Self { nodes: search.whens(&reaches) })
    }
}

struct Search<'a> {
    graph: &'a Graph,
    tensors: Option<&'a Tensors>,
    /// Sub-pixels that are drawn one after another.
    steps: isize,
}

impl Search<'_> {
    /// The pixels that a tap lets the channels of its layer see, with the channel of the target and of the
    /// source.
    fn seen(
        &self,
        reaches: &[Reach],
        layer: &LayerSpec,
        tap: &TapSpec,
        mut see: impl FnMut(usize, usize, Latest),
    ) {
        let [down, right] = [0, 1].map(|axis| offset(self.graph, layer, tap, axis));
        let source = &reaches[tap.source];
        let mut connect = |target: usize, channel: usize| {
            if let Some((row, at)) = source.of_channel(channel) {
                see(target, channel, (row + down, at + right * self.steps));
            }
        };
        match self.steps {
            1 => connect(0, 0),
            _ => {
                let tensors = self.tensors.expect("given where channels are drawn one after another");
                connections(self.graph, layer, tap, tensors, connect);
            }
        }
    }

    /// Channels whose reach is followed.
    fn channels(&self, node: usize) -> usize {
        if self.steps > 1 { self.graph.nodes[node].channels } else { 1 }
    }

    fn reaches(&self) -> Vec<Reach> {
        let graph = self.graph;
        let mut reaches = vec![Reach::default(); graph.nodes.len()];
        // Without steps, all channels of a pixel are known at once.
        let channels = (0..self.steps).map(|step| Some((0, step))).collect();
        reaches[IMAGE] = Reach { row: Some(0), channels };
        for layer in &graph.layers {
            let mut channels = vec![None; self.channels(layer.target)];
            let mut row = None;
            for tap in reads(graph, layer) {
                self.seen(&reaches, layer, &tap, |target, _, latest| {
                    channels[target] = channels[target].max(Some(latest));
                });
                row = row.max(reaches[tap.source].row.map(|row| row + offset(graph, layer, &tap, 0)));
            }
            if let Some(pre) = layer.pre {
                let channels = channels.iter().copied().cycle().take(self.channels(pre)).collect();
                reaches[pre] = Reach { row, channels };
            }
            reaches[layer.target] = Reach { row, channels };
        }
        reaches
    }

    fn check(&self, reaches: &[Reach]) -> Result<(), NotCausal> {
        let head = &reaches[self.graph.head_node];
        let of_channel = match self.steps {
            1 => 1,
            _ => self.graph.head.parameters() / self.graph.head.channels(),
        };
        let has_steps = self.steps > 1;
        for (parameter, latest) in head.channels.iter().enumerate() {
            let channel = parameter / of_channel;
            if let Some((row, at)) = latest.filter(|latest| *latest >= (0, channel as isize)) {
                return Err(NotCausal {
                    channel: has_steps.then_some(channel),
                    row,
                    column: at.div_euclid(self.steps),
                    step: has_steps.then(|| at.rem_euclid(self.steps) as usize),
                    path: self.path(reaches, parameter),
                });
            }
        }
        Ok(())
    }

    /// A node is computed by rows if its row is known when it begins, else by pixels if each is known when
    /// it is read. A node known only later is computed as a whole row once it is known, and its sources on
    /// rows below its own that much earlier; by pixels if a reader cannot wait for the row.
    fn whens(&self, reaches: &[Reach]) -> Vec<When> {
        let graph = self.graph;
        // The largest lags at which readers find whole rows. Readers come after their sources.
        let mut bounds = vec![isize::MAX; graph.nodes.len()];
        let mut whens = vec![When::Row { lag: 0 }; graph.nodes.len()];
        whens[IMAGE] = When::Pixel { lag: 0, delays: (1..=self.steps).collect() };
        for layer in graph.layers.iter().rev() {
            let bound = layer.makes().map(|node| bounds[node]).min().unwrap_or(isize::MAX);
            for node in layer.makes() {
                whens[node] = self.when(&reaches[node], bound);
            }
            let lag = whens[layer.target].lag();
            for tap in reads(graph, layer) {
                let bound = &mut bounds[tap.source];
                *bound = (*bound).min(lag - offset(graph, layer, &tap, 0));
            }
        }
        whens
    }

    fn when(&self, reach: &Reach, bound: isize) -> When {
        let Some(last_row) = reach.row else { return When::Row { lag: bound.min(0) } };
        let of_row = reach.channels.iter().flatten().filter(|(row, _)| *row == last_row);
        let is_known_in_time = last_row == 0 && of_row.max().is_none_or(|(_, at)| *at < self.steps - 1);
        let lag = bound.min((last_row + 1).max(0));
        if lag > last_row && !is_known_in_time {
            return When::Row { lag };
        }
        // Nodes that depend on rows above only are computed when the row begins.
        let begins = -(self.graph.width as isize) * self.steps;
        let delay = |latest: &Option<Latest>| match latest {
            Some((row, at)) if *row == last_row => (at + 1).max(begins),
            _ => begins,
        };
        When::Pixel { lag: last_row, delays: reach.channels.iter().map(delay).collect() }
    }

    /// From the head to the image: the taps through which a parameter sees the latest pixel that it depends on.
    fn path(&self, reaches: &[Reach], parameter: usize) -> Vec<String> {
        let graph = self.graph;
        let mut path = vec![graph.nodes[graph.head_node].name.clone()];
        let (mut node, mut channel) = (graph.head_node, parameter);
        while node != IMAGE {
            let made = graph.layers.iter().find(|layer| layer.makes().any(|made| made == node));
            let Some(layer) = made else { break };
            let latest = reaches[node].of_channel(channel);
            let target = channel % self.channels(layer.target);
            let through = reads(graph, layer).find_map(|tap| {
                let mut found = None;
                self.seen(reaches, layer, &tap, |of_target, of_source, seen| {
                    if of_target == target && Some(seen) == latest {
                        found = Some(of_source);
                    }
                });
                found.map(|of_source| (tap, of_source))
            });
            let Some((tap, of_source)) = through else { break };
            (node, channel) = (tap.source, of_source);
            path.push(format!(
                "layer \"{}\" reads \"{}\" at row {:+}, column {:+}",
                layer.name, graph.nodes[node].name, tap.row, tap.column
            ));
        }
        path
    }
}

/// One input of a node, along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Index of the node that is read.
    pub from: usize,
    /// Position `i` reads around `⌊i / 2^halvings⌋ · scale`.
    pub halvings: u32,
    /// See [`Self::halvings`].
    pub scale: usize,
    /// The remainder by 2 of the positions that read it, if not all do.
    pub phase: Option<usize>,
    /// Offset of the position that is read.
    pub offset: isize,
}

impl Edge {
    /// The position that a position reads, unless it is before the first.
    fn position(&self, of_reader: usize) -> Option<usize> {
        if self.phase.is_some_and(|phase| of_reader % 2 != phase) {
            return None;
        }
        usize::try_from(((of_reader >> self.halvings) * self.scale) as isize + self.offset).ok()
    }
}

/// The step at which each position of each node runs.
///
/// `graph[n]` are the inputs of node `n`, all of which come before it; node 0 is the input, whose
/// position `i` exists from step `input(i)` on. `lengths[n]` is the number of positions of node `n`;
/// positions outside are padding, which always exists.
pub fn first_steps(
    graph: &[Vec<Edge>],
    lengths: &[usize],
    input: impl Fn(usize) -> usize,
) -> Vec<Vec<usize>> {
    let mut steps: Vec<Vec<usize>> = vec![(0..lengths[0]).map(input).collect()];
    for (edges, &length) in graph.iter().zip(lengths).skip(1) {
        let exists = |edge: &Edge, i: usize| {
            edge.position(i).and_then(|p| steps[edge.from].get(p)).copied().unwrap_or(0)
        };
        let run = |i| edges.iter().map(|edge| exists(edge, i)).max().unwrap_or(0);
        steps.push((0..length).map(run).collect());
    }
    steps
}

/// The schedule along one axis, for people.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The inputs of each node; node 0 is the input.
    graph: Vec<Vec<Edge>>,
    /// The step at which each position of each node runs.
    steps: Vec<Vec<usize>>,
}

impl Timeline {
    /// Along a row of a network: step t computes pixel t. Inputs known when the row begins are left out.
    pub fn of_row(network: &Network) -> Self {
        let length = 4 * network.size_multiple;
        let lengths: Vec<_> = network.nodes.iter().map(|node| length >> node.level).collect();
        let mut graph = vec![Vec::new(); network.nodes.len()];
        for layer in &network.layers {
            for tap in &layer.taps[layer.early..] {
                graph[layer.target].push(Edge {
                    from: tap.source,
                    halvings: (layer.grid - layer.level) as u32,
                    scale: tap.scale,
                    phase: layer.column_parity,
                    offset: tap.column,
                });
            }
        }
        Self { steps: first_steps(&graph, &lengths, |column| column + 1), graph }
    }

    /// Figure 2 of arXiv 1704.06001: two strided layers down, two transposed up, kernels of width 2.
    pub fn of_figure() -> Self {
        let reads = |halvings, scale, offsets: &[isize], from| {
            let edge = |&offset: &isize| Edge { from, halvings, scale, phase: None, offset };
            offsets.iter().map(edge).collect::<Vec<_>>()
        };
        let graph = vec![
            vec![],
            reads(0, 2, &[-1, 0], 0),
            reads(0, 2, &[-1, 0], 1),
            reads(1, 1, &[0], 2),
            reads(1, 1, &[0], 3),
        ];
        Self { steps: first_steps(&graph, &[16, 8, 4, 8, 16], |t| t), graph }
    }

    /// Number of nodes, the input included.
    pub fn nodes(&self) -> usize {
        self.steps.len()
    }

    /// The step at which each position of a node runs.
    pub fn steps(&self, node: usize) -> &[usize] {
        &self.steps[node]
    }

    /// The nodes and positions that a position of a node reads.
    pub fn reads(&self, node: usize, position: usize) -> impl Iterator<Item = (usize, usize)> {
        self.graph[node].iter().filter_map(move |edge| {
            let position = edge.position(position)?;
            (position < self.steps[edge.from].len()).then_some((edge.from, position))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{LayerKind, pixelcnn_pp};
    use crate::model::Config;

    /// The interval between the steps at which each node runs.
    fn periods(steps: &[Vec<usize>]) -> Vec<usize> {
        let period = |node: &Vec<usize>| {
            let mut distinct = node.clone();
            distinct.dedup();
            let every = distinct.get(1).map_or(1, |second| second - distinct[0]);
            assert!(distinct.windows(2).all(|w| w[1] - w[0] == every), "irregular schedule: {node:?}");
            every
        };
        steps.iter().map(period).collect()
    }

    #[test]
    fn the_papers_one_dimensional_figure() {
        let Timeline { steps, .. } = Timeline::of_figure();
        let run_at =
            |t| steps[1..].iter().map(move |node: &Vec<usize>| node.iter().filter(|s| **s == t).count());
        let run_at = |t| run_at(t).collect::<Vec<_>>();
        assert_eq!(run_at(0), [1, 1, 2, 4]);
        for t in [1, 3, 5] {
            assert_eq!(run_at(t), [0, 0, 0, 0], "step {t}");
        }
        assert_eq!(run_at(2), [1, 0, 0, 0]);
        assert_eq!(run_at(4), run_at(0));
        assert_eq!(periods(&steps)[1..], [2, 4, 4, 4]);
    }

    /// The skips between the passes make every level run at its own rate; section 3 of the paper.
    #[test]
    fn the_network_runs_level_l_every_2_to_the_l() {
        for levels in 1..=4 {
            let config = Config {
                height: 8 << levels,
                width: 8 << levels,
                levels,
                dilations: vec![1, 2, 3],
                ..Config::published(4, 2)
            };
            let net = Network::new(&pixelcnn_pp::graph(&config), None);
            let columns = Timeline::of_row(&net).steps;
            for layer in &net.layers {
                let node = &net.nodes[layer.target];
                assert_eq!(layer.run_every, 1 << layer.grid, "{}", layer.name);
                assert_eq!(node.made_every, layer.run_every);
                let caches =
                    layer.taps.iter().map(|tap| net.nodes[tap.source].made_every).collect::<Vec<_>>();
                match layer.kind {
                    LayerKind::Strided => assert!(caches.iter().all(|c| 2 * c == layer.run_every)),
                    LayerKind::Transposed => {
                        assert!(caches.iter().all(|c| *c == layer.run_every));
                        let mut readers =
                            net.layers.iter().filter(|r| r.taps.iter().any(|t| t.source == layer.target));
                        assert!(readers.all(|r| 2 * r.run_every == layer.run_every));
                    }
                    _ => {}
                }
                // Along a row the rule gives the same period, and column c at its own step.
                if !node.when.is_row() {
                    assert_eq!(periods(&columns)[layer.target], layer.run_every, "{}", layer.name);
                    for (i, step) in columns[layer.target].iter().enumerate() {
                        let expected = (i << layer.level) / layer.run_every * layer.run_every;
                        assert_eq!(*step, expected, "{} column {i}", layer.name);
                    }
                }
            }
        }
    }
}
