//! From the network's output to pixels and likelihoods: random numbers and the logistic mixture.

pub mod likelihood;
pub mod mixture;
pub mod random;
pub mod resampling;
