//! `pixelcnn merge`: merged shares; and `inspect --redraw`.

use std::fs;

use crate::shell::{Shell, read_png};

/// Three shares of 7 images as arrays, and as one folder.
fn shares(model: &str) -> Shell {
    let shell = Shell::new();
    let line = format!("sample -m {model}.safetensors -n 7 --first 2 --device cpu");
    for part in 0..3 {
        shell.ok(&format!("{line} --shard {part}/3 -o part{part}.npz"));
        shell.ok(&format!("{line} --shard {part}/3 --each folder"));
    }
    shell.ok(&format!("{line} -o whole.npz"));
    shell.ok(&format!("{line} -o whole.png"));
    shell
}

#[test]
fn shares_become_the_whole() {
    for model in ["grey", "rgb"] {
        let shell = shares(model);
        let arrays = "part2.npz part0.npz part1.npz";
        shell.ok(&format!("merge {arrays} -o merged.png"));
        assert!(read_png(&shell.path("merged.png")).0 == read_png(&shell.path("whole.png")).0);
        shell.ok(&format!("merge {arrays} -o merged.npz"));
        shell.ok("merge folder -o again.npz");
        for (from, name) in [("merged.npz", "images"), ("again.npz", "others"), ("whole.npz", "as_drawn")] {
            shell.ok(&format!("merge {from} -o {name}"));
            for i in 2..9 {
                let (pixels, mut texts) = read_png(&shell.path(&format!("{name}/{i:06}.png")));
                let (expected, mut expected_texts) = read_png(&shell.path(&format!("folder/{i:06}.png")));
                assert!(pixels == expected, "{name} {i}");
                for key in ["batch", "command", "engine", "run"] {
                    texts.remove(key);
                    expected_texts.remove(key);
                }
                assert_eq!(texts, expected_texts, "{name} {i}");
            }
            assert_eq!(fs::read_dir(shell.path(name)).unwrap().count(), 7);
        }
        let said = shell.ok("merge folder -o images.npy").stderr;
        assert_eq!(said, "7 images, 2 to 8: images.npy\n");
        shell.ok("merge folder -o flat --name {nth:03}-{index}.png");
        let first = if model == "grey" { "flat/001-2.png" } else { "flat/003-2.png" };
        assert!(shell.path(first).exists());
    }
}

#[test]
fn what_systems_leave_in_folders_is_no_image() {
    let shell = shares("grey");
    for name in
        ["._000002.png", ".ipynb_checkpoints/000003.png", "@eaDir/000004.png", "__MACOSX/._000005.png"]
    {
        let path = shell.path("folder").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(shell.path("folder/000002.png"), path).unwrap();
    }
    fs::write(shell.path("folder/._000002.png"), "of macOS").unwrap();
    shell.ok("merge folder -o merged.npz");
    fs::create_dir(shell.path("folder/copy")).unwrap();
    fs::copy(shell.path("folder/000003.png"), shell.path("folder/copy/000003.png")).unwrap();
    let said = shell.error("merge folder -o again.npz");
    assert!(said.contains("in two parts: 3 (folder/000003.png and folder/copy/000003.png)"), "{said}");
}

