//! Models: architecture, weights, provenance.

pub mod config;
mod graph_file;
mod synthetic;
pub mod weights;

pub use config::{ClassPlace, Config, Nonlinearity};
pub use synthetic::MadeUp;
pub use weights::{Architecture, Model, ModelError, Precision, StandIn};
