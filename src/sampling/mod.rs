//! From the network's output to pixels and likelihoods: random numbers and the logistic mixture.

pub mod mixture;
pub mod random;
