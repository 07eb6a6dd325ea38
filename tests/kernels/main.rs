//! What a GPU's own compiler makes of the kernels: counted where Mesa's driver for AMD cards is installed, which
//! compiles without a card. `docs/performance.md` has the table, and a kernel that grows is noticed.

mod driver;

use std::collections::BTreeMap;

use driver::{Driver, Statistics};
use pixelcnn::engine::gpu::plan::{Plan, Target};
use pixelcnn::model::{Config, Network};

/// What the table shows of a kernel: names of the driver.
const COLUMNS: [&str; 7] = [
    "Instructions",
    "VGPRs",
    "Scratch size",
    "LDS size",
    "Subgroups per SIMD",
    "Latency",
    "Inverse Throughput",
];

/// All kernels of a network at some batches, by their constants.
fn kernels() -> BTreeMap<String, Statistics> {
    let driver = Driver::open().expect("a driver");
    println!("driver: {}", driver.name);
    let mut kernels = BTreeMap::new();
    for (config, batches) in
        [(Config::published(160, 5), &[1, 64, 256, 1024][..]), (Config::published(32, 2), &[1, 256, 1024])]
    {
        let network = Network::new(&config);
        for &batch in batches {
            let plan = Plan::new(&network, batch, Target { buffer: 1 << 34, ..Target::SMALLEST });
            for (_, dispatch) in plan.all() {
                let name = format!("{:?}", dispatch.variant);
                kernels.entry(name).or_insert_with(|| driver.compile(&dispatch.variant));
            }
        }
    }
    kernels
}

#[test]
#[ignore = "prints"]
fn counts() {
    for (name, statistics) in kernels() {
        let row: Vec<_> = COLUMNS
            .iter()
            .map(|column| statistics.get(*column).copied().unwrap_or(0).to_string())
            .collect();
        println!("| {} | {name} |", row.join(" | "));
    }
}
