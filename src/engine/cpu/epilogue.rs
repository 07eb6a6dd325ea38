//! The epilogue: from a layer's sums to the forms of its target.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use pulp::{Arch, Simd, WithSimd};

use super::conv::Field;
use super::math::{all_finite, apply, elu_both, gate};
use super::memory::{Gathered, GatheredPair};
use super::packing::Modulation;
use super::team::Buffer;
use crate::graph::Activation;
use crate::graph::network::{Layer, Node, padded};

/// Offset of column `column` of a row in a node's ring, for image 0.
pub fn address(node: &Node, row: isize, column: isize, batch: usize) -> usize {
    // A power of two.
    let row = (row & (node.rows as isize - 1)) as usize;
    let column = (node.left as isize + column) as usize;
    (row * node.columns() + column) * batch * node.record
}

/// A row of a node, to store values in.
pub struct TargetRow<'a> {
    pub node: &'a Node,
    pub ring: &'a Buffer,
    /// Offset of the row in the ring.
    pub start: usize,
    /// Its modulations.
    pub modulations: &'a [Modulation],
    /// Their numbers on this row.
    pub gathered: &'a [GatheredPair],
    /// The one that each form has, if any.
    pub modulated: &'a [Option<usize>],
}

/// The epilogue of a layer on a row.
pub struct Store<'a> {
    pub layer: &'a Layer,
    pub target: TargetRow<'a>,
    /// The node that keeps the sums.
    pub pre: Option<TargetRow<'a>>,
    /// Residual added to the result.
    pub residual: Option<Field<'a>>,
    pub batch: usize,
    /// From a position to the next, and from a half to the next, in the sums.
    pub stride: usize,
    pub half: usize,
    /// The channels of each half that are stored.
    pub channels: Range<usize>,
    pub arch: Arch,
    /// By image.
    pub broken: &'a [AtomicBool],
}

/// The epilogue of some positions, in the best instructions. A closure would not be inlined into them, and so not be
/// made of them.
pub struct Stored<'a> {
    pub store: &'a Store<'a>,
    pub positions: Range<usize>,
    /// `[positions, stride]`.
    pub sums: &'a [f32],
    /// Memory for intermediate values, three times the channels.
    pub scratch: &'a mut [f32],
}

impl Stored<'_> {
    /// # Safety
    /// No other thread may access these channels of the target at these positions.
    pub unsafe fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Stored<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // SAFETY: as promised to `run`, the only one who dispatches this.
        unsafe { self.store.run(self.positions, self.sums, self.scratch) };
    }
}

/// The place of a value.
#[derive(Clone, Copy)]
struct Spot {
    /// The beginning of the record.
    record: usize,
    column: usize,
    image: usize,
    /// The first of the node's channels.
    channel: usize,
}

impl<'a> Store<'a> {
    /// Stores the results of some positions, `sums` `[positions, stride]`.
    ///
    /// # Safety
    /// No other thread may access these channels of the target at these positions.
    #[inline(always)]
    unsafe fn run(&self, positions: Range<usize>, sums: &[f32], scratch: &mut [f32]) {
        let (batch, layer) = (self.batch, self.layer);
        let channels = self.channels.clone();
        let (value, scratch) = scratch.split_at_mut(scratch.len() / 3);
        let (value, room) = (&mut value[..channels.len()], scratch);
        for (m, sums) in positions.zip(sums.chunks_exact(self.stride)) {
            let (position, image) = (m / batch, m % batch);
            let halves = |half: usize| &sums[half * self.half..][channels.clone()];
            if let Some(pre) = &self.pre {
                for half in 0..layer.halves {
                    let column = layer.target_column(position, 0);
                    let channel = half * pre.node.channels / layer.halves + layer.first_channel;
                    let spot = self.spot(pre, column, image, channel);
                    // SAFETY: as promised by the caller.
                    unsafe { self.store_apart(pre, halves(half), room, spot) };
                }
            }
            for half in 0..if layer.gate.is_some() { 1 } else { layer.halves } {
                let column = layer.target_column(position, half);
                let residual = self
                    .residual
                    .as_ref()
                    .map(|x| &x.data[x.start + position * x.column + image * x.image..][channels.clone()]);
                let mut made = halves(half);
                if let Some(functions) = layer.gate {
                    let [a, b] = [halves(0), halves(1)];
                    if functions[0] != Activation::Raw {
                        self.check(image, a);
                    }
                    self.check(image, b);
                    gate(self.arch, functions, [a, b], residual, value, &mut room[..channels.len()]);
                    made = value;
                } else if let Some(x) = residual {
                    let sums = value.iter_mut().zip(made.iter().zip(x));
                    sums.for_each(|(value, (sum, x))| *value = x + sum);
                    made = value;
                }
                let spot = self.spot(&self.target, column, image, layer.first_channel);
                // SAFETY: as promised by the caller.
                unsafe { self.store(&self.target, made, room, spot) };
            }
        }
    }

