//! Moves in recordings: memory that the kernel copies to DRAM after a fork, held against what the program wrote and against the
//! kernel's own count.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use tiermem_emulator::trace::{Event, Strictness, TierTag, Trace};
use tiermem_tests::{Tiering, c_program, scratch};

const OS_PAGE: u64 = 4096;

fn open(file: &Path) -> Trace<File> {
    let trace = Trace::open(file, Strictness::Strict).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(trace.is_complete(), "{} has no end", file.display());
    trace
}

/// Where OS pages lie after a row of events, those that were moved.
#[derive(Default)]
struct Places {
    by_os_page: BTreeMap<u64, TierTag>,
}

impl Places {
    fn follow(&mut self, event: &Event) {
        let Event::Place(place) = event else { return };
        assert!(place.address.is_multiple_of(OS_PAGE) && place.len.is_multiple_of(OS_PAGE), "{place:?}");
        for address in (place.address..place.address + place.len).step_by(OS_PAGE as usize) {
            self.by_os_page.insert(address, place.tier);
        }
    }

    /// OS pages that came to lie on DRAM, of all and of a range.
    fn on_dram(&self, from: u64, len: u64) -> (usize, Vec<u64>) {
        let moved = || self.by_os_page.iter().filter(|(_, tier)| **tier == TierTag(0)).map(|(address, _)| *address);
        let inside = moved().filter(|address| (from..from + len).contains(address));
        (moved().count(), inside.map(|address| (address - from) / OS_PAGE).collect())
    }
}

/// The line `WHO address bytes rewritten anonymous` of a program.
struct Told {
    address: u64,
    bytes: u64,
    more: Vec<u64>,
}

fn told(text: &str, who: &str) -> Told {
    let line = text.lines().find_map(|line| line.strip_prefix(who)).unwrap_or_else(|| panic!("no {who} in {text}"));
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next().unwrap().trim_start_matches("0x"), 16).unwrap();
    let mut numbers = words.map(|word| word.parse().unwrap());
    Told { address, bytes: numbers.next().unwrap(), more: numbers.collect() }
}

#[test]
fn what_is_rewritten_after_a_fork_moves_to_dram() {
    let Some(program) = c_program("moved") else { return };
    let tiering = Tiering::with_slow_file("1G").limits("dram=4M");
    let folder = scratch();
    let file = folder.path().join("trace.tmt");
    let run = program.under(&tiering).arg(tiering.slow_file().unwrap()).arg("300").env("TIERMEM_TRACE", &file);
    let text = run.finish().succeeded_quietly().text();

    let parent = told(&text, "parent");
    let rewritten: Vec<u64> = (0..200).map(|i| i * 3).chain(1000..1500).collect();
    let trace = open(&file);
    let tier = |name: &str| trace.catalog().tiers().find(|(_, found)| *found == name).map(|(tag, _)| tag);
    assert_eq!(tier("dram"), Some(TierTag(0)));
    let slow = tier("slow");
    let events: Vec<_> = trace.events().map(|event| event.unwrap().1).collect();
    // Up to where the block is freed (so they were found while it lived), its OS pages are those that were rewritten; and the file's together are as many as the
    // kernel has counted.
    let mut places = Places::default();
    let mut allocated = Vec::new();
    let mut rest = events.iter();
    for event in rest.by_ref() {
        match event {
            Event::Free(free) if free.address == parent.address => break,
            Event::Allocate(block) if block.address == parent.address => allocated.push(Some(block.tier)),
            other => places.follow(other),
        }
    }
    assert_eq!(allocated, [slow], "it was on the file");
    let (all, inside) = places.on_dram(parent.address, parent.bytes);
    assert_eq!(inside, rewritten);
    assert_eq!(parent.more, [rewritten.len() as u64 * OS_PAGE, all as u64 * OS_PAGE]);

    // The block that is there next has the copies from its first moment on.
    let again = told(&text, "again");
    assert_eq!(again.address, parent.address, "the test relies on getting the place again");
    let mut places = Places::default();
    let next = rest.skip_while(|event| !matches!(event, Event::Allocate(block) if block.address == again.address));
    next.take(rewritten.len() + 1).for_each(|event| places.follow(event));
    assert_eq!(places.on_dram(again.address, again.bytes).1, rewritten);

    let who = text.lines().find(|line| line.starts_with("child-")).unwrap().split(' ').next().unwrap();
    let child = told(&text, who);
    let mut places = Places::default();
    let file = folder.path().join(format!("trace.tmt.{}", &who["child-".len()..]));
    open(&file).events().for_each(|event| places.follow(&event.unwrap().1));
    let (all, inside) = places.on_dram(child.address, child.bytes);
    assert_eq!(inside, (100..150).collect::<Vec<_>>());
    assert_eq!(child.more, [50 * OS_PAGE, all as u64 * OS_PAGE]);
}
