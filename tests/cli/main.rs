//! The command line as people meet it: the real program, in a temporary folder.
//!
//! `tests/snapshots` holds its output; `UPDATE_SNAPSHOTS=1 cargo test` writes it anew.

use pixelcnn::internals::model::Model;
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
mod inspect;
#[cfg(unix)]
mod limits;
mod merge;
mod messages;
mod models;
#[cfg(unix)]
mod outputs;
#[cfg(unix)]
mod preview;
mod random;
mod reading;
#[cfg(unix)]
mod report;
mod sample;
mod schema;
#[cfg(unix)]
mod shared;
mod shell;
mod sizes;

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
    for model in Model::shipped_names() {
        assert!(
            shell.ok(&format!("verify -m {model} --device cpu")).stdout.ends_with("passed\n"),
            "{model}"
        );
    }
    let made_up = shell.ok("verify --architecture 4x1,grey,classes=2,everywhere --device cpu").stdout;
    assert!(made_up.starts_with("model synthetic 4x1, 4 images of 32x32") && made_up.ends_with("passed\n"));
    for (spelling, name, size) in [
        ("gated:6x3@7x5k9", "gated:6x3", "7x5"),
        ("masked:6x2@7x5k3", "masked:6x2", "7x5"),
        ("prior:6x3", "prior:6x3", "8x8"),
    ] {
        let said = shell.ok(&format!("verify --architecture {spelling} --device cpu")).stdout;
        let begin = format!("model synthetic {name}, 4 images of {size}");
        assert!(said.starts_with(&begin) && said.ends_with("passed\n"), "{said}");
    }
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

/// Products that follow from the definitions of the networks, with channels that are multiples of 4.
#[test]
fn other_networks_have_the_products_of_their_definitions() {
    let shell = Shell::new();
    // The image's one channel is padded to 4. Layers of 8 channels: 7x7, then 3x3 kernels; 16 levels.
    let gated = {
        let first = 4 * (21 + 3) * 16 + 16 * 16;
        let others = (8 * (6 + 2) + 16) * 16;
        first + 2 * others + 2 * 8 * 8 + 3 * 8 * 8 + 8 * 8 + 8 * 16
    };
    let prior = gated + (8 - 4) * (21 + 3) * 16;
    let masked = 4 * 24 * 8 + 2 * 8 * 25 * 8 + 8 * 16;
    for (kind, of_pixel) in [("gated", gated), ("prior", prior), ("masked", masked)] {
        let line = format!(
            "bench --architecture {kind}:8x3@6x5k16 -b 1 --engine cached --repeat 1 --device cpu --json -"
        );
        let report: serde_json::Value = serde_json::from_str(&shell.ok(&line).stdout).unwrap();
        let architecture = &report["architecture"];
        assert_eq!(architecture["macs_per_image"], 30 * of_pixel, "{kind}");
        assert_eq!(architecture["width"], 6);
        assert_eq!(report["results"][0]["macs_counted"], report["results"][0]["macs_predicted"]);
    }
}

#[test]
#[cfg(unix)]
fn a_reader_that_has_seen_enough_is_no_error() {
    let shell = Shell::new();
    let output = shell.unread(&["inspect", "--schedule"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
