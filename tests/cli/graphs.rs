//! Models that hold a graph: drawn, completed, measured and read back, with any number of levels.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::Value;

use crate::inspect::described;
use crate::shell::{Shell, read_png};

fn with(models: &[&str]) -> Shell {
    let shell = Shell::new();
    for name in models {
        let file = format!("{}/tests/graphs/{name}/model.safetensors", env!("CARGO_MANIFEST_DIR"));
        fs::copy(file, shell.path(&format!("{name}.safetensors"))).unwrap();
    }
    shell
}

/// 4×5 codes below `levels`; a pixel prefers values near the one to its left.
fn write_codes(path: &Path, levels: usize) {
    let mut weights = vec![0.0_f32; levels * levels];
    for (i, w) in weights.iter_mut().enumerate() {
        *w = -0.01 * (i as f32 / levels as f32 - (i % levels) as f32).abs();
    }
    let one_hot: Vec<f32> = (0..levels * levels).map(|i| f32::from(i % (levels + 1) == 0)).collect();
    let graph = serde_json::json!({
        "canvas": [4, 5, 1], "levels": levels, "encoding": [{"table": "one_hot"}],
        "nodes": [{"name": "logits", "channels": levels, "forms": [{"activation": "raw"}]}],
        "layers": [{"name": "only", "target": "logits", "taps": [
            {"source": "image", "row": 0, "column": -1, "weight": "weights"},
        ]}],
        "head": {"node": "logits", "kind": "softmax"},
    });
    let bytes = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    let (weights, one_hot) = (bytes(&weights), bytes(&one_hot));
    let view = |data| TensorView::new(Dtype::F32, vec![levels, levels], data).unwrap();
    let metadata = [("format", "pixelcnn-2"), ("version", "1.0"), ("graph", &graph.to_string())];
    let metadata: HashMap<_, _> = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let file = serialize([("weights", view(&weights)), ("one_hot", view(&one_hot))], Some(metadata));
    fs::write(path, file.unwrap()).unwrap();
}

/// Numbers of a row-major `.npy` file.
fn npy(path: &Path, descr: &str) -> Vec<u16> {
    let bytes = fs::read(path).unwrap();
    let header = String::from_utf8_lossy(&bytes[10..128]).into_owned();
    assert!(header.contains(&format!("'descr': '{descr}'")), "{header}");
    match descr {
        "|u1" => bytes[128..].iter().map(|&level| level.into()).collect(),
        _ => bytes[128..].as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect(),
    }
}

