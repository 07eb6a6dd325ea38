//! No output is an input or another output; no folder gets images of two runs.

use std::fs;
use std::os::unix::fs::symlink;

use crate::shell::{Shell, read_png};

/// Three images, an array, a table, a mask, links, and an image `x.png`.
fn inputs() -> Shell {
    let shell = Shell::new();
    shell.ok("sample -m grey.safetensors -n 3 --device cpu --each images");
    shell.ok("sample -m grey.safetensors -n 3 --device cpu -o a.npy");
    fs::copy(shell.path("images/000000.png"), shell.path("x.png")).unwrap();
    let rows = "path,class\nimages/000000.png,0\nimages/000001.png,1\nimages/000002.png,2\n";
    fs::write(shell.path("labels.csv"), rows).unwrap();
    image::GrayImage::from_pixel(14, 10, image::Luma([255])).save(shell.path("mask.png")).unwrap();
    for (name, target) in [
        ("link.png", "x.png"),
        ("link.csv", "labels.csv"),
        ("link.npy", "a.npy"),
        ("model.png", "grey.safetensors"),
        ("model.svg", "grey.safetensors"),
        ("folder", "images"),
        ("ahead.png", "new.png"),
        ("both.svg", "both.csv"),
    ] {
        symlink(target, shell.path(name)).unwrap();
    }
    fs::hard_link(shell.path("x.png"), shell.path("hard.png")).unwrap();
    shell
}

#[test]
fn no_output_is_a_file_that_is_read() {
    let shell = inputs();
    let here = shell.folder.path().display().to_string();
    let files = ["x.png", "a.npy", "labels.csv", "mask.png", "grey.safetensors", "images/000000.png"];
    let contents = || files.map(|file| fs::read(shell.path(file)).unwrap());
    let before = contents();
    for (line, expected) in [
        (
            "eval images --labels labels.csv --csv labels.csv",
            "--csv labels.csv: is the same file as --labels",
        ),
        ("eval images --labels labels.csv --csv link.csv", "--csv link.csv: is the same file as --labels"),
        ("eval a.npy --class 0 --params a.npy", "--params a.npy: is the same file as image a.npy"),
        (
            "eval link.npy --class 0 --params ./a.npy",
            "--params ./a.npy: is the same file as image link.npy",
        ),
        ("eval images --class 0 --plot images/000000.png", "is the same file as image images/000000.png"),
        (
            "eval images --class 0 --plot model.svg",
            "--plot model.svg: is the same file as -m grey.safetensors",
        ),
        ("classify a.npy --scores a.npy", "--scores a.npy: is the same file as image a.npy"),
        ("classify x.png --plot x.png", "--plot x.png: is the same file as image x.png"),
        ("classify x.png --plot hard.png", "--plot hard.png: is the same file as image x.png"),
        ("classify images --labels labels.csv --csv labels.csv", "is the same file as --labels"),
        ("complete x.png --rows 3 -o x.png", "-o x.png: is the same file as image x.png"),
        ("complete x.png --rows 3 -o HERE/x.png", "x.png: is the same file as image x.png"),
        ("complete x.png --mask mask.png -o mask.png", "-o mask.png: is the same file as --mask mask.png"),
        ("complete x.png --rows 3 --animate link.png", "--animate link.png: is the same file as image"),
        ("complete images --rows 3 --each images", "--each images: is a folder whose images are read"),
        ("complete images --rows 3 --each images --overwrite", "is a folder whose images are read"),
        ("complete images --rows 3 --each folder/. --overwrite", "is a folder whose images are read"),
        ("sample -n 1 -o model.png", "-o model.png: is the same file as -m grey.safetensors"),
        ("sample -n 1 --animate model.png", "--animate model.png: is the same file as -m grey.safetensors"),
        (
            "inspect --schedule --plot model.svg",
            "--plot model.svg: is the same file as -m grey.safetensors",
        ),
        ("bench -b 1 --seconds 0 --plot model.png", "is the same file as -m grey.safetensors"),
    ] {
        let device = if line.starts_with("inspect") { "" } else { " --device cpu" };
        let said = shell.error(&format!("{} -m grey.safetensors{device}", line.replace("HERE", &here)));
        assert!(said.contains(expected), "{line}: {said}");
        assert!(contents() == before, "{line}");
    }
    shell.ok("sample -m grey.safetensors -n 3 --device cpu -o part.npz");
    for (line, expected) in [
        ("merge part.npz -o ./part.npz", "-o ./part.npz: is the same file as part part.npz"),
        ("merge images -o images/000001.png", "is the same file as part images/000001.png"),
        ("merge images -o folder", "-o folder: is a folder whose images are read"),
    ] {
        let said = shell.error(line);
        assert!(said.contains(expected), "{line}: {said}");
        assert!(contents() == before, "{line}");
    }
    // Others are none of its business.
    shell.ok("eval images -m grey.safetensors --labels labels.csv --csv other.csv --device cpu");
    shell.ok("complete images/000000.png -m grey.safetensors --rows 3 -o completed.png --device cpu");
    assert!(contents() == before);
}

