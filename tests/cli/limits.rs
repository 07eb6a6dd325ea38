//! Limits of the system: threads and memory.

use std::process::Command;

use crate::shell::{Shell, read_png};

#[test]
#[cfg(target_os = "linux")]
fn threads_that_cannot_start_are_done_without() {
    let shell = Shell::new();
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if !is_root {
        // Other users have more processes than such a limit allows.
        eprintln!("skipped: needs root, to be another user");
        return;
    }
    let folder = shell.folder.path().display();
    Command::new("chmod").args(["-R", "a+rwX", &folder.to_string()]).status().unwrap();
    let line = "sample -n 64 --threads 32 --device cpu";
    let script = format!("ulimit -u 5; exec '{}' {line}", env!("CARGO_BIN_EXE_pixelcnn"));
    // A user of no processes.
    let output = Command::new("setpriv")
        .args(["--reuid", "54321", "--clear-groups", "bash", "-c", &script])
        .current_dir(shell.folder.path())
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: there is no setpriv");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Permission denied") {
        eprintln!("skipped: another user cannot run the program here");
        return;
    }
    assert!(output.status.success(), "{said}");
    let mut lines = said.lines();
    let (warning, result) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(warning.starts_with("warning: ") && warning.contains("of 32 threads can be started"), "{said}");
    assert!(result.contains("on CPU (") && !result.contains("(32 threads)"), "{said}");
    // The images are those of any number of threads.
    let few = read_png(&shell.path("samples.png")).0;
    shell.ok(line);
    assert!(few == read_png(&shell.path("samples.png")).0);
}

#[test]
#[cfg(target_os = "linux")]
fn memory_that_cannot_be_had_is_a_batch_that_does_not_fit() {
    let shell = Shell::new();
    for kilobytes in [200_000, 300_000, 600_000] {
        let line = "sample -n 4000 -b 4000 --threads 2 --device cpu --each pictures";
        let script = format!("ulimit -v {kilobytes}; exec '{}' {line}", env!("CARGO_BIN_EXE_pixelcnn"));
        let mut command = Command::new("sh");
        let output = command.args(["-c", &script]).current_dir(shell.folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("error: a batch of 4000 images does not fit: it needs"), "{said}");
        assert_eq!(shell.files(), ["grey.safetensors", "rgb.safetensors"]);
    }
}

/// The limits of the adapter allow more than there is.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs a Vulkan adapter"]
fn memory_that_a_gpu_does_not_have_is_a_batch_that_does_not_fit() {
    let shell = Shell::on_gpu();
    let line = "bench --architecture 32x2,grey -b 1000 --engine cached --seconds 0.01 --json out.json";
    let script = format!("ulimit -v 1300000; exec '{}' {line}", env!("CARGO_BIN_EXE_pixelcnn"));
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(shell.folder.path()).envs(shell.environment.clone());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // A driver with less memory than the limit takes no such batch either.
    assert!(said.contains("a batch of 1000 images does not fit: it needs"), "{said}");
    assert!(said.contains("less memory free; the largest batch that fits is "), "{said}");
}
