//! `pixelcnn complete`: draws what is unknown of images.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::slice;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::engine::{Canvas, Lane, Request, Want};
use crate::model::Model;
use crate::sampling::random::Noise;
use crate::sampling::resampling::{choose, effective_sample_size};

use super::drawing::{DrawArgs, Seed, ShowArgs, parse_seed};
use super::driver::{self, Batch, Driver, Work};
use super::input::{Classes, Input, InputArgs, Inputs};
use super::recipe::{self, Recipe, Run, file_name};
use super::{EngineArgs, Files, ModelArgs, images, note};
use known::KnownArgs;
use target::Target;

mod known;
mod target;

/// Draw the unknown part of images
///
/// The result is a row an image: the image with its unknown part in grey, its completions, and the image. Pixels are
/// drawn in raster order, each given those before it; what is known after it is taken into account by --particles
/// alone. With nothing known, completion k of image i is what `sample` draws as image i·K + k of the same seed.
#[derive(clap::Args)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    #[command(flatten)]
    input: InputArgs,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    known: KnownArgs,

    /// Completions of each image
    #[arg(short = 'n', long, value_name = "K", default_value_t = 8, value_parser = images)]
    count: usize,

    /// Choose each completion among P, by how likely they make what is known after them
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = images)]
    particles: usize,

    /// Images drawn at once [default: all, up to what fits and helps]
    #[arg(short, long, value_name = "N", value_parser = images)]
    batch: Option<usize>,

    /// Seed of the noise: a whole number, or random
    #[arg(short, long, default_value = "0", value_parser = parse_seed)]
    seed: Seed,

    /// Class by name or index; a comma list is cycled over the completions of an image [default: what its
    /// folder, array or --labels says, else all classes]
    #[arg(long, value_name = "LIST", conflicts_with = "labels")]
    class: Option<String>,

    #[command(flatten)]
    draw: DrawArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// PNG file for the rows; replaced if it exists
    #[arg(short, long, value_name = "OUT.png", default_value = "completions.png", conflicts_with = "each")]
    output: PathBuf,

    /// Folder for a PNG file a completion, named by image and completion: 000042-3.png; created if need be
    #[arg(long, value_name = "DIR")]
    each: Option<PathBuf>,

    /// Write into a folder for --each that holds other images, and replace those that are in the way
    #[arg(long, requires = "each")]
    overwrite: bool,

    #[command(flatten)]
    show: ShowArgs,
}

/// An image to be completed.
struct Task<'a> {
    /// Its number among all.
    number: usize,
    input: &'a Input,
    /// Whether each pixel is known.
    known: Vec<bool>,
    /// The classes that are cycled over its completions; none for an unconditional model.
    classes: Vec<usize>,
}

impl Task<'_> {
    fn class(&self, completion: usize) -> Option<usize> {
        self.classes.get(completion % self.classes.len().max(1)).copied()
    }

    fn canvas(&self) -> Canvas {
        Canvas::partial(self.input.levels.clone(), self.known.clone())
    }

    /// The known pixels that come after an unknown one.
    fn known_later(&self) -> impl Iterator<Item = usize> {
        let unknown = self.known.iter().position(|is_known| !is_known).unwrap_or(self.known.len());
        (unknown..self.known.len()).filter(|&pixel| self.known[pixel])
    }
}

/// What was drawn for a task.
struct Completion {
    levels: Vec<u16>,
    /// When its first pixel was drawn, counted in pixels that were drawn in step.
    begun: usize,
    /// See [`effective_sample_size`].
    effective: f64,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let model = args.model.load()?;
    model.head().check(&args.draw.draw())?;
    let head = model.head();
    ensure!(
        head.levels() <= 256 && matches!(head.channels(), 1 | 3),
        "model {} draws {} levels of {} channels, and completions are written as pictures: expected at most 256 levels, grey \
         or RGB",
        model.name,
        head.levels(),
        head.channels()
    );
    let known = args.known.read()?;
    let inputs = args.input.read(&model, &Classes::Known, files(args))?;
    if args.input.list {
        return inputs.list(&model, false);
    }
    let tasks = tasks(args, &model, &inputs, &known)?;
    let mut target = Target::open(args, &tasks, &model)?;
    let plan = Plan::new(args, model, &known)?;

    let start = Instant::now();
    let drawn = plan.draw(args, &tasks, &mut target);
    let drawn = drawn.map_err(|error| target.explain(error, args.count * tasks.len()))?;
    let place = target.finish(args, &drawn.settings, &drawn.effective)?;

