//! The architecture of a PixelCNN++, read from its file's metadata.

use std::collections::{BTreeSet, HashMap};

use super::weights::ModelError;
use crate::head::Head;

/// The activation φ between convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonlinearity {
    /// `elu([a, −a])`: doubles the channels.
    ConcatElu,
    /// `a` where positive, `exp(a) − 1` elsewhere.
    Elu,
    /// `max(a, 0)`.
    Relu,
}

impl Nonlinearity {
    /// Channels of φ per channel of its argument.
    pub fn growth(self) -> usize {
        match self {
            Self::ConcatElu => 2,
            Self::Elu | Self::Relu => 1,
        }
    }

    /// The name in a model file.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConcatElu => "concat_elu",
            Self::Elu => "elu",
            Self::Relu => "relu",
        }
    }
}

/// A PixelCNN++ architecture, and the size of the images it works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Image channels: 3, or 1 for grey.
    pub channels: usize,
    /// Image height in pixels, a multiple of `2^(levels − 1)`.
    pub height: usize,
    /// Image width in pixels, a multiple of `2^(levels − 1)`.
    pub width: usize,
    /// Feature maps of every hidden layer (`F`).
    pub filters: usize,
    /// Gated residual blocks a level and stream in the up pass (`R`).
    pub blocks: usize,
    /// Resolutions (`L`), each half the size of the one before.
    pub levels: usize,
    /// Components of the logistic mixture (`M`).
    pub mixtures: usize,
    /// The activation φ.
    pub nonlinearity: Nonlinearity,
    /// Dilation of the i-th block of any level, `R + 1` numbers.
    pub dilations: Vec<usize>,
    /// Names of the classes; empty for an unconditional model.
    pub classes: Vec<String>,
    /// Places at which the class enters the network, if there are classes.
    pub class_places: Vec<ClassPlace>,
    /// Names of the class tensors that differ from pixel to pixel; with any, the network works at the size it was
    /// trained at alone.
    pub class_maps: Vec<String>,
}

/// A place at which a class adds values; `graph/pixelcnn_pp.rs` says to what each adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClassPlace {
    /// The output of the input layers.
    Input,
    /// The pair of values that the down pass starts from.
    Bottleneck,
    /// Remembered values, where the down pass reads them.
    Remembered,
    /// The first convolution of every block.
    ConvIn,
    /// The second convolution of every block, before its gate: the published way.
    ConvOut,
    /// The mixture parameters.
    Output,
}

impl ClassPlace {
    /// All places, in the order of the network.
    pub const ALL: [Self; 6] =
        [Self::Input, Self::Bottleneck, Self::Remembered, Self::ConvIn, Self::ConvOut, Self::Output];

    /// The name in a model file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Bottleneck => "bottleneck",
            Self::Remembered => "remembered",
            Self::ConvIn => "conv_in",
            Self::ConvOut => "conv_out",
            Self::Output => "output",
        }
    }
}

/// Class tensors that may differ from pixel to pixel.
const CLASS_MAPS: [&str; 4] = [
    "input.vertical.class.weight",
    "input.horizontal.class.weight",
    "bottleneck.vertical.class.weight",
    "bottleneck.horizontal.class.weight",
];

/// Parses the places that a model file lists; the error says what it should list.
fn class_places(text: &str, has_classes: bool) -> Result<Vec<ClassPlace>, String> {
    let known = || ClassPlace::ALL.map(ClassPlace::name).join(", ");
    let names: Vec<String> =
        serde_json::from_str(text).map_err(|_| format!("a JSON list of some of {}", known()))?;
    let place = |name: &String| ClassPlace::ALL.into_iter().find(|place| place.name() == name);
    let places: Vec<_> = names.iter().filter_map(place).collect();
    if places.len() != names.len() || !places.is_sorted_by(|a, b| a < b) {
        return Err(format!("some of {}, each once and in this order", known()));
    }
    if places.is_empty() == has_classes {
        let expected =
            if has_classes { "a place at least, for there are classes" } else { "none, without classes" };
        return Err(expected.to_owned());
    }
    Ok(places)
}

