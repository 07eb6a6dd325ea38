//! `scripts/device-report`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::test_device;
use crate::shell::Shell;

fn report(shell: &Shell, program: &str, words: &[&str]) -> Output {
    Command::new("bash")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/device-report"))
        .args(words)
        .current_dir(shell.folder.path())
        .envs([("PIXELCNN", program), ("PIXELCNN_DEVICE", &test_device())])
        .output()
        .unwrap()
}

#[test]
fn what_is_wrong_is_said_before_anything_is_made() {
    let shell = Shell::new();
    let before = shell.files();
    let right = env!("CARGO_BIN_EXE_pixelcnn");
    for (program, words, expected) in [
        (right, &["--minutes", "0"][..], "--minutes 0: expected a whole number"),
        (right, &["--minutes"], "a value is missing"),
        (right, &["--fast"], "--fast is unknown; usage: "),
        ("nowhere/pixelcnn", &[], "there is no nowhere/pixelcnn"),
    ] {
        let output = report(&shell, program, words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{words:?}: {said}");
    }
    assert_eq!(shell.files(), before);
}

/// With a program that does a part of its work, some of it on the CPU, fails at the rest, and hangs once.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_report_has_what_went_well_and_what_did_not() {
    let shell = Shell::new();
    let program = shell.path("program");
    let script = format!(
        "#!/bin/sh\ncase $* in\n*6x2*) export PIXELCNN_DEVICE=cpu ;;\nesac\n\
         case $* in\n--version | devices* | *6x2* | *\"16x1 --engine cached -b 1 \"*)\n\
         exec '{}' \"$@\" ;;\n*\"-b 64 \"*--profile*) exec sleep 100 ;;\nesac\n\
         echo 'error: \"made\tup\"' >&2\nexit 3\n",
        env!("CARGO_BIN_EXE_pixelcnn")
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let start = Instant::now();
    let output = report(&shell, "./program", &["--minutes", "1", "-o", "made/here"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}");
    // A command that hangs for 100 seconds was ended.
    assert!(start.elapsed() < Duration::from_secs(100), "{:?}", start.elapsed());

    let read = |name: &str| fs::read_to_string(shell.path(&format!("made/here/{name}"))).unwrap();
    let (json, page) = (read("report.json"), read("report.md"));
    let json: Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error} in {json}"));
    let steps = json["steps"].as_array().unwrap();
    let step = |words: &str| {
        let is_it = |step: &&Value| step["command"].as_str().unwrap().contains(words);
        steps.iter().find(is_it).unwrap_or_else(|| panic!("{words} is missing"))
    };
    let devices = step("devices");
    assert_eq!((&devices["state"], &devices["exit_code"]), (&"ok".into(), &0.into()));
    assert!(devices["result"]["devices"][1]["max_buffer_size"].as_u64() > Some(0), "{devices}");
    let failed = step("bench --architecture published --engine cached -b 1 ");
    assert_eq!((&failed["state"], &failed["exit_code"]), (&"failed".into(), &3.into()));
    assert_eq!((&failed["message"], &failed["result"]), (&"error: \"made\tup\"".into(), &Value::Null));
    let command = failed["command"].as_str().unwrap();
    assert!(page.contains(&format!("- `{command}`: failed, exit code 3: error: \"made\tup\"\n")), "{page}");
    let late = step("-b 64 --seconds 1 --repeat 1 --profile");
    assert!(late["state"] == "late" && late["seconds"].as_f64() < Some(20.0), "{late}");
    // Larger batches than one that failed.
    for line in ["published --engine cached -b 256", "16x1 --engine naive -b 128"] {
        let is_it = |command: &&Value| command.as_str().unwrap().contains(line);
        let command = json["left_out"].as_array().unwrap().iter().find(is_it).expect(line);
        assert!(page.contains(&format!("- {}\n", command.as_str().unwrap())), "{page}");
    }

    // Each step that went well has its row, and the others have none.
    let mut well = 0;
    for step in steps {
        let (command, is_ok) = (step["command"].as_str().unwrap(), step["state"] == "ok");
        well += usize::from(is_ok);
        assert!(["ok", "failed", "late"].contains(&step["state"].as_str().unwrap()), "{step}");
        let row = match command.split(' ').nth(1) {
            Some("verify") => {
                let words = command.trim_start_matches("pixelcnn verify ").trim_end_matches(" --json");
                format!("| `{words}` | true | ")
            }
            Some("bench") if !command.contains("--profile") => {
                let words: Vec<_> = command.split(' ').collect();
                format!("| `{}` | {} | ", words[2..6].join(" "), words[7])
            }
            _ => continue,
        };
        assert_eq!(page.contains(&row), is_ok, "{row}\n{page}");
        assert_eq!(step["result"].is_object(), is_ok, "{step}");
    }
    // Not the devices alone.
    assert!(well > 1, "{page}");
    let counts = format!("{} steps, of which {well} went well", steps.len());
    assert!(page.contains(&counts), "{counts}\n{page}");

    let output = report(&shell, "./program", &["-o", "made/here"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("is there already"), "{said}");
}
