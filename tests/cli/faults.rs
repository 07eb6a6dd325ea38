//! A network whose numbers overflow: every command ends in an error that says so, and writes nothing.

use std::fs;

use safetensors::SafeTensors;

use crate::common::chosen;
use crate::shell::Shell;

/// The model `grey`, with a layer of numbers that are finite, and too large to be summed.
fn overflow(shell: &Shell, layer: &str) {
    let mut file = fs::read(shell.path("grey.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let numbers = tensors.tensor(layer).unwrap().data();
    let (start, length) = (numbers.as_ptr() as usize - file.as_ptr() as usize, numbers.len());
    file[start..start + length].as_chunks_mut::<4>().0.fill(f32::MAX.to_le_bytes());
    fs::write(shell.path("large.safetensors"), file).unwrap();
}

fn numbers_that_overflow_are_an_error(on_gpu: bool) {
    let shell = match on_gpu {
        true => Shell::on_gpu(),
        false => Shell { environment: vec![("PIXELCNN_DEVICE", "cpu".to_owned())], ..Shell::new() },
    };
    fs::create_dir(shell.path("images")).unwrap();
    for i in 0..2 {
        image::GrayImage::from_pixel(14, 10, image::Luma([200 + i]))
            .save(shell.path(&format!("images/{i}.png")))
            .unwrap();
    }
    let lines = [
        "sample --class 0 -n 3 -o out.png --animate out.gif --scores out.csv",
        "eval images --class 0 --params out.npy --csv out.csv --plot out.svg",
        "sample --class 0 -n 3 --each new/deep",
        "sample --class 0 -n 3 -o out.npz",
        "complete images --class 0 --rows 7 -o out.png",
        "classify images --csv out.csv",
    ];
    let layers = ["input.left.weight", "up.0.block.0.vertical.conv_out.weight", "output.weight"];
    for layer in chosen(on_gpu, 1, layers.to_vec()) {
        overflow(&shell, layer);
        // All commands report an engine's error in the same way.
        for line in &lines[..if on_gpu { 2 } else { lines.len() }] {
            let said = shell.error(&format!("{line} -m large.safetensors --threads 1"));
            assert!(said.contains("NaN or infinity"), "{layer}, {line}: {said}");
            let outcome = shell.ok(&format!("{line} -m grey.safetensors --threads 1"));
            assert!(!outcome.stderr.contains("rror"), "{line}: {}", outcome.stderr);
            for file in ["out.png", "out.gif", "out.csv", "out.npz", "out.npy", "out.svg"] {
                let _ = fs::remove_file(shell.path(file));
            }
            let _ = fs::remove_dir_all(shell.path("new"));
        }
    }
}

#[test]
fn numbers_that_overflow_are_an_error_on_the_cpu() {
    numbers_that_overflow_are_an_error(false);
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn numbers_that_overflow_are_an_error_on_the_gpu() {
    numbers_that_overflow_are_an_error(true);
}
