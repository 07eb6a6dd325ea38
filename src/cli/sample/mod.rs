//! `pixelcnn sample`: draws images and writes them as a grid, or one by one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use pixelcnn::engine::{Draw, EngineError, Room};

use super::target::{Folder, Target, Template};
use super::{EngineArgs, ModelArgs, counted, images, note};
use plan::Plan;
use pool::{Work, Worker};
use range::{Shard, parse_shard};

mod plan;
mod pool;
mod range;
mod trial;

/// Draw images from a model
///
/// The images become one PNG file, a grid, or an array of NumPy, or with --each a file each. Every PNG file says
/// in its text chunks how it was made, and every .npz file in an array. An image depends on the model, the seed and its index alone: more images, or other
/// batches, leave the first ones as they are (on a GPU, where rounding may differ, for the same --batch).
#[derive(clap::Args)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Number of images
    #[arg(short = 'n', long, default_value_t = 64, value_parser = images)]
    count: usize,

    /// Index of the first image
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,

    /// Draw one share of the images, that of process I (from 0) of N
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    shard: Option<Shard>,

    /// Images drawn at once, or auto: what a short trial finds fastest [default: all, up to what fits and
    /// helps]
    #[arg(short, long, value_name = "N|auto", value_parser = parse_batch)]
    batch: Option<Batch>,

    /// Seed of the noise: a whole number, or random
    #[arg(short, long, default_value = "0", value_parser = parse_seed)]
    seed: Seed,

    /// Class by name or index; a comma list is cycled over the images [default: all classes]
    #[arg(long, value_name = "LIST")]
    class: Option<String>,

    /// Size of an image in pixels [default: the size the model was trained on]
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = parse_size)]
    size: Option<(usize, usize)>,

    #[command(flatten)]
    engine: EngineArgs,

    /// Let the network see unrounded pixel values, as the published samplers do
    #[arg(long)]
    continuous: bool,

    /// File for all images, replaced if it exists: a PNG file, a grid; .npz, what evaluators of generated images
    /// read: arr_0 [N, H, W, 3], with classes arr_1 [N]; .npy, [N, H, W, channels]; - for a PNG file to stdout
    #[arg(short, long, value_name = "OUT", default_value = "samples.png", conflicts_with = "each")]
    output: PathBuf,

    /// Folder for a PNG file an image; created if need be
    #[arg(long, value_name = "DIR")]
    each: Option<PathBuf>,

    /// Names of the files of --each: {index}, {class}, {class_index}, and {nth}, the how-manieth of its class from 1,
    /// numbers with a width if need be: {class}_image_{nth:02}.png
    #[arg(long, value_name = "TEMPLATE", default_value = DEFAULT_NAME.as_str(), value_parser = Template::parse)]
    name: Template,

    /// Keep images of --each that are there already; files that are not what would be drawn are an error
    #[arg(long, requires = "each")]
    resume: bool,

    /// With --resume: draw what takes the place of files that are not what would be drawn
    #[arg(long, requires = "resume")]
    overwrite: bool,
}

static DEFAULT_NAME: LazyLock<Template> =
    LazyLock::new(|| Template::parse("{index:06}.png").expect("the default is valid"));

#[derive(Clone, Copy)]
enum Batch {
    Auto,
    Images(usize),
}

fn parse_batch(text: &str) -> Result<Batch, String> {
    match text {
        "auto" => Ok(Batch::Auto),
        _ => images(text).map(Batch::Images).map_err(|expected| format!("{expected}, or auto")),
    }
}

#[derive(Clone, Copy)]
enum Seed {
    Random,
    Number(u64),
}

fn parse_seed(text: &str) -> Result<Seed, String> {
    match text {
        // Other programs call it -1.
        "random" | "-1" => Ok(Seed::Random),
        _ => {
            let number = text.parse().map(Seed::Number);
            let expected = || format!("expected `random`, or a whole number from 0 to {}", u64::MAX);
            number.map_err(|_| expected())
        }
    }
}

fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let parse = |(width, height): (&str, &str)| Some((width.parse().ok()?, height.parse().ok()?));
    text.split_once(['x', 'X'])
        .and_then(parse)
        .ok_or("expected width and height in pixels, such as 32x32".into())
}

