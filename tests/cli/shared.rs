//! Folders that machines share, and file systems that refuse, hang, or compare names in their own way. The faults are
//! those of `tests/common/file_system.c`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::shell::{Shell, read_png, wait_for_words};

/// The file system with faults, compiled; none, with a message, if there is no C compiler.
static FAULTS: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("file_system.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/file_system.c");
    let cc =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).args([source, "-ldl"]).output();
    match cc {
        Ok(output) if cfg!(all(target_os = "linux", target_env = "gnu")) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(library)
        }
        _ => {
            eprintln!("skipped: there is no C compiler, or no LD_PRELOAD here");
            None
        }
    }
});

fn command(shell: &Shell, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixelcnn"));
    command.args(line.split(' ')).current_dir(shell.folder.path()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts the program on a file system with faults.
fn faulty(shell: &Shell, faults: &[(&str, &str)], line: &str) -> Option<Child> {
    let library = FAULTS.as_ref()?;
    let faults = faults.iter().copied();
    Some(command(shell, line).env("LD_PRELOAD", library).envs(faults).spawn().unwrap())
}

/// Waits for the end: the exit code, and the output.
fn ended(mut child: Child) -> (Option<i32>, String) {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("it hangs");
        }
        sleep(Duration::from_millis(2));
    }
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

fn kill(child: &mut Child, signal: i32) {
    // SAFETY: the child has not been waited for, so that its number is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    assert_eq!(child.wait().unwrap().signal(), Some(signal));
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "it takes too long: {what}");
        sleep(Duration::from_millis(2));
    }
}

fn names(shell: &Shell, folder: &str) -> Vec<String> {
    let files = fs::read_dir(shell.path(folder)).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn temporary(shell: &Shell, folder: &str) -> Option<PathBuf> {
    let mut files = fs::read_dir(shell.path(folder)).ok()?.map(|file| file.unwrap().path());
    files.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(".pixelcnn-"))
}

#[test]
fn a_folder_that_another_uses_stays_when_a_run_is_stopped() {
    let shell = Shell::new();
    image::GrayImage::new(512, 512).save(shell.path("large.png")).unwrap();
    for line in [
        "sample --each images --resume --size 512x512 -n 4 --shard 0/2 --device cpu --threads 1",
        "sample --each images --size 512x512 -n 4 --name {class}/{index}.png --device cpu --threads 1",
        "complete large.png --rows 1 --each images -n 1 --device cpu --threads 1",
    ] {
        let mut stopped = command(&shell, line).spawn().unwrap();
        wait_for_words(&mut stopped, "drawing ");
        // Another process comes to it, which may have found the folder made.
        fs::create_dir_all(shell.path("images")).unwrap();
        assert!(
            stopped.try_wait().unwrap().is_none(),
            "{line}: it is to be stopped before its first image"
        );
        kill(&mut stopped, libc::SIGTERM);
        assert_eq!(names(&shell, "images"), [""; 0], "{line}: it stays, with nothing in it");
        fs::remove_dir(shell.path("images")).unwrap();
    }
}

#[test]
fn a_folder_that_vanishes_while_others_work_is_made_anew() {
    let shell = Shell::new();
    let line = "sample -m rgb.safetensors --size 64x48 -n 40 --device cpu --threads 1 --each a/b";
    for (flags, image) in [("-b 40", "a/b/000003.png"), ("-b 40 --name {index}/x.png", "a/b/3/x.png")] {
        let running = command(&shell, &format!("{line} {flags}")).spawn().unwrap();
        // Another process of an earlier version creates it and removes it.
        for _ in 0..20 {
            fs::create_dir_all(shell.path("a/b")).unwrap();
            sleep(Duration::from_millis(2));
            let _ = fs::remove_dir(shell.path("a/b"));
            let _ = fs::remove_dir(shell.path("a"));
        }
        let (code, said) = ended(running);
        assert_eq!(code, Some(0), "{flags}: {said}");
        read_png(&shell.path(image));
        assert_eq!(names(&shell, "a/b").len(), 40);
        fs::remove_dir_all(shell.path("a")).unwrap();
    }
}

