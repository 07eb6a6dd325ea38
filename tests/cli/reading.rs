//! Images that the program finds among its arguments, and its notes about the rest.
//! `tests/python/test_reading.py` tests that training reads the same pixels.

use std::fs;
use std::io::{Cursor, Write};

use image::{DynamicImage, GrayImage, ImageFormat, Luma, RgbImage};
use libjpeg_turbo_rs::{PixelFormat, Subsampling};
use serde_json::Value;

use crate::shell::{Outcome, Shell};

/// Not symmetric in any way, and of a size that both models take.
fn picture() -> RgbImage {
    RgbImage::from_fn(12, 16, |x, y| image::Rgb([(20 * x) as u8, (10 * y) as u8, (9 * x + 7 * y) as u8]))
}

fn grey() -> DynamicImage {
    GrayImage::from_fn(12, 16, |x, y| Luma([(5 * x + 11 * y) as u8])).into()
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    let mut file = Cursor::new(vec![]);
    image.into().write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

fn jpeg() -> Vec<u8> {
    let levels = picture().into_raw();
    libjpeg_turbo_rs::compress(&levels, 12, 16, PixelFormat::Rgb, 90, Subsampling::S420).unwrap()
}

fn progressive_jpeg() -> Vec<u8> {
    let levels = picture().into_raw();
    libjpeg_turbo_rs::compress_progressive(&levels, 12, 16, PixelFormat::Rgb, 90, Subsampling::S420)
        .unwrap()
}

impl Shell {
    fn put(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    /// The output of `eval --list --json` for images at their own sizes, and the exit code.
    pub fn list(&self, words: &str) -> (Value, i32) {
        let Outcome { code, stdout, stderr } =
            self.run(&format!("eval --list --json --native-size {words}").split(' ').collect::<Vec<_>>());
        let list = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{words}: {stderr}"));
        (list, code)
    }
}

fn texts<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    let texts = list.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap_or("none"));
    texts.collect()
}

#[test]
fn classes_belong_to_files_in_the_order_given() {
    let shell = Shell::new();
    for name in ["2.png", "9.png", "10.png", "folder/b.png", "folder/a.png"] {
        shell.put(name, &png(grey()));
    }
    let (list, code) = shell.list("-m grey.safetensors 2.png 9.png folder 10.png --class 0,1,2,3,4");
    assert_eq!(code, 0);
    let names = ["2.png", "9.png", "folder/a.png", "folder/b.png", "10.png"];
    assert_eq!(texts(&list["images"], "path"), names);
    let in_order = texts(&list["images"], "class");
    let (list, _) = shell.list("-m grey.safetensors 10.png 2.png --class 4,0");
    assert_eq!(texts(&list["images"], "class"), [in_order[4], in_order[0]]);
}

