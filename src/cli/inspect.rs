//! `pixelcnn inspect`: what a model file holds, and how its network runs.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::graph::IMAGE;
use crate::graph::network::{Layer, Network};
use crate::graph::schedule::When;
use crate::head::HeadKind;
use crate::model::{Architecture, Config, Model};
use crate::output::{figure, file};

use super::architecture::ArchitectureArgs;
use super::costs::Costs;
use super::preview::Preview;
use super::{Files, heading, images, inspected, picture};

/// Show a model's architecture, size and provenance, or how a picture was made
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct InspectArgs {
    /// Picture made by this program, to show how it was made
    #[arg(value_name = "IMAGE.png", conflicts_with_all = ["schedule", "plot", "batch"])]
    picture: Option<PathBuf>,

    #[command(flatten)]
    model: ArchitectureArgs,

    /// Draw the picture again and compare every pixel
    ///
    /// Use -m if the model file has moved or been renamed.
    #[arg(help_heading = heading::IMAGES)]
    #[arg(long, requires = "picture", conflicts_with = "json")]
    redraw: bool,

    /// Show the picture on the terminal
    ///
    /// It uses the graphics of kitty, iTerm2 or sixels, else half blocks.
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long, requires = "picture", conflicts_with = "json")]
    show: bool,

    /// Print the description as JSON
    ///
    /// docs/inspect.schema.json describes the format.
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long, conflicts_with_all = ["schedule", "plot"])]
    json: bool,

    /// List the layers, how often each runs, and its cache
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long, group = "drawn")]
    schedule: bool,

    /// Plot which values are computed at each step of a row (SVG, PNG or GIF)
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long, value_name = "FILE.svg|.png|.gif", requires = "drawn")]
    plot: Option<PathBuf>,

    /// Plot the example of Ramachandran et al. 2017 instead of the model
    ///
    /// It has two strided and two transposed convolutions. Needs --plot.
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long, requires = "plot", group = "drawn")]
    figure: bool,

    /// Device of --redraw [default: the one that drew the picture]
    #[arg(help_heading = heading::DEVICE)]
    #[arg(long, value_name = "DEVICE", requires = "redraw")]
    device: Option<String>,

    /// Batch size assumed for the memory of the caches
    #[arg(help_heading = heading::DEVICE)]
    #[arg(short, long, default_value_t = 1, value_parser = images)]
    batch: usize,
}

const EXAMPLES: &str = "\
Examples:
  pixelcnn inspect -m model.safetensors
  pixelcnn inspect samples.png --redraw
  pixelcnn inspect --architecture published --schedule --plot schedule.svg";