#[test]
fn temporary_files_of_others_are_not_taken_on_a_locks_word() {
    let shell = Shell::new();
    image::GrayImage::new(512, 512).save(shell.path("large.png")).unwrap();
    fs::create_dir(shell.path("a")).unwrap();
    let long = "eval large.png --class 0 --device cpu --threads 1 -m mnist --params a/p.npy";
    let Some(mut writing) = faulty(&shell, &[("FAULT_FLOCK", "ok")], long) else { return };
    wait_for("begin the file", || temporary(&shell, "a").is_some());
    let line = "sample -m grey.safetensors -n 2 --device cpu --each a --resume";
    // A lock that always succeeds says nothing.
    let (code, said) = ended(faulty(&shell, &[("FAULT_FLOCK", "ok")], line).unwrap());
    assert_eq!(code, Some(0), "{said}");
    let file = temporary(&shell, "a").expect("what another process writes stays");
    assert!(writing.try_wait().unwrap().is_none());
    // A process of this machine that has ended has abandoned its file.
    kill(&mut writing, libc::SIGKILL);
    assert!(file.exists());
    // The same name on another machine says nothing about a process here, unless it is old.
    let name = file.file_name().unwrap().to_str().unwrap();
    let elsewhere = file.with_file_name(name.replacen("-", "-elsewhere.", 1));
    fs::copy(&file, &elsewhere).unwrap();
    let unknown = file.with_file_name(".pixelcnn-aB3xYz");
    fs::write(&unknown, "of another version").unwrap();
    let said = shell.ok(line).stderr;
    assert!(!file.exists() && elsewhere.exists() && unknown.exists(), "{said}");
    for path in [&elsewhere, &unknown] {
        let old = SystemTime::now() - Duration::from_secs(7 * 3600);
        fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }
    let said = shell.ok(line).stderr;
    assert!(said.contains("removed 2 temporary files of other machines"), "{said}");
    assert_eq!(names(&shell, "a"), ["000000.png", "000001.png"]);
}

/// In a name space of its own, a process has a number that means another here, or none.
#[test]
fn containers_that_share_a_folder_do_not_know_each_others_processes() {
    let shell = Shell::new();
    image::GrayImage::new(512, 512).save(shell.path("large.png")).unwrap();
    fs::create_dir(shell.path("a")).unwrap();
    let mut container = Command::new("unshare");
    container.args(["--pid", "--fork", "--kill-child", "--map-root-user", "--mount-proc"]);
    container.arg(env!("CARGO_BIN_EXE_pixelcnn"));
    container
        .args("eval large.png --class 0 --device cpu --threads 1 -m mnist --params a/p.npy".split(' '));
    container.current_dir(shell.folder.path()).stderr(Stdio::piped()).stdout(Stdio::null());
    let Ok(mut writing) = container.spawn() else {
        eprintln!("skipped: there is no unshare");
        return;
    };
    while temporary(&shell, "a").is_none() {
        if writing.try_wait().unwrap().is_some() {
            let said = writing.wait_with_output().unwrap().stderr;
            let said = String::from_utf8_lossy(&said);
            assert!(said.contains("unshare"), "{said}");
            eprintln!("skipped: name spaces are not allowed here");
            return;
        }
        sleep(Duration::from_millis(2));
    }
    shell.ok("sample -m grey.safetensors -n 2 --device cpu --each a --resume");
    let is_there = temporary(&shell, "a").is_some();
    writing.kill().unwrap();
    writing.wait().unwrap();
    assert!(is_there, "what a process of another container writes stays");
}

