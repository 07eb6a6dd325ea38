//! Makes the dispatches of a plan.

use super::choice::choose;
use super::dispatch::{DeviceFacts, Dispatch, Operation, Place, When};
use super::shaders::{BLOCKS_OF_CHAIN, Epilogue, Family, Kernel, THREADS, Team, Variant, parts_of_draw};
use super::speed::{LEAST_RATE, SUBMISSION};
use super::support::{drawn_from, output, phi, pixel_input};
use super::turns::Turns;
use super::units::{depth, half_width, outputs, quads};
use crate::engine::work::Terms;
use crate::graph::network::padded;
use crate::graph::{IMAGE, Network};
use crate::head::HeadKind;

/// The source of dispatches: network, layout and device.
pub struct Planner<'a> {
    /// The network.
    pub network: &'a Network,
    /// Images.
    pub batch: usize,
    /// The device.
    pub target: DeviceFacts,
    /// The family of kernels that runs the network.
    pub family: Family,
    /// The number of arenas.
    pub arenas: u32,
}

/// Workgroup memory that WebGPU promises, in bytes.
const WORKGROUP_MEMORY: u32 = 16 << 10;

/// Products of a quad of inputs with a quad of outputs.
const QUADS_SQUARED: usize = 16;

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
        let selections = layer.selections.iter().filter(|selection| terms.takes(selection.is_early));
        reads.extend(selections.map(|selection| Place::Node(selection.source)));
        let has_class = self.network.nodes[layer.target].is_modulated();
        let write = match terms {
            Terms::Early => Place::Context(l),
            _ => Place::Node(layer.target),
        };
        if let Some((residual, _)) = layer.residual.filter(|_| terms != Terms::Early) {
            reads.push(Place::Node(residual));
        }
        let epilogue = match (terms, layer.residual, self.family) {
            (Terms::Early, ..) => Epilogue::Context,
            (_, _, Family::Graph) => Epilogue::Forms { has_class: false },
            (_, Some(_), _) => Epilogue::Gate { has_class },
            (_, None, _) => Epilogue::Forms { has_class },
        };
        reads.extend(from_context.then_some(Place::Context(l)));
        reads.dedup();
        let width = half_width(layer);
        let shape = choose(positions as u32, width, self.target.speed);
        let (halves, reduction) = (layer.halves as u32, self.target.reduction);
        let precision = layer.precision(self.target.precision);
        let variant = match self.family {
            Family::PixelCnnPp => {
                Variant::conv(shape, halves, epilogue, phi(self.network), precision, reduction)
            }
            Family::Graph => Variant::conv_of_graph(shape, halves, epilogue, precision, reduction),
        };
        let variant = variant.reading(whole_row, from_context).in_arenas(self.arenas);
        let products = QUADS_SQUARED * depth(terms.taps(layer)) as usize * outputs(layer) as usize;
        Dispatch {
            operation: Operation::Conv { layer: l, terms, whole_row, shape, epilogue },
            workgroups: shape.workgroups(positions as u32, width),
            variant,
            reads,
            writes: vec![write],
            macs: (positions * products) as u64,
            macs_of_next: 0,
            when: When::of(layer),
            level: layer.level,
        }
    }

    /// Output, drawing, and the next pixel's input.
    pub fn sample(&self) -> Dispatch {
        let network = self.network;
        let output = output(network);
        let (input, input_layer) = pixel_input(network);
        let team = self.target.speed.team_of_pixel();
        let variant =
            Variant::sample(team, self.drawn(), phi(network), self.target.coherent).in_arenas(self.arenas);
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
            when: When::ALWAYS,
            level: 0,
        }
    }

    /// The end of a step of a pixel.
    pub fn draw(&self, step: usize) -> Dispatch {
        let network = self.network;
        let channels = network.head.channels_of(step);
        let variant = Variant::draw(drawn_from(network), step as u32, channels.len() as u32);
        Dispatch {
            operation: Operation::Draw { step },
            workgroups: [self.batch as u32, 1],
            variant: variant.in_arenas(self.arenas),
            reads: vec![Place::Node(network.head_node), Place::Pixels],
            writes: vec![Place::Pixels, Place::Node(IMAGE)],
            macs: 0,
            macs_of_next: 0,
            when: When { step, ..When::ALWAYS },
            level: 0,
        }
    }

    /// Of a PixelCNN++, quads of parameters, quads that logits are in, and draws, of a pixel.
    fn drawn(&self) -> [u32; 3] {
        let head = self.network.head;
        let HeadKind::LogisticMixture { mixtures } = head.kind() else {
            unreachable!("checked when the engine was made")
        };
        let channels = head.channels();
        [quads(output(self.network).outputs()), quads(padded(mixtures)), (mixtures + channels) as u32]
    }

    /// A chain that does `pixel`, the dispatches of a pixel, for a part of a row, and the number of pixels in that
    /// part. `None` if there can be no chain, or if it would be slower.
    pub fn chain(&self, pixel: &[&Dispatch]) -> Option<(Dispatch, usize)> {
        let (network, batch) = (self.network, self.batch);
        let team = self.target.speed.team(batch);
        let Team { threads, images, quads: at_once, .. } = team;
        let of_components = 12 * parts_of_draw(team);
        // And workgroup memory that drawing takes, for an image.
        let (variant, of_draw, turns) = match self.family {
            Family::PixelCnnPp => {
                let drawn @ [_, logits, draws] = self.drawn();
                let variant = Variant::chain(team, drawn, phi(network), self.target.coherent);
                let turns = Turns::new(network, pixel, team, drawn);
                (variant, 16 * logits + 4 * draws + of_components + 32, turns)
            }
            Family::Graph => {
                let of_step = network.head.channels_of(0).len() as u32;
                let variant =
                    Variant::chain_of_graph(team, drawn_from(network), of_step, self.target.coherent);
                (
                    variant,
                    (2 * 4 * BLOCKS_OF_CHAIN * of_step).max(of_components) + 48,
                    Turns::of_graph(network, pixel, team),
                )
            }
        };
        let memory = images * (16 * threads * at_once + of_draw);
        let layers = pixel.iter().filter_map(|dispatch| match dispatch.operation {
            Operation::Conv { layer, .. } => Some(outputs(&network.layers[layer])),
            _ => None,
        });
        // Its tables take bindings of their own.
        let is_possible = self.arenas == 1
            && variant.clone().in_arenas(1).bindings() as usize <= self.target.arenas
            && layers.max().is_some_and(|widest| widest.div_ceil(at_once) <= threads)
            && memory <= WORKGROUP_MEMORY;
        let of_pixel = |count: &dyn Fn(&Dispatch) -> f64| -> f64 {
            pixel.iter().map(|dispatch| count(dispatch) / dispatch.when.run_every.pow(2) as f64).sum()
        };
        let macs = of_pixel(&|dispatch| (dispatch.macs + dispatch.macs_of_next) as f64);
        let dispatches = of_pixel(&|_| 1.0);
        let is_faster = self.target.speed.favours_chain(macs / batch as f64, dispatches, batch);
        if !is_possible || !self.target.chain.unwrap_or(is_faster) {
            return None;
        }
        let most = (MOST_OF_CHAIN / (macs as u64).max(1)).clamp(1, network.width as u64) as usize;
        let span = turns.span(most, self.target.turns)?;
        let places = |of: fn(&Dispatch) -> &[Place]| {
            let mut places: Vec<_> = pixel.iter().flat_map(|dispatch| of(dispatch)).copied().collect();
            places.dedup();
            places
        };
        let dispatch = Dispatch {
            operation: Operation::Chain { team },
            workgroups: [(batch as u32).div_ceil(images), 1],
            variant: variant.in_arenas(self.arenas),
            reads: places(|dispatch| &dispatch.reads),
            writes: places(|dispatch| &dispatch.writes),
            macs: 0,
            macs_of_next: 0,
            when: When::ALWAYS,
            level: 0,
        };
        Some((dispatch, span))
    }

    /// Known pixels of a row go into the image's ring.
    pub fn show_row(&self) -> Dispatch {
        self.of_row(Operation::ShowRow, Kernel::ShowRow(self.family), &[Place::Pixels], Place::Node(IMAGE))
    }

    /// The log-likelihood of the pixels of a row.
    pub fn likelihood(&self) -> Dispatch {
        let reads = [Place::Node(self.network.head_node), Place::Pixels];
        let graph = (self.family == Family::Graph).then(|| drawn_from(self.network));
        self.of_row(Operation::Likelihood, Kernel::Likelihood(graph), &reads, Place::Pixels)
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
            when: When::ALWAYS,
            level: 0,
        }
    }
}
