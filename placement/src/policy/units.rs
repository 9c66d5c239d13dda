//! Ranges of sizes, bandwidths and watermarks as a policy writes them. All exact: no floating point.

use std::fmt;

use tiermem_complaint::units::{clip, parse_bandwidth, parse_bytes, show_bytes};

/// Block sizes from `min` to `max`, both included. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SizeRange {
    /// Smallest size.
    pub min: u64,
    /// Largest size; `u64::MAX` for no bound.
    pub max: u64,
}

impl SizeRange {
    /// Every size.
    pub const ALL: Self = Self { min: 0, max: u64::MAX };

    /// Whether `size` lies in the range.
    pub const fn contains(&self, size: u64) -> bool {
        self.min <= size && size <= self.max
    }

    /// Whether any size from `first` to `last`, both included, lies in the range.
    pub const fn overlaps(&self, first: u64, last: u64) -> bool {
        self.min <= last && first <= self.max
    }

    /// Parses `>= 1 MiB`, `> N`, `< 4 KiB`, `<= N`, `= N` and `64 KiB..1 MiB` (the end excluded; `..=` includes it;
    /// either end may be left out).
    ///
    /// # Errors
    /// In words: not a range, or one that no size can be in.
    ///
    /// ```
    /// use tiermem_placement::SizeRange;
    /// assert_eq!(SizeRange::parse("< 4 KiB"), Ok(SizeRange { min: 0, max: 4095 }));
    /// assert_eq!(SizeRange::parse("64 KiB..1 MiB"), Ok(SizeRange { min: 65536, max: 1048575 }));
    /// assert!(SizeRange::parse("1 MiB..64 KiB").unwrap_err().contains("no size"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        let empty = || format!("no size is in `{}`", clip(text));
        let above = |bound: u64| bound.checked_add(1).ok_or_else(empty);
        let below = |bound: u64| bound.checked_sub(1).ok_or_else(empty);
        let trimmed = text.trim();
        let (min, max) = if let Some((min, max)) = trimmed.split_once("..") {
            let min = if min.trim().is_empty() { 0 } else { parse_bytes(min)? };
            let max = match max.strip_prefix('=') {
                Some(max) => parse_bytes(max)?,
                None if max.trim().is_empty() => u64::MAX,
                None => below(parse_bytes(max)?)?,
            };
            (min, max)
        } else if let Some(bound) = trimmed.strip_prefix(">=") {
            (parse_bytes(bound)?, u64::MAX)
        } else if let Some(bound) = trimmed.strip_prefix('>') {
            (above(parse_bytes(bound)?)?, u64::MAX)
        } else if let Some(bound) = trimmed.strip_prefix("<=") {
            (0, parse_bytes(bound)?)
        } else if let Some(bound) = trimmed.strip_prefix('<') {
            (0, below(parse_bytes(bound)?)?)
        } else if let Some(bound) = trimmed.strip_prefix('=') {
            let size = parse_bytes(bound.strip_prefix('=').unwrap_or(bound))?;
            (size, size)
        } else {
            let help = "write for example \">= 1 MiB\", \"< 4 KiB\" or \"64 KiB..1 MiB\"";
            return Err(format!("`{}` is not a range of sizes; {help}", clip(text)));
        };
        if min <= max { Ok(Self { min, max }) } else { Err(empty()) }
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (min, u64::MAX) => write!(f, ">= {}", show_bytes(min)),
            (min, max) if min == max => write!(f, "= {}", show_bytes(min)),
            (0, max) => write!(f, "< {}", show_bytes(max + 1)),
            (min, max) => write!(f, "{}..{}", show_bytes(min), show_bytes(max + 1)),
        }
    }
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bandwidth(pub u64);

impl Bandwidth {
    /// Parses `12 GB/s` (decimal, as bandwidths are quoted) and `11.5 GiB/s` (binary).
    ///
    /// # Errors
    /// In words: not a bandwidth, or zero.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse_bandwidth(text).map(Self)
    }

    /// The weight of a tier of this bandwidth: its MB/s, at least 1.
    pub(crate) fn weight(self) -> u32 {
        u32::try_from(self.0 / 1_000_000).unwrap_or(u32::MAX).max(1)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000), ("B", 1)];
        let (unit, factor) = UNITS.iter().find(|(_, factor)| self.0.is_multiple_of(*factor)).unwrap_or(&("B", 1));
        write!(f, "{} {unit}/s", self.0 / factor)
    }
}

/// The part of a tier's capacity (or of its limit, where that is less) that is filled before its chain's other tiers
/// are. In millionths, more than 0 and at most all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watermark(u32);

impl Watermark {
    /// All of it: the default.
    pub const FULL: Self = Self(1_000_000);

