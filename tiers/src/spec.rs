//! `SPEC`: a tier written on one line, as in `slow=dax-file:/dev/shm/slow,size=4G`.
//!
//! ```text
//! SPEC     = NAME "=" KIND [":" WHERE] { "," KEY "=" VALUE }
//! KIND     = "dram" | "cxl-node" | "devdax" | "dax-file" | "nvme" | "device"
//! WHERE    = a NUMA node number (dram, cxl-node), a path (devdax, dax-file, nvme), `memfd` (dax-file),
//!            or `cuda:0`, `opencl:0:0`, `emulated` (device); a comma or backslash in it is written `\,` or `\\`
//! KEY      = "size" | "read-latency-ns" | "write-latency-ns" | "read-bandwidth" | "write-bandwidth" | "io"
//! VALUE    = for size: `4G`, `512 MiB` (binary units); for latencies: a number; for bandwidths: bytes per second
//!            (`16e9`) or with a unit (`16GB/s`, `15GiB/s`); for io (nvme): `uring` or `pread`
//! ```

use std::fmt;
use std::str::FromStr;

use crate::{Attribute, Attributes, Bytes, Source, TierKind, TierName};

/// A tier as its user wrote it, checked for form but not yet opened.
///
/// ```
/// use tiermem_tiers::{Bytes, TierKind, TierSpec};
/// let spec: TierSpec = "slow=dax-file:/dev/shm/slow,size=4G".parse().unwrap();
/// assert_eq!((spec.kind, spec.size()), (TierKind::DaxFile, Some(Bytes::gib(4))));
/// assert_eq!(spec.to_string(), "slow=dax-file:/dev/shm/slow,size=4G");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TierSpec {
    /// Its name.
    pub name: TierName,
    /// What it is.
    pub kind: TierKind,
    /// Node number, path or device; empty where the kind has a default (`dram` alone is node 0 or the whole machine).
    pub location: String,
    /// `size=` and the other keys; all with source [`Configured`](crate::Source::Configured).
    pub attributes: Attributes,
    /// `io=`: how a tier on block storage is read and written.
    pub io: IoChoice,
}

/// How a tier on block storage is read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring where it is allowed, else pread and pwrite.
    #[default]
    Best,
    /// io_uring, or an error.
    Uring,
    /// pread(2) and pwrite(2).
    Pread,
}

impl TierSpec {
    /// The capacity that was asked for.
    pub fn size(&self) -> Option<Bytes> {
        self.attributes.capacity.map(|a| a.value)
    }
}

/// What is wrong with a `SPEC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    spec: String,
    part: String,
    problem: SpecProblem,
}

/// Kinds of [`SpecError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecProblem {
    /// There is no `NAME=` at the start.
    NoName,
    /// The name breaks the rule of [`TierName`].
    BadName,
    /// No such kind of tier.
    UnknownKind,
    /// This kind needs a `:WHERE`.
    NoLocation,
    /// The node is not a number.
    BadNode,
    /// A part after a comma is not `KEY=VALUE`.
    NotAPair,
    /// No such key.
    UnknownKey,
    /// The key was given before.
    Repeated,
    /// Not a size, or zero.
    BadSize,
    /// Not a positive number of nanoseconds.
    BadLatency,
    /// Not a positive number of bytes per second.
    BadBandwidth,
    /// Not a way of doing I/O, or not for this kind.
    BadIo,
}

impl SpecError {
    /// What is wrong.
    pub const fn problem(&self) -> SpecProblem {
        self.problem
    }

    /// The part of the text that is wrong.
    pub fn part(&self) -> &str {
        &self.part
    }
}

