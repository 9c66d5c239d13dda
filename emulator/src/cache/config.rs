//! What the caches of a host look like.

use std::fmt;

use tiermem_complaint::units::parse_bytes;

use super::LINE;
use super::set::WAYS_MAX;

/// Most levels that a hierarchy can have.
pub const LEVELS_MAX: usize = 4;

/// One level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelConfig {
    /// Bytes it holds: of each core's own cache, or of the shared one.
    pub size: u64,
    /// Lines a set holds, 1 to 16; `size` is a multiple of `ways` × 64.
    pub ways: u32,
    /// From the load to its value where this level has it, nanoseconds.
    pub latency_ns: f64,
}

/// The stream prefetcher of a core. It watches the accesses that miss the first level; two in a row that follow each
/// other line by line inside an OS page of 4 KiB, up or down, make a stream, and from then on the lines up to
/// `distance` ahead are brought into the second level (the only one, where there is one), never across the page's end.
/// That is the documented behaviour of the L2 streamer of Intel's cores (Intel 64 and IA-32 Architectures Optimization
/// Reference Manual, "Hardware Prefetching").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// How many streams a core follows at once; the one that was not used for longest makes way.
    pub streams: u32,
    /// How many lines ahead.
    pub distance: u32,
}

impl Default for Prefetch {
    /// 16 streams, 8 lines ahead: assumed.
    fn default() -> Self {
        Self { streams: 16, distance: 8 }
    }
}

/// The caches of a host. Text form, as [`parse`](Self::parse) reads and [`Display`](fmt::Display) writes it:
/// `48K/12@1.7,2M/16@5,shared:32M/16@21,prefetch:16x8`.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheConfig {
    /// The levels of each core, the nearest first.
    pub private: Vec<LevelConfig>,
    /// The level that the cores share, behind the private ones.
    pub shared: Option<LevelConfig>,
    /// The prefetcher of each core, if it has one.
    pub prefetch: Option<Prefetch>,
}

impl Default for CacheConfig {
    /// A present server core and its share of the last level: 48 KiB of 12 ways at 1.7 ns, 2 MiB of 16 ways at 5 ns,
    /// and 32 MiB of 16 ways shared at 21 ns, without a prefetcher. Sizes and ways of the private levels are those of
    /// Golden Cove (5 and 15 cycles at 3 GHz by Intel's optimization manual); size and latency of the shared level are
    /// assumed.
    fn default() -> Self {
        let level = |size, ways, latency_ns| LevelConfig { size, ways, latency_ns };
        Self {
            private: vec![level(48 << 10, 12, 1.7), level(2 << 20, 16, 5.0)],
            shared: Some(level(32 << 20, 16, 21.0)),
            prefetch: None,
        }
    }
}

/// What is wrong with a [`CacheConfig`] or its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfigError(String);

impl fmt::Display for CacheConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CacheConfigError {}

fn wrong<T>(text: impl Into<String>) -> Result<T, CacheConfigError> {
    Err(CacheConfigError(text.into()))
}

impl CacheConfig {
    /// All levels, the nearest first.
    pub fn levels(&self) -> impl Iterator<Item = &LevelConfig> {
        self.private.iter().chain(&self.shared)
    }

