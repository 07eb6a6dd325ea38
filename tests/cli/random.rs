//! Random command lines: the exit code is 0, 1 or 2, nothing panics, and a failed command leaves everything
//! as it was. `scripts/fuzz` runs this for minutes.

use std::fs;

use crate::fuzzing;
use crate::shell::Shell;

/// Command lines, where no time is given.
const LINES: u64 = 60;

const COMMANDS: [&str; 10] =
    ["sample", "complete", "eval", "classify", "inspect", "bench", "verify", "devices", "draw", ""];

/// Flags with values, good ones and bad ones.
const FLAGS: [(&str, &[&str]); 22] = [
    ("-n", NUMBERS),
    ("-b", NUMBERS),
    ("-s", &["0", "random", "-1", "-2", "18446744073709551615", "18446744073709551616", "x"]),
    ("--class", &["0", "1", "0,1", "9", ",", "", "a", "-1", "cat, dog", "\u{301}", "0,,1"]),
    ("--size", &["4x4", "8x4", "0x0", "3x5", "65536x4", "4", "x", "-4x4", "4x4x4", "4X4"]),
    ("--threads", &["1", "2", "0", "auto", "1025", "-1", ""]),
    ("--precision", &["f16", "f32", "f64"]),
    ("-o", &["a.png", "a.PNG", "a.jpg", "folder", "folder/a.png", "nowhere/a.png", "", "old.png", "-"]),
    ("--each", &["new", "new/deep", "folder", "old.png", "", "."]),
    ("--params", &["a.npy", "a.txt", "folder", "nowhere/a.npy", ""]),
    ("--json", &["a.json", "a.csv", "folder", ""]),
    ("--csv", &["a.csv", "nowhere/a.csv"]),
    ("--plot", &["a.png", "a.svg", "a.gif"]),
    ("--rows", NUMBERS),
    ("--engine", &["cached", "naive", "cached,naive", "", "fast"]),
    (
        "--architecture",
        &[
            "1x1",
            "0x1",
            "5000x1",
            "published!",
            "x",
            "gated:2x2@4x4k3",
            "masked:2x1@3x5",
            "prior:2x2",
            "gated:2x2@4",
        ],
    ),
    ("-m", &["grey.safetensors", "rgb.safetensors", "mnist", "old.png", "folder", "nowhere", ""]),
    ("--continuous", &[]),
    ("--schedule", &[]),
    ("--help", &[]),
    ("--version", &[]),
    ("old.png", &[]),
];
const NUMBERS: &[&str] = &["1", "2", "3", "0", "-1", "auto", "", "x", "1e3", "99999999999999999999", " 1"];

#[test]
fn no_command_line_panics_or_leaves_halves() {
    let shell = Shell::new();
    fs::create_dir(shell.path("folder")).unwrap();
    image::GrayImage::new(14, 10).save(shell.path("old.png")).unwrap();
    let mut rng = fastrand::Rng::with_seed(fuzzing::seed());
    let mut codes = [0; 3];
    for _ in fuzzing::rounds(LINES) {
        let command = COMMANDS[rng.usize(..COMMANDS.len())];
        let mut line = vec![command];
        for _ in 0..rng.usize(..5) {
            let (flag, values) = FLAGS[rng.usize(..FLAGS.len())];
            line.push(flag);
            if !values.is_empty() && rng.u8(..20) > 0 {
                // Good ones, which come first, more often.
                line.push(values[rng.usize(..values.len()).min(rng.usize(..values.len()))]);
            }
        }
        // Little work, if it is work that was asked for.
        line.extend(match command {
            "sample" => &["-n", "1", "--device", "cpu"][..],
            "bench" => &["--seconds", "0", "--repeat", "1", "-b", "1", "--device", "cpu"],
            "complete" | "eval" | "classify" | "verify" => &["--device", "cpu"],
            _ => &[],
        });
        let before = shell.files();
        let outcome = shell.run(&line);
        assert!((0..3).contains(&outcome.code), "{line:?}: exit code {}: {}", outcome.code, outcome.stderr);
        assert!(!outcome.stderr.contains("panicked"), "{line:?}: {}", outcome.stderr);
        assert!(outcome.code == 0 || outcome.stderr.contains("rror: "), "{line:?}: {}", outcome.stderr);
        let after = shell.files();
        assert!(outcome.code == 0 || after == before, "{line:?} left {after:?}");
        assert!(!after.iter().any(|file| file.starts_with(".pixelcnn-")), "{line:?} left {after:?}");
        codes[outcome.code as usize] += 1;
    }
    println!("{} lines: {codes:?} with exit codes 0, 1, 2", codes.iter().sum::<u32>());
    assert!(codes[0] > 0 && codes[1] + codes[2] > 0, "lines of one kind only: {codes:?}");
}
