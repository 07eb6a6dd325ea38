//! Fast sampling from PixelCNN++ image models (Salimans et al. 2017), on GPUs and without one.
//!
//! [`model`] says what a network is, [`engine`] runs it, [`sampling`] draws pixels from what it gives,
//! [`output`] makes pictures of them. [`input`] reads pictures, to be measured.

#![deny(missing_docs)]

pub mod engine;
pub mod input;
pub mod model;
pub mod output;
pub mod sampling;
