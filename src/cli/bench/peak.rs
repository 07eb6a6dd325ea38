//! What this machine's CPU can do at best: large matrix products.

use std::hint::black_box;
use std::num::NonZero;
use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

/// Rows and columns of the matrices.
const SIZE: usize = 2048;

/// GFLOP/s of the best of five products of 32-bit matrices, on all cores.
pub fn gflops() -> f64 {
    let cores = NonZero::new(super::super::machine_threads());
    let parallel = cores.map_or(Par::Seq, Par::Rayon);
    let a = Mat::from_fn(SIZE, SIZE, |i, j| ((7 * i + 3 * j) % 11) as f32 - 5.0);
    let b = a.clone();
    let mut product = Mat::zeros(SIZE, SIZE);
    let mut seconds = || {
        let start = Instant::now();
        matmul(product.as_mut(), Accum::Replace, black_box(&a), black_box(&b), 1.0, parallel);
        black_box(&mut product);
        start.elapsed().as_secs_f64()
    };
    let best = (0..5).map(|_| seconds()).fold(f64::INFINITY, f64::min);
    2.0 * (SIZE as f64).powi(3) / best / 1e9
}
