//! `pixelcnn sample`: draws images and writes them as a grid, or one by one.

use std::path::{Path, PathBuf};
use std::slice;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::head;
use crate::model::Model;
use crate::output::Image;

use super::drawing::{Captions, DrawArgs, Seed, ShowArgs};
use super::driver::{self, Batch, BatchArgs, Driver};
use super::recipe::{Recipe, Run, file_name, parse_size, size_text};
use super::sink::{Items, OutputArgs, Outputs, Sheet, Template, images_of};
use super::{EngineArgs, Files, ModelArgs, counted, heading, images, note, shell, whole};
pub use range::Shard;
use range::parse_shard;
use samples::SamplePlan;
use scores::Scores;

mod range;
mod samples;
mod scores;

/// Sample images from a model
///
/// The output is a PNG grid, a NumPy array, or with --each one PNG file per image. PNG files record in text chunks
/// how they were made; .npz files do so in an array. An image depends only on the model, the settings, the seed and
/// its index. More images or another --batch do not change it, except for rounding on a GPU.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct SampleArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Number of images
    #[arg(help_heading = heading::IMAGES)]
    #[arg(short = 'n', long, alias = "num", default_value_t = 64, value_parser = images)]
    count: usize,

    /// Index of the first image
    #[arg(help_heading = heading::IMAGES)]
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole::<u64>(0..=u64::MAX - 1))]
    first: u64,

    /// Draw only shard I of N, counted from 0
    #[arg(help_heading = heading::IMAGES)]
    #[arg(long, value_name = "I/N", value_parser = parse_shard, allow_hyphen_values = true)]
    shard: Option<Shard>,

    /// Classes to draw, by name or index, in turn [default: all]
    #[arg(help_heading = heading::IMAGES)]
    #[arg(long, value_name = "LIST", add = shell::class())]
    class: Option<String>,

    /// Size of an image in pixels [default: the size in training]
    #[arg(help_heading = heading::IMAGES)]
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = parse_size)]
    size: Option<(usize, usize)>,

    #[command(flatten)]
    draw: DrawArgs,

    #[command(flatten)]
    output: OutputArgs,

    /// Also write a table of bits per dimension, one row per image
    ///
    /// The likelihood is that under the model itself. Image files record it too.
    #[arg(help_heading = heading::OUTPUT)]
    #[arg(long, value_name = "OUT.csv", conflicts_with = "resume")]
    scores: Option<PathBuf>,

    #[command(flatten)]
    show: ShowArgs,

    #[command(flatten)]
    batch: BatchArgs,

    #[command(flatten)]
    engine: EngineArgs,
}

const EXAMPLES: &str = "\
Examples:
  pixelcnn sample -m mnist -n 10 --class 7          ten sevens, as samples.png
  pixelcnn sample -m model.safetensors -n 50000 -o samples.npz
  pixelcnn sample -n 1000 --each pictures --name {class}_{nth:03}.png";

/// The file of all images where none is named, and the names of files for each.
const DEFAULTS: [&str; 2] = ["samples.png", "{index:06}.png"];

pub fn run(args: &SampleArgs) -> Result<()> {
    refuse_random_parts(args)?;
    let mut plan = plan(args, args.model.load()?)?;
    let series = plan.series();
    let frame = args.output.frame(&args.show, &series)?;
    plan.run.scale = frame.scale();
    let count = series.count();
    if count == 0 && !args.output.is_array() {
        let all = plan.whole.end - plan.whole.start;
        note(&format!("no images: there are {all} for all processes together"));
        return Ok(());
    }
    let item = |index| plan.item(index);
    let items = Items {
        whole: &plan.whole,
        series: &series,
        recipe: &plan.recipe,
        item: &item,
        frame: &frame,
        defaults: DEFAULTS,
        word: "images",
    };
    let mut files = Files::default();
    args.model.add_to(&mut files);
    files.writes("--scores", args.scores.as_deref());
    args.output.check(files, &args.show, &items)?;
    let own: Vec<_> = args.scores.iter().cloned().collect();
    let (mut outputs, missing) = Outputs::open(&args.output, &args.show, items, &own)?;
    let mut scores = Scores::begin(args.scores.as_deref())?;
    if missing.is_empty() {
        return Ok(());
    }
    // For as many as without --resume, so that batches and what is said of them are the same.
    let (mut driver, run) = start(&args.engine, args.batch.batch, &plan, count)?;
    let told: Vec<_> =
        driver.workers.iter().map(|worker| (plan.settings(&run, &[worker]), worker.batch)).collect();
    let begun = Instant::now();
    let drawn = outputs.fill(missing, |missing, outputs| {
        let in_order = outputs.sink.needs_order() || scores.is_some();
        plan.draw(missing, &mut driver, in_order, &mut |done| {
            let (settings, batch) = &told[done.by];
            // All images of a batch are drawn in step.
            let before = (done.index - plan.indices.start) as usize / batch * plan.width * plan.height;
            let step = |pixel| before + pixel + 1;
            let item = plan.item(done.index);
            let Some(scores) = &mut scores else {
                return outputs.put(&item, &done.levels, settings, step).map(drop);
            };
            let bits = head::bits_per_dim(&done.log_likelihood, plan.model.head().channels());
            let file =
                outputs.put(&item, &done.levels, &[settings, &[bits_text(bits)][..]].concat(), step)?;
            scores.put(item.index, item.class.as_ref().map(|(_, name)| name.as_str()), bits, &file)
        })
    })?;
    let mean = scores.as_ref().map(Scores::mean);
    let mut about = plan.about(&run, &driver.workers.iter().collect::<Vec<_>>());
    about.extend(mean.map(bits_text));
    let mut place = String::new();
    super::all([outputs.finish(&about).map(|at| place = at), scores.map_or(Ok(()), Scores::finish)])?;
    let seconds = begun.elapsed().as_secs_f64();
    note(&format!(
        "{} ({}x{}, model {}) on {} in {seconds:.2} s, {:.1} images/s: {place}",
        counted(drawn),
        plan.width,
        plan.height,
        plan.model.name,
        driver.name(),
        drawn as f64 / seconds
    ));
    if let Some(mean) = mean {
        note(&format!("{mean:.4} bits/dim on average under the model itself"));
    }
    Ok(())
}