impl SpecProblem {
    /// Why it is wrong and what to write.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NoName => {
                "a tier needs a name: write NAME=KIND:WHERE, for example slow=dax-file:/dev/shm/slow,size=4G"
            }
            Self::BadName => "a name is 1 to 23 letters, digits, '.', '_' or '-', starting with a letter",
            Self::UnknownKind => "no such kind of tier: write dram, cxl-node, devdax, dax-file, nvme or device",
            Self::NoLocation => {
                "this kind needs a place: a node (cxl-node:1), a device (devdax:/dev/dax0.0), a path \
                 (dax-file:/dev/shm/slow, nvme:/var/tmp) or a runtime (device:cuda:0)"
            }
            Self::BadNode => "a NUMA node is a number, for example dram:0",
            Self::NotAPair => "write KEY=VALUE, for example size=4G",
            Self::UnknownKey => {
                "no such key: write size, read-latency-ns, write-latency-ns, read-bandwidth, write-bandwidth or io"
            }
            Self::Repeated => "this key is given twice",
            Self::BadSize => "not a size above zero: write for example size=4G or size=512MiB",
            Self::BadLatency => "not a number of nanoseconds above zero: write for example read-latency-ns=250",
            Self::BadBandwidth => {
                "not a bandwidth: write bytes per second or a unit, for example read-bandwidth=16GB/s"
            }
            Self::BadIo => "io is uring or pread, and only for kind nvme",
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tier '{}': '{}': {}", self.spec, self.part, self.problem.advice())
    }
}

impl std::error::Error for SpecError {}

impl FromStr for TierSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<Self, SpecError> {
        parse(spec).map_err(|(part, problem)| SpecError { spec: spec.to_owned(), part, problem })
    }
}

type Problem = (String, SpecProblem);

fn parse(spec: &str) -> Result<TierSpec, Problem> {
    let mut parts = split_at_commas(spec).into_iter();
    let head = parts.next().unwrap_or_default();
    let (name, place) = head.split_once('=').ok_or_else(|| (head.clone(), SpecProblem::NoName))?;
    let name = TierName::new(name).ok_or_else(|| (name.to_owned(), SpecProblem::BadName))?;
    let (kind, location) = place.split_once(':').unwrap_or((place, ""));
    let kind = kind_of(kind).ok_or_else(|| (kind.to_owned(), SpecProblem::UnknownKind))?;
    check_location(kind, location).map_err(|problem| (place.to_owned(), problem))?;
    let mut spec = TierSpec {
        name,
        kind,
        location: location.to_owned(),
        attributes: Attributes::default(),
        io: IoChoice::default(),
    };
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| (part.clone(), SpecProblem::NotAPair))?;
        set(&mut spec, key, value).map_err(|problem| (part.clone(), problem))?;
    }
    Ok(spec)
}

/// Splits at commas that no backslash precedes, and takes the backslashes away.
fn split_at_commas(spec: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = spec.chars().peekable();
    while let Some(letter) = letters.next() {
        let escaped = (letter == '\\').then(|| letters.next_if(|&next| next == ',' || next == '\\')).flatten();
        match (escaped, letter, parts.last_mut()) {
            (None, ',', _) => parts.push(String::new()),
            (escaped, letter, Some(part)) => part.push(escaped.unwrap_or(letter)),
            (_, _, None) => {}
        }
    }
    parts
}

fn kind_of(word: &str) -> Option<TierKind> {
    const ALL: [TierKind; 6] =
        [TierKind::Dram, TierKind::CxlNode, TierKind::Devdax, TierKind::DaxFile, TierKind::Nvme, TierKind::Device];
    ALL.into_iter().find(|kind| kind.as_str() == word)
}

fn check_location(kind: TierKind, location: &str) -> Result<(), SpecProblem> {
    match kind {
        TierKind::Dram if location.is_empty() => Ok(()),
        _ if location.is_empty() => Err(SpecProblem::NoLocation),
        TierKind::Dram | TierKind::CxlNode => location.parse::<u32>().map(drop).map_err(|_| SpecProblem::BadNode),
        _ => Ok(()),
    }
}

fn set(spec: &mut TierSpec, key: &str, value: &str) -> Result<(), SpecProblem> {
    let figures = &mut spec.attributes;
    match key {
        "size" => put(&mut figures.capacity, size(value)),
        "read-latency-ns" => put(&mut figures.read_latency_ns, latency_ns(value)),
        "write-latency-ns" => put(&mut figures.write_latency_ns, latency_ns(value)),
        "read-bandwidth" => put(&mut figures.read_bandwidth, bandwidth(value)),
        "write-bandwidth" => put(&mut figures.write_bandwidth, bandwidth(value)),
        "io" if spec.io != IoChoice::Best => Err(SpecProblem::Repeated),
        "io" => {
            spec.io = match value {
                "uring" if spec.kind == TierKind::Nvme => IoChoice::Uring,
                "pread" if spec.kind == TierKind::Nvme => IoChoice::Pread,
                _ => return Err(SpecProblem::BadIo),
            };
            Ok(())
        }
        _ => Err(SpecProblem::UnknownKey),
    }
}

