//! When each node runs, from one rule: a node runs at the first step at which all its inputs exist
//! (Ramachandran et al. 2017, *Fast Generation for Convolutional Autoregressive Models*).
//!
//! [`Times`] follows the rule through a graph, relative to a pixel; [`first_steps`] along one axis, step by step, which is
//! what the paper's figure shows and what tests compare with.

use std::collections::BTreeMap;

use super::{Graph, IMAGE, LayerSpec, Network, TapSpec, Tensors, Term};

/// When the values of a node are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// A whole row at once, when the image row `lag` rows below its own begins.
    Row {
        /// In rows of the image.
        lag: usize,
    },
    /// Pixel by pixel: a channel of a pixel when that many sub-pixels (pixels, in a network without steps) have followed
    /// the beginning of its own; before its own, if negative.
    Pixel {
        /// A number for all channels, or for each.
        delays: Vec<isize>,
    },
}

impl When {
    /// Whether whole rows are made.
    pub fn is_row(&self) -> bool {
        matches!(self, Self::Row { .. })
    }
}

/// The latest pixel that values depend on, relative to their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reach {
    /// For each row, the latest sub-pixel of any channel.
    rows: BTreeMap<isize, isize>,
    /// In the own row, for all channels together or for each; none where nothing of it is read.
    own: Vec<Option<isize>>,
}

impl Reach {
    fn last_row(&self) -> isize {
        self.rows.last_key_value().map_or(isize::MIN, |(row, _)| *row)
    }

    fn of_channel(&self, channel: usize) -> Option<isize> {
        self.own[if self.own.len() > 1 { channel } else { 0 }]
    }
}

/// Why a graph cannot be sampled pixel by pixel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not causal: the parameters of a pixel{} depend on the pixel {row} rows below it and {column} columns to the right{}; \
     the path: {}",
    of_channel(*.channel), of_step(*.step), path.join(" <- ")
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
    /// From the head to the image: what is read, and where.
    pub path: Vec<String>,
}

fn of_channel(channel: Option<usize>) -> String {
    channel.map_or(String::new(), |channel| format!(" for channel {channel}"))
}

fn of_step(step: Option<usize>) -> String {
    step.map_or(String::new(), |step| format!(", channel {step}"))
}

/// When every node of a graph is made.
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

/// Everything that a layer reads: its taps, and its residual as one more.
fn reads<'a>(graph: &'a Graph, layer: &'a LayerSpec) -> impl Iterator<Item = TapSpec> + 'a {
    let residual = layer.residual.map(|(source, form)| {
        let term = Term::Select { channels: 0..graph.nodes[layer.target].channels, outputs: 0 };
        TapSpec { source, form, row: 0, column: 0, phase: None, term }
    });
    layer.taps.iter().cloned().chain(residual)
}

/// Which channels of a node's value a channel of a layer's target reads through a tap: for networks whose channels are
/// drawn one after another, a table `[target channels][source channels]`.
fn connections(graph: &Graph, layer: &LayerSpec, tap: &TapSpec, tensors: &Tensors) -> Vec<Vec<bool>> {
    let channels = graph.nodes[layer.target].channels;
    let of_source = match tap.source {
        IMAGE => graph.head.channels(),
        source => graph.nodes[source].channels,
    };
    // Of a number of the form, the channel that it is made of.
    let channel_of = |number: usize| match tap.source {
        IMAGE => {
            let encoding = &graph.encodings[tap.form];
            encoding.channel.or(Some(number / encoding.width)).filter(|&c| c < of_source)
        }
        _ => Some(number % of_source),
    };
    let mut table = vec![vec![false; of_source]; channels];
    let mut connect = |output: usize, number: usize| {
        if let Some(channel) = channel_of(number) {
            table[output % channels][channel] = true;
        }
    };
    match &tap.term {
        Term::Select { channels, outputs } => {
            channels.clone().enumerate().for_each(|(i, number)| connect(outputs + i, number));
        }
        Term::Product(slice) => {
            let tensor = &tensors[&slice.tensor];
            let columns = tensor.shape[tensor.shape.len() - 1];
            for (number, row) in tensor.data.chunks(columns).enumerate() {
                row.iter()
                    .enumerate()
                    .filter(|(_, w)| **w != 0.0)
                    .for_each(|(output, _)| connect(output, number));
            }
        }
    }
    table
}

