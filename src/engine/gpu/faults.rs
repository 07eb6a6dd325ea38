//! Requests on a device that fails: the error says what happened, and this engine or a new one draws as before.

use std::time::Duration;

use super::*;
use crate::engine::{Method, Want};
use crate::model::Config;

fn model() -> Model {
    Model::synthetic(Config { width: 4, height: 4, ..Config::published(8, 1) }, 3)
}

fn engine(chain: bool) -> GpuEngine {
    let options = Options { chain: Some(chain), ..Options::default() };
    GpuEngine::with_options(&model(), 4, 4, &tests::test_adapter(), options).unwrap()
}

fn drawing() -> Request {
    Request::sample(model().shape(4, 4), 0, (0..2).map(|i| (i, None))).unwrap()
}

fn run(engine: &mut GpuEngine, request: &Request) -> Result<Vec<u16>, String> {
    engine.run(request, &mut |_| {}).map(|outcome| outcome.levels).map_err(|error| error.to_string())
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_device_that_is_lost_in_a_row_is_an_error_and_a_new_one_works() {
    let expected = run(&mut engine(false), &drawing()).unwrap();
    for chain in [false, true] {
        // In the first row, in the middle, and when all is submitted.
        for pixel in [0, 8, 16] {
            let mut engine = engine(chain);
            let device = engine.gpu.device.handle.clone();
            let lose = &mut |done| {
                if done >= pixel {
                    device.destroy();
                }
            };
            let lost = engine.run(&drawing(), lose).unwrap_err().to_string();
            assert!(lost.contains("the device was lost"), "{lost}");
            // It stays lost, and says so again.
            assert_eq!(run(&mut engine, &drawing()).unwrap_err(), lost);
            let bytes = engine.prepare(Room::For(3)).unwrap_err().to_string();
            assert_eq!(bytes, lost);
        }
    }
    assert_eq!(run(&mut engine(false), &drawing()).unwrap(), expected);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_submission_that_takes_too_long_is_an_error_and_a_new_device_works() {
    let expected = run(&mut engine(false), &drawing()).unwrap();
    let mut engine = engine(false);
    engine.prepare(Room::For(2)).unwrap();
    engine.gpu.device.timeout = Duration::ZERO;
    let error = run(&mut engine, &drawing()).unwrap_err();
    assert!(error.contains("has not answered for 0 s"), "{error}");
    // Work that it may still be doing is not mixed with anything new.
    engine.gpu.device.timeout = Duration::from_secs(60);
    assert_eq!(run(&mut engine, &drawing()).unwrap_err(), error);
    drop(engine);
    assert_eq!(run(&mut self::engine(false), &drawing()).unwrap(), expected);
}

/// Each kernel in turn is dropped, as a driver may without an error, in each kind of request that needs it.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_kernel_that_never_runs_is_an_error() {
    let mut requests = vec![drawing(), drawing().by(Method::Naive).first(5)];
    let images = run(&mut engine(false), &drawing()).unwrap();
    // Evaluation of what is given, where nothing is drawn that could be missing.
    let want = Want { likelihood: true, parameters: true, ..Want::default() };
    let given = Request::evaluate(model().shape(4, 4), &images, &[], want).unwrap();
    requests.extend([given.clone(), given.by(Method::ByPixel)]);
    let all =
        [false, true].into_iter().flat_map(|chain| requests.iter().map(move |request| (chain, request)));
    for (chain, request) in all {
        let mut engine = engine(chain);
        let good = engine.run(request, &mut |_| {}).unwrap();
        let mut noticed = 0;
        let ids: Vec<_> = engine.batch.as_ref().unwrap().plan.all().map(|(id, _)| id).collect();
        for id in ids {
            let batch = engine.batch.as_mut().unwrap();
            let Some(workgroups) = batch.set_workgroups(id, [0, 0]) else { continue };
            let before = engine.counts.dispatches;
            let result = engine.run(request, &mut |_| {});
            let batch = engine.batch.as_mut().unwrap();
            batch.set_workgroups(id, workgroups);
            let dispatch = &batch.plan[id];
            match result {
                Err(error) => {
                    let (error, dispatched) = (error.to_string(), engine.counts.dispatches - before);
                    assert!(error.contains(&format!("of {dispatched} kernels")), "{dispatch:?}: {error}");
                    noticed += 1;
                }
                // This request has no use for it.
                Ok(got) => {
                    assert!(got.levels == good.levels && got.log_likelihood == good.log_likelihood);
                    assert_eq!(got.parameters, good.parameters, "{dispatch:?}");
                }
            }
        }
        assert!(noticed >= 5, "{noticed} kernels of {request:?}");
        assert_eq!(run(&mut engine, request).unwrap(), good.levels);
    }
}
