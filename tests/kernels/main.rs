//! Kernels without a GPU. `shaders.rs`: they are valid. Here: their statistics from a GPU's own compiler, Mesa's driver for AMD
//! cards, which compiles without a card. `docs/gpu.md` has the table; a kernel that grows fails the test.
//!
//!     cargo test --release --test kernels -- --nocapture
//!
//! `KERNEL_STATS=1` prints all statistics of each kernel, and the time of its compilation. `scripts/count_kernels` counts the
//! kernels of any model at any batch size.

mod driver;
mod inner_loop;
mod shaders;
#[path = "../common/spirv.rs"]
mod spirv;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use driver::{Driver, Statistics};
use inner_loop::{InnerLoop, inner_loop};
use pixelcnn::internals::engine::gpu::dispatch::{DeviceFacts, Dispatch, Operation};
use pixelcnn::internals::engine::gpu::plan::Plan;
use pixelcnn::internals::engine::gpu::shaders::{Epilogue, Shape};
use pixelcnn::internals::engine::gpu::speed::Speed;
use pixelcnn::internals::graph::{Network, pixelcnn_pp};
use pixelcnn::internals::model::{Config, Model};

/// The target card, and the driver's version behind the table: other versions count differently.
const CARD: &str = "navi21";
const DRIVER: &str = "Mesa 22.3";

/// Columns of the table, by the driver's names.
const COLUMNS: [&str; 6] =
    ["Instructions", "VGPRs", "Scratch size", "LDS size", "Latency", "Inverse Throughput"];
/// The last column: cycles of a wave for each multiply-add of the inner loop, in hundredths; 0 without such a loop.
const OF_LOOP: &str = "cycles a product × 100";

/// The kernels of the model and the batch that `KERNELS_OF` and `KERNELS_AT` name, by name and workgroups.
fn kernels_asked_for() -> Option<BTreeMap<String, Asked>> {
    let of = std::env::var("KERNELS_OF").ok()?;
    let batch =
        std::env::var("KERNELS_AT").map_or(1, |batch| batch.parse().expect("KERNELS_AT is a number"));
    let of_size = |size: &str| size.split_once('x').map(|(f, b)| (f.parse().ok(), b.parse().ok()));
    let network = if Path::new(&of).is_file() {
        let model = Model::load(Path::new(&of)).unwrap();
        let (width, height) = model.size();
        model.network(width, height)
    } else {
        let Some((Some(filters), Some(blocks))) = of_size(&of) else {
            panic!("KERNELS_OF is a model file or an architecture, filters x blocks, 160x5: found {of}")
        };
        Network::new(&pixelcnn_pp::graph(&Config::published(filters, blocks)), None)
    };
    let network = network.with_sums_apart();
    let plan = Plan::new(&network, batch, DeviceFacts { buffer: 1 << 34, ..DeviceFacts::SMALLEST });
    let mut asked = BTreeMap::<String, Asked>::new();
    for row in 0..network.height {
        let pixels = (0..network.width).flat_map(|column| plan.pixel(row, column));
        for (id, ..) in plan.row(row).chain(pixels).chain(plan.end_of_row(row)) {
            let dispatch = &plan[id];
            let workgroups: u32 = dispatch.workgroups.iter().product();
            if let Some(name) = name(&network, dispatch) {
                let name = format!("{name}, {workgroups} workgroups");
                asked
                    .entry(name)
                    .or_insert_with(|| Asked { dispatch: dispatch.clone(), times: 0 })
                    .times += 1;
            }
        }
    }
    Some(asked)
}

/// A kernel of the model that was asked for.
struct Asked {
    dispatch: Dispatch,
    /// Dispatches of a batch.
    times: usize,
}

