//! What becomes of a job on a device that fails: an error that says what happened, and an engine, this one or a new one,
//! that draws as before.

use std::time::Duration;

use super::*;
use crate::engine::{Canvas, Method, Want};
use crate::model::Config;

fn model() -> Model {
    Model::synthetic(Config { width: 8, height: 8, ..Config::published(8, 1) }, 3)
}

fn engine(chain: bool) -> GpuEngine {
    let options = Options { chain: Some(chain), ..Options::default() };
    GpuEngine::with_options(&model(), 8, 8, &tests::test_adapter(), options).unwrap()
}

fn drawing() -> Job {
    Job::sample(0, (0..2).map(|i| (i, None)))
}

fn run(engine: &mut GpuEngine, job: &Job) -> Result<Vec<f32>, String> {
    engine.run(job, &mut |_| {}).map(|outcome| outcome.pixels).map_err(|error| error.to_string())
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_device_that_is_lost_in_a_row_is_an_error_and_a_new_one_works() {
    let expected = run(&mut engine(false), &drawing()).unwrap();
    for chain in [false, true] {
        // In the first row, in the middle, and when all is submitted.
        for pixel in [0, 32, 64] {
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
    engine.gpu.device.patience = Duration::ZERO;
    let error = run(&mut engine, &drawing()).unwrap_err();
    assert!(error.contains("has not answered for 0 s"), "{error}");
    // What it may still be at is not mixed with anything new.
    engine.gpu.device.patience = Duration::from_secs(60);
    assert_eq!(run(&mut engine, &drawing()).unwrap_err(), error);
    drop(engine);
    assert_eq!(run(&mut self::engine(false), &drawing()).unwrap(), expected);
}

/// Each kernel in turn is dropped, as a driver may without an error, in each kind of job that needs it.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_kernel_that_never_runs_is_an_error() {
    let mut jobs = vec![drawing(), Job { method: Method::Naive, pixels: Some(9), ..drawing() }];
    let images = run(&mut engine(false), &drawing()).unwrap();
    // Evaluation of what is given, where nothing is drawn that could be missing.
    let mut given =
        Job { want: Want { likelihood: true, parameters: true, ..Want::default() }, ..drawing() };
    for (lane, image) in given.lanes.iter_mut().zip(images.chunks(images.len() / 2)) {
        lane.canvas = Canvas::full(image.to_vec());
    }
    jobs.extend([given.clone(), Job { method: Method::ByPixel, ..given }]);
    for (chain, job) in [false, true].into_iter().flat_map(|chain| jobs.iter().map(move |job| (chain, job)))
    {
        let mut engine = engine(chain);
        let good = engine.run(job, &mut |_| {}).unwrap();
        let mut noticed = 0;
        for number in 0..engine.batch.as_ref().unwrap().plan.all().count() {
            let batch = engine.batch.as_mut().unwrap();
            let Some(workgroups) = batch.set_workgroups(number, [0, 0]) else { continue };
            let before = engine.counts.dispatches;
            let result = engine.run(job, &mut |_| {});
            let batch = engine.batch.as_mut().unwrap();
            batch.set_workgroups(number, workgroups);
            let (_, dispatch) = batch.plan.all().nth(number).unwrap();
            match result {
                Err(error) => {
                    let (error, dispatched) = (error.to_string(), engine.counts.dispatches - before);
                    assert!(error.contains(&format!("of {dispatched} kernels")), "{dispatch:?}: {error}");
                    noticed += 1;
                }
                // This job has no use for it.
                Ok(got) => {
                    assert!(got.pixels == good.pixels && got.log_likelihood == good.log_likelihood);
                    assert_eq!(got.parameters, good.parameters, "{dispatch:?}");
                }
            }
        }
        assert!(noticed >= 5, "{noticed} kernels of {job:?}");
        assert_eq!(run(&mut engine, job).unwrap(), good.pixels);
    }
}
