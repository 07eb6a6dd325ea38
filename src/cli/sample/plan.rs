//! What is to be drawn, and how that is told: the command that draws it again, and the text chunks of its files.

use std::path::Path;

use pixelcnn::engine::Draw;
use pixelcnn::model::{Model, Precision};

use super::Args;
use crate::cli::drawing::{draw_flags, draw_texts};
use crate::cli::{class_argument, quoted};

/// What is to be drawn, with everything that was left open decided.
pub struct Plan {
    pub model: Model,
    pub width: usize,
    pub height: usize,
    pub count: usize,
    pub batch: usize,
    pub seed: u64,
    /// The classes that are cycled over the images; none for an unconditional model.
    pub classes: Vec<usize>,
    pub draw: Draw,
    /// Engine and device, for people.
    pub engine: String,
    /// The command that draws the same again.
    pub command: String,
}

impl Plan {
    /// The class of an image.
    pub fn class(&self, image: usize) -> Option<usize> {
        self.classes.get(image % self.classes.len().max(1)).copied()
    }

    /// The command that draws the same again; `device` is what to give `--device`.
    pub fn command_line(&self, args: &Args, device: &str) -> String {
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
        words.extend(draw_flags(self.draw));
        words.extend(args.show.flags());
        if let Some(path) = &args.scores {
            words.extend(["--scores".to_owned(), name(path)]);
        }
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    /// The text chunks of a file: what its images are, and the settings that they share.
    pub fn texts(&self, images: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
        let settings = [
            ("Software", concat!("pixelcnn ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("model", self.model.name.clone()),
            ("model_sha256", self.model.sha256.clone()),
            ("seed", self.seed.to_string()),
            ("size", format!("{}x{}", self.width, self.height)),
            ("precision", self.model.precision.name().to_owned()),
            ("engine", self.engine.clone()),
            ("batch", self.batch.to_string()),
            ("command", self.command.clone()),
        ];
        [&settings[..], &draw_texts(self.draw), images].concat()
    }
}
