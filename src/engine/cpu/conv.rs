//! The one convolution of the CPU engine: `out = init + Σ taps · weights`, for positions of one row.
//!
//! A sum follows the order of the weight matrix's rows, whatever the number of positions. So results are
//! the same bit for bit at any batch size and for any range of columns, and a sum may be computed in two
//! parts. General matrix libraries do not promise that.

#[cfg(target_arch = "x86_64")]
use std::any::Any;
use std::ops::Range;

use half::f16;
#[cfg(target_arch = "x86_64")]
use pulp::x86::V4;
use pulp::{Arch, Simd, WithSimd};

use crate::model::Precision;

/// A weight matrix `[inputs, halves · channels]`, packed once: panels of a few vectors of outputs, inputs in
/// order. A panel has outputs of one half; both halves are cut in the same places.
pub struct Packed {
    /// Panels one after another, each `[inputs, vectors · lanes]`.
    data: Vec<Line>,
    /// Vectors of each panel of a half.
    panels: Vec<usize>,
    /// For each panel of each half, true if all its weights are zero: its outputs are the initial values.
    constant: Vec<bool>,
    /// First panel of each member of a team, and the end.
    parts: Vec<usize>,
    inputs: usize,
    channels: usize,
    halves: usize,
    lanes: usize,
    precision: Precision,
}

/// A cache line of weights, for its alignment.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A weight as it is stored.
trait Weight: bytemuck::Pod {
    /// A vector of weights, in 32 bits.
    ///
    /// # Safety
    /// A vector of weights must be there, which this machine can widen.
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::f32s;
}

impl Weight for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(_: S, from: *const Self) -> S::f32s {
        // SAFETY: as promised by the caller.
        unsafe { from.cast::<S::f32s>().read_unaligned() }
    }
}

impl Weight for f16 {
    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "it is not reached"))]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::f32s {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = (&simd as &dyn Any).downcast_ref::<V4>() {
            // SAFETY: as promised by the caller; both types of the result are a vector of 32-bit floats.
            unsafe {
                let halves = from.cast::<std::arch::x86_64::__m256i>().read_unaligned();
                return std::mem::transmute_copy(&simd.avx512f._mm512_cvtph_ps(halves));
            }
        }
        unreachable!("weights are in 16 bits only where they can be widened")
    }
}

/// True if these instructions widen a vector of weights in one: AVX-512. More instructions take longer than
/// reading twice the bytes.
const fn widens<S: Simd>() -> bool {
    cfg!(target_arch = "x86_64") && S::F32_LANES == 16
}

/// The largest number of vectors in a panel.
const fn widest<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

/// Vector width, largest number of vectors per panel, and support of 16-bit weights.
struct Shape;

impl WithSimd for Shape {
    type Output = (usize, usize, bool);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        (S::F32_LANES, widest::<S>(), widens::<S>())
    }
}

/// Cuts `total` into `count` parts as even as can be, the smaller ones first.
fn even_parts(total: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |part| (total + part) / count)
}

/// Weights in whole cache lines.
fn lines<W: Weight>(weights: impl ExactSizeIterator<Item = W>) -> Vec<Line> {
    let mut lines = vec![Line([0; 64]); (weights.len() * size_of::<W>()).div_ceil(64)];
    for (to, weight) in bytemuck::cast_slice_mut(&mut lines).iter_mut().zip(weights) {
        *to = weight;
    }
    lines
}

