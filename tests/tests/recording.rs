//! What the recorder writes: all that a program allocated, resized and freed, in the order in which it did.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use tiermem_emulator::trace::{Event, Frame, SiteId, Strictness, Trace};
use tiermem_tests::{Run, Setup, Tiering, c_program, find, preload, scaled, scratch};

/// What became of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    allocated: u64,
    freed: u64,
    resized: u64,
    live: u64,
    bytes: u64,
    /// Frees and resizes of what was allocated before the recording began.
    unknown: u64,
}

/// Goes through events in their order. Panics where they cannot be: an address in two blocks at once.
fn tally(events: impl IntoIterator<Item = Event>, counts: impl Fn(SiteId) -> bool) -> Tally {
    let mut blocks: HashMap<u64, (u64, bool)> = HashMap::new();
    let mut tally = Tally::default();
    let mut last = 0;
    for event in events {
        assert!(event.at() > last, "no two events have one time");
        last = event.at();
        match event {
            Event::Allocate(e) => {
                let counted = counts(e.site);
                tally.allocated += u64::from(counted);
                let before = blocks.insert(e.address, (e.size, counted));
                assert_eq!(before, None, "{:#x} is allocated twice", e.address);
            }
            Event::Free(e) => match blocks.remove(&e.address) {
                Some((_, counted)) => tally.freed += u64::from(counted),
                None => tally.unknown += 1,
            },
            Event::Reallocate(e) => {
                let before = blocks.remove(&e.old);
                tally.unknown += u64::from(before.is_none());
                let counted = before.is_some_and(|(_, counted)| counted);
                tally.resized += u64::from(counted);
                let there = blocks.insert(e.address, (e.size, counted));
                assert_eq!(there, None, "{:#x} is allocated twice", e.address);
            }
            other => panic!("{other:?} is not the recorder's"),
        }
    }
    let left = blocks.values().filter(|(_, counted)| *counted);
    (tally.live, tally.bytes) = left.fold((0, 0), |(live, bytes), (size, _)| (live + 1, bytes + size));
    tally
}

/// The events of a trace that is whole, or of what can be read of one that is not.
fn events(trace: &Trace<File>) -> Vec<Event> {
    trace.events().map(|event| event.unwrap().1).collect()
}

/// Counts what the code of `program` allocated.
fn tally_of(trace: &Trace<File>, program: &Path) -> Tally {
    let of_program = |site: SiteId| {
        let frames = trace.catalog().frames(site).unwrap_or_default();
        frames.iter().any(|frame| matches!(frame, Frame::Code { module, .. } if Path::new(module) == program))
    };
    tally(events(trace), of_program)
}

/// The line `WHO allocated freed resized live bytes` that a program has printed.
fn told(text: &str, who: &str) -> Tally {
    let line = text.lines().find_map(|line| line.strip_prefix(who)).unwrap_or_else(|| panic!("no {who} in {text}"));
    let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().unwrap());
    let mut next = || numbers.next().unwrap();
    Tally { allocated: next(), freed: next(), resized: next(), live: next(), bytes: next(), unknown: 0 }
}

fn open(file: &Path) -> Trace<File> {
    let trace = Trace::open(file, Strictness::Strict).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(trace.is_complete(), "{} has no end", file.display());
    trace
}

/// Files whose name begins with `trace.tmt`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let all = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = all.filter(|file| file.to_string_lossy().contains("/trace.tmt")).collect();
    found.sort();
    found
}

fn record(run: Run, file: &Path) -> Run {
    run.env("TIERMEM_TRACE", file)
}

fn threads_are_counted(tiering: &Tiering) {
    let Some(program) = c_program("recorded") else { return };
    let folder = scratch();
    let file = folder.path().join("trace.tmt");
    let run = program.under(tiering).args(["threads", &scaled(20_000)]).limit(200);
    let text = record(run, &file).finish().succeeded_quietly().text();
    let trace = open(&file);
    assert_eq!(tally_of(&trace, program.path()), told(&text, "recorded"));
    assert!(trace.streams().count() >= 4);
}

#[test]
fn four_threads_that_free_each_others_blocks() {
    threads_are_counted(&Setup::OneTier.prepare());
}

#[test]
fn on_two_tiers() {
    threads_are_counted(&Setup::TwoTiers.prepare());
}

#[test]
fn in_a_hardened_process() {
    for mode in ["check", "strong"] {
        threads_are_counted(&Setup::OneTier.prepare().set("TIERMEM_HARDEN", mode));
    }
}

#[test]
fn while_the_heap_is_sampled() {
    threads_are_counted(&Setup::OneTier.prepare().set("TIERMEM_PROFILE", "64K"));
}

