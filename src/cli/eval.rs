//! `pixelcnn eval`: how likely images are under a model, in bits per dimension.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use image::ImageReader;
use serde::Serialize;

use pixelcnn::engine::{EngineError, Job, Room, Want};
use pixelcnn::model::Model;
use pixelcnn::output::{self, NewFile, npy};
use pixelcnn::sampling::mixture;

use super::{EngineArgs, ModelArgs};

/// Measure how well a model predicts images, in bits per dimension
///
/// Images are PNG or JPEG files of any size that the network can take. Grey images go into RGB models;
/// colour images go into a grey model only if they hold no colour; alpha is accepted only if opaque.
#[derive(clap::Args)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Images, or folders of which all PNG and JPEG files are taken; all in sorted order
    #[arg(required = true, value_name = "IMAGE|DIR")]
    paths: Vec<PathBuf>,

    /// Class of the images, by name or index: one for all, or a comma list with one for each in sorted
    /// order; required by a model with classes
    #[arg(long, value_name = "LIST")]
    class: Option<String>,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    /// Also write the network's output as a NumPy array [N, H, W, parameters]; images of one size only
    #[arg(long, value_name = "OUT.npy")]
    params: Option<PathBuf>,
}

/// An image as the network takes it.
struct Input {
    path: PathBuf,
    width: usize,
    height: usize,
    /// `[H, W, C]`.
    levels: Vec<u8>,
    class: Option<usize>,
}

#[derive(Serialize)]
struct Report<'a> {
    images: Vec<ImageReport<'a>>,
    mean_bits_per_dim: f64,
}

#[derive(Serialize)]
struct ImageReport<'a> {
    path: String,
    class: Option<&'a str>,
    bits_per_dim: f64,
}

pub fn run(args: &Args) -> Result<()> {
    let model = args.model.load()?;
    if let Some(path) = &args.params {
        output::check(path, "npy")?;
    }
    let files = image_files(&args.paths)?;
    let classes = classes(args.class.as_deref(), &model, files.len())?;
    let mut inputs = Vec::new();
    for (path, class) in files.into_iter().zip(classes) {
        let (width, height, levels) = read(&path, &model).with_context(|| path.display().to_string())?;
        inputs.push(Input { path, width, height, levels, class });
    }
    let mut params = match &args.params {
        Some(path) => Some(begin_params(path, &inputs, &model)?),
        None => None,
    };
    let bits = evaluate(args, &inputs, &model, params.as_mut())?;
    if let Some(file) = params {
        file.finish()?;
    }
    report(args, &model, &inputs, &bits)
}

/// The files that are meant, in sorted order.
fn image_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        let unreadable = || format!("cannot read the folder {}", path.display());
        for entry in fs::read_dir(path).with_context(unreadable)? {
            let file = entry.with_context(unreadable)?.path();
            let extension = file.extension().unwrap_or_default().to_ascii_lowercase();
            if ["png", "jpg", "jpeg"].iter().any(|e| extension == *e) {
                files.push(file);
            }
        }
        if files.len() == before {
            bail!("there are no PNG or JPEG files in the folder {}", path.display());
        }
    }
    files.sort();
    Ok(files)
}

/// The class of each of `count` images.
fn classes(list: Option<&str>, model: &Model, count: usize) -> Result<Vec<Option<usize>>> {
    let Some(list) = list else {
        if model.config.classes.is_empty() {
            return Ok(vec![None; count]);
        }
        bail!(
            "model {} has classes: --class must say which, one for all images or a comma list with one for \
             each, of: {}",
            model.name,
            super::class_list(&model.config.classes)
        );
    };
    match &super::parse_classes(list, model)?[..] {
        [class] => Ok(vec![Some(*class); count]),
        classes if classes.len() == count => Ok(classes.iter().copied().map(Some).collect()),
        classes => bail!(
            "--class lists {} classes, and there are {count} images: expected one for all, or one for each",
            classes.len()
        ),
    }
}

/// Width, height and levels `[H, W, C]` of an image file, as the network takes them.
fn read(path: &Path, model: &Model) -> Result<(usize, usize, Vec<u8>)> {
    let file = ImageReader::open(path).context("cannot read the image")?;
    let image = file.with_guessed_format().context("cannot read the image")?;
    let image = image.decode().context("expected a PNG or JPEG image")?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    if let Some(problem) = super::size_problem(width, height, model) {
        bail!(problem);
    }
    if image.color().bits_per_pixel() > 8 * u16::from(image.color().channel_count()) {
        bail!("expected 8 bits a channel, found 16 (convert it first)");
    }
    let image = image.into_rgba8();
    if image.pixels().any(|p| p.0[3] != u8::MAX) {
        bail!("it is transparent in places (put it on a background first)");
    }
    let levels = match model.config.channels {
        3 => image.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect(),
        _ => {
            let coloured = image.enumerate_pixels().find(|(_, _, p)| p.0[0] != p.0[1] || p.0[0] != p.0[2]);
            if let Some((x, y, _)) = coloured {
                bail!(
                    "model {} is for grey images, and this one has colour at column {x}, row {y}",
                    model.name
                );
            }
            image.pixels().map(|p| p.0[0]).collect()
        }
    };
    Ok((width, height, levels))
}

