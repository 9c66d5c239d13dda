//! redis-server under load while it is recorded: its trace is whole, and agrees with the allocator's own statistics and with what
//! the server counts of its memory.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tiermem_emulator::trace::{Completeness, Event, Frame, SiteId, Strictness, Trace};
use tiermem_sys::clock;
use tiermem_tests::resp::{Client, Reply};
use tiermem_tests::{Run, Tiering, count, find, preload, scratch, wait_until};

const KEYS: u64 = 20_000;

fn value(key: u64, generation: u64) -> Vec<u8> {
    let length = 16 + (key * 7919 + generation * 104_729) % 1_500;
    format!("{key}:{generation};").bytes().cycle().take(usize::try_from(length).unwrap()).collect()
}

fn write_values(client: &mut Client, generation: u64, keys: impl Iterator<Item = u64>) {
    let keys: Vec<u64> = keys.collect();
    for batch in keys.chunks(500) {
        for &key in batch {
            client.queue(&[b"SET", format!("key:{key}").as_bytes(), &value(key, generation)]);
        }
        assert!(client.flush().unwrap().iter().all(|reply| *reply == Reply::Line("OK".to_owned())));
    }
}

/// A field of what `INFO` answers.
fn info(client: &mut Client, section: &str, field: &str) -> u64 {
    let text = client.ask_text(&format!("INFO {section}"));
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).trim().parse().unwrap()
}

/// What the events up to some time come to.
#[derive(Debug, Default)]
struct Tally {
    allocated: u64,
    freed: u64,
    /// Blocks that were resized into another place: freed and allocated, to who counts blocks.
    moved: u64,
    blocks: HashMap<u64, (u64, SiteId)>,
}

impl Tally {
    fn follow(&mut self, event: &Event) {
        let before = match *event {
            Event::Allocate(e) => {
                self.allocated += 1;
                self.blocks.insert(e.address, (e.size, e.site))
            }
            Event::Free(e) => {
                self.freed += 1;
                assert!(self.blocks.remove(&e.address).is_some(), "{e:?} frees what was not there");
                None
            }
            Event::Reallocate(e) => {
                self.moved += u64::from(e.old != e.address);
                assert!(self.blocks.remove(&e.old).is_some(), "{e:?} resizes what was not there");
                self.blocks.insert(e.address, (e.size, e.site))
            }
            _ => None,
        };
        assert_eq!(before, None, "{event:?}: its place was taken");
    }
}

fn is_near(found: u64, expected: u64, percent: u64) -> bool {
    found.abs_diff(expected) <= expected * percent / 100
}

fn open(file: &Path) -> Trace<File> {
    let trace = Trace::open(file, Strictness::Strict).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(trace.is_complete() && trace.damage().is_empty(), "{}", file.display());
    trace
}

fn serves_and_is_recorded(tiering: Option<&Tiering>, accesses: &str) {
    let Some(program) = find("redis-server") else { return };
    let keys = count("KEYS", KEYS);
    let folder = scratch();
    let (socket, file, statistics) =
        (folder.path().join("socket"), folder.path().join("trace.tmt"), folder.path().join("statistics.json"));
    let mut run = Run::new(&program)
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(folder.path())
        .limit(240);
    run = match tiering {
        Some(tiering) => run.under(tiering),
        None => run.preloading(preload()),
    };
    run = run.env("TIERMEM_TRACE", &file).env("TIERMEM_TRACE_ACCESSES", accesses).env("TIERMEM_STATS", &statistics);
    let mut server = run.start();
    server.hear_containing("eady to accept connections");
    let mut client = Client::connect(&socket).unwrap();
    let empty = info(&mut client, "memory", "used_memory");
    let empty_at = clock::monotonic_ns();
    write_values(&mut client, 1, 0..keys);
    write_values(&mut client, 2, (0..keys).filter(|key| key.is_multiple_of(3)));
    for key in (0..keys).filter(|key| key.is_multiple_of(7)) {
        client.queue(&[b"DEL", format!("key:{key}").as_bytes()]);
    }
    client.flush().unwrap();
    let used = info(&mut client, "memory", "used_memory");
    let full_at = clock::monotonic_ns();
    // A fork under load, whose child has a trace of its own.
    client.ask_text("BGSAVE");
    write_values(&mut client, 3, (0..keys).filter(|key| key.is_multiple_of(2)));
    wait_until("the background save", Duration::from_secs(120), || {
        info(&mut client, "persistence", "rdb_bgsave_in_progress") == 0
    });
    client.queue(&[b"SHUTDOWN", b"NOSAVE"]);
    let _ = client.flush(); // it hangs up instead of answering
    server.finish().succeeded();

    let trace = open(&file);
    // The file may be a link.
    let program = program.canonicalize().unwrap();
    let own = |site: SiteId| {
        let frames = trace.catalog().frames(site).unwrap_or_default();
        frames.iter().any(|frame| matches!(frame, Frame::Code { module, .. } if Path::new(module) == program))
    };
    let (mut tally, mut intervals, mut own_bytes) = (Tally::default(), 0, Vec::new());
    let mut marks = [empty_at, full_at].into_iter().peekable();
    for event in trace.events() {
        let event = event.unwrap().1;
        if marks.next_if(|mark| event.at() > *mark).is_some() {
            own_bytes.push(tally.blocks.values().filter(|(_, site)| own(*site)).map(|(size, _)| size).sum::<u64>());
        }
        intervals += u64::from(matches!(event, Event::Interval(_)));
        tally.follow(&event);
    }
    // What the server counts are the sizes of its blocks with what they have beyond what it asked for.
    let [own_empty, own_full] = own_bytes[..] else { panic!("{own_bytes:?}") };
    let (asked, counted) = (own_full - own_empty, used - empty);
    assert!(
        asked <= counted && is_near(asked, counted, 20),
        "{asked} bytes were recorded, {counted} counted by the server"
    );

    let text = std::fs::read_to_string(&statistics).unwrap();
    let own: serde_json::Value = text.lines().next_back().map(|line| serde_json::from_str(line).unwrap()).unwrap();
    let statistic = |name: &str| own[name].as_u64().unwrap();
    // The statistics are taken a moment before the end.
    for (found, expected) in
        [(tally.allocated + tally.moved, statistic("allocations")), (tally.freed + tally.moved, statistic("frees"))]
    {
        assert!(found.abs_diff(expected) < 1000 && is_near(found, expected, 1), "{found} recorded, {expected} counted");
    }
    assert_eq!(intervals > 0, accesses != "off", "{intervals}");
    assert_eq!(trace.provenance().accesses == Completeness::Aggregated, accesses != "off");

    let children = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let children: Vec<_> = children.filter(|path| path.to_string_lossy().contains("trace.tmt.")).collect();
    assert_eq!(children.len(), 1, "{children:?}");
    assert!(open(&children[0]).events().count() > 0);
}

#[test]
fn its_trace_agrees_with_its_own_figures() {
    serves_and_is_recorded(None, "off");
}

#[test]
fn with_accesses() {
    serves_and_is_recorded(None, "auto");
}

#[test]
fn on_a_file_that_it_forks_from() {
    serves_and_is_recorded(Some(&Tiering::with_slow_file("1G").limits("dram=8M")), "auto");
}
