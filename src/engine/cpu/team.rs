//! Threads that share the ring buffers of some images: shared memory, and the barrier that orders their
//! accesses.

use std::cell::UnsafeCell;
use std::collections::TryReserveError;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// Numbers that the threads of a team read and write, in turns that [`Team::wait`] separates.
#[derive(Default)]
pub struct Buffer(Vec<UnsafeCell<f32>>);

// SAFETY: access is through the unsafe methods below, whose callers keep threads apart.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Makes it `length` zeros.
    ///
    /// # Errors
    /// If the system gives no memory for them.
    pub fn clear(&mut self, length: usize) -> Result<(), TryReserveError> {
        self.0.clear();
        self.0.try_reserve_exact(length)?;
        self.0.resize_with(length, UnsafeCell::default);
        Ok(())
    }

    /// Number of numbers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<f32>()
    }

    /// All of it, to be read.
    ///
    /// # Safety
    /// No thread may write any of it while the slice is in use.
    pub unsafe fn read(&self) -> &[f32] {
        // SAFETY: a cell has the layout of its contents; no thread writes, as promised.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len()) }
    }

    /// Pointer to `length` numbers from `start` on.
    pub fn pointer(&self, start: usize, length: usize) -> *mut f32 {
        self.0[start..start + length].as_ptr().cast_mut().cast()
    }

    /// `length` numbers from `start` on, to be written.
    ///
    /// # Safety
    /// No other slice of these numbers may be in use, in any thread.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the cells make it sound, and the caller makes it unique")]
    pub unsafe fn write(&self, start: usize, length: usize) -> &mut [f32] {
        // SAFETY: a cell has the layout of its contents; no other thread has a slice of them, as promised.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(start, length), length) }
    }
}

/// Threads that execute the same steps on the same images.
///
/// Within a row they wait for each other after every layer, with a spinning barrier, which is fast as long
/// as each has a core of its own. If one is kept from its core, that gets slow. So at every row they meet,
/// and agree whether to share it or to leave it to the first of them.
pub struct Team {
    size: usize,
    arrived: AtomicUsize,
    turn: AtomicUsize,
    /// Total nanoseconds that threads have waited for others, since the last reading.
    lost: AtomicU64,
    stopped: AtomicBool,
    broken: AtomicBool,
    meeting: Mutex<Meeting>,
    met: Condvar,
}

#[derive(Default)]
struct Meeting {
    arrived: usize,
    turn: usize,
    active: usize,
}

impl Team {
    /// A team of `size` threads.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            arrived: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            meeting: Mutex::default(),
            met: Condvar::new(),
        }
    }

    /// Threads.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Waits until all threads have arrived. Their earlier writes are then visible to all.
    ///
    /// # Panics
    /// If another thread of the team has panicked.
    pub fn wait(&self) {
        /// From here on a wait is long enough to be counted as lost,
        const COUNTED: u32 = 100;
        /// and from here on the core is left to others.
        const SPINS: u32 = 2000;
        let turn = self.turn.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.size {
            self.arrived.store(0, Ordering::Relaxed);
            self.turn.store(turn.wrapping_add(1), Ordering::Release);
            return;
        }
        let (mut spins, mut since) = (0, None);
        while self.turn.load(Ordering::Acquire) == turn {
            assert!(!self.broken.load(Ordering::Relaxed), "another thread of the team has panicked");
            spins += 1;
            if spins == COUNTED {
                since = Some(Instant::now());
            }
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if let Some(since) = since {
            self.lost.fetch_add(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// Waits, asleep, until all threads have arrived; returns the number of threads for the next row, which
    /// the first thread sets.
    ///
    /// # Panics
    /// If another thread of the team has panicked.
    pub fn meet(&self, active: Option<usize>) -> usize {
        let mut meeting = self.meeting.lock().unwrap_or_else(PoisonError::into_inner);
        meeting.active = active.unwrap_or(meeting.active);
        meeting.arrived += 1;
        if meeting.arrived == self.size {
            meeting.arrived = 0;
            meeting.turn += 1;
            self.met.notify_all();
        }
        let turn = meeting.turn + usize::from(meeting.arrived > 0);
        let gone = |meeting: &mut Meeting| meeting.turn >= turn || self.has_stopped() || self.is_broken();
        let meeting = self.met.wait_while(meeting, |meeting| !gone(meeting));
        let active = meeting.unwrap_or_else(PoisonError::into_inner).active;
        assert!(!self.is_broken(), "another thread of the team has panicked");
        active
    }

    /// Total nanoseconds that threads have waited for others, since the last call.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Tells all threads to stop.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// True if a thread has called [`Self::stop`] before the last [`Self::wait`].
    pub fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Lets waiting threads check again for the others.
    fn wake(&self) {
        let _meeting = self.meeting.lock().unwrap_or_else(PoisonError::into_inner);
        self.met.notify_all();
    }

    /// A guard to hold while working: tells the others if its thread panics.
    pub fn member(&self) -> impl Drop + '_ {
        Member(self)
    }
}

struct Member<'a>(&'a Team);

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
            self.0.wake();
        }
    }
}

/// Decides, row by row, if sharing a row pays on this machine at this time. The first thread owns it.
pub struct Pace {
    row_began: Instant,
    active: usize,
    /// Rows to compute alone before sharing is tried again.
    alone: usize,
    /// Their number after the next failure of sharing.
    backoff: usize,
}

impl Pace {
    /// Rows to compute alone after sharing did not pay: the first number, and the largest after doublings.
    const BACKOFF: [usize; 2] = [8, 64];
    /// Share of a row's time above which waiting means that threads do not have their cores.
    const LOST: f64 = 0.4;

    /// Before the first row.
    pub fn new() -> Self {
        Self { row_began: Instant::now(), active: 1, alone: 0, backoff: Self::BACKOFF[0] }
    }

    /// Number of threads for the next row.
    pub fn next(&mut self, team: &Team) -> usize {
        let lost = team.take_lost() as f64 / 1e9;
        let spent = self.row_began.elapsed().as_secs_f64() * team.size() as f64;
        self.row_began = Instant::now();
        if self.active > 1 {
            if lost > Self::LOST * spent {
                self.alone = self.backoff;
                self.backoff = (2 * self.backoff).min(Self::BACKOFF[1]);
            } else {
                self.backoff = Self::BACKOFF[0];
            }
        }
        self.active = if self.alone == 0 { team.size() } else { 1 };
        self.alone = self.alone.saturating_sub(1);
        self.active
    }
}