#[test]
fn few_levels_are_shades_of_a_picture_and_come_back() {
    let shell = with(&["masked_binary_real", "dilated_rows"]);
    for (model, levels, shades) in [
        ("masked_binary_real", 2, vec![0, 255]),
        ("dilated_rows", 8, (0..8).map(|i| (i * 255 + 3) / 7).collect()),
    ] {
        let draw = format!("sample -m {model}.safetensors -n 4 --device cpu");
        let said = shell.ok(&format!("{draw} -o {model}.npy")).stderr;
        assert!(said.starts_with("drawing 4 images"), "{said}");
        shell.ok(&format!("{draw} --each {model}"));
        let array = npy(&shell.path(&format!("{model}.npy")), "|u1");
        assert!(array.iter().all(|level| *level < levels) && array.contains(&(levels - 1)));
        let (image, texts) = read_png(&shell.path(&format!("{model}/000001.png")));
        assert_eq!(texts["levels"], levels.to_string());
        let of_image = array.len() / 4;
        let expected: Vec<u8> =
            array[of_image..2 * of_image].iter().map(|l| shades[usize::from(*l)] as u8).collect();
        let channels = if model == "dilated_rows" { 1 } else { 3 };
        assert!(image.as_raw().iter().copied().step_by(channels).eq(expected), "{model}");

        // Pictures and arrays are the same images.
        let bits = |images: &str| {
            let told =
                shell.ok(&format!("eval -m {model}.safetensors --device cpu {images} --csv {model}.csv"));
            assert!(!told.stderr.contains("nearest"), "{}", told.stderr);
            let table = fs::read_to_string(shell.path(&format!("{model}.csv"))).unwrap();
            table
                .lines()
                .skip(1)
                .map(|line| line.rsplit(',').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(model), bits(&format!("{model}.npy")), "{model}");
        // And again from their texts.
        let line = format!("inspect {model}/000001.png --redraw -m {model}.safetensors");
        assert!(shell.ok(&line).stdout.contains("the same"), "{}", shell.ok(&line).stdout);
    }
    // Merged shares equal the output of one process.
    shell.ok("merge dilated_rows -o merged.npz");
    shell.ok("sample -m dilated_rows.safetensors -n 4 --device cpu -o whole.npz");
    let bits = |file: &str| {
        shell.ok(&format!("eval -m dilated_rows.safetensors --device cpu {file} --json")).stdout
    };
    assert_eq!(bits("merged.npz").replace("merged", "whole"), bits("whole.npz"));
    // A shade between two levels is said.
    image::GrayImage::from_pixel(28, 28, image::Luma([100])).save(shell.path("between.png")).unwrap();
    let told = shell.ok("eval -m masked_binary_real.safetensors --device cpu between.png").stderr;
    assert!(told.contains("1 image has shades between the model's 2 levels"), "{told}");
}

#[test]
fn codes_are_arrays() {
    let shell = with(&[]);
    write_codes(&shell.path("codes.safetensors"), 300);
    let draw = "sample -m codes.safetensors -n 3 --device cpu";
    shell.ok(&format!("{draw} -o codes.npy"));
    let codes = npy(&shell.path("codes.npy"), "<u2");
    assert_eq!(codes.len(), 3 * 4 * 5);
    assert!(codes.iter().any(|code| *code > 255) && codes.iter().all(|code| *code < 300));
    shell.ok(&format!("{draw} -o codes.npz"));
    let bits = |file: &str| {
        let told = shell.ok(&format!("eval -m codes.safetensors --device cpu {file} --json")).stdout;
        let report: serde_json::Value = serde_json::from_str(&told).unwrap();
        report["mean_bits_per_dim"].as_f64().unwrap()
    };
    assert_eq!(bits("codes.npy"), bits("codes.npz"));
    // Between certain and uniform.
    assert!(bits("codes.npy") > 1.0 && bits("codes.npy") < 300_f64.log2());
    for line in [
        &format!("{draw} -o codes.png")[..],
        &format!("{draw} --each codes"),
        &format!("{draw} -o c.npy --animate codes.gif"),
    ] {
        assert!(shell.error(line).contains("images of 300 levels"), "{line}");
    }
    image::GrayImage::new(5, 4).save(shell.path("picture.png")).unwrap();
    assert!(shell.error("eval -m codes.safetensors picture.png").contains("which no picture has"));
    let complete = "complete -m codes.safetensors codes.npy --rows 1 -n 2 -s 9 --device cpu";
    assert!(shell.error(complete).contains("images of 300 levels"));
    shell.ok(&format!("{complete} -o completed.npy"));
    let completed = npy(&shell.path("completed.npy"), "<u2");
    for (k, completion) in completed.chunks(4 * 5).enumerate() {
        let image = &codes[k / 2 * 20..][..20];
        assert!(completion[..5] == image[..5] && completion != image, "completion {k}");
    }
}

#[test]
fn all_commands_take_any_network() {
    let shell = with(&["masked_7x7_classes", "gated_rgb_real", "prior_classes"]);
    shell.ok("sample -m masked_7x7_classes.safetensors -n 2 --class 3,7 --device cpu --each digits --animate d.gif");
    let told =
        shell.ok("classify -m masked_7x7_classes.safetensors --device cpu digits --csv classes.csv").stdout;
    assert!(told.contains('7'), "{told}");
    shell.ok("complete -m masked_7x7_classes.safetensors --device cpu digits --class 3 --rows 10 -n 2 --particles 2 -o c.png");
    for model in ["masked_7x7_classes", "gated_rgb_real", "prior_classes"] {
        let file = format!("{model}.safetensors");
        let told = shell.ok(&format!("verify -m {file} --device cpu")).stdout;
        assert!(told.ends_with("passed\n"), "{told}");
        let told = shell.ok(&format!("inspect -m {file} --schedule")).stdout;
        assert!(told.contains("a softmax over levels") && told.contains("layers"), "{told}");
        let described = described(&shell, &format!("-m {file}"));
        assert_eq!((&described["filters"], &described["head"]["mixtures"]), (&Value::Null, &Value::Null));
        assert!(described["layers"].as_u64() > Some(1), "{described}");
        shell.ok(&format!("inspect -m {file} --schedule --plot {model}.svg"));
        shell.ok(&format!("bench -m {file} -b 1 --device cpu --rows 1 --repeat 1 --json {model}.json"));
        shell.ok(&format!(
            "sample -m {file} -n 1 --class 0 --device cpu --temperature 0.5 --top-k 3 --min-p 0.1"
        ));
    }
    for (flags, expected) in [
        ("--truncate 0.1", "truncation: this model draws from a softmax"),
        ("--continuous", "unrounded values: this model"),
    ] {
        let said = shell.error(&format!("sample -m gated_rgb_real.safetensors --class 1 {flags}"));
        assert!(said.contains(expected), "{said}");
    }
    let said = shell.error("sample -m rgb.safetensors --top-k 3");
    assert!(said.contains("top-k: this model draws from a mixture"), "{said}");
}

/// A GPU draws from them, and is verified; those with more levels than its kernels share are refused with a sentence, and
/// `auto` takes the CPU.
#[test]
#[ignore = "needs a Vulkan adapter"]
fn a_gpu_runs_other_networks() {
    let shell = with(&["prior_swapped_masks", "gated_rgb_real"]);
    let device = crate::common::test_device();
    let told = shell.run(&[
        "sample",
        "-m",
        "gated_rgb_real.safetensors",
        "-n",
        "2",
        "--class",
        "1",
        "--device",
        &device,
    ]);
    assert!(told.code == 0 && told.stderr.contains("GPU"), "{}", told.stderr);
    let told = shell.run(&["verify", "-m", "prior_swapped_masks.safetensors", "--device", &device]);
    assert!(told.code == 0 && told.stdout.ends_with("passed\n"), "{}{}", told.stdout, told.stderr);
    assert!(told.stdout.contains("in batches of 1: cached by pixel, against CPU"), "{}", told.stdout);

    write_codes(&shell.path("many.safetensors"), 1025);
    let draw = ["sample", "-m", "many.safetensors", "-n", "1", "-o", "many.npy"];
    let refused = shell.run(&[&draw[..], &["--device", &device]].concat());
    assert_eq!(refused.code, 1);
    let reason = "the GPU engine cannot run this network: it draws from a softmax over 1025 levels";
    assert!(refused.stderr.contains(reason), "{}", refused.stderr);
    let auto = shell.run(&draw);
    assert!(auto.code == 0 && auto.stderr.contains("on CPU"), "{}", auto.stderr);
    assert!(auto.stderr.contains(reason), "{}", auto.stderr);
}
