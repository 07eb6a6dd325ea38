//! Data shared by Rust and WGSL: the uniforms, under their names in `shaders/`, and the bindings, which are the same
//! for all kernels.

use bytemuck::{Pod, Zeroable};

use super::shaders::MAX_TAPS;
use super::support::slots;
use super::units::{PLACES, Region, quads};
use crate::graph::network::{Node, Tap, padded};
use crate::graph::{Activation, Table};

/// Structs that Rust and WGSL share, field by field by the same names, which a test compares.
macro_rules! shared {
    ($(#[$about:meta])* pub struct $name:ident = $wgsl:ident {
        $($(#[$field_about:meta])* $visible:vis $field:ident: $kind:ty,)*
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Pod, Zeroable)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_about])* $visible $field: $kind,)*
        }

        #[cfg(test)]
        impl $crate::engine::gpu::layout::tests::Shared for $name {
            fn numbers(
                at: usize,
                name: &str,
                numbers: &mut Vec<$crate::engine::gpu::layout::tests::Number>,
            ) {
                use $crate::engine::gpu::layout::tests::Shared;
                $({
                    let name = format!("{name}.{}", stringify!($field));
                    <$kind as Shared>::numbers(at + std::mem::offset_of!($name, $field), &name, numbers);
                })*
            }
        }

        #[cfg(test)]
        impl $crate::engine::gpu::layout::tests::Struct for $name {
            const WGSL: &str = stringify!($wgsl);
        }
    };
}

pub(super) use shared;

/// A form that is not there; `NONE` in WGSL.
const NONE: u32 = u32::MAX;

shared! {
    /// `Ring` in `shaders/shared/arena.wgsl`.
    pub struct RingUniform = Ring {
        arena: u32,
        base: u32,
        mask: u32,
        of_row: u32,
        of_column: u32,
        of_image: u32,
        width: u32,
        unused: u32,
    }
}

impl RingUniform {
    /// Describes a node, which lies at `region`, for a batch; it begins `offset` quads into a record.
    pub fn new(node: &Node, region: Region, batch: usize, offset: u32) -> Self {
        let of_image = quads(node.record);
        let of_column = batch as u32 * of_image;
        Self {
            arena: region.arena as u32,
            base: region.start as u32 + node.left as u32 * of_column + offset,
            mask: node.rows as u32 - 1,
            of_row: node.columns() as u32 * of_column,
            of_column,
            of_image,
            width: quads(padded(node.channels)),
            unused: 0,
        }
    }

    /// Its arena, and in it: base, mask, and how far apart rows, columns and images are.
    pub fn places(&self) -> [u32; 6] {
        [self.arena, self.base, self.mask, self.of_row, self.of_column, self.of_image]
    }
}

shared! {
    /// `Table` in `shaders/shared/arena.wgsl`.
    pub struct TableUniform = Table {
        base: u32,
        of_class: u32,
        of_row: u32,
        of_column: u32,
    }
}

impl TableUniform {
    /// Describes a table that begins `base` quads into the buffer of additions.
    pub fn new(table: &Table, base: usize) -> Self {
        let [of_class, of_row, of_column] = table.strides().map(quads);
        Self { base: base as u32, of_class, of_row, of_column }
    }

    /// For what a list says is not there.
    pub const ABSENT: Self = Self { base: NONE, of_class: 0, of_row: 0, of_column: 0 };

    /// For a layer that adds nothing: the kernel does not read the table.
    pub const NONE: Self = Self { base: 0, of_class: 0, of_row: 0, of_column: 0 };
}

shared! {
    /// `Target` in `shaders/shared/target.wgsl`.
    pub struct TargetUniform = Target {
        ring: RingUniform,
        raw: u32,
        phi: u32,
        elu: u32,
        class_raw: u32,
        class_phi: u32,
        has_class: u32,
        unused_0: u32,
        unused_1: u32,
        addition: TableUniform,
    }
}

impl TargetUniform {
    /// Describes a node that is stored in a ring, in a network with an activation φ; `addition` is what its class adds for some readers.
    pub fn new(node: &Node, phi: Activation, ring: RingUniform, addition: TableUniform) -> Self {
        let [raw, phi, elu, class_raw, class_phi] =
            slots(node, phi).map(|offset| offset.map_or(NONE, quads));
        let has_class = node.is_modulated().into();
        Self { ring, raw, phi, elu, class_raw, class_phi, has_class, unused_0: 0, unused_1: 0, addition }
    }
}

shared! {
    /// `Tap` in `shaders/shared/conv.wgsl`.
    pub struct TapUniform = Tap {
        arena: u32,
        base: u32,
        mask: u32,
        of_row: u32,
        of_column: u32,
        of_image: u32,
        row: i32,
        scale: u32,
        depth: u32,
        unused_0: u32,
        unused_1: u32,
        unused_2: u32,
    }
}

