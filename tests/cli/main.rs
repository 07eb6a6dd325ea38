//! The command line as people meet it: the real program, in a temporary folder.
//!
//! `tests/snapshots` holds what it says; `UPDATE_SNAPSHOTS=1 cargo test` writes it anew.

use std::process::{Command, Stdio};

use shell::{Shell, check_snapshot};

mod arrays;
mod bench;
mod classify;
#[path = "../common/mod.rs"]
mod common;
mod complete;
mod devices;
mod eval;
mod faults;
#[cfg(unix)]
mod files;
mod finding;
mod folders;
#[path = "../common/fuzzing.rs"]
mod fuzzing;
mod graphs;
#[cfg(unix)]
mod limits;
mod merge;
mod messages;
mod models;
#[cfg(unix)]
mod outputs;
mod random;
mod reading;
#[cfg(unix)]
mod report;
mod sample;
#[cfg(unix)]
mod shared;
mod shell;

#[test]
fn help() {
    let shell = Shell::new();
    let lines = [
        "--help",
        "sample --help",
        "complete --help",
        "eval --help",
        "classify --help",
        "verify --help",
        "inspect --help",
        "merge --help",
        "bench --help",
        "devices --help",
        "models --help",
        "completions --help",
        "man --help",
    ];
    let said = lines.map(|line| format!("$ pixelcnn {line}\n{}\n", shell.ok(line).stdout));
    check_snapshot("help", &said.concat());
}

#[test]
fn verify_says_what_it_compared() {
    let shell = Shell::new();
    for model in ["grey", "rgb"] {
        let report = shell.ok(&format!("verify -m {model}.safetensors --device cpu --json")).stdout;
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["passed"], true);
        let comparisons = report["comparisons"].as_array().unwrap();
        assert!(comparisons[0]["largest_error"].as_f64().unwrap() <= 1e-4);
        assert_eq!(comparisons[1]["largest_error"], 0.0);
        assert_eq!(report["not_made"].as_array().unwrap().len(), 1);
    }
    let made_up = shell.ok("verify --architecture 4x1,grey,classes=2,everywhere --device cpu").stdout;
    assert!(made_up.starts_with("model synthetic 4x1, 4 images of 32x32") && made_up.ends_with("passed\n"));
}

#[test]
fn inspect_shows_model_and_schedule() {
    let shell = Shell::new();
    let text = shell.ok("inspect -m rgb.safetensors --schedule -b 16").stdout;
    check_snapshot("inspect", &text);
    for name in shell.ok("inspect").stdout.lines().filter(|line| line.starts_with("classes")) {
        assert_eq!(name, "classes        4: plain, glasses, hat, beard");
    }
}

#[test]
#[cfg(unix)]
fn a_reader_that_has_seen_enough_is_no_error() {
    let shell = Shell::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pixelcnn"))
        .args(["inspect", "--schedule"])
        .current_dir(shell.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
