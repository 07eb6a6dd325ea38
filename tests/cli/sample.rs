//! `pixelcnn sample`: output and refusals.

use std::fs;

use crate::common::Golden;
use crate::shell::{GREY, Shell, read_png};

#[test]
fn a_grid_says_how_to_draw_it_again() {
    let shell = Shell::new();
    fs::write(shell.path("grid.png"), "old").unwrap();
    let said = shell.ok(
        "sample -m grey.safetensors -n 5 -s 7 --class 1,0 --size 8x6 --scale 1 --device cpu -o grid.png",
    );
    assert_eq!(said.stdout, "");
    assert!(said.stderr.starts_with("drawing 5 images (8x6, model grey) on CPU"), "{}", said.stderr);
    assert_eq!(shell.files(), ["grey.safetensors", "grid.png", "rgb.safetensors"]);

    let (pixels, texts) = read_png(&shell.path("grid.png"));
    // A row a class.
    assert_eq!(pixels.dimensions(), (3 * 9 - 1, 2 * 7 - 1));
    let expected = [
        ("Software", concat!("pixelcnn ", env!("CARGO_PKG_VERSION"))),
        ("seed", "7"),
        ("first_index", "0"),
        ("count", "5"),
        ("size", "8x6"),
        ("model", "grey"),
        ("continuous", "false"),
    ];
    for (key, value) in expected {
        assert_eq!(texts[key], value, "{key}");
    }
    assert_eq!(texts["model_sha256"].len(), 64);
    assert!(texts["engine"].contains("CPU"), "{texts:?}");
    let case = Golden::case(GREY);
    let classes = case.model.classes();
    assert_eq!(texts["classes"], format!("{},{}", classes[1], classes[0]));

    fs::rename(shell.path("grid.png"), shell.path("before.png")).unwrap();
    shell.ok(texts["command"].strip_prefix("pixelcnn ").unwrap());
    assert!(read_png(&shell.path("grid.png")) == (pixels, texts));
}

#[test]
fn grids_are_large_enough_to_be_looked_at_and_rows_have_names() {
    let shell = Shell::new();
    let line = "sample -m mnist -n 20 --class 3,7 --device cpu";
    shell.ok(&format!("{line} --scale 1 -o raw.png"));
    shell.ok(&format!("{line} --animate moving.png"));
    let [(raw, _), (grid, texts), (moving, _)] =
        ["raw", "samples", "moving"].map(|name| read_png(&shell.path(&format!("{name}.png"))));
    // Rows of threes and sevens in turn.
    assert_eq!(raw.dimensions(), (5 * 29 - 1, 4 * 29 - 1));
    let scale = 512_u32.div_ceil(4 * 29 - 1);
    assert_eq!(grid.height(), scale * raw.height());
    let left = grid.width() - scale * raw.width();
    assert!((16..100).contains(&left), "{left}");
    assert!(
        raw.enumerate_pixels().all(|(x, y, pixel)| grid[(left + scale * x + 1, scale * y + 1)] == *pixel)
    );
    let label =
        |row: u32| image::imageops::crop_imm(&grid, 0, row * 29 * scale, left, 28 * scale).to_image();
    let ink = |label: &image::RgbImage| label.pixels().filter(|pixel| pixel.0[0] > 200).count();
    assert!((0..4).all(|row| ink(&label(row)) > 20));
    assert!(label(0) == label(2) && label(1) == label(3) && label(0) != label(1));
    // The animation is of the same size, and begins with the names.
    assert_eq!(moving.dimensions(), grid.dimensions());
    assert!(image::imageops::crop_imm(&moving, 0, 0, left, 28 * scale).to_image() == label(0));
    assert!(texts["command"].contains(&format!(" --scale {scale} ")), "{}", texts["command"]);
    for picture in ["raw", "samples"] {
        let said = shell.ok(&format!("inspect {picture}.png --redraw --quiet")).stdout;
        assert!(said.ends_with("every pixel is the same\n"), "{said}");
    }
    fs::rename(shell.path("samples.png"), shell.path("before.png")).unwrap();
    shell.ok(texts["command"].strip_prefix("pixelcnn ").unwrap());
    assert!(read_png(&shell.path("samples.png")).0 == grid);

    shell.ok(&format!("{line} --captions never -o plain.png"));
    assert_eq!(read_png(&shell.path("plain.png")).0.width(), scale * raw.width());
    shell.ok(&format!("{line} --scale 1 --captions always -o raw.png"));
    assert!(read_png(&shell.path("raw.png")).0.width() > raw.width());
    let said = shell.error("sample -m mnist -n 20 --class 3 --device cpu --captions always");
    assert!(said.contains("--captions always: rows of this grid have no class of their own"), "{said}");

    // An image alone; larger ones stay as they are, and each in a file is what the model drew.
    shell.ok("sample -m rgb.safetensors -n 1 --device cpu --each one");
    let (one, _) = read_png(&shell.path("one/000000.png"));
    shell.ok("sample -m rgb.safetensors -n 1 --device cpu -o one.png");
    let scale = 512_u32.div_ceil(one.width().min(one.height()));
    assert_eq!(
        read_png(&shell.path("one.png")).0.dimensions(),
        (scale * one.width(), scale * one.height())
    );
    shell.ok("sample -m rgb.safetensors -n 1 --size 68x32 --device cpu -o large.png");
    assert_eq!(read_png(&shell.path("large.png")).0.dimensions(), (68, 32));
}

