//! Memory limits of this process: those of control groups, which Slurm, Docker and Kubernetes nest, and of
//! addresses, which batch systems set (`ulimit -v`). The least counts.

use std::fs;
use std::path::Path;

/// Bytes that may still be allocated; none if there is no limit.
pub fn free_memory() -> Option<u64> {
    let read = |name: &str| fs::read_to_string(Path::new("/proc/self").join(name)).unwrap_or_default();
    let of_groups = free_in(Path::new("/sys/fs/cgroup"), &read("cgroup"));
    of_groups.into_iter().chain(free_addresses(&read("limits"), &read("status"))).min()
}

fn free_addresses(limits: &str, status: &str) -> Option<u64> {
    let number_after = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let used = 1024 * number_after(status, "VmSize:")?;
    Some(number_after(limits, "Max address space")?.saturating_sub(used))
}

/// Free memory within the limits of a process's groups, as `/proc/self/cgroup` lists them, and of the
/// groups around them. In a container, folders of the groups around it are missing, and the root is its
/// own.
fn free_in(root: &Path, groups: &str) -> Option<u64> {
    let of_line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (root, files) = match controllers {
            "" => (root.to_owned(), V2),
            _ if controllers.split(',').any(|one| one == "memory") => (root.join("memory"), V1),
            _ => return None,
        };
        let folder = root.join(path.trim_start_matches('/'));
        let up_to_root = folder.ancestors().take_while(|folder| folder.starts_with(&root));
        up_to_root.filter_map(|folder| files.free(folder)).min()
    };
    groups.lines().filter_map(of_line).min()
}

/// File names of a version of control groups, and the field that counts reclaimable pages.
struct Files {
    limit: &'static str,
    used: &'static str,
    reclaimable: &'static str,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file ",
};
const V2: Files = Files { limit: "memory.max", used: "memory.current", reclaimable: "inactive_file " };

impl Files {
    /// Memory left in a group; none if it has no limit.
    fn free(&self, folder: &Path) -> Option<u64> {
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let limit: u64 = read(self.limit)?.trim().parse().ok()?;
        let used: u64 = read(self.used)?.trim().parse().ok()?;
        let stat = read("memory.stat").unwrap_or_default();
        let of_stat =
            |name| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        // The first version also has the least limit of the groups around, which a container does not see.
        let limit = limit.min(of_stat("hierarchical_memory_limit ").unwrap_or(u64::MAX));
        Some(limit.saturating_sub(used.saturating_sub(of_stat(self.reclaimable).unwrap_or(0))))
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    fn put(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    }

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let group = |limit, used| [("memory.max", limit), ("memory.current", used)];
        put(&root.join("slurm"), &group("max\n", "900\n"));
        put(&root.join("slurm/job"), &group("1000\n", "900\n"));
        put(&root.join("slurm/job"), &[("memory.stat", "anon 1\ninactive_file 50\nslab 2\n")]);
        put(&root.join("slurm/job/step"), &group("5000\n", "100\n"));
        put(&root.join("slurm/job/step/task"), &group("max\n", "100\n"));
        assert_eq!(free_in(root, "0::/slurm/job/step/task\n"), Some(150));
        assert_eq!(free_in(root, "0::/slurm\n"), None);
        assert_eq!(free_in(root, ""), None);
        // A job that is beyond its limit, and the root of a container whose groups have other names outside.
        put(&root.join("slurm/job"), &group("800\n", "900\n"));
        assert_eq!(free_in(root, "0::/slurm/job/step\n"), Some(0));
        put(root, &group("70\n", "20\n"));
        assert_eq!(free_in(root, "0::/docker/0123\n"), Some(50));
    }

    #[test]
    fn the_limit_of_addresses() {
        let limits =
            "Limit   Soft Limit  Hard Limit  Units\nMax address space  5000000  unlimited  bytes\n";
        let status = "Name:\tpixelcnn\nVmPeak:\t 4000 kB\nVmSize:\t  2000 kB\n";
        assert_eq!(free_addresses(limits, status), Some(5_000_000 - 2_048_000));
        assert_eq!(free_addresses(&limits.replace("5000000", "1000000"), status), Some(0));
        assert_eq!(free_addresses(&limits.replace("5000000", "unlimited"), status), None);
    }

    #[test]
    fn groups_of_the_first_version() {
        let root = tempfile::tempdir().unwrap();
        let group = |limit, used| [("memory.limit_in_bytes", limit), ("memory.usage_in_bytes", used)];
        put(&root.path().join("memory"), &group("9223372036854771712\n", "5\n"));
        put(&root.path().join("memory/pod"), &group("1000\n", "400\n"));
        put(&root.path().join("memory/pod/one"), &group("2000\n", "100\n"));
        let groups = "12:cpu,cpuacct:/other\n11:memory:/pod/one\n0::/\n";
        assert_eq!(free_in(root.path(), groups), Some(600));
        // A container, which sees its own group alone.
        let stat = [("memory.stat", "cache 3\nhierarchical_memory_limit 300\ntotal_inactive_file 2\n")];
        put(&root.path().join("memory"), &stat);
        assert_eq!(free_in(root.path(), "11:memory:/kubepods/one\n"), Some(297));
    }
}