#[test]
fn no_locks_and_no_hard_links_are_needed() {
    let shell = Shell::new();
    for (what, faults) in [
        ("enolck", &[("FAULT_FLOCK", "enolck")][..]),
        ("enosys", &[("FAULT_FLOCK", "enosys")]),
        ("hang", &[("FAULT_FLOCK", "hang")]),
        ("link", &[("FAULT_LINK", "1")]),
    ] {
        let line = "sample -m grey.safetensors -n 3 --device cpu";
        for line in [format!("{line} --each {what} --resume"), format!("{line} -o {what}.npz")] {
            // Files of a killed process are looked at, too.
            fs::create_dir_all(shell.path(what)).unwrap();
            fs::write(shell.path(what).join(".pixelcnn-killed"), "half").unwrap();
            let Some(child) = faulty(&shell, faults, &line) else { return };
            let (code, said) = ended(child);
            assert_eq!(code, Some(0), "{what}: {said}");
        }
        assert_eq!(names(&shell, what), [".pixelcnn-killed", "000000.png", "000001.png", "000002.png"]);
    }
}

#[test]
fn a_mode_that_cannot_be_kept_is_a_note() {
    let shell = Shell::new();
    let line = "sample -m grey.safetensors -n 3 --device cpu";
    for name in ["a.npz", "a.npy", "a.png", "a.gif", "a.csv"] {
        fs::write(shell.path(name), "old").unwrap();
        // More than any umask leaves to a new file.
        fs::set_permissions(shell.path(name), PermissionsExt::from_mode(0o777)).unwrap();
    }
    for (flags, count) in [("-o a.npz", 1), ("-o a.npy", 1), ("-o a.png --animate a.gif --scores a.csv", 3)]
    {
        let Some(child) = faulty(&shell, &[("FAULT_CHMOD", "1")], &format!("{line} {flags}")) else {
            return;
        };
        let (code, said) = ended(child);
        assert_eq!(code, Some(0), "{flags}: {said}");
        let more = if count > 1 { " (and of 2 more)" } else { "" };
        let expected = format!(
            "note: the mode or owner of {}{more} could not be kept: ",
            flags.split(' ').nth(1).unwrap()
        );
        assert!(said.contains(&expected) && said.contains("not permitted"), "{said}");
    }
    read_png(&shell.path("a.png"));
    assert!(
        ["a.npz", "a.npy", "a.gif", "a.csv"]
            .iter()
            .all(|name| fs::read(shell.path(name)).unwrap() != b"old")
    );
    // If nothing needs a change, there is no note.
    let mode = fs::metadata(shell.path("grey.safetensors")).unwrap().permissions();
    fs::set_permissions(shell.path("a.npz"), mode).unwrap();
    let (code, said) = ended(faulty(&shell, &[("FAULT_CHMOD", "1")], &format!("{line} -o a.npz")).unwrap());
    assert!(code == Some(0) && !said.contains("note: "), "{said}");
}

#[test]
fn root_leaves_a_users_file_to_the_user() {
    let shell = Shell::new();
    fs::write(shell.path("a.png"), "old").unwrap();
    fs::set_permissions(shell.path("a.png"), PermissionsExt::from_mode(0o600)).unwrap();
    if std::os::unix::fs::chown(shell.path("a.png"), Some(12345), Some(54321)).is_err() {
        eprintln!("skipped: needs root, to give a file to a user");
        return;
    }
    let said = shell.ok("sample -m grey.safetensors -n 3 --device cpu -o a.png").stderr;
    let there = fs::metadata(shell.path("a.png")).unwrap();
    assert_eq!((there.uid(), there.gid(), there.mode() & 0o777), (12345, 54321, 0o600), "{said}");
    assert!(!said.contains("note: "), "{said}");
    read_png(&shell.path("a.png"));
}

