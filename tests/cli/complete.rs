//! `pixelcnn complete`: completions of known pixels, and refusals.

use std::fs;
use std::io::Read;
use std::path::Path;

use image::{AnimationDecoder, GrayImage, Luma, RgbImage};

use crate::shell::{Shell, read_png};

/// What is unknown, or not drawn yet.
const UNKNOWN: image::Rgb<u8> = image::Rgb([38, 60, 110]);

/// The cell of a picture's grid.
fn cell(picture: &RgbImage, column: u32, row: u32, width: u32, height: u32) -> RgbImage {
    image::imageops::crop_imm(picture, column * (width + 1), row * (height + 1), width, height).to_image()
}

fn pixels(path: &Path) -> RgbImage {
    read_png(path).0
}

#[test]
fn with_nothing_known_it_is_sampling() {
    let shell = Shell::new();
    for model in ["grey", "rgb"] {
        let flags = format!("-m {model}.safetensors -s 4 --device cpu");
        shell.ok(&format!("sample {flags} -n 6 --size 8x12 --each {model}"));
        // Not seen.
        fs::create_dir(shell.path("inputs")).unwrap();
        for i in 0..2 {
            let from = shell.path(&format!("{model}/{:06}.png", i + 3));
            fs::copy(from, shell.path(&format!("inputs/{i}.png"))).unwrap();
        }
        shell.ok(&format!("complete inputs {flags} --rows 0 -n 3 -b 4 --each completed"));
        for i in 0..6 {
            let completed = shell.path(&format!("completed/{:06}-{}.png", i / 3, i % 3));
            let (image, texts) = read_png(&completed);
            if model == "rgb" || i % 3 == i {
                // Classes are cycled over the completions of an image, not over all.
                assert!(image == pixels(&shell.path(&format!("{model}/{i:06}.png"))), "{model} {i}");
            }
            assert_eq!((&*texts["index"], &*texts["image"]), (&*i.to_string(), &*format!("{}.png", i / 3)));
        }
        fs::remove_dir_all(shell.path("completed")).unwrap();
        fs::remove_dir_all(shell.path("inputs")).unwrap();
    }
}

#[test]
fn the_top_half_of_a_sample_is_completed_to_that_sample() {
    let shell = Shell::new();
    for (model, size) in [("grey", "8x12"), ("rgb", "16x8")] {
        let flags = format!("-m {model}.safetensors -s 4 --device cpu");
        shell.ok(&format!("sample {flags} -n 3 --size {size} --each {model}"));
        let rows = if model == "grey" { 6 } else { 4 };
        // Class i of grey has the pixels of sample i.
        for i in 0..3 {
            let class = if model == "grey" { format!("--class {i}") } else { "--threads 1".to_owned() };
            let drawn = format!("{model}/{i:06}.png");
            let line = |seed: &str| {
                format!(
                    "complete {drawn} -m {model}.safetensors {seed} --device cpu --rows {rows} -n {} {class} --each out --overwrite",
                    i + 1
                )
            };
            shell.ok(&line("-s 4"));
            let completed = pixels(&shell.path(&format!("out/000000-{i}.png")));
            let sample = pixels(&shell.path(&drawn));
            assert!(completed == sample, "{drawn}");
            shell.ok(&line("-s 5"));
            let other = pixels(&shell.path(&format!("out/000000-{i}.png")));
            let top = |image: &RgbImage| image.as_raw()[..(3 * image.width() * rows) as usize].to_vec();
            assert!(other != sample && top(&other) == top(&sample), "{drawn}, another seed");
        }
    }
}

