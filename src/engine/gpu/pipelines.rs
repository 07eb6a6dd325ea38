//! Compiled kernels of a device: several compiled at a time, and kept from one run to the next where the interface can.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::layout;
use super::pipeline_cache::PipelineCache;
use super::shaders::{Kernel, Variant};

/// Layouts of the bindings and of the pipelines that have them.
type Layouts = (wgpu::BindGroupLayout, wgpu::PipelineLayout);

/// Kernels of a device.
pub struct Pipelines {
    /// True if shaders check their indices.
    checked: bool,
    /// By number of arenas, and of tables after them.
    layouts: HashMap<(u32, u32), Layouts>,
    compiled: HashMap<Variant, wgpu::ComputePipeline>,
    cache: Option<PipelineCache>,
}

/// A part of the keys of layouts.
fn layout_of(variant: &Variant) -> (u32, u32) {
    (variant.arenas, variant.kernel.table_count())
}

impl Pipelines {
    /// No kernel yet; those to come may be in a cache.
    pub fn new(checked: bool, cache: Option<PipelineCache>) -> Self {
        Self { checked, layouts: HashMap::new(), compiled: HashMap::new(), cache }
    }

    /// Compiles those of some variants that have not been, as many at a time as the machine has threads. The device
    /// remembers what goes wrong.
    pub fn compile<'v>(&mut self, device: &wgpu::Device, variants: impl Iterator<Item = &'v Variant>) {
        let missing: HashSet<_> = variants.filter(|variant| !self.compiled.contains_key(variant)).collect();
        if missing.is_empty() {
            return;
        }
        for variant in &missing {
            let key @ (arenas, tables) = layout_of(variant);
            self.layouts.entry(key).or_insert_with(|| {
                let bindings = layout::layout(device, arenas as usize, tables as usize);
                let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label: Some("pixelcnn"),
                    bind_group_layouts: &[Some(&bindings)],
                    immediate_size: 0,
                });
                (bindings, layout)
            });
        }
        // A module is made by whichever thread needs it first; the others wait for it.
        let of_module = |variant: &&Variant| ((variant.kernel, variant.arenas), OnceLock::new());
        let modules: HashMap<_, OnceLock<wgpu::ShaderModule>> = missing.iter().map(of_module).collect();
        let missing: Vec<_> = missing.into_iter().collect();
        let compile = |variant: &Variant| {
            let (kernel, arenas) = (variant.kernel, variant.arenas);
            let module =
                modules[&(kernel, arenas)].get_or_init(|| module(device, kernel, arenas, self.checked));
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&format!("pixelcnn {variant:?}")),
                layout: Some(&self.layouts[&layout_of(variant)].1),
                module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &variant.overrides(),
                    // The kernels write all workgroup memory before they read it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.cache.as_ref().map(PipelineCache::handle),
            })
        };
        let next = AtomicUsize::new(0);
        let work = || {
            let mut made = Vec::new();
            while let Some(&variant) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                made.push((variant.clone(), compile(variant)));
            }
            made
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        let made = thread::scope(|scope| {
            // If no more threads can be started, this one does the rest.
            let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).filter_map(start).collect();
            let mut made = work();
            for other in others {
                made.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            made
        });
        self.compiled.extend(made);
        if let Some(cache) = &mut self.cache {
            cache.keep();
        }
    }

    /// The layout of the bindings of a variant that has been compiled, and its pipeline.
    pub fn get(&self, variant: &Variant) -> (&wgpu::BindGroupLayout, &wgpu::ComputePipeline) {
        (&self.layouts[&layout_of(variant)].0, &self.compiled[variant])
    }
}

/// The code of a kernel.
fn module(device: &wgpu::Device, kernel: Kernel, arenas: u32, checked: bool) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(&format!("pixelcnn {kernel:?}")),
        source: wgpu::ShaderSource::Wgsl(kernel.source(arenas).into()),
    };
    if checked {
        return device.create_shader_module(descriptor);
    }
    // SAFETY: every index follows from the network's shapes, which the host has checked when it made buffers and
    // uniforms, and every loop ends; tests run the same work with checks.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}
