//! Checks of a graph: shapes, references, causality, limits. Engines rely on them.

use super::schedule::{NotCausal, Times, offset};
use super::table::axes_of;
use super::{Activation, Graph, IMAGE, LayerSpec, TapSpec, Tensors, Term};

/// A refused graph, and the reason.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// A refused node.
    #[error("node \"{node}\": {what}")]
    Node {
        /// The node.
        node: String,
        /// The expected and the found value.
        what: String,
    },
    /// A refused layer.
    #[error("layer \"{layer}\": {what}")]
    Layer {
        /// The layer.
        layer: String,
        /// The expected and the found value.
        what: String,
    },
    /// A fault of the whole graph.
    #[error("{0}")]
    Whole(String),
    /// A pixel's parameters depend on it or on one after it.
    #[error(transparent)]
    NotCausal(#[from] NotCausal),
}

/// Limits of a graph, so that a hostile one cannot ask for absurd work. All limits of graphs are here.
pub mod limits {
    /// Rows and columns of an image.
    pub const SIDE: usize = 8192;
    /// Nodes, and layers.
    pub const NODES: usize = 4096;
    /// Taps of all layers.
    pub const TAPS: usize = 65_536;
    /// Channels of a node, and numbers of a form.
    pub const CHANNELS: usize = 1 << 17;
    /// Forms of a node.
    pub const FORMS: usize = 256;
    /// Tables that a layer adds.
    pub const ADDITIONS: usize = 64;
    /// Rows or columns between a pixel and one that it reads.
    pub const REACH: usize = 4096;
    /// Halvings of the resolution.
    pub const LEVEL: usize = 12;
    /// Classes.
    pub const CLASSES: usize = 65_536;
    /// Levels of a channel.
    pub const LEVELS: usize = 65_536;
    /// Encodings of the image.
    pub const ENCODINGS: usize = 64;
    /// Bytes of the name of a node or layer.
    pub const NAME: usize = 256;
    /// Orders of channels in which tensors are kept, on average.
    pub const ORDERS: usize = 4;
    /// Numbers of a pixel without products: selections and forms.
    pub const NUMBERS: usize = 1 << 23;
    /// Products of a pixel.
    pub const PRODUCTS: usize = 1 << 30;
}

impl Graph {
    /// Checks everything that engines rely on; `tensors` are those that it names, at least.
    ///
    /// # Errors
    /// The first [`GraphError`] that is found.
    pub fn check(&self, tensors: &Tensors) -> Result<(), GraphError> {
        self.check_whole()?;
        self.check_nodes(tensors)?;
        let mut made = vec![false; self.nodes.len()];
        made[IMAGE] = true;
        let (mut taps, mut products, mut numbers) = (0_usize, 0_usize, 0_usize);
        for layer in &self.layers {
            self.check_layer(layer, &made, tensors)?;
            layer.makes().for_each(|node| made[node] = true);
            taps += layer.taps.len();
            let outputs = self.outputs(layer);
            for tap in &layer.taps {
                match &tap.term {
                    Term::Product(_) => {
                        products = products
                            .saturating_add(self.form_len(tap.source, tap.form).saturating_mul(outputs));
                    }
                    Term::Select { channels, .. } => numbers = numbers.saturating_add(channels.len()),
                }
            }
            let forms =
                (0..self.nodes[layer.target].forms.len()).map(|form| self.form_len(layer.target, form));
            numbers = numbers.saturating_add(outputs + forms.sum::<usize>());
        }
        for (what, found, most) in [
            ("taps", taps, limits::TAPS),
            ("products of a pixel", products, limits::PRODUCTS),
            ("numbers of a pixel", numbers, limits::NUMBERS),
        ] {
            if found > most {
                return Err(GraphError::Whole(format!("{what}: expected {most} at most, found {found}")));
            }
        }
        if let Some(node) = made.iter().position(|made| !made) {
            return Err(self.of_node(node, "no layer makes it".to_owned()));
        }
        let times = Times::new(self, Some(tensors))?;
        for (node, lag) in times.nodes.iter().map(|when| when.lag()).enumerate() {
            if lag.unsigned_abs() > limits::REACH {
                let what = format!("it lags by {lag} rows; expected {} at most", limits::REACH);
                return Err(self.of_node(node, what));
            }
        }
        if times.nodes[self.head_node].lag() > 0 {
            let what = "it depends on a node of which other channels are known rows later; give those a node of their own";
            return Err(self.of_node(self.head_node, what.to_owned()));
        }
        Ok(())
    }

    fn of_node(&self, node: usize, what: String) -> GraphError {
        GraphError::Node { node: self.nodes[node].name.clone(), what }
    }

