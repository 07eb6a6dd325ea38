//! `pixelcnn sample`: draws images and writes them as a grid, or one by one.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use pixelcnn::engine::{Engine, EngineError, Job, Room, Want};
use pixelcnn::output::grid::{Drawing, Grid};
use pixelcnn::sampling::mixture;

use super::drawing::{DrawArgs, Seed, ShowArgs, parse_seed};
use super::{EngineArgs, ModelArgs, images, say};
use plan::Plan;
use scores::Scores;
use target::Target;

mod plan;
mod scores;
mod target;
mod trial;

/// Draw images from a model
///
/// The images become one PNG file, a grid, or with --each a file each. Every file says in its text chunks
/// how it was made. An image depends on the model, the seed and its index alone: more images, or other
/// batches, leave the first ones as they are (on a GPU, where rounding may differ, for the same --batch).
#[derive(clap::Args)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Number of images
    #[arg(short = 'n', long, default_value_t = 64, value_parser = images)]
    count: usize,

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

    /// PNG file for the grid; replaced if it exists
    #[arg(short, long, value_name = "OUT.png", default_value = "samples.png", conflicts_with = "each")]
    output: PathBuf,

    /// Folder for a PNG file an image, named by index: 000042.png; created if need be
    #[arg(long, value_name = "DIR")]
    each: Option<PathBuf>,

    #[command(flatten)]
    show: ShowArgs,

    /// Also write a table of how likely the model finds each of its images, in bits per dimension; the files of
    /// the images say it too
    #[arg(long, value_name = "OUT.csv")]
    scores: Option<PathBuf>,
}

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

fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let parse = |(width, height): (&str, &str)| Some((width.parse().ok()?, height.parse().ok()?));
    text.split_once(['x', 'X'])
        .and_then(parse)
        .ok_or("expected width and height in pixels, such as 32x32".into())
}

pub fn run(args: &Args) -> Result<()> {
    let model = args.model.load()?;
    let (width, height) = args.size.unwrap_or((model.config.width, model.config.height));
    if let Some(problem) = super::size_problem(width, height, &model) {
        bail!("--size: {problem}");
    }
    let classes = match &args.class {
        Some(list) => super::parse_classes(list, &model)?,
        None => (0..model.config.classes.len()).collect(),
    };
    ensure!(
        args.show.animate.as_ref() != Some(&args.output) || args.each.is_some(),
        "--animate {}: is the file of the grid (choose another name, or another for -o)",
        args.output.display()
    );
    let mut target = Target::open(args, width, height, model.config.channels)?;
    let grid = Grid::new(args.count, width, height, model.config.channels);
    let mut drawing = args.show.begin(grid.as_ref())?;
    let mut scores = Scores::begin(args.scores.as_deref())?;
    let seed = args.seed.number();
    let mut devices = args.engine.choose(&model, args.count)?;
    let mut engine = devices.start(&model, width, height)?;
    let batch = match args.batch {
        Some(Batch::Images(batch)) => match engine.prepare(Room::For(batch)) {
            Err(EngineError::BatchTooLarge { .. }) if batch > args.count => {
                say(&format!("batch: {} (all images; {batch} would not fit)", args.count));
                args.count
            }
            _ => batch,
        },
        Some(Batch::Auto) => trial::fastest_batch(&mut *engine, args.count, &model, width)?,
        None => super::even(args.count, engine.prepare(Room::UpTo(args.count))?),
    };
    engine.prepare(Room::For(batch))?;

    let mut plan = Plan {
        model,
        width,
        height,
        count: args.count,
        batch,
        seed,
        classes,
        draw: args.draw.draw(),
        engine: engine.name(),
        command: String::new(),
    };
    plan.command = plan.command_line(args, &devices.argument());

    let start = Instant::now();
    let mut done = 0;
    if let Err(error) = draw(&plan, &mut *engine, &mut target, drawing.as_mut(), scores.as_mut(), &mut done)
    {
        return Err(target.explain(error, done, plan.count));
    }
    let mean = scores.as_ref().map(Scores::mean);
    if let Some(scores) = scores {
        scores.finish()?;
    }
    let place = target.finish(&plan, args.show.scale, mean)?;
    args.show.finish(drawing.as_ref(), &plan.texts(&[("count", plan.count.to_string())]))?;
    let seconds = start.elapsed().as_secs_f64();
    let Plan { count, model, engine, .. } = &plan;
    say(&format!(
        "{} ({width}x{height}, model {}) on {engine} in {seconds:.2} s, {:.1} images/s: {}",
        super::counted(*count),
        model.name,
        *count as f64 / seconds,
        place.display()
    ));
    if let Some(mean) = mean {
        say(&format!("{mean:.4} bits/dim on average under the model itself"));
    }
    Ok(())
}

/// Draws all images batch by batch; `done` counts those that reached the target.
fn draw(
    plan: &Plan,
    engine: &mut dyn Engine,
    target: &mut Target,
    mut drawing: Option<&mut Drawing>,
    mut scores: Option<&mut Scores>,
    done: &mut usize,
) -> Result<()> {
    let pixels = plan.width * plan.height;
    let bar = super::progress(plan.count, pixels);
    while *done < plan.count {
        let first = *done;
        let count = plan.batch.min(plan.count - first);
        let images = (first..first + count).map(|i| (i as u64, plan.class(i)));
        let want = Want { likelihood: scores.is_some(), ..Want::default() };
        let job = Job { draw: plan.draw, want, ..Job::sample(plan.seed, images) };
        let mut watch = |done| bar.set_position((first * pixels + done * count) as u64);
        let outcome = engine.run(&job, &mut watch)?;
        let mut likelihoods = outcome.log_likelihood.chunks(pixels);
        for values in outcome.pixels.chunks(outcome.pixels.len() / count) {
            let levels: Vec<_> = values.iter().map(|&x| mixture::level(x)).collect();
            if let Some(drawing) = &mut drawing {
                // All images of a batch are drawn in step.
                let before = first / plan.batch * pixels;
                drawing.place(*done, plan.width, &levels, |pixel| before + pixel + 1);
            }
            let bits = likelihoods.next().map(|l| mixture::bits_per_dim_of(l, plan.model.config.channels));
            let file = target.put(plan, *done, levels, bits)?;
            if let (Some(scores), Some(bits)) = (&mut scores, bits) {
                let class = plan.class(*done).map(|class| &*plan.model.config.classes[class]);
                scores.put(*done as u64, class, bits, &file)?;
            }
            *done += 1;
        }
    }
    bar.finish_and_clear();
    Ok(())
}
