//! Parts of several tests: golden cases, both engines, and a comparison that reports the first mismatch.

#![allow(dead_code, reason = "every test file uses its own part of this module")]

pub mod kernel;

use std::path::{Path, PathBuf};

use pixelcnn::internals::engine::cpu::CpuEngine;
use pixelcnn::internals::engine::gpu::adapter::{self, Adapter, DeviceType, Search};
use pixelcnn::internals::engine::gpu::{GpuEngine, Options};
use pixelcnn::internals::engine::{Engine, Method, Outcome, Request, Shape, Trace, Want};
use pixelcnn::internals::graph::{Activation, Network, pixelcnn_pp};
use pixelcnn::internals::head::{bits_per_dim, logistic_mixture};
use pixelcnn::internals::model::{ClassPlace, Config, Model, Nonlinearity};
use pixelcnn::internals::sampling::random::Noise;
use safetensors::SafeTensors;

/// A recorded case: a model, images, and the network's output for them.
pub struct Golden {
    pub name: String,
    pub model: Model,
    pub width: usize,
    pub height: usize,
    /// Levels `[N, H, W, C]`.
    pub levels: Vec<u16>,
    /// Classes of the images, if the model has any.
    pub classes: Vec<usize>,
    /// `[N, H, W, P]`
    pub parameters: Vec<f32>,
    pub bits_per_dim: Vec<f64>,
}

impl Golden {
    pub fn load(folder: &Path, model: Model) -> Self {
        let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let image = file.tensor("image").unwrap();
        Self {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            model,
            height: image.shape()[1],
            width: image.shape()[2],
            levels: image.data().iter().map(|&level| level.into()).collect(),
            classes: match file.tensor("label") {
                Ok(label) => numbers(label.data(), i32::from_le_bytes).map(|c| c as usize).collect(),
                Err(_) => vec![],
            },
            parameters: floats(&file, "params"),
            bits_per_dim: numbers(file.tensor("bits_per_dim").unwrap().data(), f64::from_le_bytes)
                .collect(),
        }
    }

    /// All cases with a model in our format, and the digits model.
    pub fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut folders: Vec<PathBuf> =
            std::fs::read_dir(&root).unwrap().map(|f| f.unwrap().path()).collect();
        folders.sort();
        let cases = folders.iter().filter_map(|folder| {
            let file = folder.join("model.safetensors");
            file.exists().then(|| Self::load(folder, Model::load(&file).unwrap()))
        });
        let digits = Self::load(&root.join("mnist"), digits());
        let cases: Vec<_> = cases.chain([digits]).collect();
        assert!(cases.len() >= 9, "golden cases are missing: found {}", cases.len());
        cases
    }

    pub fn case(name: &str) -> Self {
        Self::all().into_iter().find(|case| case.name == name).unwrap()
    }

    /// The architecture, for the size of the images.
    pub fn config(&self) -> Config {
        self.model.config().unwrap().with_size(self.width, self.height)
    }

    /// An engine's parameters of the images, and bits per dimension of each.
    pub fn outcome_of(&self, engine: &mut dyn Engine, method: Method) -> (Vec<f32>, Vec<f64>) {
        let (config, want) = (self.config(), Want { parameters: true, likelihood: true, trace: false });
        let request = evaluation(&config, &self.levels, &self.classes, want).by(method);
        let Outcome { parameters, log_likelihood, .. } = engine.run(&request, &mut |_| {}).unwrap();
        let of_images = log_likelihood.chunks(config.width * config.height);
        (parameters, of_images.map(|told| bits_per_dim(told, config.channels)).collect())
    }

    /// The network's output for these images only.
    pub fn parameters_of(&self, engine: &mut dyn Engine, method: Method) -> Vec<f32> {
        self.outcome_of(engine, method).0
    }

    pub fn count(&self) -> usize {
        self.bits_per_dim.len()
    }

    /// Bits per dimension of each image under given parameters.
    pub fn bits_under(&self, parameters: &[f32]) -> Vec<f64> {
        let (n, channels) = (self.count(), self.model.config().unwrap().channels);
        let pairs = parameters.chunks(parameters.len() / n).zip(self.levels.chunks(self.levels.len() / n));
        pairs.map(|(p, levels)| bits_of(p, levels, channels)).collect()
    }

    /// Describes the first difference above a tolerance between parameters `[N, H, W, P]`.
    pub fn mismatch(&self, got: &[f32], expected: &[f32], tolerance: f32) -> Option<String> {
        assert_eq!(got.len(), expected.len(), "{}: different numbers of parameters", self.name);
        let per_pixel = self.model.config().unwrap().parameters_per_pixel();
        // Written so that a NaN on either side is a mismatch.
        let close = |(g, e): (&f32, &f32)| (g - e).abs() <= tolerance;
        let at = got.iter().zip(expected).position(|pair| !close(pair))?;
        let (pixel, parameter) = (at / per_pixel, at % per_pixel);
        let (row, column) = (pixel / self.width % self.height, pixel % self.width);
        let image = pixel / (self.width * self.height);
        Some(format!(
            "{}: image {image}, row {row}, column {column}, parameter {parameter}: got {}, expected {}",
            self.name, got[at], expected[at]
        ))
    }

    pub fn assert_close(&self, got: &[f32], expected: &[f32], tolerance: f32) {
        if let Some(mismatch) = self.mismatch(got, expected, tolerance) {
            panic!("{mismatch}");
        }
    }
}

