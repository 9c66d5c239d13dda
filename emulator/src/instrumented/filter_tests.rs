//! What checks leave out, against an engine that gets every access.

use super::filter::Company;
use super::record::{access, range};
use super::tests::{Fixed, OVERLAP};
use super::{Batch, Engine, Part, Passed, Rules, ThreadIndex, ThreadState};
use crate::cache::CacheConfig;
use crate::model::TierIndex;

/// A program with a few hot lines, far ones, ranges and accesses in two lines: address, bytes, store, range.
fn random_program(state: &mut u64, length: usize) -> Vec<(u64, u64, bool, bool)> {
    let mut next = move || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *state >> 33
    };
    { 0..length }
        .map(|_| {
            let far = if next() % 8 == 0 { next() % 64 * 4096 } else { 0 };
            let address = 0x1_0000 + far + next() % 512;
            let store = next() % 4 == 0;
            match next() % 16 {
                0 => (address, next() % 100, store, true),
                1 => (address, next() % 9000, store, true),
                _ => (address, 1 << (next() % 5), store, false),
            }
        })
        .collect()
}

/// What a thread gathers.
#[derive(Default)]
struct Gathered {
    records: Vec<u64>,
    values: Vec<u64>,
    before: Vec<u64>,
}

/// Does what a check does, in the same order.
fn check(state: &ThreadState, gathered: &mut Gathered, (address, len, store, is_range): (u64, u64, bool, bool)) {
    let record = if is_range { range(address, store) } else { access(address, len as u8, store) };
    let needed = if is_range {
        len > 0 && !state.pass_range(address, len, store)
    } else {
        state.needs_record(address, len, store)
    };
    if needed {
        gathered.records.push(record);
        gathered.values.push(len);
        gathered.before.push(state.passed().counts);
        if is_range {
            state.note_range(address, len, store);
        } else {
            state.note_access(address, len, store);
        }
    }
}

/// Times and counts of a program whose accesses all are records, and of one whose known lines are only counted.
fn with_and_without(cache: &str, program: &[(u64, u64, bool, bool)], stale: bool) -> [(u64, super::engine::Counts); 2] {
    let cache = CacheConfig::parse(cache).unwrap();
    [false, true].map(|filtered| {
        let mut engine = Engine::new(&cache, OVERLAP, Rules::All(TierIndex(0)), vec![1 << 30; 2], Fixed).unwrap();
        let thread = engine.begin_thread(None);
        let state = ThreadState::default();
        state.record_all();
        for (at, piece) in program.chunks(700).enumerate() {
            if at % 5 == 4 {
                engine.unmap(0x1_0000, 4096);
            }
            if filtered && !(stale && at % 5 == 4) {
                state.restart(&engine.known(thread));
            }
            let start = state.passed();
            let mut gathered = Gathered::default();
            piece.iter().for_each(|step| check(&state, &mut gathered, *step));
            let Gathered { records, values, before } = &gathered;
            engine.batch(thread, &Batch { records, values, before, start, end: state.passed() });
        }
        engine.end_thread(thread);
        let thread = engine.threads[0].as_ref().unwrap();
        (thread.clock.now_ps(), thread.counts)
    })
}

#[test]
fn accesses_that_need_no_record_change_nothing_else() {
    let mut seed = 11;
    // Sets of all sizes; a first level that cannot be known; one that is prefetched into.
    for cache in [
        "4K/1@1,shared:64K/16@10",
        "8K/2@1,16K/4@3,shared:64K/16@10",
        "64K/8@1,shared:256K/16@10",
        "2K/1@1,shared:64K/16@10",
    ] {
        for _ in 0..8 {
            let program = random_program(&mut seed, 20_000);
            let [all, few] = with_and_without(cache, &program, false);
            assert_eq!(all, few, "{cache}");
        }
    }
}

/// A thread that is held back again and again, at whatever its clock says, does the same.
#[test]
fn a_batch_in_parts_is_the_same_batch() {
    let cache = CacheConfig::parse("8K/2@1,16K/4@3,shared:64K/16@10").unwrap();
    let mut seed = 13;
    let program = random_program(&mut seed, 20_000);
    let [whole, parts] = [u64::MAX, 300_000].map(|window| {
        let mut engine = Engine::new(&cache, OVERLAP, Rules::All(TierIndex(0)), vec![1 << 30; 2], Fixed).unwrap();
        let thread = engine.begin_thread(None);
        let state = ThreadState::default();
        let mut turns = 0;
        for piece in program.chunks(1400) {
            state.restart(&engine.known(thread));
            let start = state.passed();
            let mut gathered = Gathered::default();
            piece.iter().for_each(|step| check(&state, &mut gathered, *step));
            let Gathered { records, values, before } = &gathered;
            let batch = Batch { records, values, before, start, end: state.passed() };
            let mut part = Part::default();
            while !engine.part(thread, &batch, &mut part, engine.now_ps(thread).saturating_add(window)) {
                assert!(part.is_begun());
                turns += 1;
            }
        }
        engine.end_thread(thread);
        let thread = engine.threads[0].as_ref().unwrap();
        (turns, thread.clock.now_ps(), thread.counts)
    });
    assert_eq!(whole.0, 0);
    assert!(parts.0 > 100, "{} turns", parts.0);
    assert_eq!((whole.1, whole.2), (parts.1, parts.2));
}

