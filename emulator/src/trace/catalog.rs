//! What events refer to, and where a trace comes from: the parts that are no events.

use std::collections::BTreeMap;

use super::record::{Clock, Completeness, Definition, Frame, Provenance, Site, SiteId, StreamId, TierTag};
use super::varint::{self, Input};

/// The definitions of a trace.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    sites: BTreeMap<SiteId, Vec<Frame>>,
    tiers: BTreeMap<TierTag, String>,
    streams: BTreeMap<StreamId, (u32, String)>,
    /// By start: end, offset, path.
    modules: BTreeMap<u64, (u64, u64, String)>,
}

impl Catalog {
    /// Enters a definition.
    pub fn define(&mut self, definition: Definition) {
        match definition {
            Definition::Site(site) => {
                self.sites.insert(site.id, site.frames);
            }
            Definition::Tier { tag, name } => {
                self.tiers.insert(tag, name);
            }
            Definition::Stream { id, os_id, name } => {
                self.streams.insert(id, (os_id, name));
            }
            Definition::Module { start, end, offset, path } => {
                self.modules.insert(start, (end, offset, path));
            }
        }
    }

    /// The frames of a site, innermost first. Addresses are told as offsets in files where the trace says which file was
    /// there. `None` if the site is not defined.
    pub fn frames(&self, site: SiteId) -> Option<Vec<Frame>> {
        Some(self.sites.get(&site)?.iter().map(|frame| self.resolved(frame)).collect())
    }

    /// All sites, by number.
    pub fn sites(&self) -> impl Iterator<Item = SiteId> + '_ {
        self.sites.keys().copied()
    }

    /// The name of a tier.
    pub fn tier(&self, tag: TierTag) -> Option<&str> {
        self.tiers.get(&tag).map(String::as_str)
    }

    /// All tiers, by number.
    pub fn tiers(&self) -> impl Iterator<Item = (TierTag, &str)> + '_ {
        self.tiers.iter().map(|(&tag, name)| (tag, name.as_str()))
    }

    /// The OS's number of a stream's thread (0: none), and its name.
    pub fn stream(&self, id: StreamId) -> Option<(u32, &str)> {
        self.streams.get(&id).map(|(os_id, name)| (*os_id, name.as_str()))
    }

    /// Mappings of code: start, end, offset in the file, path.
    pub fn modules(&self) -> impl Iterator<Item = (u64, u64, u64, &str)> + '_ {
        self.modules.iter().map(|(&start, (end, offset, path))| (start, *end, *offset, path.as_str()))
    }

    fn resolved(&self, frame: &Frame) -> Frame {
        let Frame::Address(address) = *frame else { return frame.clone() };
        let (start, (end, offset, path)) = match self.modules.range(..=address).next_back() {
            Some(found) => found,
            None => return Frame::Address(address),
        };
        if address >= *end {
            return Frame::Address(address);
        }
        Frame::Code { module: path.clone(), offset: offset.saturating_add(address - start) }
    }
}

/// Kinds of definitions in a block.
mod kind {
    pub const SITE: u8 = 1;
    pub const TIER: u8 = 2;
    pub const STREAM: u8 = 3;
    pub const MODULE: u8 = 4;
}

/// Kinds of frames in a site.
mod frame {
    pub const CODE: u64 = 0;
    pub const SYMBOL: u64 = 1;
    pub const ADDRESS: u64 = 2;
}

/// Appends a record of a block that holds no events: kind, length, bytes. Kinds that a reader does not know are passed
/// over.
fn put_record(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    varint::put(out, body.len() as u64);
    out.extend_from_slice(body);
}

/// Goes through such records. `None` if they are malformed, or if `each` says so.
fn records<'a>(payload: &'a [u8], mut each: impl FnMut(u8, Input<'a>) -> Option<()>) -> Option<u64> {
    let mut input = Input { rest: payload };
    let mut count = 0;
    while let Some(kind) = input.byte() {
        let len = input.narrow()?;
        each(kind, Input { rest: input.bytes(len)? })?;
        count += 1;
    }
    Some(count)
}

/// Appends a definition to a payload.
pub(super) fn put_definition(out: &mut Vec<u8>, definition: &Definition) {
    let mut body = Vec::new();
    let kind = match definition {
        Definition::Site(site) => {
            varint::put(&mut body, site.id.0.into());
            varint::put(&mut body, site.frames.len() as u64);
            site.frames.iter().for_each(|frame| put_frame(&mut body, frame));
            kind::SITE
        }
        Definition::Tier { tag, name } => {
            body.push(tag.0);
            varint::put_text(&mut body, name);
            kind::TIER
        }
        Definition::Stream { id, os_id, name } => {
            varint::put(&mut body, id.0.into());
            varint::put(&mut body, (*os_id).into());
            varint::put_text(&mut body, name);
            kind::STREAM
        }
        Definition::Module { start, end, offset, path } => {
            [*start, *end, *offset].into_iter().for_each(|value| varint::put(&mut body, value));
            varint::put_text(&mut body, path);
            kind::MODULE
        }
    };
    put_record(out, kind, &body);
}

fn put_frame(out: &mut Vec<u8>, frame: &Frame) {
    match frame {
        Frame::Code { module, offset } => {
            varint::put(out, frame::CODE);
            varint::put_text(out, module);
            varint::put(out, *offset);
        }
        Frame::Symbol(name) => {
            varint::put(out, frame::SYMBOL);
            varint::put_text(out, name);
        }
        Frame::Address(address) => {
            varint::put(out, frame::ADDRESS);
            varint::put(out, *address);
        }
    }
}