/// The value of `--device` for the adapter of GPU tests: that of the environment variable
/// `PIXELCNN_TEST_ADAPTER`, or else the best one.
pub fn test_device() -> String {
    std::env::var("PIXELCNN_TEST_ADAPTER").unwrap_or("gpu".to_owned())
}

/// The adapter itself.
pub fn test_adapter() -> Adapter {
    let device = test_device();
    let search = Search {
        name: std::env::var("WGPU_ADAPTER_NAME").ok(),
        wgpu_environment: true,
        ..Search::default()
    };
    let (adapters, _) = adapter::choose(&device, None, &search).unwrap_or_else(|error| panic!("{error}"));
    adapters
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("PIXELCNN_TEST_ADAPTER={device} is no GPU adapter"))
}

/// The built-in model of digits: 28x28, ten classes.
pub fn digits() -> Model {
    Model::shipped("mnist").unwrap().unwrap()
}

/// A tensor of 32-bit floats.
pub fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    numbers(file.tensor(name).unwrap().data(), f32::from_le_bytes).collect()
}

/// Numbers of `N` bytes each.
pub fn numbers<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    let (numbers, rest) = bytes.as_chunks::<N>();
    assert!(rest.is_empty());
    numbers.iter().map(move |b| read(*b))
}

/// The best adapter of this machine, software ones included.
pub fn gpu(model: &Model, width: usize, height: usize) -> GpuEngine {
    gpu_with(
        model,
        width,
        height,
        Options::from_words(&std::env::var("PIXELCNN_SHADERS").unwrap_or_default()).unwrap(),
    )
}

/// The same, with a variant of the shaders.
pub fn gpu_with(model: &Model, width: usize, height: usize, options: Options) -> GpuEngine {
    GpuEngine::with_options(model, width, height, &test_adapter(), options).unwrap()
}

/// The network's output for given images, `[N, H, W, P]`.
pub fn parameters(engine: &mut dyn Engine, config: &Config, images: &[u16], classes: &[usize]) -> Vec<f32> {
    parameters_by(Method::Cached, engine, config, images, classes)
}

/// The same, in other steps.
pub fn parameters_by(
    method: Method,
    engine: &mut dyn Engine,
    config: &Config,
    images: &[u16],
    classes: &[usize],
) -> Vec<f32> {
    let want = Want { parameters: true, ..Want::default() };
    let request = evaluation(config, images, classes, want).by(method);
    engine.run(&request, &mut |_| {}).unwrap().parameters
}

