//! What events refer to, and where a trace comes from: the parts that are no events.

use std::collections::BTreeMap;

use super::{Clock, Completeness, Definition, Frame, Provenance, Site, SiteId, StreamId, TierTag};
use tiermem_trace::definition::{self, Part, clock_code, completeness, frame, kind, provenance, record_len};
use tiermem_trace::varint::Input;

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

/// Appends a record.
fn put_record(out: &mut Vec<u8>, kind: u8, body: &[Part<'_>]) {
    let at = out.len();
    out.resize(at + record_len(body), 0);
    definition::put_record(&mut out[at..], kind, body);
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
    match definition {
        Definition::Site(site) => {
            let mut body = vec![Part::Number(site.id.0.into()), Part::Number(site.frames.len() as u64)];
            for frame in &site.frames {
                match frame {
                    Frame::Code { module, offset } => {
                        body.extend([Part::Number(frame::CODE), Part::Text(module.as_bytes()), Part::Number(*offset)]);
                    }
                    Frame::Symbol(name) => body.extend([Part::Number(frame::SYMBOL), Part::Text(name.as_bytes())]),
                    Frame::Address(address) => body.extend([frame::ADDRESS, *address].map(Part::Number)),
                }
            }
            put_record(out, kind::SITE, &body);
        }
        Definition::Tier { tag, name } => {
            put_record(out, kind::TIER, &[Part::Byte(tag.0), Part::Text(name.as_bytes())]);
        }
        Definition::Stream { id, os_id, name } => {
            let numbers = [id.0, *os_id].map(|number| Part::Number(number.into()));
            put_record(out, kind::STREAM, &[numbers[0], numbers[1], Part::Text(name.as_bytes())]);
        }
        Definition::Module { start, end, offset, path } => {
            let [start, end, offset] = [*start, *end, *offset].map(Part::Number);
            put_record(out, kind::MODULE, &[start, end, offset, Part::Text(path.as_bytes())]);
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

/// The payload of the first block, and how many records it has.
pub(super) fn encode_provenance(from: &Provenance) -> (Vec<u8>, u32) {
    let mut out = Vec::new();
    let mut put = |kind, body: &[Part<'_>]| put_record(&mut out, kind, body);
    put(provenance::TOOL, &[Part::Rest(from.tool.as_bytes())]);
    put(provenance::COMMAND, &[Part::Rest(from.command.as_bytes())]);
    put(provenance::PID, &[Part::Number(from.pid.into())]);
    put(provenance::STARTED, &[Part::Number(from.started_unix_ns)]);
    put(provenance::CLOCK, &[Part::Number(clock_code(from.clock))]);
    put(provenance::COMMON_CLOCK, &[Part::Number(from.common_clock.into())]);
    for (kind, completeness) in [(provenance::ACCESSES, from.accesses), (provenance::ALLOCATIONS, from.allocations)] {
        let code_and_period = match completeness {
            Completeness::Exact => [completeness::EXACT, 0],
            Completeness::Sampled(period) => [completeness::SAMPLED, period],
            Completeness::Aggregated => [completeness::AGGREGATED, 0],
            Completeness::Absent => [completeness::ABSENT, 0],
        };
        put(kind, &code_and_period.map(Part::Number));
    }
    from.notes.iter().for_each(|note| put(provenance::NOTE, &[Part::Rest(note.as_bytes())]));
    (out, 8 + from.notes.len() as u32)
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
            provenance::ACCESSES => from.accesses = get_completeness(&mut input)?,
            provenance::ALLOCATIONS => from.allocations = get_completeness(&mut input)?,
            _ => {}
        }
        Some(())
    })?;
    Some(from)
}

fn get_completeness(input: &mut Input<'_>) -> Option<Completeness> {
    Some(match (input.number()?, input.number()?) {
        (completeness::ABSENT, _) => Completeness::Absent,
        (completeness::EXACT, _) => Completeness::Exact,
        (completeness::SAMPLED, period) => Completeness::Sampled(period),
        (completeness::AGGREGATED, _) => Completeness::Aggregated,
        _ => return None,
    })
}