#[test]
fn no_output_is_another_output() {
    let shell = inputs();
    let same = "is the same file as";
    for (line, expected) in [
        (
            "sample -n 1 --animate new.png -o ./new.png",
            "--animate new.png: is the same file as -o ./new.png",
        ),
        (
            "sample -n 1 --animate new.png -o ahead.png",
            "--animate new.png: is the same file as -o ahead.png",
        ),
        ("sample -n 1 --animate link.png -o hard.png", same),
        ("sample -n 2 --each q --animate q/000000.png", "is the same file as an image of --each q"),
        ("sample -n 2 --each q --animate ./q/./000001.png", same),
        ("sample -n 2 --each q --animate ./q/../q/000001.png", "there is no folder ./q/../q"),
        ("sample -n 2 --each q --name a/{index}.png --animate q/a/1.png", same),
        ("complete x.png --rows 3 --animate new.png -o ./new.png", same),
        ("complete x.png --rows 3 --each q --animate q/000000-7.png", same),
        ("classify x.png --plot both.svg --csv both.csv", same),
        ("eval x.png --class 0 --plot both.svg --csv both.csv", same),
        ("bench -b 1 --seconds 0 --plot both.svg --csv both.csv", same),
    ] {
        let said = shell.error(&format!("{line} -m grey.safetensors --device cpu"));
        assert!(said.contains(expected), "{line}: {said}");
    }
    shell.ok(
        "sample -m grey.safetensors -n 2 --each q --animate q/000002.png --scores q/s.csv --device cpu",
    );
    read_png(&shell.path("q/000001.png"));
    let mut files: Vec<_> =
        fs::read_dir(shell.path("q")).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["000000.png", "000001.png", "000002.png", "s.csv"]);
    // The same command again replaces its own output.
    shell.ok(
        "sample -m grey.safetensors -n 2 --each q --animate q/000002.png --scores q/s.csv --device cpu",
    );
}

#[test]
fn images_of_two_runs_are_mixed_only_if_asked() {
    let shell = Shell::new();
    let line = "sample -m grey.safetensors --device cpu --each a";
    shell.ok(&format!("{line} -n 4"));
    let contents = || {
        let files = fs::read_dir(shell.path("a")).unwrap().map(|file| file.unwrap().path());
        files.map(|file| (fs::read(&file).unwrap(), file)).collect::<std::collections::BTreeSet<_>>()
    };
    let before = contents();
    for (flags, why) in [
        ("-n 4 -s 1", "its seed is 0, expected 1"),
        ("-n 2", "its index is 2, expected 0 to 1"),
        ("-n 2 --first 4", "its index is 0, expected 4 to 5"),
        ("-n 4 --name {index}.png", "its name would be a/0.png"),
        ("-n 4 --class 1", "its class is"),
        ("-n 4 --shard 0/2 -s 1", "its seed is 0, expected 1"),
        ("-n 4 --name {class_index}/{index}.png -s 1", "its seed is 0, expected 1"),
    ] {
        let said = shell.error(&format!("{line} {flags}"));
        assert!(said.contains("is an image of another run") && said.contains(why), "{flags}: {said}");
        assert!(said.contains("--resume") && said.contains("--overwrite"), "{said}");
        assert!(contents() == before, "{flags}");
    }
    let said = shell.error("sample -m rgb.safetensors -n 4 --device cpu --each a");
    assert!(said.contains("is an image of another run"), "{said}");
    // The same images again, shares of the same run, and more of it.
    shell.ok(&format!("{line} -n 4"));
    assert!(contents() == before);
    shell.ok(&format!("{line} -n 4 --shard 1/2"));
    assert_eq!(contents().len(), 4);
    shell.ok(&format!("{line} -n 6 --first 0 --resume"));
    shell.ok(&format!("{line} -n 6"));
    assert_eq!(contents().len(), 6);
    // A user's photo.
    image::GrayImage::new(5, 5).save(shell.path("a/photo.bmp")).unwrap();
    let said = shell.error(&format!("{line} -n 6"));
    assert!(said.contains("a/photo.bmp is an image of another run"), "{said}");
    fs::remove_file(shell.path("a/photo.bmp")).unwrap();
    fs::write(shell.path("a/notes.txt"), "mine").unwrap();
    shell.ok(&format!("{line} -n 6"));
    shell.ok(&format!("{line} -n 3 -s 1 --overwrite"));
    assert_eq!(contents().len(), 7);
    assert_eq!(read_png(&shell.path("a/000002.png")).1["seed"], "1");
    assert_eq!(read_png(&shell.path("a/000003.png")).1["seed"], "0");

    let merge = "merge whole.npz -o a";
    shell.ok("sample -m grey.safetensors -n 6 --device cpu -o whole.npz");
    assert!(shell.error(merge).contains("is an image of another run: its seed is 1, expected 0"));
    shell.ok(&format!("{merge} --overwrite"));
    shell.ok(merge);
    let complete = "complete a/000000.png -m grey.safetensors --rows 3 -n 2 --device cpu --each a";
    let said = shell.error(complete);
    assert!(
        said.contains("--each a: a/000000.png is an image of another run: its image is none"),
        "{said}"
    );
    shell.ok(&format!("{complete} --overwrite"));
    // Two completions and the mask.
    assert_eq!(contents().len(), 10);
}

#[test]
fn a_random_seed_makes_no_run_of_several_processes() {
    let shell = Shell::new();
    for seed in ["random", "-1"] {
        let line = format!("sample -m nowhere.safetensors -n 4 --device cpu -s {seed}");
        let said = shell.error(&format!("{line} --shard 0/2 -o a.npz"));
        assert!(said.contains("-s random: with --shard") && said.contains("the same number"), "{said}");
        let said = shell.error(&format!("{line} --each a --resume"));
        assert!(said.contains("-s random: with --resume") && said.contains("inspect"), "{said}");
    }
    shell.ok("sample -m grey.safetensors -n 2 --device cpu -s random --each a");
}
