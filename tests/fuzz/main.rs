//! Damaged files of every kind.

mod files;
#[path = "../common/fuzzing.rs"]
mod fuzzing;
mod graphs;
#[path = "../common/memory.rs"]
mod memory;
#[path = "../common/plans.rs"]
mod plans;
