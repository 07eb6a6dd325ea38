//! Makes the dispatches of a plan.

use super::choice::choose;
use super::dispatch::{DeviceFacts, Dispatch, Operation, Place};
use super::shaders::{Epilogue, Kernel, THREADS, Team, Variant};
use super::speed::{LEAST_RATE, SUBMISSION};
use super::support::{output, phi, pixel_input};
use super::turns::Turns;
use super::units::quads;
use crate::engine::work::Terms;
use crate::graph::network::padded;
use crate::graph::{IMAGE, Network};
use crate::head::HeadKind;

/// What dispatches are made from.
pub struct Planner<'a> {
    /// The network.
    pub network: &'a Network,
    /// Images.
    pub batch: usize,
    /// The device.
    pub target: DeviceFacts,
    /// How many arenas there are.
    pub arenas: u32,
}

/// Workgroup memory that WebGPU promises, in bytes.
const WORKGROUP_MEMORY: u32 = 16 << 10;

/// Products of a chain's dispatch, at most, which cannot be split.
const MOST_OF_CHAIN: u64 = (SUBMISSION * LEAST_RATE) as u64;

impl Planner<'_> {
    /// A part of a layer, for a whole row or for one pixel.
    pub fn conv(&self, l: usize, terms: Terms, whole_row: bool) -> Dispatch {
        let layer = &self.network.layers[l];
        let columns = if whole_row { self.network.width >> layer.grid } else { 1 };
        let positions = columns * self.batch;
        let from_context = terms.begins_with_context(layer);
        let mut reads: Vec<_> = terms.taps(layer).iter().map(|tap| Place::Node(tap.source)).collect();
        let has_class = self.network.nodes[layer.target].is_modulated();
        let (epilogue, write) = match (terms, layer.residual) {
            (Terms::Early, _) => (Epilogue::Context, Place::Context(l)),
            (_, Some((residual, _))) => {
                reads.push(Place::Node(residual));
                (Epilogue::Gate { has_class }, Place::Node(layer.target))
            }
            (_, None) => (Epilogue::Forms { has_class }, Place::Node(layer.target)),
        };
        reads.extend(from_context.then_some(Place::Context(l)));
        reads.dedup();
        let width = quads(padded(layer.channels));
        let shape = choose(positions as u32, width, self.target.speed);
        let variant = Variant::conv(
            shape,
            layer.halves as u32,
            epilogue,
            phi(self.network),
            layer.precision(self.target.precision),
            self.target.reduction,
        );
        let variant = variant.reading(whole_row, from_context).in_arenas(self.arenas);
        Dispatch {
            operation: Operation::Conv { layer: l, terms, whole_row, shape, epilogue },
            workgroups: shape.workgroups(positions as u32, width),
            variant,
            reads,
            writes: vec![write],
            macs: (positions * terms.macs(layer)) as u64,
            macs_of_next: 0,
            run_every: layer.run_every,
            first_row: layer.row_parity.unwrap_or(0) << layer.level,
            level: layer.level,
        }
    }

    /// Output, drawing, and the next pixel's input.
    pub fn sample(&self) -> Dispatch {
        let network = self.network;
        let output = output(network);
        let (input, input_layer) = pixel_input(network);
        let variant =
            Variant::sample(self.drawn(), phi(network), self.target.coherent).in_arenas(self.arenas);
        let left = &input_layer.taps[input_layer.taps.len() - 1];
        Dispatch {
            operation: Operation::Sample,
            workgroups: [self.batch as u32, 1],
            variant,
            reads: vec![Place::Node(output.taps[0].source), Place::Context(input), Place::Pixels],
            writes: vec![
                Place::Node(network.head_node),
                Place::Pixels,
                Place::Node(IMAGE),
                Place::Node(input_layer.target),
            ],
            macs: (self.batch * output.taps[0].depth * output.outputs()) as u64,
            macs_of_next: (self.batch * left.depth * input_layer.outputs()) as u64,
            run_every: 1,
            first_row: 0,
            level: 0,
        }
    }

    /// Quads of parameters, quads that logits are in, and draws, of a pixel.
    fn drawn(&self) -> [u32; 3] {
        let head = self.network.head;
        let HeadKind::LogisticMixture { mixtures } = head.kind() else {
            unreachable!("checked when the engine was made")
        };
        let channels = head.channels();
        [quads(output(self.network).outputs()), quads(padded(mixtures)), (mixtures + channels) as u32]
    }

    /// What does all of `pixel`, the dispatches of a pixel, for a part of a row, and how many pixels that part has;
    /// nothing if that cannot be, or would be slower.
    pub fn chain(&self, pixel: &[Dispatch]) -> Option<(Dispatch, usize)> {
        let (network, batch) = (self.network, self.batch);
        let drawn @ [_, logits, draws] = self.drawn();
        let team = self.target.speed.team(batch);
        let variant = Variant::chain(team, drawn, phi(network), self.target.coherent);
        let Team { threads, images, quads: at_once } = team;
        let memory = images * (16 * threads * at_once + 16 * logits + 4 * draws + 32);
        let widest = network.layers[..network.layers.len() - 1].iter().map(|l| quads(l.outputs())).max();
        // The table of layers takes a binding of its own.
        let is_possible = self.arenas == 1
            && self.target.arenas > 1
            && widest.is_some_and(|widest| widest.div_ceil(at_once) <= threads)
            && memory <= WORKGROUP_MEMORY;
        let of_pixel = |count: &dyn Fn(&Dispatch) -> f64| -> f64 {
            pixel.iter().map(|dispatch| count(dispatch) / dispatch.run_every.pow(2) as f64).sum()
        };
        let macs = of_pixel(&|dispatch| (dispatch.macs + dispatch.macs_of_next) as f64);
        let dispatches = of_pixel(&|_| 1.0);
        let is_faster = self.target.speed.favours_chain(macs / batch as f64, dispatches, batch);
        if !is_possible || !self.target.chain.unwrap_or(is_faster) {
            return None;
        }
        let most = (MOST_OF_CHAIN / (macs as u64).max(1)).clamp(1, network.width as u64) as usize;
        let span = Turns::new(network, pixel, team, drawn).span(most, self.target.turns)?;
        let places = |of: fn(&Dispatch) -> &[Place]| {
            let mut places: Vec<_> = pixel.iter().flat_map(of).copied().collect();
            places.dedup();
            places
        };
        let dispatch = Dispatch {
            operation: Operation::Chain { images },
            workgroups: [(batch as u32).div_ceil(images), 1],
            variant: variant.in_arenas(self.arenas),
            reads: places(|dispatch| &dispatch.reads),
            writes: places(|dispatch| &dispatch.writes),
            macs: 0,
            macs_of_next: 0,
            run_every: 1,
            first_row: 0,
            level: 0,
        };
        Some((dispatch, span))
    }

    /// Known pixels of a row go into the image's ring.
    pub fn show_row(&self) -> Dispatch {
        self.of_row(Operation::ShowRow, Kernel::ShowRow, &[Place::Pixels], Place::Node(IMAGE))
    }

    /// How likely the pixels of a row are.
    pub fn likelihood(&self) -> Dispatch {
        let reads = [Place::Node(self.network.head_node), Place::Pixels];
        self.of_row(Operation::Likelihood, Kernel::Likelihood, &reads, Place::Pixels)
    }

    fn of_row(&self, operation: Operation, kernel: Kernel, reads: &[Place], write: Place) -> Dispatch {
        let variant = Variant::of_row(kernel).in_arenas(self.arenas);
        let positions = (self.network.width * self.batch) as u32;
        Dispatch {
            operation,
            workgroups: [positions.div_ceil(THREADS), 1],
            variant,
            reads: reads.to_vec(),
            writes: vec![write],
            macs: 0,
            macs_of_next: 0,
            run_every: 1,
            first_row: 0,
            level: 0,
        }
    }
}
