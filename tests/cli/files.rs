//! Output files: links, modes, mount points, signals, full disks.

use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::shell::{Shell, read_png, wait_for_words};

fn begin(shell: &Shell, script: &str) -> Child {
    let program = env!("CARGO_BIN_EXE_pixelcnn");
    let mut command = Command::new("sh");
    // Tests that run in the background, or under nohup, would hand on that some signals are ignored.
    let obey = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
            // SAFETY: it may be called between fork and exec, and the default asks for no function.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: as said there.
    unsafe { command.pre_exec(obey) };
    command
        .args(["-c", &script.replace("pixelcnn ", &format!("exec '{program}' "))])
        .current_dir(shell.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Waits for something that a program does while it runs.
fn wait(child: &mut Child, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before {what}");
        assert!(start.elapsed() < Duration::from_secs(60), "it takes too long to {what}");
        sleep(Duration::from_millis(2));
    }
}

fn signals() -> [(&'static str, i32); 3] {
    [("INT", 2), ("TERM", 15), ("HUP", 1)]
}

#[test]
fn signals_leave_no_temporary_file() {
    let shell = Shell::new();
    // So large that there is time to stop.
    fs::create_dir(shell.path("images")).unwrap();
    for i in 0..4 {
        image::GrayImage::new(512, 512).save(shell.path(&format!("images/{i}.png"))).unwrap();
    }
    fs::write(shell.path("p.npy"), "old").unwrap();
    let before = shell.files();
    for (name, number) in signals() {
        let line = "pixelcnn eval images --class 0 --params p.npy --device cpu --threads 1";
        let mut child = begin(&shell, line);
        let has_begun = || shell.files().iter().any(|file| file.starts_with(".pixelcnn-"));
        wait(&mut child, "begin the file", has_begun);
        signal(&child, name);
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        assert_eq!(status.signal(), Some(number), "{}", String::from_utf8_lossy(&stderr));
        assert_eq!(shell.files(), before, "SIG{name}");
    }
    assert_eq!(fs::read(shell.path("p.npy")).unwrap(), b"old");
}

#[test]
fn signals_leave_no_empty_folder_and_no_image_that_is_drawn() {
    let shell = Shell::new();
    let before = shell.files();
    for (name, number) in signals() {
        let mut child =
            begin(&shell, "pixelcnn sample --each new/deep --size 512x512 -n 4 --device cpu --threads 1");
        wait_for_words(&mut child, "drawing 4 images");
        signal(&child, name);
        assert_eq!(child.wait().unwrap().signal(), Some(number));
        assert_eq!(shell.files(), before, "SIG{name}");
    }
    let mut child =
        begin(&shell, "pixelcnn sample --each new/deep -n 100000 -b 2 --device cpu --threads 1");
    wait(&mut child, "draw", || shell.path("new/deep/000002.png").exists());
    signal(&child, "TERM");
    child.wait().unwrap();
    let pictures: Vec<_> =
        fs::read_dir(shell.path("new/deep")).unwrap().map(|f| f.unwrap().path()).collect();
    assert!(pictures.len() >= 3);
    for picture in pictures {
        read_png(&picture);
    }
}

#[test]
fn a_signal_while_models_and_images_are_read_is_obeyed_at_once() {
    let shell = Shell::new();
    // Pipes without a writer hold it up.
    let pipes = ["model.safetensors", "images.npz"];
    for pipe in pipes {
        assert!(Command::new("mkfifo").arg(shell.path(pipe)).status().unwrap().success());
    }
    let before = shell.files();
    for (line, pipe) in [
        "pixelcnn sample -m model.safetensors --each new --device cpu",
        "pixelcnn eval images.npz --class 0 --params p.npy --device cpu",
    ]
    .into_iter()
    .zip(pipes)
    {
        for (name, number) in signals() {
            let mut child = begin(&shell, line);
            // A pipe opens for writing at once only if it has a reader.
            let mut writer = None;
            wait(&mut child, "read a pipe", || {
                let mut options = fs::File::options();
                writer = options.write(true).custom_flags(libc::O_NONBLOCK).open(shell.path(pipe)).ok();
                writer.is_some()
            });
            signal(&child, name);
            assert_eq!(child.wait().unwrap().signal(), Some(number), "{line}");
            assert_eq!(shell.files(), before, "{line}");
        }
    }
}

#[test]
fn a_signal_while_a_picture_is_written_leaves_the_old_one() {
    let shell = Shell::new();
    fs::write(shell.path("large.png"), "old").unwrap();
    let before = shell.files();
    for (name, number) in signals() {
        let line =
            "pixelcnn sample -m grey.safetensors -n 100 --class 0 --scale 64 -o large.png --device cpu";
        let mut child = begin(&shell, line);
        let is_writing = || shell.files().iter().any(|file| file.starts_with(".pixelcnn-"));
        wait(&mut child, "write", is_writing);
        signal(&child, name);
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        assert_eq!(status.signal(), Some(number), "{}", String::from_utf8_lossy(&stderr));
        assert_eq!(shell.files(), before, "SIG{name}");
        assert_eq!(fs::read(shell.path("large.png")).unwrap(), b"old");
    }
}

#[test]
fn a_signal_that_is_to_be_ignored_is() {
    let shell = Shell::new();
    let line = "trap '' HUP; pixelcnn sample --each new --size 32x32 -n 20 -b 1 --device cpu --threads 1";
    let mut child = begin(&shell, line);
    wait(&mut child, "make the folder", || shell.path("new").exists());
    signal(&child, "HUP");
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_dir(shell.path("new")).unwrap().count(), 20);
}

#[test]
fn links_are_followed_and_modes_kept() {
    let shell = Shell::new();
    fs::write(shell.path("real"), "old").unwrap();
    fs::set_permissions(shell.path("real"), PermissionsExt::from_mode(0o600)).unwrap();
    symlink("real", shell.path("link.png")).unwrap();
    shell.ok("sample -n 1 --device cpu -o link.png");
    assert!(shell.path("link.png").is_symlink());
    assert_eq!(fs::metadata(shell.path("real")).unwrap().mode() & 0o777, 0o600);
    fs::rename(shell.path("real"), shell.path("real.png")).unwrap();
    read_png(&shell.path("real.png"));
}

/// A shell that may mount, in a name space of its own; `None`, with a message, if that is not allowed.
fn mounted(shell: &Shell, mount: &str, line: &str) -> Option<Output> {
    let program = env!("CARGO_BIN_EXE_pixelcnn");
    let script = format!("{mount} || exit 99; {}", line.replace("pixelcnn ", &format!("'{program}' ")));
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", &script])
        .current_dir(shell.folder.path())
        .output();
    match output {
        Ok(output) if output.status.code() != Some(99) && !is_refused(&output) => Some(output),
        _ => {
            eprintln!("skipped: mounts are not allowed here");
            None
        }
    }
}

fn is_refused(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("unshare")
}

#[test]
fn a_mount_point_is_written_in_place() {
    let shell = Shell::new();
    fs::write(shell.path("mounted.png"), "under the mount").unwrap();
    fs::write(shell.path("host.png"), "old").unwrap();
    let number = fs::metadata(shell.path("host.png")).unwrap().ino();
    let mount = "mount --bind host.png mounted.png";
    let Some(output) = mounted(&shell, mount, "pixelcnn sample -n 1 --device cpu -o mounted.png") else {
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read_png(&shell.path("host.png"));
    assert_eq!(fs::metadata(shell.path("host.png")).unwrap().ino(), number);
    assert_eq!(shell.files(), ["grey.safetensors", "host.png", "mounted.png", "rgb.safetensors"]);
}

#[test]
fn a_place_that_takes_no_file_is_known_before_the_work() {
    let shell = Shell::new();
    for (name, line) in [
        ("sample", "pixelcnn sample -n 100000 --device cpu -o mount/a.png"),
        ("each", "pixelcnn sample -n 100000 --device cpu --each mount/a"),
        ("json", "pixelcnn bench --full --device cpu --json mount/a.json"),
        ("csv", "pixelcnn bench --full --device cpu --csv mount/a.csv"),
        ("plot", "pixelcnn bench --full --device cpu --plot mount/a.svg"),
    ] {
        fs::create_dir_all(shell.path("mount")).unwrap();
        let Some(output) = mounted(&shell, "mount -t tmpfs -o ro none mount", line) else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("Read-only file system"), "{name}: {said}");
    }
}

#[test]
fn a_disk_that_is_too_small_for_params_is_known_before_the_work() {
    let shell = Shell::new();
    fs::create_dir(shell.path("mount")).unwrap();
    image::GrayImage::new(512, 512).save(shell.path("black.png")).unwrap();
    let line =
        "pixelcnn eval black.png --class 0 --device cpu --params mount/p.npy; c=$?; ls -A mount; exit $c";
    let Some(output) = mounted(&shell, "mount -t tmpfs -o size=1m none mount", line) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("mount/p.npy: No space left"), "{said}");
    assert!(output.stdout.is_empty() && !said.contains("evaluating"), "{said}");
}

