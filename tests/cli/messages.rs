//! Messages for a stranger's mistakes: each line stands for a kind of mistake.

use std::fs;

use crate::models::File;
use crate::shell::Shell;

#[test]
fn stand_ins_and_checkpoints_as_models() {
    let shell = Shell::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 42\n";
    fs::write(shell.path("pointer.safetensors"), pointer).unwrap();
    fs::write(shell.path("page.safetensors"), "\n<!DOCTYPE html><html><title>Not found</title>").unwrap();
    fs::write(shell.path("net.pth"), b"PK\x03\x04\x00\x00").unwrap();
    fs::write(shell.path("v1.ckpt"), vec![7; 100]).unwrap();
    fs::write(shell.path("params.index"), "").unwrap();
    fs::create_dir(shell.path("folder")).unwrap();
    let mut training = File::read(&shell.path("rgb.safetensors"));
    training.metadata.insert("format".into(), "pixelcnn-training-1".into());
    training.write(&shell.path("run.ckpt"));
    training.metadata.clear();
    training.write(&shell.path("published.safetensors"));
    shell.errors(
        "errors-not-a-model",
        &[
            "sample -m pointer.safetensors",
            "eval -m page.safetensors image.png",
            "sample -m net.pth",
            "sample -m v1.ckpt",
            "inspect -m params",
            "sample -m absent.ckpt",
            "sample -m params.index",
            "sample -m run.ckpt",
            "sample -m published.safetensors",
            "sample -m folder",
        ],
    );
    fs::rename(shell.path("net.pth"), shell.path("my net.pth")).unwrap();
    let said = shell.run(&["sample", "-m", "my net.pth"]).stderr;
    assert!(said.contains("scripts/convert.py 'my net.pth' -o 'my net.safetensors'"), "{said}");
}

#[test]
fn numbers_that_are_none() {
    let shell = Shell::new();
    fs::create_dir(shell.path("folder")).unwrap();
    shell.errors(
        "errors-numbers",
        &[
            "sample --size 65536x4",
            "sample --size 4x16388",
            "sample -s -2",
            "sample -n -1",
            "sample -b -1",
            "sample --threads -1",
            "sample --threads many",
            "sample -o folder",
            "sample -o folder/",
            "sample -o new/",
            "bench --repeat -1",
            "bench --seconds -1",
            "inspect -b -1",
        ],
    );
}

#[test]
fn words_that_other_programs_take() {
    let shell = Shell::new();
    let said = shell.ok("sample --num 1 -s -1 --threads auto --device cpu").stderr;
    assert!(said.starts_with("seed: "), "{said}");
}

#[test]
fn a_batch_beyond_what_is_asked_for_does_not_have_to_fit() {
    let shell = Shell::new();
    let said = shell.ok("sample -n 2 -b 1000000000 --device cpu").stderr;
    assert!(
        said.starts_with("batch: 2 (all images; 1000000000 would not fit)\ndrawing 2 images"),
        "{said}"
    );
}

#[test]
fn a_benchmark_that_measures_nothing_is_an_error() {
    let shell = Shell::new();
    let said = shell.error("bench -b 1000000000 --device cpu --json bench.json");
    assert!(
        said.starts_with("error: nothing was measured: a batch of 1000000000 images does not"),
        "{said}"
    );
}

#[test]
fn names_of_classes_do_not_steer_the_terminal() {
    let shell = Shell::new();
    let mut file = File::read(&shell.path("grey.safetensors"));
    let count = serde_json::from_str::<Vec<String>>(&file.metadata["classes"]).unwrap().len();
    let mut names: Vec<_> = (0..count).map(|i| format!("name {i}")).collect();
    names[0] = "red\u{1b}[31m\u{9b}\nerror: forged\0".to_owned();
    file.metadata.insert("classes".into(), serde_json::to_string(&names).unwrap());
    file.write(&shell.path("evil.safetensors"));
    let steers = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');

    let said = shell.error("sample -m evil.safetensors --class nothing --device cpu");
    assert!(!steers(&said) && said.contains(r"red\u001b[31m\u009b error: forged\u0000"), "{said}");
    let said = shell.ok("inspect -m evil.safetensors").stdout;
    assert!(!steers(&said), "{said}");
    image::GrayImage::new(14, 10).save(shell.path("black.png")).unwrap();
    let said = shell.ok("eval -m evil.safetensors black.png --class 0 --device cpu").stdout;
    assert!(!steers(&said) && said.lines().count() == 3, "{said}");
    let json = shell.ok("eval -m evil.safetensors black.png --class 0 --device cpu --json").stdout;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(!steers(&json) && report["images"][0]["class"] == names[0]);
    // Nor do they keep a picture from being written.
    shell.ok("sample -m evil.safetensors -n 2 --class 0 --device cpu");
}

#[test]
fn a_full_stdout_is_an_error_and_a_full_stderr_is_none() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let shell = Shell::new();
    let run = |redirected: &str| {
        let line = format!("'{}' {redirected}", env!("CARGO_BIN_EXE_pixelcnn"));
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &line]).current_dir(shell.folder.path()).output().unwrap()
    };
    let output = run("inspect >/dev/full");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("writing to stdout: No space left"));
    if cfg!(target_os = "linux") {
        for line in ["sample -n 1 --device cpu -o - >&-", "inspect >&-"] {
            let output = run(line);
            assert_eq!(output.status.code(), Some(1), "{line}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("stdout is closed"), "{line}");
        }
        assert_eq!(run("sample -n 1 --device cpu -o - >/dev/null").status.code(), Some(0));
    }
    for streams in ["2>/dev/full", "2>&-", ">&- 2>&- <&-", "2>&1 | true"] {
        fs::remove_file(shell.path("samples.png")).unwrap_or_default();
        assert!(run(&format!("sample -n 1 --device cpu {streams}")).status.success(), "{streams}");
        assert!(shell.path("samples.png").exists() || streams.ends_with("true"), "{streams}");
    }
}

#[test]
fn what_python_does_is_told_with_the_words_that_were_typed() {
    let shell = Shell::new();
    let of = |words: &[&str]| {
        let outcome = shell.run(words);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
        outcome.stderr
    };
    let said = of(&["convert", "my net.pth", "-o", "x.safetensors"]);
    assert!(said.contains("`uv run scripts/convert.py 'my net.pth' -o x.safetensors`"), "{said}");
    assert!(said.contains("`python -m pixelcnn convert 'my net.pth' -o x.safetensors`"), "{said}");
    let said = of(&["convert"]);
    assert!(said.contains("`uv run scripts/convert.py INPUT -o OUT.safetensors`"), "{said}");
    let said = of(&["train", "pictures", "--minutes", "60", "--help"]);
    assert!(said.contains("`uv run scripts/train.py pictures --minutes 60 --help`"), "{said}");
    assert_eq!(shell.files(), ["grey.safetensors", "rgb.safetensors"]);
}