#[test]
fn sub_folders_named_by_classes_give_them() {
    let shell = Shell::new();
    for name in ["set/3/x.png", "set/test/7/deep/y.png", "set/other/z.png", "set/w.png"] {
        shell.put(name, &png(grey().resize_exact(28, 28, image::imageops::FilterType::Nearest)));
    }
    let (list, code) = shell.list("-m mnist set");
    assert_eq!(code, 0);
    assert_eq!(texts(&list["images"], "class"), ["3", "none", "7", "none"]);

    // Without a class there is no likelihood.
    let Outcome { code, stdout, stderr } =
        shell.run(&["eval", "-m", "mnist", "set", "--json", "--device", "cpu"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 1);
    assert_eq!(texts(&report["images"], "class"), ["3", "7"]);
    assert_eq!(texts(&report["passed_over"], "path"), ["set/other/z.png", "set/w.png"]);
    assert!(stderr.contains("passed over set/w.png: its class is not given"), "{stderr}");
    assert!(stderr.contains(
        "note: 2 of 4 images were passed over (--strict stops at the first)\nevaluating 2 images"
    ));
    assert!(stderr.lines().last().unwrap().starts_with("2 images evaluated in "), "{stderr}");
    assert_eq!(shell.list("-m mnist set --class 5").0["images"][3]["class"], "5");
}

#[test]
fn a_table_gives_classes() {
    let shell = Shell::new();
    let names = ["plain.png", "a, \"b\".png", "ünï.png", "unknown.png", "none.png"];
    for name in names {
        shell.put(&format!("pictures/{name}"), &png(grey()));
    }
    let table =
        "Path,note,class\nplain.png,,1\n\"a, \"\"b\"\".png\",x,2\nünï.png,,3\nunknown.png,,nothing\n";
    shell.put("pictures/labels.csv", table.as_bytes());
    let line = "-m grey.safetensors pictures --labels pictures/labels.csv";
    let (list, code) = shell.list(line);
    assert_eq!(code, 1);
    let by_index = |index: usize| shell.list(&format!("-m grey.safetensors pictures --class {index}")).0;
    let name = |index| by_index(index)["images"][0]["class"].as_str().unwrap().to_owned();
    assert_eq!(texts(&list["images"], "path").len(), 4);
    assert_eq!(
        texts(&list["images"], "class"),
        [name(2).as_str(), "none", name(1).as_str(), name(3).as_str()]
    );
    let reason = list["passed_over"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("nothing (--labels, line 5) is none of the model's: "), "{reason}");

    let refused = |rows: &str| {
        shell.put("wrong.csv", rows.as_bytes());
        shell.error("eval -m grey.safetensors pictures --labels wrong.csv")
    };
    let said = refused("path,class\npictures/plain.png,1\npictures/none.png,1\n./pictures/plain.png,2\n");
    let lines = "line 2 has pictures/plain.png as 1, and line 4 has ./pictures/plain.png as 2";
    assert!(said.contains(&format!("gives an image two classes: {lines}")), "{said}");
    let said = refused("path,class\nnone.png,1\npictures/plain.png,1\nnone.png,2\n");
    assert!(said.contains("line 2 has none.png as 1, and line 4 has none.png as 2"), "{said}");
    assert!(refused("path,class\n").contains("wrong.csv: has no rows"));
    let said = refused("path,class,Class\npictures/plain.png,1,2\n");
    assert!(said.contains("expected a first line with one column class, found path,class,Class"), "{said}");
    let said = refused("path,class\nother.png,1\nPictures/Plain.PNG,1\n");
    let expected = "0 of 2 rows match an image; nearest: line 3 has \"Pictures/Plain.PNG\", and an image is \
                    \"pictures/plain.png\"";
    assert!(said.contains(expected), "{said}");
    shell.put("some.csv", b"path,class\npictures/plain.png,1\nmissing.png,2\npictures/plain.png,1\n");
    let line = "eval -m grey.safetensors pictures/plain.png --native-size --labels some.csv --list";
    let some = shell.ok(line).stderr;
    let expected = "note: some.csv: 1 of 1 image named; 1 of 3 rows match no image\n";
    assert!(some.contains(expected), "{some}");

    shell.put("wrong.csv", b"file;class\n");
    let said = shell.error("eval -m grey.safetensors pictures --labels wrong.csv");
    assert!(said.contains("expected a first line with the columns path and class"), "{said}");
    assert!(shell.error("eval pictures --labels a.csv --class 1").contains("cannot be used with"));
}

/// Classes of images `a/1.png`, `a/2.png`, `b/2.png` and `b/3.png` by a table in `tables`, and what is said of it.
fn labelled(shell: &Shell, table: &str) -> (Vec<String>, String) {
    shell.put("tables/labels.csv", table.as_bytes());
    let line = "eval -m grey.safetensors set --native-size --labels tables/labels.csv --list --json";
    let Outcome { stdout, stderr, .. } = shell.run(&line.split(' ').collect::<Vec<_>>());
    let list = serde_json::from_str::<Value>(&stdout).ok();
    let classes = list.iter().flat_map(|list| texts(&list["images"], "class")).map(str::to_owned);
    (classes.collect(), stderr)
}

#[test]
fn tables_are_taken_as_people_have_them() {
    let shell = Shell::new();
    for name in ["a/1.png", "a/2.png", "b/2.png", "b/3.png"] {
        shell.put(&format!("set/{name}"), &png(grey()));
    }
    let all = |note: &str| format!("note: tables/labels.csv: {note}\n");
    for (table, note) in [
        // From the current folder, the table's, and that of the images; with names of columns and without.
        ("set/a/1.png,0\nset/a/2.png,1\nset/b/2.png,2\nset/b/3.png,3\n", "4 of 4 images named"),
        ("../set/a/1.png,0\n../set/a/2.png,1\n../set/b/2.png,2\n../set/b/3.png,3\n", "4 of 4 images named"),
        ("a/1.png,0\na/2.png,1\nb/2.png,2\nb/3.png,3\n", "4 of 4 images named"),
        ("FileName,Label\na/1.png,0\na/2.png,1\nb/2.png,2\nb/3.png,3\n", "4 of 4 images named"),
        (
            "\u{feff}a\\1.png, 0\n .\\a\\2.png,1\r\nset\\b\\2.png,2\n..\\set/b/3.png,3\n",
            "4 of 4 images named",
        ),
        // Base names, where they are unique.
        ("1.png,0\na/2.png,1\nb/2.png,2\n3.png,3\n", "4 of 4 images named"),
        (
            "C:\\mine\\1.png,0\na/2.png,1\nb/2.png,2\n/other/3.png,3\n",
            "4 of 4 images named, 2 of them by base name alone",
        ),
        // Rows of other files. One of the same base name is not that of an image that has its own.
        (
            "a/1.png,0\na/2.png,1\nb/2.png,2\nb/3.png,3\nc/3.png,4\nc/4.png,4\n",
            "4 of 4 images named; 2 of 6 rows match no image",
        ),
    ] {
        let (classes, said) = labelled(&shell, table);
        assert_eq!(classes, ["0", "1", "2", "3"], "{table:?}: {said}");
        assert!(said.contains(&all(note)), "{table:?}: {said}");
    }
    let (classes, said) = labelled(&shell, "1.png,4\n");
    assert_eq!(classes, ["4", "none", "none", "none"]);
    assert!(said.contains(&all("1 of 4 images named")), "{said}");
    for (table, why) in [
        (
            "a/1.png,0\n2.png,1\n",
            "line 2 has 2.png, and several images have that name: set/a/2.png and set/b/2.png",
        ),
        ("c/2.png,1\na/2.png,1\n", "line 1 has c/2.png, and several images have that name"),
        (
            "x/1.png,0\ny/1.png,1\n",
            "gives an image two classes: line 1 has x/1.png as 0, and line 2 has y/1.png as 1",
        ),
        ("a/1.png,0,1\n", "has 3 columns and no names of them: expected two"),
        (
            "id,label\na/1.png,0\n",
            "expected a first line with the columns path and class, or a path and a class in",
        ),
        ("a/1.png,0\nb/3.png\n", "cannot be read as a CSV file: "),
    ] {
        let (_, said) = labelled(&shell, table);
        assert!(
            said.starts_with("error: --labels tables/labels.csv: ") && said.contains(why),
            "{table:?}: {said}"
        );
    }
    // An image of an array is named with its number.
    let x: Vec<u8> = (0..2 * 4 * 8).collect();
    shell.put("x.npy", &npy("|u1", &[2, 4, 8], &x));
    shell.put("labels.csv", b"x.npy#1,2\nelsewhere/x.npy#0,3\n");
    let (list, _) = shell.list("-m grey.safetensors x.npy --labels labels.csv");
    assert_eq!(texts(&list["images"], "class"), ["3", "2"]);
}

#[test]
fn a_folder_of_a_class_gives_it_when_it_is_named_itself() {
    let shell = Shell::new();
    for name in ["digits/3/x.png", "digits/3/deep/y.png", "digits/7/z.png", "digits/w.png"] {
        shell.put(name, &png(grey().resize_exact(28, 28, image::imageops::FilterType::Nearest)));
    }
    let classes = |words: &str| {
        let (list, _) = shell.list(&format!("-m mnist {words}"));
        texts(&list["images"], "class").join(" ")
    };
    assert_eq!(classes("digits/3"), "3 3");
    assert_eq!(classes("digits/3/ digits/7/z.png digits/w.png"), "3 3 7 none");
    assert_eq!(classes("digits/7/../3"), "3 3");
    // Folders within come first: those around are of another kind then.
    shell.put("9/3/x.png", &fs::read(shell.path("digits/3/x.png")).unwrap());
    shell.put("9/w.png", &fs::read(shell.path("digits/3/x.png")).unwrap());
    assert_eq!(classes("9"), "3 none");
    for words in
        ["classify -m mnist digits/3 --device cpu", "classify -m mnist digits/7/z.png --device cpu"]
    {
        let said = shell.ok(words).stdout;
        assert!(said.contains(" are classified correctly"), "{said}");
    }
    let said = shell.ok("classify -m mnist digits/w.png --device cpu").stdout;
    let how = "nothing says their classes (folders named by them, y in an .npz, or --labels FILE.csv)\n";
    assert!(said.ends_with(how), "{said}");
    // From within.
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pixelcnn"))
        .args(["eval", "-m", "mnist", "z.png", ".", "--list", "--json"])
        .current_dir(shell.path("digits/7"))
        .output()
        .unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(texts(&list["images"], "class"), ["7", "7"]);
}

#[test]
fn what_cannot_be_used_is_named_and_passed_over() {
    let shell = Shell::new();
    let deep = image::ImageBuffer::<Luma<u16>, _>::new(12, 16);
    for (name, bytes) in [
        ("set/1 good.JPG", jpeg()),
        ("set/2 broken.png", png(picture())[..60].to_vec()),
        ("set/3 text.webp", b"no image".to_vec()),
        ("set/4 deep.png", png(deep)),
        ("set/5 odd size.png", png(RgbImage::new(5, 5))),
        ("set/6 good.png", png(picture())),
        ("set/notes.txt", vec![]),
        ("set/.hidden.png", vec![]),
        ("set/.cache/x.png", vec![]),
    ] {
        shell.put(name, &bytes);
    }
    let run = |line: &str| shell.run(&line.split(' ').collect::<Vec<_>>());
    let Outcome { code, stdout, stderr } =
        run("eval -m rgb.safetensors set nowhere.png --native-size --json --device cpu");
    assert_eq!(code, 1, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(texts(&report["images"], "path"), ["set/1 good.JPG", "set/6 good.png"]);
    let reasons = texts(&report["passed_over"], "reason");
    for (reason, expected) in reasons.iter().zip([
        "is broken or cut off",
        "is no image of a kind that can be read",
        "has more than 8 bits per channel",
        "model rgb cannot work on 5x5 images",
        "cannot be read: ",
    ]) {
        assert!(reason.starts_with(expected), "{reason}");
    }
    assert_eq!(reasons.len(), 5);
    assert_eq!(report["left_out"], serde_json::json!({"hidden": 2, "other_files": 1, "sub_folders": 0}));
    assert!(stderr.contains("note: left out in folders: 2 hidden, 1 of other kinds\n"), "{stderr}");
    assert!(stderr.contains("note: 5 of 7 images were passed over"), "{stderr}");

    let said = shell.error("eval -m rgb.safetensors set --strict");
    assert!(said.starts_with("error: set/2 broken.png: is broken or cut off"), "{said}");
    assert!(
        shell.error("eval -m rgb.safetensors nowhere.png nowhere.jpg").contains("none of the 2 images")
    );
}

#[test]
fn many_that_are_passed_over_are_counted() {
    let shell = Shell::new();
    shell.put("set/good.png", &png(picture()));
    for i in 0..30 {
        shell.put(&format!("set/{i}.png"), b"no image");
    }
    let named = |words: &[&str]| {
        let said = shell.run(words).stderr;
        (said.matches("passed over set/").count(), said.contains("and 10 more (--list names all)"))
    };
    assert_eq!(named(&["eval", "-m", "rgb.safetensors", "set", "--device", "cpu"]), (20, true));
    assert_eq!(named(&["eval", "-m", "rgb.safetensors", "set", "--list"]), (30, false));
}

#[test]
fn folders_in_folders_are_read_unless_told_not_to() {
    let shell = Shell::new();
    for name in ["set/b/c/2.png", "set/x.png/1.png", "set/a.png", "set/empty/readme"] {
        shell.put(name, &png(picture()));
    }
    let (list, _) = shell.list("-m rgb.safetensors set");
    assert_eq!(texts(&list["images"], "path"), ["set/a.png", "set/b/c/2.png", "set/x.png/1.png"]);
    let (list, code) = shell.list("-m rgb.safetensors set --no-recursive");
    assert_eq!((texts(&list["images"], "path"), code), (vec!["set/a.png"], 0));
    assert_eq!(list["left_out"]["sub_folders"], 3);
    let said = shell.error("eval -m rgb.safetensors set/empty");
    assert!(
        said.starts_with("error: set/empty: has no images: expected files that end in bmp, gif,"),
        "{said}"
    );
}

#[test]
#[cfg(unix)]
fn links_are_followed_and_loops_noticed() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let shell = Shell::new();
    shell.put("elsewhere/1.png", &png(picture()));
    fs::create_dir(shell.path("set")).unwrap();
    symlink("../elsewhere", shell.path("set/linked")).unwrap();
    symlink("../elsewhere/1.png", shell.path("set/one.png")).unwrap();
    symlink(".", shell.path("set/back")).unwrap();
    symlink("nowhere", shell.path("set/lost.png")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"set/odd \xff\n.png");
    fs::write(shell.folder.path().join(odd), png(picture())).unwrap();
    let (list, code) = shell.list("-m rgb.safetensors set");
    assert_eq!(code, 1);
    assert_eq!(texts(&list["images"], "path"), ["set/linked/1.png", "set/odd \\xff\\n.png", "set/one.png"]);
    assert_eq!(texts(&list["passed_over"], "path"), ["set/back", "set/lost.png"]);
    let reasons = texts(&list["passed_over"], "reason");
    assert_eq!(
        reasons,
        ["is a link back to set, in which it lies", "is a link to nowhere, which is not there"]
    );
    let said = shell.error("eval -m rgb.safetensors set/lost.png");
    assert_eq!(said, "error: set/lost.png: is a link to nowhere, which is not there\n");
}

#[test]
fn jpegs_are_decoded_as_libjpeg_turbo_does() {
    let shell = Shell::new();
    // SHA-256 of the RGB pixels that Pillow makes of each: 13.0.0 (libjpeg-turbo 3.2.0), and 12.3.0 (3.1.4) of those
    // with finer chroma or more after their end.
    for (name, expected) in [
        ("baseline-420.jpg", "b79ea8950d83af5d0fb4791d2b1ae51df4a3520b6460e4bb10d121377a051a28"),
        ("progressive-420.jpg", "b79ea8950d83af5d0fb4791d2b1ae51df4a3520b6460e4bb10d121377a051a28"),
        ("baseline-422.jpg", "94afffd6a0cd120fc8cbc9465c90d555439d40d5c95ccbf659d85f9d04432649"),
        ("baseline-444.jpg", "ff10de0c4d541d283ccd52afae10fb99f9c9b61d1157e71624aa3c28fdf4f564"),
        ("none-follows.jpg", "a6b9af975e0ce253332e65583b16eee8c8c0c5445c7167210a6fe8680b2e8693"),
        ("cut-jpeg-follows.jpg", "a6b9af975e0ce253332e65583b16eee8c8c0c5445c7167210a6fe8680b2e8693"),
        ("motion-photo.jpg", "0beb7d8718fbf6004939e288593426ad17baae1a284941d52ae4f29c0cb4005c"),
        ("chroma-finer.jpg", "54ca73e94a7a43f187399c89d8ce194c81a641a92c3f81ce1a5cae03fe14bc57"),
        ("chroma-wide.jpg", "c3e5099b36eadfe66953a05e18a90579a7a52893672e1bbc6abce3afc4a4f972"),
        ("crosswise.jpg", "6b98f270f8d35c6d2fdc8ede01b5f8916f5aa146452d98a70e84aa06619e3730"),
        ("chroma-thrice.jpg", "e472c1a9eba60055b695f5b738e57c3bcc33408dbe16d7458bd027c81f65a210"),
        ("grey.jpg", "87278bcdfd70325a13553d92d889c44135a33636e44ef008f30794f48dd9f7cb"),
    ] {
        let file = format!("{}/tests/images/{name}", env!("CARGO_MANIFEST_DIR"));
        fs::copy(file, shell.path(name)).unwrap();
        let (list, _) = shell.list(&format!("-m rgb.safetensors {name}"));
        assert_eq!(list["images"][0]["sha256"], expected, "{name}");
    }
}

#[test]
fn a_jpeg_that_is_cut_off_is_refused() {
    let shell = Shell::new();
    for (kind, whole) in [("baseline", jpeg()), ("progressive", progressive_jpeg())] {
        shell.put("whole.jpg", &whole);
        assert_eq!(shell.list("-m rgb.safetensors whole.jpg").1, 0, "{kind}");
        for length in [3 * whole.len() / 10, whole.len() / 2, 9 * whole.len() / 10, whole.len() - 1] {
            shell.put("cut.jpg", &whole[..length]);
            let said = shell.error("eval -m rgb.safetensors cut.jpg");
            assert!(said.starts_with("error: cut.jpg: is broken or cut off"), "{kind}, {length}: {said}");
        }
    }
}

#[test]
fn images_are_turned_as_exif_says_and_lie_on_white() {
    let shell = Shell::new();
    let upright = jpeg();
    let exif = |orientation: u8| {
        let tiff = [b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[orientation, 0, 0, 0][..]]
            .concat();
        let tiff = [&tiff[..], &[0; 4]].concat();
        let segment = [&[0xff, 0xe1, 0, tiff.len() as u8 + 2], &tiff[..]].concat();
        [&upright[..2], &segment, &upright[2..]].concat()
    };
    let pixels = libjpeg_turbo_rs::decompress_to(&upright, PixelFormat::Rgb).unwrap().data;
    let pixels = DynamicImage::from(RgbImage::from_raw(12, 16, pixels).unwrap());
    shell.put("turned.jpg", &exif(6));
    shell.put("expected.png", &png(pixels.rotate90()));
    shell.put("not turned.png", &png(pixels));
    let digest = |name: &str| {
        let outcome =
            shell.run(&["eval", "--list", "--json", "--native-size", "-m", "rgb.safetensors", name]);
        let list: Value = serde_json::from_str(&outcome.stdout).unwrap();
        list["images"][0]["sha256"].as_str().unwrap().to_owned()
    };
    assert_eq!(digest("turned.jpg"), digest("expected.png"));
    assert_ne!(digest("turned.jpg"), digest("not turned.png"));

    // Of 255: 100 · 51/255 + 255 · 204/255 = 224.
    let clear = image::RgbaImage::from_pixel(4, 4, image::Rgba([100, 100, 100, 51]));
    shell.put("clear.png", &png(clear));
    shell.put("flat.png", &png(RgbImage::from_pixel(4, 4, image::Rgb([224; 3]))));
    assert_eq!(digest("clear.png"), digest("flat.png"));
}

/// An array as NumPy saves it.
fn npy(descr: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|length| format!("{length}, ")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), bytes].concat()
}

fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(vec![]));
    for (name, array) in arrays {
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(array).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn arrays_bring_their_classes() {
    let shell = Shell::new();
    let x: Vec<u8> = (0..3 * 4 * 8).map(|v| v as u8).collect();
    let images = || ("x", npy("|u1", &[3, 4, 8], &x));
    let names = |names: [&str; 3]| {
        let text =
            names.map(|name| name.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect::<Vec<_>>());
        ("classes", npy("<U1", &[3], &text.concat()))
    };
    let labels = |labels: [u8; 3]| ("y", npy("|u1", &[3], &labels));
    let classes = |arrays: &[(&str, Vec<u8>)]| {
        shell.put("a.npz", &npz(arrays));
        let (list, code) = shell.list("-m grey.safetensors a.npz");
        let texts = texts(&list["images"], "class").into_iter().map(str::to_owned).collect::<Vec<_>>();
        (texts, code)
    };
    let (by_index, code) = classes(&[images(), labels([0, 2, 1])]);
    assert_eq!(code, 0);
    let (by_name, _) =
        classes(&[images(), labels([0, 1, 2]), names([&by_index[2], &by_index[1], &by_index[0]])]);
    assert_eq!(by_name, [&by_index[2][..], &by_index[1], &by_index[0]]);
    assert_eq!(classes(&[images()]).0, ["none"; 3]);
    let drawn = |labels: [i64; 3]| {
        let labels = labels.map(i64::to_le_bytes).concat();
        [("arr_0", npy("|u1", &[3, 4, 8], &x)), ("arr_1", npy("<i8", &[3], &labels))]
    };
    assert_eq!(classes(&drawn([0, 2, 1])).0, by_index);
    let [drawn_images, _] = drawn([0, 0, 0]);
    let scores = ("arr_1", npy("<f4", &[3], &[0; 12]));
    assert_eq!(classes(&[drawn_images, scores]).0, ["none"; 3]);
    shell.put("twice.npz", &npz(&[images(), labels([0, 1, 2]), names(["a", "b", "a"])]));
    let said = shell.error("eval -m grey.safetensors twice.npz");
    assert!(said.contains("its array classes has \"a\" twice, expected different names"), "{said}");
    let (known, code) = classes(&[images(), labels([0, 99, 1])]);
    assert_eq!((known.len(), code), (2, 1));

    shell.put("two.npz", &npz(&[images(), ("z", npy("|u1", &[1, 4, 8], &x[..32]))]));
    let said = shell.error("eval -m grey.safetensors two.npz --class 0");
    assert!(said.contains("several arrays of images: x, z (--array names the one to read)"), "{said}");
    let (list, _) = shell.list("-m grey.safetensors two.npz --array z --class 0");
    assert_eq!(texts(&list["images"], "path"), ["two.npz#0"]);
    shell.put("one.npy", &npy("<f4", &[1, 4, 8], &[0; 128]));
    let said = shell.error("eval -m grey.safetensors one.npy");
    assert!(said.contains("is float32 [1, 4, 8], expected uint8 [N, H, W]"), "{said}");
}