impl TapUniform {
    /// Describes a tap that reads `source`.
    pub fn new(tap: &Tap, source: RingUniform) -> Self {
        let scale = tap.scale as u32;
        Self {
            arena: source.arena,
            // To the left of the first column there is padding.
            base: source.base.wrapping_add_signed(tap.column as i32 * source.of_column as i32),
            mask: source.mask,
            of_row: source.of_row,
            of_column: scale * source.of_column,
            of_image: source.of_image,
            row: tap.row as i32,
            scale,
            depth: quads(tap.depth),
            unused_0: 0,
            unused_1: 0,
            unused_2: 0,
        }
    }
}

shared! {
    /// `Layer` in `shaders/shared/conv.wgsl`.
    pub struct LayerUniform = Layer {
        /// The terms; `tap_count` of them are used.
        pub taps: [TapUniform; MAX_TAPS],
        /// The node that is made.
        pub target_node: TargetUniform,
        /// The node that a gate is added to.
        pub residual: RingUniform,
        /// The initial value of the sum, if it is not the row's context.
        pub addition: TableUniform,
        /// Terms.
        pub tap_count: u32,
        /// The first quad of the weights.
        pub weights: u32,
        /// Quads of one half of the outputs.
        pub width: u32,
        /// Positions: columns times images.
        pub positions: u32,
        /// Images.
        pub batch: u32,
        /// Level of the positions.
        pub grid: u32,
        /// Level of the target.
        pub level: u32,
        /// The row's context: its arena, its start there, and the strides of columns and images.
        pub context_arena: u32,
        /// See [`Self::context_arena`].
        pub context_base: u32,
        /// See [`Self::context_arena`].
        pub context_of_column: u32,
        /// See [`Self::context_arena`].
        pub context_of_image: u32,
        /// Halves of the outputs.
        pub halves: u32,
        /// The use of the sums.
        pub epilogue: u32,
        /// 1 if the sum begins with the row's context.
        pub has_context: u32,
        /// It runs on rows that have these bits like the next number, and on columns that have those after it 0.
        pub row_bits: u32,
        /// See [`Self::row_bits`].
        pub row_like: u32,
        /// See [`Self::row_bits`].
        pub column_bits: u32,
        /// In a chain; see [`super::shaders::Team::shares`].
        pub columns: u32,
        /// See [`Self::columns`].
        pub splits: u32,
        /// Uniform structs end on 16 bytes.
        pub unused: u32,
    }
}

shared! {
    /// `Job` in `shaders/shared/job.wgsl`.
    pub struct JobUniform = Job {
        /// The node that the output layer reads.
        pub source: RingUniform,
        /// The image.
        pub image: RingUniform,
        /// The mixture parameters.
        pub parameters: RingUniform,
        /// The node that the horizontal input layer makes.
        pub target_node: TargetUniform,
        /// The additions of the output layer.
        pub addition: TableUniform,
        /// Seed of the noise, low word first.
        pub seed: [u32; 2],
        /// See [`crate::engine::Draw`].
        pub temperature: f32,
        /// See [`crate::engine::Draw`].
        pub truncation: f32,
        /// Mixture components.
        pub mixtures: u32,
        /// Channels of the image.
        pub channels: u32,
        /// Images.
        pub batch: u32,
        /// Pixels in a row.
        pub columns: u32,
        /// 1 if values stay unrounded.
        pub continuous: u32,
        /// The pixels: their arena and their start there.
        pub pixels_arena: u32,
        /// See [`Self::pixels_arena`].
        pub pixels_base: u32,
        /// Pixels of each image that are wanted.
        pub wanted: u32,
        /// The row context of the horizontal input layer: its arena and its start there.
        pub context_arena: u32,
        /// See [`Self::context_arena`].
        pub context_base: u32,
        /// Layers of a chain.
        pub layers: u32,
        /// Pixels that a chain does at once.
        pub span: u32,
        /// See [`crate::engine::Draw::reach`].
        pub reach: f32,
        /// See [`super::weights::Weights::changing`].
        pub changing: u32,
        /// Padding to a multiple of 16 bytes.
        pub unused_0: u32,
        /// See [`Self::unused_0`].
        pub unused_1: u32,
    }
}

/// The layout of all kernels' bindings, for a number of arenas, and of tables after them; see `shaders/shared/arena.wgsl`.
pub fn layout(device: &wgpu::Device, arenas: usize, tables: usize) -> wgpu::BindGroupLayout {
    let uniform = wgpu::BufferBindingType::Uniform;
    let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
    let mut types =
        vec![uniform, uniform, uniform, storage(true), storage(true), storage(true), storage(false)];
    types.extend(vec![storage(false); arenas]);
    types.extend(vec![storage(true); tables]);
    let entry = |(binding, ty)| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: binding < PLACES, min_binding_size: None },
        count: None,
    };
    let entries: Vec<_> = (0..).zip(types).map(entry).collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some("pixelcnn"), entries: &entries };
    device.create_bind_group_layout(&descriptor)
}

