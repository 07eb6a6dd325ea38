//! Random architectures: the cached result equals that of the whole network. `scripts/fuzz` runs this for
//! minutes; here it runs for a moment, always with the same architectures.

use crate::common::{VARIANTS, gpu_with, parameters_by, random_images};
use crate::fuzzing;
use pixelcnn::internals::engine::cpu::{CpuEngine, full};
use pixelcnn::internals::engine::{Engine, Method};
use pixelcnn::internals::model::{ClassPlace, Config, Model, Nonlinearity};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestCaseError;

/// Engines sum in other orders, in 32-bit floats, over a few hundred terms of size 1 a layer.
const TOLERANCE: f32 = 1e-4;

/// An architecture, and how it is tested.
#[derive(Clone, Debug)]
struct Case {
    config: Config,
    batch: usize,
    threads: usize,
    /// Index into [`VARIANTS`].
    variant: usize,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let size = (1..=4usize).prop_flat_map(|levels| {
        let units = 1..=(24 >> (levels - 1)).min(7usize);
        (Just(levels), units.clone(), units)
    });
    let blocks = (1..=3usize).prop_flat_map(|blocks| (Just(blocks), vec(1..=3usize, blocks + 1)));
    let nonlinearity = select(vec![Nonlinearity::ConcatElu, Nonlinearity::Elu, Nonlinearity::Relu]);
    let numbers = (select(vec![1, 3usize]), 1..=9usize, 1..=4usize);
    let maps = ["input.vertical", "input.horizontal", "bottleneck.vertical", "bottleneck.horizontal"];
    let classes =
        (0..=3usize, subsequence(ClassPlace::ALL.to_vec(), 1..=6), subsequence(maps.to_vec(), 0..=4));
    let trial = (1..=5usize, 1..=3usize, 0..VARIANTS.len(), 0..1000u64);
    (size, blocks, nonlinearity, numbers, classes, trial).prop_map(
        |((levels, rows, columns), (blocks, dilations), nonlinearity, numbers, classes, trial)| {
            let (channels, filters, mixtures) = numbers;
            let (count, class_places, maps) = classes;
            let has_place =
                |map: &str| class_places.iter().any(|place| map.starts_with(place.name()) && count > 0);
            let maps = maps.into_iter().filter(|map| has_place(map));
            let config = Config {
                channels,
                height: rows << (levels - 1),
                width: columns << (levels - 1),
                filters,
                blocks,
                levels,
                mixtures,
                nonlinearity,
                dilations,
                classes: (0..count).map(|class| class.to_string()).collect(),
                class_maps: maps.map(|map| format!("{map}.class.weight")).collect(),
                class_places: if count > 0 { class_places } else { Vec::new() },
            };
            let (batch, threads, variant, seed) = trial;
            Case { config, batch, threads, variant, seed }
        },
    )
}

/// The place at which an engine, shown `images`, first differs from the whole network that is shown
/// `truth`.
fn first_difference(
    case: &Case,
    images: &[u16],
    truth: &[u16],
    classes: &[usize],
    on_gpu: bool,
) -> Option<String> {
    let Case { config, threads, variant, seed, .. } = case;
    let (width, height) = (config.width, config.height);
    let model = Model::synthetic(config.clone(), *seed);
    let expected = full::parameters(&model, width, height, truth, classes, 1);
    let mut engine: Box<dyn Engine> = match on_gpu {
        true => Box::new(gpu_with(&model, width, height, VARIANTS[*variant])),
        false => Box::new(CpuEngine::new(&model, width, height, *threads)),
    };
    // The second run meets the values that the first has left in the caches.
    [Method::ByPixel, Method::Cached].into_iter().find_map(|method| {
        let got = parameters_by(method, &mut *engine, config, images, classes);
        // Written so that a NaN on either side is a difference.
        let is_close = |(g, e): (&f32, &f32)| (g - e).abs() <= TOLERANCE;
        let at = got.iter().zip(&expected).position(|pair| !is_close(pair))?;
        let pixel = at / config.parameters_per_pixel();
        let (image, row, column) = (pixel / (width * height), pixel / width % height, pixel % width);
        let (got, expected) = (got[at], expected[at]);
        Some(format!(
            "{method:?}: image {image}, row {row}, column {column}: got {got}, expected {expected}"
        ))
    })
}

fn agrees(case: &Case, on_gpu: bool) -> Result<(), TestCaseError> {
    let (images, classes) = random_images(&case.config, case.seed, case.batch);
    match first_difference(case, &images, &images, &classes, on_gpu) {
        None => Ok(()),
        Some(difference) => Err(TestCaseError::fail(difference)),
    }
}

/// Tries `count` architectures, or in `scripts/fuzz` as many as the time allows.
fn try_cases(count: u32, property: impl Fn(&Case) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { cases: count, ..ProptestConfig::default() };
    fuzzing::try_cases(&cases(), config, property, |_| String::new());
}

#[test]
fn cached_is_full_on_the_cpu() {
    try_cases(300, |case| agrees(case, false));
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn cached_is_full_on_the_gpu() {
    try_cases(4, |case| agrees(case, true));
}

/// A cache with a wrong pixel makes a visible difference, wherever the pixel matters.
#[test]
fn a_disturbed_cache_is_seen() {
    let (seen, all) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    try_cases(100, |case| {
        let (truth, classes) = random_images(&case.config, case.seed, case.batch);
        let mut images = truth.clone();
        // The first pixel of the last image, which all others of it may read.
        let at = (case.batch - 1) * case.config.dimensions();
        images[at] = if images[at] > 127 { 0 } else { 255 };
        let Config { width, height, .. } = case.config;
        let model = Model::synthetic(case.config.clone(), case.seed);
        let full = |images| full::parameters(&model, width, height, images, &classes, 1);
        let changed = full(&images).iter().zip(full(&truth)).any(|(a, b)| (a - b).abs() > 3.0 * TOLERANCE);
        let difference = first_difference(case, &images, &truth, &classes, false);
        prop_assert!(difference.is_some() || !changed, "nothing was seen");
        let place = format!("image {},", case.batch - 1);
        prop_assert!(difference.is_none_or(|difference| difference.contains(&place)), "in another image");
        seen.set(seen.get() + u32::from(changed));
        all.set(all.get() + 1);
        Ok(())
    });
    assert!(
        10 * seen.get() >= 8 * all.get(),
        "the pixel counts in {} of {} networks only",
        seen.get(),
        all.get()
    );
}
