//! Images as arrays of NumPy, and as one picture to stdout.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shell::{Shell, read_png};

/// Runs a line of Python with numpy; `None`, with a message, if there is none.
fn python(folder: &Path, script: &str) -> Option<String> {
    let interpreter = std::env::var("PIXELCNN_PYTHON").unwrap_or("python3".to_owned());
    let output = Command::new(interpreter)
        .args(["-c", &format!("import json, numpy as np; {script}")])
        .current_dir(folder)
        .output();
    match output {
        Ok(output) if output.status.success() => Some(String::from_utf8(output.stdout).unwrap()),
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("No module named") => {
            panic!("{}", String::from_utf8_lossy(&output.stderr))
        }
        _ => {
            eprintln!("skipped: there is no Python with numpy (PIXELCNN_PYTHON says where it is)");
            None
        }
    }
}

/// Both shapes, labels, the file's metadata, and all values.
type Arrays =
    (Vec<usize>, Vec<usize>, Option<Vec<usize>>, std::collections::BTreeMap<String, String>, Vec<u8>);

#[test]
fn numpy_reads_what_was_drawn() {
    let shell = Shell::new();
    for (model, count, size) in [("grey", 5, (14, 10)), ("rgb", 3, (12, 8))] {
        let line = format!("sample -m {model}.safetensors -n {count} --first 2 --device cpu");
        shell.ok(&format!("{line} -o {model}.npz"));
        shell.ok(&format!("{line} -o {model}.npy"));
        shell.ok(&format!("{line} --each {model}"));
        let script = format!(
            "z = np.load('{model}.npz'); a = z['arr_0']; b = np.load('{model}.npy'); \
             assert a.dtype == b.dtype == np.uint8; assert (a == b).all(); \
             c = z['arr_1'].tolist() if 'arr_1' in z else None; \
             print(json.dumps([a.shape, b.shape, c, json.loads(z['pixelcnn'].item()), a.reshape(-1).tolist()]))"
        );
        let Some(said) = python(shell.folder.path(), &script) else { return };
        let (shape, flat, labels, about, values): Arrays = serde_json::from_str(&said).unwrap();
        assert_eq!(shape, [count, size.1, size.0, 3]);
        assert_eq!(flat, [count, size.1, size.0, if model == "rgb" { 3 } else { 1 }]);
        assert_eq!(
            [&about["seed"], &about["first_index"], &about["count"]],
            ["0", "2", &count.to_string()]
        );
        assert_eq!(about["model_sha256"].len(), 64);
        for (i, image) in values.chunks(values.len() / count).enumerate() {
            let (pixels, texts) = read_png(&shell.path(&format!("{model}/{:06}.png", i + 2)));
            assert!(pixels.as_raw() == image, "{model} {i}");
            let label = labels.as_ref().map(|labels| labels[i].to_string());
            assert_eq!(label.as_ref(), texts.get("class_index"));
        }
        assert_eq!(labels.is_some(), model == "grey");
    }
}

#[test]
fn an_empty_share_is_an_empty_array() {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 1 --shard 0/2 --device cpu -o a.npz");
    let Some(said) = python(shell.folder.path(), "print(np.load('a.npz')['arr_0'].shape)") else { return };
    assert_eq!(said, "(0, 10, 14, 3)\n");
}

#[test]
fn a_picture_to_stdout() {
    let shell = Shell::new();
    let line = "sample -m grey.safetensors -n 3 --device cpu -o";
    shell.ok(&format!("{line} a.png"));
    let output = Command::new(env!("CARGO_BIN_EXE_pixelcnn"))
        .args(format!("{line} -").split(' '))
        .current_dir(shell.folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    fs::write(shell.path("b.png"), output.stdout).unwrap();
    assert!(read_png(&shell.path("a.png")).0 == read_png(&shell.path("b.png")).0);
    assert!(!shell.path("-").exists());
}

/// `script` gives a program a terminal.
#[test]
#[cfg(target_os = "linux")]
fn no_picture_to_a_terminal() {
    let shell = Shell::new();
    let line = format!("{} sample -n 1 --device cpu -o -", env!("CARGO_BIN_EXE_pixelcnn"));
    let output =
        Command::new("script").args(["-qec", &line, "/dev/null"]).current_dir(shell.folder.path()).output();
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("-o -: stdout is a terminal"), "{said}");
        }
        Err(_) => eprintln!("skipped: there is no `script` here"),
    }
}

/// The system's limit for a program's memory.
#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_count() {
    let shell = Shell::new();
    let peak = |count: usize| {
        let line = format!(
            "'{}' sample -m rgb.safetensors --size 64x64 -n {count} -b 8 --first 1 --device cpu -o a.npz & p=$!; \
             while kill -0 $p 2>/dev/null; do grep VmHWM /proc/$p/status || true; sleep 0.02; done",
            env!("CARGO_BIN_EXE_pixelcnn")
        );
        let output =
            Command::new("sh").args(["-c", &line]).current_dir(shell.folder.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let kilobytes =
            text.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
        kilobytes.max().unwrap()
    };
    let (few, many) = (peak(32), peak(512));
    // The images alone would take 6 MB more.
    assert!(many < few + 4000, "{few} kB for 32 images, {many} kB for 512");
}