impl Packed {
    /// Packs a row-major matrix, to be shared by teams of up to `team` threads; in 16 bits, which then must
    /// hold its numbers exactly, if `precision` says so and this machine is faster with them.
    pub fn new(
        arch: Arch,
        matrix: &[f32],
        outputs: usize,
        halves: usize,
        team: usize,
        precision: Precision,
    ) -> Self {
        let (lanes, widest, widens) = arch.dispatch(Shape);
        let precision = if widens { precision } else { Precision::F32 };
        let (inputs, channels) = (matrix.len() / outputs, outputs / halves);
        let vectors = channels.div_ceil(lanes);
        let (mut panels, mut parts) = (Vec::new(), vec![0]);
        for part in even_parts(vectors, team) {
            panels.extend(even_parts(part, part.div_ceil(widest)));
            parts.push(panels.len());
        }
        let mut packed: Vec<f32> = Vec::with_capacity(inputs * halves * vectors * lanes);
        let mut constant = Vec::new();
        for half in 0..halves {
            let mut first = 0;
            for panel in &panels {
                let start = packed.len();
                for row in matrix.chunks_exact(outputs) {
                    let row = &row[half * channels..(half + 1) * channels];
                    packed.extend(
                        (first..first + panel * lanes).map(|channel| row.get(channel).unwrap_or(&0.0)),
                    );
                }
                constant.push(packed[start..].iter().all(|&w| w == 0.0));
                first += panel * lanes;
            }
        }
        let data = match precision {
            Precision::F32 => lines(packed.iter().copied()),
            Precision::F16 => lines(packed.iter().map(|w| f16::from_f32(*w))),
        };
        Self { data, panels, constant, parts, inputs, channels, halves, lanes, precision }
    }

    /// Channels of a half with padding to whole vectors.
    pub fn width(&self) -> usize {
        self.channels.next_multiple_of(self.lanes)
    }

    /// The length of rows of `init` and `out`: `[halves, width]`.
    pub fn stride(&self) -> usize {
        self.halves * self.width()
    }

    /// The panels of a member of a team of `team`, the number it was packed for, or 1.
    pub fn panels_of(&self, member: usize, team: usize) -> Range<usize> {
        if team == 1 { 0..self.panels.len() } else { self.parts[member]..self.parts[member + 1] }
    }

    /// The channels of some panels, without padding.
    pub fn channels_of(&self, panels: &Range<usize>) -> Range<usize> {
        let channel = |panel| self.panels[..panel].iter().sum::<usize>() * self.lanes;
        channel(panels.start).min(self.channels)..channel(panels.end).min(self.channels)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.data[..])
    }
}

/// Numbers addressed by position: position `m` is column `m / batch` and image `m % batch`.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// All the numbers.
    pub data: &'a [f32],
    /// Offset of column 0, image 0.
    pub start: usize,
    /// From a column to the next.
    pub column: usize,
    /// From an image to the next.
    pub image: usize,
}

/// One tap: `depth` channels of a field.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The numbers.
    pub field: Field<'a>,
    /// Their count, one row of the weight matrix each.
    pub depth: usize,
}

/// A product to be computed: rows `first_input..` of the weights, for a range of positions and of panels.
pub struct Product<'a> {
    /// The weights.
    pub weights: &'a Packed,
    /// Panels of each half to compute.
    pub panels: Range<usize>,
    /// Row of the weight matrix that belongs to the first channel of the first tap.
    pub first_input: usize,
    /// The taps, in the order of the weight matrix.
    pub runs: &'a [Run<'a>],
    /// Initial values: rows of [`Packed::stride`] numbers.
    pub init: Field<'a>,
    /// Images.
    pub batch: usize,
    /// Positions to compute.
    pub positions: Range<usize>,
    /// `[positions, stride]`, of which the outputs of the panels are written.
    pub out: *mut f32,
}

