//! Networks whose channels are drawn one after another: hidden channels in the order in which they are made.
//!
//! Masks within a pixel leave channels of one node for different steps, often in turns. Their order means nothing, so it is
//! changed: what is made in one step then lies together, and is made by a range of outputs.

use std::collections::BTreeMap;
use std::ops::Range;

use super::schedule::{NotCausal, Times, When};
use super::{Graph, IMAGE, TapSpec, Tensors, Term};
use crate::model::weights::Tensor;

/// The new order of a node's channels: `order[new] = old`.
type Order = Vec<usize>;

/// Orders the channels of all nodes by when they are made. Changes nothing in a network without steps.
///
/// # Errors
/// [`NotCausal`]
pub fn order_channels(graph: &mut Graph, tensors: &mut Tensors) -> Result<(), NotCausal> {
    if graph.head.steps() == 1 {
        return Ok(());
    }
    let times = Times::new(graph, Some(tensors))?;
    let orders = orders(graph, &times);
    let mut rewriter = Rewriter { orders: &orders, tensors, made: BTreeMap::new() };
    for (node, spec) in graph.nodes.iter_mut().enumerate() {
        for form in &mut spec.forms {
            for name in [&mut form.scale, &mut form.shift].into_iter().flatten() {
                *name = rewriter.table(name, node, 1);
            }
        }
    }
    for layer in 0..graph.layers.len() {
        let target = graph.layers[layer].target;
        let halves = if graph.layers[layer].gate.is_some() { 2 } else { 1 };
        let spec = &graph.layers[layer];
        let taps = spec.taps.iter().flat_map(|tap| rewriter.tap(graph, tap, target, halves)).collect();
        let additions = spec.additions.iter().map(|name| rewriter.table(name, target, halves)).collect();
        graph.layers[layer].taps = taps;
        graph.layers[layer].additions = additions;
    }
    for (name, tensor) in rewriter.made.values().map(|name| (name, &tensors[name])) {
        graph.tensors.insert(name.clone(), tensor.shape.clone());
    }
    Ok(())
}

/// The order of every node. Nodes that are added to each other channel by channel have one order.
fn orders(graph: &Graph, times: &Times) -> Vec<Order> {
    let mut group: Vec<usize> = (0..graph.nodes.len()).collect();
    for layer in &graph.layers {
        if let Some((residual, _)) = layer.residual {
            let (from, to) = (group[residual], group[layer.target]);
            group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
        }
    }
    let fixed = [group[IMAGE], group[graph.head_node]];
    let mut orders: Vec<Order> = graph.nodes.iter().map(|node| (0..node.channels).collect()).collect();
    for node in 0..graph.nodes.len() {
        if fixed.contains(&group[node]) {
            continue;
        }
        let delay = |other: usize, channel: usize| match &times.nodes[other] {
            When::Pixel { delays } if delays.len() > 1 => delays[channel],
            _ => 0,
        };
        let members: Vec<_> = (0..graph.nodes.len()).filter(|&other| group[other] == group[node]).collect();
        let key = |channel: &usize| members.iter().map(|&other| delay(other, *channel)).collect::<Vec<_>>();
        orders[node].sort_by_key(key);
    }
    // What keeps a layer's sum has its halves in the order of the target.
    for layer in &graph.layers {
        if let Some(pre) = layer.pre {
            let of_target = &orders[layer.target].clone();
            let halves = graph.nodes[pre].channels / of_target.len();
            let of_half = |half: usize| of_target.iter().map(move |old| half * of_target.len() + old);
            orders[pre] = (0..halves).flat_map(of_half).collect();
        }
    }
    orders
}

struct Rewriter<'a> {
    orders: &'a [Order],
    tensors: &'a mut Tensors,
    /// What was made of a tensor, by its name and the orders of its rows and columns.
    made: BTreeMap<(String, Order, Order), String>,
}

impl Rewriter<'_> {
    /// A tensor with other rows and columns; the old one, if that changes nothing.
    fn reordered(&mut self, name: &str, rows: Order, columns: Order) -> String {
        let is_same = |order: &Order| order.iter().enumerate().all(|(new, old)| new == *old);
        if is_same(&rows) && is_same(&columns) {
            return name.to_owned();
        }
        let key = (name.to_owned(), rows, columns);
        if let Some(made) = self.made.get(&key) {
            return made.clone();
        }
        let (_, rows, columns) = &key;
        let Tensor { shape, data } = &self.tensors[name];
        let width = shape[shape.len() - 1];
        let mut reordered = Vec::with_capacity(data.len());
        for row in rows {
            reordered.extend(columns.iter().map(|column| data[row * width + column]));
        }
        let tensor = Tensor { shape: shape.clone(), data: reordered };
        let made = format!("{name} in order {}", self.made.len());
        self.tensors.insert(made.clone(), tensor);
        self.made.insert(key, made.clone());
        made
    }

    /// The columns of a layer's outputs, or of a half of them.
    fn columns(&self, node: usize, halves: usize) -> Order {
        let order = &self.orders[node];
        (0..halves).flat_map(|half| order.iter().map(move |old| half * order.len() + old)).collect()
    }

    /// Something that is added to, or multiplied with, the channels of a node.
    fn table(&mut self, name: &str, node: usize, halves: usize) -> String {
        let shape = &self.tensors[name].shape;
        let width = shape[shape.len() - 1];
        let places: usize = shape[..shape.len() - 1].iter().product();
        // One of half the width counts for each half.
        let halves = if width == self.orders[node].len() { 1 } else { halves };
        let columns = self.columns(node, halves);
        self.reordered(name, (0..places).collect(), columns)
    }

    fn tap(&mut self, graph: &Graph, tap: &TapSpec, target: usize, halves: usize) -> Vec<TapSpec> {
        let of_source = match tap.source {
            IMAGE => (0..graph.form_len(IMAGE, tap.form)).collect(),
            source => {
                let groups = graph.nodes[source].forms[tap.form].activation.groups();
                self.columns(source, groups)
            }
        };
        let of_target = self.columns(target, halves);
        match &tap.term {
            Term::Product(slice) => {
                let mut slice = slice.clone();
                slice.tensor = self.reordered(&slice.tensor, of_source, of_target);
                vec![TapSpec { term: Term::Product(slice), ..tap.clone() }]
            }
            Term::Select { channels, outputs } => {
                let place = |order: &Order, old: usize| {
                    order.iter().position(|o| *o == old).expect("orders are whole")
                };
                // Of every output, in its new place, the new place of the number that it takes.
                let mut pairs: Vec<_> = channels
                    .clone()
                    .enumerate()
                    .map(|(i, number)| (place(&of_target, outputs + i), place(&of_source, number)))
                    .collect();
                pairs.sort_unstable();
                let mut runs: Vec<(Range<usize>, usize)> = Vec::new();
                for (output, number) in pairs {
                    match runs.last_mut() {
                        Some((range, first)) if range.end == number && *first + range.len() == output => {
                            range.end += 1
                        }
                        _ => runs.push((number..number + 1, output)),
                    }
                }
                let select = |(channels, outputs)| TapSpec {
                    term: Term::Select { channels, outputs },
                    ..tap.clone()
                };
                runs.into_iter().map(select).collect()
            }
        }
    }
}
