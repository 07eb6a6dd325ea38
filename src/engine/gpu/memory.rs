//! The layout of nodes, row contexts and pixels: regions of a few buffers, the arenas.

use super::shaders::Family;
use super::support::family;
use super::units::{QUAD, Region, outputs, quads};
use crate::graph::Network;

/// The layout of nodes, row contexts and pixels.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// By node.
    pub nodes: Vec<Region>,
    /// By layer, of those that have a row context.
    pub contexts: Vec<Option<Region>>,
    /// `[H, W, B]` pixels, [`Self::of_pixel`] quads each.
    pub pixels: Region,
    /// Quads of a pixel.
    pub of_pixel: usize,
    /// Zeros at the beginning of each arena, which are read in place of rows outside the image.
    zeros: usize,
    /// Quads of each arena.
    pub arenas: Vec<usize>,
    /// Quads at the beginning of each arena that are cleared when a batch begins: the nodes.
    pub cleared: Vec<usize>,
}

impl Memory {
    /// Finds room for everything, in arenas of at most `buffer` bytes.
    pub fn new(network: &Network, batch: usize, buffer: u64) -> Self {
        let limit = (buffer / QUAD) as usize;
        let (of_pixel, zeros) = match family(network) {
            Family::PixelCnnPp => (1, 0),
            Family::Graph => {
                let records = network.nodes.iter().map(|node| node.record);
                (2, records.max().map_or(0, |record| quads(record) as usize))
            }
        };
        let mut memory = Self { of_pixel, zeros, ..Self::default() };
        for node in &network.nodes {
            let region = memory.take(quads(node.len(batch)) as usize, limit);
            memory.nodes.push(region);
        }
        memory.cleared.clone_from(&memory.arenas);
        for layer in &network.layers {
            let length = (network.width >> layer.grid) * batch * outputs(layer) as usize;
            let region = layer.has_context().then(|| memory.take(length, limit));
            memory.contexts.push(region);
        }
        memory.pixels = memory.take(network.height * network.width * batch * of_pixel, limit);
        memory.cleared.resize(memory.arenas.len(), zeros);
        memory
    }

    /// The end of the first arena with room.
    fn take(&mut self, length: usize, limit: usize) -> Region {
        let arena = self.arenas.iter().position(|used| used + length <= limit).unwrap_or(self.arenas.len());
        if arena == self.arenas.len() {
            self.arenas.push(self.zeros);
        }
        let start = self.arenas[arena];
        self.arenas[arena] += length;
        Region { arena, start, length }
    }

    /// Bytes of all arenas.
    pub fn bytes(&self) -> u64 {
        QUAD * self.arenas.iter().sum::<usize>() as u64
    }
}