#[test]
fn a_picture_that_finds_no_room_at_the_end_is_kept_elsewhere() {
    let shell = Shell::new();
    fs::create_dir(shell.path("mount")).unwrap();
    fs::create_dir(shell.path("temporary")).unwrap();
    let mount = "mount -t tmpfs -o size=8k none mount && head -c 1 /dev/zero > mount/full && head -c 4096 /dev/zero > mount/full";
    let line =
        "TMPDIR=temporary pixelcnn sample -n 64 --device cpu -o mount/a.png; c=$?; ls -A mount; exit $c";
    let Some(output) = mounted(&shell, mount, line) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = said.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(line.starts_with("error: cannot write mount/a.png: No space left"), "{said}");
    let kept = line.rsplit_once("it is kept as ").unwrap().1;
    assert_eq!(Path::new(kept).file_name().unwrap(), "a.png");
    assert_eq!(read_png(&shell.path(kept)).1["count"], "64");
    assert_eq!(output.stdout, b"full\n");
}

#[test]
fn a_table_that_finds_no_room_on_the_way_is_kept_whole() {
    let shell = Shell::new();
    for folder in ["mount", "temporary"] {
        fs::create_dir(shell.path(folder)).unwrap();
    }
    // Twelve kB at the end, where there is room for four.
    let line = "TMPDIR=temporary pixelcnn sample -m grey.safetensors -n 600 --device cpu -o a.npy --scores mount/s.csv; \
        c=$?; ls -A mount; exit $c";
    let Some(output) = mounted(&shell, "mount -t tmpfs -o size=4k none mount", line) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = said.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(line.starts_with("error: cannot write mount/s.csv: No space left"), "{said}");
    let kept = fs::read_to_string(shell.path(line.rsplit_once("it is kept as ").unwrap().1)).unwrap();
    assert_eq!(kept.lines().count(), 601);
    assert!(kept.lines().last().unwrap().starts_with("599,"), "{kept}");
    assert_eq!(fs::metadata(shell.path("a.npy")).unwrap().len(), 128 + 600 * 140, "the others are there");
    assert!(output.stdout.is_empty() && shell.files().iter().all(|file| !file.starts_with(".pixelcnn-")));
}

