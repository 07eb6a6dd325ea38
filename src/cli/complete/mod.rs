//! `pixelcnn complete`: draws what is unknown of images.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::engine::{Canvas, Engine, Lane, Request, Room, Want};
use crate::model::Model;
use crate::sampling::random::Noise;
use crate::sampling::resampling::{choose, effective_sample_size};

use super::drawing::{DrawArgs, Seed, ShowArgs, parse_seed};
use super::input::{Classes, Input, InputArgs, Inputs};
use super::recipe::{self, Recipe, Run, file_name};
use super::{EngineArgs, Files, ModelArgs, images, say};
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
    let mut target = Target::open(args, &tasks, head.channels(), head.levels())?;
    let seed = args.seed.number();

    let start = Instant::now();
    let work = Work { args, model: &model, seed, lanes: args.count * args.particles };
    let drawn = work.draw(&tasks, &mut target)?;
    let texts = work.texts(&known, &tasks, &drawn)?;
    let place = target.finish(args, &texts)?;

    if args.particles > 1 {
        say_effective(&drawn.effective, args.particles);
    }
    say_what_was_not_seen(args, &tasks);
    say(&format!(
        "{} of {} (model {}) on {} in {:.2} s: {}",
        if args.count * tasks.len() == 1 {
            "1 completion".to_owned()
        } else {
            format!("{} completions", args.count * tasks.len())
        },
        super::counted(tasks.len()),
        model.name,
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
    say(&format!(
        "effective sample size: {mean:.1} of {particles} particles on average, {least:.1} at least"
    ));
}

fn say_what_was_not_seen(args: &Args, tasks: &[Task]) {
    let is_blind = |task: &Task| task.known_later().next().is_some();
    match (args.particles, tasks.iter().any(is_blind)) {
        (1, true) => say(
            "note: known pixels that come after unknown ones, in raster order, were not seen (--particles 64 weighs \
             completions by them)",
        ),
        (2.., false) => say(
            "note: no known pixel comes after an unknown one, so that particles have all the same weight (leave \
             --particles out)",
        ),
        _ => {}
    }
}

/// How everything is drawn.
struct Work<'a> {
    args: &'a Args,
    model: &'a Model,
    seed: u64,
    /// Lanes of a task.
    lanes: usize,
}

/// What is to be told of all that was drawn.
#[derive(Default)]
struct Drawn {
    engine: String,
    /// What to give `--device` to get the same engine.
    device: String,
    /// Of each size of images.
    batches: Vec<usize>,
    /// Of each completion.
    effective: Vec<f64>,
}