/// The definitions of a payload. `None` if it is malformed.
pub(super) fn definitions(payload: &[u8]) -> Option<Vec<Definition>> {
    let mut found = Vec::new();
    records(payload, |kind, mut input| {
        let definition = match kind {
            kind::SITE => {
                let id = SiteId(input.narrow()?);
                let count: usize = input.narrow()?;
                // Each frame has at least two bytes: no larger number is believed.
                let frames =
                    (count <= input.rest.len()).then(|| (0..count).map(|_| get_frame(&mut input)).collect())?;
                Definition::Site(Site { id, frames: Option::from_iter::<Vec<_>>(frames)? })
            }
            kind::TIER => Definition::Tier { tag: TierTag(input.byte()?), name: input.text()? },
            kind::STREAM => {
                Definition::Stream { id: StreamId(input.narrow()?), os_id: input.narrow()?, name: input.text()? }
            }
            kind::MODULE => {
                let (start, end, offset) = (input.number()?, input.number()?, input.number()?);
                Definition::Module { start, end, offset, path: input.text()? }
            }
            _ => return Some(()),
        };
        found.push(definition);
        Some(())
    })?;
    Some(found)
}

fn get_frame(input: &mut Input<'_>) -> Option<Frame> {
    Some(match input.number()? {
        frame::CODE => Frame::Code { module: input.text()?, offset: input.number()? },
        frame::SYMBOL => Frame::Symbol(input.text()?),
        frame::ADDRESS => Frame::Address(input.number()?),
        _ => return None,
    })
}

/// Kinds of records in the first block.
mod provenance {
    pub const TOOL: u8 = 1;
    pub const COMMAND: u8 = 2;
    pub const PID: u8 = 3;
    pub const STARTED: u8 = 4;
    pub const CLOCK: u8 = 5;
    pub const COMMON_CLOCK: u8 = 6;
    pub const ACCESSES: u8 = 7;
    pub const ALLOCATIONS: u8 = 8;
    pub const NOTE: u8 = 9;
}

/// The payload of the first block, and how many records it has.
pub(super) fn encode_provenance(from: &Provenance) -> (Vec<u8>, u32) {
    let mut out = Vec::new();
    let number = |value: u64| {
        let mut body = Vec::new();
        varint::put(&mut body, value);
        body
    };
    put_record(&mut out, provenance::TOOL, from.tool.as_bytes());
    put_record(&mut out, provenance::COMMAND, from.command.as_bytes());
    put_record(&mut out, provenance::PID, &number(from.pid.into()));
    put_record(&mut out, provenance::STARTED, &number(from.started_unix_ns));
    put_record(&mut out, provenance::CLOCK, &number(clock_code(from.clock)));
    put_record(&mut out, provenance::COMMON_CLOCK, &number(from.common_clock.into()));
    for (kind, completeness) in [(provenance::ACCESSES, from.accesses), (provenance::ALLOCATIONS, from.allocations)] {
        let (code, period) = match completeness {
            Completeness::Absent => (0, 0),
            Completeness::Exact => (1, 0),
            Completeness::Sampled(period) => (2, period),
            Completeness::Aggregated => (3, 0),
        };
        put_record(&mut out, kind, &[number(code), number(period)].concat());
    }
    from.notes.iter().for_each(|note| put_record(&mut out, provenance::NOTE, note.as_bytes()));
    (out, 8 + from.notes.len() as u32)
}

const fn clock_code(clock: Clock) -> u64 {
    match clock {
        Clock::Order => 0,
        Clock::RealNs => 1,
        Clock::VirtualPs => 2,
        Clock::Instructions => 3,
    }
}

/// The provenance that a payload tells. `None` if it is malformed, or if times cannot be understood.
pub(super) fn decode_provenance(payload: &[u8]) -> Option<Provenance> {
    let mut from = Provenance::default();
    records(payload, |kind, mut input| {
        let text = || String::from_utf8_lossy(input.rest).into_owned();
        match kind {
            provenance::TOOL => from.tool = text(),
            provenance::COMMAND => from.command = text(),
            provenance::NOTE => from.notes.push(text()),
            provenance::PID => from.pid = input.narrow()?,
            provenance::STARTED => from.started_unix_ns = input.number()?,
            provenance::CLOCK => {
                let code = input.number()?;
                let known = [Clock::Order, Clock::RealNs, Clock::VirtualPs, Clock::Instructions];
                from.clock = known.into_iter().find(|&clock| clock_code(clock) == code)?;
            }
            provenance::COMMON_CLOCK => from.common_clock = input.number()? != 0,
            provenance::ACCESSES => from.accesses = completeness(&mut input)?,
            provenance::ALLOCATIONS => from.allocations = completeness(&mut input)?,
            _ => {}
        }
        Some(())
    })?;
    Some(from)
}

fn completeness(input: &mut Input<'_>) -> Option<Completeness> {
    Some(match (input.number()?, input.number()?) {
        (0, _) => Completeness::Absent,
        (1, _) => Completeness::Exact,
        (2, period) => Completeness::Sampled(period),
        (3, _) => Completeness::Aggregated,
        _ => return None,
    })
}
