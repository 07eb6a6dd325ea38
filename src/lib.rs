//! Fast sampling from PixelCNN++ image models (Salimans et al. 2017), on GPUs and without one.
//!
//! [`model`] says what a network is, [`engine`] runs it, [`sampling`] draws pixels from what it gives,
//! `output` makes pictures of them. `input` reads pictures, to be measured. `cli` is the program on top.
//!
//! Features, all on by default: `gpu` (the GPU engine), `builtin-models` (models inside the library), `cli` (the
//! command line, with `input` and `output`).

#![deny(missing_docs)]

#[cfg(feature = "cli")]
pub mod cli;
pub mod engine;
#[cfg(feature = "cli")]
pub mod input;
pub mod model;
#[cfg(feature = "cli")]
pub mod output;
pub mod sampling;