pub fn run(args: &InspectArgs) -> Result<ExitCode> {
    if let Some((path, preview)) = args.picture.as_ref().zip(Preview::wanted(args.show, false)) {
        picture::show(path, preview)?;
    }
    match &args.picture {
        Some(path) if args.redraw => {
            return picture::redraw(path, args.model.path(), args.device.as_deref());
        }
        Some(path) => picture::inspect(path, args.json)?,
        None => model(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn model(args: &InspectArgs) -> Result<()> {
    if let Some(path) = &args.plot {
        let mut files = Files::default();
        args.model.add_to(&mut files);
        files.writes("--plot", Some(path));
        files.check()?;
        check_plot(path)?;
        if args.figure {
            return figure::write(path, None).map(|replaced| super::say_replaced(&replaced));
        }
    }
    let model = args.model.load()?;
    let (width, height) = model.size();
    let network = model.network(width, height);
    if args.json {
        let described = inspected::model(&model, &network, args.batch);
        return super::print(&(serde_json::to_string_pretty(&described)? + "\n"));
    }
    let mut text = describe(&model);
    let caches: usize = network.nodes.iter().map(|node| bytes(node.len(args.batch))).sum();
    writeln!(text, "caches         {} at batch {}", size(caches), args.batch)?;
    text.push_str(&cost(&network));
    if args.schedule {
        writeln!(text, "\n{}\n{LEGEND}", super::table(&schedule(&network, args.batch)))?;
    }
    if let Some(path) = &args.plot {
        super::say_replaced(&figure::write(path, Some((&network, &model.name)))?);
    }
    super::print(&text)
}

fn check_plot(path: &Path) -> Result<()> {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    if !["svg", "png", "gif"].iter().any(|kind| extension == *kind) {
        bail!("cannot write {}: expected a file name that ends in .svg, .png or .gif", path.display());
    }
    Ok(file::prove_writable(path)?)
}

const LEGEND: &str = "\
level        the layer works at 1/2^level of the image's size
cache every  new inputs appear on rows and columns that are multiples of this
run every    it runs on rows and columns that are multiples of this
cache rows   rows that are kept of what it makes, for the layers that read it
memory       what they take at this batch size";

fn describe(model: &Model) -> String {
    // A file from elsewhere does not get to steer the terminal.
    let line = |(key, value): &(&str, String)| format!("{key:14} {value}").replace(char::is_control, " ");
    said(model).iter().map(|pair| line(pair) + "\n").collect()
}

/// Architecture, parameters, and what else the file says of itself.
fn said(model: &Model) -> Vec<(&str, String)> {
    let ((width, height), head, multiple) = (model.size(), model.head(), model.size_multiple());
    let colour = match head.channels() {
        1 => "grey".to_owned(),
        3 => "RGB".to_owned(),
        n => format!("of {n} channels"),
    };
    let depth = if head.levels() == 256 { String::new() } else { format!(", {} levels", head.levels()) };
    let classes = match model.classes() {
        [] => "none".to_owned(),
        names => format!("{}: {}", names.len(), names.join(", ")),
    };
    let count = model.parameter_count();
    let mut lines = vec![
        ("model", model.name.clone()),
        ("sha256", model.sha256.clone()),
        (
            "images",
            format!("{width}x{height} {colour}{depth} as trained; sides are multiples of {multiple}"),
        ),
    ];
    match &model.architecture {
        Architecture::PixelCnnPp(Config { filters, blocks, levels, dilations, nonlinearity, .. }) => lines
            .extend([
                ("filters", filters.to_string()),
                ("blocks", format!("{blocks} a level and pass, dilations {dilations:?}")),
                ("levels", levels.to_string()),
                ("nonlinearity", nonlinearity.name().to_owned()),
            ]),
        Architecture::Graph { graph, .. } => {
            let taps: usize = graph.layers.iter().map(|layer| layer.taps.len()).sum();
            lines.push(("network", format!("{} layers, {taps} taps", graph.layers.len())));
        }
    }
    let drawn = match head.kind() {
        HeadKind::LogisticMixture { mixtures } => {
            ("mixture", format!("{mixtures} logistics, {} numbers a pixel", head.parameters()))
        }
        HeadKind::Softmax | HeadKind::Bernoulli => {
            let steps = if head.steps() > 1 { ", one channel after another" } else { "" };
            ("head", format!("{}, {} numbers a pixel{steps}", head.name(), head.parameters()))
        }
    };
    lines.extend([
        drawn,
        ("classes", classes),
        ("parameters", format!("{count}, {} in memory", size(bytes(count)))),
    ]);
    // Metadata that is already printed above, in other words.
    const SAID: [&str; 5] = ["channels", "height", "width", "mixtures", "dilations"];
    for (key, value) in &model.metadata {
        if !SAID.contains(&key.as_str()) && lines.iter().all(|(said, _)| said != key) {
            lines.push((key, value.clone()));
        }
    }
    lines.retain(|(_, value)| !value.is_empty());
    lines
}

/// The cost of drawing; see docs/bench.md.
fn cost(network: &Network) -> String {
    let costs = Costs::of(network);
    let pixels = (network.width * network.height) as f64;
    let of_pixel = |total: u64| total as f64 / pixels;
    let dispatches = match (costs.gpu_dispatches_per_batch, costs.naive_gpu_dispatches_per_batch) {
        (Some(cached), Some(naive)) => format!(
            "dispatches     {:.1} a pixel of all images together, on a discrete GPU; naive {:.0}\n",
            of_pixel(cached),
            of_pixel(naive)
        ),
        _ => String::new(),
    };
    let products = |macs: f64| match macs {
        small if small < 1e9 => format!("{:.1} MMAC", small / 1e6),
        medium if medium < 1e12 => format!("{:.1} GMAC", medium / 1e9),
        large => format!("{:.1} TMAC", large / 1e12),
    };
    format!(
        "products       {} an image, {} a pixel; naive {} an image\n\
         weights read   {:.2} M a pixel, for all images of a batch together\n\
         values moved   {:.2} M a pixel, for each image\n\
         {dispatches}",
        products(costs.macs_per_image as f64),
        products(of_pixel(costs.macs_per_image)),
        products(costs.naive_macs_per_image as f64),
        of_pixel(costs.weights_read_per_batch) / 1e6,
        of_pixel(costs.values_moved_per_image) / 1e6,
    )
}

/// A row for the image and for every layer, and their sum.
fn schedule(network: &Network, batch: usize) -> Vec<[String; 8]> {
    let header = ["LAYER", "KIND", "MADE BY", "LEVEL", "CACHE EVERY", "RUN EVERY", "CACHE ROWS", "MEMORY"];
    let mut rows = vec![header.map(str::to_owned)];
    let memory = |node: usize| size(bytes(network.nodes[node].len(batch)));
    let image = &network.nodes[IMAGE];
    let row = ["image", "", "", "0", "1", "1", &image.rows.to_string(), &memory(IMAGE)];
    rows.push(row.map(str::to_owned));
    for layer in &network.layers {
        let cache_every = layer.taps.iter().map(|tap| network.nodes[tap.source].made_every).min();
        // Even and odd rows of a transposed convolution fill the same cache.
        let (cache_rows, memory) = match layer.row_parity {
            Some(1) => ("-".to_owned(), "-".to_owned()),
            _ => (network.nodes[layer.target].rows.to_string(), memory(layer.target)),
        };
        rows.push([
            layer.name.clone(),
            kind(layer),
            made_by(&network.nodes[layer.target].when),
            layer.level.to_string(),
            cache_every.unwrap_or(0).to_string(),
            layer.run_every.to_string(),
            cache_rows,
            memory,
        ]);
    }
    rows
}

fn kind(layer: &Layer) -> String {
    let parity = |parity| if parity == 1 { "odd" } else { "even" };
    let rows = layer.row_parity.map(|p| format!(", {} rows", parity(p))).unwrap_or_default();
    let columns = layer.column_parity.map(|p| format!(", {} columns", parity(p))).unwrap_or_default();
    format!("{}{rows}{columns}", layer.kind.name())
}

fn made_by(when: &When) -> String {
    match when {
        When::Row { lag: 0 } => "row".to_owned(),
        When::Row { lag } if *lag < 0 => format!("row, {} ahead", -lag),
        When::Row { lag } => format!("row, {lag} late"),
        When::Pixel { lag: 0, .. } => "pixel".to_owned(),
        When::Pixel { lag, .. } if *lag < 0 => format!("pixel, {} rows ahead", -lag),
        When::Pixel { lag, .. } => format!("pixel, {lag} rows late"),
    }
}

fn bytes(floats: usize) -> usize {
    floats * size_of::<f32>()
}

fn size(bytes: usize) -> String {
    match bytes as f64 {
        small if small < 1e6 => format!("{:.1} kB", small / 1e3),
        large => format!("{:.1} MB", large / 1e6),
    }
}
