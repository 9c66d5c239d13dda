//! The figures as text for people, as JSON, and as XML, written piece by piece into a small buffer on the stack.

use std::fmt::{self, Write};

use super::{ClassStatistics, Statistics, TierStatistics, class_statistics, statistics};

/// How the figures are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// Tables for people.
    Text,
    /// One JSON object on one line, `tiermem-statistics/1`.
    Json,
    /// The elements of the GNU C library's `malloc_info`, a `heap` for each tier.
    Xml,
}

/// Writes the figures of this moment. `write` gets them in pieces of at most 512 bytes, without holding any lock, so it may
/// allocate.
pub fn render(form: Form, write: &mut dyn FnMut(&[u8])) {
    let statistics = statistics();
    let mut out = Pieces { buffer: [0; 512], len: 0, write };
    // Writing into the buffer cannot fail; what the receiver does with a piece is its own affair.
    let _ = match form {
        Form::Text => text(&statistics, &mut out),
        Form::Json => json(&statistics, &mut out),
        Form::Xml => xml(&statistics, &mut out),
    };
    out.flush();
}

/// Collects text and passes it on when the buffer is full.
struct Pieces<'a> {
    buffer: [u8; 512],
    len: usize,
    write: &'a mut dyn FnMut(&[u8]),
}

impl Pieces<'_> {
    fn flush(&mut self) {
        if self.len > 0 {
            (self.write)(&self.buffer[..self.len]);
            self.len = 0;
        }
    }
}

impl Write for Pieces<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.len == self.buffer.len() {
                self.flush();
            }
            self.buffer[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// The classes of a tier that were ever used.
fn used_classes(tier: &TierStatistics) -> impl Iterator<Item = ClassStatistics> {
    class_statistics(tier.id).into_iter().flatten().filter(|class| class.allocations > 0)
}

/// The figures that JSON and text both show.
fn totals(all: &Statistics) -> [(&'static str, u64); 16] {
    [
        ("live", all.live),
        ("active", all.active),
        ("dirty", all.dirty),
        ("committed", all.committed),
        ("committed_max", all.committed_max),
        ("returned", all.returned),
        ("metadata", all.metadata),
        ("resident", all.resident),
        ("resident_max", all.resident_max),
        ("faults_minor", all.faults_minor),
        ("faults_major", all.faults_major),
        ("allocations", all.allocations),
        ("frees", all.frees),
        ("heaps", all.heaps.into()),
        ("heaps_idle", all.heaps_idle.into()),
        ("events", all.events),
    ]
}

fn json(all: &Statistics, out: &mut Pieces<'_>) -> fmt::Result {
    out.write_str("{\"format\":\"tiermem-statistics/1\"")?;
    for (name, value) in totals(all) {
        write!(out, ",\"{name}\":{value}")?;
    }
    out.write_str(",\"tiers\":[")?;
    for (i, tier) in all.tiers().iter().enumerate() {
        // Names are plain letters, digits and dashes, so nothing in them needs a backslash.
        let (comma, name, kind) = (if i > 0 { "," } else { "" }, tier.name.as_str(), tier.kind.as_str());
        write!(out, "{comma}{{\"name\":\"{name}\",\"kind\":\"{kind}\"")?;
        match tier.limit {
            Some(limit) => write!(out, ",\"limit\":{limit}")?,
            None => out.write_str(",\"limit\":null")?,
        }
        for (name, value) in [
            ("live", tier.live),
            ("active", tier.active),
            ("dirty", tier.dirty),
            ("committed", tier.committed),
            ("committed_max", tier.committed_max),
            ("returned", tier.returned),
            ("allocations", tier.allocations),
            ("frees", tier.frees),
            ("large", tier.large),
            ("large_bytes", tier.large_bytes),
            ("fallbacks", tier.fallbacks),
            ("quarantined", tier.quarantined),
        ] {
            write!(out, ",\"{name}\":{value}")?;
        }
        write!(out, ",\"unavailable\":{},\"classes\":[", tier.unavailable)?;
        for (i, class) in used_classes(tier).enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let ClassStatistics { block_size, allocations, live, live_bytes } = class;
            write!(
                out,
                "{comma}{{\"block_size\":{block_size},\"allocations\":{allocations},\"live\":{live},\
                 \"live_bytes\":{live_bytes}}}"
            )?;
        }
        out.write_str("]}")?;
    }
    out.write_str("]}\n")
}

fn text(all: &Statistics, out: &mut Pieces<'_>) -> fmt::Result {
    out.write_str("tiermem statistics (sizes in bytes)\n")?;
    for (name, value) in totals(all) {
        writeln!(out, "  {name:<14}{value:>20}")?;
    }
    for tier in all.tiers() {
        let (name, kind) = (tier.name.as_str(), tier.kind.as_str());
        let state = if tier.unavailable { ", unavailable" } else { "" };
        writeln!(
            out,
            "tier {name} ({kind}{state}): live {}, active {}, dirty {}, committed {} (at most {}), returned {}, \
             fallbacks {}, quarantined {}",
            tier.live,
            tier.active,
            tier.dirty,
            tier.committed,
            tier.committed_max,
            tier.returned,
            tier.fallbacks,
            tier.quarantined
        )?;
        writeln!(out, "  {:>10}  {:>14}  {:>14}  {:>16}", "block size", "allocations", "live", "live bytes")?;
        for class in used_classes(tier) {
            let ClassStatistics { block_size, allocations, live, live_bytes } = class;
            match block_size {
                0 => write!(out, "  {:>10}", "large")?,
                size => write!(out, "  {size:>10}")?,
            }
            writeln!(out, "  {allocations:>14}  {live:>14}  {live_bytes:>16}")?;
        }
    }
    Ok(())
}

fn xml(all: &Statistics, out: &mut Pieces<'_>) -> fmt::Result {
    out.write_str("<malloc version=\"1\">\n")?;
    for tier in all.tiers() {
        let (number, name, kind) = (tier.id.0, tier.name.as_str(), tier.kind.as_str());
        writeln!(out, "<heap nr=\"{number}\" tier=\"{name}\" kind=\"{kind}\">\n<sizes>")?;
        for class in used_classes(tier) {
            let ClassStatistics { block_size, live, live_bytes, .. } = class;
            match block_size {
                0 => writeln!(out, "<large total=\"{live_bytes}\" count=\"{live}\"/>")?,
                size => writeln!(out, "<size from=\"{size}\" to=\"{size}\" total=\"{live_bytes}\" count=\"{live}\"/>")?,
            }
        }
        writeln!(out, "</sizes>")?;
        system(out, tier.committed, tier.committed_max, tier.dirty)?;
        writeln!(out, "</heap>")?;
    }
    let large = all.tiers().iter().fold((0, 0), |(n, bytes), tier| (n + tier.large, bytes + tier.large_bytes));
    writeln!(out, "<total type=\"mmap\" count=\"{}\" size=\"{}\"/>", large.0, large.1)?;
    system(out, all.committed, all.committed_max, all.dirty)?;
    out.write_str("</malloc>\n")
}

/// The elements in which the GNU C library says what it has of the system; `rest` is what is free and has memory.
fn system(out: &mut Pieces<'_>, now: u64, most: u64, rest: u64) -> fmt::Result {
    writeln!(out, "<total type=\"rest\" size=\"{rest}\"/>")?;
    writeln!(out, "<system type=\"current\" size=\"{now}\"/>\n<system type=\"max\" size=\"{most}\"/>")?;
    writeln!(out, "<aspace type=\"total\" size=\"{now}\"/>\n<aspace type=\"mprotect\" size=\"{now}\"/>")
}