#[test]
fn completions_that_find_no_room_leave_those_before_them() {
    let shell = Shell::new();
    fs::create_dir(shell.path("mount")).unwrap();
    image::GrayImage::new(14, 10).save(shell.path("x.png")).unwrap();
    let line = "pixelcnn complete x.png -m grey.safetensors --class 0 --rows 3 -n 20 --device cpu --each mount/c; c=$?; \
        cp -r mount/c kept; exit $c";
    let Some(output) = mounted(&shell, "mount -t tmpfs -o size=40k none mount", line) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = said.lines().find(|line| line.starts_with("error: ")).unwrap();
    let files = fs::read_dir(shell.path("kept")).unwrap().map(|file| file.unwrap().path());
    let mut there: Vec<_> =
        files.map(|file| read_png(&file).1["index"].parse::<usize>().unwrap()).collect();
    there.sort_unstable();
    assert!(!there.is_empty() && there.len() < 20);
    assert_eq!(there, (0..there.len()).collect::<Vec<_>>());
    let expected = format!("error: stopped after {} of 20 completions, which are in mount/c", there.len());
    assert!(line.starts_with(&expected) && line.contains("No space left on device"), "{said}");
}

#[test]
fn a_disk_that_fills_up_keeps_what_is_whole_and_says_how_to_go_on() {
    let shell = Shell::new();
    fs::create_dir(shell.path("mount")).unwrap();
    let line =
        "pixelcnn sample -n 1000 -b 4 --device cpu --each mount/a; c=$?; cp -r mount/a kept; exit $c";
    let Some(output) = mounted(&shell, "mount -t tmpfs -o size=200k none mount", line) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let kept: Vec<_> = fs::read_dir(shell.path("kept")).unwrap().map(|f| f.unwrap().path()).collect();
    let expected =
        format!("stopped after {} of 1000 images, which are in mount/a (--resume goes on", kept.len());
    assert!(said.contains(&expected) && said.contains("No space left"), "{said}");
    kept.iter().for_each(|picture| _ = read_png(picture));
    let said =
        shell.ok(&format!("sample -n {} -b 4 --device cpu --each kept --resume", kept.len() + 1)).stderr;
    assert!(said.starts_with(&format!("{} of {} images are there already\n", kept.len(), kept.len() + 1)));

    // An array has a size that is known before.
    let line = "pixelcnn sample -n 100000 --device cpu -o mount/a.npz; c=$?; ls -A mount; exit $c";
    let Some(output) = mounted(&shell, "mount -t tmpfs -o size=1m none mount", line) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("mount/a.npz: No space left"), "{said}");
    assert!(output.stdout.is_empty() && !said.contains("drawing"), "{said}");
}

