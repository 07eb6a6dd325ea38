//! The network against numbers recorded from the published implementations (`tests/golden/README.md`).

use crate::common::{self, Golden, VARIANTS, gpu_with, in_turn, in_turn_if_large};
use pixelcnn::internals::engine::Method;
use pixelcnn::internals::engine::cpu::{CpuEngine, full};
use pixelcnn::internals::engine::gpu::Options;
use pixelcnn::internals::model::{Model, Precision};

/// Recorded in 32-bit floats by other implementations, which sum in another order.
const TOLERANCE: f32 = 1e-4;

fn check(case: &Golden, parameters: &[f32]) {
    case.assert_close(parameters, &case.parameters, TOLERANCE);
    check_bits(case, &case.bits_under(parameters));
}

fn check_bits(case: &Golden, bits_per_dim: &[f64]) {
    for (got, expected) in bits_per_dim.iter().zip(&case.bits_per_dim) {
        assert!((got - expected).abs() <= 1e-4, "{}: {got} bits/dim, expected {expected}", case.name);
    }
}

#[test]
fn full_network_on_the_cpu() {
    for case in Golden::all() {
        let got = full::parameters(&case.model, case.width, case.height, &case.levels, &case.classes, 2);
        check(&case, &got);
    }
}

#[test]
fn cached_network_on_the_cpu() {
    for case in Golden::all() {
        let mut engine = CpuEngine::new(&case.model, case.width, case.height, 2);
        let by_row = case.parameters_of(&mut engine, Method::Cached);
        check(&case, &by_row);
        let by_pixel = case.parameters_of(&mut engine, Method::ByPixel);
        assert!(by_row == by_pixel, "{}: by row and by pixel differ", case.name);
    }
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn cached_network_on_the_gpu() {
    for (turn, case) in Golden::all().into_iter().enumerate() {
        for &options in in_turn_if_large(turn, case.width * case.height, &VARIANTS) {
            let mut engine = gpu_with(&case.model, case.width, case.height, options);
            for &method in common::methods(options, case.width * case.height) {
                let (parameters, bits_per_dim) = case.outcome_of(&mut engine, method);
                check(&case, &parameters);
                check_bits(&case, &bits_per_dim);
                // Those of another image are noticed.
                let others = [&bits_per_dim[1..], &bits_per_dim[..1]].concat();
                assert!(
                    case.count() == 1
                        || others.iter().zip(&bits_per_dim).all(|(a, b)| (a - b).abs() > 1e-3)
                );
            }
        }
    }
}

/// With weights in 16 bits no recorded numbers hold; the full network with the same weights does.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn weights_in_16_bits_on_the_gpu() {
    for (turn, case) in in_turn(6, &Golden::all()).iter().enumerate() {
        let model = case.model.clone().with_precision(Precision::F16).unwrap();
        let (images, classes) = (&case.levels, &case.classes);
        let expected = full::parameters(&model, case.width, case.height, images, classes, 2);
        for &subgroups in in_turn_if_large(turn, case.width * case.height, &[false, true]) {
            let options = Options { subgroups, ..Options::default() };
            let mut engine = gpu_with(&model, case.width, case.height, options);
            // By pixel, if there is a choice.
            let method = common::methods(options, case.width * case.height).last().unwrap();
            let got = case.parameters_of(&mut engine, *method);
            case.assert_close(&got, &expected, TOLERANCE);
        }
    }
}

/// The comparison notices one wrong weight of each kind of layer, and one wrong pixel.
#[test]
fn a_wrong_weight_or_pixel_is_noticed() {
    let case = Golden::case("rgb_classes10_r1_f12_m3_8x8");
    let parameters = |model: &Model, images: &[u16]| {
        let mut engine = CpuEngine::new(model, case.width, case.height, 2);
        common::parameters(&mut engine, &case.config(), images, &case.classes)
    };
    let (images, right) = (case.levels.clone(), parameters(&case.model, &case.levels));
    assert_eq!(case.mismatch(&right, &case.parameters, TOLERANCE), None);
    for tensor in [
        "input.vertical.weight",
        "input.above.bias",
        "up.0.block.0.vertical.conv_in.weight",
        "up.1.block.0.horizontal.conv_out.bias",
        "up.2.block.0.horizontal.skip.weight",
        "up.0.stride.vertical.weight",
        "down.1.stride.horizontal.weight",
        "down.0.block.0.vertical.class.weight",
        "output.weight",
    ] {
        let mut wrong = case.model.clone();
        // All of one tensor: a single weight may meet an input of zero everywhere.
        wrong.tensors.get_mut(tensor).unwrap().data.iter_mut().for_each(|w| *w += 10.0 * TOLERANCE);
        let got = parameters(&wrong, &images);
        assert!(case.mismatch(&got, &case.parameters, TOLERANCE).is_some(), "{tensor}");
    }
    let mut wrong = images.clone();
    wrong[0] = if wrong[0] < 128 { wrong[0] + 13 } else { wrong[0] - 13 };
    let got = parameters(&case.model, &wrong);
    assert!(case.mismatch(&got, &case.parameters, TOLERANCE).is_some(), "a wrong pixel");
}

/// Weights in 16 bits change results, but little: less than the fourth decimal of bits/dim that papers print.
#[test]
fn weights_in_16_bits_change_little() {
    for case in Golden::all() {
        let model = case.model.clone().with_precision(Precision::F16).unwrap();
        let mut engine = CpuEngine::new(&model, case.width, case.height, 2);
        let parameters = case.parameters_of(&mut engine, Method::Cached);
        let change = |(a, b): (&f32, &f32)| (a - b).abs();
        let of_parameters = parameters.iter().zip(&case.parameters).map(change).fold(0.0, f32::max);
        let bits = case.bits_under(&parameters);
        let of_bits = bits.iter().zip(&case.bits_per_dim).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!(
            "{}: parameters change by up to {of_parameters:.1e}, bits/dim by {of_bits:.1e}",
            case.name
        );
        assert!(of_parameters > 0.0, "{}: nothing was rounded", case.name);
        assert!(of_bits < 1e-3, "{}: bits/dim change by {of_bits}", case.name);
    }
}
