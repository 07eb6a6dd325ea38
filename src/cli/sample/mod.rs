//! `pixelcnn sample`: draws images and writes them as a grid, or one by one.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::model::Model;
use crate::output::{Image, shades};

use super::drawing::{DrawArgs, Seed, ShowArgs, parse_seed};
use super::driver::{self, Batch, Driver, Work, parse_batch};
use super::recipe::{Recipe, Run, file_name, parse_size, size_text};
use super::target::{Target, Template};
use super::{EngineArgs, ModelArgs, counted, images, note};
use outputs::{Outputs, check_files};
use plan::Plan;
pub use range::Shard;
use range::parse_shard;
use scores::Scores;

mod outputs;
mod plan;
mod range;
mod scores;

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
    #[arg(long, value_name = "I/N", value_parser = parse_shard, allow_hyphen_values = true)]
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

    #[command(flatten)]
    draw: DrawArgs,

    #[command(flatten)]
    show: ShowArgs,

    /// File for all images, replaced if it exists: a PNG file, a grid, with rows of one class if there are enough
    /// images; .npz, what evaluators of generated images read: arr_0 [N, H, W, 3], with classes arr_1 [N]; .npy, [N, H,
    /// W, channels]; - for a PNG file to stdout
    #[arg(short, long, value_name = "OUT", default_value = "samples.png", conflicts_with = "each")]
    output: PathBuf,

    /// Folder for a PNG file an image; created if need be
    #[arg(long, value_name = "DIR")]
    each: Option<PathBuf>,

    /// Names of the files of --each: {index}, {class}, {class_index}, and {nth}, the how-manieth of its class from 1,
    /// numbers with a width if need be: {class}_image_{nth:02}.png
    #[arg(long, value_name = "TEMPLATE", default_value = DEFAULT_NAME.as_str(), value_parser = Template::parse)]
    name: Template,

    /// Keep images of --each that are there already; fail if an existing file does not match
    #[arg(long, requires = "each")]
    resume: bool,

    /// Replace files of --each that do not match, and draw into a folder that holds other images
    #[arg(long, requires = "each")]
    overwrite: bool,

    /// Also write a table of how likely the model finds each of its images, in bits per dimension; the files of
    /// the images say it too
    #[arg(long, value_name = "OUT.csv", conflicts_with = "resume")]
    scores: Option<PathBuf>,
}

static DEFAULT_NAME: LazyLock<Template> =
    LazyLock::new(|| Template::parse("{index:06}.png").expect("the default is valid"));

pub fn run(args: &Args) -> Result<()> {
    refuse_random_parts(args)?;
    let plan = plan(args, args.model.load()?)?;
    if args.each.is_none() && args.name != *DEFAULT_NAME {
        bail!("--name: names the files of --each (add --each DIR)");
    }
    let series = plan.series();
    let count = series.count();
    let is_array = args.output.extension().is_some_and(|e| e == "npz" || e == "npy");
    if count == 0 && (args.each.is_some() || !is_array) {
        let all = plan.whole.end - plan.whole.start;
        note(&format!("no images: there are {all} for all processes together"));
        return Ok(());
    }
    check_files(args, &plan)?;
    let mut outputs = Outputs::open(args, &plan)?;
    let mut todo = vec![plan.indices.clone()];
    if let Target::Each(folder) = &outputs.target {
        let item = |index| plan.item(index);
        if args.resume {
            folder.remove_abandoned();
            let found = folder.resume(plan.indices.clone(), &item, args.overwrite)?;
            note(&format!("{} of {} are there already{}", found.kept, counted(count), found.doubts()));
            todo = found.missing;
        } else if !args.overwrite {
            let own = [&args.show.animate, &args.scores].into_iter().flatten();
            let own: Vec<_> = own.map(PathBuf::as_path).collect();
            folder.refuse_others(&plan.whole, &item, &own, "--resume goes on with a run; ")?;
        }
        if todo.is_empty() {
            return Ok(());
        }
    }
    let mut left = images_in(&todo);
    // For as many as without --resume, so that batches and what is said of them are the same.
    let (mut driver, run) = start(&args.engine, args.batch, &plan, count)?;

    let begun = Instant::now();
    let mut done = count - left;
    let told: Vec<_> =
        driver.workers.iter().map(|worker| (plan.settings(&run, &[worker]), worker.batch)).collect();
    for round in 1.. {
        let bar = super::progress(images_in(&todo), images_in(&todo) * plan.width * plan.height);
        let work = Work {
            todo: &todo,
            request: &|indices| plan.request(indices),
            in_order: outputs.target.needs_order() || outputs.scores.is_some(),
            most_waiting: driver::most_waiting(series.bytes()),
            progress: &driver::moves(&bar),
        };
        let drawn = driver.drive(&work, &mut |drawn| {
            let (settings, batch) = &told[drawn.by];
            outputs.put(&plan, drawn, settings, *batch)?;
            done += 1;
            Ok(())
        });
        bar.finish_and_clear();
        if let Err(error) = drawn {
            return Err(outputs.target.explain(error, done, count));
        }
        // The table has its rows already.
        if round == MOST_ROUNDS || outputs.scores.is_some() {
            break;
        }
        todo = outputs.vanished(&plan)?;
        if todo.is_empty() {
            break;
        }
        let again = images_in(&todo);
        (done, left) = (count - again, left + again);
    }
    let mean = outputs.scores.as_ref().map(Scores::mean);
    let place = outputs.finish(args, &plan.about(&run, &driver.workers.iter().collect::<Vec<_>>()))?;
    let seconds = begun.elapsed().as_secs_f64();
    note(&format!(
        "{} ({}x{}, model {}) on {} in {seconds:.2} s, {:.1} images/s: {place}",
        counted(left),
        plan.width,
        plan.height,
        plan.model.name,
        driver.name(),
        left as f64 / seconds
    ));
    if let Some(mean) = mean {
        note(&format!("{mean:.4} bits/dim on average under the model itself"));
    }
    Ok(())
}