    if args.particles > 1 {
        say_effective(&drawn.effective, args.particles);
    }
    say_what_was_not_seen(args, &tasks);
    note(&format!(
        "{} of {} (model {}) on {} in {:.2} s: {}",
        match args.count * tasks.len() {
            1 => "1 completion".to_owned(),
            count => format!("{count} completions"),
        },
        super::counted(tasks.len()),
        plan.model.name,
        drawn.engine,
        start.elapsed().as_secs_f64(),
        place.display()
    ));
    Ok(inputs.exit_code())
}

/// The files of the call, but for the images.
fn files(args: &Args) -> Files<'_> {
    let mut files = Files::default();
    args.model.add_to(&mut files);
    args.known.add_to(&mut files);
    match &args.each {
        None => files.writes("-o", Some(&args.output)),
        Some(path) => files.writes_each("--each", path, target::is_completion),
    }
    files.writes("--animate", args.show.animate.as_deref());
    files
}

fn tasks<'a>(
    args: &Args,
    model: &Model,
    inputs: &'a Inputs,
    known: &known::Known,
) -> Result<Vec<Task<'a>>> {
    let listed = args.class.as_ref().map(|list| super::parse_classes(list, model)).transpose()?;
    let task = |(number, input): (usize, &'a Input)| {
        let classes = match (&listed, input.class) {
            (Some(list), _) => list.clone(),
            (None, Some(class)) => vec![class],
            (None, None) => (0..model.classes().len()).collect(),
        };
        let known = known.of(input.width, input.height).with_context(|| input.name.clone())?;
        Ok(Task { number, input, known, classes })
    };
    inputs.images.iter().enumerate().map(task).collect()
}

fn say_effective(effective: &[f64], particles: usize) {
    let least = effective.iter().copied().fold(f64::INFINITY, f64::min);
    let mean = effective.iter().sum::<f64>() / effective.len() as f64;
    note(&format!(
        "effective sample size: {mean:.1} of {particles} particles on average, {least:.1} at least"
    ));
}

fn say_what_was_not_seen(args: &Args, tasks: &[Task]) {
    let is_blind = |task: &Task| task.known_later().next().is_some();
    match (args.particles, tasks.iter().any(is_blind)) {
        (1, true) => note(
            "note: known pixels that come after unknown ones, in raster order, were not seen (--particles 64 weighs \
             completions by them)",
        ),
        (2.., false) => note(
            "note: no known pixel comes after an unknown one, so that particles have all the same weight (leave \
             --particles out)",
        ),
        _ => {}
    }
}

/// How everything is drawn.
struct Plan {
    model: Model,
    recipe: Recipe,
    /// As asked for, without the devices.
    run: Run,
    /// Lanes of a task.
    lanes: usize,
}

/// What is to be told of all that was drawn.
struct Drawn {
    engine: String,
    /// The texts of the file of all.
    settings: Vec<(String, String)>,
    /// Of each completion.
    effective: Vec<f64>,
}

impl Plan {
    fn new(args: &Args, model: Model, known: &known::Known) -> Result<Self> {
        let recipe = Recipe {
            completion: Some(recipe::Completion {
                known: known.flag().join(" "),
                completions: args.count,
                particles: args.particles,
            }),
            ..Recipe::new(&model, args.seed.number(), args.draw.draw())
        };
        let name = |path: &Option<PathBuf>| path.as_deref().map(file_name);
        let mut run = Run {
            model: name(&args.model.model),
            classes: args.class.as_ref().map(|list| super::parse_classes(list, &model)).transpose()?,
            batch: args.batch,
            output: args.each.is_none().then(|| file_name(&args.output)),
            each: name(&args.each),
            animate: name(&args.show.animate),
            scale: args.show.scale,
            ..Run::default()
        };
        args.input.tell(&mut run);
        Ok(Self { model, recipe, run, lanes: args.count * args.particles })
    }

