//! Byte counts.

use std::fmt;

/// A number of bytes. Sizes are binary: `4G` is 4 GiB, as everywhere in memory management.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// No bytes.
    pub const ZERO: Self = Self(0);

    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` GiB.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// Parses `4G`, `512 MiB`, `1.5m`, `65536`. Units are binary whether or not the `i` is written.
    ///
    /// ```
    /// use tiermem_tiers::Bytes;
    /// assert_eq!(Bytes::parse("4G").unwrap(), Bytes::gib(4));
    /// assert_eq!(Bytes::parse("512 MiB").unwrap(), Bytes::mib(512));
    /// assert!(Bytes::parse("lots").is_err());
    /// ```
    ///
    /// # Errors
    /// What is wrong with the text, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        tiermem_complaint::units::parse_bytes(text).map(Self)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
        let (unit, shift) = UNITS.into_iter().find(|&(_, s)| self.0 >> s > 0).unwrap_or(("B", 0));
        let text = if self.0.trailing_zeros() >= shift || self.0 == 0 {
            format!("{} {unit}", self.0 >> shift)
        } else {
            #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
            let scaled = self.0 as f64 / (1u64 << shift) as f64;
            format!("{scaled:.1} {unit}")
        };
        f.pad(&text)
    }
}
