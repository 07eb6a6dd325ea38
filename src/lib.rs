//! Fast sampling from PixelCNN++ image models (Salimans et al. 2017), on GPUs and without one.
//!
//! [`model`] reads a model, [`graph`] says what its network is, [`engine`] runs it, [`head`] draws pixels from what it
//! gives, `output` makes pictures of them. `input` reads pictures, to be measured. `cli` is the program on top.
//!
//! Features, all on by default: `gpu` (the GPU engine), `builtin-models` (models inside the library), `cli` (the
//! command line, with `input` and `output`).

#![deny(missing_docs)]

#[cfg(feature = "cli")]
pub mod cli;
pub mod engine;
pub mod graph;
pub mod head;
#[cfg(feature = "cli")]
pub mod input;
pub mod model;
#[cfg(feature = "cli")]
pub mod output;
pub mod sampling;
