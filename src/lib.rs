//! Fast sampling from PixelCNN++ image models (Salimans et al. 2017), on GPUs and without one.
//!
//! [`model`] reads a model, [`graph`] says what its network is, [`engine`] runs it, [`head`] draws pixels from what it
//! gives, [`output`] makes pictures of them. [`input`] reads pictures, to be measured.

#![deny(missing_docs)]

pub mod engine;
pub mod graph;
pub mod head;
pub mod input;
pub mod model;
pub mod output;
pub mod sampling;
