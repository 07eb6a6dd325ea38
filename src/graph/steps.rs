//! Networks whose channels are drawn one after another: hidden channels sorted by the step in which they
//! are computed.
//!
//! Masks within a pixel leave channels of one node for different steps, often in turns. Their order has no
//! meaning, so it is changed: the channels of one step then are contiguous, a range of outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::check::{GraphError, limits};
use super::schedule::{Times, When};
use super::{Graph, IMAGE, LayerSpec, TapSpec, Tensors, Term};
use crate::model::weights::Tensor;

/// The new order of a node's channels: `order[new] = old`.
type Order = Vec<usize>;

/// Orders the channels of all nodes by the step that computes them. Changes nothing in a network without
/// steps.
///
/// # Errors
/// [`GraphError::NotCausal`]; and [`GraphError::Whole`] if layers share tensors that they need in many
/// orders.
pub fn order_channels(graph: &mut Graph, tensors: &mut Tensors) -> Result<(), GraphError> {
    if graph.head.steps() == 1 {
        return Ok(());
    }
    let times = Times::new(graph, Some(tensors))?;
    let orders = orders(graph, &times);
    let places = orders.iter().map(inverse).collect();
    let numbers = |tensors: &Tensors| tensors.values().map(|tensor| tensor.data.len()).sum::<usize>();
    let room = limits::ORDERS * numbers(tensors);
    let mut rewriter = Rewriter { orders: &orders, places, tensors, made: BTreeMap::new(), room };
    for (node, spec) in graph.nodes.iter_mut().enumerate() {
        for form in &mut spec.forms {
            for name in [&mut form.scale, &mut form.shift].into_iter().flatten() {
                *name = rewriter.table(name, node, 1)?;
            }
        }
    }
    for layer in 0..graph.layers.len() {
        let target = graph.layers[layer].target;
        let halves = if graph.layers[layer].gate.is_some() { 2 } else { 1 };
        let spec = &graph.layers[layer];
        let mut taps = Vec::new();
        for tap in &spec.taps {
            taps.extend(rewriter.tap(graph, tap, target, halves)?);
        }
        let additions: Result<_, _> =
            spec.additions.iter().map(|name| rewriter.table(name, target, halves)).collect();
        graph.layers[layer].additions = additions?;
        graph.layers[layer].taps = taps;
    }
    let used: BTreeSet<&str> = graph.tensor_names().collect();
    tensors.retain(|name, _| used.contains(&name[..]));
    graph.tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    Ok(())
}

/// The inverse permutation.
fn inverse(order: &Order) -> Order {
    let mut places = vec![0; order.len()];
    order.iter().enumerate().for_each(|(new, old)| places[*old] = new);
    places
}

/// The order of every node. Nodes that are added to each other channel by channel have one order.
fn orders(graph: &Graph, times: &Times) -> Vec<Order> {
    let mut group: Vec<usize> = (0..graph.nodes.len()).collect();
    let mut join = |a: usize, b: usize| {
        let (from, to) = (group[a], group[b]);
        group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
    };
    for layer in &graph.layers {
        if let Some((residual, _)) = layer.residual {
            join(residual, layer.target);
        }
        if let Some(pre) = layer.pre.filter(|_| layer.gate.is_none()) {
            join(pre, layer.target);
        }
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    group.iter().enumerate().for_each(|(node, group)| members.entry(*group).or_default().push(node));

    // A node that keeps the sum of a gate has its halves in the order of the target. If it belongs to
    // another order, or its order may not change, neither changes.
    let halved =
        |layer: &LayerSpec| layer.pre.filter(|_| layer.gate.is_some()).map(|pre| (layer.target, pre));
    let halved: Vec<_> = graph.layers.iter().filter_map(halved).collect();
    let mut fixed = BTreeSet::from([group[IMAGE], group[graph.head_node]]);
    for (target, pre) in &halved {
        if members[&group[*pre]].len() > 1 {
            fixed.extend([group[*target], group[*pre]]);
        }
    }
    loop {
        let before = fixed.len();
        for (target, pre) in &halved {
            let both = [group[*target], group[*pre]];
            if both.iter().any(|group| fixed.contains(group)) {
                fixed.extend(both);
            }
        }
        if fixed.len() == before {
            break;
        }
    }

    let mut orders: Vec<Order> = graph.nodes.iter().map(|node| (0..node.channels).collect()).collect();
    for nodes in members.iter().filter(|(group, _)| !fixed.contains(group)).map(|(_, nodes)| nodes) {
        let mut order: Order = (0..graph.nodes[nodes[0]].channels).collect();
        let delay = |node: usize, channel: usize| match &times.nodes[node] {
            When::Pixel { delays, .. } if delays.len() > 1 => delays[channel],
            _ => 0,
        };
        order.sort_by_cached_key(|channel| {
            nodes.iter().map(|&node| delay(node, *channel)).collect::<Vec<_>>()
        });
        nodes.iter().for_each(|&node| orders[node].clone_from(&order));
    }
    for (target, pre) in halved.into_iter().filter(|(_, pre)| !fixed.contains(&group[*pre])) {
        let of_target = &orders[target];
        orders[pre] =
            of_target.iter().copied().chain(of_target.iter().map(|old| of_target.len() + old)).collect();
    }
    orders
}

struct Rewriter<'a> {
    orders: &'a [Order],
    /// Their inverses.
    places: Vec<Order>,
    tensors: &'a mut Tensors,
    /// Tensors already reordered, by name and the orders of rows and columns.
    made: BTreeMap<(String, Order, Order), String>,
    /// Numbers that may still be allocated.
    room: usize,
}