#[test]
fn what_the_last_step_refuses_is_kept_elsewhere() {
    let mut shell = Shell::new();
    fs::create_dir(shell.path("temporary")).unwrap();
    shell.environment = vec![("TMPDIR", shell.path("temporary").display().to_string())];
    image::GrayImage::new(14, 10).save(shell.path("x.png")).unwrap();
    let eperm = libc::EPERM.to_string();
    let sample = "sample -m grey.safetensors -n 3 --device cpu";
    let complete = "complete x.png -m grey.safetensors --class 0 --rows 3 --device cpu";
    for (line, outputs) in [
        (format!("{sample} -o a.npz"), &["a.npz"][..]),
        (format!("{sample} -o a.npy"), &["a.npy"]),
        (format!("{sample} -o a.png --animate a.gif --scores a.csv"), &["a.png", "a.csv", "a.gif"]),
        (format!("{complete} -o a.png --animate a.gif"), &["a.png", "a.gif"]),
        ("eval x.png --class 0 -m grey.safetensors --device cpu --params a.npy --csv a.csv --plot a.svg".into(), &["a.npy", "a.svg", "a.csv"]),
        ("classify x.png -m grey.safetensors --device cpu --scores a.npy --csv a.csv".into(), &["a.npy", "a.csv"]),
        ("bench -m grey.safetensors --device cpu -b 1 --seconds 0 --repeat 1 --json a.json --csv a.csv --plot a.png".into(), &["a.json", "a.csv", "a.png"]),
    ] {
        let Some(library) = FAULTS.as_ref() else { return };
        let before = shell.files();
        let mut program = command(&shell, &line);
        program.env("LD_PRELOAD", library).env("FAULT_RENAME", &eperm).env("TMPDIR", shell.path("temporary"));
        let (code, said) = ended(program.spawn().unwrap());
        assert_eq!(code, Some(1), "{line}: {said}");
        assert_eq!(shell.files(), before, "{line}: {said}");
        // The same as where nothing is refused, except measured times.
        shell.ok(&line);
        let error = said.lines().find(|line| line.starts_with("error: ")).unwrap();
        for name in outputs {
            let kept = error.split_once(&format!("cannot write {name}: ")).unwrap().1;
            let kept = kept.split_once("it is kept as ").unwrap().1.split("; ").next().unwrap();
            assert!(kept.ends_with(&format!("/{name}")), "{line}: {said}");
            let [kept, expected] = [fs::read(kept).unwrap(), fs::read(shell.path(name)).unwrap()];
            let is_same = if line.starts_with("bench") { kept.len() > 100 } else { kept == expected };
            assert!(is_same, "{line}: {name}");
            // A file that is there can be written in place.
            fs::write(shell.path(name), "old").unwrap();
        }
        let (code, said) = ended(program.spawn().unwrap());
        assert_eq!(code, Some(0), "{line}: {said}");
        outputs.iter().for_each(|name| fs::remove_file(shell.path(name)).unwrap());
        assert_eq!(shell.files(), before, "{line}");
        fs::remove_dir_all(shell.path("temporary")).unwrap();
        fs::create_dir(shell.path("temporary")).unwrap();
    }
    // A folder is known before the work.
    for line in [format!("{sample} --each a"), format!("{complete} --each a")] {
        let (code, said) = ended(faulty(&shell, &[("FAULT_RENAME", &eperm)], &line).unwrap());
        assert!(code == Some(1) && said.contains("not permitted") && !said.contains(" images, "), "{said}");
        assert!(!shell.path("a").exists(), "{line}");
    }
}