pub fn run(args: &Args) -> Result<()> {
    let mut plan = plan(args)?;
    let (whole, indices) = (plan.whole.clone(), plan.indices.clone());
    if args.each.is_none() && args.name != *DEFAULT_NAME {
        bail!("--name: names the files of --each (add --each DIR)");
    }
    let count = (indices.end - indices.start) as usize;
    let is_array = args.output.extension().is_some_and(|e| e == "npz" || e == "npy");
    if count == 0 && (args.each.is_some() || !is_array) {
        note(&format!("no images: there are {} for all processes together", whole.end - whole.start));
        return Ok(());
    }
    let mut target = match &args.each {
        None => Target::file(&args.output, &plan.series())?,
        Some(path) => {
            let item = |index| plan.item(index);
            Target::Each(Folder::open(path, &args.name, &plan.series(), whole, &item)?)
        }
    };
    let mut todo = vec![indices.clone()];
    if let (true, Target::Each(folder)) = (args.resume, &target) {
        let found = folder.resume(indices, &|index| plan.item(index), &plan.settings(&[]), args.overwrite)?;
        note(&format!("{} of {} are there already{}", found.kept, counted(count), found.doubts()));
        todo = found.missing;
        if todo.is_empty() {
            return Ok(());
        }
    }
    let left: usize = todo.iter().map(|range| (range.end - range.start) as usize).sum();

    let mut workers = match count {
        0 => Vec::new(),
        // As many as without --resume, so that files are the same.
        _ => workers(args, &mut plan, count)?,
    };
    let start = Instant::now();
    let mut done = count - left;
    let bar = super::progress(left, plan.width * plan.height);
    let settings: Vec<_> = workers.iter().map(|worker| plan.settings(&[worker])).collect();
    let image = plan.width * plan.height * plan.model.config.channels;
    let work = Work {
        todo: &todo,
        job: &|indices| plan.job(indices),
        in_order: target.needs_order(),
        most_waiting: (MOST_WAITING / image).max(1),
    };
    let drawn = pool::draw(&mut workers, &work, &bar, &mut |(index, levels, by)| {
        target.put(&plan.item(index), levels, &settings[by])?;
        done += 1;
        Ok(())
    });
    bar.finish_and_clear();
    if let Err(error) = drawn {
        return Err(target.explain(error, done, count));
    }
    if let (true, Target::Each(folder)) = (args.resume, &target) {
        folder.remove_abandoned();
    }
    let workers: Vec<_> = workers.iter().collect();
    let place = target.finish(&plan.about(&workers))?;
    let seconds = start.elapsed().as_secs_f64();
    let Plan { model, width, height, .. } = &plan;
    let engines = workers.iter().map(|worker| worker.name.as_str()).collect::<Vec<_>>().join(" + ");
    note(&format!(
        "{} ({width}x{height}, model {}) on {engines} in {seconds:.2} s, {:.1} images/s: {place}",
        counted(left),
        model.name,
        left as f64 / seconds
    ));
    Ok(())
}

/// Bytes of images that may wait for an earlier one to be written.
const MOST_WAITING: usize = 64 << 20;

/// What is to be drawn, as far as no engine has to be known for it.
fn plan(args: &Args) -> Result<Plan> {
    let model = args.model.load()?;
    let (width, height) = args.size.unwrap_or((model.config.width, model.config.height));
    if let Some(problem) = super::size_problem(width, height, &model) {
        bail!("--size: {problem}");
    }
    let classes = match &args.class {
        Some(list) => super::parse_classes(list, &model)?,
        None => (0..model.config.classes.len()).collect(),
    };
    let whole = range::indices(args.first, args.count).with_context(|| {
        format!("--first {}: {} more would pass the last index, {}", args.first, args.count, u64::MAX - 1)
    })?;
    let seed = match args.seed {
        Seed::Number(seed) => seed,
        Seed::Random => {
            // The standard library's hash maps have random keys: all the randomness that is needed here.
            let seed = RandomState::new().build_hasher().finish();
            note(&format!("seed: {seed}"));
            seed
        }
    };
    Ok(Plan {
        model,
        width,
        height,
        indices: args.shard.map_or(whole.clone(), |shard| shard.of(&whole)),
        whole,
        seed,
        classes,
        draw: Draw { continuous: args.continuous, ..Draw::default() },
        command: String::new(),
    })
}

/// Engines on the devices that are asked for, ready to draw `count` images together; the command goes into the plan.
fn workers(args: &Args, plan: &mut Plan, count: usize) -> Result<Vec<Worker>> {
    let Plan { model, width, height, .. } = &*plan;
    let mut devices = args.engine.choose_all(model, count)?;
    let share = count.div_ceil(devices.len());
    let several = devices.len() > 1;
    let mut workers: Vec<Worker> = Vec::new();
    let mut arguments = Vec::new();
    for devices in &mut devices {
        let mut start = || {
            let mut engine = devices.start(model, *width, *height)?;
            let batch = match args.batch {
                Some(Batch::Images(batch)) => match engine.prepare(Room::For(batch)) {
                    Err(EngineError::BatchTooLarge { .. }) if batch > share => {
                        note(&format!("batch: {share} (all images; {batch} would not fit)"));
                        share
                    }
                    _ => batch,
                },
                Some(Batch::Auto) => trial::fastest_batch(&mut *engine, share, model, *width)?,
                None => super::even(share, engine.prepare(Room::UpTo(share))?),
            };
            engine.prepare(Room::For(batch))?;
            Ok::<_, anyhow::Error>(Worker { name: engine.name(), engine, batch })
        };
        match start() {
            Ok(worker) => {
                arguments.push(devices.argument());
                workers.push(worker);
            }
            Err(error) if several => {
                let device = devices.argument();
                super::say(&format!("warning: {device} is left out: {}", super::one_line(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    let Some(first) = workers.first() else { bail!("none of the devices can be used") };
    let batch = workers.iter().all(|worker| worker.batch == first.batch).then_some(first.batch);
    plan.command = plan.command_line(args, &arguments.join(","), batch);
    Ok(workers)
}