/// However it ends without being killed, nothing is missing, and the end is marked as such.
#[test]
fn each_way_to_end() {
    let Some(program) = c_program("recorded") else { return };
    for way in ["return", "_exit", "quick_exit", "exec", "failed-exec"] {
        let folder = scratch();
        let file = folder.path().join("trace.tmt");
        let run = program.bare().preloading(preload()).args([way, "30000"]);
        let text = record(run, &file).finish().succeeded_quietly().text();
        assert_eq!(tally_of(&open(&file), program.path()), told(&text, "recorded"), "{way}");
        let files = files(folder.path());
        assert_eq!(files.len(), if way == "exec" { 2 } else { 1 }, "{files:?}");
        // The next program's recording is another file.
        files.iter().for_each(|file| drop(events(&open(file))));
    }
}

/// They end by a signal, which the program brings about by a function of the C library: nothing is missing either.
#[test]
#[cfg(target_arch = "x86_64")]
fn each_way_to_abort() {
    let Some(program) = c_program("recorded") else { return };
    for way in ["abort", "assert"] {
        let folder = scratch();
        let file = folder.path().join("trace.tmt");
        let finished = record(program.bare().preloading(preload()).args([way, "30000"]), &file).finish();
        assert_eq!(finished.killed_by(), Some(6), "{way}: {}", finished.describe());
        assert_eq!(tally_of(&open(&file), program.path()), told(&finished.text(), "recorded"), "{way}");
    }
}

/// Whatever signal ends the program: what it entered more than a moment before is written, although it entered nothing since.
#[test]
fn a_process_that_is_killed_while_it_is_idle() {
    let Some(program) = c_program("recorded") else { return };
    for signal in [9, 11] {
        let folder = scratch();
        let file = folder.path().join("trace.tmt");
        let way = format!("idle-{signal}");
        let finished = record(program.bare().preloading(preload()).args([&way, "3000"]), &file).finish();
        assert_eq!(finished.killed_by(), Some(signal), "{}", finished.describe());
        let trace = Trace::open(&file, Strictness::Strict).unwrap();
        assert!(!trace.is_complete());
        assert_eq!(tally_of(&trace, program.path()), told(&finished.text(), "recorded"), "{signal}");
    }
}

/// What was written before a kill can be read: all but what the last block would have held.
#[test]
fn a_killed_process() {
    let Some(program) = c_program("recorded") else { return };
    let folder = scratch();
    let file = folder.path().join("trace.tmt");
    let finished = record(program.bare().preloading(preload()).args(["kill", "100000"]), &file).finish();
    assert_eq!(finished.killed_by(), Some(9));
    let expected = told(&finished.text(), "recorded");
    let trace = Trace::open(&file, Strictness::Strict).unwrap();
    assert!(!trace.is_complete());
    let found = tally_of(&trace, program.path());
    // A block holds 64 KiB, and no event is shorter than three bytes.
    assert!(
        found.allocated <= expected.allocated && found.allocated + (64 << 10) / 3 > expected.allocated,
        "{found:?}"
    );

    // A file that was cut off is refused with the place, and read up to there.
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(Trace::open(&file, Strictness::Strict).unwrap_err().is_truncated());
    let part = tally_of(&Trace::open(&file, Strictness::Salvage).unwrap(), program.path());
    assert!(part.allocated > 0 && part.allocated < found.allocated);
}

/// A child of fork has a file of its own, without what its parent had entered and not written.
#[test]
fn a_forked_process() {
    let Some(program) = c_program("recorded") else { return };
    let folder = scratch();
    let file = folder.path().join("trace.tmt");
    let text = record(program.bare().preloading(preload()).args(["fork", "5000"]), &file).finish().succeeded().text();
    let parent = open(&file);
    assert_eq!(tally_of(&parent, program.path()), told(&text, "parent"));
    let who = text.lines().find(|line| line.starts_with("child-")).unwrap().split(' ').next().unwrap();
    let child = open(&folder.path().join(format!("trace.tmt.{}", &who["child-".len()..])));
    // Of a hundred inherited blocks it freed, every third had been freed before.
    let expected = Tally { unknown: 66, ..told(&text, who) };
    assert_eq!(tally_of(&child, program.path()), expected);
    let note = &child.provenance().notes[0];
    assert!(note.contains(&format!("forked by process {}", parent.provenance().pid)), "{note}");
}

/// Forks while other threads are in the middle of entering events.
#[test]
fn forks_under_load() {
    let Some(program) = c_program("fork_storm") else { return };
    let folder = scratch();
    let file = folder.path().join("trace.tmt");
    record(program.bare().preloading(preload()).arg("60").limit(200), &file).finish().succeeded_quietly();
    let all = files(folder.path());
    assert!(all.len() > 60, "{} files", all.len());
    for file in all {
        tally(events(&open(&file)), |_| true);
    }
}