/// A negative control: lines that are still believed after they were unmapped are noticed.
#[test]
fn a_line_that_is_known_too_long_is_noticed() {
    let program = random_program(&mut 11, 20_000);
    let [all, few] = with_and_without("4K/1@1,shared:64K/16@10", &program, true);
    assert_ne!(all, few);
}

/// What one thread did in one batch, for later.
type Later = (ThreadIndex, Gathered, Passed, Passed);

/// A thread does `program`, a part at a time, and goes on before the engine has seen anything. After some parts another thread
/// comes, writes to the same lines, and ends. Times and counts of the first one; `notice` says whether it hears of the other.
fn passed_on(
    cache: &str,
    program: &[(u64, u64, bool, bool)],
    filtered: bool,
    notice: bool,
) -> (u64, super::engine::Counts) {
    let cache = CacheConfig::parse(cache).unwrap();
    let mut engine = Engine::new(&cache, OVERLAP, Rules::All(TierIndex(0)), vec![1 << 30; 2], Fixed).unwrap();
    let thread = engine.begin_thread(None);
    let (state, mut company) = (ThreadState::default(), Company::default().next(true));
    if filtered {
        state.restart(&engine.known(thread));
    } else {
        state.record_all();
    }
    let mut later: Vec<Later> = Vec::new();
    let bring = |engine: &mut Engine<Fixed>, later: &mut Vec<Later>| {
        for (thread, Gathered { records, values, before }, start, end) in later.drain(..) {
            engine.batch(thread, &Batch { records: &records, values: &values, before: &before, start, end });
        }
    };
    for (at, piece) in program.chunks(700).enumerate() {
        let start = state.passed();
        let mut gathered = Gathered::default();
        piece.iter().for_each(|step| check(&state, &mut gathered, *step));
        later.push((thread, gathered, start, state.passed()));
        let before = company;
        if at % 5 == 4 {
            bring(&mut engine, &mut later);
            let other = engine.begin_thread(Some(thread));
            let records: Vec<u64> = (0..8).map(|line| access(0x1_0000 + line * 64, 8, true)).collect();
            engine.batch(other, &Batch { records: &records, values: &[0; 8], ..Batch::default() });
            engine.end_thread(other);
            if notice {
                company = company.next(false).next(true);
            }
        }
        state.go_on(company, before);
    }
    bring(&mut engine, &mut later);
    engine.end_thread(thread);
    let thread = engine.threads[0].as_ref().unwrap();
    (thread.clock.now_ps(), thread.counts)
}

#[test]
fn threads_may_go_on_before_the_engine_has_seen_their_batches() {
    let mut seed = 12;
    for cache in ["4K/1@1,shared:64K/16@10", "8K/2@1,16K/4@3,shared:64K/16@10", "2K/1@1,shared:64K/16@10"] {
        for _ in 0..8 {
            let program = random_program(&mut seed, 20_000);
            assert_eq!(passed_on(cache, &program, false, true), passed_on(cache, &program, true, true), "{cache}");
        }
    }
}

/// A negative control: a thread that does not hear of another one believes in lines that it has lost.
#[test]
fn a_thread_that_was_not_alone_forgets() {
    let program = random_program(&mut 12, 20_000);
    let cache = "4K/1@1,shared:64K/16@10";
    assert_ne!(passed_on(cache, &program, false, false), passed_on(cache, &program, true, false));
}

#[test]
fn among_others_batches_are_short_and_begin_with_nothing() {
    let state = ThreadState::default();
    state.restart_empty();
    let alone = Company::default().next(true);
    let mut gathered = Gathered::default();
    let mut load = |times: usize| {
        (0..times).for_each(|_| check(&state, &mut gathered, (0x1000, 8, false, false)));
        gathered.records.len()
    };
    assert_eq!(load(2), 1);
    state.go_on(alone, alone);
    assert_eq!(load(2), 1, "alone it knows what it knew");
    state.go_on(alone.next(false), alone);
    assert_eq!(load(2), 2);
    assert!(!state.has_enough());
    load(1024);
    assert!(state.has_enough(), "the sooner a batch ends, the sooner threads see one another");
    state.record_all();
    state.go_on(alone, alone);
    assert_eq!(load(2), 4, "every access becomes a record, and goes on to");
}

#[test]
fn most_accesses_to_hot_lines_need_no_record() {
    let state = ThreadState::default();
    state.restart_empty();
    let mut gathered = Gathered::default();
    for i in 0..1000 {
        check(&state, &mut gathered, (0x1000 + i % 8 * 8, 8, i % 2 == 0, false));
        check(&state, &mut gathered, (0x1000 + i % 4, 32, false, true));
    }
    assert_eq!(gathered.records.len(), 1);
    let [loaded, stored] = state.passed().since(&Passed::default());
    assert_eq!((loaded.accesses, loaded.bytes, loaded.ranges, loaded.range_bytes), (500, 4000, 1000, 32_000));
    assert_eq!((stored.accesses, stored.bytes, stored.ranges), (499, 3992, 0));
    assert!(!state.has_enough());
    (0..8192).for_each(|_| check(&state, &mut gathered, (0x1000, 16, false, false)));
    assert!(state.has_enough(), "a batch ends");
}