#[test]
fn files_are_on_the_disk_before_they_replace_others() {
    let shell = Shell::new();
    image::GrayImage::new(14, 10).save(shell.path("x.png")).unwrap();
    let log = shell.path("log");
    let run = |line: &str| {
        let child = faulty(&shell, &[("FAULT_LOG", log.to_str().unwrap())], line)?;
        let (code, said) = ended(child);
        assert_eq!(code, Some(0), "{line}: {said}");
        let log = fs::read_to_string(&log).unwrap_or_default();
        fs::remove_file(shell.path("log")).unwrap();
        Some(log.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let here = fs::canonicalize(shell.folder.path()).unwrap();
    for (line, outputs) in [
        ("sample -m grey.safetensors -n 3 --device cpu -o a.npz", &["a.npz"][..]),
        ("sample -m grey.safetensors -n 3 --device cpu -o a.npy", &["a.npy"]),
        (
            "sample -m grey.safetensors -n 3 --device cpu -o a.png --animate a.gif --scores a.csv",
            &["a.png", "a.gif", "a.csv"],
        ),
        (
            "eval x.png --class 0 -m grey.safetensors --device cpu --params a.npy --csv a.csv --plot a.svg",
            &["a.npy", "a.csv", "a.svg"],
        ),
        ("complete x.png --class 0 -m grey.safetensors --device cpu --rows 3 -n 1 -o c.npz", &["c.npz"]),
    ] {
        let Some(log) = run(line) else { return };
        for name in outputs {
            let renamed = log.iter().position(|entry| *entry == format!("rename {name}")).unwrap();
            let folder = here.join(name).parent().unwrap().display().to_string();
            let is_of_file = log[renamed - 1].starts_with(&format!("fsync {folder}/.pixelcnn-"));
            assert!(is_of_file && log[renamed + 1] == format!("fsync {folder}"), "{line}: {log:#?}");
        }
    }
    // Of many images, --resume redraws the lost ones.
    for line in [
        "sample -m grey.safetensors -n 3 --device cpu --each a --resume",
        "complete x.png --class 0 -m grey.safetensors --device cpu --rows 3 -n 2 --each a",
    ] {
        let log = run(line).unwrap();
        let renames = log.iter().filter(|entry| entry.starts_with("rename a/")).count();
        assert!(renames == 3 && !log.iter().any(|entry| entry.starts_with("fsync")), "{line}: {log:#?}");
        fs::remove_dir_all(shell.path("a")).unwrap();
    }
}

#[test]
fn names_that_differ_in_case_are_one_file_where_the_file_system_says_so() {
    let shell = Shell::new();
    let mut model = fs::read(shell.path("grey.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(model[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(model[8..header].to_vec()).unwrap();
    let classes = text.split_once(r#""classes":"["#).unwrap().1.split_once(']').unwrap().0;
    let others = ["a", "A", "b", "c", "d"].map(|name| format!(r#"\"{name}\""#)).join(",");
    let (length, room) = (others.len(), classes.len());
    assert!(length <= room, "{classes}");
    let text = text.replace(classes, &format!("{others}{}", " ".repeat(room - length)));
    model.splice(8..header, text.into_bytes());
    fs::write(shell.path("cased.safetensors"), model).unwrap();
    fs::create_dir(shell.path("ignoring")).unwrap();
    let faults = [("FAULT_CASE", "ignoring")];
    let line = "sample -m cased.safetensors -n 10 --device cpu --name {class}_{nth}.png --each";

    let Some(child) = faulty(&shell, &faults, &format!("{line} ignoring/q")) else { return };
    let (code, said) = ended(child);
    let expected = "images 0 and 1 would be a_1.png and A_1.png, which are one file in ignoring/q";
    assert!(code == Some(1) && said.contains(expected), "{said}");
    assert_eq!(names(&shell, "ignoring"), [""; 0]);
    // Elsewhere on the same system they differ.
    assert_eq!(ended(faulty(&shell, &faults, &format!("{line} q")).unwrap()).0, Some(0));
    assert_eq!(names(&shell, "q").len(), 10);
    let by_index = line.replace("{class}_{nth}", "{class}_{index}");
    assert_eq!(ended(faulty(&shell, &faults, &format!("{by_index} ignoring/q")).unwrap()).0, Some(0));
    assert_eq!(names(&shell, "ignoring/q").len(), 10);

    let line = "sample -m grey.safetensors -n 2 --device cpu --animate ignoring/A.png -o ignoring/a.png";
    let (code, said) = ended(faulty(&shell, &faults, line).unwrap());
    assert!(code == Some(1) && said.contains("is the same file as -o ignoring/a.png"), "{said}");
    shell.ok("sample -m grey.safetensors -n 2 --device cpu --animate A.png -o a.png");
    let line = "sample -m grey.safetensors -n 2 --device cpu --each ignoring/e --name X{index}.PNG --animate ignoring/e/x1.png";
    let (code, said) = ended(faulty(&shell, &faults, line).unwrap());
    assert!(code == Some(1) && said.contains("is the same file as an image of --each"), "{said}");
}