    /// Reads the text form. `SIZE/WAYS@NS` is a private level, `shared:` before it makes it the shared one,
    /// `prefetch:STREAMSxDISTANCE` adds the prefetcher. Sizes take `K`, `M` and `G` (binary).
    ///
    /// # Errors
    /// Says which part is wrong and why.
    ///
    /// ```
    /// use tiermem_emulator::cache::CacheConfig;
    /// let config = CacheConfig::parse("32K/8@1.5,shared:8M/16@15").unwrap();
    /// assert_eq!(config.levels().count(), 2);
    /// assert_eq!(config.to_string(), "32K/8@1.5,shared:8M/16@15");
    /// assert!(CacheConfig::parse("32K/7@1.5").unwrap_err().to_string().contains("multiple"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, CacheConfigError> {
        let mut config = Self { private: Vec::new(), shared: None, prefetch: None };
        for part in text.split(',').map(str::trim) {
            if let Some(rest) = part.strip_prefix("prefetch:") {
                config.prefetch = Some(parse_prefetch(rest)?);
            } else if let Some(rest) = part.strip_prefix("shared:") {
                if config.shared.replace(parse_level(rest)?).is_some() {
                    return wrong(format!("'{part}': there is one shared level at most"));
                }
            } else if config.shared.is_some() {
                return wrong(format!("'{part}': private levels come before the shared one"));
            } else {
                config.private.push(parse_level(part)?);
            }
        }
        config.check()?;
        Ok(config)
    }

    /// Whether a hierarchy can be built.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self) -> Result<(), CacheConfigError> {
        match self.private.len() {
            0 => return wrong("a core needs a level of its own"),
            n if n + usize::from(self.shared.is_some()) > LEVELS_MAX => {
                return wrong(format!("there are {LEVELS_MAX} levels at most"));
            }
            _ => {}
        }
        for level in self.levels() {
            let set = u64::from(level.ways) * LINE;
            if !(1..=WAYS_MAX).contains(&level.ways) {
                return wrong(format!("{} ways: 1 to {WAYS_MAX} are possible", level.ways));
            }
            if level.size == 0 || level.size % set != 0 {
                return wrong(format!("{} bytes are no multiple of {} ways of {LINE}", level.size, level.ways));
            }
            if level.size > 16 << 30 {
                return wrong(format!("{} bytes: a level has 16G at most", level.size));
            }
            if !(0.0..1e6).contains(&level.latency_ns) {
                return wrong(format!("{} ns: a latency is 0 to 1,000,000", level.latency_ns));
            }
        }
        match self.prefetch {
            Some(p) if !(1..=256).contains(&p.streams) => {
                wrong(format!("{} streams: 1 to 256 are possible", p.streams))
            }
            Some(p) if !(1..=63).contains(&p.distance) => {
                wrong(format!("{} lines ahead: 1 to 63 are possible, an OS page has 64", p.distance))
            }
            _ => Ok(()),
        }
    }
}

fn parse_level(text: &str) -> Result<LevelConfig, CacheConfigError> {
    let parsed = text.split_once('/').and_then(|(size, rest)| {
        let (ways, latency) = rest.split_once('@')?;
        Some(LevelConfig { size: parse_bytes(size).ok()?, ways: ways.parse().ok()?, latency_ns: latency.parse().ok()? })
    });
    match parsed {
        Some(level) => Ok(level),
        None => wrong(format!("'{text}' is no level: SIZE/WAYS@NS, for example 48K/12@1.7")),
    }
}

fn parse_prefetch(text: &str) -> Result<Prefetch, CacheConfigError> {
    let parsed = text.split_once('x').and_then(|(streams, distance)| {
        Some(Prefetch { streams: streams.parse().ok()?, distance: distance.parse().ok()? })
    });
    match parsed {
        Some(prefetch) => Ok(prefetch),
        None => wrong(format!("'{text}' is no prefetcher: STREAMSxDISTANCE, for example 16x8")),
    }
}

impl fmt::Display for CacheConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for level in &self.private {
            write!(f, "{separator}{level}")?;
            separator = ",";
        }
        if let Some(level) = &self.shared {
            write!(f, "{separator}shared:{level}")?;
        }
        match self.prefetch {
            Some(p) => write!(f, ",prefetch:{}x{}", p.streams, p.distance),
            None => Ok(()),
        }
    }
}

impl fmt::Display for LevelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, unit) = match self.size {
            s if s % (1 << 30) == 0 => (s >> 30, "G"),
            s if s % (1 << 20) == 0 => (s >> 20, "M"),
            s if s % (1 << 10) == 0 => (s >> 10, "K"),
            s => (s, ""),
        };
        write!(f, "{size}{unit}/{}@{}", self.ways, self.latency_ns)
    }
}
