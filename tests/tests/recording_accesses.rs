//! Accesses in recordings: what memory was accessed in which interval, held against the program's own word.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use tiermem_emulator::trace::{Completeness, Counts, Event, Interval, Strictness, Trace};
use tiermem_tests::{Finished, Run, Tiering, c_program, preload, scaled, scratch, skip};

const OS_PAGE: u64 = 4096;

fn open(file: &Path) -> Trace<File> {
    let trace = Trace::open(file, Strictness::Strict).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(trace.is_complete(), "{} has no end", file.display());
    trace
}

fn intervals(trace: &Trace<File>) -> Vec<Interval> {
    let of = |event| if let Event::Interval(interval) = event { Some(interval) } else { None };
    trace.events().filter_map(|event| of(event.unwrap().1)).collect()
}

fn record(run: Run, file: &Path, source: &str) -> Finished {
    run.env("TIERMEM_TRACE", file).env("TIERMEM_TRACE_ACCESSES", source).limit(200).finish().succeeded()
}

/// The numbers that follow a name in what a program has printed.
fn numbers(text: &str, name: &str) -> Vec<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    let number = |word: &str| match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => word.parse().unwrap(),
    };
    line.split_ascii_whitespace().map(number).collect()
}

/// What the program has told.
struct Told {
    text: String,
}

impl Told {
    fn block(&self, name: &str) -> Range<u64> {
        let numbers = numbers(&self.text, name);
        numbers[0]..numbers[0] + numbers[1]
    }

    /// When it read, and when it wrote.
    fn phases(&self) -> [Range<u64>; 2] {
        let times = numbers(&self.text, "times");
        [times[0]..times[1], times[1]..times[2]]
    }
}

/// Bytes of a block that were accessed, by what was seen of a range: at least, and at most.
fn bytes_of(block: &Range<u64>, interval: &Interval) -> Range<u64> {
    let Counts::Seen { hits, looks } = interval.counts else { panic!("{interval:?} is no look") };
    assert!(hits <= looks && u64::from(looks) * OS_PAGE == interval.len, "{interval:?}");
    let shared = interval.address.max(block.start)..(interval.address + interval.len).min(block.end);
    let (shared, hit) = (shared.end.saturating_sub(shared.start), u64::from(hits) * OS_PAGE);
    hit.saturating_sub(interval.len - shared)..hit.min(shared)
}

/// The looks that fell wholly into a phase, each with what was seen in it.
fn looks_in<'a>(intervals: &'a [Interval], phase: &Range<u64>) -> Vec<&'a [Interval]> {
    let since = |interval: &Interval| interval.at - interval.ticks;
    let inside = |look: &&[Interval]| since(&look[0]) > phase.start && look[look.len() - 1].at < phase.end;
    intervals.chunk_by(|a, b| since(a) == since(b)).filter(inside).collect()
}

/// Bytes of a block that were accessed, look by look: at least, and at most.
fn seen(looks: &[&[Interval]], block: &Range<u64>) -> Vec<Range<u64>> {
    let sum = |look: &&[Interval]| {
        let all = look.iter().map(|interval| bytes_of(block, interval));
        all.fold(0..0, |sum, one| sum.start + one.start..sum.end + one.end)
    };
    looks.iter().map(sum).collect()
}

/// Records the program and holds what was seen against what it did.
fn accessed(run: Run, source: &str, has_reads: bool) {
    let folder = scratch();
    let file = folder.path().join("trace.tmt");
    let finished = record(run.arg(scaled(900)), &file, &format!("{source},every=20"));
    assert!(finished.stderr.is_empty(), "{}", finished.stderr);
    let told = Told { text: finished.text() };
    let trace = open(&file);
    assert_eq!(trace.provenance().accesses, Completeness::Aggregated);
    let note = &trace.provenance().notes[0];
    assert!(note.contains(source) && note.contains("20 ms"), "{note}");
    check(&told, &intervals(&trace), source, has_reads);
}

/// Panics where what was seen is not what the program did.
fn check(told: &Told, intervals: &[Interval], source: &str, has_reads: bool) {
    for (phase, (busy, other)) in told.phases().iter().zip([("read", "written"), ("written", "read")]) {
        let looks = looks_in(intervals, phase);
        assert!(looks.len() >= 2, "{source}: {} looks while it {busy}", looks.len());
        let of = |name| seen(&looks, &told.block(name));
        let is_seen = busy == "written" || has_reads;
        for alone in ["idle", other] {
            let bytes = of(alone);
            assert!(bytes.iter().all(|bytes| bytes.start == 0), "{source}: {alone} was left alone: {bytes:?}");
        }
        let (bytes, len) = (of(busy), told.block(busy).end - told.block(busy).start);
        let all = bytes.iter().map(|bytes| bytes.end).sum::<u64>();
        assert_eq!(all >= len, is_seen, "{source}, {busy}: {bytes:?}");
        let hot = of("hot");
        if has_reads {
            // Not where the program hardly came to run.
            let missed = bytes.iter().zip(&hot).filter(|(bytes, hot)| bytes.end > len / 4 && hot.end < OS_PAGE);
            assert_eq!(missed.count(), 0, "{source}: the byte that is read all the time: {hot:?}, {bytes:?}");
        }
        // One OS page of each look, and what its neighbours in the same extents have.
        assert!(hot.iter().all(|hot| hot.start <= OS_PAGE), "{source}: {hot:?}");
    }
}