/// A seed that every process makes up for itself does not make one run of their images.
fn refuse_random_parts(args: &Args) -> Result<()> {
    let Seed::Random = args.seed else { return Ok(()) };
    ensure!(
        args.shard.is_none(),
        "-s random: with --shard, every share would have a seed of its own (give all processes the same number, such \
        as -s 4711)"
    );
    ensure!(
        !args.resume,
        "-s random: with --resume, what is there has another seed (give its number; `pixelcnn inspect` tells it from \
        an image)"
    );
    Ok(())
}

/// How often images are drawn that have vanished with their folder.
const MOST_ROUNDS: usize = 5;

fn images_in(ranges: &[Range<u64>]) -> usize {
    ranges.iter().map(|range| (range.end - range.start) as usize).sum()
}

/// What a picture says it is: one image of a run, by its index and the images that were drawn with it, or the grid.
pub enum Picture {
    Image(u64, usize),
    Grid,
}

/// Draws a picture again, and says on what.
pub fn draw_again(
    model: Model,
    recipe: Recipe,
    run: Run,
    picture: &Picture,
    device: Option<&str>,
) -> Result<(Image, String)> {
    let engine = EngineArgs::on(device.unwrap_or(&run.device));
    let batch = run.batch.map(Batch::Images);
    let run = match *picture {
        Picture::Image(first, count) => Run { first, count, shard: None, scale: 1, ..run },
        Picture::Grid => run,
    };
    let (shard, scale) = (run.shard, run.scale);
    let plan = Plan::new(model, recipe, Run { scores: None, ..run }, shard)?;
    let mut series = plan.series();
    let (first, count) = (plan.indices.start, series.count());
    if let Picture::Image(..) = picture {
        series.indices.end = first + 1;
    }
    let mut grid = series.grid().context("the grid would take more than 1 GiB")?;
    let (mut driver, _) = start(&engine, batch, &plan, count)?;
    let bar = super::progress(count, count * plan.width * plan.height);
    let all = [plan.indices.clone()];
    let work = Work {
        todo: &all,
        request: &|indices| plan.request(indices),
        in_order: false,
        most_waiting: count,
        progress: &driver::moves(&bar),
    };
    let drawn = driver.drive(&work, &mut |drawn| {
        if series.indices.contains(&drawn.index) {
            grid.place((drawn.index - first) as usize, &shades(&drawn.levels, series.levels));
        }
        Ok(())
    });
    bar.finish_and_clear();
    drawn?;
    Ok((grid.image().enlarged(scale), driver.name()))
}

/// What a command asks for.
fn plan(args: &Args, model: Model) -> Result<Plan> {
    let classes = args.class.as_ref().map(|list| super::parse_classes(list, &model)).transpose()?;
    let (width, height) = args.size.unwrap_or(model.size());
    let recipe = Recipe {
        size: Some(size_text(width, height)),
        ..Recipe::new(&model, args.seed.number(), args.draw.draw())
    };
    let name = |path: &Option<PathBuf>| path.as_deref().map(file_name);
    let each = args.each.is_some();
    let run = Run {
        model: name(&args.model.model),
        first: args.first,
        count: args.count,
        shard: args.shard.filter(|_| !each),
        classes,
        output: (!each).then(|| file_name(&args.output)),
        each: name(&args.each),
        name: (each && args.name != *DEFAULT_NAME).then(|| args.name.as_str().to_owned()),
        scores: name(&args.scores),
        animate: name(&args.show.animate),
        scale: args.show.scale,
        ..Run::default()
    };
    Plan::new(model, recipe, run, args.shard)
}

/// What a command of an older version drew, and its model: `-m` and `--device` may be others.
pub fn older(mut args: Args, model: Option<&Path>) -> Result<(Model, Recipe, Run)> {
    if let Some(model) = model {
        args.model.model = Some(model.to_owned());
    }
    let Plan { model, recipe, run, .. } = plan(&args, args.model.load()?)?;
    let batch = if let Some(Batch::Images(batch)) = args.batch { Some(batch) } else { None };
    Ok((model, recipe, Run { device: args.engine.device, batch, ..run }))
}

/// Engines on the devices that are asked for, ready to draw `count` images together; and the run, with what it comes to.
fn start(engine: &EngineArgs, batch: Option<Batch>, plan: &Plan, count: usize) -> Result<(Driver, Run)> {
    let (model, size) = (&plan.model, (plan.width, plan.height));
    let driver = match count {
        0 => Driver::default(),
        _ => driver::start(&mut engine.choose(model, count)?, model, size, count, batch, usize::MAX)?,
    };
    let (device, batch) = (driver.device.clone(), driver.batch());
    Ok((driver, Run { device, batch, ..plan.run.clone() }))
}
