//! `pixelcnn sample` in parts: shares of the images, names, and continuing a stopped run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::shell::{Shell, read_png};

/// Everything in a folder, by name.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect()
}

fn start(shell: &Shell, line: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pixelcnn"))
        .args(line.split(' '))
        .current_dir(shell.folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn shares_make_the_whole() {
    let shell = Shell::new();
    let line = "sample -m grey.safetensors --class 1,0,0 -b 2 --first 3 --device cpu --threads 1";
    for (count, parts) in [(7, 3), (2, 5)] {
        let (whole, shares) = (format!("whole{count}"), format!("shares{count}"));
        shell.ok(&format!("{line} -n {count} --each {whole}"));
        let mut empty = 0;
        for part in 0..parts {
            let said =
                shell.ok(&format!("{line} -n {count} --each {shares} --shard {part}/{parts}")).stderr;
            empty +=
                usize::from(said == format!("no images: there are {count} for all processes together\n"));
        }
        assert_eq!(empty, parts - usize::min(parts, count));
        // The command of an image tells of all, so that files are the same.
        let mut expected = contents(&shell.path(&whole));
        for (name, bytes) in contents(&shell.path(&shares)) {
            let (pixels, mut texts) = read_png(&shell.path(&format!("{shares}/{name}")));
            let (whole_pixels, whole_texts) = read_png(&shell.path(&format!("{whole}/{name}")));
            for key in ["command", "run"] {
                let text = texts[key].replace(&shares, &whole);
                texts.insert(key.to_owned(), text);
            }
            assert!(pixels == whole_pixels && texts == whole_texts, "{name}");
            assert!(!bytes.is_empty() && expected.remove(&name).is_some());
        }
        assert!(expected.is_empty(), "{:?}", expected.keys());
    }
    let (_, texts) = read_png(&shell.path("whole7/000005.png"));
    let texts = ["index", "class_index", "nth", "range"].map(|key| texts[key].as_str());
    // Classes 1, 0, 0, 1, 0, 0: image 5 is the fourth of class 0.
    assert_eq!(texts, ["5", "0", "4", "3-9"]);
}

#[test]
fn names_are_those_of_the_template() {
    let shell = Shell::new();
    let line = "sample -m grey.safetensors -n 4 --class 0,1 --device cpu --each flat --name";
    shell.ok(&format!("{line} {{class_index}}_image_{{nth:02}}.png"));
    let names: Vec<_> = contents(&shell.path("flat")).into_keys().collect();
    assert_eq!(names, ["0_image_01.png", "0_image_02.png", "1_image_01.png", "1_image_02.png"]);
    let line = line.replace("flat", "deep");
    shell.ok(&format!("{line} {{class}}/{{index}}.png"));
    let mut folders: Vec<_> =
        fs::read_dir(shell.path("deep")).unwrap().map(|f| f.unwrap().path()).collect();
    folders.sort();
    assert_eq!(folders.len(), 2);
    assert_eq!(contents(&folders[1]).into_keys().collect::<Vec<_>>(), ["1.png", "3.png"]);
}

#[test]
fn killed_and_resumed_it_is_as_if_it_had_not_been() {
    let shell = Shell::new();
    // Large enough that a fast machine does not end before it is killed.
    let line = "sample -m rgb.safetensors -n 300 -s 5 --size 64x48 --device cpu --threads 1";
    shell.ok(&format!("{line} --each unbroken"));
    fs::rename(shell.path("unbroken"), shell.path("expected")).unwrap();
    let mut kills = 0;
    for milliseconds in [30, 90, 60] {
        let is_begun = shell.path("unbroken").exists();
        let mut child = start(&shell, &format!("{line} --each unbroken --resume -b {}", 2 + kills));
        while !is_begun && !shell.path("unbroken/000003.png").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended too early");
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
    }
    assert_eq!(kills, 3, "it was stopped while it drew");
    let there = contents(&shell.path("unbroken")).keys().filter(|name| !name.starts_with('.')).count();
    assert!((4..300).contains(&there), "{there}");
    // A power failure may leave this.
    fs::write(shell.path("unbroken/000001.png"), "").unwrap();
    let said = shell.ok(&format!("{line} --each unbroken --resume")).stderr;
    let expected = format!("{} of 300 images are there already; 1 not whole, drawn again\n", there - 1);
    assert!(said.starts_with(&expected), "{said}");

    let (expected, found) = (contents(&shell.path("expected")), contents(&shell.path("unbroken")));
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for name in expected.keys() {
        let [expected, found] = ["expected", "unbroken"].map(|folder| {
            let (pixels, mut texts) = read_png(&shell.path(&format!("{folder}/{name}")));
            for key in ["batch", "command", "run"] {
                texts.remove(key);
            }
            (pixels, texts)
        });
        assert!(expected == found, "{name}");
    }
    let same = expected.iter().filter(|(name, bytes)| found[*name] == **bytes).count();
    assert!(same >= 300 - there, "the batch does not depend on what was there: {same}");

    let said = shell.ok(&format!("{line} --each unbroken --resume")).stderr;
    assert_eq!(said, "300 of 300 images are there already\n");
}

#[test]
fn other_images_are_not_taken_for_those_that_were_asked_for() {
    let shell = Shell::new();
    let line = "sample -m grey.safetensors --device cpu --each a --resume";
    shell.ok(&format!("{line} -n 3"));
    let before = contents(&shell.path("a"));
    for (flags, why) in [
        ("-n 3 -s 1", "its seed is 0, expected 1"),
        ("-n 3 --class 2", "its class is"),
        ("-n 3 --size 8x8", "its size is 14x10, expected 8x8"),
        ("-n 3 --continuous", "its continuous is false, expected true"),
        ("-n 3 --precision f16", "its precision is f32, expected f16"),
        ("-n 1 --first 1 --name 000000.png", "its index is 0, expected 1"),
    ] {
        let said = shell.error(&format!("{line} {flags}"));
        assert!(said.contains("--resume: a/000000.png is another image: ") && said.contains(why), "{said}");
        assert_eq!(contents(&shell.path("a")), before);
    }
    fs::copy(shell.path("a/000000.png"), shell.path("a/000002.png")).unwrap();
    let said = shell.error(&format!("{line} -n 5"));
    assert!(said.contains("a/000002.png is another image: its index is 0, expected 2"), "{said}");
    let said = shell.ok(&format!("{line} -n 3 --overwrite")).stderr;
    assert!(
        said.starts_with("2 of 3 images are there already; 1 of other images, overwritten\n"),
        "{said}"
    );
    assert_eq!(contents(&shell.path("a")), before);
    // A picture that says nothing of itself.
    image::GrayImage::new(14, 10).save(shell.path("a/000001.png")).unwrap();
    let said = shell.error(&format!("{line} -n 3"));
    assert!(said.contains("a/000001.png is another image: it does not say which"), "{said}");
    // A longer run continues a shorter one.
    shell.ok(&format!("{line} -n 3 --overwrite"));
    let said = shell.ok(&format!("{line} -n 5")).stderr;
    assert!(said.starts_with("3 of 5 images are there already\n"), "{said}");
}

#[test]
fn two_processes_in_one_folder() {
    let shell = Shell::new();
    let line = "sample -m rgb.safetensors -n 60 --device cpu --threads 1 --each a --resume";
    for line in [line, &line.replace(" --resume", "").replace("--each a", "--each b")] {
        let mut children = [0, 1].map(|_| start(&shell, line));
        assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    }
    assert_eq!(contents(&shell.path("a")).len(), 60);
    for (name, _) in contents(&shell.path("a")) {
        let pictures = ["a", "b"].map(|folder| read_png(&shell.path(&format!("{folder}/{name}"))).0);
        assert!(pictures[0] == pictures[1], "{name}");
    }
}

#[test]
fn a_folder_that_goes_away_is_made_anew_and_what_went_with_it_is_drawn_again() {
    let shell = Shell::new();
    let line = "sample -m rgb.safetensors --size 64x48 -n 300 -b 2 --device cpu --threads 1 --each a";
    let mut child = Command::new(env!("CARGO_BIN_EXE_pixelcnn"))
        .args(line.split(' '))
        .current_dir(shell.folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !shell.path("a/000003.png").exists() {
        assert!(child.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(2));
    }
    fs::rename(shell.path("a"), shell.path("b")).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    // The file that was being written when the folder went stays in it.
    let gone = contents(&shell.path("b")).keys().filter(|name| !name.starts_with('.')).count();
    let expected = format!("warning: a vanished while images were drawn; {gone} images are drawn again\n");
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains(&format!("{} images (64x48, model rgb)", 300 + gone)), "{said}");
    assert_eq!(contents(&shell.path("a")).len(), 300);
    // A table has a row of each image, and not two of those that are drawn again.
    fs::remove_dir_all(shell.path("a")).unwrap();
    let mut child = start(&shell, &format!("{line} --scores s.csv"));
    while !shell.path("a/000003.png").exists() {
        assert!(child.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(2));
    }
    fs::rename(shell.path("a"), shell.path("c")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(contents(&shell.path("a")).len(), 300);
    let table = fs::read_to_string(shell.path("s.csv")).unwrap();
    let indices: Vec<_> = table.lines().skip(1).map(|row| row.split(',').next().unwrap()).collect();
    assert_eq!(indices, (0..300).map(|index| index.to_string()).collect::<Vec<_>>());
}

#[test]
fn several_devices_draw_the_same() {
    let shell = Shell::new();
    let line = "sample -m grey.safetensors -n 21 -b 4";
    shell.ok(&format!("{line} --device cpu -o one.npy"));
    let said = shell.ok(&format!("{line} --device cpu,cpu -o two.npy --threads 2")).stderr;
    assert!(said.starts_with("drawing 21 images (14x10, model grey) on CPU"), "{said}");
    assert_eq!(said.lines().last().unwrap().matches("CPU").count(), 2, "{said}");
    assert_eq!(fs::read(shell.path("one.npy")).unwrap(), fs::read(shell.path("two.npy")).unwrap());
    let mut with_variable = Shell::new();
    with_variable.environment = vec![("PIXELCNN_DEVICE", "cpu,cpu".to_owned())];
    with_variable.ok(&format!("{line} --each a"));
    assert_eq!(contents(&with_variable.path("a")).len(), 21);
    let (_, texts) = read_png(&with_variable.path("a/000020.png"));
    assert!(texts["command"].contains("--device cpu,cpu"), "{}", texts["command"]);
    assert!(!texts["engine"].contains(" + "), "an image is of one engine");
    crate::models::exploding(&shell);
    let said = shell.error("sample -m exploding.safetensors -n 20 -b 4 --device cpu,cpu");
    assert!(said.contains("warning: CPU") && said.contains("stopped, and the others take over"), "{said}");
    assert!(said.contains("error: the network gave NaN or infinity"), "{said}");
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_gpu_and_the_cpu_share_the_work() {
    let mut shell = Shell::on_gpu();
    shell.environment[0].1 += ",cpu";
    let line = "sample -m grey.safetensors -n 40 -b 4";
    shell.ok(&format!("{line} --device cpu --each one"));
    shell.ok(&format!("{line} --each two"));
    let mut engines = BTreeMap::<String, usize>::new();
    let mut different = 0;
    for name in contents(&shell.path("one")).keys() {
        let (pixels, _) = read_png(&shell.path(&format!("one/{name}")));
        let (same, texts) = read_png(&shell.path(&format!("two/{name}")));
        different += usize::from(pixels != same);
        *engines.entry(texts["engine"].clone()).or_default() += 1;
    }
    assert_eq!(engines.len(), 2, "{engines:?}");
    // Rounding differs, and a pixel that comes out otherwise changes all after it; it seldom does.
    assert!(different <= 4, "{different} of 40 images differ");
    shell.ok(&format!("{line} --device all-gpus -o all.png"));
    let said = shell.error("bench -m grey.safetensors -b 1");
    assert!(said.contains("expected one device"), "{said}");
}

#[test]
fn several_devices_evaluate_and_complete_the_same() {
    let shell = Shell::new();
    for (size, first) in [("8x12", 0), ("12x8", 7)] {
        shell.ok(&format!(
            "sample -m grey.safetensors -n 7 --first {first} --size {size} --device cpu --each images --overwrite"
        ));
    }
    let on = |devices: &str, name: &str| {
        let flags = format!("-m grey.safetensors --device {devices} --threads 2");
        shell.ok(&format!("eval images {flags} --class 0 --csv {name}-eval.csv"));
        shell
            .ok(&format!("eval images/000001.png images/000002.png {flags} --class 0 --params {name}.npy"));
        shell.ok(&format!("classify images {flags} --scores {name}-scores.npy"));
        shell.ok(&format!("complete images {flags} --box 2,1,4x3 --particles 3 -n 2 -b 4 -o {name}.png"));
        let said = shell.ok(&format!("complete images {flags} --rows 3 -n 2 -b 4 --each {name}")).stderr;
        let last = said.lines().last().unwrap();
        assert_eq!(last.matches("CPU").count(), devices.matches("cpu").count(), "{said}");
        let [table, params, scores] = ["-eval.csv", ".npy", "-scores.npy"]
            .map(|end| fs::read(shell.path(&format!("{name}{end}"))).unwrap());
        let each = contents(&shell.path(name)).into_keys();
        let each: Vec<_> = each.map(|file| read_png(&shell.path(&format!("{name}/{file}"))).0).collect();
        // Two completions and a mask of each.
        assert_eq!(each.len(), 42);
        (table, params, scores, read_png(&shell.path(&format!("{name}.png"))).0, each)
    };
    assert!(on("cpu", "one") == on("cpu,cpu", "two"));
}

#[test]
fn flags_that_make_no_sense_in_parts() {
    let shell = Shell::new();
    shell.errors(
        "errors-parts",
        &[
            "sample --first 18446744073709551600",
            "sample --first -1",
            "sample --shard 3/3",
            "sample --shard 0/0",
            "sample --shard -1/2",
            "sample --shard 1",
            "sample --each a --name all.png",
            "sample --each a --name {class}.png",
            "sample --each a --name {nth}.png",
            "sample --each a --name ../{index}.png",
            "sample --each a --name /tmp/{index}.png",
            "sample --each a --name {seed}.png",
            "sample --each a --name {index}.jpg",
            "sample --each a --name {index",
            "sample -m rgb.safetensors --each a --name {class}{nth}.png",
            "sample --name {index}.png",
            "sample --resume",
            "sample --overwrite",
            "sample --each a -o b.npz",
            "sample --device cpu,auto",
            "sample --device cpu,",
        ],
    );
    // The list after that differs from machine to machine.
    let said = shell.error("sample --device cpu,cpu2");
    assert!(said.starts_with("error: there is no device \"cpu2\""), "{said}");
    assert_eq!(shell.ok("sample -m grey.safetensors -n 1 --device cpu --quiet").stderr, "");
}
