//! The completions to draw, and the texts about them in files.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::engine::devices::Devices;
use crate::engine::{Canvas, Lane, Request, Want};
use crate::model::Model;
use crate::output::grid::UNKNOWN;
use crate::output::{Image, shades};
use crate::sampling::random::Noise;
use crate::sampling::resampling::{choose, effective_sample_size};

use super::completions;
use crate::cli::counted;
use crate::cli::driver::{self, Batch, Driver, QueuedWork};
use crate::cli::progress::Progress;
use crate::cli::recipe::{self, Completed, Mask, Recipe, Run, size_text};
use crate::cli::sink::{ArraySink, Completes, Item, Series, Texts};

/// An image to be completed.
pub struct Task {
    /// Its number among all.
    pub number: usize,
    /// Its file.
    pub name: String,
    /// Of its pixels.
    pub sha256: String,
    pub width: usize,
    pub height: usize,
    /// `[H, W, C]`
    pub levels: Vec<u16>,
    /// True for each known pixel.
    pub known: Vec<bool>,
    /// The classes that are cycled over its completions; none for an unconditional model.
    pub classes: Vec<usize>,
}

impl Task {
    fn class(&self, completion: usize) -> Option<usize> {
        self.classes.get(completion % self.classes.len().max(1)).copied()
    }

    /// The known pixels that come after an unknown one.
    pub fn known_later(&self) -> impl Iterator<Item = usize> {
        let unknown = self.known.iter().position(|is_known| !is_known).unwrap_or(self.known.len());
        (unknown..self.known.len()).filter(|&pixel| self.known[pixel])
    }

    /// The file of its mask, beside its completions.
    pub fn mask_name(&self) -> String {
        format!("{:06}-mask.png", self.number)
    }

    /// Its mask, as `--mask` takes it: white is unknown, and black is known.
    pub fn mask(&self) -> Image {
        let levels = self.known.iter().map(|is_known| if *is_known { 0 } else { 255 }).collect();
        Image { width: self.width, height: self.height, channels: 1, levels }
    }
}

/// The completions to draw, with all settings decided.
pub struct CompletionPlan {
    pub model: Model,
    pub recipe: Recipe,
    /// As asked for, without the devices.
    pub run: Run,
    pub tasks: Vec<Task>,
    /// Completions of an image.
    count: usize,
    /// Candidates of a completion.
    pub particles: usize,
    /// The mask that says what is known, if one does.
    mask: Option<Mask>,
}

/// A completion.
pub struct Completion<'a> {
    pub index: u64,
    pub levels: Vec<u16>,
    /// When its first pixel was drawn, counted in pixels that were drawn in step.
    pub begun: usize,
    /// See [`effective_sample_size`].
    pub effective: f64,
    /// The texts that tell how it was drawn.
    pub settings: &'a Texts,
}

/// The engines and the batch of a run.
pub struct Told {
    pub engine: String,
    run: Run,
    batches: Vec<usize>,
}

impl CompletionPlan {
    /// Numbers the tasks in their order.
    pub fn new(model: Model, recipe: Recipe, run: Run, mut tasks: Vec<Task>, mask: Option<Mask>) -> Self {
        let (count, particles) =
            recipe.completion.as_ref().map_or((1, 1), |c| (c.completions, c.particles));
        tasks.iter_mut().enumerate().for_each(|(number, task)| task.number = number);
        Self { model, recipe, run, tasks, count, particles, mask }
    }

    /// Indices of all completions, image by image.
    pub fn indices(&self) -> Range<u64> {
        0..(self.tasks.len() * self.count) as u64
    }

    /// The completion of an index.
    pub fn item(&self, index: u64) -> Item {
        let (task, completion) = (self.task(index), index as usize % self.count);
        let nth = match (&task.classes[..], task.class(completion)) {
            (classes, Some(class)) => {
                let length = classes.len();
                let count = |classes: &[usize]| classes.iter().filter(|other| **other == class).count();
                completion / length * count(classes) + count(&classes[..=completion % length])
            }
            (_, None) => completion + 1,
        };
        let class = task.class(completion).map(|class| (class, self.model.classes()[class].clone()));
        let completes = Completes {
            image: task.number,
            completion,
            name: task.name.clone(),
            sha256: task.sha256.clone(),
        };
        Item { index, class, nth: nth as u64, size: (task.width, task.height), completes: Some(completes) }
    }

    /// The image that a completion is of.
    pub fn task(&self, index: u64) -> &Task {
        &self.tasks[index as usize / self.count]
    }

