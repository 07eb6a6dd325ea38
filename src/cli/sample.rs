//! `pixelcnn sample`: draws images and writes them as a grid, or one by one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use pixelcnn::engine::{Engine, EngineError, Job};
use pixelcnn::model::{Config, Model, Precision};
use pixelcnn::output::file::NewFolder;
use pixelcnn::output::grid::Grid;
use pixelcnn::output::{self, Image, png};
use pixelcnn::sampling::mixture;

use super::{EngineArgs, ModelArgs, class_argument, images, quoted, say};

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

    /// Let the network see unrounded pixel values, as the published samplers do
    #[arg(long)]
    continuous: bool,

    /// PNG file for the grid; replaced if it exists
    #[arg(short, long, value_name = "OUT.png", default_value = "samples.png", conflicts_with = "each")]
    output: PathBuf,

    /// Folder for a PNG file an image, named by index: 000042.png; created if need be
    #[arg(long, value_name = "DIR")]
    each: Option<PathBuf>,
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
            number.map_err(|_| {
                format!("expected `random`, or -1 for the same, or a whole number from 0 to {}", u64::MAX)
            })
        }
    }
}

fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let parse = |(width, height): (&str, &str)| Some((width.parse().ok()?, height.parse().ok()?));
    text.split_once(['x', 'X'])
        .and_then(parse)
        .ok_or("expected width and height in pixels, such as 32x32".into())
}

/// What is to be drawn, with everything that was left open decided.
struct Plan {
    model: Model,
    width: usize,
    height: usize,
    count: usize,
    batch: usize,
    seed: u64,
    /// The classes that are cycled over the images; none for an unconditional model.
    classes: Vec<usize>,
    continuous: bool,
    /// Engine and device, for people.
    engine: String,
    /// The command that draws the same again.
    command: String,
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
    let mut target = Target::open(args, width, height, model.config.channels)?;
    let seed = match args.seed {
        Seed::Number(seed) => seed,
        Seed::Random => {
            // The standard library's hash maps have random keys: all the randomness that is needed here.
            let seed = RandomState::new().build_hasher().finish();
            say(&format!("seed: {seed}"));
            seed
        }
    };
    let adapter = args.engine.choose()?;
    let mut engine = args.engine.start(adapter.as_ref(), &model, width, height)?;
    let batch = match args.batch {
        Some(Batch::Images(batch)) => match engine.prepare(batch) {
            Err(EngineError::BatchTooLarge { .. }) if batch > args.count => {
                say(&format!("batch: {} (all images; {batch} would not fit)", args.count));
                args.count
            }
            _ => batch,
        },
        Some(Batch::Auto) => fastest_batch(&mut *engine, args.count, &model, width)?,
        None => engine.prepare_suggested(args.count)?,
    };
    engine.prepare(batch)?;

    let mut plan = Plan {
        model,
        width,
        height,
        count: args.count,
        batch,
        seed,
        classes,
        continuous: args.continuous,
        engine: engine.name(),
        command: String::new(),
    };
    plan.command =
        plan.command_line(args, &adapter.map_or("cpu".to_owned(), |adapter| adapter.get_info().name));

    let start = Instant::now();
    let mut done = 0;
    if let Err(error) = draw(&plan, &mut *engine, &mut target, &mut done) {
        return Err(target.explain(error, done, plan.count));
    }
    let place = target.finish(&plan)?;
    let seconds = start.elapsed().as_secs_f64();
    let Plan { count, model, engine, .. } = &plan;
    say(&format!(
        "{} ({width}x{height}, model {}) on {engine} in {seconds:.2} s, {:.1} images/s: {}",
        super::counted(*count),
        model.name,
        *count as f64 / seconds,
        place.display()
    ));
    Ok(())
}

