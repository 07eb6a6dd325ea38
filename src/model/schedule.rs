//! When each node runs, from one rule: a node runs at the first step at which all its inputs exist
//! (Ramachandran et al. 2017, *Fast Generation for Convolutional Autoregressive Models*).
//!
//! `cache_every` and `run_every` follow from it; nothing is typed in.

use super::Network;

/// How the position of an input follows from the position of its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Position `i` reads around `i`.
    Same,
    /// Position `i` reads around `2i`: a strided convolution.
    Double,
    /// Position `i` reads around `⌊i/2⌋`: a transposed convolution.
    Half,
}

/// One input of a layer, along one axis.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    /// Index of the layer that is read.
    pub from: usize,
    /// How positions correspond.
    pub rate: Rate,
    /// Offset of the position that is read; of several, the latest decides.
    pub offset: isize,
}

impl Edge {
    /// The position that a position reads, unless it is before the first.
    fn position(&self, of_reader: usize) -> Option<usize> {
        let position = match self.rate {
            Rate::Same => of_reader,
            Rate::Double => 2 * of_reader,
            Rate::Half => of_reader / 2,
        };
        usize::try_from(position as isize + self.offset).ok()
    }
}

/// The step at which each position of each layer runs.
///
/// `graph[l]` are the inputs of layer `l`, all of which come before it; layer 0 is the input, whose
/// position `i` exists from step `input(i)` on. `lengths[l]` is the number of positions of layer `l`;
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

/// The interval between the steps at which each layer runs, from [`first_steps`].
///
/// # Panics
/// If a layer does not run at regular intervals, which no layer of this family does.
pub fn periods(steps: &[Vec<usize>]) -> Vec<usize> {
    let period = |layer: &Vec<usize>| {
        let mut distinct = layer.clone();
        distinct.dedup();
        let every = distinct.get(1).map_or(1, |second| second - distinct[0]);
        assert!(distinct.windows(2).all(|w| w[1] - w[0] == every), "irregular schedule: {layer:?}");
        every
    };
    steps.iter().map(period).collect()
}

/// What runs when along one axis, for people to look at.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// What each layer reads; layer 0 is the input.
    graph: Vec<Vec<Edge>>,
    /// The step at which each position of each layer runs.
    steps: Vec<Vec<usize>>,
}

impl Timeline {
    /// Along a row of a network, a layer a node: step t makes pixel t. What is known when the row begins is not read
    /// from any layer.
    pub fn of_row(network: &Network) -> Self {
        let graph = network.edges(|layer, k| (k >= layer.early).then(|| layer.taps[k].column));
        Self { steps: first_steps(&graph, &network.canvas(), |column| column + 1), graph }
    }

    /// Figure 2 of arXiv 1704.06001: two strided layers down, two transposed up, kernels of width 2.
    pub fn of_figure() -> Self {
        let reads = |rate, offsets: &[isize], from| {
            offsets.iter().map(|&offset| Edge { from, rate, offset }).collect::<Vec<_>>()
        };
        let graph = vec![
            vec![],
            reads(Rate::Double, &[-1, 0], 0),
            reads(Rate::Double, &[-1, 0], 1),
            reads(Rate::Half, &[0], 2),
            reads(Rate::Half, &[0], 3),
        ];
        Self { steps: first_steps(&graph, &[16, 8, 4, 8, 16], |t| t), graph }
    }

    /// Number of layers, the input included.
    pub fn layers(&self) -> usize {
        self.steps.len()
    }

    /// The step at which each position of a layer runs.
    pub fn steps(&self, layer: usize) -> &[usize] {
        &self.steps[layer]
    }

    /// The layers and positions that a position of a layer reads.
    pub fn reads(&self, layer: usize, position: usize) -> impl Iterator<Item = (usize, usize)> {
        self.graph[layer].iter().filter_map(move |edge| {
            let position = edge.position(position)?;
            (position < self.steps[edge.from].len()).then_some((edge.from, position))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Config;
    use crate::model::network::{Kind, Stream, Tap};

    #[test]
    fn the_papers_one_dimensional_figure() {
        let Timeline { steps, .. } = Timeline::of_figure();
        let run_at =
            |t| steps[1..].iter().map(move |layer: &Vec<usize>| layer.iter().filter(|s| **s == t).count());
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
            let net = Network::new(&config);
            let columns = Timeline::of_row(&net).steps;
            for layer in &net.layers {
                let node = &net.nodes[layer.target];
                assert_eq!(layer.run_every, 1 << layer.grid, "{}", layer.name);
                assert_eq!(node.made_every, layer.run_every);
                let reads_every = |tap: &Tap| net.nodes[tap.source].made_every;
                let caches = layer.taps.iter().map(reads_every).collect::<Vec<_>>();
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
                // Along a row the same rule gives the same period, and column c at its own step.
                if layer.stream == Stream::Horizontal {
                    for (i, step) in columns[layer.target].iter().enumerate() {
                        let expected = (i << layer.level) / layer.run_every * layer.run_every;
                        assert_eq!(*step, expected, "{} column {i}", layer.name);
                    }
                }
            }
        }
    }
}