    /// Has the size of the largest image.
    pub fn series(&self) -> Series {
        let largest = |of: &dyn Fn(&Task) -> usize| self.tasks.iter().map(of).max().unwrap_or(0);
        Series {
            indices: self.indices(),
            width: largest(&|task| task.width),
            height: largest(&|task| task.height),
            channels: self.model.head().channels(),
            levels: self.model.head().levels(),
            has_classes: !self.model.classes().is_empty(),
            turns: Vec::new(),
            completions: Some(self.count),
        }
    }

    /// The files of the masks in a folder.
    pub fn masks<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = PathBuf> {
        self.tasks.iter().map(|task| folder.join(task.mask_name()))
    }

    /// Gives an array of completions the images and the masks; they are of one size there.
    pub fn add_beside(&self, array: &mut ArraySink) -> Result<()> {
        let first = &self.tasks[0];
        for task in &self.tasks {
            ensure!(
                (task.width, task.height) == (first.width, first.height),
                "an array holds images of one size, but {} is {}x{}, and {} is {}x{} (use --each DIR)",
                first.name,
                first.width,
                first.height,
                task.name,
                task.width,
                task.height
            );
        }
        array.add_images("images", self.tasks.iter().flat_map(|task| task.levels.iter().copied()));
        let mask = self.tasks.iter().flat_map(|task| task.known.iter().map(|known| u8::from(!known)));
        array.add_masks("masks", mask.collect());
        Ok(())
    }

    /// Shows what is known of each image in the first cell of its row, and the image in the last; `place` takes the
    /// position of a cell, a width and colours `[H, W, 3]`.
    pub fn show(&self, place: &mut dyn FnMut(usize, usize, &[u8])) {
        if self.model.head().levels() > 256 {
            return;
        }
        let (channels, columns) = (self.model.head().channels(), self.count + 2);
        for task in &self.tasks {
            let shades = shades(&task.levels, self.model.head().levels());
            let colour = |pixel: &[u8]| if let [r, g, b] = *pixel { [r, g, b] } else { [pixel[0]; 3] };
            let image: Vec<_> = shades.chunks(channels).map(colour).collect();
            let known = image
                .iter()
                .zip(&task.known)
                .map(|(pixel, &is_known)| if is_known { *pixel } else { UNKNOWN });
            let first = task.number * columns;
            place(first, task.width, known.collect::<Vec<_>>().as_flattened());
            place(first + columns - 1, task.width, image.as_flattened());
        }
    }

    /// The engines and the batch, before anything is drawn.
    pub fn told(&self) -> Told {
        Told { engine: String::new(), run: self.run.clone(), batches: Vec::new() }
    }

    /// The texts in the file of all completions.
    pub fn about(&self, told: &Told) -> Vec<(String, String)> {
        let completed = |task: &Task| Completed {
            name: task.name.clone(),
            size: size_text(task.width, task.height),
            classes: task.classes.clone(),
        };
        let mut batches = told.batches.clone();
        batches.dedup();
        let run = Run {
            completed: self.tasks.iter().map(completed).collect(),
            mask: self.mask.clone(),
            batch: self.run.batch.or(if let [batch] = batches[..] { Some(batch) } else { None }),
            ..told.run.clone()
        };
        let batches = batches.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let mut texts = recipe::texts(&self.recipe, &run, &self.model, told.engine.clone(), batches);
        let mut add = |key: &str, text: String| texts.push((key.to_owned(), text));
        add("images", recipe::list(self.tasks.iter().map(|task| &task.name)));
        let classes: Vec<_> = self.indices().filter_map(|index| Some(self.item(index).class?.1)).collect();
        if !classes.is_empty() {
            add("classes", recipe::list(classes));
        }
        texts
    }

    /// Draws completions, the images of one size together, and hands each over.
    pub fn draw(
        &self,
        devices: &mut [Devices],
        batch: Option<Batch>,
        missing: &[Range<u64>],
        in_order: bool,
        told: &mut Told,
        put: &mut dyn FnMut(Completion) -> Result<()>,
    ) -> Result<()> {
        // Indices of candidates, by the size of the image.
        let mut sizes: BTreeMap<(usize, usize), Lanes> = BTreeMap::new();
        let particles = self.particles as u64;
        let (mut count, mut pixels) = (0, 0);
        for task in &self.tasks {
            let first = (task.number * self.count) as u64;
            for range in missing {
                let (start, end) = (range.start.max(first), range.end.min(first + self.count as u64));
                if start < end {
                    let lanes = sizes.entry((task.width, task.height)).or_default();
                    lanes.push(start * particles..end * particles);
                    count += (end - start) as usize;
                    pixels += ((end - start) * particles) as usize * task.known.len();
                }
            }
        }
        let mut begun = 0;
        let mut progress = None;
        for (size, lanes) in sizes {
            // For as many as if none were there, so that batches and what is said of them are the same.
            let of_size = self.tasks.iter().filter(|task| (task.width, task.height) == size).count();
            let all = of_size * self.count * self.particles;
            let batch = match batch {
                Some(Batch::Images(batch)) => Some(Batch::Images(batch.min(all))),
                other => other,
            };
            let mut driver = driver::start(devices, &self.model, size, all, batch, usize::MAX)?;
            told.engine = driver.name();
            told.run.device.clone_from(&driver.device);
            told.batches.extend(driver.workers.iter().map(|worker| worker.batch));
            let progress = progress.get_or_insert_with(|| {
                let what = format!(
                    "drawing {} of {} (model {}) on {}",
                    completions(count),
                    counted(self.tasks.len()),
                    self.model.name,
                    told.engine
                );
                Progress::start(&what, count, "completions", pixels)
            });
            let of_one = driver.workers[0].batch;
            self.draw_of_size(&lanes, &mut driver, in_order, begun, &told.run, progress, put)?;
            begun += lanes.count().div_ceil(of_one) * size.0 * size.1;
        }
        Ok(())
    }

