//! Model files: reading a safetensors file, with every check made before any device is touched.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::{Config, graph_file};
use crate::engine::Shape;
use crate::graph::{Graph, Network, pixelcnn_pp};
use crate::head::Head;

/// The reason for which a model file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file could not be read.
    #[error("cannot read the model file")]
    Read(#[from] std::io::Error),
    /// A file that stands for the model.
    #[error("is {0}")]
    StandIn(StandIn),
    /// Not safetensors at all, or cut short.
    #[error("not a complete safetensors file ({0})")]
    NotSafetensors(String),
    /// The graph of the file cannot be run.
    #[error("the file's graph: {0}")]
    Graph(String),
    /// A key of `__metadata__` is not there.
    #[error("the file's metadata lacks \"{key}\"")]
    MissingMetadata {
        /// The metadata key.
        key: &'static str,
    },
    /// A value of `__metadata__` makes no sense.
    #[error("metadata \"{key}\": expected {expected}, found \"{found}\"")]
    BadMetadata {
        /// The metadata key.
        key: &'static str,
        /// The expected value.
        expected: String,
        /// The value in the file.
        found: String,
    },
    /// Tensors that the architecture needs are not there.
    #[error("tensor \"{name}\" is missing{}; expected shape {expected:?}", others(*.more))]
    MissingTensor {
        /// The first such tensor.
        name: String,
        /// Its shape by the architecture.
        expected: Vec<usize>,
        /// Number of further missing ones.
        more: usize,
    },
    /// Tensors that the architecture has no place for.
    #[error("tensor \"{name}\"{} has no place in this architecture (shape {found:?})", others(*.more))]
    ExtraTensor {
        /// The first such tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// Number of further ones.
        more: usize,
    },
    /// A tensor's shape does not fit the architecture.
    #[error("tensor \"{name}\": expected shape {expected:?}, found {found:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape by the architecture.
        expected: Vec<usize>,
        /// Its shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is stored in a type that is not supported.
    #[error("tensor \"{name}\": expected dtype F32 or F16, found {found}")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its type in the file.
        found: String,
    },
    /// A weight is too large for 16-bit floats.
    #[error("tensor \"{name}\" holds {value}, too large for 16-bit floats")]
    TooLarge {
        /// The tensor.
        name: String,
        /// The value found.
        value: f32,
    },
    /// A weight is NaN or infinite.
    #[error("tensor \"{name}\": value {index} is {value}; expected finite weights")]
    NotFinite {
        /// The tensor.
        name: String,
        /// Position in the flattened tensor.
        index: usize,
        /// The value found.
        value: f32,
    },
}

/// Files that a download can leave in place of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandIn {
    /// A text that names the file which Git LFS keeps elsewhere.
    GitLfs,
    /// A web page, perhaps one about the file.
    WebPage,
}

impl fmt::Display for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GitLfs => "a pointer of Git LFS, not the model itself",
            Self::WebPage => "a web page, not a model",
        })
    }
}

fn others(more: usize) -> String {
    match more {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    }
}

/// A weight or bias, row-major.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Lengths of its axes, the fastest last.
    pub shape: Vec<usize>,
    /// Its values.
    pub data: Vec<f32>,
}

/// The built-in models, by name. A static: of a constant, the program would hold several copies.
#[cfg(feature = "builtin-models")]
static SHIPPED: &[(&str, &[u8])] = &[
    (Model::DEFAULT, include_bytes!("../../weights/avatars.safetensors")),
    ("avatars-gated", include_bytes!("../../weights/avatars-gated.safetensors")),
    ("mnist", include_bytes!("../../weights/mnist.safetensors")),
    ("cifar10", include_bytes!("../../weights/cifar10.safetensors")),
];
#[cfg(not(feature = "builtin-models"))]
static SHIPPED: &[(&str, &[u8])] = &[];

/// The precision of the weights of blocks and between levels, most of all bytes. Sums are always taken in 32
/// bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats. The GPU engine stores them so, in half the bytes, and the CPU engine where widening at every
    /// use is faster than reading twice the bytes (AVX-512); elsewhere it widens them once.
    F16,
}