    /// A watermark of `millionths`, or `None` unless `0 < millionths <= 1_000_000`.
    pub const fn new(millionths: u32) -> Option<Self> {
        if millionths > 0 && millionths <= Self::FULL.0 { Some(Self(millionths)) } else { None }
    }

    /// The watermark of a `fraction` over 0 and up to 1, to the nearest millionth; `None` for any other number.
    pub(crate) fn from_fraction(fraction: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
        let millionths = |fraction: f64| (fraction * f64::from(Self::FULL.0)).round() as u32;
        (fraction > 0.0 && fraction <= 1.0).then(|| Self::new(millionths(fraction)))?
    }

    /// The bytes under the mark of a tier that can hold `ceiling`; all of them where that is unknown (`u64::MAX`).
    pub(crate) fn of(self, ceiling: u64) -> u64 {
        if self == Self::FULL || ceiling == u64::MAX {
            return ceiling;
        }
        let mark = u128::from(ceiling) * u128::from(self.0) / u128::from(Self::FULL.0);
        u64::try_from(mark).unwrap_or(ceiling)
    }
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::FULL {
            return f.write_str("1.0");
        }
        let digits = format!("{:06}", self.0);
        write!(f, "0.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges() {
        let range = |min, max| Ok(SizeRange { min, max });
        assert_eq!(SizeRange::parse(">= 1 MiB"), range(1 << 20, u64::MAX));
        assert_eq!(SizeRange::parse(">1"), range(2, u64::MAX));
        assert_eq!(SizeRange::parse("<= 4k"), range(0, 4096));
        assert_eq!(SizeRange::parse("= 64"), range(64, 64));
        assert_eq!(SizeRange::parse("1k..=2k"), range(1024, 2048));
        assert_eq!(SizeRange::parse("..2k"), range(0, 2047));
        assert_eq!(SizeRange::parse("2k.."), range(2048, u64::MAX));
        assert_eq!(SizeRange::parse("1.5k..2.5k"), range(1536, 2559));
    }

    #[test]
    fn bandwidths() {
        assert_eq!(Bandwidth::parse("12 GB/s"), Ok(Bandwidth(12_000_000_000)));
        assert_eq!(Bandwidth::parse("11.5 GiB/s"), Ok(Bandwidth(23 << 29)));
        assert_eq!(Bandwidth::parse("300 B/s").map(Bandwidth::weight), Ok(1));
        assert_eq!(Bandwidth(12_000_000_000).weight(), 12_000);
        for text in ["12", "12 GB", "GB/s", "12 Gb/s", "0.1 B/s"] {
            assert!(Bandwidth::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn watermarks_round_down_and_never_over_the_ceiling() {
        let of = |fraction, ceiling| Watermark::from_fraction(fraction).map(|mark| mark.of(ceiling));
        assert_eq!(of(0.9, 10), Some(9));
        assert_eq!(of(0.9, 9), Some(8));
        assert_eq!(of(0.5, u64::MAX - 1), Some(u64::MAX / 2));
        assert_eq!(of(0.5, u64::MAX), Some(u64::MAX), "nothing is half of what is unknown");
        assert_eq!(of(1.0, 7), Some(7));
        for fraction in [0.0, -0.1, 1.000_001, f64::NAN, f64::INFINITY, 1e-9] {
            assert_eq!(Watermark::from_fraction(fraction), None, "{fraction}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_shown_is_read_back(a in any::<u64>(), b in any::<u64>(), shift in 0u32..64, mark in 1u32..=1_000_000) {
            let (a, b) = (a >> shift, b >> shift);
            let range = SizeRange { min: a.min(b), max: a.max(b) };
            prop_assert_eq!(SizeRange::parse(&range.to_string()), Ok(range));
            let up_to = SizeRange { min: 0, max: a };
            prop_assert_eq!(SizeRange::parse(&up_to.to_string()), Ok(up_to));
            let bandwidth = Bandwidth(a.max(1));
            prop_assert_eq!(Bandwidth::parse(&bandwidth.to_string()), Ok(bandwidth));
            let watermark = Watermark::new(mark);
            let fraction: f64 = watermark.map(|mark| mark.to_string()).unwrap_or_default().parse().unwrap();
            prop_assert_eq!(Watermark::from_fraction(fraction), watermark);
        }

        #[test]
        fn no_text_is_too_strange(text in any::<String>(), sized in "[0-9]{0,24}[.]?[0-9]{0,24} ?[kKMGTPEiB/s.=<>]{0,5}") {
            for text in [text, sized] {
                let _ = (SizeRange::parse(&text), Bandwidth::parse(&text));
            }
        }
    }
}
