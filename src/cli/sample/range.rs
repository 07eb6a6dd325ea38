//! The indices of the images to draw, and the shard of this process.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A share of the images: part I of N, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    pub part: u64,
    pub parts: u64,
}

pub fn parse_shard(text: &str) -> Result<Shard, String> {
    let parse = |(part, parts): (&str, &str)| Some((part.parse().ok()?, parts.parse().ok()?));
    match text.split_once('/').and_then(parse) {
        Some((part, parts)) if part < parts => Ok(Shard { part, parts }),
        _ => {
            Err("expected I/N with I from 0 to N-1, such as 0/4, 1/4, 2/4 and 3/4 for four processes"
                .into())
        }
    }
}

/// The indices of `count` images; the largest number is none, so that the end of a range is a number.
pub fn indices(first: u64, count: usize) -> Option<Range<u64>> {
    Some(first..first.checked_add(count as u64)?)
}

impl Shard {
    /// Its share: consecutive indices, of as many images as any other's, or one fewer.
    pub fn of(self, whole: &Range<u64>) -> Range<u64> {
        let count = u128::from(whole.end - whole.start);
        let bound = |part: u64| whole.start + (count * u128::from(part) / u128::from(self.parts)) as u64;
        bound(self.part)..bound(self.part + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_make_the_whole() {
        for (whole, parts) in
            [(0..10, 3), (5..7, 4), (0..1, 1), (u64::MAX - 9..u64::MAX, 4), (0..5, u64::MAX)]
        {
            let mut next = whole.start;
            let last = if parts > 9 { parts - 1..parts } else { 0..0 };
            for part in (0..parts.min(9)).chain(last) {
                let share = Shard { part, parts }.of(&whole);
                if parts < 9 {
                    assert_eq!(share.start, next);
                }
                let fair = (whole.end - whole.start) / parts;
                assert!([fair, fair + 1].contains(&(share.end - share.start)), "{share:?}");
                next = share.end;
            }
            assert_eq!(next, whole.end);
        }
    }

    #[test]
    fn what_is_no_share_or_range() {
        assert_eq!(parse_shard("2/3"), Ok(Shard { part: 2, parts: 3 }));
        for wrong in ["3/3", "0/0", "-1/2", "1", "/", "1/2/3", "a/b", ""] {
            assert!(parse_shard(wrong).is_err(), "{wrong}");
        }
        assert_eq!(indices(u64::MAX - 1, 1), Some(u64::MAX - 1..u64::MAX));
        assert_eq!(indices(u64::MAX, 1), None);
    }
}