impl Precision {
    /// Its short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

/// Architecture of a model.
#[derive(Clone, Debug)]
pub enum Architecture {
    /// PixelCNN++, with the image size the model was trained on.
    PixelCnnPp(Config),
    /// Any causal network, as its file declares it.
    Graph {
        /// The graph, for the image size the model was trained on.
        graph: Box<Graph>,
        /// Names of the classes.
        classes: Vec<String>,
    },
}

/// Metadata key of files whose checkpoint did not tell the size of its images.
const SIZE_IS_ASSUMED: &str = "size_is_assumed";

/// A loaded model: architecture, weights, provenance.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its architecture.
    pub architecture: Architecture,
    /// Weights and biases under the names of the model format.
    pub tensors: BTreeMap<String, Tensor>,
    /// All of the file's metadata.
    pub metadata: BTreeMap<String, String>,
    /// Name to show: the file's stem.
    pub name: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The precision that its weights have been rounded to.
    pub precision: Precision,
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// Any [`ModelError`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::from_bytes(&std::fs::read(path)?, &name)
    }

    /// The name of the model that is drawn from where none is named.
    pub const DEFAULT: &str = "avatars";

    /// Reads the built-in model of this name, if there is one; without the feature `builtin-models` there is none.
    pub fn shipped(name: &str) -> Option<Result<Self, ModelError>> {
        Self::shipped_bytes(name).map(|bytes| Self::from_bytes(bytes, name))
    }

    /// The file of the built-in model of this name.
    pub fn shipped_bytes(name: &str) -> Option<&'static [u8]> {
        SHIPPED.iter().find(|model| model.0 == name).map(|model| model.1)
    }

    /// Names of the built-in models.
    pub fn shipped_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|model| model.0)
    }

    /// Reads a model from a file's bytes.
    ///
    /// # Errors
    /// Any [`ModelError`].
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self, ModelError> {
        if let Some(what) = stand_in(bytes) {
            return Err(ModelError::StandIn(what));
        }
        let broken = |e: safetensors::SafeTensorError| ModelError::NotSafetensors(e.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        let metadata: HashMap<String, String> = header.metadata().clone().unwrap_or_default();
        let model = |architecture, tensors| Self {
            architecture,
            tensors,
            metadata: metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            name: name.to_owned(),
            sha256: Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect(),
            precision: Precision::F32,
        };
        if metadata.get("format").is_some_and(|format| format == "pixelcnn-2") {
            let names = file.iter().map(|(name, _)| name.to_owned());
            let of_bytes = |name: &str| {
                let view = file.tensor(name).ok().filter(|view| view.dtype() == Dtype::U8)?;
                Some(view.data().to_vec())
            };
            let graph_file::Parts { graph, tensors, classes } =
                graph_file::read(&metadata, names, of_bytes, |name| numbers(&file, name))?;
            let mut model = model(Architecture::Graph { graph: Box::new(graph), classes }, tensors);
            // It is shown by its parts.
            model.metadata.remove(graph_file::GRAPH);
            return Ok(model);
        }
        let axes = |name: &str| file.tensor(name).ok().map(|tensor| tensor.shape().len());
        let config = Config::from_metadata(&metadata, axes)?;

        let mut expected = pixelcnn_pp::graph(&config).tensors;
        let mut tensors = BTreeMap::new();
        let mut extra = Vec::new();
        for (name, view) in file.iter() {
            let Some(shape) = expected.remove(name) else {
                extra.push((name.to_owned(), view.shape().to_vec()));
                continue;
            };
            if view.shape() != shape {
                let (name, found) = (name.to_owned(), view.shape().to_vec());
                return Err(ModelError::Shape { name, expected: shape, found });
            }
            let data = decode(name, view.dtype(), view.data())?;
            check_finite(name, data.iter().map(|x| f64::from(*x)))?;
            tensors.insert(name.to_owned(), Tensor { shape, data });
        }
        let more = expected.len().saturating_sub(1);
        if let Some((name, expected)) = expected.pop_first() {
            return Err(ModelError::MissingTensor { name, expected, more });
        }
        extra.sort();
        let more = extra.len().saturating_sub(1);
        if let Some((name, found)) = extra.into_iter().next() {
            return Err(ModelError::ExtraTensor { name, found, more });
        }
        Ok(model(Architecture::PixelCnnPp(config), tensors))
    }

    /// The model with its weights rounded to a precision: those of the products that engines may store in it
    /// ([`Layer::precision`](crate::graph::network::Layer::precision)). All other numbers stay as they are.
    ///
    /// # Errors
    /// [`ModelError::TooLarge`] if a weight is beyond the range of 16-bit floats.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self, ModelError> {
        self.precision = precision;
        if precision == Precision::F16 {
            let (width, height) = self.size();
            let network = self.network(width, height);
            let layers = network.layers.iter().filter(|layer| layer.precision(precision) == precision);
            let names: BTreeSet<_> = layers.flat_map(|layer| layer.weights()).collect();
            for name in names {
                let tensor = self.tensors.get_mut(name).expect("a layer names it");
                for w in &mut tensor.data {
                    let rounded = half::f16::from_f32(*w);
                    if !rounded.is_finite() {
                        return Err(ModelError::TooLarge { name: name.to_owned(), value: *w });
                    }
                    *w = rounded.to_f32();
                }
            }
        }
        Ok(self)
    }

    /// The architecture of a PixelCNN++; none of another network.
    pub fn config(&self) -> Option<&Config> {
        match &self.architecture {
            Architecture::PixelCnnPp(config) => Some(config),
            Architecture::Graph { .. } => None,
        }
    }

    /// Width and height of the images that it was trained on, in pixels.
    pub fn size(&self) -> (usize, usize) {
        match &self.architecture {
            Architecture::PixelCnnPp(config) => (config.width, config.height),
            Architecture::Graph { graph, .. } => (graph.width, graph.height),
        }
    }

    /// The same, unless a conversion had to assume it.
    pub fn known_size(&self) -> Option<(usize, usize)> {
        (!self.metadata.contains_key(SIZE_IS_ASSUMED)).then(|| self.size())
    }

    /// True if its network works on images of this size in pixels.
    pub fn takes_size(&self, width: usize, height: usize) -> bool {
        match &self.architecture {
            Architecture::PixelCnnPp(config) => config.takes_size(width, height),
            Architecture::Graph { graph, .. } => graph.takes_size(width, height, &self.tensors),
        }
    }

    /// True if it was trained for one size and takes no other.
    pub fn has_one_size(&self) -> bool {
        let ((width, height), multiple) = (self.size(), self.size_multiple());
        !self.takes_size(width + multiple, height) && !self.takes_size(width, height + multiple)
    }

    /// Divisor of width and height.
    pub fn size_multiple(&self) -> usize {
        match &self.architecture {
            Architecture::PixelCnnPp(config) => config.size_multiple(),
            Architecture::Graph { graph, .. } => graph.size_multiple(),
        }
    }

    /// Names of its classes; empty for an unconditional model.
    pub fn classes(&self) -> &[String] {
        match &self.architecture {
            Architecture::PixelCnnPp(config) => &config.classes,
            Architecture::Graph { classes, .. } => classes,
        }
    }

    /// Its graph, for images of `width` by `height` pixels.
    pub fn graph(&self, width: usize, height: usize) -> Graph {
        match &self.architecture {
            Architecture::PixelCnnPp(config) => pixelcnn_pp::graph(&config.with_size(width, height)),
            Architecture::Graph { graph, .. } => Graph { width, height, ..(**graph).clone() },
        }
    }

    /// The same, scheduled.
    pub fn network(&self, width: usize, height: usize) -> Network {
        Network::new(&self.graph(width, height), Some(&self.tensors))
    }

    /// The shape of its images, at a size.
    pub fn shape(&self, width: usize, height: usize) -> Shape {
        Shape { height, width, head: self.head(), classes: self.classes().len() }
    }

    /// The distribution of its pixels.
    pub fn head(&self) -> Head {
        match &self.architecture {
            Architecture::PixelCnnPp(config) => config.head(),
            Architecture::Graph { graph, .. } => graph.head,
        }
    }

    /// Weights and biases, all together.
    pub fn parameter_count(&self) -> usize {
        self.tensors.values().map(|t| t.data.len()).sum()
    }
}