impl Product<'_> {
    /// Multiplications with additions, without the padding of outputs to vectors.
    pub fn macs(&self) -> usize {
        let depth: usize = self.runs.iter().map(|run| run.depth).sum();
        let outputs = self.weights.halves * self.weights.channels_of(&self.panels).len();
        self.positions.len() * depth * outputs
    }

    /// Computes it.
    ///
    /// # Safety
    /// `out` must be valid for `positions.len() · stride` numbers, and no other thread may access the outputs
    /// of the panels meanwhile.
    pub unsafe fn run(self, arch: Arch) {
        self.check();
        arch.dispatch(self);
    }

    /// Checks that every address read is within its slice, whatever the kernel below does.
    fn check(&self) {
        let Some(last) = self.positions.clone().last() else { return };
        let (column, image) = (last / self.batch, last % self.batch);
        let image = if column > self.positions.start / self.batch { self.batch - 1 } else { image };
        let within = |field: &Field, length: usize| {
            field.start + column * field.column + image * field.image + length <= field.data.len()
        };
        let depth: usize = self.runs.iter().map(|run| run.depth).sum();
        assert!(self.first_input + depth <= self.weights.inputs);
        assert!(self.panels.end <= self.weights.panels.len());
        assert!(self.runs.iter().all(|run| within(&run.field, run.depth)));
        assert!(within(&self.init, self.weights.stride()));
    }
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        assert_eq!(self.weights.lanes, S::F32_LANES);
        // Constant conditions spare code that these instructions never run, here and below.
        if const { widens::<S>() } && self.weights.precision == Precision::F16 {
            self.all_panels::<S, f16>(simd);
        } else {
            self.all_panels::<S, f32>(simd);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn all_panels<S: Simd, W: Weight>(&self, simd: S) {
        let vector = self.weights.inputs * S::F32_LANES;
        let weights: *const W = self.weights.data.as_ptr().cast();
        let of_half = self.weights.width() / S::F32_LANES;
        for half in 0..self.weights.halves {
            let constant = &self.weights.constant[half * self.weights.panels.len()..];
            let mut first = self.weights.panels[..self.panels.start].iter().sum::<usize>();
            let mut p = self.panels.start;
            while p < self.panels.end {
                let vectors = self.weights.panels[p];
                let runs = if constant[p] { &[] } else { self.runs };
                let offset = (half * of_half + first) * vector;
                // SAFETY: the panels are `inputs` rows of vectors each, one after another.
                let data = unsafe { weights.add(offset + self.first_input * vectors * S::F32_LANES) };
                let panel = Panel {
                    data,
                    apart: vectors * vector,
                    column: (half * of_half + first) * S::F32_LANES,
                };
                let are_alike = |n: usize| {
                    let next = p..p + n;
                    next.end <= self.panels.end
                        && self.weights.panels[next.clone()].iter().all(|&v| v == vectors)
                        && constant[next].iter().all(|&c| c == constant[p])
                };
                // One or two positions of a panel have too few sums to hide the latency of an addition.
                let panels = match (self.positions.len(), vectors) {
                    (1, 1..=2) if are_alike(4) => 4,
                    (1, _) | (2, 1..=2) if are_alike(2) => 2,
                    _ => 1,
                };
                match (panels, vectors) {
                    (4, 1) => self.panels::<S, W, 1, 4, 1>(simd, runs, panel),
                    (4, _) => self.panels::<S, W, 1, 4, 2>(simd, runs, panel),
                    (2, 1) => self.panels::<S, W, 2, 2, 1>(simd, runs, panel),
                    (2, 2) => self.panels::<S, W, 2, 2, 2>(simd, runs, panel),
                    (_, 1) => self.panel::<S, W, 1>(simd, runs, panel),
                    (_, 2) => self.panel::<S, W, 2>(simd, runs, panel),
                    _ if const { widest::<S>() == 2 } => unreachable!("no panel is wider"),
                    (2, 3) => self.panels::<S, W, 1, 2, 3>(simd, runs, panel),
                    (2, _) => self.panels::<S, W, 1, 2, 4>(simd, runs, panel),
                    (_, 3) => self.panel::<S, W, 3>(simd, runs, panel),
                    (_, _) => self.panel::<S, W, 4>(simd, runs, panel),
                }
                first += panels * vectors;
                p += panels;
            }
        }
    }

    /// All positions, `R` at most, of `P` panels.
    #[inline(always)]
    fn panels<S: Simd, W: Weight, const R: usize, const P: usize, const V: usize>(
        &self,
        simd: S,
        runs: &[Run],
        panel: Panel<W>,
    ) {
        // SAFETY: as in `panel`; the panels are one after another.
        unsafe {
            match self.positions.len() {
                1 => self.tile::<S, W, 1, P, V>(simd, runs, panel, self.positions.start),
                _ => self.tile::<S, W, R, P, V>(simd, runs, panel, self.positions.start),
            };
        }
    }

    /// All positions of one panel, as many at a time as there are registers for.
    #[inline(always)]
    fn panel<S: Simd, W: Weight, const V: usize>(&self, simd: S, runs: &[Run], panel: Panel<W>) {
        let most = if V == 4 || (V == 2 && S::REGISTER_COUNT < 32) { 6 } else { 8 };
        let mut m = self.positions.start;
        while m < self.positions.end {
            // SAFETY: `check` has seen that reads are in range, and `run`'s caller has promised that writes
            // are; the panel has a row for every channel of the runs.
            unsafe {
                m += match most.min(self.positions.end - m) {
                    8.. => self.tile::<S, W, 8, 1, V>(simd, runs, panel, m),
                    6.. => self.tile::<S, W, 6, 1, V>(simd, runs, panel, m),
                    4.. => self.tile::<S, W, 4, 1, V>(simd, runs, panel, m),
                    2.. => self.tile::<S, W, 2, 1, V>(simd, runs, panel, m),
                    _ => self.tile::<S, W, 1, 1, V>(simd, runs, panel, m),
                };
            }
        }
    }

    /// `R` positions from `m` on by `P` panels of `V` vectors of outputs, in registers. Returns `R`.
    ///
    /// # Safety
    /// The addresses of the positions must be within their slices, and the panels must have a row for every
    /// channel of the runs.
    #[allow(clippy::needless_range_loop, reason = "closures would be compiled once more for every tile")]
    #[inline(always)]
    unsafe fn tile<S: Simd, W: Weight, const R: usize, const P: usize, const V: usize>(
        &self,
        simd: S,
        runs: &[Run],
        panel: Panel<W>,
        m: usize,
    ) -> usize {
        let Panel { data: mut weights_of, apart, column } = panel;
        let width = V * S::F32_LANES;
        let mut place = [(0, 0); R];
        for i in 0..R {
            place[i] = ((m + i) / self.batch, (m + i) % self.batch);
        }
        // SAFETY: as promised by the caller.
        unsafe {
            let at = |field: &Field, i: usize| {
                let (c, b) = place[i];
                field.data.as_ptr().add(field.start + c * field.column + b * field.image)
            };
            let mut sums = [[[simd.splat_f32s(0.0); V]; P]; R];
            for i in 0..R {
                let init = at(&self.init, i).add(column);
                for p in 0..P {
                    for v in 0..V {
                        sums[i][p][v] = init.add(p * width).cast::<S::f32s>().add(v).read_unaligned();
                    }
                }
            }
            for run in runs {
                let mut inputs = [std::ptr::null(); R];
                for i in 0..R {
                    inputs[i] = at(&run.field, i);
                }
                for k in 0..run.depth {
                    let mut weights = [[simd.splat_f32s(0.0); V]; P];
                    for p in 0..P {
                        for v in 0..V {
                            weights[p][v] = W::load(simd, weights_of.add(p * apart + v * S::F32_LANES));
                        }
                    }
                    for i in 0..R {
                        let x = simd.splat_f32s(*inputs[i].add(k));
                        for p in 0..P {
                            for v in 0..V {
                                sums[i][p][v] = simd.mul_add_e_f32s(x, weights[p][v], sums[i][p][v]);
                            }
                        }
                    }
                    weights_of = weights_of.add(width);
                }
            }
            let stride = self.weights.stride();
            let out = self.out.add((m - self.positions.start) * stride + column);
            for i in 0..R {
                for p in 0..P {
                    for v in 0..V {
                        let out = out.add(i * stride + p * width).cast::<S::f32s>();
                        out.add(v).write_unaligned(sums[i][p][v]);
                    }
                }
            }
        }
        R
    }
}

/// A panel of weights.
#[derive(Clone, Copy)]
struct Panel<W> {
    /// The weights of the first channel of the first run.
    data: *const W,
    /// From the weights of a panel to those of the next.
    apart: usize,
    /// The first of its outputs.
    column: usize,
}
