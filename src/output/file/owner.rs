//! Names of temporary files, which name their process and machine, and the removal of abandoned ones.
//!
//! No lock is needed: on file systems that machines share, a lock may hold on one machine alone, fail, or never return.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use super::temporary::Temporary;

/// The prefix of temporary files' names; `python/pixelcnn/convert/files.py` makes the same names.
const PREFIX: &str = ".pixelcnn-";

/// A temporary file of another machine is taken for abandoned if nothing was written to it for so long.
const OLD: Duration = Duration::from_secs(6 * 60 * 60);

/// This machine: its name, its start, and its numbering of processes. Containers on one machine may have its name, and
/// number processes by themselves.
static HOST: LazyLock<String> = LazyLock::new(|| {
    let name = sysinfo::System::host_name().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    let name: String = name.chars().map(plain).take(40).collect();
    match since_start() {
        Some(start) => format!("{name}.{start}"),
        // No other process may count as one of this machine.
        None => format!("{name}.{}", random()),
    }
});

/// Tells this start of this machine, and the name space of its process numbers, from all others.
#[cfg(target_os = "linux")]
fn since_start() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = fs::read_link("/proc/self/ns/pid").ok()?;
    let digits: String = space.to_str()?.chars().filter(char::is_ascii_digit).collect();
    Some(format!("{}.{digits}", boot.get(..8)?))
}

#[cfg(not(target_os = "linux"))]
fn since_start() -> Option<String> {
    cfg!(unix).then(|| "0".to_owned())
}

/// Twelve random digits, to make a name unique.
pub(super) fn random() -> String {
    // The standard library's hash maps have random keys: all the randomness that is needed here.
    format!("{:012x}", RandomState::new().build_hasher().finish() >> 16)
}

/// A new name, `.pixelcnn-HOST-PROCESS-RANDOM.tmp`.
pub(super) fn new_name() -> String {
    format!("{PREFIX}{}-{}-{}.tmp", *HOST, std::process::id(), random())
}

/// Removes abandoned temporary files in a folder: those of processes of this machine that have ended, and those of
/// other machines that are old by hours, which are returned.
pub fn remove_abandoned(folder: &Path) -> Vec<PathBuf> {
    let mut old = Vec::new();
    let mut now = None;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let path = entry.path();
        match maker(name) {
            Maker::Dead => _ = fs::remove_file(&path),
            Maker::Alive => {}
            Maker::Unknown => {
                let now = *now.get_or_insert_with(|| now_in(folder));
                let modified =
                    entry.metadata().ok().filter(fs::Metadata::is_file).and_then(|m| m.modified().ok());
                let age = modified.and_then(|modified| now.duration_since(modified).ok());
                if age.is_some_and(|age| age > OLD) && fs::remove_file(&path).is_ok() {
                    old.push(path);
                }
            }
        }
    }
    old
}

/// The time by the clock of the file system, which may be another machine's.
fn now_in(folder: &Path) -> SystemTime {
    let now = Temporary::new(folder, 0o600).and_then(|file| file.modified());
    now.unwrap_or_else(|_| SystemTime::now())
}

enum Maker {
    /// A process of this machine that has ended.
    Dead,
    /// One that runs; or another that has its number now.
    Alive,
    /// A process of another machine, or of another version.
    Unknown,
}

/// The process that makes the file of a name, given without its prefix.
fn maker(name: &str) -> Maker {
    let mut parts = name.split('-');
    match (parts.next(), parts.next().and_then(|process| process.parse().ok())) {
        (Some(host), Some(process)) if host == *HOST => is_alive(process),
        _ => Maker::Unknown,
    }
}

#[cfg(unix)]
fn is_alive(process: i32) -> Maker {
    // SAFETY: signal 0 is none; it is only found out whether there is somebody to send one to.
    let is_gone = process > 0
        && unsafe { libc::kill(process, 0) } != 0
        && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
    if is_gone { Maker::Dead } else { Maker::Alive }
}

#[cfg(not(unix))]
fn is_alive(process: i32) -> Maker {
    if std::process::id() as i32 == process { Maker::Alive } else { Maker::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was last written to `hours` hours ago.
    #[cfg(unix)]
    fn aged(path: &Path, hours: u64) {
        let file = fs::File::create(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn abandoned_files_are_removed_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let (dead, own) = (ended.id(), std::process::id());
        for (name, hours, stays) in [
            (format!(".pixelcnn-{}-{dead}-00.tmp", *HOST), 0, false),
            (format!(".pixelcnn-{}-{own}-00.tmp", *HOST), 100, true),
            // Somebody else's process, which may not be sent a signal.
            (format!(".pixelcnn-{}-1-00.tmp", *HOST), 100, true),
            (format!(".pixelcnn-{}0-{dead}-00.tmp", *HOST), 5, true),
            (format!(".pixelcnn-elsewhere.1.2-{dead}-00.tmp"), 5, true),
            (format!(".pixelcnn-elsewhere.1.2-{dead}-00.tmp"), 7, false),
            (".pixelcnn-aB3dE9".to_owned(), 1, true),
            (".pixelcnn-aB3dE9".to_owned(), 7, false),
            (format!(".pixelcnn-{}--1-00.tmp", *HOST), 1, true),
            ("a.png".to_owned(), 100, true),
        ] {
            aged(&at(&name), hours);
            let old = remove_abandoned(folder.path());
            assert_eq!(at(&name).exists(), stays, "{name}, {hours} hours");
            assert_eq!(old.len(), usize::from(!stays && hours > 0), "{name}: it is said");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), usize::from(stays), "{name}");
            let _ = fs::remove_file(at(&name));
        }
    }

    #[test]
    fn names_say_who_makes_the_file() {
        let name = new_name();
        let rest = name.strip_prefix(PREFIX).unwrap();
        assert!(rest.starts_with(&format!("{}-{}-", *HOST, std::process::id())), "{name}");
        assert_eq!(rest.split('-').count(), 3, "{name}");
        assert!(name.len() < 140 && name != new_name());
    }
}
