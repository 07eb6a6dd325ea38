//! Networks on the engines: against the full network, recorded numbers, definitions, and each other.

mod agreement;
mod architectures;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/fuzzing.rs"]
mod fuzzing;
mod golden;
mod graphs;
mod heads;
mod likelihood;
mod limits;
#[path = "../common/plans.rs"]
mod plans;
mod random_graphs;
mod sampling;
