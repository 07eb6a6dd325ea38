//! `pixelcnn bench`: how fast cached and naive sampling are, by batch size.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::engine::Method;
use crate::engine::cost;
use crate::engine::cpu::peak;
use crate::engine::devices::gpu::{self, Adapter};
use crate::graph::Network;
use crate::model::Model;
use crate::output::{self, chart};

use super::architecture::ArchitectureArgs;
use super::engine::tell;
use super::{EngineArgs, Files, Misuse, heading, images, say, whole};
use measure::{Effort, Sweep};
use report::BenchReport;

mod measure;
mod plot;
mod report;

/// Measure sampling speed, cached against naive
///
/// Both methods draw batches of the given sizes on one device, with the same kernels. cached is the method of
/// `pixelcnn sample`; naive runs the full network over the full image for every pixel. Runs alternate, and the table
/// shows medians. A long run is cut short: its first pixels are timed, the rest is extrapolated, and the results say
/// so.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct BenchArgs {
    #[command(flatten)]
    model: ArchitectureArgs,

    /// Methods to compare: cached, naive
    #[arg(help_heading = heading::DRAWING)]
    #[arg(long = "engine", value_name = "LIST", value_delimiter = ',', value_parser = parse_method)]
    #[arg(default_value = "cached,naive")]
    methods: Vec<Method>,

    /// Stop and extrapolate a run after about S seconds
    ///
    /// A naive run computes at least one pixel, a cached run at least two groups of 2^(resolutions-1) rows.
    #[arg(help_heading = heading::DRAWING)]
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = parse_seconds)]
    seconds: f64,

    /// Stop cached runs N rows after the first group, in whole groups
    #[arg(help_heading = heading::DRAWING)]
    #[arg(long, value_name = "N", value_parser = whole::<u16>(1..=u16::MAX.into()))]
    rows: Option<u16>,

    /// Run to the end, however long it takes
    #[arg(help_heading = heading::DRAWING)]
    #[arg(long, conflicts_with_all = ["rows", "seconds"])]
    full: bool,

    /// Runs of each method at each batch size
    #[arg(help_heading = heading::DRAWING)]
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = whole::<u16>(1..=1000))]
    repeat: u16,

    /// Write all measurements as JSON; - for stdout
    ///
    /// docs/bench.schema.json describes the format. With -, the table is not printed.
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long, value_name = "OUT.json")]
    json: Option<PathBuf>,

    /// Write the table as CSV; - for stdout
    ///
    /// With -, the table is not printed.
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long, value_name = "OUT.csv")]
    csv: Option<PathBuf>,

    /// Plot speed-up and images/s against batch size
    ///
    /// The speed-up published by Ramachandran et al. 2017 is shown for comparison.
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long, value_name = "OUT.png|OUT.svg")]
    plot: Option<PathBuf>,

    /// Also time each GPU kernel (needs GPU timestamps)
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long)]
    profile: bool,

    /// Batch sizes to measure
    #[arg(help_heading = heading::DEVICE)]
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', value_parser = images_of_list)]
    #[arg(default_value = "1,2,4,8,16,32,64,128,256")]
    batch_sizes: Vec<usize>,

    #[command(flatten)]
    engine: EngineArgs,
}

const EXAMPLES: &str = "\
Examples:
  pixelcnn bench -b 1,16,64                          the built-in model
  pixelcnn bench --architecture published --plot speedup.png
  pixelcnn bench --architecture 64x2 --engine cached --json bench.json";

fn parse_method(text: &str) -> Result<Method, String> {
    match text {
        "cached" => Ok(Method::Cached),
        "naive" => Ok(Method::Naive),
        _ => Err("expected cached, naive, or both with a comma".to_owned()),
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|s| (0.0..=1e6).contains(s));
    number.ok_or("expected a number of seconds, such as 2.5".to_owned())
}

/// An entry of a list of numbers of images.
fn images_of_list(text: &str) -> Result<usize, String> {
    images(text).map_err(|expected| format!("{expected}, or several with commas between them"))
}