    #[inline(always)]
    fn spot(&self, target: &TargetRow, column: usize, image: usize, channel: usize) -> Spot {
        let record = target.start + (column * self.batch + image) * target.node.record;
        Spot { record, column, image, channel: channel + self.channels.start }
    }

    /// Marks an image with a value that is not finite.
    #[inline(always)]
    fn check(&self, image: usize, value: &[f32]) {
        if !all_finite(value) {
            self.broken[image].store(true, Ordering::Relaxed);
        }
    }

    /// The same for rare cases: a copy of the code beside the hot loop would slow that down.
    ///
    /// # Safety
    /// As for [`Self::store`].
    #[inline(never)]
    unsafe fn store_apart(&self, target: &TargetRow<'a>, value: &[f32], room: &mut [f32], spot: Spot) {
        // SAFETY: as promised by the caller.
        unsafe { self.store(target, value, room, spot) };
    }

    /// Writes all forms of a pixel's value.
    ///
    /// # Safety
    /// No other thread may access these channels of the pixel.
    #[inline(always)]
    unsafe fn store(&self, target: &TargetRow<'a>, value: &[f32], room: &mut [f32], spot: Spot) {
        // First the value itself, then each of its modulations.
        for next in 0..=target.modulations.len() {
            let modulation = next.checked_sub(1);
            if let Some(m) = modulation {
                self.modulate(target, m, value, &mut room[..value.len()], spot);
            }
            let shown = if modulation.is_some() { &room[..value.len()] } else { value };
            self.check(spot.image, shown);
            // SAFETY: as promised by the caller.
            unsafe { self.forms(target, shown, modulation, spot) };
        }
    }

    /// Applies a scale and a shift to a value.
    fn modulate(&self, target: &TargetRow<'a>, m: usize, value: &[f32], to: &mut [f32], spot: Spot) {
        to.copy_from_slice(value);
        let numbers = |gathered: &'a Gathered| {
            // SAFETY: these numbers are written while a row begins, by one thread alone.
            let field = unsafe { gathered.field(0, 1) };
            let start = field.start + spot.column * field.column + spot.image * field.image;
            &field.data[start + spot.channel..][..value.len()]
        };
        let GatheredPair { scale, shift } = &target.gathered[m];
        let modulation = &target.modulations[m];
        if modulation.scale.is_some() {
            to.iter_mut().zip(numbers(scale)).for_each(|(x, scale)| *x *= scale);
        }
        if modulation.shift.is_some() {
            to.iter_mut().zip(numbers(shift)).for_each(|(x, shift)| *x += shift);
        }
        if modulation.negate {
            to.iter_mut().for_each(|x| *x = -*x);
        }
    }

    /// Writes the forms that have a modulation, or none.
    ///
    /// # Safety
    /// No other thread may access these channels of the record.
    #[inline(always)]
    unsafe fn forms(&self, target: &TargetRow, value: &[f32], modulation: Option<usize>, spot: Spot) {
        let node = target.node;
        // SAFETY: as promised by the caller; the forms of a record do not overlap.
        let room =
            |offset: usize| unsafe { target.ring.write(spot.record + offset + spot.channel, value.len()) };
        for ((form, offset), of_form) in node.forms.iter().zip(&node.offsets).zip(target.modulated) {
            if *of_form != modulation {
                continue;
            }
            match form.activation {
                Activation::ConcatElu => {
                    let (plus, minus) = (room(*offset), room(offset + padded(node.channels)));
                    for (x, (plus, minus)) in value.iter().zip(plus.iter_mut().zip(minus)) {
                        (*plus, *minus) = elu_both(*x);
                    }
                }
                activation => apply(self.arch, activation, value, room(*offset)),
            }
        }
    }
}
