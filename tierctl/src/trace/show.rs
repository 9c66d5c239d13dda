//! `tierctl trace show`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;
use tiermem_emulator::trace::{Completeness, Event, StreamId, Strictness, Trace};
use tiermem_tiers::Bytes;

use super::{failure, time_text};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Output, Table};

/// `tiermem-trace/1`: times are ticks of `clock`; `kinds` are events by kind; `damage` is what was left out.
#[derive(Debug, Serialize)]
struct Document {
    file: String,
    bytes: u64,
    tool: String,
    command: String,
    pid: u32,
    started_unix_ns: u64,
    clock: &'static str,
    common_clock: bool,
    accesses: String,
    allocations: String,
    notes: Vec<String>,
    complete: bool,
    events: u64,
    first_tick: Option<u64>,
    last_tick: Option<u64>,
    kinds: BTreeMap<&'static str, u64>,
    sites: usize,
    tiers: Vec<String>,
    streams: Vec<Stream>,
    damage: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listing: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Stream {
    id: u32,
    name: String,
    os_id: u32,
    events: u64,
    first_tick: u64,
    last_tick: u64,
}

/// Reads all of it, and shows what it holds.
pub fn show(file: &Path, listed: u64, salvage: bool, output: Output) -> Result<Exit, Failure> {
    let strictness = if salvage { Strictness::Salvage } else { Strictness::Strict };
    let opened = Trace::open(file, strictness).map_err(|error| failure(file, &error))?;
    let mut kinds = BTreeMap::new();
    let mut listing = Vec::new();
    let mut events = opened.events();
    for event in events.by_ref() {
        let (stream, event) = event.map_err(|error| failure(file, &error))?;
        *kinds.entry(kind(&event)).or_insert(0) += 1;
        if (listing.len() as u64) < listed {
            listing.push(line(stream, &event));
        }
    }
    let from = opened.provenance().clone();
    let catalog = opened.catalog();
    let stream = |(id, events, first_tick, last_tick): (StreamId, u64, u64, u64)| {
        let (os_id, name) = catalog.stream(id).unwrap_or((0, ""));
        Stream { id: id.0, name: name.to_owned(), os_id, events, first_tick, last_tick }
    };
    let times = opened.readable().times;
    let document = Document {
        file: file.display().to_string(),
        bytes: fs::metadata(file).map_or(0, |data| data.len()),
        tool: from.tool,
        command: from.command,
        pid: from.pid,
        started_unix_ns: from.started_unix_ns,
        clock: from.clock.as_str(),
        common_clock: from.common_clock,
        accesses: completeness(from.accesses, "accesses"),
        allocations: completeness(from.allocations, "bytes"),
        notes: from.notes,
        complete: opened.is_complete(),
        events: kinds.values().sum(),
        first_tick: times.map(|(first, _)| first),
        last_tick: times.map(|(_, last)| last),
        kinds,
        sites: catalog.sites().count(),
        tiers: catalog.tiers().map(|(_, name)| name.to_owned()).collect(),
        streams: opened.streams().map(stream).collect(),
        damage: opened.damage().iter().chain(events.damage()).map(ToString::to_string).collect(),
        listing,
    };
    if output.is_json() {
        output.json("tiermem-trace/1", &document)?;
    } else {
        output.text(&text(&document, from.clock))?;
    }
    document.damage.iter().for_each(|damage| eprintln!("tierctl: {}: left out: {damage}", file.display()));
    Ok(Exit::Ok)
}

fn completeness(what: Completeness, unit: &str) -> String {
    match what {
        Completeness::Absent => "none".to_owned(),
        Completeness::Exact => "all".to_owned(),
        Completeness::Sampled(0) => "sampled".to_owned(),
        Completeness::Sampled(period) => format!("one sample for {period} {unit}"),
        Completeness::Aggregated => "counted by extent and interval".to_owned(),
    }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Access(_) => "access",
        Event::Allocate(_) => "allocate",
        Event::Free(_) => "free",
        Event::Reallocate(_) => "reallocate",
        Event::Place(_) => "place",
        Event::Sample(_) => "sample",
        Event::Interval(_) => "interval",
        Event::Key(_) => "key",
    }
}

fn line(StreamId(stream): StreamId, event: &Event) -> String {
    let at = event.at();
    let what = match event {
        Event::Access(e) => {
            let dependent = if e.dependent { ", dependent" } else { "" };
            format!("{} {:#x}, {} bytes{dependent}", if e.write { "store" } else { "load" }, e.address, e.len)
        }
        Event::Allocate(e) => format!("allocate {:#x}, {} bytes, site {}", e.address, e.size, e.site.0),
        Event::Free(e) => format!("free {:#x}", e.address),
        Event::Reallocate(e) => {
            format!("reallocate {:#x} at {:#x}, {} bytes, site {}", e.old, e.address, e.size, e.site.0)
        }
        Event::Place(e) => format!("place {:#x}, {} bytes, on tier {}", e.address, e.len, e.tier.0),
        Event::Sample(e) => {
            format!("sampled {} {:#x}, for {}", if e.write { "store" } else { "load" }, e.address, e.weight)
        }
        Event::Interval(e) => format!("{:#x}, {} bytes, in {} ticks: {:?}", e.address, e.len, e.ticks, e.counts),
        Event::Key(e) => {
            format!("{:?} {:#x}, {} bytes, tenant {}, request {}", e.action, e.key, e.size, e.tenant, e.request)
        }
    };
    format!("{at} stream {stream}: {what}")
}

fn text(document: &Document, clock: tiermem_emulator::trace::Clock) -> String {
    let mut lines = vec![format!(
        "{}: {}, {} events, {:.2} bytes each{}",
        document.file,
        Bytes(document.bytes),
        document.events,
        document.bytes as f64 / document.events.max(1) as f64,
        if document.complete { "" } else { "; the recording did not end properly" },
    )];
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("{name:<12} {value}"));
        }
    };
    field("recorded by", &document.tool);
    field("program", &document.command);
    let span = match (document.first_tick, document.last_tick) {
        (Some(first), Some(last)) => time_text(last - first, clock),
        _ => String::new(),
    };
    field("length", &span);
    field("accesses", &document.accesses);
    field("allocations", &document.allocations);
    document.notes.iter().for_each(|note| field("note", note));
    field("tiers", &document.tiers.join(", "));
    if document.sites > 0 {
        field("sites", &document.sites.to_string());
    }
    lines.push(String::new());
    let mut kinds = Table::new(&[("EVENT", Align::Left), ("COUNT", Align::Right)]);
    document.kinds.iter().for_each(|(kind, count)| {
        kinds.row([(*kind).to_owned(), count.to_string()]);
    });
    lines.push(kinds.render());
    let mut streams = Table::new(&[
        ("STREAM", Align::Right),
        ("THREAD", Align::Right),
        ("NAME", Align::Left),
        ("EVENTS", Align::Right),
        ("FROM", Align::Right),
        ("UNTIL", Align::Right),
    ]);
    let start = document.first_tick.unwrap_or(0);
    for s in &document.streams {
        let os_id = if s.os_id == 0 { String::new() } else { s.os_id.to_string() };
        let (from, until) = (time_text(s.first_tick - start, clock), time_text(s.last_tick - start, clock));
        streams.row([s.id.to_string(), os_id, s.name.clone(), s.events.to_string(), from, until]);
    }
    lines.push(streams.render());
    lines.extend(document.listing.iter().cloned());
    lines.join("\n")
}
