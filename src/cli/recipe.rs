//! Recipes of images: as JSON in files, compared, drawn again, and as a command line.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::Draw;
use crate::model::{Model, Precision};
use crate::output::software;

use super::drawing::Captions;
use super::sample::Shard;
use super::sink::{Texts, text};
use super::{class_argument, quoted};

/// Everything that decides the pixels of an image of a given index and class. Runs of one recipe go together, however
/// they are shared among machines, devices and batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub model_sha256: String,
    /// Of the weights.
    pub precision: String,
    /// As [`size_text`] has it; completions have the sizes of their images.
    pub size: Option<String>,
    /// Levels of a channel.
    pub levels: usize,
    pub seed: u64,
    pub draw: Draw,
    pub completion: Option<Completion>,
}

/// The settings that decide completions of an image, beside the image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// The flag that says which pixels are known, without its dashes, and its value.
    pub known: String,
    /// Of the pixels of the mask, where one says what is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_sha256: Option<String>,
    pub completions: usize,
    pub particles: usize,
}

/// An image that was completed, as the sheet of its completions knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completed {
    pub name: String,
    /// As [`size_text`] has it.
    pub size: String,
    /// The classes that were cycled over its completions.
    pub classes: Vec<usize>,
}

/// A mask, as lengths of runs in raster order that are known and unknown in turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// As [`size_text`] has it.
    pub size: String,
    pub runs: Vec<u32>,
}

/// The images of a recipe that a command makes, its device, and its way to show them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// The name of the model file, or of the built-in model; none for the default.
    pub model: Option<String>,
    /// The images that are completed, and the flags that say more of them.
    pub inputs: Vec<String>,
    pub array: Option<String>,
    pub labels: Option<String>,
    pub no_recursive: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub native_size: bool,
    /// The texts of a sheet of completions about its rows and the mask.
    pub completed: Vec<Completed>,
    pub mask: Option<Mask>,
    /// Index of the first image, and how many images all shares have together.
    pub first: u64,
    pub count: usize,
    pub shard: Option<Shard>,
    /// The classes that are cycled, if they were listed.
    pub classes: Option<Vec<usize>>,
    /// Images at once, if all were drawn in batches of one size.
    pub batch: Option<usize>,
    /// The value for `--device`.
    pub device: String,
    /// The file of all images, or the folder for one each, and the template of names in it.
    pub output: Option<String>,
    pub each: Option<String>,
    pub name: Option<String>,
    pub scores: Option<String>,
    pub animate: Option<String>,
    /// The side in pixels of the square that a pixel becomes in a grid.
    pub scale: usize,
    pub captions: Captions,
}

/// Keywords of the texts that hold them.
const RECIPE: &str = "recipe";
const RUN: &str = "run";

impl Recipe {
    pub fn new(model: &Model, seed: u64, draw: Draw) -> Self {
        Self {
            model_sha256: model.sha256.clone(),
            precision: model.precision.name().to_owned(),
            size: None,
            levels: model.head().levels(),
            seed,
            draw,
            completion: None,
        }
    }

    /// The recipe of a file.
    pub fn of(texts: &Texts) -> Result<Self> {
        match text(texts, RECIPE) {
            Some(json) => serde_json::from_str(json).context("its recipe is none of this version"),
            None => Self::of_older(texts),
        }
    }

    /// The recipe of a file from before there were recipes, which has a text for each setting.
    fn of_older(texts: &Texts) -> Result<Self> {
        let said = |key: &str| text(texts, key).with_context(|| format!("it does not say its {key}"));
        let number = |key: &str, default: f32| text(texts, key).map_or(Ok(default), str::parse);
        let whole = |key: &str, default: usize| text(texts, key).map_or(Ok(default), str::parse);
        Ok(Self {
            model_sha256: said("model_sha256")?.to_owned(),
            precision: text(texts, "precision").unwrap_or(Precision::F32.name()).to_owned(),
            size: Some(said("size")?.to_owned()),
            levels: whole("levels", 256)?,
            seed: said("seed")?.parse()?,
            draw: Draw {
                temperature: number("temperature", 1.0)?,
                top_k: whole("top_k", 0)?,
                min_p: number("min_p", 0.0)?,
                truncation: number("truncation", 0.0)?,
                continuous: said("continuous")? == "yes",
            },
            completion: None,
        })
    }