    /// Draws everything, and hands it to the target.
    fn draw(&self, args: &Args, tasks: &[Task], target: &mut Target) -> Result<Drawn> {
        let mut sizes: BTreeMap<(usize, usize), Vec<&Task>> = BTreeMap::new();
        for task in tasks {
            sizes.entry((task.input.width, task.input.height)).or_default().push(task);
        }
        let mut devices = args.engine.choose(&self.model, tasks.len() * self.lanes)?;
        let mut effective = vec![0.0; tasks.len() * args.count];
        let (mut engine, mut batches) = (String::new(), Vec::new());
        let mut run = self.run.clone();
        let pixels = tasks.iter().map(|task| task.known.len() * self.lanes).sum();
        let bar = super::progress(tasks.len() * args.count, pixels);
        let mut begun = 0;
        for (size, tasks) in sizes {
            let all = tasks.len() * self.lanes;
            let batch = args.batch.map(|batch| Batch::Images(batch.min(all)));
            let mut driver = driver::start(&mut devices, &self.model, size, all, batch, usize::MAX)?;
            engine = driver.name();
            run.device.clone_from(&driver.device);
            batches.extend(driver.workers.iter().map(|worker| worker.batch));
            // Sizes have batches of their own, which no flag says.
            let batch = args.batch.or(driver.batch());
            let of_size = Run { batch, ..run.clone() };
            let settings: Vec<_> = driver
                .workers
                .iter()
                .map(|worker| {
                    let (engine, batch) = (worker.engine.name(), worker.batch.to_string());
                    recipe::texts(&self.recipe, &of_size, &self.model, engine, batch)
                })
                .collect();
            let of_one = driver.workers[0].batch;
            self.draw_tasks(&tasks, &mut driver, begun, &bar, &mut |task, k, by, completion| {
                effective[task.number * args.count + k] = completion.effective;
                target.put(task, k, args, &completion, &settings[by])
            })?;
            begun += all.div_ceil(of_one) * size.0 * size.1;
        }
        bar.finish_and_clear();
        batches.dedup();
        run.batch = args.batch.or(if let [batch] = batches[..] { Some(batch) } else { None });
        let batches = batches.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let settings = recipe::texts(&self.recipe, &run, &self.model, engine.clone(), batches);
        Ok(Drawn { engine, settings, effective })
    }

    /// Draws tasks of one size, the first pixels of them when `begun` pixels were drawn in step before. Completions come
    /// with the worker that drew the last of their candidates.
    fn draw_tasks(
        &self,
        tasks: &[&Task],
        driver: &mut Driver,
        begun: usize,
        bar: &indicatif::ProgressBar,
        put: &mut dyn FnMut(&Task, usize, usize, Completion) -> Result<()>,
    ) -> Result<()> {
        let particles = self.recipe.completion.as_ref().map_or(1, |completion| completion.particles);
        let count = self.lanes / particles;
        let canvases: Vec<_> = tasks.iter().map(|task| task.canvas()).collect();
        let later: Vec<Vec<_>> = tasks.iter().map(|task| task.known_later().collect()).collect();
        let (shape, batch) = (driver.workers[0].engine.shape(), driver.workers[0].batch);
        let of_lane = |n: u64| (n as usize / self.lanes, n as usize % self.lanes);
        let lane = |&n: &u64| {
            let (task, of_task) = of_lane(n);
            Lane {
                index: (tasks[task].number * self.lanes + of_task) as u64,
                class: tasks[task].class(of_task / particles),
                canvas: canvases[task].clone(),
            }
        };
        let want = Want { likelihood: particles > 1, ..Want::default() };
        let all = 0..(tasks.len() * self.lanes) as u64;
        let work = Work {
            todo: slice::from_ref(&all),
            request: &|lanes| {
                let request = Request::new(shape, self.recipe.seed, lanes.iter().map(lane).collect())?;
                Ok(request.drawing(self.recipe.draw)?.wanting(want))
            },
            in_order: particles > 1,
            most_waiting: driver::most_waiting(shape.dimensions()),
            progress: &driver::moves(bar),
        };
        let (mut candidates, mut weights) = (Vec::new(), Vec::new());
        driver.drive(&work, &mut |done| {
            let (task, of_task) = of_lane(done.index);
            let likelihood = |&pixel: &usize| done.log_likelihood.get(pixel);
            weights.push(later[task].iter().filter_map(likelihood).sum());
            candidates.push((done.levels, begun + done.index as usize / batch * shape.pixels()));
            if candidates.len() < particles {
                return Ok(());
            }
            let (task, k) = (tasks[task], of_task / particles);
            let noise = Noise::new(self.recipe.seed, (task.number * count + k) as u64);
            let chosen = choose(&weights, noise.beyond(shape.pixels()));
            let (levels, begun) = candidates.swap_remove(chosen);
            let effective = effective_sample_size(&weights);
            candidates.clear();
            weights.clear();
            put(task, k, done.by, Completion { levels, begun, effective })
        })
    }
}
