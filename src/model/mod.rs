//! What a model is: its architecture, its weights, its graph of layers and their schedule.

pub mod config;
pub mod network;
pub mod schedule;
mod synthetic;
pub mod weights;

pub use config::{ClassPlace, Config, Nonlinearity};
pub use network::Network;
pub use weights::{Model, ModelError, Precision, StandIn};
