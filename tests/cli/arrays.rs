//! Images as arrays of NumPy, and to stdout as an array or a picture.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shell::{Shell, read_png};

/// Runs a line of Python with numpy, that of scripts/test_python unless another is named; `None`, with a message, if there
/// is none.
fn python(folder: &Path, script: &str) -> Option<String> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python");
    let default = if Path::new(own).exists() { own } else { "python3" };
    let interpreter = std::env::var("PIXELCNN_PYTHON").unwrap_or(default.to_owned());
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
        assert_eq!([&about["first_index"], &about["count"]], ["2", &count.to_string()]);
        let recipe: serde_json::Value = serde_json::from_str(&about["recipe"]).unwrap();
        assert_eq!((&recipe["seed"], recipe["model_sha256"].as_str().unwrap().len()), (&0.into(), 64));
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

/// The bytes that a line of words writes to stdout.
fn piped(shell: &Shell, line: &str) -> Vec<u8> {
    let output = shell.command(&line.split(' ').collect::<Vec<_>>()).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_picture_to_stdout() {
    let shell = Shell::new();
    let line = "sample -m grey.safetensors -n 3 --device cpu -o";
    shell.ok(&format!("{line} a.png"));
    for name in ["-", "-.png"] {
        fs::write(shell.path("b.png"), piped(&shell, &format!("{line} {name}"))).unwrap();
        assert!(read_png(&shell.path("a.png")).0 == read_png(&shell.path("b.png")).0);
        assert!(!shell.path(name).exists());
    }
}

#[test]
fn arrays_to_stdout() {
    let shell = Shell::new();
    let line = "sample -m grey.safetensors -n 3 --device cpu -o";
    shell.ok(&format!("{line} a.npy"));
    shell.ok(&format!("{line} a.npz"));
    assert!(piped(&shell, &format!("{line} -.npy")) == fs::read(shell.path("a.npy")).unwrap());
    // A file of that name, if it is spelled as one.
    shell.ok(&format!("{line} ./-.npy"));
    assert!(fs::read(shell.path("-.npy")).unwrap() == fs::read(shell.path("a.npy")).unwrap());
    fs::remove_file(shell.path("-.npy")).unwrap();

    fs::write(shell.path("b.npz"), piped(&shell, &format!("{line} -.npz"))).unwrap();
    let script = "\
a, b = np.load('a.npz'), np.load('b.npz'); assert a.files == b.files; \
assert all((a[n] == b[n]).all() for n in ('arr_0', 'arr_1', 'nth')); \
print(a['arr_0'].shape)";
    if let Some(said) = python(shell.folder.path(), script) {
        assert_eq!(said, "(3, 10, 14, 3)\n");
    }
    // It is a share like any other.
    shell.ok("merge b.npz -o c.npy");
    assert!(fs::read(shell.path("c.npy")).unwrap() == fs::read(shell.path("a.npy")).unwrap());
    assert!(piped(&shell, "merge a.npz -o -.npy") == fs::read(shell.path("a.npy")).unwrap());
    shell.ok("sample -m grey.safetensors -n 1 --device cpu --each images");
    let line = "complete images -m grey.safetensors --rows 4 -n 2 --device cpu -o";
    shell.ok(&format!("{line} d.npy"));
    assert!(piped(&shell, &format!("{line} -.npy")) == fs::read(shell.path("d.npy")).unwrap());

    let there =
        ["a.npy", "a.npz", "b.npz", "c.npy", "d.npy", "grey.safetensors", "images", "rgb.safetensors"];
    assert_eq!(shell.files(), there);
}

/// As docs/sampling.md has it.
#[test]
fn a_notebook_reads_an_array_from_a_pipe() {
    let shell = Shell::new();
    let page = include_str!("../../docs/sampling.md");
    let (_, code) = page.split_once("```python\n").expect("the page has an example");
    let (code, _) = code.split_once("```").unwrap();
    let path = Path::new(env!("CARGO_BIN_EXE_pixelcnn")).parent().unwrap().display();
    let script = format!(
        "import os; os.environ['PATH'] = '{path}' + os.pathsep + os.environ['PATH']\n{code}\nprint(images.shape, images.dtype)"
    );
    let Some(said) = python(shell.folder.path(), &script) else { return };
    assert_eq!(said, "(16, 28, 28, 1) uint8\n");
}

#[test]
#[cfg(unix)]
fn a_reader_of_an_array_that_has_gone_is_an_error() {
    let shell = Shell::new();
    for name in ["-", "-.npy", "-.npz"] {
        let line = format!("sample -m rgb.safetensors -n 4096 --device cpu -q -o {name}");
        let output = shell.unread(&line.split(' ').collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.lines().count() == 1 && said.starts_with("error: "), "{name}: {said}");
    }
}

/// `script` gives a program a terminal.
#[test]
#[cfg(target_os = "linux")]
fn no_picture_and_no_array_to_a_terminal() {
    let shell = Shell::new();
    for (name, expected) in [
        ("-", "-o -: stdout is a terminal (name a file"),
        ("-.npy", "-o -.npy: stdout is a terminal (name a file"),
        ("-.npz", "-o -.npz: stdout is a terminal (name a file"),
    ] {
        let line = format!("{} sample -n 1 --device cpu -o {name}", env!("CARGO_BIN_EXE_pixelcnn"));
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .current_dir(shell.folder.path())
            .output();
        match output {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(said.contains(expected), "{said}");
            }
            Err(_) => eprintln!("skipped: there is no `script` here"),
        }
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