    fn check_whole(&self) -> Result<(), GraphError> {
        let check = || {
            within("height", self.height, limits::SIDE)?;
            within("width", self.width, limits::SIDE)?;
            within("nodes", self.nodes.len(), limits::NODES)?;
            within("layers", self.layers.len(), limits::NODES)?;
            within("encodings", self.encodings.len(), limits::ENCODINGS)?;
            let names = self.nodes.iter().map(|node| &node.name).chain(self.layers.iter().map(|l| &l.name));
            names.map(String::len).try_for_each(|bytes| match bytes > limits::NAME {
                true => Err(format!("names: expected {} bytes at most, found {bytes}", limits::NAME)),
                false => Ok(()),
            })?;
            within("levels", self.head.levels(), limits::LEVELS)?;
            if self.classes > limits::CLASSES {
                return Err(format!(
                    "classes: expected {} at most, found {}",
                    limits::CLASSES,
                    self.classes
                ));
            }
            for (i, encoding) in self.encodings.iter().enumerate() {
                let (expected, found) = (self.head.levels() * encoding.width, encoding.table.len());
                within("numbers of an encoding", encoding.len(self.head.channels()), limits::CHANNELS)?;
                if expected != found {
                    return Err(format!("encoding {i}: expected {expected} numbers, found {found}"));
                }
                if let Some(x) = encoding.table.iter().find(|x| !x.is_finite() || !(**x as f32).is_finite())
                {
                    return Err(format!("encoding {i}: expected finite numbers, found {x}"));
                }
                if let Some(channel) = encoding.channel.filter(|channel| *channel >= self.head.channels()) {
                    let channels = self.head.channels();
                    return Err(format!(
                        "encoding {i}: channel: expected a number below {channels}, found {channel}"
                    ));
                }
            }
            let multiple = self.size_multiple();
            if !self.height.is_multiple_of(multiple) || !self.width.is_multiple_of(multiple) {
                let (height, width) = (self.height, self.width);
                return Err(format!("canvas: expected multiples of {multiple}, found {height} by {width}"));
            }
            Ok(())
        };
        check().map_err(GraphError::Whole)?;
        let (head, expected) = (&self.nodes[self.head_node], self.head.parameters());
        if (head.level, head.channels) != (0, expected) {
            let what = format!(
                "the head is drawn from it: expected {expected} channels at level 0, found {} at level {}",
                head.channels, head.level
            );
            return Err(self.of_node(self.head_node, what));
        }
        match head.forms.first() {
            Some(form) if *form == super::Form::of(Activation::Raw) => Ok(()),
            _ => Err(self.of_node(
                self.head_node,
                "the head is drawn from it: its first form must be raw".to_owned(),
            )),
        }
    }

    fn check_nodes(&self, tensors: &Tensors) -> Result<(), GraphError> {
        for (index, node) in self.nodes.iter().enumerate() {
            let check = || {
                within("channels", node.channels, limits::CHANNELS)?;
                if node.level > limits::LEVEL {
                    return Err(format!("level: expected {} at most, found {}", limits::LEVEL, node.level));
                }
                for form in &node.forms {
                    for name in form.scale.iter().chain(&form.shift) {
                        self.check_table(name, node.channels, node.channels, node.level, tensors)?;
                    }
                    if let Activation::LeakyRelu(slope) = form.activation
                        && !slope.is_finite()
                    {
                        return Err(format!("slope: expected a finite number, found {slope}"));
                    }
                }
                match index {
                    IMAGE => Ok(()),
                    _ => within("forms", node.forms.len(), limits::FORMS),
                }
            };
            check().map_err(|what| self.of_node(index, what))?;
        }
        Ok(())
    }

    /// Checks that a tensor has a value for every class and place of a level; one of half the width applies
    /// to each half.
    fn check_table(
        &self,
        name: &str,
        width: usize,
        half: usize,
        level: usize,
        tensors: &Tensors,
    ) -> Result<(), String> {
        let tensor = tensors.get(name).ok_or_else(|| format!("there is no tensor \"{name}\""))?;
        let (rows, columns, classes) = (self.height >> level, self.width >> level, self.classes.max(1));
        let fits = axes_of(&tensor.shape).is_some_and(|(axes, found)| {
            let all = [classes, rows, columns];
            (0..3).all(|axis| axes[axis] == 1 || axes[axis] == all[axis])
                && (found == width || found == half)
        });
        match fits {
            true => Ok(()),
            false => Err(format!(
                "tensor \"{name}\": expected shape [{width}], [{classes}, {width}] or [{classes}, {rows}, {columns}, {width}], \
                 or 1 instead of any length but the last, found {:?}",
                tensor.shape
            )),
        }
    }