impl Config {
    /// Reads the architecture from a model file's `__metadata__`. `axes` tells how many axes a tensor of the file
    /// has, for a class may add a vector at some places or a map over the image.
    ///
    /// # Errors
    /// A key that is missing, is not a number or a list, or is out of range.
    pub fn from_metadata(
        metadata: &HashMap<String, String>,
        axes: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, ModelError> {
        let text = |key: &'static str| metadata.get(key).ok_or(ModelError::MissingMetadata { key });
        let bad = |key: &'static str, expected: String| ModelError::BadMetadata {
            key,
            found: metadata.get(key).cloned().unwrap_or_default(),
            expected,
        };
        for (key, expected) in [("format", "pixelcnn-1"), ("family", "pixelcnn++")] {
            if text(key)? != expected {
                return Err(bad(key, format!("\"{expected}\"")));
            }
        }
        let number = |key: &'static str| -> Result<usize, ModelError> {
            let limit = Self::limit(key);
            match text(key)?.trim().parse() {
                Ok(n) if (1..=limit).contains(&n) => Ok(n),
                _ => Err(bad(key, format!("a whole number from 1 to {limit}"))),
            }
        };
        let classes: Vec<String> = serde_json::from_str(text("classes")?)
            .map_err(|_| bad("classes", "a JSON list of names".into()))?;
        if classes.iter().collect::<BTreeSet<_>>().len() < classes.len() {
            return Err(bad("classes", "different names".into()));
        }
        let config = Self {
            channels: match text("channels")?.as_str() {
                "1" => 1,
                "3" => 3,
                _ => return Err(bad("channels", "1 or 3".into())),
            },
            height: number("height")?,
            width: number("width")?,
            filters: number("filters")?,
            blocks: number("blocks")?,
            levels: number("levels")?,
            mixtures: number("mixtures")?,
            nonlinearity: match text("nonlinearity")?.as_str() {
                "concat_elu" => Nonlinearity::ConcatElu,
                "elu" => Nonlinearity::Elu,
                "relu" => Nonlinearity::Relu,
                _ => return Err(bad("nonlinearity", "concat_elu, elu or relu".into())),
            },
            dilations: serde_json::from_str(text("dilations")?)
                .map_err(|_| bad("dilations", "a JSON list of whole numbers".into()))?,
            class_places: match metadata.get("class_places") {
                None if classes.is_empty() => Vec::new(),
                None => vec![ClassPlace::ConvOut],
                Some(text) => class_places(text, !classes.is_empty())
                    .map_err(|expected| bad("class_places", expected))?,
            },
            class_maps: CLASS_MAPS
                .iter()
                .filter(|name| axes(name) == Some(4))
                .map(|n| n.to_string())
                .collect(),
            classes,
        };
        if config.dilations.len() != config.blocks + 1
            || config.dilations.iter().any(|d| !(1..=Self::limit("dilations")).contains(d))
        {
            let (count, most) = (config.blocks + 1, Self::limit("dilations"));
            let expected = format!("blocks + 1 = {count} numbers from 1 to {most}");
            return Err(bad("dilations", expected));
        }
        if !config.takes_size(config.width, config.height) {
            let expected = format!("a multiple of {}", config.size_multiple());
            let fits = config.height.is_multiple_of(config.size_multiple());
            let key = if fits { "width" } else { "height" };
            return Err(bad(key, expected));
        }
        Ok(config)
    }

    /// The published architecture (Salimans et al. 2017) with other filters and blocks: RGB, 32×32,
    /// three levels, 10 mixture components. The published model has 160 filters and 5 blocks.
    pub fn published(filters: usize, blocks: usize) -> Self {
        Self {
            channels: 3,
            height: 32,
            width: 32,
            filters,
            blocks,
            levels: 3,
            mixtures: 10,
            nonlinearity: Nonlinearity::ConcatElu,
            dilations: vec![1; blocks + 1],
            classes: Vec::new(),
            class_places: Vec::new(),
            class_maps: Vec::new(),
        }
    }

    /// Upper bounds of a file's claims, so that a hostile header cannot ask for absurd work.
    pub const LIMITS: [(&str, usize); 7] = [
        ("height", 16384),
        ("width", 16384),
        ("filters", 4096),
        ("blocks", 64),
        ("levels", 8),
        ("mixtures", 512),
        ("dilations", 1024),
    ];

    /// The most that is taken of `height`, `width`, `filters`, `blocks`, `levels`, `mixtures`, and each of
    /// `dilations`.
    ///
    /// # Panics
    /// If `key` is none of those.
    pub fn limit(key: &str) -> usize {
        Self::LIMITS.iter().find(|limit| limit.0 == key).expect("it has a limit").1
    }

    /// The same network with classes of these names, conditional in the published way.
    pub fn with_classes(&self, names: &[&str]) -> Self {
        let classes: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        let class_places = if classes.is_empty() { vec![] } else { vec![ClassPlace::ConvOut] };
        Self { classes, class_places, ..self.clone() }
    }

    /// Divisor of height and width: `2^(levels − 1)`.
    pub fn size_multiple(&self) -> usize {
        1 << (self.levels - 1)
    }

    /// True if the network works on images of this size in pixels.
    pub fn takes_size(&self, width: usize, height: usize) -> bool {
        let limit = Self::limit("height").min(Self::limit("width"));
        let is_free = self.class_maps.is_empty() || (width, height) == (self.width, self.height);
        is_free && [width, height].iter().all(|n| (1..=limit).contains(n) && n % self.size_multiple() == 0)
    }

    /// The same network on images of another size.
    pub fn with_size(&self, width: usize, height: usize) -> Self {
        Self { width, height, ..self.clone() }
    }

    /// The distribution of its pixels.
    pub fn head(&self) -> Head {
        Head::logistic_mixture(self.channels, self.mixtures)
    }

    /// Numbers that the network gives a pixel.
    pub fn parameters_per_pixel(&self) -> usize {
        self.head().parameters()
    }

    /// Sub-pixels of an image, the divisor of bits per dimension.
    pub fn dimensions(&self) -> usize {
        self.height * self.width * self.channels
    }
}