#[test]
fn rows_of_the_picture_are_images_and_their_completions() {
    let shell = Shell::new();
    shell.ok("sample -m rgb.safetensors -n 2 --size 8x8 --device cpu --each inputs");
    // Another size.
    shell.ok("sample -m rgb.safetensors -n 1 --size 12x4 --scale 1 --device cpu -o inputs/wide.png");
    let line = "complete inputs -m rgb.safetensors --box 2,1,3x2 -n 2 -b 2 -s 9 --device cpu";
    let said = shell.ok(&format!("{line} --scale 1 -o a.png")).stderr;
    assert!(said.contains("note: known pixels that come after unknown ones"), "{said}");
    assert!(said.contains("6 completions of 3 images (model rgb) on CPU"), "{said}");
    let (picture, texts) = read_png(&shell.path("a.png"));
    assert_eq!(picture.dimensions(), (4 * 13 - 1, 3 * 9 - 1));
    assert_eq!(texts["known"], "box 2,1,3x2");
    assert_eq!(texts["images"], "000000.png,000001.png,wide.png");
    let is_known = |x: u32, y: u32| !((2..5).contains(&x) && (1..3).contains(&y));
    for (row, name) in ["000000", "000001", "wide"].iter().enumerate() {
        let input = pixels(&shell.path(&format!("inputs/{name}.png")));
        let cells: Vec<_> = (0..4).map(|column| cell(&picture, column, row as u32, 12, 8)).collect();
        for (x, y, pixel) in input.enumerate_pixels() {
            assert_eq!(cells[0][(x, y)], if is_known(x, y) { *pixel } else { UNKNOWN });
            assert!(!is_known(x, y) || cells[1][(x, y)] == *pixel && cells[2][(x, y)] == *pixel);
            assert_eq!(cells[3][(x, y)], *pixel);
        }
        assert!(cells[1] != cells[2] && cells[1] != cells[3], "row {row}");
    }
    // The recorded command draws it again; the folder has the name in that command.
    fs::rename(shell.path("a.png"), shell.path("before.png")).unwrap();
    shell.ok(texts["command"].strip_prefix("pixelcnn ").unwrap());
    let (again, mut texts_again) = read_png(&shell.path("a.png"));
    assert!(again == picture);
    // Sizes of images have batches of their own, which no flag says.
    texts_again.insert("batch".to_owned(), texts["batch"].clone());
    assert_eq!(texts_again, texts);
    shell.ok(&format!("{line} --scale 3 -o large.png"));
    let large = pixels(&shell.path("large.png"));
    let picture = pixels(&shell.path("before.png"));
    assert_eq!(large.dimensions(), (3 * picture.width(), 3 * picture.height()));
    assert!(large.enumerate_pixels().all(|(x, y, pixel)| *pixel == picture[(x / 3, y / 3)]));
}

#[test]
fn masks_have_any_shape() {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 2 --size 8x6 --device cpu --each inputs");
    let save = |name: &str, is_unknown: &dyn Fn(u32, u32) -> bool| {
        let level = |x, y| Luma([if is_unknown(x, y) { 255 } else { 0 }]);
        GrayImage::from_fn(8, 6, level).save(shell.path(name)).unwrap();
    };
    save("scattered.png", &|x, y| (3 * x + y) % 4 == 1);
    save("all.png", &|_, _| true);
    save("none.png", &|_, _| false);
    GrayImage::new(8, 4).save(shell.path("small.png")).unwrap();
    let line = "complete inputs -m grey.safetensors --device cpu -n 2";
    shell.ok(&format!("{line} --mask scattered.png --class 1,0 --each out"));
    for (i, k) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (completed, texts) = read_png(&shell.path(&format!("out/{i:06}-{k}.png")));
        let input = pixels(&shell.path(&format!("inputs/{i:06}.png")));
        let differs =
            |(x, y, pixel): (u32, u32, &image::Rgb<u8>)| (pixel != &input[(x, y)]).then_some((x, y));
        let differ: Vec<_> = completed.enumerate_pixels().filter_map(differs).collect();
        assert!(!differ.is_empty() && differ.iter().all(|(x, y)| (3 * x + y) % 4 == 1), "{differ:?}");
        assert_eq!(texts["class"], if k == 0 { "1" } else { "0" });
    }
    shell.ok(&format!("{line} --mask all.png -o all-unknown.png"));
    let said = shell.error(&format!("{line} --mask none.png"));
    let expected =
        "error: inputs/000000.png: there is nothing to draw: --mask none.png leaves no pixel unknown";
    assert!(said.contains(expected), "{said}");
    let said = shell.error(&format!("{line} --mask small.png"));
    assert!(said.contains("--mask small.png: is 8x4, and the image is 8x6"), "{said}");
}