/// The name of a dispatch's kernel; none for one that copies pixels.
fn name(network: &Network, dispatch: &Dispatch) -> Option<String> {
    Some(match dispatch.operation {
        Operation::Conv { layer, whole_row, shape, epilogue, .. } => {
            let [quads, positions] = shape.tile();
            let shape = match shape {
                Shape::Split { .. } => format!("split {quads}x{positions}"),
                Shape::Tiled { .. } => format!("tiled {quads}x{positions}"),
            };
            let what = match epilogue {
                Epilogue::Context => "context",
                Epilogue::Forms { .. } => "layer",
                Epilogue::Gate { .. } => "gate",
            };
            let place = if whole_row { "row" } else { "pixel" };
            let halves = if network.layers[layer].halves == 2 { ", two halves" } else { "" };
            format!("{shape}, {what}, {place}{halves}")
        }
        Operation::Sample => "sample".to_owned(),
        Operation::Draw { .. } => "draw".to_owned(),
        Operation::Likelihood => "likelihood".to_owned(),
        Operation::Chain { team } => format!("chain, images {}", team.images),
        Operation::ShowRow => return None,
    })
}

/// The kernels that matter most, by name: those of the published network's pixels and rows, and a small one's chain; and those
/// of a graph that is no PixelCNN++.
fn kernels() -> BTreeMap<String, Dispatch> {
    let mut kernels = BTreeMap::new();
    for (config, batches) in
        [(Config::published(160, 5), &[1, 64, 256, 1024][..]), (Config::published(32, 2), &[1, 256, 1024])]
    {
        let network = Network::new(&pixelcnn_pp::graph(&config), None);
        add_kernels("", &network, None, batches, &mut kernels);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphs");
    for name in ["gated_mnist_real", "gated_rgb_real"] {
        let model = Model::load(&folder.join(name).join("model.safetensors")).unwrap();
        let (width, height) = model.size();
        let network = model.network(width, height).with_sums_apart();
        for chain in [None, Some(false)] {
            add_kernels("graph, ", &network, chain, &[1, 64, 1024], &mut kernels);
        }
    }
    kernels
}

/// Adds the kernels of a network at some batches, by names that begin alike.
fn add_kernels(
    family: &str,
    network: &Network,
    chain: Option<bool>,
    batches: &[usize],
    kernels: &mut BTreeMap<String, Dispatch>,
) {
    let target = DeviceFacts { buffer: 1 << 34, chain, ..DeviceFacts::SMALLEST };
    for &batch in batches {
        let plan = Plan::new(network, batch, target);
        let has_chain = plan.has_chain();
        for (_, dispatch) in plan.all() {
            let is_conv = matches!(dispatch.operation, Operation::Conv { .. });
            let Some(name) = name(network, dispatch).filter(|_| !(is_conv && has_chain)) else { continue };
            kernels.entry(format!("{family}{name}")).or_insert_with(|| dispatch.clone());
        }
    }
}

fn numbers(statistics: &Statistics, inner_loop: Option<InnerLoop>) -> Vec<u64> {
    let hundredths = inner_loop.map_or(0, |inner| (100.0 * inner.cycles_a_product()).round() as u64);
    let of_driver = COLUMNS.iter().map(|column| statistics.get(*column).copied().unwrap_or(0));
    of_driver.chain([hundredths]).collect()
}

/// First line of the table.
fn heading() -> String {
    format!("| kernel | {} | {} |", COLUMNS.join(" | "), OF_LOOP).to_lowercase()
}

/// The table in `docs/gpu.md`: by kernel, its numbers.
fn recorded() -> BTreeMap<String, Vec<u64>> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gpu.md"));
    let page = page.unwrap();
    let heading = heading();
    let rows =
        page.lines().skip_while(|line| *line != heading).skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let name = cells.next().unwrap().to_owned();
        (name, cells.map(|cell| cell.parse().unwrap()).collect())
    };
    rows.map(row).collect()
}

/// Kernels that have grown by a tenth, or use scratch memory, or are not in the table.
fn grown(recorded: &BTreeMap<String, Vec<u64>>, counted: &BTreeMap<String, Vec<u64>>) -> Vec<String> {
    let has_grown = |(name, now): &(&String, &Vec<u64>)| {
        // Instructions, cycles, and those of the inner loop.
        recorded.get(*name).is_none_or(|then| [0, 5, 6].iter().any(|&i| now[i] * 10 > then[i] * 11))
            || now[2] > 0
    };
    counted.iter().filter(has_grown).map(|(name, _)| name.clone()).collect()
}

