//! Standard output as a place for files: the names that stand for it, and a check that it is open.

use std::io;
use std::path::Path;

/// The kind of file that a name sends to stdout, if it stands for stdout: `-` is a PNG file, and an extension behind it
/// says another kind, as in `-.npy`. A file of that name is `./-.npy`.
pub fn kind(path: &Path) -> Option<&'static str> {
    match path.to_str()?.to_ascii_lowercase().as_str() {
        "-" | "-.png" => Some("png"),
        "-.npy" => Some("npy"),
        "-.npz" => Some("npz"),
        _ => None,
    }
}

#[cfg(target_os = "linux")]
mod at_start {
    use std::hint::black_box;
    use std::sync::atomic::{AtomicBool, Ordering};

    static IS_CLOSED: AtomicBool = AtomicBool::new(false);

    /// Called before Rust's runtime.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static LOOK: extern "C" fn() = look;

    extern "C" fn look() {
        // SAFETY: it only asks.
        let is_closed = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } == -1;
        IS_CLOSED.store(is_closed, Ordering::Relaxed);
    }

    pub fn stdout_is_closed() -> bool {
        // Otherwise the linker might leave it out.
        black_box(&LOOK);
        IS_CLOSED.load(Ordering::Relaxed)
    }
}

#[cfg(not(target_os = "linux"))]
mod at_start {
    pub fn stdout_is_closed() -> bool {
        false
    }
}

/// Fails if the caller has closed stdout. Rust's runtime opens /dev/null in its place, where all would be lost.
///
/// # Errors
/// It is closed.
pub fn check() -> io::Result<()> {
    if at_start::stdout_is_closed() {
        return Err(io::Error::other("stdout is closed, so that there is nowhere to write to"));
    }
    Ok(())
}