fn put<T>(place: &mut Option<Attribute<T>>, value: Result<T, SpecProblem>) -> Result<(), SpecProblem> {
    let value = value?;
    match place.replace(Attribute::new(value, Source::Configured)) {
        None => Ok(()),
        Some(_) => Err(SpecProblem::Repeated),
    }
}

fn size(text: &str) -> Result<Bytes, SpecProblem> {
    // Fractions would be rounded by somebody's rule; a size is exact.
    let exact = text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains('.');
    let size = Bytes::parse(text).ok().filter(|&size| exact && size > Bytes::ZERO);
    size.ok_or(SpecProblem::BadSize)
}

fn positive(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0)
}

fn latency_ns(text: &str) -> Result<f64, SpecProblem> {
    positive(text).ok_or(SpecProblem::BadLatency)
}

fn bandwidth(text: &str) -> Result<f64, SpecProblem> {
    const UNITS: [(&str, f64); 8] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
    ];
    let plain = text.strip_suffix("/s").unwrap_or(text);
    let with_unit = UNITS.into_iter().find_map(|(unit, scale)| plain.strip_suffix(unit).map(|n| (n, scale)));
    let (number, scale) = with_unit.unwrap_or((text, 1.0));
    positive(number).map(|n| n * scale).filter(|n| n.is_finite()).ok_or(SpecProblem::BadBandwidth)
}

impl fmt::Display for TierSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.kind)?;
        if !self.location.is_empty() {
            write!(f, ":{}", self.location.replace('\\', "\\\\").replace(',', "\\,"))?;
        }
        if let Some(size) = self.size() {
            f.write_str(",size=")?;
            write_size(f, size)?;
        }
        let figures = &self.attributes;
        let named = [
            ("read-latency-ns", figures.read_latency_ns),
            ("write-latency-ns", figures.write_latency_ns),
            ("read-bandwidth", figures.read_bandwidth),
            ("write-bandwidth", figures.write_bandwidth),
        ];
        for (key, figure) in named {
            if let Some(figure) = figure {
                // The shortest text that reads back as the same number.
                write!(f, ",{key}={}", figure.value)?;
            }
        }
        match self.io {
            IoChoice::Best => Ok(()),
            IoChoice::Uring => f.write_str(",io=uring"),
            IoChoice::Pread => f.write_str(",io=pread"),
        }
    }
}

