//! The network against numbers recorded from the published implementations (`tests/golden/README.md`).

mod common;

use common::{Golden, gpu};
use pixelcnn::engine::Engine;
use pixelcnn::engine::cpu::{CpuEngine, full};

/// Recorded in 32-bit floats by other implementations, which sum in another order.
const TOLERANCE: f32 = 1e-4;

fn check(case: &Golden, parameters: &[f32]) {
    case.assert_close(parameters, &case.parameters, TOLERANCE);
    for (got, expected) in case.bits_under(parameters).iter().zip(&case.bits_per_dim) {
        assert!((got - expected).abs() <= 1e-4, "{}: {got} bits/dim, expected {expected}", case.name);
    }
}

#[test]
fn full_network_on_the_cpu() {
    for case in Golden::all() {
        let got = full::parameters(&case.model, case.width, case.height, &case.images(), &case.classes, 2);
        check(&case, &got);
    }
}

#[test]
fn cached_network_on_the_cpu() {
    for case in Golden::all() {
        let mut engine = CpuEngine::new(&case.model, case.width, case.height, 2);
        let by_row = engine.parameters(&case.images(), &case.classes).unwrap();
        check(&case, &by_row);
        let by_pixel = engine.parameters_by_pixel(&case.images(), &case.classes).unwrap();
        assert!(by_row == by_pixel, "{}: by row and by pixel differ", case.name);
    }
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn cached_network_on_the_gpu() {
    for case in Golden::all() {
        let mut engine = gpu(&case.model, case.width, case.height);
        check(&case, &engine.parameters(&case.images(), &case.classes).unwrap());
    }
}