#[test]
fn real_programs() {
    let programs: [(&str, &[&str]); 3] = [
        (
            "/usr/bin/python3",
            &["-c", "import json, threading; x = [json.dumps([i] * 9) for i in range(20000)]; print(len(x))"],
        ),
        ("perl", &["-e", "my %h; $h{$_} = 'x' x ($_ % 99) for 1..20000; print scalar(keys %h), \"\\n\""]),
        ("sort", &["-R", "/etc/services", "/etc/passwd"]),
    ];
    for (name, arguments) in programs {
        let Some(path) = find(name) else { continue };
        let folder = scratch();
        let file = folder.path().join("trace.tmt");
        let run = Run::new(&path).preloading(preload()).args(arguments).limit(200);
        record(run, &file).finish().succeeded_quietly();
        let trace = open(&file);
        let found = tally(events(&trace), |_| true);
        assert!(found.allocated > 100 && found.unknown == 0, "{name}: {found:?}");
        let named = trace.catalog().sites().filter(|&site| {
            matches!(trace.catalog().frames(site).unwrap_or_default().as_slice(), [Frame::Code { .. }])
        });
        assert!(named.count() * 10 >= trace.catalog().sites().count() * 9, "{name}: most sites lie in known code");
    }
}

/// The same function called from two others is one site by its first frame, and two by its stacks.
#[test]
fn deeper_stacks_tell_callers_apart() {
    let Some(program) = c_program("stacks") else { return };
    let counts = |frames: &str| {
        let folder = scratch();
        let file = folder.path().join("trace.tmt");
        let run = program.bare().preloading(preload()).arg("1000").env("TIERMEM_TRACE_FRAMES", frames);
        record(run, &file).finish().succeeded_quietly();
        let trace = open(&file);
        let mut by_site = HashMap::new();
        for event in events(&trace) {
            match event {
                Event::Allocate(e) if e.size == 100 => *by_site.entry(e.site).or_insert(0) += 1,
                _ => {}
            }
        }
        // Frames in the program, of the sites that have allocated most.
        let depth = |site: &SiteId| {
            let frames = trace.catalog().frames(*site).unwrap();
            frames
                .iter()
                .filter(|f| matches!(f, Frame::Code { module, .. } if Path::new(module) == program.path()))
                .count()
        };
        let mut counts: Vec<(i32, usize)> = by_site.iter().map(|(site, count)| (*count, depth(site))).collect();
        counts.retain(|(count, _)| *count >= 1000);
        counts.sort_unstable();
        (counts, trace.provenance().notes.join("; "))
    };
    assert_eq!(counts("1"), (vec![(3000, 1)], String::new()));
    // `get` and `first` or `second`; of these, `both` calls the second one from two places.
    assert_eq!(counts("2").0, [(1000, 2), (2000, 2)]);
    let (deep, note) = counts("16");
    // `get`, `first` or `second`, `both`, `main`, and perhaps what starts it.
    assert_eq!(deep.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [1000, 1000, 1000]);
    assert!(deep.iter().all(|(_, depth)| (4..=5).contains(depth)), "{deep:?}");
    assert!(note.contains("up to 16 frames"), "{note}");
}

/// A file that cannot be written costs one line on standard error, and nothing else.
#[test]
fn files_that_cannot_be_written() {
    let folder = scratch();
    let other = folder.path().join("letter.txt");
    std::fs::write(&other, "keep me").unwrap();
    let nowhere = folder.path().join("no/such/folder/trace.tmt");
    for file in [nowhere, PathBuf::from("/dev/null"), folder.path().to_path_buf(), other.clone()] {
        let finished = record(Run::new("/bin/ls").preloading(preload()).arg("/"), &file).finish().succeeded();
        let errors = &finished.stderr;
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.contains("cannot be written") && errors.contains(&*file.to_string_lossy()), "{errors}");
    }
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "keep me", "a file that is no trace was written over");
    std::fs::remove_file(&other).unwrap();
    // A full file system, by the limit on the size of files.
    let file = folder.path().join("trace.tmt");
    let Some(program) = c_program("recorded") else { return };
    let limited = format!("trap '' XFSZ; ulimit -f 100; exec {} return 50000", program.path().display());
    let finished = record(Run::new("/bin/sh").preloading(preload()).args(["-c", &limited]), &file).finish().succeeded();
    assert!(finished.stderr.contains("cannot be written: "), "{}", finished.stderr);
    for file in files(folder.path()) {
        drop(events(&Trace::open(&file, Strictness::Strict).unwrap()));
    }
}

/// Negative controls: what the checks above would say of recordings that are wrong.
mod wrong {
    use super::*;
    use tiermem_emulator::trace::{Allocate, Free};

    fn allocate(at: u64, address: u64) -> Event {
        Event::Allocate(Allocate { at, address, size: 16, ..Allocate::default() })
    }

    #[test]
    #[should_panic(expected = "allocated twice")]
    fn a_free_that_is_missing_is_seen() {
        tally([allocate(1, 0x10), allocate(2, 0x10)], |_| true);
    }

    #[test]
    #[should_panic(expected = "allocated twice")]
    fn a_free_that_comes_after_the_next_allocation_is_seen() {
        let free = Event::Free(Free { at: 3, address: 0x10 });
        tally([allocate(1, 0x10), allocate(2, 0x10), free], |_| true);
    }

    #[test]
    fn an_allocation_that_is_missing_is_counted() {
        let free = Event::Free(Free { at: 3, address: 0x10 });
        assert_eq!(tally([free], |_| true).unknown, 1);
    }
}