/// The batch that is fastest in a short trial: the first rows of 1, 2, 4, … images, up to what is of use.
fn fastest_batch(engine: &mut dyn Engine, count: usize, model: &Model, width: usize) -> Result<usize> {
    let largest = engine.suggested_batch(count);
    let rows = model.config.size_multiple();
    let start = Instant::now();
    let (mut best, mut least) = (1, f64::INFINITY);
    let mut batch = 1;
    let why = loop {
        match first_rows(engine, model, batch, rows * width) {
            Err(EngineError::BatchTooLarge { .. }) => break format!("{batch} do not fit"),
            // Less than noise is no gain.
            Ok(seconds) if seconds < 0.95 * least => (best, least) = (batch, seconds),
            other => _ = other?,
        }
        // Where twice as many are no faster, four times as many may be.
        if batch == largest || batch > 2 * best {
            break format!("the fastest in a trial of 1 to {batch}");
        }
        if start.elapsed() > TRIAL {
            if batch == best {
                best = largest;
            }
            break format!("a trial ended at {batch}, for it took long");
        }
        batch = (2 * batch).min(largest);
    };
    say(&format!("batch: {best} ({why})"));
    Ok(best)
}

/// Seconds an image that the first pixels of a batch take, best of a few if they are few.
fn first_rows(
    engine: &mut dyn Engine,
    model: &Model,
    batch: usize,
    pixels: usize,
) -> Result<f64, EngineError> {
    let classes = if model.config.classes.is_empty() { vec![] } else { vec![0; batch] };
    let mut job = Job { count: batch, classes, pixels: Some(0), ..Job::default() };
    // Makes room and kernels.
    engine.prepare(batch)?;
    engine.sample(&job, &mut |_| {})?;
    job.pixels = Some(pixels);
    let start = Instant::now();
    let mut least = f64::INFINITY;
    while least.is_infinite() || start.elapsed() < TRIAL / 40 {
        let start = Instant::now();
        engine.sample(&job, &mut |_| {})?;
        least = start.elapsed().as_secs_f64().min(least);
    }
    Ok(least / batch as f64)
}

/// After so long, a trial goes no further; it may have taken twice as long by then.
const TRIAL: Duration = Duration::from_secs(2);

