//! What is to be drawn, and how that is told: the command that draws it again, and the text chunks of its files.

use std::ops::Range;

use crate::engine::{Draw, Request, RequestError, Want};
use crate::model::Model;

use super::pool::Worker;
use super::range::Shard;
use super::{Args, DEFAULT_NAME};
use crate::cli::drawing::{Again, draw_texts, file_name, levels_text, model_texts};
use crate::cli::target::{Item, Series, turns};

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
        Item { index, class: Some((class, self.model.classes()[class].clone())), nth }
    }

    /// What draws images of these indices.
    pub fn request(&self, indices: &[u64]) -> Result<Request, RequestError> {
        let images = indices.iter().map(|&index| (index, self.class(index)));
        let shape = self.model.shape(self.width, self.height);
        Ok(Request::sample(shape, self.seed, images)?.drawing(self.draw)?.wanting(self.want))
    }

    pub fn series(&self) -> Series {
        Series {
            indices: self.indices.clone(),
            width: self.width,
            height: self.height,
            channels: self.model.head().channels(),
            levels: self.model.head().levels(),
            turns: turns(&self.classes),
        }
    }

    /// The command that draws the same again; `device` is what to give `--device`.
    pub fn command_line(&self, args: &Args, device: &str, batch: Option<usize>) -> String {
        let mut words = Vec::new();
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        if self.whole.start > 0 {
            add("--first", self.whole.start.to_string());
        }
        add("-n", (self.whole.end - self.whole.start).to_string());
        add("--size", format!("{}x{}", self.width, self.height));
        match &args.each {
            Some(folder) => {
                add("--each", file_name(folder));
                if args.name != *DEFAULT_NAME {
                    add("--name", args.name.as_str().to_owned());
                }
            }
            None => {
                if let Some(Shard { part, parts }) = args.shard {
                    add("--shard", format!("{part}/{parts}"));
                }
                add("-o", file_name(&args.output));
            }
        }
        if let Some(path) = &args.scores {
            add("--scores", file_name(path));
        }
        let again = Again {
            model: &self.model,
            path: args.model.model.as_deref(),
            batch,
            seed: self.seed,
            classes: args.class.is_some().then_some(&self.classes[..]),
            device,
            draw: self.draw,
            show: &args.show,
        };
        again.command("sample", words)
    }

    /// What files say of how their images were drawn, and by which of the engines.
    pub fn settings(&self, workers: &[&Worker]) -> Vec<(String, String)> {
        let joined = |of: &dyn Fn(&Worker) -> String| {
            let mut texts: Vec<_> = workers.iter().map(|worker| of(worker)).collect();
            texts.dedup();
            texts.join(" + ")
        };
        let [software, model, sha256, precision] = model_texts(&self.model);
        let settings = [
            software,
            model,
            sha256,
            ("seed", self.seed.to_string()),
            ("range", format!("{}-{}", self.whole.start, self.whole.end - 1)),
            ("size", format!("{}x{}", self.width, self.height)),
            precision,
            ("engine", joined(&|worker| worker.name.clone())),
            ("batch", joined(&|worker| worker.batch.to_string())),
            ("command", self.command.clone()),
        ];
        let settings = settings.into_iter().chain(levels_text(&self.model)).chain(draw_texts(self.draw));
        settings.map(|(key, text)| (key.to_owned(), text)).collect()
    }

    /// What the file of all images says.
    pub fn about(&self, workers: &[&Worker]) -> Vec<(String, String)> {
        let mut texts = self.settings(workers);
        let mut add = |key: &str, text: String| texts.push((key.to_owned(), text));
        add("first_index", self.indices.start.to_string());
        add("channels", self.model.head().channels().to_string());
        add("count", (self.indices.end - self.indices.start).to_string());
        if !self.classes.is_empty() {
            let names = self.classes.iter().map(|&class| self.model.classes()[class].as_str());
            add("classes", names.collect::<Vec<_>>().join(","));
        }
        texts
    }
}