/// A program that may write a number of bytes to any file, and no more: the write beyond it fails as on a
/// full disk, and earlier bytes stay.
fn run_limited(shell: &Shell, words: &str, most_bytes: u64) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixelcnn"));
    let limit = move || {
        let limit = libc::rlimit { rlim_cur: most_bytes, rlim_max: most_bytes };
        // SAFETY: both are allowed between fork and exec, and change nothing but this process.
        let is_set = unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) == 0
        };
        if is_set { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    command.args(words.split(' ')).current_dir(shell.folder.path()).env("TMPDIR", shell.path("temporary"));
    // SAFETY: as above.
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, limit) };
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_disk_that_is_full_at_any_byte_leaves_what_was_there() {
    let shell = Shell::new();
    for folder in ["temporary", "images"] {
        fs::create_dir(shell.path(folder)).unwrap();
    }
    for i in 0..3 {
        fs::create_dir_all(shell.path(&format!("classes/{i}"))).unwrap();
        for path in [format!("images/{i}.png"), format!("classes/{i}/{i}.png")] {
            image::GrayImage::new(14, 10).save(shell.path(&path)).unwrap();
        }
    }
    let eval = "eval -m grey.safetensors images --class 0 --device cpu --threads 1";
    let sample = "sample -m grey.safetensors -n 6 --class 0 --device cpu --threads 1";
    let classify = "classify -m grey.safetensors classes --device cpu --threads 1";
    let bench = "bench -m grey.safetensors -b 1 --seconds 0 --repeat 1 --device cpu --threads 1";
    let lines = [
        (format!("{sample} -o out.png"), "out.png"),
        (format!("{sample} -o out.npz"), "out.npz"),
        (format!("{sample} -o out.npy"), "out.npy"),
        (format!("{sample} -o a.png --animate out.gif"), "out.gif"),
        (format!("{sample} -o a.png --animate out.png"), "out.png"),
        (format!("{sample} -o a.png --scores out.csv"), "out.csv"),
        (format!("{eval} --params out.npy"), "out.npy"),
        (format!("{eval} --csv out.csv"), "out.csv"),
        (format!("{eval} --plot out.svg"), "out.svg"),
        (format!("{classify} --csv out.csv"), "out.csv"),
        (format!("{classify} --plot out.png"), "out.png"),
        (format!("{bench} --json out.json"), "out.json"),
        (format!("{bench} --csv out.csv"), "out.csv"),
        (format!("{bench} --plot out.svg"), "out.svg"),
        (
            "complete -m grey.safetensors images --class 0 --rows 7 --device cpu -o out.png".to_owned(),
            "out.png",
        ),
    ];
    for (line, name) in lines {
        shell.ok(&line);
        let whole = fs::metadata(shell.path(name)).unwrap().len();
        for file in ["a.png", name] {
            let _ = fs::write(shell.path(file), "old");
        }
        let before = shell.files();
        // No byte, a part of the writer's buffer, in between, and all but the last byte. A timed run
        // differs by some digits.
        let last = if line.starts_with("bench") { whole / 2 } else { whole - 1 };
        for most in [0, 1, whole / 3, last] {
            let output = run_limited(&shell, &line, most);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{line}, {most} of {whole} bytes: {said}");
            assert!(said.contains("File too large") && !said.contains("kept"), "{line}, {most}: {said}");
            assert_eq!(shell.files(), before, "{line}, {most} of {whole} bytes: {said}");
            assert_eq!(fs::read(shell.path(name)).unwrap(), b"old", "{line}, {most}: {said}");
            assert_eq!(fs::read_dir(shell.path("temporary")).unwrap().count(), 0, "{line}, {most}: {said}");
        }
        // And with room there is no error.
        let output = run_limited(&shell, &line, 2 * whole + 100_000);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        for file in ["a.png", name] {
            let _ = fs::remove_file(shell.path(file));
        }
    }
}