#[test]
fn arrays_that_were_drawn_are_evaluated_with_their_classes() {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 7 --device cpu -o drawn.npz");
    shell.ok("sample -m grey.safetensors -n 7 --device cpu --each drawn");
    let (of_array, code) = shell.list("-m grey.safetensors drawn.npz");
    assert_eq!(code, 0);
    for (i, image) in of_array["images"].as_array().unwrap().iter().enumerate() {
        let (_, texts) = read_png(&shell.path(&format!("drawn/{i:06}.png")));
        assert_eq!(image["class"].as_str().unwrap(), texts["class"], "{i}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let shell = shares("grey");
    fs::remove_file(shell.path("folder/000004.png")).unwrap();
    let line = "sample -m grey.safetensors -n 7 --first 2 --device cpu --shard 1/3 -o";
    shell.ok(&format!("{line} seed.npz -s 1"));
    shell.ok(&format!("{line} temperature.npz --temperature 0.9"));
    shell.ok(&format!("{} model.npz", line.replace("grey", "rgb")));
    shell.ok("sample -m grey.safetensors -n 1 --first 4 --device cpu --each cold --temperature 0.5");
    fs::write(shell.path("text.npz"), "no archive").unwrap();
    fs::create_dir(shell.path("empty")).unwrap();
    fs::create_dir(shell.path("grids")).unwrap();
    fs::copy(shell.path("whole.png"), shell.path("grids/a.png")).unwrap();
    shell.errors(
        "errors-merge",
        &[
            "merge part0.npz part2.npz -o a.npz",
            "merge part0.npz part1.npz -o a.npz",
            "merge part0.npz part1.npz part2.npz part1.npz -o a.npz",
            "merge folder -o a.npz",
            "merge folder part0.npz part1.npz -o a.npz",
            "merge part0.npz seed.npz part2.npz -o a.npz",
            "merge part0.npz temperature.npz part2.npz -o a.npz",
            "merge folder cold -o a.npz",
            "merge text.npz -o a.npz",
            "merge nowhere.npz -o a.npz",
            "merge empty -o a.npz",
            "merge grids -o a.npz",
            "merge folder -o folder",
            "merge whole.npz -o a.jpg",
            "merge whole.npz -o a --name all.png",
            "merge whole.npz",
        ],
    );
    let said = shell.error("merge part0.npz model.npz part2.npz -o a.npz");
    assert!(
        said.contains("model.npz differs from the other parts") && said.contains("model_sha256"),
        "{said}"
    );
    // A pixel of an array, and a file that is cut off.
    let mut bytes = fs::read(shell.path("part1.npz")).unwrap();
    bytes[500] ^= 1;
    fs::write(shell.path("part1.npz"), bytes).unwrap();
    let said = shell.error("merge part0.npz part1.npz part2.npz -o a.npz");
    assert!(said.contains("part1.npz: Invalid checksum"), "{said}");
    let bytes = fs::read(shell.path("folder/000005.png")).unwrap();
    fs::write(shell.path("folder/000005.png"), &bytes[..bytes.len() - 20]).unwrap();
    let said = shell.error("merge folder -o a.npz");
    assert!(said.contains("folder/000005.png: "), "{said}");
}

#[test]
fn a_picture_is_drawn_again() {
    let shell = shares("grey");
    let said = shell.ok("inspect folder/000005.png").stdout;
    assert!(said.contains("\nseed          0\n") && said.contains("\nindex         5\n"), "{said}");
    let json = shell.ok("inspect whole.png --json").stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["count"], &json["first_index"]), (&7.into(), &2.into()));
    shell.ok("merge part0.npz part1.npz part2.npz -o images");
    shell.ok("sample -m grey.safetensors -n 3 --device cpu,cpu --scale 3 --temperature 0.8 -o large.png");
    for picture in ["whole.png", "folder/000005.png", "images/000008.png", "large.png"] {
        let said = shell.ok(&format!("inspect {picture} --redraw --quiet")).stdout;
        assert!(
            said.starts_with("drawn again on CPU") && said.ends_with("every pixel is the same\n"),
            "{said}"
        );
    }

    // One pixel, with everything else as it was.
    let (mut pixels, texts) = read_png(&shell.path("folder/000005.png"));
    pixels.get_pixel_mut(3, 2).0 = [pixels.get_pixel(3, 2).0[0] ^ 1; 3];
    let levels = pixels.pixels().map(|pixel| pixel.0[0]).collect();
    let image = pixelcnn::internals::output::Image { width: 14, height: 10, channels: 1, levels };
    let texts: Vec<_> = texts.into_iter().collect();
    pixelcnn::internals::output::png::write(&shell.path("changed.png"), &image, &texts).unwrap();
    let outcome = shell.run(&["inspect", "changed.png", "--redraw"]);
    assert_eq!(outcome.code, 1);
    let expected = "1 of 140 pixels differ, first at row 2, column 3: [";
    assert!(outcome.stdout.contains(expected), "{}", outcome.stdout);

    fs::rename(shell.path("grey.safetensors"), shell.path("renamed.safetensors")).unwrap();
    let said = shell.error("inspect whole.png --redraw");
    assert!(said.contains("grey.safetensors"), "{said}");
    shell.ok("inspect whole.png --redraw -m renamed.safetensors --device cpu");
    let said = shell.error("inspect whole.png --redraw -m rgb.safetensors");
    assert!(said.contains("rgb is not the one that drew it"), "{said}");
    image::GrayImage::new(3, 3).save(shell.path("other.png")).unwrap();
    let said = shell.error("inspect other.png --redraw");
    assert!(said.contains("other.png: it says nothing of how it was drawn"), "{said}");
    let said = shell.error("inspect renamed.safetensors");
    assert!(said.contains("as a PNG file"), "{said}");
}

