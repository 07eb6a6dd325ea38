//! `pixelcnn eval`: recorded numbers, and images that a network can and cannot take.

use std::fs;
use std::path::Path;

use crate::common::{Golden, bytes};
use crate::shell::{GREY, Shell};

#[test]
fn eval_gives_the_recorded_bits_per_dim_and_parameters() {
    let shell = Shell::new();
    let case = Golden::case(GREY);
    fs::create_dir(shell.path("images")).unwrap();
    fs::write(shell.path("images/notes.txt"), "not an image").unwrap();
    let (width, height) = (case.width as u32, case.height as u32);
    for (i, levels) in case.levels.chunks(case.width * case.height).enumerate() {
        // Later names for earlier images, to see that the order is by name.
        let name = format!("images/{}.png", 9 - i);
        image::GrayImage::from_raw(width, height, bytes(levels)).unwrap().save(shell.path(&name)).unwrap();
    }
    let names = |class: &usize| case.model.classes()[*class].clone();
    let classes = case.classes.iter().rev().map(names).collect::<Vec<_>>().join(",");
    let line = format!("eval -m grey.safetensors images --class {classes} --device cpu");
    let report = shell.ok(&format!("{line} --json --params out.npy")).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let bits: Vec<_> = (report["images"].as_array().unwrap().iter())
        .map(|image| image["bits_per_dim"].as_f64().unwrap())
        .collect();
    assert_eq!(bits.len(), case.count());
    for (got, expected) in bits.iter().rev().zip(&case.bits_per_dim) {
        assert!((got - expected).abs() < 1e-4, "got {got} bits/dim, expected {expected}");
    }
    let mean = bits.iter().sum::<f64>() / bits.len() as f64;
    assert!((report["mean_bits_per_dim"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert_eq!(
        report["images"][0]["path"],
        Path::new("images").join(format!("{}.png", 10 - bits.len())).to_str().unwrap()
    );
    assert_eq!(report["images"][0]["class"], names(case.classes.last().unwrap()));

    let npy = fs::read(shell.path("out.npy")).unwrap();
    let shape = format!("'shape': ({}, {height}, {width}, 15), }}", case.count());
    assert!(String::from_utf8_lossy(&npy[..128]).contains(&shape));
    let got: Vec<f32> = npy[128..].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let of_image = case.parameters.len() / case.count();
    let expected: Vec<f32> = case.parameters.chunks(of_image).rev().flatten().copied().collect();
    case.assert_close(&got, &expected, 1e-4);

    let text = shell.ok(&line).stdout;
    let expected = format!("\n{mean:8.4}  mean of {} images (standard error ", case.count());
    assert!(text.contains(&expected), "{text}");
}

#[test]
fn eval_takes_what_a_network_can_take() {
    let shell = Shell::new();
    let save = |name: &str, image: image::DynamicImage| image.save(shell.path(name)).unwrap();
    let grey = image::GrayImage::from_fn(8, 12, |x, y| image::Luma([(20 * x + 3 * y) as u8]));
    let grey = image::DynamicImage::from(grey);
    save("a-grey.png", grey.clone());
    save("b-colour.png", grey.to_rgb8().into());
    save("c-opaque.png", grey.to_rgba8().into());
    save("d-wide.png", grey.rotate90());
    fs::create_dir(shell.path("photos")).unwrap();
    save("photos/photo.png", grey.clone());
    let evaluate = |line: &str| {
        let report = shell.ok(&format!("eval --native-size --device cpu --json {line}")).stdout;
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let images = report["images"].as_array().unwrap().iter();
        images.map(|image| image["bits_per_dim"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    for model in ["rgb", "grey"] {
        let class = if model == "grey" { " --class 0" } else { "" };
        let line = format!("-m {model}.safetensors d-wide.png photos c-opaque.png b-colour.png a-grey.png");
        let bits = evaluate(&format!("{line}{class}"));
        assert_eq!(bits.len(), 5);
        assert!(bits[1..].iter().all(|b| *b == bits[1]) && bits[0] != bits[1], "{bits:?}");
    }
}

#[test]
fn eval_refuses_what_a_network_cannot_take() {
    let shell = Shell::new();
    let save = |name: &str, image: image::DynamicImage| image.save(shell.path(name)).unwrap();
    save("odd.png", image::GrayImage::new(30, 21).into());
    save("8x12.png", image::GrayImage::new(8, 12).into());
    save("16x16.png", image::GrayImage::new(16, 16).into());
    save("red.png", image::RgbImage::from_pixel(8, 12, image::Rgb([255, 0, 0])).into());
    save("deep.png", image::ImageBuffer::<image::Luma<u16>, _>::new(8, 12).into());
    fs::write(shell.path("text.png"), "no image").unwrap();
    let png = fs::read(shell.path("16x16.png")).unwrap();
    fs::write(shell.path("cut.png"), &png[..png.len() / 2]).unwrap();
    fs::create_dir(shell.path("empty")).unwrap();
    shell.errors(
        "errors-eval",
        &[
            "eval",
            "eval nowhere.png --class 1",
            "eval empty --class 1",
            "eval 8x12.png",
            "eval 8x12.png --class 10",
            "eval -m grey.safetensors 8x12.png 16x16.png red.png --class 0,1 --native-size",
            "eval -m rgb.safetensors 8x12.png --class 0",
            "eval -m rgb.safetensors odd.png --native-size",
            "eval -m rgb.safetensors odd.png --no-resize",
            "eval -m rgb.safetensors 8x12.png",
            "eval -m rgb.safetensors odd.png --no-resize --native-size",
            "eval -m rgb.safetensors deep.png",
            "eval -m rgb.safetensors text.png",
            "eval -m rgb.safetensors cut.png",
            "eval -m grey.safetensors red.png --class 0 --native-size",
            "eval -m rgb.safetensors 8x12.png --params out.txt",
            "eval -m rgb.safetensors 8x12.png --params nowhere/out.npy",
            "eval -m rgb.safetensors 8x12.png 16x16.png --params out.npy --native-size",
        ],
    );
}
