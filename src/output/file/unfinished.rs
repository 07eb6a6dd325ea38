//! Temporary files, and folders of them, that are to go if the program ends now, and the signals that end it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(unix)]
use std::time::{Duration, Instant};

/// The longest time that a signal waits for a file that is just getting its name. A file system that hangs must not
/// hold it.
#[cfg(unix)]
const LONGEST_WAIT: Duration = Duration::from_secs(10);

static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The files, which no signal removes while this is held.
pub(super) fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, SIGINT, SIGTERM and SIGHUP remove temporary files before they end the program, except those that
/// its caller ignores. On other systems than Unix, Ctrl-C does.
///
/// # Errors
/// What the system says.
pub fn tidy_on_signals() -> io::Result<()> {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let wanted: Vec<_> =
            [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal)).collect();
        let (ready, is_ready) = std::sync::mpsc::channel::<()>();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            // If they cannot be caught, they have their default effect.
            let Ok(mut signals) = signal_hook::iterator::Signals::new(wanted) else { return };
            drop(ready);
            for signal in signals.forever() {
                // Held to the end: nothing new is begun, and nothing is half renamed.
                let unfinished = unfinished_within(LONGEST_WAIT);
                unfinished.iter().for_each(|unfinished| remove(unfinished));
                // The shell is to see which signal it was.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        })?;
        // It ends when the sender is gone: from then on they are caught.
        let _ = is_ready.recv();
    }
    #[cfg(windows)]
    ctrlc::set_handler(|| {
        let unfinished = unfinished();
        remove(&unfinished);
        std::process::exit(130);
    })
    .map_err(io::Error::other)?;
    Ok(())
}

#[cfg(unix)]
fn unfinished_within(longest: Duration) -> Option<MutexGuard<'static, BTreeSet<PathBuf>>> {
    let start = Instant::now();
    loop {
        match UNFINISHED.try_lock() {
            Ok(unfinished) => return Some(unfinished),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) if start.elapsed() > longest => return None,
            Err(std::sync::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: an action of zeros is a valid one; nothing is changed, for there is no new action.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

fn remove(unfinished: &BTreeSet<PathBuf>) {
    // The set sorts what is inside a folder after it.
    for path in unfinished.iter().rev() {
        if fs::remove_file(path).is_err() {
            let _ = fs::remove_dir(path);
        }
    }
}
