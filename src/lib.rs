//! Fast exact sampling from causal convolutional image models, on GPUs and without one.
//!
//! A [`Model`] is read from a file, from its bytes, or is built in. A [`Request`] says which images are wanted: drawn,
//! completed or evaluated; it is checked against the model when it is made. An [`Engine`] computes it. Images are levels,
//! whole numbers below [`Head::levels`], in the order `[N, H, W, C]`.
//!
//! ```
//! # #[cfg(feature = "builtin-models")] {
//! use pixelcnn::{CpuEngine, Engine, Model, Request};
//!
//! let model = Model::shipped("mnist").expect("it is built in")?;
//! let (width, height) = model.size();
//! let mut engine = CpuEngine::new(&model, width, height, 2);
//! // Images 0 to 9 of seed 7, each of its own class.
//! let request = Request::sample(engine.shape(), 7, (0..10).map(|i| (i, Some(i as usize))))?;
//! let images = engine.run(&request, &mut |_| {})?;
//! assert_eq!(images.levels.len(), 10 * height * width);
//! # }
//! # Ok::<(), pixelcnn::Error>(())
//! ```
//!
//! A [`Session`] makes images pixel by pixel, with every level chosen by the caller, for coders.
//!
//! Features, all on by default: `gpu` (the GPU engine), `builtin-models` (models inside the library), `cli` (the
//! command line, `cli::main`).

#![deny(missing_docs)]

#[cfg(feature = "cli")]
pub mod cli;
mod engine;
mod graph;
mod head;
#[cfg(feature = "cli")]
mod input;
mod model;
#[cfg(feature = "cli")]
mod output;
mod sampling;

pub use engine::cpu::{CpuEngine, Session};
pub use engine::{
    Canvas, Counts, Engine, EngineError, Lane, Method, Outcome, Request, RequestError, Room, Shape, Want,
};
pub use head::{Draw, DrawError, Head, bits_per_dim};
pub use model::{Model, ModelError, Precision};

/// GPUs: which there are, and an engine on one.
#[cfg(feature = "gpu")]
pub mod gpu {
    pub use crate::engine::gpu::adapter::{Adapter, Pick, Search, choose};
    pub use crate::engine::gpu::{GpuEngine, Options};
}

/// Anything that this library refuses or fails at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model file was refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A request does not fit its model.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// An engine gave up.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The inside of the library, for its own tests and tools. Nothing in it is stable.
#[doc(hidden)]
pub mod internals {
    /// Engines, which run a network.
    pub mod engine {
        pub use crate::engine::*;
    }
    /// Networks as graphs.
    pub mod graph {
        pub use crate::graph::*;
    }
    /// The distribution of a pixel.
    pub mod head {
        pub use crate::head::*;
    }
    /// Input pictures: which files, and their pixels.
    #[cfg(feature = "cli")]
    pub mod input {
        pub use crate::input::*;
    }
    /// Models: architecture, weights, files.
    pub mod model {
        pub use crate::model::*;
    }
    /// Pictures, arrays and files.
    #[cfg(feature = "cli")]
    pub mod output {
        pub use crate::output::*;
    }
    /// Random numbers.
    pub mod sampling {
        pub use crate::sampling::*;
    }
}