impl Rewriter<'_> {
    /// A tensor with other rows and columns; the old one, if that changes nothing.
    fn reordered(&mut self, name: &str, rows: Order, columns: Order) -> Result<String, GraphError> {
        let is_same = |order: &Order| order.iter().enumerate().all(|(new, old)| new == *old);
        if is_same(&rows) && is_same(&columns) {
            return Ok(name.to_owned());
        }
        let key = (name.to_owned(), rows, columns);
        if let Some(made) = self.made.get(&key) {
            return Ok(made.clone());
        }
        let (_, rows, columns) = &key;
        let Tensor { shape, data } = &self.tensors[name];
        let width = shape[shape.len() - 1];
        self.room = self.room.checked_sub(data.len()).ok_or_else(|| {
            let most = limits::ORDERS;
            GraphError::Whole(format!("tensors are read in more than {most} orders of channels each"))
        })?;
        let mut reordered = Vec::with_capacity(data.len());
        for row in rows {
            reordered.extend(columns.iter().map(|column| data[row * width + column]));
        }
        let tensor = Tensor { shape: shape.clone(), data: reordered };
        let made = format!("{name} in order {}", self.made.len());
        self.tensors.insert(made.clone(), tensor);
        self.made.insert(key, made.clone());
        Ok(made)
    }

    /// The columns of a layer's outputs, or of a half of them.
    fn columns(&self, node: usize, halves: usize) -> Order {
        let order = &self.orders[node];
        (0..halves).flat_map(|half| order.iter().map(move |old| half * order.len() + old)).collect()
    }

    /// A table that is added to, or multiplied with, the channels of a node.
    fn table(&mut self, name: &str, node: usize, halves: usize) -> Result<String, GraphError> {
        let shape = &self.tensors[name].shape;
        let width = shape[shape.len() - 1];
        let places: usize = shape[..shape.len() - 1].iter().product();
        // A table of half the width applies to each half.
        let halves = if width == self.orders[node].len() { 1 } else { halves };
        let columns = self.columns(node, halves);
        self.reordered(name, (0..places).collect(), columns)
    }

    fn tap(
        &mut self,
        graph: &Graph,
        tap: &TapSpec,
        target: usize,
        halves: usize,
    ) -> Result<Vec<TapSpec>, GraphError> {
        match &tap.term {
            Term::Product(slice) => {
                let of_source = match tap.source {
                    IMAGE => (0..graph.form_len(IMAGE, tap.form)).collect(),
                    source => self.columns(source, graph.groups(source, tap.form)),
                };
                let mut slice = slice.clone();
                slice.tensor = self.reordered(&slice.tensor, of_source, self.columns(target, halves))?;
                Ok(vec![TapSpec { term: Term::Product(slice), ..tap.clone() }])
            }
            Term::Select { channels, outputs } => {
                let place = |node: usize, old: usize| {
                    let places = &self.places[node];
                    old / places.len() * places.len() + places[old % places.len()]
                };
                // For every output, in its new place, the new place of the number that it takes.
                let mut pairs: Vec<_> = (*outputs..)
                    .zip(channels.clone())
                    .map(|(output, number)| {
                        let number = if tap.source == IMAGE { number } else { place(tap.source, number) };
                        (place(target, output), number)
                    })
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
                Ok(runs.into_iter().map(select).collect())
            }
        }
    }
}
