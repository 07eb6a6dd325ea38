//! Random numbers, and choices by weights.

pub mod random;
pub mod resampling;
