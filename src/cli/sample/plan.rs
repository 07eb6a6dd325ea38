//! What is to be drawn, and how that is told: the command that draws it again, and the text chunks of its files.

use std::ops::Range;
use std::path::Path;

use pixelcnn::engine::{Draw, Job, Want};
use pixelcnn::model::{Model, Precision};

use super::pool::Worker;
use super::range::Shard;
use super::{Args, DEFAULT_NAME};
use crate::cli::drawing::{draw_flags, draw_texts};
use crate::cli::target::{Item, Series};
use crate::cli::{class_argument, quoted};

/// What is to be drawn, with everything that was left open decided.
pub struct Plan {
    pub model: Model,
    pub width: usize,
    pub height: usize,
    /// Indices of all images, and of those that this process draws.
    pub whole: Range<u64>,
    pub indices: Range<u64>,
    pub seed: u64,
    /// The classes that are cycled over the indices; none for an unconditional model.
    pub classes: Vec<usize>,
    pub draw: Draw,
    pub want: Want,
    /// The command that draws the same again.
    pub command: String,
}

impl Plan {
    /// The class of an image.
    pub fn class(&self, index: u64) -> Option<usize> {
        let classes = self.classes.len().max(1) as u64;
        self.classes.get((index % classes) as usize).copied()
    }

    /// What an index stands for.
    pub fn item(&self, index: u64) -> Item {
        let Some(class) = self.class(index) else {
            return Item { index, class: None, nth: index + 1 };
        };
        let length = self.classes.len() as u64;
        let count = |classes: &[usize]| classes.iter().filter(|&&c| c == class).count() as u64;
        let nth =
            index / length * count(&self.classes) + count(&self.classes[..=(index % length) as usize]);
        Item { index, class: Some((class, self.model.config.classes[class].clone())), nth }
    }

    /// What draws images of these indices.
    pub fn job(&self, indices: &[u64]) -> Job {
        let images = indices.iter().map(|&index| (index, self.class(index)));
        Job { draw: self.draw, want: self.want, ..Job::sample(self.seed, images) }
    }

    pub fn series(&self) -> Series {
        Series {
            indices: self.indices.clone(),
            width: self.width,
            height: self.height,
            channels: self.model.config.channels,
            has_classes: !self.classes.is_empty(),
        }
    }

    /// The command that draws the same again; `device` is what to give `--device`.
    pub fn command_line(&self, args: &Args, device: &str, batch: Option<usize>) -> String {
        let mut words = vec!["pixelcnn".to_owned(), "sample".to_owned()];
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        // Files go by their names alone: folders are nobody's business, and elsewhere on other machines.
        let name =
            |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        if let Some(path) = &args.model.model {
            add("-m", name(path));
        }
        if self.whole.start > 0 {
            add("--first", self.whole.start.to_string());
        }
        add("-n", (self.whole.end - self.whole.start).to_string());
        if let Some(batch) = batch {
            add("-b", batch.to_string());
        }
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
            Some(folder) => {
                add("--each", name(folder));
                if args.name != *DEFAULT_NAME {
                    add("--name", args.name.as_str().to_owned());
                }
            }
            None => {
                if let Some(Shard { part, parts }) = args.shard {
                    add("--shard", format!("{part}/{parts}"));
                }
                add("-o", name(&args.output));
            }
        }
        words.extend(draw_flags(self.draw));
        words.extend(args.show.flags());
        if let Some(path) = &args.scores {
            words.extend(["--scores".to_owned(), name(path)]);
        }
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    /// What files say of how their images were drawn, and by which of the engines.
    pub fn settings(&self, workers: &[&Worker]) -> Vec<(String, String)> {
        let joined = |of: &dyn Fn(&Worker) -> String| {
            let mut texts: Vec<_> = workers.iter().map(|worker| of(worker)).collect();
            texts.dedup();
            texts.join(" + ")
        };
        let settings = [
            ("Software", concat!("pixelcnn ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("model", self.model.name.clone()),
            ("model_sha256", self.model.sha256.clone()),
            ("seed", self.seed.to_string()),
            ("range", format!("{}-{}", self.whole.start, self.whole.end - 1)),
            ("size", format!("{}x{}", self.width, self.height)),
            ("precision", self.model.precision.name().to_owned()),
            ("engine", joined(&|worker| worker.name.clone())),
            ("batch", joined(&|worker| worker.batch.to_string())),
            ("command", self.command.clone()),
        ];
        let settings = settings.into_iter().chain(draw_texts(self.draw));
        settings.map(|(key, text)| (key.to_owned(), text)).collect()
    }

    /// What the file of all images says.
    pub fn about(&self, workers: &[&Worker]) -> Vec<(String, String)> {
        let mut texts = self.settings(workers);
        let mut add = |key: &str, text: String| texts.push((key.to_owned(), text));
        add("first_index", self.indices.start.to_string());
        add("channels", self.model.config.channels.to_string());
        add("count", (self.indices.end - self.indices.start).to_string());
        if !self.classes.is_empty() {
            let names = self.classes.iter().map(|&class| self.model.config.classes[class].as_str());
            add("classes", names.collect::<Vec<_>>().join(","));
        }
        texts
    }
}