/// Every value on the way to the output, for one given image.
pub fn trace(
    method: Method,
    engine: &mut dyn Engine,
    config: &Config,
    image: &[u16],
    class: Option<usize>,
) -> Trace {
    let classes: Vec<_> = class.into_iter().collect();
    let want = Want { trace: true, ..Want::default() };
    let request = evaluation(config, image, &classes, want).by(method);
    engine.run(&request, &mut |_| {}).unwrap().trace
}

/// Draws images: levels `[N, H, W, C]`.
pub fn sample(engine: &mut dyn Engine, request: &Request) -> Vec<u16> {
    engine.run(request, &mut |_| {}).unwrap().levels
}

/// Options of a device without special features.
const PLAIN: Options = Options {
    checked: false,
    subgroups: false,
    buffer: None,
    workgroups: None,
    chain: Some(false),
    coherent: None,
};

/// All variants of the shaders, and of their shapes: a device that does much at once gets narrow ones.
pub const VARIANTS: [Options; 7] = [
    PLAIN,
    Options { checked: true, workgroups: Some(1), ..PLAIN },
    Options { subgroups: true, workgroups: Some(16), ..PLAIN },
    Options { checked: true, subgroups: true, workgroups: Some(1 << 16), ..PLAIN },
    // The largest number of images per workgroup; two; one.
    Options { checked: true, chain: Some(true), workgroups: Some(1), ..PLAIN },
    Options { chain: Some(true), workgroups: Some(3), ..PLAIN },
    Options { chain: Some(true), workgroups: Some(1 << 16), ..PLAIN },
];

/// True on SwiftShader, which needs more than a second of processor time to make an engine, and 210 s for the recorded
/// cases in a single variant each.
pub fn is_slow() -> bool {
    test_adapter().description().driver.starts_with("SwiftShader")
}

/// Cases to test on the adapter of the GPU tests: all on hardware. A driver in software takes one of them, those in turn,
/// because it compiles each variant for a CPU; with `PIXELCNN_TEST_ALL`, all but SwiftShader take all.
pub fn in_turn<T>(turn: usize, all: &[T]) -> &[T] {
    let wants_all = std::env::var_os("PIXELCNN_TEST_ALL").is_some();
    one_if(is_slow() || (is_software() && !wants_all), turn, all)
}

/// Like [`in_turn`]; on a driver in software, large images take those in turn at any rate: how a kernel is made does
/// not depend on the size of the image.
pub fn in_turn_if_large<T>(turn: usize, pixels: usize, all: &[T]) -> &[T] {
    one_if(is_software() && pixels > 200, turn, in_turn(turn, all))
}

fn is_software() -> bool {
    test_adapter().description().device_type == DeviceType::Cpu
}

fn one_if<T>(is_one: bool, turn: usize, all: &[T]) -> &[T] {
    if is_one { &all[turn % all.len()..][..1] } else { all }
}

/// Cases to test on either engine.
pub fn chosen<T: Clone>(on_gpu: bool, turn: usize, all: Vec<T>) -> Vec<T> {
    if on_gpu { in_turn(turn, &all).to_vec() } else { all }
}

/// Methods by which a variant is tested, for images of this many pixels. Index checks change no dispatch,
/// so that one method is enough for them.
pub fn methods(options: Options, pixels: usize) -> &'static [Method] {
    match is_slow() {
        true if pixels > 200 => &[Method::Cached],
        is_slow if is_slow || options.checked => &[Method::ByPixel],
        _ => &[Method::Cached, Method::ByPixel],
    }
}

