//! `pixelcnn complete`: draws what is unknown of images.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::model::Model;

use super::drawing::{DrawArgs, ShowArgs};
use super::driver::BatchArgs;
use super::input::{Classes, InputArgs, Inputs};
use super::recipe::{self, Recipe, Run, file_name};
use super::sink::{Items, OutputArgs, Outputs, Sink};
use super::{EngineArgs, Files, ModelArgs, heading, images, note, shell};
use completions::{CompletionPlan, Task};
use known::KnownArgs;
pub use redraw::draw_again;

mod completions;
mod known;
mod redraw;

/// Fill in the unknown part of images
///
/// Each row of the grid shows one image with its unknown part in dark blue, its completions, and the original. Pixels
/// are drawn left to right, top to bottom, each given those before it: known pixels further down have no influence
/// without --particles. An image of another size than the model was trained on is cropped to its middle and resized
/// first, as in training; rows, box and mask are those of the resized image. If no pixel is known, completion k of image i is image i·K + k of `sample` with the same seed
/// (K = --count).
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct CompleteArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    input: InputArgs,

    #[command(flatten)]
    known: KnownArgs,

    /// Completions per image
    #[arg(help_heading = heading::IMAGES)]
    #[arg(short = 'n', long, alias = "num", value_name = "K", default_value_t = 8, value_parser = images)]
    count: usize,

    /// Classes by name or index, cycled over the completions of an image
    ///
    /// [default: the class from its folder, array or --labels, else all classes]
    #[arg(help_heading = heading::IMAGES)]
    #[arg(long, value_name = "LIST", conflicts_with = "labels", add = shell::class())]
    class: Option<String>,

    /// Draw P candidates, resampled by the likelihood of later known pixels
    ///
    /// Takes P times as long.
    #[arg(help_heading = heading::DRAWING)]
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = images)]
    particles: usize,

    #[command(flatten)]
    draw: DrawArgs,

    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    show: ShowArgs,

    #[command(flatten)]
    batch: BatchArgs,

    #[command(flatten)]
    engine: EngineArgs,
}

const EXAMPLES: &str = "\
Examples:
  pixelcnn complete -m mnist digits --rows 14          keep the top half
  pixelcnn complete -m mnist 7.png --box 8,8,12x12 -n 20 --particles 16
  pixelcnn complete -m mnist digits --mask mask.png --each completed";

/// The file of all completions where none is named, and the names of files for each.
const DEFAULTS: [&str; 2] = ["completions.png", "{image:06}-{completion}.png"];

pub fn run(args: &CompleteArgs) -> Result<ExitCode> {
    let model = args.model.load()?;
    model.head().check(&args.draw.draw())?;
    let known = args.known.read()?;
    let mut files = Files::default();
    args.model.add_to(&mut files);
    args.known.add_to(&mut files);
    let (inputs, files) = args.input.read(&model, &Classes::Known, files)?;
    if args.input.list {
        return inputs.list(&model, false);
    }
    let mut plan = plan(args, model, &inputs, &known)?;
    let series = plan.series();
    let frame = args.output.frame(&args.show, &series)?;
    plan.run.scale = frame.scale();
    let item = |index: u64| plan.item(index);
    let items = Items {
        whole: &series.indices,
        series: &series,
        recipe: &plan.recipe,
        item: &item,
        frame: &frame,
        defaults: DEFAULTS,
        word: "completions",
    };
    args.output.check(files, &args.show, &items)?;
    let masks: Vec<_> = args.output.each.iter().flat_map(|folder| plan.masks(folder)).collect();
    let (mut outputs, missing) = Outputs::open(&args.output, &args.show, items, &masks)?;
    if let Sink::Array(array) = &mut outputs.sink {
        plan.add_beside(array)?;
    }
    plan.show(&mut |position, width, colours| outputs.show(position, width, colours));

    let start = Instant::now();
    let mut told = plan.told();
    let mut devices = args.engine.choose(&plan.model, series.count() * plan.particles)?;
    let mut effective = BTreeMap::new();
    let drawn = outputs.fill(missing, |missing, outputs| {
        let in_order = outputs.sink.needs_order();
        plan.draw(&mut devices, args.batch.batch, missing, in_order, &mut told, &mut |completion| {
            let mut settings = completion.settings.to_vec();
            if plan.particles > 1 {
                settings.push(effective_text([completion.effective].iter()));
                effective.insert(completion.index, completion.effective);
            }
            let known = &plan.task(completion.index).known;
            let step = |pixel: usize| if known[pixel] { 0 } else { completion.begun + pixel + 1 };
            outputs.put(&plan.item(completion.index), &completion.levels, &settings, step).map(drop)
        })
    })?;
    if let Sink::Each(folder) = &mut outputs.sink {
        plan.tasks.iter().try_for_each(|task| folder.put_beside(&task.mask_name(), &task.mask()))?;
    }
    let mut about = plan.about(&told);
    about.extend((plan.particles > 1).then(|| effective_text(effective.values())));
    let place = outputs.finish(&about)?;

    if !effective.is_empty() {
        say_effective(&effective.into_values().collect::<Vec<_>>(), plan.particles);
    }
    say_what_was_not_seen(&plan);
    if drawn > 0 {
        note(&format!(
            "{} of {} (model {}) on {} in {:.2} s: {place}",
            completions(drawn),
            super::counted(plan.tasks.len()),
            plan.model.name,
            told.engine,
            start.elapsed().as_secs_f64()
        ));
    }
    Ok(inputs.exit_code())
}

