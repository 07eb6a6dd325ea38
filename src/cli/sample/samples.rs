//! The images to draw, checked, and the texts about them in files.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

use crate::engine::queue::Worker;
use crate::engine::{Request, RequestError, Want};
use crate::model::Model;

use super::range::{self, Shard};
use crate::cli::counted;
use crate::cli::driver::{self, Done, Driver, QueuedWork};
use crate::cli::progress::Progress;
use crate::cli::recipe::{self, Recipe, Run, parse_size};
use crate::cli::sink::{Item, Series, images_of, turns};

/// The images to draw, with all settings decided except the device.
pub struct SamplePlan {
    pub model: Model,
    pub recipe: Recipe,
    pub run: Run,
    pub width: usize,
    pub height: usize,
    /// Indices of all images, and of those that this process draws.
    pub whole: Range<u64>,
    pub indices: Range<u64>,
    /// The classes that are cycled over the indices; none for an unconditional model.
    pub classes: Vec<usize>,
    want: Want,
}

impl SamplePlan {
    /// Checks that the model can draw it. All processes of a run that writes a file an image have the same `run`,
    /// whichever their share.
    pub fn new(model: Model, recipe: Recipe, run: Run, shard: Option<Shard>) -> Result<Self> {
        model.head().check(&recipe.draw)?;
        let size = recipe.size.as_deref().context("its size is missing")?;
        let (width, height) = parse_size(size).map_err(anyhow::Error::msg)?;
        if let Some(problem) = crate::cli::size_problem(width, height, &model) {
            bail!("--size: {problem}");
        }
        let known = model.classes().len();
        let classes = run.classes.clone().unwrap_or_else(|| (0..known).collect());
        ensure!(
            classes.iter().all(|class| *class < known),
            "--class: model {} has {known} classes",
            model.name
        );
        let whole = range::indices(run.first, run.count).with_context(|| {
            format!("--first {}: {} more would pass the last index, {}", run.first, run.count, u64::MAX - 1)
        })?;
        let indices = shard.map_or(whole.clone(), |shard| shard.of(&whole));
        let want = Want { likelihood: run.scores.is_some(), ..Want::default() };
        Ok(Self { model, recipe, run, width, height, whole, indices, classes, want })
    }

    /// The class of an image.
    pub fn class(&self, index: u64) -> Option<usize> {
        let classes = self.classes.len().max(1) as u64;
        self.classes.get((index % classes) as usize).copied()
    }

    /// The image of an index.
    pub fn item(&self, index: u64) -> Item {
        let Some(class) = self.class(index) else {
            return Item { index, nth: index + 1, size: (self.width, self.height), ..Item::default() };
        };
        let length = self.classes.len() as u64;
        let count = |classes: &[usize]| classes.iter().filter(|&&c| c == class).count() as u64;
        let nth =
            index / length * count(&self.classes) + count(&self.classes[..=(index % length) as usize]);
        let class = Some((class, self.model.classes()[class].clone()));
        Item { index, class, nth, size: (self.width, self.height), completes: None }
    }

    /// The request that draws the images of these indices.
    pub fn request(&self, indices: &[u64]) -> Result<Request, RequestError> {
        let images = indices.iter().map(|&index| (index, self.class(index)));
        let shape = self.model.shape(self.width, self.height);
        Ok(Request::sample(shape, self.recipe.seed, images)?.drawing(self.recipe.draw)?.wanting(self.want))
    }

    pub fn series(&self) -> Series {
        Series {
            indices: self.indices.clone(),
            width: self.width,
            height: self.height,
            channels: self.model.head().channels(),
            levels: self.model.head().levels(),
            has_classes: !self.classes.is_empty(),
            turns: self.turns(),
            completions: None,
        }
    }

    /// The classes that take turns, from the first image on.
    fn turns(&self) -> Vec<(usize, String)> {
        let count = turns(&self.classes).len() as u64;
        (0..count).filter_map(|i| self.item(self.indices.start.checked_add(i)?).class).collect()
    }

    /// Draws images of these indices.
    pub fn draw(
        &self,
        indices: &[Range<u64>],
        driver: &mut Driver,
        in_order: bool,
        put: &mut dyn FnMut(Done) -> Result<()>,
    ) -> Result<()> {
        let (count, pixels) = (images_of(indices), self.width * self.height);
        let what = format!(
            "drawing {} ({}x{}, model {}) on {}",
            counted(count),
            self.width,
            self.height,
            self.model.name,
            driver.name()
        );
        let progress = Progress::start(&what, count, "images", count * pixels);
        let work = QueuedWork {
            todo: indices,
            request: &|indices| self.request(indices),
            in_order,
            most_waiting: driver::most_waiting(self.series().bytes()),
            progress: &|more| progress.moved(more),
        };
        driver.drive(&work, put)
    }

    /// The texts in files that tell how images were drawn in a run, and by which engines.
    pub fn settings(&self, run: &Run, workers: &[&Worker]) -> Vec<(String, String)> {
        let joined = |of: &dyn Fn(&Worker) -> String| {
            let mut texts: Vec<_> = workers.iter().map(|worker| of(worker)).collect();
            texts.dedup();
            texts.join(" + ")
        };
        let (engine, batch) =
            (joined(&|worker| worker.engine.name()), joined(&|worker| worker.batch.to_string()));
        let mut texts = recipe::texts(&self.recipe, run, &self.model, engine, batch);
        texts.push(("range".to_owned(), format!("{}-{}", self.whole.start, self.whole.end - 1)));
        texts
    }

    /// The texts in the file of all images.
    pub fn about(&self, run: &Run, workers: &[&Worker]) -> Vec<(String, String)> {
        let mut texts = self.settings(run, workers);
        let mut add = |key: &str, text: String| texts.push((key.to_owned(), text));
        add("first_index", self.indices.start.to_string());
        add("channels", self.model.head().channels().to_string());
        add("count", (self.indices.end - self.indices.start).to_string());
        if !self.classes.is_empty() {
            let names = self.classes.iter().map(|&class| self.model.classes()[class].as_str());
            add("classes", recipe::list(names));
        }
        texts
    }
}