/// With the largest unit that leaves the number exact.
fn write_size(f: &mut fmt::Formatter<'_>, size: Bytes) -> fmt::Result {
    const UNITS: [(&str, u32); 5] = [("T", 40), ("G", 30), ("M", 20), ("K", 10), ("", 0)];
    let exact = |&(_, shift): &(&str, u32)| size.0.trailing_zeros() >= shift && size.0 != 0;
    let (unit, shift) = UNITS.into_iter().find(exact).unwrap_or(("", 0));
    write!(f, "{}{unit}", size.0 >> shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problem(text: &str) -> SpecProblem {
        text.parse::<TierSpec>().unwrap_err().problem()
    }

    #[test]
    fn reads_what_the_manual_shows() {
        let spec: TierSpec =
            "far=nvme:/var/tmp,size=512 MiB,read-latency-ns=80000,read-bandwidth=1.5GB/s,io=pread".parse().unwrap();
        assert_eq!((spec.name.as_str(), spec.kind, spec.location.as_str()), ("far", TierKind::Nvme, "/var/tmp"));
        assert_eq!(spec.size(), Some(Bytes::mib(512)));
        assert_eq!(spec.attributes.read_latency_ns, Some(Attribute::new(80000.0, Source::Configured)));
        assert_eq!(spec.attributes.read_bandwidth, Some(Attribute::new(1.5e9, Source::Configured)));
        assert_eq!(spec.io, IoChoice::Pread);
        assert_eq!("d=dram".parse::<TierSpec>().unwrap().location, "");
        assert_eq!("g=device:opencl:0:0".parse::<TierSpec>().unwrap().location, "opencl:0:0");
        assert_eq!(r"s=dax-file:/a\,b\\c".parse::<TierSpec>().unwrap().location, r"/a,b\c");
    }

    #[test]
    fn says_which_part_is_wrong_and_why() {
        assert_eq!(problem("a=cxl-node:3,size=18446744073709551615.7"), SpecProblem::BadSize);
        assert_eq!(problem(""), SpecProblem::NoName);
        assert_eq!(problem("dram:0"), SpecProblem::NoName);
        assert_eq!(problem("1slow=dram"), SpecProblem::BadName);
        assert_eq!(problem("a=disk:/x"), SpecProblem::UnknownKind);
        assert_eq!(problem("a=devdax"), SpecProblem::NoLocation);
        assert_eq!(problem("a=cxl-node:x"), SpecProblem::BadNode);
        assert_eq!(problem("a=dram,"), SpecProblem::NotAPair);
        assert_eq!(problem("a=dram,colour=red"), SpecProblem::UnknownKey);
        assert_eq!(problem("a=dram,size=1G,size=2G"), SpecProblem::Repeated);
        for bad in ["4Q", "0", "-1", "", "1.5G", "G"] {
            assert_eq!(problem(&format!("a=dram,size={bad}")), SpecProblem::BadSize, "{bad}");
        }
        for bad in ["0", "-2", "NaN", "inf", "fast"] {
            assert_eq!(problem(&format!("a=dram,read-latency-ns={bad}")), SpecProblem::BadLatency, "{bad}");
        }
        for bad in ["0", "12G", "GB/s", "1e308TB/s"] {
            assert_eq!(problem(&format!("a=dram,write-bandwidth={bad}")), SpecProblem::BadBandwidth, "{bad}");
        }
        assert_eq!(problem("a=dram,io=pread"), SpecProblem::BadIo);
        let text = "a=dram:0,size=4Q".parse::<TierSpec>().unwrap_err().to_string();
        assert!(text.contains("'size=4Q'") && text.contains("size=4G"), "{text}");
    }

    fn specs() -> impl Strategy<Value = TierSpec> {
        let place = prop_oneof![
            Just((TierKind::Dram, String::new())),
            (0u32..1024).prop_map(|n| (TierKind::CxlNode, n.to_string())),
            r"/[ -~]{1,30}".prop_map(|p| (TierKind::DaxFile, p)),
            r"[^\x00]{1,20}".prop_map(|p| (TierKind::Nvme, p)),
        ];
        let figure = || proptest::option::of(1e-3..1e15f64);
        ("[A-Za-z][A-Za-z0-9._-]{0,22}", place, proptest::option::of(1u64..1 << 50), figure(), figure()).prop_map(
            |(name, (kind, location), size, latency, bandwidth)| TierSpec {
                name: TierName::new(&name).unwrap(),
                kind,
                location,
                attributes: Attributes {
                    capacity: size.map(|s| Attribute::new(Bytes(s), Source::Configured)),
                    read_latency_ns: latency.map(|l| Attribute::new(l, Source::Configured)),
                    write_bandwidth: bandwidth.map(|b| Attribute::new(b, Source::Configured)),
                    ..Attributes::default()
                },
                io: if kind == TierKind::Nvme { IoChoice::Pread } else { IoChoice::Best },
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(spec in specs()) {
            prop_assert_eq!(spec.to_string().parse::<TierSpec>().unwrap(), spec);
        }

        #[test]
        fn no_text_makes_it_panic(text in r"([a-z]{0,3}=?(dram|dax-file|nvme|x)?:?[0-9a-z,=\\é]{0,20}|.{0,40})") {
            if let Ok(spec) = text.parse::<TierSpec>() {
                prop_assert_eq!(spec.to_string().parse::<TierSpec>().unwrap(), spec);
            }
        }
    }
}