/// Small architectures that between them have everything the family has: both numbers of channels, one to
/// four levels, dilations, all nonlinearities, classes, filters that are no multiple of four, images that
/// are not square, and at least five rows at the deepest level.
pub fn architectures() -> Vec<Config> {
    let base = Config {
        channels: 3,
        height: 20,
        width: 28,
        filters: 8,
        blocks: 1,
        levels: 3,
        mixtures: 3,
        nonlinearity: Nonlinearity::ConcatElu,
        dilations: vec![1, 1],
        classes: vec![],
        class_places: vec![],
        class_maps: vec![],
    };
    let classes = ["cat", "dog", "emu"];
    vec![
        base.with_classes(&classes),
        Config { height: 5, width: 9, levels: 1, filters: 6, dilations: vec![2, 3], ..base.clone() },
        Config {
            channels: 1,
            height: 14,
            width: 10,
            levels: 2,
            blocks: 2,
            filters: 5,
            dilations: vec![1, 2, 4],
            nonlinearity: Nonlinearity::Elu,
            ..base.with_classes(&classes)
        },
        Config {
            height: 40,
            width: 24,
            levels: 4,
            filters: 12,
            nonlinearity: Nonlinearity::Relu,
            mixtures: 5,
            ..base
        },
    ]
}

/// Small architectures whose class enters at other places than the published one: each place alone, as vectors and as
/// maps over the image, and all of them at once.
pub fn conditional_architectures() -> Vec<Config> {
    let [rgb, _, grey, deep] = &architectures()[..] else { unreachable!("there are four") };
    let base = Config { height: 16, width: 12, ..rgb.clone() };
    let at = |places: &[ClassPlace], maps: &[&str]| Config {
        class_places: places.to_vec(),
        class_maps: maps.iter().map(|place| format!("{place}.class.weight")).collect(),
        ..base.clone()
    };
    let mut configs: Vec<_> = ClassPlace::ALL.iter().map(|&place| at(&[place], &[])).collect();
    configs.push(at(&[ClassPlace::Input], &["input.vertical", "input.horizontal"]));
    configs.push(at(&[ClassPlace::Bottleneck], &["bottleneck.vertical", "bottleneck.horizontal"]));
    let maps = ["input.horizontal", "bottleneck.vertical"];
    let everywhere = at(&ClassPlace::ALL, &maps);
    // One level, so that the pair at the bottleneck has the image's size; two; four.
    configs.push(Config { levels: 1, filters: 5, nonlinearity: Nonlinearity::Relu, ..everywhere.clone() });
    let Config { class_places, class_maps, .. } = everywhere;
    configs.push(Config {
        class_places: class_places.clone(),
        class_maps: class_maps.clone(),
        ..grey.clone()
    });
    let deep = Config { width: 16, height: 40, ..deep.with_classes(&["cat", "dog", "emu", "fox"]) };
    configs.push(Config { class_places, class_maps, ..deep });
    configs
}

/// The shape of images of an architecture.
pub fn shape(config: &Config) -> Shape {
    let Config { height, width, ref classes, .. } = *config;
    Shape { height, width, head: config.head(), classes: classes.len() }
}

/// A request that evaluates given images.
pub fn evaluation(config: &Config, levels: &[u16], classes: &[usize], want: Want) -> Request {
    Request::evaluate(shape(config), levels, classes, want).unwrap()
}

/// Levels as bytes.
pub fn bytes(levels: &[u16]) -> Vec<u8> {
    levels.iter().map(|&level| u8::try_from(level).unwrap()).collect()
}

/// The network of an architecture.
pub fn network(config: &Config) -> Network {
    Network::new(&pixelcnn_pp::graph(config), None)
}

/// Bits per dimension of one image: `parameters` `[H·W, P]`, `levels` `[H·W, C]`.
pub fn bits_of(parameters: &[f32], levels: &[u16], channels: usize) -> f64 {
    let pixels = levels.len() / channels;
    let pairs = parameters.chunks(parameters.len() / pixels).zip(levels.chunks(channels));
    let of_pixels: Vec<_> = pairs.map(|(p, pixel)| logistic_mixture::log_likelihood(p, pixel)).collect();
    bits_per_dim(&of_pixels, channels)
}