impl Work<'_> {
    /// Draws everything, and hands it to the target.
    fn draw(&self, tasks: &[Task], target: &mut Target) -> Result<Drawn> {
        let mut sizes: BTreeMap<(usize, usize), Vec<&Task>> = BTreeMap::new();
        for task in tasks {
            sizes.entry((task.input.width, task.input.height)).or_default().push(task);
        }
        let mut devices = self.args.engine.choose(self.model, tasks.len() * self.lanes)?;
        let mut drawn = Drawn { effective: vec![0.0; tasks.len() * self.args.count], ..Drawn::default() };
        let bar = super::progress(tasks.len() * self.lanes, 1);
        let mut begun = 0;
        for ((width, height), tasks) in sizes {
            let mut engine = devices.start(self.model, width, height)?;
            let all = tasks.len() * self.lanes;
            let batch = match self.args.batch {
                Some(batch) => batch.min(all),
                None => super::even(all, engine.prepare(Room::UpTo(all))?),
            };
            engine.prepare(Room::For(batch))?;
            drawn.engine = engine.name();
            drawn.batches.push(batch);
            self.draw_tasks(&tasks, &mut *engine, batch, &mut begun, &bar, &mut |task, k, completion| {
                drawn.effective[task.number * self.args.count + k] = completion.effective;
                target.put(task, k, self.args.count, &completion)
            })?;
        }
        drawn.device = devices.argument();
        bar.finish_and_clear();
        Ok(drawn)
    }

    /// Draws tasks of one size.
    fn draw_tasks(
        &self,
        tasks: &[&Task],
        engine: &mut dyn Engine,
        batch: usize,
        begun: &mut usize,
        bar: &indicatif::ProgressBar,
        put: &mut dyn FnMut(&Task, usize, Completion) -> Result<()>,
    ) -> Result<()> {
        let Args { count, particles, .. } = *self.args;
        let canvases: Vec<_> = tasks.iter().map(|task| task.canvas()).collect();
        let later: Vec<Vec<_>> = tasks.iter().map(|task| task.known_later().collect()).collect();
        let (pixels, dimensions) = (tasks[0].known.len(), engine.shape().dimensions());
        let lane = |n: usize| {
            let (task, of_task) = (tasks[n / self.lanes], n % self.lanes);
            Lane {
                index: (task.number * self.lanes + of_task) as u64,
                class: task.class(of_task / particles),
                canvas: canvases[n / self.lanes].clone(),
            }
        };
        let all: Vec<_> = (0..tasks.len() * self.lanes).collect();
        let (mut candidates, mut weights) = (Vec::new(), Vec::new());
        for lanes in all.chunks(batch) {
            let of_lanes = lanes.iter().map(|&n| lane(n)).collect();
            let request = Request::new(engine.shape(), self.seed, of_lanes)?
                .drawing(self.args.draw.draw())?
                .wanting(Want { likelihood: particles > 1, ..Want::default() });
            let outcome = engine.run(&request, &mut |_| {})?;
            for (i, &n) in lanes.iter().enumerate() {
                let levels = outcome.levels[i * dimensions..][..dimensions].to_vec();
                let likelihood = |&pixel: &usize| outcome.log_likelihood[i * pixels + pixel];
                weights.push(if particles > 1 {
                    later[n / self.lanes].iter().map(likelihood).sum()
                } else {
                    0.0
                });
                candidates.push((levels, *begun));
                if candidates.len() < particles {
                    continue;
                }
                let (task, k) = (tasks[n / self.lanes], n % self.lanes / particles);
                let noise = Noise::new(self.seed, (task.number * count + k) as u64);
                let chosen = choose(&weights, noise.beyond(pixels));
                let (levels, begun) = candidates.swap_remove(chosen);
                put(task, k, Completion { levels, begun, effective: effective_sample_size(&weights) })?;
                candidates.clear();
                weights.clear();
            }
            *begun += pixels;
            bar.inc(lanes.len() as u64);
        }
        Ok(())
    }

    /// What the files say of how they were made, and of each completion: its image, class, and effective sample
    /// size.
    fn texts(&self, known: &known::Known, tasks: &[Task], drawn: &Drawn) -> Result<Texts> {
        let (args, model) = (self.args, self.model);
        let names = |of: &dyn Fn(&Task) -> String| tasks.iter().map(of).collect::<Vec<_>>();
        let batches = drawn.batches.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let recipe = Recipe {
            completion: Some(recipe::Completion {
                known: known.flag().join(" "),
                completions: args.count,
                particles: args.particles,
            }),
            ..Recipe::new(model, self.seed, args.draw.draw())
        };
        let of_one_size = || if let [batch] = drawn.batches[..] { Some(batch) } else { None };
        let name = |path: &Option<PathBuf>| path.as_deref().map(file_name);
        let mut run = Run {
            model: name(&args.model.model),
            classes: args.class.as_ref().map(|list| super::parse_classes(list, model)).transpose()?,
            batch: args.batch.or_else(of_one_size),
            device: drawn.device.clone(),
            output: args.each.is_none().then(|| file_name(&args.output)),
            each: name(&args.each),
            animate: name(&args.show.animate),
            scale: args.show.scale,
            ..Run::default()
        };
        args.input.tell(&mut run);
        let shared = recipe::texts(&recipe, &run, model, drawn.engine.clone(), batches);
        Ok(Texts {
            shared,
            names: names(&|task| file_name(task.input.name.as_ref())),
            classes: tasks
                .iter()
                .map(|task| {
                    let name = |class: usize| self.model.classes()[class].clone();
                    (0..self.args.count).map(|k| task.class(k).map(name)).collect()
                })
                .collect(),
            effective: (self.args.particles > 1).then(|| drawn.effective.clone()),
        })
    }
}

/// Texts of the files.
struct Texts {
    shared: Vec<(String, String)>,
    /// Of each image.
    names: Vec<String>,
    /// Of each image's completions.
    classes: Vec<Vec<Option<String>>>,
    /// Of each completion.
    effective: Option<Vec<f64>>,
}
