//! Threads that share the caches of some images: memory that all of them write, and the barrier that keeps
//! them apart.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Numbers that the threads of a team read and write, in turns that [`Team::wait`] separates.
#[derive(Default)]
pub struct Buffer(Vec<UnsafeCell<f32>>);

// SAFETY: access is through the unsafe methods below, whose callers keep threads apart.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Makes it `length` zeros.
    pub fn clear(&mut self, length: usize) {
        self.0.clear();
        self.0.resize_with(length, UnsafeCell::default);
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
        // SAFETY: a cell has the layout of its contents; nobody writes, as promised.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len()) }
    }

    /// Where `length` numbers from `start` on are.
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
        // SAFETY: a cell has the layout of its contents; nobody else has a slice of them, as promised.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(start, length), length) }
    }
}

/// A barrier for threads that do the same steps.
pub struct Team {
    size: usize,
    arrived: AtomicUsize,
    turn: AtomicUsize,
    stopped: AtomicBool,
    broken: AtomicBool,
}

impl Team {
    /// A team of `size` threads.
    pub fn new(size: usize) -> Self {
        let (arrived, turn) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { size, arrived, turn, stopped: AtomicBool::new(false), broken: AtomicBool::new(false) }
    }

    /// Threads.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Waits until all threads have come here. What they wrote before is then seen by all.
    ///
    /// # Panics
    /// If another thread of the team has panicked.
    pub fn wait(&self) {
        /// Waits are short, unless a thread has lost its core.
        const SPINS: u32 = 10_000;
        if self.size == 1 {
            return;
        }
        let turn = self.turn.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.size {
            self.arrived.store(0, Ordering::Relaxed);
            self.turn.store(turn.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0;
        while self.turn.load(Ordering::Acquire) == turn {
            assert!(!self.broken.load(Ordering::Relaxed), "another thread of the team has panicked");
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    /// Tells all that there is no use in going on.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether a thread has called [`Self::stop`] before the last [`Self::wait`].
    pub fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Something to hold while working: tells the others if the thread that holds it panics.
    pub fn member(&self) -> impl Drop + '_ {
        Member(self)
    }
}

struct Member<'a>(&'a Team);

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
    }
}