#[test]
fn images_are_the_same_one_by_one_and_in_any_batch() {
    let shell = Shell::new();
    let line = "sample -m rgb.safetensors -n 5 --device cpu";
    shell.ok(&format!("{line} --scale 1 -o grid.png"));
    shell.ok(&format!("{line} -b 2 --threads 1 --each new/pictures"));
    let (grid, _) = read_png(&shell.path("grid.png"));
    for i in 0..5 {
        let (image, texts) = read_png(&shell.path(&format!("new/pictures/{i:06}.png")));
        assert_eq!(texts["index"], i.to_string());
        assert!(!texts.contains_key("class"), "{texts:?}");
        let (width, height) = image.dimensions();
        let columns = (grid.width() + 1) / (width + 1);
        let (left, top) = (i % columns * (width + 1), i / columns * (height + 1));
        let cell = image::imageops::crop_imm(&grid, left, top, width, height).to_image();
        assert!(cell == image, "image {i}");
    }
    assert_eq!(fs::read_dir(shell.path("new/pictures")).unwrap().count(), 5);
    shell.ok(&format!("{line} --scale 1 -s 1 -o other.png"));
    assert!(read_png(&shell.path("other.png")).0 != grid, "another seed gives other images");
    shell.ok(&format!("{line} --continuous -o continuous.png"));
    assert_eq!(read_png(&shell.path("continuous.png")).1["continuous"], "true");
}

#[test]
fn what_is_drawn_before_an_error_is_counted_and_kept() {
    let shell = Shell::new();
    fs::create_dir_all(shell.path("pictures/000003.png")).unwrap();
    let said = shell.error("sample -m rgb.safetensors -n 5 -b 2 --device cpu --each pictures");
    let expected = "error: stopped after 3 of 5 images, which are in pictures (--resume goes on from \
        there): cannot write pictures";
    assert!(said.contains(expected), "{said}");
    for i in 0..3 {
        read_png(&shell.path(&format!("pictures/{i:06}.png")));
    }
    assert_eq!(fs::read_dir(shell.path("pictures")).unwrap().count(), 4);
}

/// They would change nothing there.
#[test]
fn flags_about_grids_are_refused_where_there_is_none() {
    let shell = Shell::new();
    let refused = |line: &str, flag: &str| {
        let before = shell.files();
        let outcome = shell.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((outcome.code, shell.files()), (2, before), "{line}: {}", outcome.stderr);
        let expected =
            format!("error: {flag} a grid; a folder or an array holds the pixels that were drawn");
        assert!(outcome.stderr.starts_with(&expected), "{line}: {}", outcome.stderr);
    };
    let sample = "sample -m grey.safetensors -n 2 --class 1 --device cpu";
    shell.ok(&format!("{sample} --each images"));
    let complete = "complete images -m grey.safetensors --rows 4 -n 1 --device cpu";
    for (flag, expected) in
        [("--scale 1", "--scale: enlarges"), ("--captions always", "--captions: labels")]
    {
        for line in [sample, complete] {
            for output in ["--each a", "-o a.npz", "-o a.npy", "-o -.npy"] {
                refused(&format!("{line} {output} {flag}"), expected);
            }
        }
        for output in ["a", "a.npz", "a.npy", "-.npz"] {
            refused(&format!("merge images -o {output} {flag}"), expected);
        }
    }
    // An animation is a grid, and a flag that asks for nothing is none too many.
    shell.ok(&format!("{sample} --each a --scale 3 --animate a.gif"));
    shell.ok(&format!("{complete} -o b.npz --scale 3 --animate b.png"));
    shell.ok(&format!("{sample} -o c.npy --captions never"));
    shell.ok("merge images -o d.png --scale 3");
    assert_eq!(read_png(&shell.path("a/000000.png")).0.dimensions(), (14, 10));
}

#[test]
fn a_random_seed_is_said() {
    let shell = Shell::new();
    let seed = || {
        let said = shell.ok("sample -m grey.safetensors -n 1 -s random --device cpu").stderr;
        let seed = said.lines().next().unwrap().strip_prefix("seed: ").unwrap().to_owned();
        assert_eq!(read_png(&shell.path("samples.png")).1["seed"], seed);
        seed
    };
    assert_ne!(seed(), seed());
}

#[test]
fn flags_that_make_no_sense() {
    let shell = Shell::new();
    fs::write(shell.path("old.png"), "").unwrap();
    let mut permissions = fs::metadata(shell.path("old.png")).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(shell.path("old.png"), permissions).unwrap();
    fs::create_dir(shell.path("folder.png")).unwrap();
    fs::write(shell.path("file"), "").unwrap();
    shell.errors(
        "errors-sample",
        &[
            "sample --class 10",
            "sample --class 3,seven",
            "sample --class 3,",
            "sample -m rgb.safetensors --class 1",
            "sample -m mnist --size 30x28",
            "sample --size 0x0",
            "sample --size 28",
            "sample -n 0",
            "sample -n -1",
            "sample -b 0",
            "sample --threads 0",
            "sample -s tomorrow",
            "sample -n 10000000",
            "sample -o samples.jpg",
            "sample -o samples",
            "sample -o nowhere/samples.png",
            "sample -o file/samples.png",
            "sample -o folder.png",
            "sample -o old.png",
            "sample --each file",
            "sample --each a -o b.png",
            "sample --colour",
            "draw",
        ],
    );
    let long = shell.error(&format!("sample -o {}.png", "a".repeat(300)));
    assert!(long.contains("error: cannot write aaa"), "{long}");
}

#[test]
fn a_batch_beyond_memory() {
    let shell = Shell::new();
    let said = shell.error("sample -n 1000000000 -b 1000000000 --device cpu --each pictures");
    assert!(said.contains("a batch of 1000000000 images does not fit"), "{said}");
    assert!(said.contains("the largest batch that fits is "), "{said}");
}
