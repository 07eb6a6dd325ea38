//! Classification by Bayes' rule, and the summary of `eval` for many images.

use std::f64::consts::LN_2;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::{Golden, bytes, numbers};
use crate::shell::Shell;
use pixelcnn::internals::model::Model;
use safetensors::SafeTensors;

/// Recorded cases with the result of every class.
fn cases() -> Vec<(PathBuf, Golden, Vec<f64>)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("class_"));
    let load = |folder: PathBuf| {
        let model = folder.join("model.safetensors");
        let golden = Golden::load(&folder, Model::load(&model).unwrap());
        let bytes = fs::read(folder.join("golden.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let bits = file.tensor("class_bits_per_dim").unwrap();
        (model, golden, numbers(bits.data(), f64::from_le_bytes).collect())
    };
    folders.map(load).collect()
}

/// Writes the images of a case into folders named by their classes, and tells their names in order of the list.
fn write_images(shell: &Shell, golden: &Golden) {
    let (width, height) = (golden.width as u32, golden.height as u32);
    for (i, levels) in golden.levels.chunks(golden.levels.len() / golden.count()).enumerate() {
        let class = &golden.model.classes()[golden.classes[i]];
        let path = shell.path(&format!("images/{class}/{i:03}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match golden.model.config().unwrap().channels {
            1 => image::GrayImage::from_raw(width, height, bytes(levels)).unwrap().save(path).unwrap(),
            _ => image::RgbImage::from_raw(width, height, bytes(levels)).unwrap().save(path).unwrap(),
        }
    }
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn every_class_gives_what_was_recorded() {
    let cases = cases();
    assert!(cases.len() >= 8);
    for (model, golden, expected) in cases {
        let shell = Shell::new();
        write_images(&shell, &golden);
        let line = format!("classify -m {} images --json --device cpu --scores s.npy", model.display());
        let report: Value = serde_json::from_str(&shell.ok(&line).stdout).unwrap();
        let names = golden.model.classes();
        let images = report["images"].as_array().unwrap();
        assert_eq!(images.len(), golden.count());
        let scores = fs::read(shell.path("s.npy")).unwrap();
        let header = String::from_utf8_lossy(&scores[..128]).into_owned();
        assert!(header.contains(&format!(
            "'<f8', 'fortran_order': False, 'shape': ({}, {})",
            images.len(),
            names.len()
        )));
        let scores: Vec<_> = numbers(&scores[128..], f64::from_le_bytes).collect();
        let mut right = 0;
        for (n, image) in images.iter().enumerate() {
            let path = image["path"].as_str().unwrap();
            let i: usize = path.rsplit('/').next().unwrap().trim_end_matches(".png").parse().unwrap();
            let expected = &expected[i * names.len()..(i + 1) * names.len()];
            let got = floats(&image["bits_per_dim"]);
            for (class, (got, expected)) in got.iter().zip(expected).enumerate() {
                // Recorded in float64; the network here is in float32.
                assert!((got - expected).abs() <= 1e-4, "{}: {path} as {class}: {got}", golden.name);
                let dimensions = (golden.levels.len() / golden.count()) as f64;
                let nats = scores[n * names.len() + class];
                assert!((nats + got * dimensions * LN_2).abs() < 1e-6 * nats.abs(), "{nats}");
            }
            // A class taken for another would be noticed.
            assert!(expected.iter().any(|other| (other - got[0]).abs() > 1e-3), "{}", golden.name);
            let probabilities = floats(&image["probabilities"]);
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{probabilities:?}");
            let likeliest = (0..names.len()).min_by(|&a, &b| expected[a].total_cmp(&expected[b])).unwrap();
            assert_eq!(image["predicted"], names[likeliest].as_str());
            assert_eq!(image["class"], names[golden.classes[i]].as_str());
            right += usize::from(likeliest == golden.classes[i]);
        }
        let accuracy = report["accuracy"].as_f64().unwrap();
        assert!((accuracy - right as f64 / images.len() as f64).abs() < 1e-12);
        // An image under its own class has the value of eval.
        let eval = shell.ok(&format!("eval -m {} images --json --device cpu", model.display())).stdout;
        let eval: Value = serde_json::from_str(&eval).unwrap();
        for (image, of_class) in eval["images"].as_array().unwrap().iter().zip(images) {
            let class = names.iter().position(|name| image["class"] == name.as_str()).unwrap();
            assert_eq!(image["bits_per_dim"], of_class["bits_per_dim"][class]);
        }
    }
}

/// A folder of small grey pictures, one of them with a name that a table must quote.
fn pictures(shell: &Shell) -> [&'static str; 3] {
    let names = ["plain.png", "a, \"b\" c.png", "z.png"];
    fs::create_dir(shell.path("pictures")).unwrap();
    for (shade, name) in [10, 128, 250].into_iter().zip(names) {
        image::GrayImage::from_pixel(14, 10, image::Luma([shade]))
            .save(shell.path("pictures").join(name))
            .unwrap();
    }
    names
}

#[test]
fn a_class_that_the_prior_excludes_is_never_predicted() {
    let shell = Shell::new();
    pictures(&shell);
    let model = shell.ok("inspect -m grey.safetensors").stdout;
    let line = model.lines().find(|line| line.starts_with("classes")).unwrap();
    let count: usize =
        line.trim_start_matches("classes").trim().split(':').next().unwrap().parse().unwrap();
    for only in 0..count {
        let prior: Vec<_> = (0..count).map(|class| if class == only { "7" } else { "0" }).collect();
        let line = format!(
            "classify -m grey.safetensors pictures --json --device cpu --prior {}",
            prior.join(",")
        );
        let report: Value = serde_json::from_str(&shell.ok(&line).stdout).unwrap();
        let class = report["classes"][only].as_str().unwrap();
        for image in report["images"].as_array().unwrap() {
            assert_eq!(image["predicted"], class);
            assert_eq!(image["probabilities"][only], 1.0);
            assert!(image["class"].is_null());
        }
        assert!(report["accuracy"].is_null() && report["confusion"].is_null());
    }
}

#[test]
fn tables_and_pictures_are_written() {
    let shell = Shell::new();
    let names = pictures(&shell);
    fs::write(shell.path("labels.csv"), "path,class\npictures/plain.png,0\npictures/z.png,1\n").unwrap();
    let line =
        "classify -m grey.safetensors pictures --labels labels.csv --device cpu --csv out.csv --plot";
    let said = shell.ok(&format!("{line} out.png")).stdout;
    assert!(said.contains("of 2 images are classified correctly"), "{said}");
    let picture = image::open(shell.path("out.png")).unwrap().into_rgb8();
    assert!(picture.width() > 400 && picture.pixels().any(|p| p.0 != [255; 3]));
    shell.ok(&format!("{line} out.svg"));
    assert!(fs::read_to_string(shell.path("out.svg")).unwrap().contains("predicted classes"));
    let mut table = csv::Reader::from_path(shell.path("out.csv")).unwrap();
    let mut paths: Vec<_> = table.records().map(|row| row.unwrap()[0].to_owned()).collect();
    paths.sort();
    let mut expected = names.map(|name| format!("pictures/{name}"));
    expected.sort();
    assert_eq!(paths, expected);

    shell.ok("eval -m grey.safetensors pictures --class 0 --device cpu --csv eval.csv --plot hist.png");
    let mut table = csv::Reader::from_path(shell.path("eval.csv")).unwrap();
    assert_eq!(table.headers().unwrap(), ["path", "class", "bits_per_dim"].as_slice());
    assert_eq!(table.records().count(), 3);
    assert!(image::open(shell.path("hist.png")).is_ok());
}

#[test]
fn many_images_have_a_most_and_a_least_likely() {
    let shell = Shell::new();
    for i in 0..21u8 {
        let image = image::GrayImage::from_pixel(14, 10, image::Luma([12 * i]));
        image.save(shell.path(&format!("{i:02}.png"))).unwrap();
    }
    let said = shell.ok("eval -m grey.safetensors . --class 0 --device cpu").stdout;
    let (all, extremes) = said.split_once("\nmost likely\n").unwrap();
    let (most, least) = extremes.split_once("\nleast likely\n").unwrap();
    let bits = |text: &str| -> Vec<f64> {
        text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
    };
    let mut sorted = bits(all)[..21].to_vec();
    sorted.sort_by(f64::total_cmp);
    assert_eq!(bits(most), sorted[..5]);
    assert_eq!(bits(least), sorted.iter().rev().take(5).copied().collect::<Vec<_>>());
    assert!(all.contains(&format!("{:8.4}  median", sorted[10])), "{all}");
    assert!(all.contains("mean of 21 images (standard error"), "{all}");
}

#[test]
fn what_cannot_be_classified_is_said_before_the_work() {
    let shell = Shell::new();
    pictures(&shell);
    let before = shell.files();
    for (words, expected) in [
        ("-m rgb.safetensors pictures", "has no classes to choose from"),
        ("-m grey.safetensors pictures --prior 1", "expected one for each of the"),
        ("-m grey.safetensors pictures --plot x.png", "--plot: nothing says the classes"),
        ("-m grey.safetensors pictures --plot x.jpg", "ends in .png or .svg"),
        ("-m grey.safetensors nowhere", "nowhere"),
    ] {
        let said = shell.error(&format!("classify {words} --device cpu"));
        assert!(said.contains(expected), "{words}: {said}");
    }
    let zeros = ["0"; 4].join(",");
    let said = shell.error(&format!("classify -m grey.safetensors pictures --prior {zeros} --device cpu"));
    assert!(said.contains("--prior"), "{said}");
    assert_eq!(shell.files(), before);
}
