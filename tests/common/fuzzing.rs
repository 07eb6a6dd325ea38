//! Duration and seed of tests with random inputs: a moment, always the same; or, in `scripts/fuzz`, as long
//! as it says, each time with another seed.

#![allow(dead_code, reason = "every test file uses its own part of this module")]

use std::fmt::Debug;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Seconds to try; none outside `scripts/fuzz`.
pub fn seconds() -> Option<f64> {
    std::env::var("PIXELCNN_FUZZ_SECONDS").ok().map(|s| s.parse().expect("a number of seconds"))
}

/// Seed of the random inputs.
pub fn seed() -> u64 {
    seconds().map_or(0, |_| fastrand::u64(..))
}

/// Runs `count` rounds, or as many as the time allows.
pub fn rounds(count: u64) -> impl Iterator<Item = u64> {
    let (start, seconds) = (Instant::now(), seconds());
    (0..).take_while(move |round| match seconds {
        Some(seconds) => start.elapsed() <= Duration::from_secs_f64(seconds),
        None => *round < count,
    })
}

/// Tries `cases` cases, or as many as the time allows; `shown` describes the case to which a failure is
/// reduced.
pub fn try_cases<S: Strategy>(
    cases: &S,
    config: ProptestConfig,
    property: impl Fn(&S::Value) -> Result<(), TestCaseError>,
    shown: impl Fn(&S::Value) -> String,
) where
    S::Value: Debug,
{
    let seed_of_user = std::env::var("PIXELCNN_FUZZ_SEED").ok().map(|s| s.parse().expect("a whole number"));
    let mut seed: u64 = seed_of_user.unwrap_or_else(seed);
    let (start, seconds, mut tried) = (Instant::now(), seconds(), 0);
    loop {
        let config = ProptestConfig { failure_persistence: None, ..config.clone() };
        let count = config.cases;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        match runner.run(cases, |case| property(&case)) {
            Ok(()) => tried += count,
            Err(TestError::Fail(reason, case)) => {
                let shown = shown(&case);
                panic!("{reason}\nthe simplest like it: {case:#?}\n{shown}again: PIXELCNN_FUZZ_SEED={seed}")
            }
            Err(abort) => panic!("{abort:?}"),
        }
        if seconds.is_none_or(|seconds| start.elapsed() > Duration::from_secs_f64(seconds)) {
            break;
        }
        seed = seed.wrapping_add(1);
    }
    println!("{tried} cases in {:.0} s", start.elapsed().as_secs_f64());
}

/// The first words of a message, up to the first word that differs from file to file.
pub fn first_words(message: &str, most: usize) -> String {
    let is_word = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b",:;(".contains(&b));
    let words = message.split('"').step_by(2).flat_map(|unquoted| unquoted.split([' ', '`', '\'']));
    words.filter(is_word).take(most).collect::<Vec<_>>().join(" ")
}
