//! The choice of a kernel, by the shape of a product and by the device's parallelism.

use super::shaders::Shape;
use super::speed::Speed;

/// All shapes of a convolution, from the one that reads each number the fewest times to the one that makes the most
/// workgroups. None is narrower than two quads of outputs: 32 bytes of a row of weights, what memory gives at once. Shapes
/// with few workgroups have more invocations in each, so that as many loads are under way.
pub const SHAPES: [Shape; 7] = [
    Shape::Tiled { groups: 8, parts: 2 },
    Shape::Tiled { groups: 4, parts: 4 },
    Shape::Tiled { groups: 2, parts: 4 },
    Shape::Split { quads: 4, rows: 4, splits: 16 },
    Shape::Split { quads: 4, rows: 2, splits: 32 },
    Shape::Split { quads: 4, rows: 1, splits: 64 },
    Shape::Split { quads: 2, rows: 1, splits: 128 },
];

/// The same for a software driver, which reads a number for each lane by itself and pays for every barrier: much work
/// for every number that is read, and no sum is shared.
pub const SHAPES_IN_SOFTWARE: [Shape; 4] = [
    Shape::Split { quads: 8, rows: 8, splits: 1 },
    Shape::Split { quads: 8, rows: 4, splits: 1 },
    Shape::Split { quads: 8, rows: 2, splits: 1 },
    Shape::Split { quads: 8, rows: 1, splits: 1 },
];

/// The first shape that gives a device enough workgroups, or else the one that gives the most. Shapes larger than the
/// product, of `positions` positions and `quads` quads of outputs, are left out.
pub fn choose(positions: u32, quads: u32, speed: Speed) -> Shape {
    let shapes = if speed.is_parallel { &SHAPES[..] } else { &SHAPES_IN_SOFTWARE };
    let workgroups = |shape: &Shape| shape.workgroups(positions, quads).iter().product::<u32>();
    let mut fitting = shapes.iter().copied().filter(|shape| shape.tile()[1] <= positions);
    let most = fitting.clone().max_by_key(workgroups).expect("one has a position");
    fitting.find(|shape| workgroups(shape) >= speed.workgroups).unwrap_or(most)
}
