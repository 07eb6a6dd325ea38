//! A temporary folder with the real program in it, and expectations of the program.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::common::test_device;

/// Grey, two levels, classes `a`… Sizes are multiples of 2.
pub const GREY: &str = "own_grey_classes_2levels_r1_f12_m5_10x14";
/// RGB, three levels, no classes. Sizes are multiples of 4.
pub const RGB: &str = "rgb_elu_r1_f8_m4_8x12";

/// A temporary folder, and the program in it.
pub struct Shell {
    pub folder: TempDir,
    /// Cache folder of the program.
    pub cache: TempDir,
    /// Environment variables of the program.
    pub environment: Vec<(&'static str, String)>,
}

pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Shell {
    /// With the models `grey.safetensors` and `rgb.safetensors`.
    pub fn new() -> Self {
        let [folder, cache] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let shell = Self { folder, cache, environment: vec![] };
        for (case, name) in [(GREY, "grey"), (RGB, "rgb")] {
            let file = format!("{}/tests/golden/{case}/model.safetensors", env!("CARGO_MANIFEST_DIR"));
            fs::copy(file, shell.path(&format!("{name}.safetensors"))).unwrap();
        }
        shell
    }

    /// The same, where the program takes the adapter that GPU tests run on.
    pub fn on_gpu() -> Self {
        Self { environment: vec![("PIXELCNN_DEVICE", test_device())], ..Self::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Names of everything in the folder.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The program with a line of words, in the folder.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pixelcnn"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env_remove("COLUMNS")
            .env("XDG_CACHE_HOME", self.cache.path())
            .envs(self.environment.clone())
            .stdin(Stdio::null());
        command
    }

    /// The outcome of a program whose stdout has no reader any more.
    pub fn unread(&self, words: &[&str]) -> Output {
        let piped = |command: &mut Command| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = piped(&mut self.command(words)).unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap()
    }

    pub fn run(&self, words: &[&str]) -> Outcome {
        let output = self.command(words).output().unwrap();
        Outcome {
            code: output.status.code().expect("the program was killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a line of words, and expects it to do as asked.
    pub fn ok(&self, line: &str) -> Outcome {
        let outcome = self.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(outcome.code, 0, "{line}: {}", outcome.stderr);
        outcome
    }

    /// Runs a line of words, and expects an error, no panic, and nothing left behind.
    pub fn error(&self, line: &str) -> String {
        let before = self.files();
        let Outcome { code, stdout, stderr } = self.run(&line.split(' ').collect::<Vec<_>>());
        assert!(code == 1 || code == 2, "{line}: exit code {code}");
        assert!(stderr.contains("error: ") && !stderr.contains("panicked"), "{line}: {stderr}");
        assert_eq!(stdout, "", "{line}");
        assert_eq!(self.files(), before, "{line} left something behind, or took something away");
        stderr
    }

    /// Runs lines of words that are all wrong, and compares the messages with a snapshot.
    pub fn errors(&self, snapshot: &str, lines: &[&str]) {
        let said = lines.iter().map(|line| format!("$ pixelcnn {line}\n{}\n", self.error(line)));
        check_snapshot(snapshot, &said.collect::<String>());
    }
}

/// Waits until a program has said some words on standard error, and reads no further.
#[allow(clippy::unbuffered_bytes, reason = "a buffer would hold what comes next")]
pub fn wait_for_words(child: &mut Child, words: &str) {
    let mut said = Vec::new();
    for byte in child.stderr.as_mut().unwrap().bytes() {
        said.push(byte.unwrap());
        if said.ends_with(words.as_bytes()) {
            return;
        }
    }
    panic!("it ended before it said {words:?}: {}", String::from_utf8_lossy(&said));
}

pub fn check_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/{name}.txt"));
    let text = text.replace("pixelcnn.exe", "pixelcnn");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    let first = text.lines().zip(expected.lines()).find(|(got, expected)| got != expected);
    assert!(
        text == expected,
        "{} differs, first in (got, expected) {first:#?}; if it should, set UPDATE_SNAPSHOTS=1",
        path.display()
    );
}

/// Pixels and text chunks of a PNG file.
pub fn read_png(path: &Path) -> (image::RgbImage, BTreeMap<String, String>) {
    let pixels = image::open(path).unwrap().into_rgb8();
    let file = BufReader::new(fs::File::open(path).unwrap());
    let reader = png::Decoder::new(file).read_info().unwrap();
    let info = reader.info();
    let latin = info.uncompressed_latin1_text.iter().map(|t| (t.keyword.clone(), t.text.clone()));
    let utf8 = info.utf8_text.iter().map(|t| (t.keyword.clone(), t.get_text().unwrap()));
    let mut texts: BTreeMap<_, _> = latin.chain(utf8).collect();
    let recipe = texts.get("recipe").map(|json| serde_json::from_str(json).unwrap());
    add_settings(&recipe.unwrap_or_default(), &mut texts);
    (pixels, texts)
}

/// Adds the settings of a recipe to the other texts, whatever they are grouped by.
fn add_settings(recipe: &serde_json::Value, texts: &mut BTreeMap<String, String>) {
    for (key, value) in recipe.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Object(_) => add_settings(value, texts),
            serde_json::Value::String(text) => _ = texts.insert(key.clone(), text.clone()),
            other => _ = texts.insert(key.clone(), other.to_string()),
        }
    }
}