/// A bind group with `buffers` as bindings 0, 1, ….
pub fn bind(
    device: &wgpu::Device,
    layout: &wgpu::BindGroupLayout,
    label: &str,
    buffers: &[&wgpu::Buffer],
) -> wgpu::BindGroup {
    let mut entries = Vec::with_capacity(buffers.len());
    for (binding, buffer) in (0..).zip(buffers) {
        let size = if binding < PLACES { wgpu::BufferSize::new(4) } else { None };
        let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size });
        entries.push(wgpu::BindGroupEntry { binding, resource });
    }
    device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::shaders::Kernel;
    use super::*;

    /// A number of a struct: its name with those of the structs around it, its offset in bytes, its type.
    pub type Number = (String, usize, &'static str);

    /// A type that both languages have.
    pub trait Shared {
        /// Adds all its numbers, where it begins at an offset and goes by a name.
        fn numbers(at: usize, name: &str, numbers: &mut Vec<Number>);
    }

    /// A struct by its name in WGSL.
    pub trait Struct: Shared {
        const WGSL: &str;
    }

    macro_rules! shared_scalars {
        ($($kind:ident)*) => {$(
            impl Shared for $kind {
                fn numbers(at: usize, name: &str, numbers: &mut Vec<Number>) {
                    numbers.push((name.to_owned(), at, stringify!($kind)));
                }
            }
        )*};
    }
    shared_scalars!(u32 i32 f32);

    impl<T: Shared, const N: usize> Shared for [T; N] {
        fn numbers(at: usize, name: &str, numbers: &mut Vec<Number>) {
            (0..N).for_each(|i| T::numbers(at + i * size_of::<T>(), &format!("{name}[{i}]"), numbers));
        }
    }

    /// The same of a type in WGSL.
    fn in_wgsl(
        module: &naga::Module,
        kind: &naga::TypeInner,
        at: usize,
        name: &str,
        numbers: &mut Vec<Number>,
    ) {
        let of_scalar = |scalar: naga::Scalar| match (scalar.kind, scalar.width) {
            (naga::ScalarKind::Uint, 4) => "u32",
            (naga::ScalarKind::Sint, 4) => "i32",
            (naga::ScalarKind::Float, 4) => "f32",
            _ => panic!("{name}: {scalar:?}"),
        };
        match *kind {
            naga::TypeInner::Scalar(scalar) => numbers.push((name.to_owned(), at, of_scalar(scalar))),
            naga::TypeInner::Vector { size, scalar } => numbers.extend(
                (0..size as usize).map(|i| (format!("{name}[{i}]"), at + 4 * i, of_scalar(scalar))),
            ),
            naga::TypeInner::Array { base, size: naga::ArraySize::Constant(count), stride } => {
                for i in 0..count.get() {
                    let (at, name) = (at + (i * stride) as usize, format!("{name}[{i}]"));
                    in_wgsl(module, &module.types[base].inner, at, &name, numbers);
                }
            }
            naga::TypeInner::Struct { ref members, .. } => {
                for member in members {
                    let name = format!("{name}.{}", member.name.as_ref().unwrap());
                    let at = at + member.offset as usize;
                    in_wgsl(module, &module.types[member.ty].inner, at, &name, numbers);
                }
            }
            _ => panic!("{name}: {kind:?}"),
        }
    }

    /// The first difference between a struct here and in WGSL, if there is one.
    pub fn difference<T: Struct>(source: &str) -> Option<String> {
        let module = naga::front::wgsl::parse_str(source).unwrap();
        let is_it = |kind: &naga::Type| kind.name.as_deref() == Some(T::WGSL);
        let (_, kind) = module.types.iter().find(|(_, kind)| is_it(kind)).unwrap();
        let naga::TypeInner::Struct { span, .. } = kind.inner else { panic!("{} is a struct", T::WGSL) };
        let [mut here, mut there] = [vec![], vec![]];
        T::numbers(0, T::WGSL, &mut here);
        in_wgsl(&module, &kind.inner, 0, T::WGSL, &mut there);
        let other = here.iter().zip(&there).find(|(here, there)| here != there);
        let is_as_long = (here.len(), size_of::<T>()) == (there.len(), span as usize);
        other
            .map(|pair| format!("{pair:?}"))
            .or((!is_as_long).then(|| format!("{} bytes, and {span} in WGSL", size_of::<T>())))
    }

    #[test]
    fn structs_are_the_same_in_rust_and_wgsl() {
        let source = Kernel::Chain { coherent: false, graph: None }.source(1);
        assert_eq!(difference::<RingUniform>(&source), None);
        assert_eq!(difference::<TableUniform>(&source), None);
        assert_eq!(difference::<TargetUniform>(&source), None);
        assert_eq!(difference::<TapUniform>(&source), None);
        assert_eq!(difference::<LayerUniform>(&source), None);
        assert_eq!(difference::<JobUniform>(&source), None);
        // Two fields of one type that change places; a field of another type; one too many.
        for (from, to) in [
            ("    channels: u32,\n    batch: u32,", "    batch: u32,\n    channels: u32,"),
            ("    reach: f32,", "    reach: u32,"),
            (
                "    unused_1: u32,\n}\n\n@group(0) @binding(2) var<uniform> job",
                "}\n@group(0) @binding(2) var<uniform> job",
            ),
        ] {
            assert!(source.contains(from), "{from}");
            assert!(difference::<JobUniform>(&source.replace(from, to)).is_some(), "{to}");
        }
    }
}
