//! Images of another size than the model was trained on: resized as training does, and said.
//! `tests/python/test_sizes.py` tests that training makes the same pixels.

use std::fs;

use image::{DynamicImage, GrayImage, Luma, RgbImage};
use libjpeg_turbo_rs::{PixelFormat, Subsampling};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::shell::{Shell, read_png};

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The picture of `tests/python/record_resized.py`.
fn recorded_source(width: u32, height: u32) -> RgbImage {
    let level = |x: u32, y: u32, c: u32| {
        ((x * x * 7 + y * 13 * (x + 1) + y * y * 3 + c * 50 + (x * y % 3) * 100) % 256) as u8
    };
    RgbImage::from_fn(width, height, |x, y| image::Rgb([0, 1, 2].map(|c| level(x, y, c))))
}

impl Shell {
    fn save(&self, name: &str, image: impl Into<DynamicImage>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        image.into().save(self.path(name)).unwrap();
    }

    /// The output of `eval --list --json`, and its messages.
    fn sizes(&self, words: &str) -> (Value, String) {
        let outcome = self.ok(&format!("eval --list --json {words}"));
        (serde_json::from_str(&outcome.stdout).unwrap(), outcome.stderr)
    }
}

#[test]
fn images_are_resized_as_training_does_and_it_is_said() {
    let shell = Shell::new();
    let recorded =
        fs::read_to_string(format!("{}/tests/golden/resized.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let recorded: Value = serde_json::from_str(&recorded).unwrap();
    // The model takes 12x8.
    let case =
        recorded["cases"].as_array().unwrap().iter().find(|case| case["to"] == json!([12, 8])).unwrap();
    assert_eq!(case["from"], json!([40, 26]));
    let rgb = case["rgb"].as_str().unwrap();
    let rgb: Vec<u8> =
        (0..rgb.len() / 2).map(|at| u8::from_str_radix(&rgb[2 * at..2 * at + 2], 16).unwrap()).collect();
    shell.save("set/a.png", recorded_source(40, 26));
    let wide = recorded_source(33, 8);
    shell.save("set/b.png", wide.clone());
    let middle = image::imageops::crop_imm(&wide, 10, 0, 12, 8).to_image();
    shell.save("set/c.png", middle.clone());
    let (list, said) = shell.sizes("-m rgb.safetensors set");
    let of = |key: &str| {
        list["images"].as_array().unwrap().iter().map(|image| image[key].clone()).collect::<Vec<_>>()
    };
    let digest = hex(Sha256::digest(middle.as_raw()));
    assert_eq!(of("sha256"), [json!(hex(Sha256::digest(&rgb))), json!(digest), json!(digest)]);
    assert_eq!(of("resized_from"), [json!("40x26"), json!("33x8"), Value::Null]);
    assert_eq!((of("width"), of("height")), (vec![json!(12); 3], vec![json!(8); 3]));
    let from = "from 33x8 and 40x26 (--native-size keeps their sizes)";
    let note = format!("note: 2 of 3 images resized to 12x8 as training does, {from}\n");
    assert!(said.contains(&note), "{said}");
    let table = shell.ok("eval -m rgb.safetensors set --list").stdout;
    assert!(table.contains("\n12x8 from 40x26  "), "{table}");

    for i in 0..2 {
        shell.save(&format!("set/d{i}.png"), recorded_source(24 + 2 * i, 20));
    }
    shell.save("set/e.png", recorded_source(40, 26));
    let line = "-m rgb.safetensors set --device cpu --json";
    let eval = shell.ok(&format!("eval {line}"));
    assert!(
        eval.stderr
            .contains("5 of 6 images resized to 12x8 as training does, from 40x26 and 3 other sizes")
    );
    let report: Value = serde_json::from_str(&eval.stdout).unwrap();
    assert_eq!((&report["resized"], &report["drawn_at_other_sizes"]), (&json!(5), &json!(0)));
    assert_eq!(report["resized_from"][0], json!({"width": 40, "height": 26, "images": 2}));
    assert_eq!(report["resized_from"].as_array().unwrap().len(), 4);
    // By value too: what is resized is as likely as what it is resized to.
    let bits = |i: usize| report["images"][i]["bits_per_dim"].as_f64().unwrap();
    assert_eq!((bits(0), bits(1)), (bits(5), bits(2)));
    assert_ne!(bits(0), bits(1));
    assert!(!shell.ok("eval -m rgb.safetensors set/c.png --device cpu").stderr.contains("resized"));
}

#[test]
fn sizes_are_kept_or_refused_where_the_user_says_so() {
    let shell = Shell::new();
    shell.save("set/a.png", recorded_source(24, 16));
    shell.save("set/b.png", recorded_source(12, 8));
    let (list, said) = shell.sizes("-m rgb.safetensors set --native-size");
    assert_eq!((&list["images"][0]["width"], &list["resized"]), (&json!(24), &json!(0)));
    assert!(!said.contains("note: "), "{said}");
    let refused = "error: set/a.png: is 24x16, and model rgb was trained on 12x8 images (--no-resize)\n";
    assert_eq!(shell.error("eval -m rgb.safetensors set --no-resize"), refused);
    shell.ok("eval -m rgb.safetensors set/b.png --no-resize --device cpu");
    // Training leaves smaller ones out.
    shell.save("set/c.png", recorded_source(11, 80));
    let outcome = shell.run(&["eval", "-m", "rgb.safetensors", "set", "--device", "cpu"]);
    assert_eq!(outcome.code, 1);
    let reason = "passed over set/c.png: is 11x80, smaller than the 12x8 images that model rgb was trained on; training \
                  leaves such images out (--native-size takes them as they are)";
    assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
}

#[test]
fn images_that_the_program_drew_keep_their_size() {
    let shell = Shell::new();
    let sample = "sample -m rgb.safetensors --device cpu -n 2";
    shell.ok(&format!("{sample} --size 24x16 --each set"));
    shell.ok(&format!("{sample} --size 24x16 -o array.npz"));
    shell.ok("sample -m rgb.safetensors --device cpu -n 1 --size 36x16 --scale 1 -o set/grid.png");
    let (list, said) = shell.sizes("-m rgb.safetensors set array.npz");
    let widths: Vec<_> =
        list["images"].as_array().unwrap().iter().map(|image| image["width"].as_u64().unwrap()).collect();
    assert_eq!((widths.len(), &widths[..3], &widths[3..]), (5, &[24, 24, 36][..], &[24, 24][..]));
    assert_eq!((&list["resized"], &list["drawn_at_other_sizes"]), (&json!(0), &json!(5)));
    let note = "note: 5 of 5 images drawn by this program at other sizes than 12x8, which are kept\n";
    assert!(said.contains(note), "{said}");
    // Without its texts it is an image like others.
    shell.save("copy/a.png", image::open(shell.path("set/000000.png")).unwrap());
    assert_eq!(shell.sizes("-m rgb.safetensors copy").0["resized"], 1);
    // Those of the size that the model was trained on need no word.
    shell.ok(&format!("{sample} --each same"));
    assert!(!shell.sizes("-m rgb.safetensors same").1.contains("note: "));
}

#[test]
fn an_assumed_size_is_no_reason_to_resize() {
    let shell = Shell::new();
    shell.save("a.png", recorded_source(24, 16));
    let model = fs::read(shell.path("rgb.safetensors")).unwrap();
    let length = u64::from_le_bytes(model[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(model[8..8 + length].to_vec()).unwrap();
    let metadata = r#""__metadata__":{"#;
    assert!(header.contains(metadata), "{header}");
    let header = header.replace(metadata, &format!("{metadata}\"size_is_assumed\":\"yes\","));
    let changed =
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &model[8 + length..]].concat();
    fs::write(shell.path("assumed.safetensors"), changed).unwrap();
    for (model, width) in [("rgb", 12), ("assumed", 24)] {
        let (list, _) = shell.sizes(&format!("-m {model}.safetensors a.png"));
        assert_eq!(list["images"][0]["width"], width, "{model}");
    }
}

#[test]
fn completions_have_the_size_of_the_model() {
    let shell = Shell::new();
    // Both sides are twice those of the model, and each square of four pixels is of one level.
    let small = GrayImage::from_fn(14, 10, |x, y| Luma([(9 * x + 11 * y) as u8]));
    shell.save("large.png", GrayImage::from_fn(28, 20, |x, y| *small.get_pixel(x / 2, y / 2)));
    shell.save("mask.png", GrayImage::from_fn(14, 10, |_, y| Luma([if y < 4 { 0 } else { 255 }])));
    let line = "complete large.png -m grey.safetensors --class 0 -n 2 --device cpu";
    let said = shell.ok(&format!("{line} --mask mask.png --each out")).stderr;
    assert!(said.contains("1 of 1 image resized to 14x10 as training does, from 28x20"), "{said}");
    let drawn = read_png(&shell.path("out/000000-0.png"));
    assert_eq!((drawn.0.width(), drawn.0.height()), (14, 10));
    let (list, _) = shell.sizes("large.png -m grey.safetensors --class 0");
    assert_eq!(Value::from(drawn.1["image_sha256"].as_str()), list["images"][0]["sha256"]);
    shell.ok(&format!("{line} --rows 4 -o sheet.png"));
    assert!(!read_png(&shell.path("sheet.png")).1["command"].contains("--native-size"));
    let said = shell.ok("inspect sheet.png --redraw -m grey.safetensors").stdout;
    assert!(said.ends_with("every pixel is the same\n"), "{said}");

    shell.save("mask.png", GrayImage::from_pixel(28, 20, Luma([255])));
    let said = shell.error(&format!("{line} --mask mask.png --each other"));
    let why =
        "is 28x20, and the image is 14x10, at the size of the model unless --native-size keeps its own";
    assert!(said.contains(why), "{said}");
    shell.ok(&format!("{line} --native-size --mask mask.png --each other"));
    let kept = read_png(&shell.path("other/000000-0.png"));
    assert_eq!((kept.0.width(), kept.0.height()), (28, 20));
    assert!(kept.1["command"].contains("--native-size"), "{}", kept.1["command"]);
}

#[test]
fn a_student_gets_from_a_model_to_results_with_the_commands_of_the_docs() {
    let shell = Shell::new();
    let docs = fs::read_to_string(format!("{}/docs/converting.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (_, section) = docs.split_once("## From a checkpoint to results\n").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let commands: Vec<_> = block.split_once("```").unwrap().0.lines().collect();
    assert!(commands.len() <= 5 && commands[0].starts_with("uv run scripts/convert.py "), "{commands:?}");

    // The model takes grey images of 14x10, and its classes are 0 to 4.
    fs::copy(shell.path("grey.safetensors"), shell.path("model.safetensors")).unwrap();
    fs::create_dir(shell.path("test")).unwrap();
    let mut table = String::new();
    for i in 0..6 {
        let levels: Vec<u8> =
            (0..64 * 64).map(|at| (at % 64 * (i + 2) + at / 64 * 3) as u8 / 2 + 30).collect();
        let jpeg =
            libjpeg_turbo_rs::compress(&levels, 64, 64, PixelFormat::Grayscale, 90, Subsampling::S444);
        fs::write(shell.path(&format!("test/{:04}.jpg", i + 1)), jpeg.unwrap()).unwrap();
        table += &format!("{:04}.jpg,{}\n", i + 1, i % 5);
    }
    fs::write(shell.path("test.csv"), table).unwrap();
    let mut printed = Vec::new();
    for command in &commands[1..] {
        let line = command.strip_prefix("pixelcnn ").unwrap();
        // Fewer and smaller than in the docs.
        let line = line.replace("-n 10000", "-n 12").replace("--rows 16", "--rows 5");
        let outcome = shell.ok(&format!("{line} --device cpu"));
        if line.contains(" test") {
            let images = if line.contains(" test ") { 6 } else { 2 };
            let resized =
                format!("{images} of {images} images resized to 14x10 as training does, from 64x64");
            let labelled = format!("test.csv: {images} of {images} images named");
            assert!(
                outcome.stderr.contains(&resized) && outcome.stderr.contains(&labelled),
                "{}",
                outcome.stderr
            );
        }
        printed.push(outcome.stdout);
    }
    assert_eq!(fs::read_dir(shell.path("fid")).unwrap().count(), 12);
    let [_, eval, classify, _] = &printed[..] else { panic!("{commands:?}") };
    assert!(eval.contains("  mean of 6 images"), "{eval}");
    assert!(classify.contains(" % of 6 images are classified correctly"), "{classify}");
    let predictions = fs::read_to_string(shell.path("predictions.csv")).unwrap();
    let header = "path,class,predicted,bits_per_dim 0,bits_per_dim 1,bits_per_dim 2,bits_per_dim 3,bits_per_dim 4,probability 0,";
    assert!(predictions.starts_with(header), "{predictions}");
    for cell in predictions.lines().skip(1).flat_map(|line| line.split(',').skip(8)) {
        let digits = cell.split('e').next().unwrap().trim_start_matches(['0', '.']).replace('.', "");
        assert!(cell.parse::<f64>().is_ok() && digits.len() <= 6, "{cell}");
    }
    assert!(shell.path("completions.png").is_file());
}