/// Files from before recipes, drawn by the version of 2026-11-29: `sample -m grey.safetensors -s 7 --size
/// 8x6 --device cpu` with `-n 5 --class 1,0 --temperature 0.9 --scale 2 -o grid.png`, and with `-n 3
/// --first 4` and `--each each` or `-o images.npz`.
#[test]
fn pictures_of_older_versions_are_drawn_again() {
    let shell = Shell::new();
    fs::create_dir(shell.path("each")).unwrap();
    for (name, to) in
        [("grid.png", "grid.png"), ("000005.png", "each/000005.png"), ("images.npz", "images.npz")]
    {
        let from = format!("{}/tests/older/{name}", env!("CARGO_MANIFEST_DIR"));
        fs::copy(from, shell.path(to)).unwrap();
    }
    for picture in ["grid.png", "each/000005.png"] {
        let said = shell.ok(&format!("inspect {picture} --redraw")).stdout;
        assert!(said.ends_with("every pixel is the same\n"), "{said}");
    }
    // They are of the same recipe as new ones.
    let line = "sample -m grey.safetensors -s 7 --size 8x6 --device cpu -n 3 --first 4";
    let said = shell.ok(&format!("{line} --each each --resume")).stderr;
    assert!(said.starts_with("1 of 3 images are there already\n"), "{said}");
    shell.ok("merge images.npz -o merged.npz");
    shell.ok("merge each -o new.png");
    shell.ok(&format!("{line} -o expected.png"));
    assert!(read_png(&shell.path("new.png")).0 == read_png(&shell.path("expected.png")).0);
    let said = shell.error(&format!("{line} --each each --resume --temperature 0.9"));
    assert!(said.contains("its temperature is 1, expected 0.9"), "{said}");
}

#[test]
fn names_that_look_like_flags_are_drawn_again() {
    let shell = Shell::new();
    fs::rename(shell.path("grey.safetensors"), shell.path("-a grey")).unwrap();
    shell.run(&["sample", "-m=-a grey", "-n", "2", "--device", "cpu", "-o=-b c.png"]);
    let (pixels, texts) = read_png(&shell.path("-b c.png"));
    let line = shlex::split(&texts["command"]).unwrap();
    fs::remove_file(shell.path("-b c.png")).unwrap();
    assert_eq!(shell.run(&line[1..].iter().map(String::as_str).collect::<Vec<_>>()).code, 0, "{line:?}");
    assert!(read_png(&shell.path("-b c.png")) == (pixels, texts));
    let said = shell.run(&["inspect", "--redraw", "--", "-b c.png"]).stdout;
    assert!(said.ends_with("every pixel is the same\n"), "{said}");
}
