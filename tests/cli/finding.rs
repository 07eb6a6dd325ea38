//! A stranger's first steps: built-in models, completions, manual pages, and the level of messages.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::shell::Shell;

/// A shell's completions for the last word of a line.
fn offered(shell: &Shell, line: &str) -> Vec<String> {
    let mut words = vec!["--", "pixelcnn"];
    words.extend(line.split(' '));
    let environment = [&[("PIXELCNN_COMPLETE", "fish".to_owned())], &shell.environment[..]].concat();
    let output = Command::new(env!("CARGO_BIN_EXE_pixelcnn"))
        .args(words)
        .current_dir(shell.folder.path())
        .envs(environment)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn shells_are_offered_commands_flags_models_devices_and_classes() {
    let shell = Shell::new();
    for (name, word) in [
        ("bash", "complete -o"),
        ("zsh", "#compdef pixelcnn"),
        ("fish", "complete --keep-order"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let said = shell.ok(&format!("completions {name}")).stdout;
        assert!(said.contains(word) && said.contains("PIXELCNN_COMPLETE"), "{name}: {said}");
    }
    assert_eq!(offered(&shell, "sam"), ["sample"]);
    assert!(offered(&shell, "sample --over").contains(&"--overwrite".to_owned()));
    assert_eq!(offered(&shell, "sample -m ava"), ["avatars", "avatars-gated"]);
    assert!(offered(&shell, "sample -m gr").contains(&"grey.safetensors".to_owned()));
    assert_eq!(offered(&shell, "sample --device au"), ["auto"]);
    assert_eq!(offered(&shell, "sample --device cpu,c"), ["cpu,cpu"]);
    assert_eq!(offered(&shell, "sample --class pl"), ["plain"]);
    assert_eq!(offered(&shell, "sample -m grey.safetensors --class 3,2"), ["3,2"]);
    // A model without classes, and none.
    assert_eq!(offered(&shell, "sample -m rgb.safetensors --class a"), [""; 0]);
    assert_eq!(offered(&shell, "sample -m nowhere --class a"), [""; 0]);
}

#[test]
fn manual_pages_are_clean() {
    let shell = Shell::new();
    shell.ok("man pages");
    let page = fs::read_to_string(shell.path("pages/pixelcnn-sample.1")).unwrap();
    assert!(page.contains(r"\-\-resume") && page.contains(".TH PIXELCNN-SAMPLE 1 "), "{page}");
    let pages = fs::read_dir(shell.path("pages")).unwrap().map(|file| file.unwrap().path());
    let pages: Vec<_> = pages.collect();
    assert!(pages.len() > 10 && shell.path("pages/pixelcnn.1").exists());
    match Command::new("mandoc").args(["-T", "lint"]).args(&pages).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
        Err(_) => eprintln!("skipped: there is no mandoc"),
    }
}

#[test]
fn built_in_models_are_listed() {
    let shell = Shell::new();
    let said = shell.ok("models").stdout;
    assert!(said.contains("\nmnist ") && said.contains("28x28 grey"), "{said}");
    assert!(said.contains("without -m, avatars is taken"), "{said}");
    let json: Value = serde_json::from_str(&shell.ok("models --json").stdout).unwrap();
    let models = json["models"].as_array().unwrap();
    let default: Vec<_> = models.iter().filter(|model| model["is_default"] == true).collect();
    assert_eq!((default.len(), &default[0]["name"]), (1, &"avatars".into()));
    // Another common name of the command.
    assert_eq!(shell.ok("list").stdout, said);
    let model: Value = serde_json::from_str(&shell.ok("inspect --json").stdout).unwrap();
    assert_eq!(model["model"], "avatars");
    let devices: Value = serde_json::from_str(&shell.ok("devices --json").stdout).unwrap();
    assert_eq!(devices["devices"][0]["device"], "cpu");
}

/// They are most of its size.
#[test]
fn the_program_holds_each_model_once() {
    let program = fs::read(env!("CARGO_BIN_EXE_pixelcnn")).unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/cifar10.safetensors");
    let part = &fs::read(model).unwrap()[100_000..100_064];
    assert_eq!(program.windows(part.len()).filter(|bytes| *bytes == part).count(), 1);
}

#[test]
fn errors_are_coloured_where_that_is_wanted() {
    let said = |variables: &[(&'static str, &str)]| {
        let environment = variables.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        Shell { environment, ..Shell::new() }.run(&["sample", "-m", "nowhere"]).stderr
    };
    let red = "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m model nowhere";
    assert!(said(&[("CLICOLOR_FORCE", "1")]).contains(red));
    assert!(said(&[]).starts_with("error: model nowhere"));
    let both = said(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
    assert!(both.starts_with("error: model nowhere"), "{both:?}");
}