    fn check_layer(&self, layer: &LayerSpec, made: &[bool], tensors: &Tensors) -> Result<(), GraphError> {
        let check = || {
            let exists = |node: usize| node < self.nodes.len();
            let outputs = self.outputs(layer);
            for node in layer.makes() {
                if !exists(node) || made[node] || layer.pre == Some(layer.target) {
                    return Err("its target is made by another layer, or is none".to_owned());
                }
            }
            let target = &self.nodes[layer.target];
            for tap in &layer.taps {
                self.check_tap(layer, tap, made, tensors).map_err(|what| {
                    let source = self.nodes.get(tap.source).map_or("?", |node| &node.name);
                    format!("tap of \"{source}\" at row {}, column {}: {what}", tap.row, tap.column)
                })?;
            }
            if layer.additions.len() > limits::ADDITIONS {
                let (most, found) = (limits::ADDITIONS, layer.additions.len());
                return Err(format!("add: expected {most} tables at most, found {found}"));
            }
            for name in &layer.additions {
                self.check_table(name, outputs, target.channels, target.level, tensors)?;
            }
            if let Some((node, form)) = layer.residual {
                let fits = exists(node)
                    && made[node]
                    && form < self.forms(node)
                    && self.nodes[node].level == target.level
                    && self.form_len(node, form) == target.channels
                    && self.groups(node, form) == 1;
                if !fits {
                    return Err(format!(
                        "residual: expected a form of {} numbers, not doubled by concat_elu, of a node that an earlier layer \
                         makes, at the same level",
                        target.channels
                    ));
                }
            }
            if let Some(pre) = layer.pre
                && (self.nodes[pre].channels, self.nodes[pre].level) != (outputs, target.level)
            {
                let (channels, level) = (self.nodes[pre].channels, self.nodes[pre].level);
                return Err(format!(
                    "pre: expected a node of {outputs} channels at level {}, found {channels} at level {level}",
                    target.level
                ));
            }
            let is_one = |f: &Activation| f.groups() == 1;
            if layer.gate.iter().flatten().any(|f| !is_one(f)) {
                return Err(
                    "gate: concat_elu makes two channels of one, and cannot be multiplied".to_owned()
                );
            }
            Ok(())
        };
        check().map_err(|what| GraphError::Layer { layer: layer.name.clone(), what })
    }

    fn check_tap(
        &self,
        layer: &LayerSpec,
        tap: &TapSpec,
        made: &[bool],
        tensors: &Tensors,
    ) -> Result<(), String> {
        if tap.source >= self.nodes.len() || !made[tap.source] {
            return Err("expected a node that an earlier layer makes".to_owned());
        }
        let forms = self.forms(tap.source);
        if tap.form >= forms {
            return Err(format!("form: expected a number below {forms}, found {}", tap.form));
        }
        let (source, target) = (self.nodes[tap.source].level, self.nodes[layer.target].level);
        let is_coarser = source == target + 1;
        if !is_coarser && source != target && source + 1 != target {
            return Err(format!(
                "expected a node at level {target}, or one more or less, found level {source}"
            ));
        }
        if is_coarser != tap.phase.is_some() || tap.phase.is_some_and(|phase| phase.iter().any(|p| *p > 1))
        {
            return Err(
                "phase: expected two numbers, 0 or 1, for a source one level coarser alone".to_owned()
            );
        }
        let reach = [0, 1].map(|axis| offset(self, layer, tap, axis).unsigned_abs());
        if reach
            .iter()
            .chain(&[tap.row.unsigned_abs(), tap.column.unsigned_abs()])
            .any(|r| *r > limits::REACH)
        {
            return Err(format!("expected {} rows and columns at most", limits::REACH));
        }
        let (numbers, outputs) = (self.form_len(tap.source, tap.form), self.outputs(layer));
        match &tap.term {
            Term::Select { channels, outputs: first } => {
                let fits = channels.start < channels.end
                    && channels.end <= numbers
                    && first.checked_add(channels.len()).is_some_and(|end| end <= outputs);
                match fits {
                    true => Ok(()),
                    false => Err(format!(
                        "select: expected some of {numbers} numbers to some of {outputs} outputs, found {channels:?} to {first}"
                    )),
                }
            }
            Term::Product(slice) => {
                let name = &slice.tensor;
                let tensor = tensors.get(name).ok_or_else(|| format!("there is no tensor \"{name}\""))?;
                let of_group = self.group_len(tap.source, tap.form);
                let inputs = slice.groups.iter().map(|first| first + of_group).max().unwrap_or(0);
                let fits = match tensor.shape[..] {
                    [rows, columns] => slice.kernel == [0, 0] && inputs <= rows && columns == outputs,
                    [height, width, rows, columns] => {
                        slice.kernel[0] < height
                            && slice.kernel[1] < width
                            && inputs <= rows
                            && columns == outputs
                    }
                    _ => false,
                };
                match fits && slice.groups.len() <= self.groups(tap.source, tap.form) {
                    true => Ok(()),
                    false => Err(format!(
                        "tensor \"{name}\": expected shape [{inputs}, {outputs}], found {:?}",
                        tensor.shape
                    )),
                }
            }
        }
    }
}

fn within(what: &str, found: usize, most: usize) -> Result<(), String> {
    match (1..=most).contains(&found) {
        true => Ok(()),
        false => Err(format!("{what}: expected 1 to {most}, found {found}")),
    }
}