#[test]
fn classes_come_from_folders_flags_or_turns() {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 2 --size 8x6 --device cpu --each inputs");
    fs::create_dir_all(shell.path("labelled/1")).unwrap();
    fs::rename(shell.path("inputs/000001.png"), shell.path("labelled/1/one.png")).unwrap();
    let classes = |line: &str| {
        shell.ok(&format!("complete {line} -m grey.safetensors --device cpu --rows 3 -n 3"));
        read_png(&shell.path("completions.png")).1["classes"].clone()
    };
    assert_eq!(classes("labelled inputs"), "1,1,1,0,1,2");
    assert_eq!(classes("labelled inputs --class 2,1"), "2,1,2,2,1,2");
}

#[test]
fn particles_are_chosen_by_what_comes_after_them() {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 1 --size 8x6 --device cpu --each inputs");
    let line = "complete inputs -m grey.safetensors --native-size --class 0 --device cpu -n 3";
    let said = shell.ok(&format!("{line} --box 2,1,4x3 --particles 20 -b 7 -o a.png")).stderr;
    assert!(!said.contains("note: "), "{said}");
    let (picture, texts) = read_png(&shell.path("a.png"));
    let effective: Vec<f64> =
        texts["effective_sample_size"].split(',').map(|e| e.parse().unwrap()).collect();
    assert!(effective.len() == 3 && effective.iter().all(|e| (1.0..20.0).contains(e)), "{effective:?}");
    let mean = effective.iter().sum::<f64>() / 3.0;
    let expected = format!("effective sample size: {mean:.1} of 20 particles on average, ");
    assert!(said.contains(&expected), "{said}, expected {expected}");
    // In any batch; and again as it says.
    shell.ok(&format!("{line} --box 2,1,4x3 --particles 20 --threads 1 -o b.png"));
    assert!(pixels(&shell.path("b.png")) == picture);
    fs::rename(shell.path("a.png"), shell.path("before.png")).unwrap();
    shell.ok(texts["command"].strip_prefix("pixelcnn ").unwrap());
    assert!(read_png(&shell.path("a.png")) == (picture, texts));
    // Each is one of the candidates.
    shell.ok(
        "complete inputs -m grey.safetensors --class 0 --device cpu -n 60 --box 2,1,4x3 --each candidates",
    );
    shell.ok(&format!("{line} --box 2,1,4x3 --particles 20 --each chosen"));
    for k in 0..3 {
        let chosen = pixels(&shell.path(&format!("chosen/000000-{k}.png")));
        let candidate = |c| pixels(&shell.path(&format!("candidates/000000-{c}.png")));
        assert!((20 * k..20 * (k + 1)).any(|c| candidate(c) == chosen), "completion {k}");
    }
    let said = shell.ok(&format!("{line} --rows 3 --particles 5")).stderr;
    assert!(said.contains("no known pixel comes after an unknown one"), "{said}");
}