    /// The first setting that differs from another recipe's, with both values.
    pub fn difference(&self, found: &Self) -> Option<String> {
        let (expected, found) = (leaves(&json(self)), leaves(&json(found)));
        let of = |leaves: &[(String, Value)], key: &str| {
            let found = leaves.iter().find(|(other, _)| other == key);
            found.map_or("nothing".to_owned(), |(_, value)| plain(value))
        };
        let keys = expected.iter().chain(&found).map(|(key, _)| key);
        let mut pairs = keys.map(|key| (key, of(&expected, key), of(&found, key)));
        let (key, expected, found) = pairs.find(|(_, expected, found)| expected != found)?;
        Some(format!("its {key} is {found}, expected {expected}"))
    }
}

impl Run {
    /// The run of a file, if it says it.
    pub fn of(texts: &Texts) -> Result<Option<Self>> {
        let run = text(texts, RUN).map(serde_json::from_str).transpose();
        run.context("its run is none of this version")
    }

    /// True if it makes a picture of all images.
    fn has_grid(&self) -> bool {
        let is_array = |name: &str| name.ends_with(".npz") || name.ends_with(".npy");
        self.animate.is_some() || self.output.as_ref().is_some_and(|name| !is_array(name))
    }

    /// The command line that makes the same again, for people.
    fn command(&self, recipe: &Recipe, model: &Model) -> String {
        let mut words = vec!["pixelcnn".to_owned()];
        words.push(if recipe.completion.is_some() { "complete" } else { "sample" }.to_owned());
        let mut add = |flag: &str, value: String| match value.starts_with('-') {
            true => words.push(format!("{flag}={value}")),
            false => words.extend([flag.to_owned(), value]),
        };
        let names = |classes: &Vec<usize>| {
            let names = classes.iter().map(|&class| class_argument(class, model.classes()));
            names.collect::<Vec<_>>().join(",")
        };
        let Draw { continuous, temperature, truncation, min_p, top_k } = recipe.draw;
        // A default value needs no flag.
        let unless = |default: f32, value: f32| (value != default).then(|| value.to_string());
        let completion = recipe.completion.as_ref();
        let (known, value) = completion.and_then(|c| c.known.split_once(' ')).unzip();
        let known = format!("--{}", known.unwrap_or_default());
        let captions = Some(self.captions).filter(|when| *when != Captions::Auto);
        let options = [
            ("-m", self.model.clone()),
            ("--array", self.array.clone()),
            ("--labels", self.labels.clone()),
            ("--first", (self.first > 0).then(|| self.first.to_string())),
            (&known, value.map(str::to_owned)),
            ("-n", Some(completion.map_or(self.count, |c| c.completions).to_string())),
            ("--particles", completion.filter(|c| c.particles > 1).map(|c| c.particles.to_string())),
            ("--size", recipe.size.clone()),
            ("--each", self.each.clone()),
            ("--name", self.name.clone()),
            ("--shard", self.shard.map(|Shard { part, parts }| format!("{part}/{parts}"))),
            ("-o", self.output.clone()),
            ("--scores", self.scores.clone()),
            ("-b", self.batch.map(|batch| batch.to_string())),
            ("-s", Some(recipe.seed.to_string())),
            ("--class", self.classes.as_ref().map(names)),
            ("--precision", Some(recipe.precision.clone()).filter(|name| name != Precision::F32.name())),
            ("--device", Some(self.device.clone())),
            ("--temperature", unless(1.0, temperature)),
            ("--truncate", unless(0.0, truncation)),
            ("--min-p", unless(0.0, min_p)),
            ("--top-k", (top_k > 0).then(|| top_k.to_string())),
            ("--scale", Some(self.scale.to_string()).filter(|_| self.has_grid())),
            ("--captions", captions.filter(|_| self.has_grid()).and_then(value_name)),
            ("--animate", self.animate.clone()),
        ];
        options.into_iter().for_each(|(flag, value)| _ = value.map(|value| add(flag, value)));
        let switches = [
            ("--continuous", continuous),
            ("--no-recursive", self.no_recursive),
            ("--native-size", self.native_size),
        ];
        words.extend(switches.into_iter().filter(|(_, is_on)| *is_on).map(|(flag, _)| flag.to_owned()));
        // After it, nothing is a flag.
        words.extend(self.inputs.iter().any(|name| name.starts_with('-')).then(|| "--".to_owned()));
        words.extend(self.inputs.clone());
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// The texts in files that tell how their images were made; `engine` and `batch` are for people.
pub fn texts(
    recipe: &Recipe,
    run: &Run,
    model: &Model,
    engine: String,
    batch: String,
) -> Vec<(String, String)> {
    let texts = [
        software(),
        ("model", model.name.clone()),
        ("engine", engine),
        ("batch", batch),
        (RECIPE, json(recipe)),
        (RUN, json(run)),
        ("command", run.command(recipe, model)),
    ];
    texts.map(|(key, text)| (key.to_owned(), text)).into()
}

/// Has texts of a run say how its grid is shown.
pub fn tell_frame(texts: &mut [(String, String)], scale: usize, captions: Captions) {
    for (_, text) in texts.iter_mut().filter(|(key, _)| key == RUN) {
        if let Ok(run) = serde_json::from_str::<Run>(text) {
            *text = json(&Run { scale, captions, ..run });
        }
    }
}

/// The value of a flag as the command line spells it.
fn value_name(value: impl ValueEnum) -> Option<String> {
    Some(value.to_possible_value()?.get_name().to_owned())
}

/// A size as `--size` takes it.
pub fn size_text(width: usize, height: usize) -> String {
    format!("{width}x{height}")
}

/// Parses it.
pub fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let parse = |(width, height): (&str, &str)| Some((width.parse().ok()?, height.parse().ok()?));
    text.split_once(['x', 'X'])
        .and_then(parse)
        .ok_or("expected width and height in pixels, such as 32x32".into())
}

/// A file by its name alone: folders are elsewhere on other machines.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// As JSON, without what is not there. A missing field is none, or as by default.
fn json(of: &impl Serialize) -> String {
    let is_there = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
    // By way of a text, for numbers of 32 bits have fewer digits there.
    let text = serde_json::to_string(of).expect("plain data has a JSON text");
    let mut fields: serde_json::Map<_, _> = serde_json::from_str(&text).expect("it was written as one");
    fields.retain(|_, value| is_there(value));
    Value::from(fields).to_string()
}

/// The settings of a JSON text, each with its value, whatever they are grouped by.
fn leaves(json: &str) -> Vec<(String, Value)> {
    fn add(leaves: &mut Vec<(String, Value)>, key: &str, value: Value) {
        match value {
            Value::Object(fields) => fields.into_iter().for_each(|(key, value)| add(leaves, &key, value)),
            // Without the fraction of whole numbers.
            Value::Number(number) if number.is_f64() => {
                let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e15);
                leaves.push((key.to_owned(), whole.map_or(number.into(), |n| (n as i64).into())));
            }
            other => leaves.push((key.to_owned(), other)),
        }
    }
    let mut found = Vec::new();
    add(&mut found, "", serde_json::from_str(json).unwrap_or_default());
    found
}