fn completions(count: usize) -> String {
    if count == 1 { "1 completion".to_owned() } else { format!("{count} completions") }
}

/// The plan of a command.
fn plan(
    args: &CompleteArgs,
    model: Model,
    inputs: &Inputs,
    known: &known::Known,
) -> Result<CompletionPlan> {
    let recipe = Recipe {
        completion: Some(recipe::Completion {
            known: known.flag().join(" "),
            mask_sha256: known.mask_sha256(),
            completions: args.count,
            particles: args.particles,
        }),
        ..Recipe::new(&model, args.draw.seed.number(), args.draw.draw())
    };
    let name = |path: &Option<PathBuf>| path.as_deref().map(file_name);
    let classes = args.class.as_ref().map(|list| super::parse_classes(list, &model)).transpose()?;
    let OutputArgs { each, names, .. } = &args.output;
    let mut run = Run {
        model: name(&args.model.model),
        classes: classes.clone(),
        output: args.output.file(DEFAULTS[0]).as_deref().map(file_name),
        each: name(each),
        name: names.name.as_ref().map(|template| template.as_str().to_owned()),
        animate: name(&args.show.animate),
        captions: args.show.frame.captions,
        ..Run::default()
    };
    args.input.tell(&mut run);
    let task = |input: &super::input::Input| {
        let classes = match (&classes, input.class) {
            (Some(list), _) => list.clone(),
            (None, Some(class)) => vec![class],
            (None, None) => (0..model.classes().len()).collect(),
        };
        Ok(Task {
            number: 0,
            name: file_name(input.name.as_ref()),
            sha256: input.sha256(),
            width: input.width,
            height: input.height,
            levels: input.levels.clone(),
            known: known.of(input.width, input.height).with_context(|| input.name.clone())?,
            classes,
        })
    };
    let tasks = inputs.images.iter().map(task).collect::<Result<_>>()?;
    Ok(CompletionPlan::new(model, recipe, run, tasks, known.runs()))
}

/// The text in files about effective sample sizes.
fn effective_text<'a>(of: impl Iterator<Item = &'a f64>) -> (String, String) {
    let list: Vec<_> = of.map(|effective| format!("{effective:.2}")).collect();
    ("effective_sample_size".to_owned(), list.join(","))
}

fn say_effective(effective: &[f64], particles: usize) {
    let least = effective.iter().copied().fold(f64::INFINITY, f64::min);
    let mean = effective.iter().sum::<f64>() / effective.len() as f64;
    note(&format!(
        "effective sample size: {mean:.1} of {particles} particles on average, {least:.1} at least"
    ));
}

fn say_what_was_not_seen(plan: &CompletionPlan) {
    let is_blind = |task: &Task| task.known_later().next().is_some();
    match (plan.particles, plan.tasks.iter().any(is_blind)) {
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