    /// Draws completions of images of one size, the first pixels of them when `begun` pixels were drawn in step before.
    #[allow(clippy::too_many_arguments, reason = "it is the body of the loop above")]
    fn draw_of_size(
        &self,
        lanes: &Lanes,
        driver: &mut Driver,
        in_order: bool,
        begun: usize,
        run: &Run,
        progress: &Progress,
        put: &mut dyn FnMut(Completion) -> Result<()>,
    ) -> Result<()> {
        let particles = self.particles;
        let (shape, batch) = (driver.workers[0].engine.shape(), driver.workers[0].batch);
        // Sizes have batches of their own, which no flag says.
        let run = Run { batch: run.batch.or(driver.batch()), ..run.clone() };
        let settings: Vec<_> = driver
            .workers
            .iter()
            .map(|worker| {
                let (engine, batch) = (worker.engine.name(), worker.batch.to_string());
                recipe::texts(&self.recipe, &run, &self.model, engine, batch)
            })
            .collect();
        let want = Want { likelihood: particles > 1, ..Want::default() };
        let work = QueuedWork {
            todo: &lanes.ranges,
            request: &|lanes| {
                Ok(Request::new(shape, self.recipe.seed, self.lanes(lanes))?
                    .drawing(self.recipe.draw)?
                    .wanting(want))
            },
            in_order: in_order || particles > 1,
            most_waiting: driver::most_waiting(shape.dimensions()),
            progress: &|more| progress.moved(more),
        };
        let (mut candidates, mut weights) = (Vec::new(), Vec::new());
        driver.drive(&work, &mut |done| {
            let index = done.index / particles as u64;
            let likelihood = |pixel: usize| done.log_likelihood.get(pixel);
            weights.push(self.task(index).known_later().filter_map(likelihood).sum());
            candidates.push((done.levels, begun + lanes.before(done.index) / batch * shape.pixels()));
            if candidates.len() < particles {
                return Ok(());
            }
            let noise = Noise::new(self.recipe.seed, index);
            let chosen = choose(&weights, noise.beyond(shape.pixels()));
            let (levels, begun) = candidates.swap_remove(chosen);
            let effective = effective_sample_size(&weights);
            candidates.clear();
            weights.clear();
            put(Completion { index, levels, begun, effective, settings: &settings[done.by] })
        })
    }

    /// Candidates by their indices; those of an image that follow each other share its pixels.
    fn lanes(&self, indices: &[u64]) -> Vec<Lane> {
        let mut last: Option<(usize, Canvas)> = None;
        let lane = |&index: &u64| {
            let completion = index / self.particles as u64;
            let task = self.task(completion);
            let canvas = match last.take() {
                Some((number, canvas)) if number == task.number => canvas,
                _ => Canvas::partial(task.levels.clone(), task.known.clone()),
            };
            last = Some((task.number, canvas.clone()));
            Lane { index, class: task.class(completion as usize % self.count), canvas }
        };
        indices.iter().map(lane).collect()
    }
}

/// Ascending indices of candidates.
#[derive(Default)]
struct Lanes {
    ranges: Vec<Range<u64>>,
    /// The number of completions before each range.
    starts: Vec<usize>,
}

impl Lanes {
    fn push(&mut self, range: Range<u64>) {
        self.starts.push(self.count());
        self.ranges.push(range);
    }

    fn count(&self) -> usize {
        let last = self.ranges.last().map_or(0, |range| (range.end - range.start) as usize);
        self.starts.last().map_or(0, |start| start + last)
    }

    /// The number of completions before an index.
    fn before(&self, index: u64) -> usize {
        let range = self.ranges.partition_point(|range| range.end <= index);
        self.starts[range] + (index - self.ranges[range].start) as usize
    }
}
