//! The thread that does the engine's work: when there is one, and that nobody sees a difference.

use crate::counts::Counted;
use crate::harness::{Program, first_cpu};
use crate::same_without;

const THREAD: &str = "TIERMEM_INSTRUMENT_THREAD";

/// Digits: threads of the engine's before there was much to do, and after.
const NONE: i32 = 0;
const WHEN_NEEDED: i32 = 1;

fn is_alone() -> bool {
    std::thread::available_parallelism().is_ok_and(|n| n.get() == 1)
}

#[test]
fn the_engine_has_a_thread_when_it_is_needed() {
    if is_alone() {
        eprintln!("SKIP the_engine_has_a_thread_when_it_is_needed: there is one processor");
        return;
    }
    let program = Program::rust();
    let ended = |before: &[&str], value: &str, mode: &str| program.ended(before, (THREAD, value), &[mode, "20000"]).0;
    assert_eq!(ended(&[], "yes", "engine-threads"), WHEN_NEEDED);
    assert_eq!(ended(&[], "yes", "engine-threads-of-child"), WHEN_NEEDED, "a child has its own");
    assert_eq!(ended(&[], "off", "engine-threads"), NONE);
    assert_eq!(
        ended(&["taskset", "--cpu-list", &first_cpu()], "yes", "engine-threads"),
        NONE,
        "no processor is free for it"
    );
    let few = program.ended(&[], (THREAD, "yes"), &["engine-threads", "2"]).0;
    assert_eq!(few, NONE, "there is nothing to do for it");
}

/// Where the system has no room for a thread, the program is measured all the same, and that is told.
#[test]
fn a_process_that_can_have_no_more_threads_says_so() {
    if is_alone() {
        eprintln!("SKIP a_process_that_can_have_no_more_threads_says_so: there is one processor");
        return;
    }
    let (code, said) = Program::rust().ended(&[], (THREAD, "yes"), &["engine-threads-without-room", "20000"]);
    assert_eq!(code, NONE, "{said}");
    assert!(said.contains("no thread for the engine: the program's own do its work"), "{said}");
    assert!(said.contains("ended by exit"), "{said}");
}

/// Blocks lie where they would without it, batches come in the same order.
#[test]
fn the_thread_changes_no_figure() {
    same_without(THREAD, &["chase", "blocks", "heap", "mixed", "copy", "crossing"]);
}

/// Clocks stay together while eight threads share a link, however the system runs them; so all of them are as fast.
#[test]
fn threads_go_through_the_engine_in_the_order_of_their_clocks() {
    if is_alone() {
        eprintln!("SKIP threads_go_through_the_engine_in_the_order_of_their_clocks: there is one processor");
        return;
    }
    const APART_NS: f64 = 400_000.0;
    let program = Program::rust();
    let options = ["--tier", "cxl0", "--cache", "48K/12@1.7,shared:256K/16@15"];
    let words = ["streams", "60000"];
    let figures = |report: serde_json::Value| {
        let process = &report["processes"][0];
        let threads = process["threads"].as_array().unwrap().clone();
        let ends = threads[1..].iter().map(|thread| thread["end_ps"].as_f64().unwrap());
        let (first, last) =
            ends.fold((f64::MAX, 0.0), |(first, last): (f64, f64), end| (first.min(end), last.max(end)));
        (process["skew_ns"].as_f64().unwrap(), last / first)
    };
    // A thread that the system leaves alone for long is not waited for: another try, then.
    let tries: Vec<_> = (0..5).map(|_| figures(program.report_with(&options, &words))).collect();
    let good = |(apart, spread): &&(f64, f64)| *apart < APART_NS && *spread < 1.1;
    assert!(tries.iter().any(|figures| good(&figures)), "{tries:?}");
    // A negative control: where threads come as the system runs them, their clocks are far apart.
    let alone = figures(program.report_on_one(&options, &words));
    assert!(alone.0 > 2.0 * APART_NS, "{alone:?}");
}

#[test]
fn parent_and_child_count_alike() {
    let program = Program::rust();
    let report = program.report(&["chase-in-child", "50000"]);
    let processes = report["processes"].as_array().unwrap();
    let counts: Vec<Counted> = processes.iter().map(Counted::of_process).collect();
    assert_eq!(counts.len(), 2);
    assert!(counts[0].loads.abs_diff(counts[1].loads) < 500, "{counts:?}");
    assert!(counts.iter().all(|one| (300_000..300_500).contains(&one.loads)), "{counts:?}");
}
