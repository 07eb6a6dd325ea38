//! Peak rate of the convolution's kernel on this machine: large products only.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use pulp::Arch;

use super::conv::{Field, Packed, Product, Run};
use crate::model::Precision;

/// Inputs, outputs and positions of the product of each thread: a panel of weights fits the nearer caches.
pub const PRODUCT: [usize; 3] = [512, 512, 256];

/// Products of each thread. One takes a few milliseconds at most, so that the best is undisturbed on a busy machine too.
pub const TRIES: usize = 40;

/// GFLOP/s of 32-bit matrix products, the best of [`TRIES`], on each of `threads` threads at once.
pub fn gflops(threads: usize) -> f64 {
    let [inputs, outputs, positions] = PRODUCT;
    let numbers = |count: usize| (0..count).map(|i| ((7 * i) % 11) as f32 - 5.0).collect::<Vec<_>>();
    let arch = Arch::new();
    let weights = Packed::new(arch, &numbers(inputs * outputs), outputs, 1, 1, Precision::F32);
    let (data, zeros) = (numbers(positions * inputs), vec![0.0; weights.stride()]);
    let run = Run { field: Field { data: &data, start: 0, column: inputs, image: 0 }, depth: inputs };
    let seconds = || {
        let mut out = vec![0.0; positions * weights.stride()];
        let mut seconds = || {
            let start = Instant::now();
            let product = Product {
                weights: &weights,
                panels: weights.panels_of(0, 1),
                first_input: 0,
                runs: &[run],
                init: Field { data: &zeros, start: 0, column: 0, image: 0 },
                batch: 1,
                positions: 0..positions,
                out: out.as_mut_ptr(),
            };
            // SAFETY: there is room for all positions, and no other thread has it.
            unsafe { product.run(arch) };
            black_box(&mut out);
            start.elapsed().as_secs_f64()
        };
        (0..TRIES).map(|_| seconds()).fold(f64::INFINITY, f64::min)
    };
    let of_one = 2.0 * PRODUCT.iter().product::<usize>() as f64 / 1e9;
    thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, seconds).ok();
        let running: Vec<_> = (0..threads).map_while(start).collect();
        running.into_iter().map(|thread| of_one / thread.join().expect("arithmetic does not panic")).sum()
    })
}