fn on_one_tier_and_two(source: &str, has_reads: bool) {
    let Some(program) = c_program("accessed") else { return };
    accessed(program.bare().preloading(preload()), source, has_reads);
    // Most of it on a file.
    accessed(program.under(&Tiering::with_slow_file("1G").limits("dram=4M")), source, has_reads);
}

#[test]
fn by_the_marks_of_accessed_os_pages() {
    on_one_tier_and_two("clear-refs", true);
}

#[test]
fn by_write_protection() {
    on_one_tier_and_two("pagemap-scan", false);
}

/// Where no source works, a program that asks for accesses by the variable runs, is recorded without, and says why.
#[test]
fn without_any_source_it_is_said_once() {
    let folder = scratch();
    let file = folder.path().join("trace.tmt");
    let script = |script: &str| {
        let script = format!("mount -t tmpfs none /proc && {script}");
        Run::new("/usr/bin/env").args(["unshare", "--mount", "sh", "-c", &script])
    };
    if !script("true").finish().status.success() {
        return skip("only root can have a /proc of its own");
    }
    let program = format!(
        "TIERMEM_TRACE={} TIERMEM_TRACE_ACCESSES=auto LD_PRELOAD={} exec /bin/ls /",
        file.display(),
        preload().display()
    );
    let finished = script(&program).finish().succeeded();
    let line = "tiermem: no accesses are recorded: clear-refs: ";
    assert!(finished.stderr.starts_with(line) && finished.stderr.contains("; pagemap-scan: "), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    let trace = open(&file);
    assert_eq!(trace.provenance().accesses, Completeness::Absent);
    assert!(intervals(&trace).is_empty() && trace.events().count() > 0);
}

/// Negative controls: what the checks above would say of recordings that are wrong.
mod wrong {
    use super::*;

    const BLOCK: u64 = 2 << 20;
    const NAMES: [&str; 4] = ["read", "written", "idle", "hot"];

    fn told() -> Told {
        let lines = NAMES.iter().enumerate().map(|(n, name)| format!("{name} {:#x} {BLOCK}\n", (n as u64 + 1) * BLOCK));
        Told { text: lines.chain(["times 100 200 300\n".to_owned()]).collect() }
    }

    /// Three looks in each phase, in which `hits` says how many OS pages of each block had been accessed.
    fn intervals(hits: impl Fn(&str, bool) -> u32) -> Vec<Interval> {
        let mut intervals = Vec::new();
        for look in 0..6 {
            let (since, is_writing) = (if look < 3 { 110 + look * 20 } else { 210 + (look - 3) * 20 }, look >= 3);
            for (n, name) in NAMES.iter().enumerate() {
                let counts = Counts::Seen { hits: hits(name, is_writing), looks: 512 };
                let at = since + 10 + n as u64;
                let address = (n as u64 + 1) * BLOCK;
                intervals.push(Interval { at, ticks: at - since, address, len: BLOCK, counts });
            }
        }
        intervals
    }

    fn right(name: &str, is_writing: bool) -> u32 {
        match (name, is_writing) {
            ("read", false) | ("written", true) => 512,
            ("hot", _) => 1,
            _ => 0,
        }
    }

    #[test]
    fn what_is_right_passes() {
        check(&told(), &intervals(right), "test", true);
    }

    #[test]
    #[should_panic(expected = "idle was left alone")]
    fn accesses_that_were_none_are_seen() {
        check(&told(), &intervals(|name, w| if name == "idle" { 1 } else { right(name, w) }), "test", true);
    }

    #[test]
    #[should_panic(expected = "written")]
    fn accesses_that_are_missing_are_seen() {
        check(&told(), &intervals(|name, w| if name == "written" { 0 } else { right(name, w) }), "test", true);
    }

    #[test]
    #[should_panic(expected = "read all the time")]
    fn hot_memory_that_seems_idle_is_seen() {
        check(&told(), &intervals(|name, w| if name == "hot" { 0 } else { right(name, w) }), "test", true);
    }

    #[test]
    #[should_panic(expected = "read")]
    fn reads_that_a_source_cannot_see_are_seen() {
        check(&told(), &intervals(right), "test", false);
    }
}
