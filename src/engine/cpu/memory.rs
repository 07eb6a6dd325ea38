//! Memory of a batch: ring buffers, row contexts, and tables added on a row.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::conv::Field;
use super::epilogue::address;
use super::packing::Packing;
use super::team::Buffer;
use crate::graph::Table;
use crate::graph::network::{Layer, Network, Read};

/// The sum of some tables for the images of a batch, on one row: `[columns or 1, batch or 1, width]`.
#[derive(Default)]
pub struct Gathered {
    data: Buffer,
    images: usize,
    width: usize,
    /// From a column to the next, and from an image to the next.
    column: usize,
    image: usize,
}

impl Gathered {
    /// Columns and images for which the numbers differ.
    fn extent(tables: &[Table], batch: usize) -> [usize; 2] {
        let longest = |axis: usize| tables.iter().map(|table| table.axes[axis]).max().unwrap_or(1);
        [longest(2), if longest(0) > 1 { batch } else { 1 }]
    }

    /// Number of floats for a batch.
    pub fn len(tables: &[Table], batch: usize) -> usize {
        Self::extent(tables, batch).iter().product::<usize>()
            * tables.first().map_or(0, |table| table.width)
    }

    /// Makes room for a batch, and takes the numbers of the first row.
    ///
    /// # Errors
    /// If the system gives no memory for it.
    pub fn begin(
        &mut self,
        tables: &[Table],
        batch: usize,
        classes: &[usize],
    ) -> Result<(), TryReserveError> {
        let [columns, images] = Self::extent(tables, batch);
        self.width = tables.first().map_or(0, |table| table.width);
        self.images = images;
        self.image = if images > 1 { self.width } else { 0 };
        self.column = if columns > 1 { images * self.width } else { 0 };
        self.data.clear(Self::len(tables, batch))?;
        // SAFETY: no other thread has it yet.
        unsafe { self.fill(tables, 0, classes) };
        Ok(())
    }

    /// Takes the numbers of a row.
    ///
    /// # Safety
    /// No other thread may access them.
    pub unsafe fn fill(&self, tables: &[Table], row: usize, classes: &[usize]) {
        if self.width == 0 {
            return;
        }
        // SAFETY: as promised by the caller.
        let data = unsafe { self.data.write(0, self.data.len()) };
        for (place, to) in data.chunks_mut(self.width).enumerate() {
            let class = classes.get(place % self.images).copied().unwrap_or(0);
            let column = place / self.images;
            let (first, others) = tables.split_first().expect("there is a width");
            to.copy_from_slice(first.at(class, row, column));
            for table in others {
                to.iter_mut().zip(table.at(class, row, column)).for_each(|(sum, x)| *sum += x);
            }
        }
    }

    /// The numbers of positions of which the first is column `first` and each next one is `step` columns on.
    ///
    /// # Safety
    /// No thread may write them while they are in use.
    pub unsafe fn field(&self, first: usize, step: usize) -> Field<'_> {
        // SAFETY: as promised by the caller.
        let data = unsafe { self.data.read() };
        Field { data, start: first * self.column, column: step * self.column, image: self.image }
    }
}

/// A scale and a shift of a node's value.
#[derive(Default)]
pub struct GatheredPair {
    pub scale: Gathered,
    pub shift: Gathered,
}

/// The place in a ring at which a layer reads a node, for a batch.
#[derive(Clone, Copy)]
pub struct Place {
    pub node: usize,
    /// Rows of the node: outside there are zeros.
    pub rows: isize,
    /// Rows of its ring, a power of two, less one.
    pub mask: isize,
    /// From the layer's row to the node's.
    pub scale: isize,
    pub row: isize,
    /// Offset of row 0 of the ring, for column 0 of the layer's grid and image 0.
    pub base: usize,
    pub of_row: usize,
    /// From a column of the grid to the next, and from an image to the next.
    pub column: usize,
    pub image: usize,
}