/// The kind of stand-in that these bytes are, if they are one.
fn stand_in(bytes: &[u8]) -> Option<StandIn> {
    let start = bytes.trim_ascii_start();
    let begins =
        |text: &str| start.get(..text.len()).is_some_and(|s| s.eq_ignore_ascii_case(text.as_bytes()));
    if begins("version https://git-lfs") {
        Some(StandIn::GitLfs)
    } else if begins("<!doctype html") || begins("<html") {
        Some(StandIn::WebPage)
    } else {
        None
    }
}

fn check_finite(name: &str, values: impl Iterator<Item = f64>) -> Result<(), ModelError> {
    match values.enumerate().find(|(_, value)| !(*value as f32).is_finite()) {
        None => Ok(()),
        Some((index, value)) => {
            Err(ModelError::NotFinite { name: name.to_owned(), index, value: value as f32 })
        }
    }
}

/// Shape and numbers of a tensor.
type Numbers = (Vec<usize>, Vec<f64>);

/// The numbers of a tensor, all of them finite; none if there is no such tensor.
fn numbers(file: &SafeTensors, name: &str) -> Result<Option<Numbers>, ModelError> {
    let Ok(view) = file.tensor(name) else { return Ok(None) };
    let numbers: Vec<_> = match view.dtype() {
        Dtype::F64 => view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        dtype => decode(name, dtype, view.data())?.into_iter().map(f64::from).collect(),
    };
    check_finite(name, numbers.iter().copied())?;
    Ok(Some((view.shape().to_vec(), numbers)))
}

fn decode(name: &str, dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>, ModelError> {
    match dtype {
        Dtype::F32 => Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::F16 => {
            Ok(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect())
        }
        other => Err(ModelError::Dtype { name: name.to_owned(), found: format!("{other:?}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only weights of products between the image and the parameters are rounded: those that engines may
    /// store in 16 bits. Class tables are not.
    #[test]
    fn one_rule_says_what_is_rounded() {
        let names = ["a", "b"];
        let places = crate::model::ClassPlace::ALL.to_vec();
        let config = Config { class_places: places, ..Config::published(8, 1).with_classes(&names) };
        let model = Model::synthetic(config, 1);
        let halves = model.clone().with_precision(Precision::F16).unwrap();
        let is_rounded = |name: &str| model.tensors[name].data != halves.tensors[name].data;
        for name in model.tensors.keys() {
            let is_product = name.ends_with(".weight")
                && !name.contains(".class.")
                && !name.starts_with("input.")
                && !name.starts_with("output.");
            assert_eq!(is_rounded(name), is_product, "{name}");
        }
    }

    #[test]
    fn shipped_models_load() {
        for name in Model::shipped_names() {
            let model = Model::shipped(name).unwrap().unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(model.name, name);
        }
        assert!(Model::shipped("of no such name").is_none());
    }
}
