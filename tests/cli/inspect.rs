//! `pixelcnn inspect --json`, which is data as docs/inspect.schema.json describes it.

use std::fs;

use serde_json::{Value, json};

use crate::schema::{assert_valid, read, violation};
use crate::shell::{Shell, read_png};

/// Its output for a model or a picture.
pub fn described(shell: &Shell, words: &str) -> Value {
    let said = shell.ok(&format!("inspect {words} --json")).stdout;
    let described = serde_json::from_str(&said).unwrap();
    assert_valid("inspect", &described);
    described
}

#[test]
fn models_are_described_as_bench_measures_them() {
    let shell = Shell::new();
    for model in [
        "-m grey.safetensors",
        "-m avatars-gated",
        "--architecture 6x1,levels=1",
        "--architecture masked:4x2@6x4",
    ] {
        let model_facts = described(&shell, &format!("{model} -b 3"));
        let line =
            format!("bench {model} -b 3 --engine cached --seconds 0 --repeat 1 --device cpu --json -");
        let report: Value = serde_json::from_str(&shell.ok(&line).stdout).unwrap();
        let expected = &report["architecture"];
        assert_eq!(model_facts["model"], expected["name"]);
        for key in [
            "width",
            "height",
            "channels",
            "parameters",
            "precision",
            "macs_per_image",
            "gpu_dispatches_per_batch",
            "naive_gpu_dispatches_per_batch",
            "weights_read_per_batch",
            "values_moved_per_image",
        ] {
            assert_eq!(model_facts[key], expected[key], "{model} {key}");
        }
        if expected["levels"].is_u64() {
            for key in ["filters", "blocks", "levels", "dilations", "nonlinearity"] {
                assert_eq!(model_facts[key], expected[key], "{model} {key}");
            }
            assert_eq!(model_facts["head"]["mixtures"], expected["mixtures"]);
        }
        assert_eq!(model_facts["classes"].as_array().unwrap().len(), expected["classes"]);
        let (width, height) = (expected["width"].as_u64().unwrap(), expected["height"].as_u64().unwrap());
        let macs = expected["macs_per_image"].as_u64().unwrap();
        assert_eq!(model_facts["naive_macs_per_image"], macs * width * height);
    }
    let caches = |batch| {
        described(&shell, &format!("-m grey.safetensors -b {batch}"))["cache_bytes"].as_u64().unwrap()
    };
    assert_eq!(caches(7), 7 * caches(1));
}

#[test]
fn what_a_model_file_says_is_there() {
    let shell = Shell::new();
    let model = described(&shell, "-m avatars");
    assert_eq!(model["classes"], json!(["plain", "glasses", "hat", "beard"]));
    assert!(model["bits_per_dim"].is_f64() && model["steps"].is_u64(), "{model}");
    assert_eq!((&model["training"]["size"], &model["training"]["palette"]), (&16.into(), &true.into()));
    assert_eq!((&model["license"], &model["family"]), (&"CC0-1.0".into(), &"pixelcnn++".into()));
    assert_eq!(model["head"]["levels"], 256);
    let gated = described(&shell, "-m avatars-gated");
    assert_eq!(
        (&gated["filters"], &gated["blocks"], &gated["levels"]),
        (&32.into(), &5.into(), &Value::Null)
    );
}

#[test]
fn pictures_are_described_by_numbers_and_lists() {
    let shell = Shell::new();
    let sample = "sample -m grey.safetensors -s 5 --size 8x6 --device cpu --temperature 0.9 --first 2";
    shell.ok(&format!("{sample} -n 5 --class 1,0 --scores scores.csv -o grid.png"));
    let grid = described(&shell, "grid.png");
    for (key, expected) in [
        ("seed", json!(5)),
        ("temperature", json!(0.9)),
        ("min_p", json!(0)),
        ("continuous", json!(false)),
        ("size", json!([8, 6])),
        ("batch", json!(5)),
        ("range", json!([2, 6])),
        ("first_index", json!(2)),
        ("count", json!(5)),
        ("channels", json!(1)),
        ("precision", json!("f32")),
        ("model", json!("grey")),
    ] {
        assert_eq!(grid[key], expected, "{key}");
    }
    assert_eq!(grid["classes"].as_array().unwrap().len(), 2);
    assert!(grid["bits_per_dim"].is_f64(), "{grid}");
    let text = shell.ok("inspect grid.png").stdout;
    for key in grid.as_object().unwrap().keys() {
        assert!(text.lines().any(|line| line.split(' ').next() == Some(key)), "{key}: {text}");
    }

    shell.ok(&format!("{sample} -n 5 --each images"));
    let image = described(&shell, "images/000003.png");
    let (_, texts) = read_png(&shell.path("images/000003.png"));
    assert_eq!((&image["index"], &image["nth"].to_string()), (&3.into(), &texts["nth"]));
    assert_eq!(
        (&image["class"], &image["class_index"].to_string()),
        (&texts["class"].as_str().into(), &texts["class_index"])
    );

    fs::rename(shell.path("images/000003.png"), shell.path("images/a, b.png")).unwrap();
    let complete = "complete images -m grey.safetensors --class 0 --box 1,2,4x3 -n 2 --device cpu";
    shell.ok(&format!("{complete} -b 4 --particles 3 -o completions.png"));
    let sheet = described(&shell, "completions.png");
    let names = json!(["000002.png", "000004.png", "000005.png", "000006.png", "a, b.png"]);
    assert_eq!((&sheet["images"], &sheet["known"]), (&names, &"box 1,2,4x3".into()));
    assert_eq!((&sheet["completions"], &sheet["particles"]), (&2.into(), &3.into()));
    assert_eq!(sheet["effective_sample_size"].as_array().unwrap().len(), 10);
    shell.ok(&format!("{complete} --each completed"));
    let completion = described(&shell, "completed/000001-1.png");
    assert_eq!((&completion["image_index"], &completion["completion"]), (&1.into(), &1.into()));
    assert_eq!(completion["size"], Value::Null);
    // Of an older version.
    for (name, count) in [("grid", json!(5)), ("000005", Value::Null)] {
        let older = described(&shell, &format!("{}/tests/older/{name}.png", env!("CARGO_MANIFEST_DIR")));
        assert_eq!((&older["seed"], &older["count"], &older["size"]), (&7.into(), &count, &json!([8, 6])));
    }
}

/// The checks above are none if the schema lets anything through.
#[test]
fn the_schema_refuses_what_is_wrong() {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 2 --device cpu -o grid.png");
    let (model, picture) = (described(&shell, "-m grey.safetensors"), described(&shell, "grid.png"));
    type Change = fn(&mut Value);
    let changes: [(&Value, Change); 8] = [
        (&model, |model| model["parameters"] = "985918, 3.9 MB in memory".into()),
        (&model, |model| model["classes"] = "2: a, b".into()),
        (&model, |model| model["head"]["more"] = 1.into()),
        (&model, |model| model["more"] = 1.into()),
        (&model, |model| _ = model.as_object_mut().unwrap().remove("head")),
        (&picture, |picture| picture["seed"] = "0".into()),
        (&picture, |picture| picture["range"] = "0-1".into()),
        (&picture, |picture| picture["size"] = "14x10".into()),
    ];
    for (right, change) in changes {
        let mut wrong = right.clone();
        change(&mut wrong);
        assert!(violation(&read("inspect"), &wrong, "").is_some(), "{wrong}");
    }
}