impl Place {
    /// The place of a layer's input in the rings of a batch.
    fn new(network: &Network, batch: usize, read: &Read) -> Self {
        let node = &network.nodes[read.source];
        Self {
            node: read.source,
            rows: (network.height >> node.level) as isize,
            mask: node.rows as isize - 1,
            scale: read.scale as isize,
            row: read.row,
            base: address(node, 0, read.column, batch) + node.offsets[read.form] + read.first,
            of_row: node.columns() * batch * node.record,
            column: read.scale * batch * node.record,
            image: node.record,
        }
    }
}

/// The memory of a batch, kept from one batch to the next to save allocations.
#[derive(Default)]
pub struct Memory {
    pub batch: usize,
    /// A ring of rows for every node, see [`Node`](crate::graph::network::Node).
    pub nodes: Vec<Buffer>,
    /// `[columns, batch, stride]` for every layer with a row context.
    pub contexts: Vec<Buffer>,
    /// The tables that layers add to their sums.
    pub additions: Vec<Gathered>,
    /// The scales and shifts of nodes, as [`Packing::modulations`].
    pub modulations: Vec<Vec<GatheredPair>>,
    /// The places of [`Layer::reads`], for each layer.
    pub places: Vec<Vec<Place>>,
    /// The class of each image; none for an unconditional model.
    pub classes: Vec<usize>,
    /// True for an image that has had a value that is not finite; activations may turn those into ordinary
    /// numbers again.
    pub broken: Vec<AtomicBool>,
    macs: AtomicU64,
}

impl Memory {
    /// Clears all caches for a new batch of `batch` images.
    ///
    /// # Errors
    /// If the system gives no memory for it.
    pub fn begin(
        &mut self,
        packing: &Packing,
        batch: usize,
        classes: Vec<usize>,
    ) -> Result<(), TryReserveError> {
        let (network, layers) = (&packing.network, packing.network.layers.len());
        self.batch = batch;
        self.classes = classes;
        self.broken.clear();
        self.broken.resize_with(batch, AtomicBool::default);
        self.nodes.resize_with(network.nodes.len(), Buffer::default);
        self.contexts.resize_with(layers, Buffer::default);
        self.additions.resize_with(layers, Gathered::default);
        self.modulations.resize_with(network.nodes.len(), Vec::new);
        let places = |layer: &Layer| layer.reads().map(|read| Place::new(network, batch, &read)).collect();
        self.places = network.layers.iter().map(places).collect();
        for (n, node) in network.nodes.iter().enumerate() {
            self.nodes[n].clear(node.len(batch))?;
            let modulations = &packing.modulations[n];
            self.modulations[n].resize_with(modulations.len(), GatheredPair::default);
            for (gathered, modulation) in self.modulations[n].iter_mut().zip(modulations) {
                gathered.scale.begin(modulation.scale.as_slice(), batch, &self.classes)?;
                gathered.shift.begin(modulation.shift.as_slice(), batch, &self.classes)?;
            }
        }
        for (l, layer) in network.layers.iter().enumerate() {
            if layer.has_context() {
                let columns = network.width >> layer.grid;
                self.contexts[l].clear(columns * batch * packing.weights[l].stride())?;
            }
            self.additions[l].begin(&packing.additions[l], batch, &self.classes)?;
        }
        Ok(())
    }

    /// Frees all memory.
    pub fn release(&mut self) {
        *self = Self { macs: AtomicU64::new(self.macs()), ..Self::default() };
    }

    fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        let modulations = self.modulations.iter().flatten().flat_map(|pair| [&pair.scale, &pair.shift]);
        let gathered = self.additions.iter().chain(modulations).map(|gathered| &gathered.data);
        self.nodes.iter().chain(&self.contexts).chain(gathered)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.buffers().map(Buffer::bytes).sum()
    }

    /// Multiplications with additions so far.
    pub fn macs(&self) -> u64 {
        self.macs.load(Ordering::Relaxed)
    }

    /// Counts multiplications with additions.
    pub fn count(&self, macs: u64) {
        self.macs.fetch_add(macs, Ordering::Relaxed);
    }
}