/// Random images of a model, and classes for them if the model has any.
pub fn random_images(config: &Config, seed: u64, count: usize) -> (Vec<u16>, Vec<usize>) {
    let mut images = vec![0.0; count * config.dimensions()];
    Noise::new(seed, 0).uniforms(0, &mut images);
    let images = images.iter().map(|x| (*x * 256.0) as u16).collect();
    let classes = config.classes.len();
    (images, if classes > 0 { (0..count).map(|i| i % classes).collect() } else { vec![] })
}

/// φ of a value `[pixels, channels]`.
fn phi(nonlinearity: Nonlinearity, value: &[f32], channels: usize) -> Vec<f32> {
    let elu = |x: f32| if x > 0.0 { x } else { x.exp_m1() };
    match nonlinearity {
        Nonlinearity::Elu => value.iter().map(|x| elu(*x)).collect(),
        Nonlinearity::Relu => value.iter().map(|x| x.max(0.0)).collect(),
        Nonlinearity::ConcatElu => {
            let both = |p: &[f32]| p.iter().map(|x| elu(*x)).chain(p.iter().map(|x| elu(-x))).collect();
            value.chunks(channels).flat_map(|pixel| -> Vec<f32> { both(pixel) }).collect()
        }
    }
}

/// Describes the first difference above a tolerance between an engine's trace and the full network's.
pub fn first_difference(config: &Config, got: &Trace, expected: &Trace, tolerance: f32) -> Option<String> {
    let nodes = network(config).nodes;
    assert_eq!((got.len(), expected.len()), (nodes.len(), nodes.len()));
    for (node, ((name, got), (expected_name, expected))) in nodes.iter().zip(got.iter().zip(expected)) {
        assert_eq!(name, expected_name);
        let expected = match node.forms.get(node.shown()).map_or(Activation::Raw, |form| form.activation) {
            Activation::Raw => expected.clone(),
            Activation::Elu => phi(Nonlinearity::Elu, expected, node.channels),
            _ => phi(config.nonlinearity, expected, node.channels),
        };
        assert_eq!(got.len(), expected.len(), "{name}");
        // Written so that a NaN on either side is a difference.
        let close = |(g, e): (&f32, &f32)| (g - e).abs() <= tolerance;
        if let Some(at) = got.iter().zip(&expected).position(|pair| !close(pair)) {
            let channels = expected.len() / (node.width * (config.height >> node.level));
            let (pixel, channel) = (at / channels, at % channels);
            let (y, x) = (pixel / node.width, pixel % node.width);
            let (got, expected) = (got[at], expected[at]);
            return Some(format!(
                "{name}: y {y}, x {x}, channel {channel}: got {got}, expected {expected}"
            ));
        }
    }
    None
}

/// Runs a body on the CPU engine, or on the GPU engine.
pub fn engine(on_gpu: bool, model: &Model) -> Box<dyn Engine> {
    let (width, height) = (model.config().unwrap().width, model.config().unwrap().height);
    if on_gpu {
        Box::new(gpu(model, width, height))
    } else {
        Box::new(CpuEngine::new(model, width, height, 2))
    }
}

/// The model with all its scales multiplied by `factor`.
pub fn with_scales(model: &Model, factor: f32) -> Model {
    let (m, channels) = (model.config().unwrap().mixtures, model.config().unwrap().channels);
    let of_channel = if channels == 3 { 3 } else { 2 };
    let mut model = model.clone();
    let bias = &mut model.tensors.get_mut("output.bias").unwrap().data;
    for c in 0..channels {
        let scales = (2 + c * of_channel) * m;
        bias[scales..scales + m].iter_mut().for_each(|s| *s += factor.ln());
    }
    model
}