/// The value of a setting, for people.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number.as_f64().unwrap_or_default().to_string(),
        other => other.to_string(),
    }
}

/// The settings of a file's recipe, with their values; none if it has no recipe that this version knows.
pub fn settings(texts: &Texts) -> Vec<(String, Value)> {
    match text(texts, RECIPE) {
        Some(json) => leaves(json),
        None => Recipe::of_older(texts).map_or(Vec::new(), |recipe| leaves(&json(&recipe))),
    }
}

/// The texts of a file without its recipe, and without its run, which is a command too.
pub fn without_recipe(texts: &Texts) -> Vec<(String, String)> {
    texts.iter().filter(|(key, _)| ![RECIPE, RUN].contains(&key.as_str())).cloned().collect()
}

/// The texts of a file, for people: its recipe setting by setting, and its run as a command alone.
pub fn shown(texts: &Texts) -> Vec<(String, String)> {
    let shown = |(key, text): &(String, String)| match key.as_str() {
        RECIPE => leaves(text).into_iter().map(|(key, value)| (key, plain(&value))).collect(),
        RUN => Vec::new(),
        _ => vec![(key.clone(), text.clone())],
    };
    texts.iter().flat_map(shown).collect()
}

/// Names as one text, with commas between them; those with a comma or a quote in them are quoted as in a CSV file.
pub fn list(names: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(names).expect("a vector takes what it is given");
    let mut bytes = writer.into_inner().expect("a vector takes what it is given");
    bytes.pop(); // the end of the line
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The names of such a text.
pub fn listed(text: &str) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let first = reader.records().next().and_then(Result::ok);
    first.iter().flatten().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use crate::model::Config;

    use super::*;

    fn model() -> Model {
        Model::synthetic(Config::published(1, 1).with_classes(&["-x", "a b", "c"]), 0)
    }

    fn recipe() -> Recipe {
        let draw = Draw { temperature: 0.9, ..Draw::default() };
        Recipe { size: Some(size_text(8, 6)), ..Recipe::new(&model(), 1, draw) }
    }

    #[test]
    fn what_decides_pixels_is_compared() {
        let first = recipe();
        let files = |run: &Run| texts(&first, run, &model(), "CPU".to_owned(), "4".to_owned());
        for run in [Run::default(), Run { device: "gpu".to_owned(), first: 3, ..Run::default() }] {
            let texts = files(&run);
            assert_eq!(Recipe::of(&texts).unwrap(), first);
            assert_eq!(Run::of(&texts).unwrap(), Some(run));
        }
        assert_eq!(first.difference(&first), None);
        let differs = |other: Recipe| first.difference(&other).unwrap();
        assert_eq!(differs(Recipe { seed: 2, ..first.clone() }), "its seed is 2, expected 1");
        let draw = Draw { temperature: 1.0, ..first.draw };
        assert_eq!(differs(Recipe { draw, ..first.clone() }), "its temperature is 1, expected 0.9");
        assert_eq!(differs(Recipe { size: None, ..first.clone() }), "its size is nothing, expected 8x6");
        // A setting that this version does not know decides pixels too.
        let newer = json(&first).replace("\"seed\"", "\"sharpness\":3,\"seed\"");
        let error = Recipe::of(&[(RECIPE.to_owned(), newer)]).unwrap_err();
        assert!(format!("{error:#}").contains("sharpness"), "{error:#}");
        assert!(Recipe::of(&[]).is_err());
    }

    #[test]
    fn lists_of_names_come_back() {
        for (names, text) in [
            (&["a"][..], "a"),
            (&["plain", "a b", "猫", " c "], "plain,a b,猫, c "),
            (&["cat, or dog", "bird"], "\"cat, or dog\",bird"),
            (&["a \"b\"", "two\nlines"], "\"a \"\"b\"\"\",\"two\nlines\""),
        ] {
            assert_eq!(list(names), text);
            assert_eq!(listed(text), names);
        }
    }

    #[test]
    fn names_with_dashes_and_blanks_stay_names() {
        let run = Run {
            model: Some("-m model".to_owned()),
            count: 5,
            classes: Some(vec![0, 1]),
            device: "cpu".to_owned(),
            output: Some("-o.png".to_owned()),
            scale: 3,
            captions: Captions::Auto,
            ..Run::default()
        };
        let command = run.command(&recipe(), &model());
        let expected = "pixelcnn sample '-m=-m model' -n 5 --size 8x6 -o=-o.png -s 1 '--class=-x,a b' --device cpu \
            --temperature 0.9 --scale 3";
        assert_eq!(command, expected);
        let completion =
            Completion { known: "rows 3".to_owned(), mask_sha256: None, completions: 2, particles: 1 };
        let recipe = Recipe { completion: Some(completion), size: None, ..recipe() };
        let run = Run { inputs: vec!["-in.png".to_owned()], labels: Some("l.csv".to_owned()), ..run };
        let command = run.command(&recipe, &model());
        assert!(
            command.starts_with("pixelcnn complete '-m=-m model' --labels l.csv --rows 3 -n 2"),
            "{command}"
        );
        assert!(command.ends_with(" --temperature 0.9 --scale 3 -- -in.png"), "{command}");
    }
}
