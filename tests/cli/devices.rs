//! The device that runs, with a GPU and without.

use crate::common::test_adapter;
use crate::models::exploding;
use crate::shell::{Shell, read_png};

#[test]
fn unknown_devices_are_told_what_there_is() {
    let shell = Shell::new();
    for device in ["voodoo", "99", "-1"] {
        let said = shell.error(&format!("sample --device {device}"));
        let expected = format!("error: there is no device \"{device}\"; expected auto, cpu, gpu");
        assert!(said.contains(&expected), "{said}");
    }
}

#[test]
fn the_variable_of_the_device() {
    let mut shell = Shell::new();
    for nothing in ["", " "] {
        shell.environment = vec![("PIXELCNN_DEVICE", nothing.to_owned())];
        shell.ok("sample -m grey.safetensors -n 1 -o a.npz");
    }
    shell.environment = vec![("PIXELCNN_DEVICE", "voodoo".to_owned())];
    let said = shell.error("sample -m grey.safetensors -n 1");
    assert!(said.starts_with("error: PIXELCNN_DEVICE=voodoo: there is no device \"voodoo\""), "{said}");
    let said = shell.error("verify -m grey.safetensors");
    assert!(said.starts_with("error: PIXELCNN_DEVICE=voodoo: there is no device"), "{said}");
    assert!(shell.error("sample --device magic").starts_with("error: there is no device"));
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn variables_that_leave_no_adapter_are_named() {
    test_adapter();
    let mut shell = Shell::new();
    for (name, value) in [("WGPU_BACKEND", "vulcan"), ("WGPU_ADAPTER_NAME", "voodoo")] {
        shell.environment = vec![(name, value.to_owned())];
        let said = shell.error("sample -m grey.safetensors --device gpu");
        assert!(said.starts_with(&format!("error: {name}={value} leaves none of the ")), "{said}");
        let said = shell.ok("sample -m grey.safetensors -n 1 -o a.png").stderr;
        assert!(said.contains(&format!("warning: {name}={value} leaves none of the ")), "{said}");
        let said = shell.ok("devices").stderr;
        assert!(said.contains(&format!("warning: {name}={value} leaves none of the ")), "{said}");
    }
    shell.environment = vec![("WGPU_BACKEND", String::new())];
    assert!(!shell.ok("devices").stderr.contains("leaves"));
}

#[test]
#[cfg(feature = "gpu")]
fn unknown_options_of_the_shaders_are_errors() {
    let mut shell = Shell::new();
    shell.environment = vec![("PIXELCNN_SHADERS", "chian".to_owned())];
    let said = shell.error("sample -m grey.safetensors -n 1");
    let expected =
        "PIXELCNN_SHADERS: \"chian\" is no option of the shaders; expected a comma list of checked, ";
    assert!(said.contains(expected), "{said}");
}

/// The Vulkan loader finds drivers where this variable says.
#[test]
#[cfg(target_os = "linux")]
fn without_any_adapter() {
    let mut shell = Shell::new();
    shell.environment =
        ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].map(|name| (name, "/nowhere".to_owned())).into();
    let devices = shell.ok("devices").stdout;
    assert!(devices.ends_with("auto takes cpu: no GPU adapter was found.\n"), "{devices}");
    // Nobody asked for a GPU.
    let sample = shell.ok("sample -m grey.safetensors -n 1").stderr;
    assert!(sample.starts_with("drawing 1 image "), "{sample}");
    let sample = shell.ok("sample -m grey.safetensors -n 1 --verbose").stderr;
    assert!(sample.starts_with("using the CPU engine: no GPU adapter was found\n"), "{sample}");
    let verify = shell.ok("verify -m grey.safetensors").stdout;
    assert!(verify.contains("not made") && verify.contains("--device gpu"), "{verify}");
    shell.errors("errors-no-gpu", &["sample --device gpu", "verify --device gpu", "sample --device 0"]);
}

/// Looking for adapters takes longer than drawing a few digits.
#[test]
#[cfg(target_os = "linux")]
fn the_cpu_engine_does_not_wake_the_gpu() {
    let mut shell = Shell::new();
    shell.environment = vec![("VK_LOADER_DEBUG", "all".to_owned())];
    let said = shell.ok("sample -m grey.safetensors -n 1 --device cpu").stderr;
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn on_a_gpu() {
    let shell = Shell::on_gpu();
    exploding(&shell);
    let said = shell.error("sample -m exploding.safetensors -n 2");
    assert!(said.contains("NaN or infinity for image"), "{said}");
    shell.ok("sample -m grey.safetensors -n 3");
    let (_, texts) = read_png(&shell.path("samples.png"));
    assert_eq!(texts["engine"], format!("GPU ({})", test_adapter().description().name));
    let verify = shell.ok("verify -m grey.safetensors --json").stdout;
    let report: serde_json::Value = serde_json::from_str(&verify).unwrap();
    // Two on the CPU; by row, by pixel, likelihoods and drawing for each size of batch that has kernels of its own, and
    // for a long row.
    let names = report["comparisons"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap());
    let names: Vec<_> = names.collect();
    let on_gpu = |what: &str| names.iter().filter(|name| name.contains(what)).count();
    let sizes = on_gpu(": drawn pixels");
    assert_eq!((sizes > 2, names.len()), (true, 2 + 4 * sizes), "{verify}");
    assert_eq!((on_gpu("in batches of 1: "), on_gpu(", 256x")), (8, 4), "{verify}");
    let said = shell.error("sample -n 100000000 -b 100000000 --each pictures");
    assert!(said.contains("a batch of 100000000 images does not fit"), "{said}");
}