impl Times {
    /// Follows the taps of a graph; `tensors` are needed where channels are drawn one after another.
    ///
    /// # Errors
    /// [`NotCausal`] if the parameters of a pixel depend on it or on one after it.
    pub fn new(graph: &Graph, tensors: Option<&Tensors>) -> Result<Self, NotCausal> {
        let steps = graph.head.steps() as isize;
        let reaches = Self::reaches(graph, tensors, steps);
        Self::check(graph, &reaches, steps)?;
        Ok(Self { nodes: Self::whens(graph, &reaches, steps) })
    }

    fn reaches(graph: &Graph, tensors: Option<&Tensors>, steps: isize) -> Vec<Reach> {
        let mut reaches = vec![Reach::default(); graph.nodes.len()];
        // Without steps, all channels of a pixel are known once it is.
        let image: Vec<_> = (0..steps).map(Some).collect();
        reaches[IMAGE] = Reach { rows: [(0, steps - 1)].into(), own: image };
        for layer in &graph.layers {
            let channels = if steps > 1 { graph.nodes[layer.target].channels } else { 1 };
            let mut reach = Reach { rows: BTreeMap::new(), own: vec![None; channels] };
            for tap in reads(graph, layer) {
                let [down, right] = [0, 1].map(|axis| offset(graph, layer, &tap, axis));
                let source = &reaches[tap.source];
                for (&row, &latest) in &source.rows {
                    let latest = latest + right * steps;
                    let entry = reach.rows.entry(row + down).or_insert(latest);
                    *entry = latest.max(*entry);
                    if row + down == 0 && (steps == 1 || row != 0) {
                        reach.own.iter_mut().for_each(|own| *own = (*own).max(Some(latest)));
                    }
                }
                if steps > 1 && down == 0 {
                    let tensors = tensors.expect("given where channels are drawn one after another");
                    let connections = connections(graph, layer, &tap, tensors);
                    for (own, connected) in reach.own.iter_mut().zip(connections) {
                        let of_channels = connected.iter().enumerate().filter(|(_, is)| **is);
                        let latest = of_channels.filter_map(|(c, _)| source.of_channel(c)).max();
                        *own = (*own).max(latest.map(|latest| latest + right * steps));
                    }
                }
            }
            if steps > 1 {
                // The latest of the row is that of its channels, of which not all are connected.
                match reach.own.iter().copied().max().flatten() {
                    Some(latest) => _ = reach.rows.insert(0, latest),
                    None => _ = reach.rows.remove(&0),
                }
            }
            if let Some(pre) = layer.pre {
                let own =
                    reach.own.iter().cycle().take(if steps > 1 { graph.nodes[pre].channels } else { 1 });
                reaches[pre] = Reach { rows: reach.rows.clone(), own: own.copied().collect() };
            }
            reaches[layer.target] = reach;
        }
        reaches
    }

    fn check(graph: &Graph, reaches: &[Reach], steps: isize) -> Result<(), NotCausal> {
        let head = &reaches[graph.head_node];
        let of_step = |at: isize| (steps > 1).then(|| at.rem_euclid(steps) as usize);
        let refuse = |channel: usize, row: isize, at: isize| NotCausal {
            channel: (steps > 1).then_some(channel),
            row,
            column: at.div_euclid(steps),
            step: of_step(at),
            path: path(graph, reaches, steps, row, at),
        };
        if head.last_row() > 0 {
            let row = head.last_row();
            return Err(refuse(0, row, head.rows[&row]));
        }
        let of_channel = graph.head.parameters() / graph.head.channels();
        for channel in 0..steps as usize {
            let parameters =
                if steps > 1 { channel * of_channel..(channel + 1) * of_channel } else { 0..1 };
            for parameter in parameters {
                if let Some(at) = head.of_channel(parameter).filter(|&at| at >= channel as isize) {
                    return Err(refuse(channel, 0, at));
                }
            }
        }
        Ok(())
    }

