//! Model files that hold a graph: `pixelcnn-2`, see `docs/model-file.md`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use super::weights::{ModelError, Tensor};
use crate::graph::check::limits;
use crate::graph::{
    Activation, Encoding, Form, Graph, IMAGE, LayerKind, LayerSpec, NodeSpec, Slice, TapSpec, Tensors,
    Term, order_channels,
};
use crate::head::{Head, MOST_CHANNELS, logistic_mixture};

/// The version that is written and read. A file of another major version is refused, and so are keys of a
/// later minor one.
pub const VERSION: &str = "1.0";

/// Name of the tensor of bytes that holds the graph, where the metadata does not.
pub const GRAPH: &str = "graph";

/// Bytes of the graph, at most.
const LONGEST: usize = 64 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    canvas: [usize; 3],
    #[serde(default)]
    classes: Vec<String>,
    levels: usize,
    encoding: Vec<EncodingEntry>,
    nodes: Vec<NodeEntry>,
    layers: Vec<LayerEntry>,
    head: HeadEntry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodingEntry {
    table: String,
    channel: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    name: String,
    channels: usize,
    #[serde(default)]
    level: usize,
    forms: Vec<FormEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FormEntry {
    activation: String,
    slope: Option<f32>,
    scale: Option<String>,
    shift: Option<String>,
    #[serde(default)]
    negate: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerEntry {
    name: String,
    target: String,
    taps: Vec<TapEntry>,
    #[serde(default)]
    add: Vec<String>,
    gate: Option<[String; 2]>,
    residual: Option<(String, usize)>,
    pre: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TapEntry {
    source: String,
    #[serde(default)]
    form: usize,
    row: isize,
    column: isize,
    phase: Option<[usize; 2]>,
    weight: Option<String>,
    select: Option<[usize; 2]>,
    outputs: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadEntry {
    node: String,
    kind: String,
    #[serde(default)]
    steps: bool,
}

/// Tensors, and the names of those that are 0 throughout.
type WithZeros<'a> = (&'a Tensors, &'a BTreeSet<&'a String>);

/// The parts of a model that a file of this format holds.
pub struct Parts {
    /// The graph.
    pub graph: Graph,
    /// The tensors that it names.
    pub tensors: Tensors,
    /// Names of its classes.
    pub classes: Vec<String>,
}

/// Reads a graph and its tensors; `read` gives the numbers of a tensor of the file, and its shape.
///
/// # Errors
/// Any [`ModelError`].
pub fn read(
    metadata: &HashMap<String, String>,
    names: impl Iterator<Item = String>,
    bytes: impl Fn(&str) -> Option<Vec<u8>>,
    read: impl Fn(&str) -> Result<Option<(Vec<usize>, Vec<f64>)>, ModelError>,
) -> Result<Parts, ModelError> {
    check_version(metadata)?;
    let (text, mut unused): (_, BTreeSet<String>) = (graph_text(metadata, bytes)?, names.collect());
    unused.remove(GRAPH);
    let refuse = |what: String| ModelError::Graph(shortened(what));
    let file: File = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    let load = |name: &str| -> Result<(Vec<usize>, Vec<f64>), ModelError> {
        read(name)?.ok_or_else(|| refuse(format!("there is no tensor \"{name}\"")))
    };

    if file.encoding.len() > limits::ENCODINGS {
        return Err(refuse(format!("expected {} encodings at most", limits::ENCODINGS)));
    }
    let mut encodings: Vec<Encoding> = Vec::new();
    let mut seen = BTreeSet::new();
    for EncodingEntry { table, channel } in &file.encoding {
        if !seen.insert((table, channel)) {
            return Err(refuse(format!("encoding \"{table}\": it is there twice")));
        }
        let (shape, numbers) = load(table)?;
        unused.remove(table);
        let width = match shape[..] {
            [levels] if levels == file.levels => 1,
            [levels, width] if levels == file.levels && width > 0 => width,
            _ => {
                let levels = file.levels;
                return Err(refuse(format!(
                    "encoding \"{table}\": expected shape [{levels}] or [{levels}, E], found {shape:?}"
                )));
            }
        };
        encodings.push(Encoding { table: numbers, width, channel: *channel, constants: Vec::new() });
    }

    let mut tensors = BTreeMap::new();
    for name in file.names() {
        if !tensors.contains_key(name) {
            let (shape, numbers) = load(name)?;
            unused.remove(name);
            let data = numbers.into_iter().map(|x| x as f32).collect();
            tensors.insert(name.to_owned(), Tensor { shape, data });
        }
    }
    if let Some(name) = unused.pop_first() {
        let found = load(&name)?.0;
        return Err(ModelError::ExtraTensor { name, found, more: unused.len() });
    }
    let mut graph = file.graph(encodings, &tensors).map_err(refuse)?;
    graph.check(&tensors).map_err(|error| refuse(error.to_string()))?;
    order_channels(&mut graph, &mut tensors).map_err(|error| refuse(error.to_string()))?;
    Ok(Parts { graph, tensors, classes: file.classes })
}

/// A message without its end, if names in it are absurdly long.
fn shortened(mut what: String) -> String {
    const LONGEST: usize = 1500;
    if let Some((end, _)) = what.char_indices().nth(LONGEST) {
        what.truncate(end);
        what.push('…');
    }
    what
}

fn check_version(metadata: &HashMap<String, String>) -> Result<(), ModelError> {
    let version = metadata.get("version").ok_or(ModelError::MissingMetadata { key: "version" })?;
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    match major(version) == major(VERSION) {
        true => Ok(()),
        false => Err(ModelError::BadMetadata {
            key: "version",
            expected: format!("{VERSION}, or another minor version"),
            found: version.clone(),
        }),
    }
}

/// The graph's JSON: in the metadata, or in a tensor of bytes.
fn graph_text(
    metadata: &HashMap<String, String>,
    bytes: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<String, ModelError> {
    let refuse = |what: &str| Err(ModelError::Graph(what.to_owned()));
    let text = match (metadata.get(GRAPH), bytes(GRAPH)) {
        (Some(_), Some(_)) => return refuse("it is there twice: in the metadata, and as a tensor"),
        (Some(text), None) => text.clone(),
        (None, Some(bytes)) if bytes.len() > LONGEST => String::new(),
        (None, Some(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => return refuse("the tensor \"graph\" is not UTF-8"),
        },
        (None, None) => return Err(ModelError::MissingMetadata { key: GRAPH }),
    };
    match text.len() {
        1..=LONGEST => Ok(text),
        _ => Err(ModelError::Graph(format!("expected 1 to {LONGEST} bytes"))),
    }
}

impl File {
    /// The tensors that it names, encodings aside.
    fn names(&self) -> impl Iterator<Item = &String> {
        let forms = self.nodes.iter().flat_map(|node| &node.forms);
        let of_forms = forms.flat_map(|form| form.scale.iter().chain(&form.shift));
        let of_layers = self
            .layers
            .iter()
            .flat_map(|l| l.add.iter().chain(l.taps.iter().filter_map(|tap| tap.weight.as_ref())));
        of_forms.chain(of_layers)
    }

    fn graph(&self, encodings: Vec<Encoding>, tensors: &Tensors) -> Result<Graph, String> {
        let [height, width, channels] = self.canvas;
        let taps: usize = self.layers.iter().map(|layer| layer.taps.len()).sum();
        for (what, found, most) in [
            ("nodes", self.nodes.len(), limits::NODES),
            ("layers", self.layers.len(), limits::NODES),
            ("taps", taps, limits::TAPS),
            ("classes", self.classes.len(), limits::CLASSES),
        ] {
            if found > most {
                return Err(format!("{what}: expected {most} at most, found {found}"));
            }
        }
        if !(1..=MOST_CHANNELS).contains(&channels) {
            return Err(format!("canvas: expected 1 to {MOST_CHANNELS} channels, found {channels}"));
        }
        let mut index = BTreeMap::from([("image", IMAGE)]);
        let image = NodeSpec {
            name: "image".to_owned(),
            level: 0,
            channels: encodings.first().map_or(0, |encoding| encoding.len(channels)),
            forms: Vec::new(),
        };
        let mut nodes = vec![image];
        for node in &self.nodes {
            let of_node = |what: String| format!("node \"{}\": {what}", node.name);
            if index.insert(&node.name, nodes.len()).is_some() {
                return Err(of_node("there is another node of this name".to_owned()));
            }
            let forms: Result<_, _> = node.forms.iter().map(FormEntry::form).collect();
            let (name, level, channels) = (node.name.clone(), node.level, node.channels);
            nodes.push(NodeSpec { name, level, channels, forms: forms.map_err(of_node)? });
        }
        let find =
            |name: &str| index.get(name).copied().ok_or_else(|| format!("there is no node \"{name}\""));
        let head_node = find(&self.head.node).map_err(|what| format!("head: {what}"))?;
        let head = self.head.head(channels, self.levels, nodes[head_node].channels)?;
        let mut graph = Graph {
            height,
            width,
            classes: self.classes.len(),
            encodings,
            nodes,
            layers: Vec::new(),
            head,
            head_node,
            tensors: tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect(),
        };
        if self.classes.iter().collect::<BTreeSet<_>>().len() < self.classes.len() {
            return Err("classes: two have the same name".to_owned());
        }
        let zeros = |(_, tensor): &(&String, &Tensor)| tensor.data.iter().all(|w| *w == 0.0);
        let zeros: BTreeSet<_> = tensors.iter().filter(zeros).map(|(name, _)| name).collect();
        for layer in &self.layers {
            let spec = layer.layer(&graph, &find, (tensors, &zeros));
            graph.layers.push(spec.map_err(|what| format!("layer \"{}\": {what}", layer.name))?);
        }
        Ok(graph)
    }
}

impl HeadEntry {
    /// The head of a node with this number of channels.
    fn head(&self, channels: usize, levels: usize, parameters: usize) -> Result<Head, String> {
        let two_levels = || match levels {
            2 => Ok(()),
            _ => Err(format!("head: bernoulli has 2 levels, found {levels}")),
        };
        match &self.kind[..] {
            "softmax" if (2..=limits::LEVELS).contains(&levels) => {
                Ok(Head::softmax(channels, levels, self.steps))
            }
            "softmax" => Err(format!("levels: expected 2 to {}, found {levels}", limits::LEVELS)),
            "bernoulli" => two_levels().map(|()| Head::bernoulli(channels, self.steps)),
            "logistic_mixture" => {
                let of_component = match (channels, levels, self.steps) {
                    (1 | 3, logistic_mixture::LEVELS, false) => logistic_mixture::parameters(channels, 1),
                    _ => {
                        return Err(format!(
                            "head: logistic_mixture has 1 or 3 channels of 256 levels and no steps, found {channels} of {levels}"
                        ));
                    }
                };
                match parameters > 0 && parameters.is_multiple_of(of_component) {
                    true => Ok(Head::logistic_mixture(channels, parameters / of_component)),
                    false => Err(format!(
                        "head: expected a multiple of {of_component} channels, found {parameters}"
                    )),
                }
            }
            other => Err(format!(
                "head: kind: expected softmax, bernoulli or logistic_mixture, found \"{other}\""
            )),
        }
    }
}

impl FormEntry {
    fn form(&self) -> Result<Form, String> {
        let activation = activation(&self.activation, self.slope)?;
        let Self { negate, scale, shift, .. } = self;
        Ok(Form { activation, negate: *negate, scale: scale.clone(), shift: shift.clone() })
    }
}

fn activation(name: &str, slope: Option<f32>) -> Result<Activation, String> {
    let known = Activation::ALL.into_iter().find(|activation| activation.name() == name);
    match (known, slope) {
        (None, _) => {
            let names = Activation::ALL.map(Activation::name).join(", ");
            Err(format!("activation: expected one of {names}, found \"{name}\""))
        }
        (Some(Activation::LeakyRelu(_)), Some(slope)) => Ok(Activation::LeakyRelu(slope)),
        (Some(Activation::LeakyRelu(_)), None) => Err("leaky_relu needs a slope".to_owned()),
        (Some(_), Some(_)) => Err(format!("\"{name}\" has no slope")),
        (Some(activation), None) => Ok(activation),
    }
}

impl LayerEntry {
    fn layer(
        &self,
        graph: &Graph,
        find: &impl Fn(&str) -> Result<usize, String>,
        tensors: WithZeros,
    ) -> Result<LayerSpec, String> {
        let target = find(&self.target)?;
        let mut taps = Vec::new();
        for tap in &self.taps {
            let spec = tap.tap(graph, find, tensors).map_err(|what| {
                format!("tap of \"{}\" at row {}, column {}: {what}", tap.source, tap.row, tap.column)
            })?;
            taps.extend(spec);
        }
        let gate = match &self.gate {
            None => None,
            Some([f, g]) => Some([activation(f, None)?, activation(g, None)?]),
        };
        let residual = match &self.residual {
            None => None,
            Some((node, form)) => Some((find(node)?, *form)),
        };
        let pre = self.pre.as_deref().map(find).transpose()?;
        let kind = self.kind(graph, target, &taps);
        Ok(LayerSpec {
            name: self.name.clone(),
            kind,
            target,
            taps,
            additions: self.add.clone(),
            gate,
            residual,
            pre,
        })
    }

    /// The kind of a layer, for people.
    fn kind(&self, graph: &Graph, target: usize, taps: &[TapSpec]) -> LayerKind {
        let level = |node: usize| graph.nodes[node].level;
        match () {
            () if target == graph.head_node => LayerKind::Output,
            () if taps.iter().any(|tap| tap.phase.is_some()) => LayerKind::Transposed,
            () if taps.iter().any(|tap| level(tap.source) < level(target)) => LayerKind::Strided,
            () if taps.iter().any(|tap| tap.source == IMAGE) => LayerKind::Input,
            () => LayerKind::Convolution,
        }
    }
}

impl TapEntry {
    /// The tap; none if all its weights are 0.
    fn tap(
        &self,
        graph: &Graph,
        find: &impl Fn(&str) -> Result<usize, String>,
        tensors: WithZeros,
    ) -> Result<Option<TapSpec>, String> {
        let source = find(&self.source)?;
        let forms = graph.forms(source);
        if self.form >= forms {
            return Err(format!("form: expected a number below {forms}, found {}", self.form));
        }
        let term = match (&self.weight, self.select, self.outputs) {
            (Some(weight), None, None) => {
                let (tensors, zeros) = tensors;
                if zeros.contains(weight) {
                    return Ok(None);
                }
                let tensor = &tensors[weight];
                let inputs = graph.form_len(source, self.form);
                if tensor.shape.len() != 2 || tensor.shape[0] != inputs {
                    return Err(format!(
                        "tensor \"{weight}\": expected shape [{inputs}, …], found {:?}",
                        tensor.shape
                    ));
                }
                let of_group = graph.group_len(source, self.form);
                let groups = (0..graph.groups(source, self.form)).map(|group| group * of_group).collect();
                Term::Product(Slice { tensor: weight.clone(), kernel: [0, 0], groups, bias: None })
            }
            (None, Some([from, to]), outputs) => {
                Term::Select { channels: from..to, outputs: outputs.unwrap_or(0) }
            }
            _ => return Err("expected either \"weight\", or \"select\" with \"outputs\"".to_owned()),
        };
        let (row, column, phase) = (self.row, self.column, self.phase);
        Ok(Some(TapSpec { source, form: self.form, row, column, phase, term }))
    }
}