#[test]
fn a_run_of_completions_goes_on_where_it_stopped() {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 2 --size 8x6 --device cpu --each inputs");
    shell.ok("sample -m grey.safetensors -n 1 --size 12x8 --scale 1 --device cpu -o inputs/large.png");
    let line = "complete inputs -m grey.safetensors --native-size --device cpu -n 3 --box 2,1,4x3 --particles 2 --each";
    shell.ok(&format!("{line} whole"));
    shell.ok(&format!("{line} out"));
    for name in ["000000-1.png", "000002-0.png", "000002-2.png", "000001-mask.png"] {
        fs::remove_file(shell.path(&format!("out/{name}"))).unwrap();
    }
    let said = shell.ok(&format!("{line} out --resume")).stderr;
    assert!(said.starts_with("6 of 9 completions are there already\ndrawing 3 completions"), "{said}");
    let said = shell.ok(&format!("{line} out --resume")).stderr;
    assert!(said.starts_with("9 of 9 completions are there already\n"), "{said}");
    let files = |folder: &str| {
        let names = fs::read_dir(shell.path(folder)).unwrap().map(|file| file.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        let file = |name: String| (pixels(&shell.path(&format!("{folder}/{name}"))), name);
        names.into_iter().map(file).collect::<Vec<_>>()
    };
    assert_eq!(files("out").len(), 12);
    assert!(files("out") == files("whole"));
    // Other masks, other images of that name, and other seeds are other runs.
    for (flags, why) in [
        ("--box 2,1,4x2 --particles 2", "its known is box 2,1,4x3, expected box 2,1,4x2"),
        ("--box 2,1,4x3", "its particles is 2, expected 1"),
        ("--box 2,1,4x3 --particles 2 -s 1", "its seed is 0, expected 1"),
        ("--box 2,1,4x3 --particles 2 --class 2", "its class is 0, expected 2"),
    ] {
        let line =
            format!("complete inputs -m grey.safetensors --device cpu -n 3 {flags} --each out --resume");
        let said = shell.error(&line);
        assert!(said.contains("out/000000-0.png is another image: ") && said.contains(why), "{said}");
    }
    fs::copy(shell.path("inputs/000001.png"), shell.path("inputs/000000.png")).unwrap();
    let said = shell.error(&format!("{line} out --resume"));
    assert!(said.contains("its image is 000000.png (SHA-256 "), "{said}");
}

#[test]
fn completions_are_arrays_with_their_images_and_masks() {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 2 --size 8x6 --device cpu --each inputs");
    let line = "complete inputs -m grey.safetensors --device cpu -n 2 --rows 4 --class 1,0";
    shell.ok(&format!("{line} -o c.npz"));
    shell.ok(&format!("{line} --each out"));
    let array = |name: &str, header: usize| {
        let mut archive = zip::ZipArchive::new(fs::File::open(shell.path("c.npz")).unwrap()).unwrap();
        let mut bytes = Vec::new();
        archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
        bytes.split_off(header)
    };
    let each: Vec<u8> = [(0, 0), (0, 1), (1, 0), (1, 1)]
        .iter()
        .flat_map(|(i, k)| pixels(&shell.path(&format!("out/{i:06}-{k}.png"))).into_raw())
        .collect();
    assert!(array("arr_0", 128) == each);
    let images = (0..2).flat_map(|i| pixels(&shell.path(&format!("inputs/{i:06}.png"))).into_raw());
    assert!(array("images", 128) == images.collect::<Vec<_>>());
    // White is unknown in a mask file, and 1 in an array.
    let mask = pixels(&shell.path("out/000001-mask.png")).into_raw();
    let masks = array("masks", 128);
    assert!(masks[48..] == mask.iter().step_by(3).map(|level| level / 255).collect::<Vec<_>>());
    assert_eq!(masks[48..], [vec![0; 4 * 8], vec![1; 2 * 8]].concat());
    assert_eq!(array("arr_1", 128).iter().step_by(8).copied().collect::<Vec<_>>(), [1, 0, 1, 0]);
    // A mask goes back in.
    shell.ok(&format!("{} --mask out/000001-mask.png -o again.npz", line.replace(" --rows 4", "")));
    shell.ok("sample -m grey.safetensors -n 1 --size 12x8 --scale 1 --device cpu -o inputs/large.png");
    let said = shell.error(&format!("{line} -o d.npz"));
    assert!(
        said.contains("an array holds images of one size, but 000000.png is 8x6, and large.png is 12x8"),
        "{said}"
    );
}

#[test]
fn sheets_are_drawn_again() {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 2 --size 8x6 --device cpu --each inputs");
    fs::create_dir(shell.path("colour")).unwrap();
    shell.ok("sample -m rgb.safetensors -n 1 --size 8x8 --scale 1 --device cpu -o colour/a.png");
    shell.ok("sample -m rgb.safetensors -n 1 --size 12x4 --scale 1 --device cpu -o colour/b.png");
    GrayImage::from_fn(8, 6, |x, y| Luma([if (3 * x + y) % 4 == 1 { 255 } else { 0 }]))
        .save(shell.path("mask.png"))
        .unwrap();
    for line in [
        "inputs -m grey.safetensors --mask mask.png -n 2 --class 1,0 --particles 3",
        "colour -m rgb.safetensors --rows 2 -n 3 --scale 3 --temperature 0.9",
        "colour -m rgb.safetensors --box 1,1,2x2 -n 1 -s 5",
    ] {
        shell.ok(&format!("complete {line} --device cpu -o sheet.png"));
        // It contains everything that it needs beside the model.
        let picture = pixels(&shell.path("sheet.png"));
        assert!(line.contains("--scale") || picture.width().min(picture.height()) >= 512);
        fs::rename(shell.path("sheet.png"), shell.path("moved.png")).unwrap();
        let model = line.split(' ').nth(2).unwrap();
        let said = shell.ok(&format!("inspect moved.png --redraw -m {model}")).stdout;
        assert!(said.ends_with("every pixel is the same\n"), "{line}: {said}");
    }
    shell.ok("complete inputs -m grey.safetensors --rows 2 -n 1 --device cpu --each out");
    let said = shell.error("inspect out/000000-0.png --redraw -m grey.safetensors");
    assert!(said.contains("sheets of `pixelcnn complete -o` do"), "{said}");
}

#[test]
fn draws_are_steered_and_drawn_again() {
    let shell = Shell::new();
    let line = "sample -m rgb.safetensors -n 2 --device cpu";
    shell.ok(&format!("{line} -o plain.png"));
    shell.ok(&format!("{line} --temperature 1 --truncate 0 --min-p 0 -o same.png"));
    let plain = read_png(&shell.path("plain.png"));
    assert!(pixels(&shell.path("same.png")) == plain.0);
    assert_eq!((&*plain.1["temperature"], &*plain.1["truncation"]), ("1.0", "0.0"));
    assert_eq!(plain.1["min_p"], "0.0");
    assert!(!plain.1["command"].contains("--t"), "{}", plain.1["command"]);
    assert!(!plain.1["command"].contains("--min-p"), "{}", plain.1["command"]);
    let steering = ["--temperature 0.7", "--truncate 0.05", "--temperature 0 --truncate 0.5", "--min-p 1"];
    for flags in steering {
        shell.ok(&format!("{line} {flags} -o steered.png"));
        let steered = read_png(&shell.path("steered.png"));
        assert!(steered.0 != plain.0 && steered.1["command"].contains(flags), "{:?}", steered.1);
        shell.ok(steered.1["command"].strip_prefix("pixelcnn ").unwrap());
        assert!(read_png(&shell.path("steered.png")) == steered);
    }
    // The same in completions.
    shell.ok("sample -m rgb.safetensors -n 1 --scale 1 --device cpu -o one.png");
    shell.ok("complete one.png -m rgb.safetensors --device cpu --rows 0 -n 1 --temperature 0.7 -o c.png");
    assert_eq!(read_png(&shell.path("c.png")).1["temperature"], "0.7");
}

/// Frames of a GIF or an animated PNG.
fn frames(path: &Path) -> Vec<(RgbImage, u32)> {
    let bytes = std::io::Cursor::new(fs::read(path).unwrap());
    let frames = match path.extension().unwrap().to_str().unwrap() {
        "gif" => image::codecs::gif::GifDecoder::new(bytes).unwrap().into_frames(),
        _ => image::codecs::png::PngDecoder::new(bytes).unwrap().apng().unwrap().into_frames(),
    };
    let frame = |frame: image::Frame| {
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        (image::DynamicImage::from(frame.into_buffer()).into_rgb8(), numerator / denominator)
    };
    frames.map(|f| frame(f.unwrap())).collect()
}

#[test]
fn columns_of_a_sheet_are_labelled() {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 2 --size 8x6 --device cpu --each inputs");
    let line = "complete inputs -m grey.safetensors --rows 3 -n 3 --class 0 --device cpu";
    shell.ok(&format!("{line} --scale 1 -o raw.png"));
    shell.ok(&format!("{line} -o sheet.png --animate moving.png"));
    shell.ok(&format!("{line} --captions never -o plain.png"));
    let [raw, sheet, plain] =
        ["raw", "sheet", "plain"].map(|name| pixels(&shell.path(&format!("{name}.png"))));
    assert_eq!(raw.dimensions(), (5 * 9 - 1, 2 * 7 - 1));
    let scale = 512_u32.div_ceil(13);
    assert_eq!(plain.dimensions(), (scale * raw.width(), scale * raw.height()));
    // Labels lie above, of every column, and nothing else has changed.
    let top = sheet.height() - plain.height();
    assert!(top > 16 && sheet.width() == plain.width());
    assert!(image::imageops::crop_imm(&sheet, 0, top, plain.width(), plain.height()).to_image() == plain);
    let label =
        |column: u32| image::imageops::crop_imm(&sheet, column * 9 * scale, 0, 8 * scale, top).to_image();
    let labels: Vec<_> = (0..5).map(label).collect();
    let ink = |label: &RgbImage| label.pixels().filter(|pixel| pixel.0[0] > 200).count();
    assert!(labels.iter().all(|label| ink(label) > 20));
    assert!(ink(&labels[4]) > ink(&labels[1]) && labels[1] != labels[2]);
    assert!(frames(&shell.path("moving.png")).last().unwrap().0 == sheet);
    // The images are read from it to draw it again.
    let said = shell.ok("inspect sheet.png --redraw --quiet").stdout;
    assert!(said.ends_with("every pixel is the same\n"), "{said}");
    // Cells of 48 pixels have no room for "original".
    let small = shell.error(&format!("{line} --scale 6 --captions always"));
    assert!(small.contains("--captions always: --scale 6 leaves no room for captions"), "{small}");
}

#[test]
fn animations_end_with_the_picture() {
    let shell = Shell::new();
    let count = |picture: &RgbImage| picture.pixels().filter(|pixel| **pixel == UNKNOWN).count();
    shell.ok("sample -m grey.safetensors -n 4 --size 8x6 --device cpu --each inputs");
    for (line, drawn) in [
        ("sample -m grey.safetensors -n 5 -b 2 --scale 2 --device cpu", 5 * 140 * 4),
        ("sample -m rgb.safetensors -n 3 --scale 3 --device cpu", 3 * 96 * 9),
        (
            "complete inputs -m grey.safetensors --box 1,2,4x3 -n 2 -b 3 --scale 1 --device cpu",
            (8 + 4) * 12,
        ),
    ] {
        for kind in ["gif", "png"] {
            shell.ok(&format!("{line} -o still.png --animate moving.{kind}"));
            let still = pixels(&shell.path("still.png"));
            let frames = frames(&shell.path(&format!("moving.{kind}")));
            assert!((2..=101).contains(&frames.len()), "{line}: {} frames", frames.len());
            let (last, others) = frames.split_last().unwrap();
            assert!(last.0 == still, "{line}, {kind}");
            assert_eq!(last.1, 3000);
            assert!(others.iter().all(|(_, delay)| *delay == 50));
            assert_eq!(count(&frames[0].0), drawn, "{line}, {kind}");
            assert!(frames.windows(2).all(|pair| count(&pair[0].0) > count(&pair[1].0)));
            // A drawn pixel has its last value.
            for (frame, _) in others {
                let mut pairs = frame.pixels().zip(still.pixels());
                assert!(pairs.all(|(shown, last)| *shown == UNKNOWN || shown == last), "{line}, {kind}");
            }
        }
        // As a program without support for animated PNG shows it.
        assert_eq!(count(&pixels(&shell.path("moving.png"))), drawn, "{line}");
        assert!(read_png(&shell.path("moving.png")).1["command"].contains("--animate moving.png"));
    }
}

#[test]
fn flags_that_make_no_sense() {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 1 --size 8x6 --scale 1 --device cpu -o image.png");
    fs::write(shell.path("text.png"), "no image").unwrap();
    shell.errors(
        "errors-complete",
        &[
            "complete",
            "complete image.png",
            "complete image.png --rows 1 --box 0,0,1x1",
            "complete image.png -m grey.safetensors --rows 7",
            "complete image.png -m grey.safetensors --rows 6",
            "complete image.png -m grey.safetensors --rows -1",
            "complete image.png -m grey.safetensors --box 0,0,9x1",
            "complete image.png -m grey.safetensors --box 0,0",
            "complete image.png -m grey.safetensors --mask nowhere.png",
            "complete image.png -m grey.safetensors --mask text.png",
            "complete image.png -m rgb.safetensors --rows 3",
            "complete nowhere.png -m grey.safetensors --rows 3",
            "complete image.png -m grey.safetensors --rows 3 --class d",
            "complete image.png -m grey.safetensors --rows 3 --particles 0",
            "complete image.png -m grey.safetensors --rows 3 -o out.jpg",
            "complete image.png -m grey.safetensors --rows 3 -n 100000000",
            "sample --temperature -0.1",
            "sample --temperature nan",
            "sample --temperature inf",
            "sample --truncate 1",
            "sample --truncate -0.1",
            "sample --min-p 1.1",
            "sample --scale 0",
            "sample --animate a.mp4",
            "sample --animate nowhere/a.gif",
            "sample -n 1000000 --animate a.gif",
            "sample --scale 64 --animate a.gif -n 1000",
            "sample --animate samples.png",
            "sample --scores s.txt",
            "inspect --plot a.svg",
            "inspect --schedule --plot a.jpg",
            "inspect --figure",
        ],
    );
}