/// Draws all images batch by batch; `done` counts those that reached the target.
fn draw(plan: &Plan, engine: &mut dyn Engine, target: &mut Target, done: &mut usize) -> Result<()> {
    let pixels = plan.width * plan.height;
    let bar = super::progress(plan.count, pixels);
    while *done < plan.count {
        let first = *done;
        let count = plan.batch.min(plan.count - first);
        let job = Job {
            seed: plan.seed,
            first: first as u64,
            count,
            classes: (first..first + count).filter_map(|i| plan.class(i)).collect(),
            continuous: plan.continuous,
            ..Job::default()
        };
        let mut progress = |done| bar.set_position((first * pixels + done * count) as u64);
        let values = engine.sample(&job, &mut progress)?;
        for values in values.chunks(values.len() / count) {
            let levels = values.iter().map(|&x| mixture::level(x)).collect();
            target.put(plan, *done, levels)?;
            *done += 1;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

impl Plan {
    fn class(&self, image: usize) -> Option<usize> {
        self.classes.get(image % self.classes.len().max(1)).copied()
    }

    /// The command that draws the same again; `device` is what to give `--device`.
    fn command_line(&self, args: &Args, device: &str) -> String {
        let mut words = vec!["pixelcnn".to_owned(), "sample".to_owned()];
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        // Files go by their names alone: folders are nobody's business, and elsewhere on other machines.
        let name =
            |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        if let Some(path) = &args.model.model {
            add("-m", name(path));
        }
        add("-n", self.count.to_string());
        add("-b", self.batch.to_string());
        add("-s", self.seed.to_string());
        if args.class.is_some() {
            let names = &self.model.config.classes;
            let list: Vec<_> = self.classes.iter().map(|&class| class_argument(class, names)).collect();
            add("--class", list.join(","));
        }
        add("--size", format!("{}x{}", self.width, self.height));
        if self.model.precision != Precision::F32 {
            add("--precision", self.model.precision.name().to_owned());
        }
        add("--device", device.to_owned());
        match &args.each {
            Some(folder) => add("--each", name(folder)),
            None => add("-o", name(&args.output)),
        }
        if self.continuous {
            words.push("--continuous".to_owned());
        }
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    /// The text chunks of a file: what its images are, and the settings that they share.
    fn texts(&self, images: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
        let settings = [
            ("Software", concat!("pixelcnn ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("model", self.model.name.clone()),
            ("model_sha256", self.model.sha256.clone()),
            ("seed", self.seed.to_string()),
            ("size", format!("{}x{}", self.width, self.height)),
            ("precision", self.model.precision.name().to_owned()),
            ("continuous", if self.continuous { "yes" } else { "no" }.to_owned()),
            ("engine", self.engine.clone()),
            ("batch", self.batch.to_string()),
            ("command", self.command.clone()),
        ];
        [&settings, images].concat()
    }
}

/// Where the images go. Files have their names only once they are whole.
enum Target {
    Grid { path: PathBuf, grid: Grid },
    Each(NewFolder),
}

impl Target {
    /// Checks all that can be checked before there is an image.
    fn open(args: &Args, width: usize, height: usize, channels: usize) -> Result<Self> {
        let Some(path) = &args.each else {
            let is_folder =
                args.output.is_dir() || args.output.as_os_str().to_string_lossy().ends_with('/');
            if is_folder && args.output.extension().is_none_or(|e| e != "png") {
                let folder = args.output.display();
                bail!(
                    "-o {folder}: is a folder (name a file in it, or use --each {folder} for a file an image)"
                );
            }
            output::check(&args.output, "png")?;
            let grid = Grid::new(args.count, width, height, channels).with_context(|| {
                format!("a grid of {} images would take more than 1 GiB (use --each DIR)", args.count)
            })?;
            return Ok(Self::Grid { path: args.output.clone(), grid });
        };
        ensure!(!path.is_file(), "--each: {} is a file (give a folder)", path.display());
        let folder = NewFolder::create(path);
        let folder = folder.with_context(|| format!("--each: cannot create {}", path.display()))?;
        output::check(&image_file(&folder, 0), "png")?;
        Ok(Self::Each(folder))
    }

    fn put(&mut self, plan: &Plan, index: usize, levels: Vec<u8>) -> Result<()> {
        match self {
            Self::Grid { grid, .. } => grid.place(index, &levels),
            Self::Each(folder) => {
                let Plan { width, height, model, .. } = plan;
                let Config { channels, classes, .. } = &model.config;
                let image = Image { width: *width, height: *height, channels: *channels, levels };
                let mut texts = vec![("index", index.to_string())];
                texts.extend(plan.class(index).map(|class| ("class", classes[class].clone())));
                png::write(&image_file(folder, index), &image, &plan.texts(&texts))?;
            }
        }
        Ok(())
    }

    /// Writes what is not written yet, and says where everything is.
    fn finish(self, plan: &Plan) -> Result<PathBuf> {
        match self {
            Self::Grid { path, grid } => {
                let names = plan.classes.iter().map(|&class| plan.model.config.classes[class].as_str());
                let mut texts = vec![("first_index", "0".to_owned()), ("count", plan.count.to_string())];
                if !plan.classes.is_empty() {
                    texts.push(("classes", names.collect::<Vec<_>>().join(",")));
                }
                png::write(&path, &grid.into_image(), &plan.texts(&texts))?;
                Ok(path)
            }
            Self::Each(folder) => Ok(folder.path().to_owned()),
        }
    }

    /// Adds to an error what is left of the work.
    fn explain(&self, error: anyhow::Error, done: usize, count: usize) -> anyhow::Error {
        match self {
            Self::Each(folder) if done > 0 => {
                let folder = folder.path().display();
                error.context(format!("stopped after {done} of {count} images, which are in {folder}"))
            }
            _ => error,
        }
    }
}

fn image_file(folder: &NewFolder, index: usize) -> PathBuf {
    folder.path().join(format!("{index:06}.png"))
}