/// Begins the file of `--params`.
fn begin_params(path: &Path, inputs: &[Input], model: &Model) -> Result<NewFile> {
    let first = &inputs[0];
    if let Some(other) = inputs.iter().find(|i| (i.width, i.height) != (first.width, first.height)) {
        let size = |input: &Input| format!("{} is {}x{}", input.path.display(), input.width, input.height);
        bail!("--params takes images of one size, but {}, and {}", size(first), size(other));
    }
    let shape = [inputs.len(), first.height, first.width, model.config.parameters_per_pixel()];
    let mut file = NewFile::create(path)?;
    file.reserve((shape.iter().product::<usize>() * size_of::<f32>()) as u64)?;
    file.fill(|writer| npy::write_header(writer, npy::Type::F32, &shape))?;
    Ok(file)
}

/// Bits per dimension of every image; the network's output goes to `params`.
fn evaluate(
    args: &Args,
    inputs: &[Input],
    model: &Model,
    mut params: Option<&mut NewFile>,
) -> Result<Vec<f64>> {
    let mut devices = args.engine.choose(model, inputs.len())?;
    let mut sizes: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (i, input) in inputs.iter().enumerate() {
        sizes.entry((input.width, input.height)).or_default().push(i);
    }
    let mut bits = vec![0.0; inputs.len()];
    let bar = super::progress(inputs.len(), 1);
    for ((width, height), of_size) in sizes {
        let mut engine = devices.start(model, width, height)?;
        let per_image = width * height * model.config.parameters_per_pixel();
        let most = if params.is_some() { (OUTPUT_LIMIT / per_image).max(1) } else { usize::MAX };
        let batch = super::even(of_size.len(), engine.prepare(Room::UpTo(of_size.len().min(most)))?);
        let want = Want { likelihood: true, parameters: params.is_some(), ..Want::default() };
        for indices in of_size.chunks(batch) {
            let of_batch = || indices.iter().map(|&i| &inputs[i]);
            let values: Vec<_> = of_batch().flat_map(|i| &i.levels).map(|&v| mixture::value(v)).collect();
            let classes: Vec<_> = of_batch().filter_map(|i| i.class).collect();
            let mut job = Job::evaluate(&model.config.with_size(width, height), &values, &classes, want);
            job.lanes.iter_mut().zip(indices).for_each(|(lane, &i)| lane.index = i as u64);
            let outcome = engine.run(&job, &mut |_| {}).map_err(|error| of_input(error, inputs))?;
            for (&i, of_pixels) in indices.iter().zip(outcome.log_likelihood.chunks(width * height)) {
                bits[i] = mixture::bits_per_dim_of(of_pixels, model.config.channels);
                let path = inputs[i].path.display();
                ensure!(bits[i].is_finite(), "{path}: its likelihood is not a finite number");
            }
            if let Some(file) = &mut params {
                file.fill(|writer| npy::write_values(writer, &outcome.parameters))?;
            }
            bar.inc(indices.len() as u64);
        }
    }
    bar.finish_and_clear();
    Ok(bits)
}

/// Numbers of network output that are held at a time, about: 256 MiB.
const OUTPUT_LIMIT: usize = 1 << 26;

/// An error of the engine, with the file that it is about.
fn of_input(error: EngineError, inputs: &[Input]) -> anyhow::Error {
    match error {
        EngineError::NotFinite { image, .. } => {
            let path = inputs[image as usize].path.display().to_string();
            anyhow::Error::from(error).context(path)
        }
        other => other.into(),
    }
}

fn report(args: &Args, model: &Model, inputs: &[Input], bits: &[f64]) -> Result<()> {
    let images = inputs.iter().zip(bits).map(|(input, &bits_per_dim)| ImageReport {
        path: input.path.display().to_string(),
        class: input.class.map(|class| model.config.classes[class].as_str()),
        bits_per_dim,
    });
    let report = Report {
        images: images.collect(),
        mean_bits_per_dim: bits.iter().sum::<f64>() / bits.len() as f64,
    };
    if args.json {
        return super::print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    }
    let mut text = "bits/dim  image\n".to_owned();
    for ImageReport { path, class, bits_per_dim } in &report.images {
        let class = class.map_or(String::new(), |class| format!("  (class {})", super::printable(class)));
        writeln!(text, "{bits_per_dim:8.4}  {path}{class}")?;
    }
    let count = super::counted(report.images.len());
    writeln!(text, "{:8.4}  mean of {count}", report.mean_bits_per_dim)?;
    super::print(&text)
}
