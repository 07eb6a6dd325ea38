//! Progress of long work: a bar on a terminal; elsewhere a line at the start, and one a minute.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use super::text::{is_quiet, note};

/// Counts the pixels of some images, or of other things that a user counts.
pub struct Progress {
    bar: ProgressBar,
    rate: Rate,
    start: Instant,
    /// When a line was last written; none on a terminal.
    said: Option<Mutex<Instant>>,
}

/// Off a terminal, a line is written so often.
const EVERY: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct Rate {
    count: usize,
    /// Of what, in plural.
    unit: &'static str,
    pixels: u64,
}

impl Rate {
    /// The units per second.
    fn speed(&self, pixels: u64, elapsed: Duration) -> String {
        let share = pixels as f64 / self.pixels.max(1) as f64;
        format!("{:.1} {}/s", share * self.count as f64 / elapsed.as_secs_f64().max(1e-3), self.unit)
    }

    /// The time that is left at the mean rate so far.
    fn left(&self, pixels: u64, elapsed: Duration) -> Duration {
        let left = self.pixels.saturating_sub(pixels) as f64 / pixels.max(1) as f64;
        Duration::try_from_secs_f64((elapsed.as_secs_f64() * left).ceil()).unwrap_or(Duration::MAX)
    }
}

impl Progress {
    /// Begins work on `count` of a `unit`, which have `pixels` pixels together; `what` names the work.
    pub fn start(what: &str, count: usize, unit: &'static str, pixels: usize) -> Self {
        let rate = Rate { count, unit, pixels: pixels as u64 };
        let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {speed}  {left} left")
            .expect("the template is valid")
            .with_key("speed", move |state: &ProgressState, to: &mut dyn Write| {
                let _ = to.write_str(&rate.speed(state.pos(), state.elapsed()));
            })
            .with_key("left", move |state: &ProgressState, to: &mut dyn Write| {
                let _ = write!(to, "{:#}", HumanDuration(rate.left(state.pos(), state.elapsed())));
            });
        let bar = match is_quiet() {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(rate.pixels).with_style(style),
        };
        let is_terminal = !bar.is_hidden();
        if is_terminal {
            bar.enable_steady_tick(Duration::from_millis(200));
        } else {
            note(what);
        }
        let start = Instant::now();
        Self { bar, rate, start, said: (!is_terminal).then(|| Mutex::new(start)) }
    }

    /// Adds `more` pixels to those done, or subtracts them.
    pub fn moved(&self, more: i64) {
        match more {
            0.. => self.bar.inc(more.unsigned_abs()),
            _ => self.bar.dec(more.unsigned_abs()),
        }
        let Some(said) = &self.said else { return };
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.elapsed() >= EVERY {
            *said = Instant::now();
            note(&self.line());
        }
    }

    fn line(&self) -> String {
        let (pixels, elapsed) = (self.bar.position(), self.start.elapsed());
        format!(
            "{} % in {:#}, {}, {:#} left",
            100 * pixels / self.rate.pixels.max(1),
            HumanDuration(elapsed),
            self.rate.speed(pixels, elapsed),
            HumanDuration(self.rate.left(pixels, elapsed))
        )
    }

    /// Ends it: takes the bar away, or says off a terminal what was done and how fast.
    pub fn end(&self, done: &str) {
        self.bar.finish_and_clear();
        if self.said.is_some() {
            let (elapsed, rate) = (self.start.elapsed(), self.rate);
            let speed = rate.speed(rate.pixels, elapsed);
            note(&format!("{done} in {:.2} s, {speed}", elapsed.as_secs_f64()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_in_the_users_unit() {
        // Ten images under twenty classes: half of the pixels in ten seconds.
        let rate = Rate { count: 10, unit: "images", pixels: 10 * 20 * 64 };
        let seconds = Duration::from_secs(10);
        assert_eq!(rate.speed(6400, seconds), "0.5 images/s");
        assert_eq!(rate.left(6400, seconds), seconds);
        assert_eq!(rate.left(12800, seconds), Duration::ZERO);
        assert_eq!(rate.speed(0, Duration::ZERO), "0.0 images/s");
    }
}