fn bits_text(bits: f64) -> (String, String) {
    ("bits_per_dim".to_owned(), format!("{bits:.6}"))
}

/// A seed that every process makes up for itself does not make one run of their images.
fn refuse_random_parts(args: &SampleArgs) -> Result<()> {
    let Seed::Random = args.draw.seed else { return Ok(()) };
    ensure!(
        args.shard.is_none(),
        "-s random: with --shard, every share would have a seed of its own (give all processes the same number, such \
        as -s 4711)"
    );
    ensure!(
        !args.output.resume,
        "-s random: with --resume, what is there has another seed (give its number; `pixelcnn inspect` tells it from \
        an image)"
    );
    Ok(())
}

/// The content of a picture by its texts: one image of a run, with its index and the images drawn with it, or the grid.
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
        Picture::Image(first, count) => {
            Run { first, count, shard: None, scale: 1, captions: Captions::Never, ..run }
        }
        Picture::Grid => run,
    };
    let (shard, scale, captions) = (run.shard, run.scale, run.captions);
    let plan = SamplePlan::new(model, recipe, Run { scores: None, ..run }, shard)?;
    let mut series = plan.series();
    if let Picture::Image(index, _) = picture {
        series.indices.end = index + 1;
    }
    let mut sheet = Sheet::new(&series, &series.frame(Some(scale), captions)?)?;
    let (mut driver, _) = start(&engine, batch, &plan, images_of(slice::from_ref(&plan.indices)))?;
    plan.draw(slice::from_ref(&plan.indices), &mut driver, false, &mut |done| {
        if series.indices.contains(&done.index) {
            sheet.put(&plan.item(done.index), &done.levels);
        }
        Ok(())
    })?;
    Ok((sheet.image(), driver.name()))
}

/// The plan of a command.
fn plan(args: &SampleArgs, model: Model) -> Result<SamplePlan> {
    let classes = args.class.as_ref().map(|list| super::parse_classes(list, &model)).transpose()?;
    let (width, height) = args.size.unwrap_or(model.size());
    let recipe = Recipe {
        size: Some(size_text(width, height)),
        ..Recipe::new(&model, args.draw.seed.number(), args.draw.draw())
    };
    let name = |path: &Option<PathBuf>| path.as_deref().map(file_name);
    let OutputArgs { each, names, .. } = &args.output;
    let run = Run {
        model: name(&args.model.model),
        first: args.first,
        count: args.count,
        shard: args.shard.filter(|_| each.is_none()),
        classes,
        output: args.output.file(DEFAULTS[0]).as_deref().map(file_name),
        each: name(each),
        name: names
            .name
            .as_ref()
            .map(Template::as_str)
            .filter(|name| *name != DEFAULTS[1])
            .map(str::to_owned),
        scores: name(&args.scores),
        animate: name(&args.show.animate),
        captions: args.show.frame.captions,
        ..Run::default()
    };
    SamplePlan::new(model, recipe, run, args.shard)
}

/// The drawing of a command of an older version, and its model: `-m` and `--device` may be others.
pub fn older(mut args: SampleArgs, model: Option<&Path>) -> Result<(Model, Recipe, Run)> {
    if let Some(model) = model {
        args.model.model = Some(model.to_owned());
    }
    let SamplePlan { model, recipe, run, .. } = plan(&args, args.model.load()?)?;
    let batch = if let Some(Batch::Images(batch)) = args.batch.batch { Some(batch) } else { None };
    // Its grids were as large as they are, and not labelled.
    let (scale, captions) = (args.show.frame.scale.unwrap_or(1), Captions::Never);
    Ok((model, recipe, Run { device: args.engine.device, batch, scale, captions, ..run }))
}

/// Engines on the devices that are asked for, ready to draw `count` images together; and the run, with what it comes to.
fn start(
    engine: &EngineArgs,
    batch: Option<Batch>,
    plan: &SamplePlan,
    count: usize,
) -> Result<(Driver, Run)> {
    let (model, size) = (&plan.model, (plan.width, plan.height));
    let driver = match count {
        0 => Driver::default(),
        _ => driver::start(&mut engine.choose(model, count)?, model, size, count, batch, usize::MAX)?,
    };
    let (device, batch) = (driver.device.clone(), driver.batch());
    Ok((driver, Run { device, batch, ..plan.run.clone() }))
}