pub fn run(args: &BenchArgs) -> Result<()> {
    check_outputs(args)?;
    let model = args.model.load()?;
    let largest = args.batch_sizes.iter().copied().max().unwrap_or(1);
    let mut devices = args.engine.choose_only(&model, largest)?;
    match devices.adapter() {
        None if args.profile => {
            bail!("--profile times the kernels of a GPU, and the CPU engine has none (leave --profile out)")
        }
        Some(adapter) if args.profile && !gpu::has_timestamps(adapter) => {
            bail!("--profile: {} has no timestamps (leave --profile out)", gpu::name(adapter))
        }
        _ => {}
    }
    let (width, height) = model.size();
    let network = model.network(width, height);
    let start = Instant::now();
    let mut engine = devices.start(&model, network.width, network.height, &mut tell)?;
    let adapter = devices.adapter();
    let build_seconds = start.elapsed().as_secs_f64();
    let peak_gflops = adapter.is_none().then(|| peak::gflops(args.engine.threads()));

    let mut batches = args.batch_sizes.clone();
    batches.sort_unstable();
    batches.dedup();
    let methods = [Method::Cached, Method::Naive].into_iter().filter(|m| args.methods.contains(m));
    let effort = match (args.full, args.rows) {
        (true, _) => Effort::Full,
        (false, Some(rows)) => Effort::Rows { rows: rows.into(), naive_seconds: args.seconds },
        (false, None) => Effort::Seconds(args.seconds),
    };
    let sweep = Sweep {
        network: &network,
        predictor: engine.predictor(),
        methods: methods.collect(),
        effort,
        repeats: args.repeat.into(),
    };
    let (rows, stopped) = sweep.run(&mut *engine, &batches)?;
    if let (Some(stopped), true) = (&stopped, rows.is_empty()) {
        bail!("nothing was measured: {}", stopped.reason);
    }
    if let Some(stopped) = &stopped {
        say(&format!("stopped at batch {}: {}", stopped.batch, stopped.reason));
    }
    let device = report::DeviceReport {
        name: engine.name(),
        kind: if adapter.is_some() { "gpu" } else { "cpu" },
        threads: adapter.is_none().then(|| args.engine.threads()),
        driver: adapter.map(gpu::driver),
        peak_gflops,
    };
    drop(engine);
    let mut report = BenchReport::new(&model, &sweep, rows, stopped, device, build_seconds);
    if let (Some(adapter), true) = (adapter, args.profile) {
        let sizes = report.results.iter().map(|row| row.batch).collect();
        report.profiles = profiles(adapter, &model, &network, sizes)?;
    }
    let text = match args {
        BenchArgs { json: Some(path), .. } if is_stdout(path) => report.json()?,
        BenchArgs { csv: Some(path), .. } if is_stdout(path) => report.csv()?,
        _ => report.text(),
    };
    let write = |path: &Option<PathBuf>, text: fn(&BenchReport) -> Result<String>| match path {
        Some(path) if !is_stdout(path) => Ok(report::write_text(path, &text(&report)?)?),
        _ => Ok(()),
    };
    super::all([
        super::print(&text),
        write(&args.json, BenchReport::json),
        write(&args.csv, BenchReport::csv),
        args.plot.as_ref().map_or(Ok(()), |path| super::write_chart(path, &report)),
    ])
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Everything that could keep results from being written, before there are any.
fn check_outputs(args: &BenchArgs) -> Result<()> {
    let mut files = Files::default();
    args.model.add_to(&mut files);
    for (flag, path) in [("--json", &args.json), ("--csv", &args.csv), ("--plot", &args.plot)] {
        files.writes(flag, path.as_deref());
    }
    files.check()?;
    let tables = [(&args.json, "json"), (&args.csv, "csv")];
    if tables.iter().all(|(path, _)| path.as_deref().is_some_and(is_stdout)) {
        bail!(Misuse(
            "--json - and --csv -: stdout takes one of them (name a file for the other)".to_owned()
        ));
    }
    for (path, extension) in tables {
        path.as_ref()
            .filter(|path| !is_stdout(path))
            .map_or(Ok(()), |path| output::check(path, extension))?;
    }
    if let Some(path) = &args.plot {
        chart::check(path)?;
    }
    Ok(())
}

/// A profile of each batch size, over the rows after which the pattern of work repeats.
fn profiles(
    adapter: &Adapter,
    model: &Model,
    network: &Network,
    mut batches: Vec<usize>,
) -> Result<Vec<report::Profile>> {
    batches.sort_unstable();
    batches.dedup();
    let rows = cost::group_of_rows(network);
    let shape = model.shape(network.width, network.height);
    let requests =
        batches.iter().map(|&batch| measure::request(shape, batch)).collect::<Result<Vec<_>, _>>()?;
    let totals = gpu::profile(model, adapter, &requests, rows)?;
    let pixels = rows * network.width;
    let of_batch = batches.into_iter().zip(totals);
    Ok(of_batch.map(|(batch, totals)| report::Profile::new(batch, pixels, &totals)).collect())
}