    /// A node is made by rows if its row is known when it begins, and else by pixels if each is known when it is asked for. What
    /// is known later only is made a row later, at once, unless it is read within its row: then some pixels later.
    fn whens(graph: &Graph, reaches: &[Reach], steps: isize) -> Vec<When> {
        let made_with = |node: usize| graph.layers.iter().find(|l| l.target == node || l.pre == Some(node));
        let mut is_forced = vec![false; graph.nodes.len()];
        loop {
            let when = |(node, reach): (usize, &Reach)| {
                let last_row = reach.last_row();
                let latest = reach.own.iter().flatten().max().copied().unwrap_or(isize::MIN);
                // Channels that read nothing of their own row are made when it begins.
                let begins = -(graph.width as isize) * steps;
                let delays =
                    || reach.own.iter().map(|own| own.map_or(begins, |at| (at + 1).max(begins))).collect();
                match () {
                    () if node == IMAGE => When::Pixel { delays: delays() },
                    () if last_row < 0 => When::Row { lag: 0 },
                    () if last_row == 0 && (latest < steps - 1 || is_forced[node]) => {
                        When::Pixel { delays: delays() }
                    }
                    () => When::Row { lag: last_row as usize + 1 },
                }
            };
            let whens: Vec<_> = reaches.iter().enumerate().map(when).collect();
            let mut is_done = true;
            for layer in graph.layers.iter().filter(|layer| !whens[layer.target].is_row()) {
                for tap in reads(graph, layer) {
                    let late = match whens[tap.source] {
                        When::Row { lag } => offset(graph, layer, &tap, 0) + lag as isize > 0,
                        When::Pixel { .. } => false,
                    };
                    if late {
                        let maker = made_with(tap.source).expect("a layer makes it");
                        [Some(maker.target), maker.pre]
                            .into_iter()
                            .flatten()
                            .for_each(|n| is_forced[n] = true);
                        is_done = false;
                    }
                }
            }
            if is_done {
                return whens;
            }
        }
    }
}

/// From the head to the image: the taps through which the pixel at a row and a sub-pixel is seen.
fn path(graph: &Graph, reaches: &[Reach], steps: isize, row: isize, at: isize) -> Vec<String> {
    let mut path = vec![graph.nodes[graph.head_node].name.clone()];
    let (mut node, mut row, mut at) = (graph.head_node, row, at);
    while node != IMAGE {
        let made = graph.layers.iter().find(|layer| layer.target == node || layer.pre == Some(node));
        let Some(layer) = made else { break };
        let through = reads(graph, layer).find_map(|tap| {
            let [down, right] = [0, 1].map(|axis| offset(graph, layer, &tap, axis));
            let (row, at) = (row - down, at - right * steps);
            let source = &reaches[tap.source];
            let sees = source.rows.get(&row) == Some(&at) || row == 0 && source.own.contains(&Some(at));
            sees.then_some((tap, row, at))
        });
        let Some((tap, row_there, at_there)) = through else { break };
        (node, row, at) = (tap.source, row_there, at_there);
        path.push(format!(
            "layer \"{}\" reads \"{}\" at row {:+}, column {:+}",
            layer.name, graph.nodes[node].name, tap.row, tap.column
        ));
    }
    path
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

/// What runs when along one axis, for people to look at.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// What each node reads; node 0 is the input.
    graph: Vec<Vec<Edge>>,
    /// The step at which each position of each node runs.
    steps: Vec<Vec<usize>>,
}

impl Timeline {
    /// Along a row of a network: step t makes pixel t. What is known when the row begins is not read from any node.
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
    use crate::graph::{Kind, pixelcnn_pp};
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
                    Kind::Strided => assert!(caches.iter().all(|c| 2 * c == layer.run_every)),
                    Kind::Transposed => {
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