#[test]
fn growth_is_noticed() {
    let recorded = recorded();
    assert!(recorded.len() > 10, "the table is missing");
    assert_eq!(grown(&recorded, &recorded), [""; 0]);
    for (column, by) in [(0, 11), (5, 11), (6, 11)] {
        let mut more = recorded.clone();
        let name = recorded.keys().next().unwrap().clone();
        let number = &mut more.get_mut(&name).unwrap()[column];
        *number = *number * by / 10 + 1;
        assert_eq!(grown(&recorded, &more), [name]);
    }
    let mut spilled = recorded.clone();
    spilled.values_mut().next().unwrap()[2] = 16;
    assert_eq!(grown(&recorded, &spilled).len(), 1);
}

/// Compiles in a separate process, in which Vulkan finds only that driver.
#[test]
fn kernels_have_not_grown() {
    let driver = ["/usr/share", "/etc", "/usr/local/share"].into_iter().find_map(|folder| {
        let entries = std::fs::read_dir(format!("{folder}/vulkan/icd.d")).ok()?;
        let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        files.find(|file| {
            file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("radeon_icd"))
        })
    });
    let Some(driver) = driver else {
        println!("SKIPPED: Mesa's driver for AMD cards is not installed: kernels are not counted");
        return;
    };
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["count_kernels", "--exact", "--ignored", "--nocapture"])
        .env("VK_DRIVER_FILES", &driver)
        .env("VK_ICD_FILENAMES", &driver)
        .env("RADV_FORCE_FAMILY", CARD)
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let table: Vec<_> = printed.lines().filter(|line| line.starts_with('|')).collect();
    println!("{}", table.join("\n"));
    if std::env::var_os("KERNEL_STATS").is_some() {
        println!("{printed}");
    }
    if !printed.contains(DRIVER) {
        println!("SKIPPED: another driver than {DRIVER}: kernels are counted, not compared");
        return;
    }
    let counted = table.iter().map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        (cells.next().unwrap().to_owned(), cells.map(|cell| cell.parse().unwrap()).collect())
    });
    let counted = counted.collect();
    assert_eq!(grown(&recorded(), &counted), [""; 0], "\n{}", table.join("\n"));
}

#[test]
#[ignore = "a part of kernels_have_not_grown"]
fn count_kernels() {
    let Some(driver) = Driver::open() else {
        println!("no driver");
        return;
    };
    println!("{}", driver.name);
    let print = |name: &str, dispatch: &Dispatch, more: &str| {
        let start = Instant::now();
        let (statistics, code) = driver.compile(&dispatch.variant);
        let inner_loop = inner_loop(&code, dispatch.variant.turns_of_chunk());
        if std::env::var_os("KERNEL_STATS").is_some() {
            println!("{name}: {:.0} ms, {statistics:?}", 1e3 * start.elapsed().as_secs_f64());
        }
        let numbers = numbers(&statistics, inner_loop);
        let cells: Vec<_> = numbers.iter().map(u64::to_string).collect();
        println!("| {name} | {} |{more}", cells.join(" | "));
    };
    match kernels_asked_for() {
        Some(asked) => {
            println!("{} times |", heading().trim_end());
            asked.iter().for_each(|(name, asked)| {
                print(name, &asked.dispatch, &format!(" {} |", asked.times));
            });
        }
        None => kernels().iter().for_each(|(name, dispatch)| print(name, dispatch, "")),
    }
}

/// The kernels that are counted are those that devices are given.
#[test]
fn kernels_of_every_kind_are_counted() {
    let names: Vec<_> = kernels().into_keys().collect();
    for kind in ["split", "tiled", "gate, pixel", "context, row", "sample", "likelihood", "chain"] {
        assert!(names.iter().any(|name| name.contains(kind)), "{kind} in {names:?}");
    }
    assert_eq!(DeviceFacts::SMALLEST.speed, Speed::DISCRETE);
}
