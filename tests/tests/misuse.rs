//! Hundreds of planted misuses of the heap, each in a process of its own, in every mode of hardening. What comes of them is
//! the table of `docs/hardening.md`; the same programs without the misuse must run in peace.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use tiermem_tests::{Finished, Program, Setup, Tiering, c_program};

const BOOK: &str = include_str!("../../docs/hardening.md");

/// One misuse.
struct Case {
    kind: String,
    /// Size, thread and time.
    rest: String,
}

/// What became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The allocator said what was wrong and ended the process.
    Reported,
    /// The process ran into an inaccessible OS page, or otherwise died.
    Stopped,
    Missed,
}

impl Outcome {
    fn of(finished: &Finished) -> Self {
        if finished.stderr.contains("tiermem: ") {
            assert_eq!(finished.killed_by(), Some(SIGABRT), "{}", finished.describe());
            Self::Reported
        } else if finished.status.success() {
            Self::Missed
        } else {
            Self::Stopped
        }
    }
}

const SIGABRT: i32 = 6;

/// Without the profile: which blocks are samples is drawn anew in each process, and a sample lies in a span of its own. What
/// comes to lie where a misused block was, and so whether a write there is seen later, would be drawn, too.
fn tiering(mode: &str) -> Tiering {
    Setup::OneTier.prepare().set("TIERMEM_HARDEN", mode).set("TIERMEM_PROFILE", "off")
}

fn cases(program: &Program) -> Vec<Case> {
    let count = program.bare().arg("count").finish().succeeded().text();
    (0..count.trim().parse().expect("a number"))
        .map(|case: usize| {
            let name = program.bare().args(["name", &case.to_string()]).finish().succeeded().text();
            let (kind, rest) = name.trim().split_once('|').expect("kind|size|thread|time");
            Case { kind: kind.to_owned(), rest: rest.replace('|', " ") }
        })
        .collect()
}

/// Runs all cases, two at a time.
fn outcomes(program: &Program, count: usize, mode: &str, variant: &str) -> Vec<Outcome> {
    let tiering = tiering(mode);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let case = next.fetch_add(1, Ordering::Relaxed);
            if case >= count {
                return done;
            }
            let finished = program.under(&tiering).args([variant, &case.to_string()]).limit(60).finish();
            if variant == "right" {
                assert!(finished.status.success() && finished.stderr.is_empty(), "{mode}: {}", finished.describe());
            }
            done.push((case, Outcome::of(&finished)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker's checks hold")).collect::<Vec<_>>()
    });
    all.sort_by_key(|(case, _)| *case);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

fn caught(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|&&outcome| outcome != Outcome::Missed).count()
}

/// The rows of one mode in the book: for each kind how many of its cases were caught, and which were not.
fn rows(mode: &str, cases: &[Case], outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for (at, case) in cases.iter().enumerate().filter(|&(at, case)| at == 0 || cases[at - 1].kind != case.kind) {
        let same = || cases.iter().zip(outcomes).skip(at).take_while(|(other, _)| other.kind == case.kind);
        let missed: Vec<&str> =
            same().filter(|(_, outcome)| **outcome == Outcome::Missed).map(|(case, _)| case.rest.as_str()).collect();
        let all = same().count();
        let _ = writeln!(text, "| {mode} | {} | {} of {all} | {} |", case.kind, all - missed.len(), missed.join(", "));
    }
    let total = caught(outcomes);
    let _ = writeln!(text, "| {mode} | **all** | **{total} of {}** | {} |", cases.len(), cases.len() - total);
    text
}

/// At least this many of a hundred are caught, and which ones is as the book says.
fn mode_is_as_the_book_says(mode: &str, percent: usize) {
    let Some(program) = c_program("misuse") else { return };
    let cases = cases(&program);
    assert!(cases.len() >= 100, "{} cases", cases.len());
    outcomes(&program, cases.len(), mode, "right");
    let wrong = outcomes(&program, cases.len(), mode, "wrong");
    if mode == "check" {
        assert!(!wrong.contains(&Outcome::Stopped), "without guard pages each misuse is reported, or missed");
    }
    let rows = rows(mode, &cases, &wrong);
    assert!(caught(&wrong) * 100 >= cases.len() * percent, "{rows}");
    assert!(BOOK.contains(&rows), "docs/hardening.md should have these rows:\n{rows}");
}

#[test]
fn check_catches_four_of_five() {
    mode_is_as_the_book_says("check", 80);
}

#[test]
fn strong_catches_nineteen_of_twenty() {
    mode_is_as_the_book_says("strong", 95);
}

/// Negative control: it is the mode that catches them. Without it nothing is reported; what is caught is a crash that an
/// overflow by a whole OS page or a free list led astray ends in.
#[test]
fn without_hardening_hardly_any_is_caught() {
    let Some(program) = c_program("misuse") else { return };
    let count = cases(&program).len();
    let outcomes = outcomes(&program, count, "off", "wrong");
    assert!(!outcomes.contains(&Outcome::Reported));
    assert!(caught(&outcomes) * 5 < count, "{} of {count}", caught(&outcomes));
}

/// A report says what, where, and who: the functions of a program that exports them are named.
#[test]
fn a_report_names_the_code() {
    let Some(program) = tiermem_tests::c_program_with("misuse", &["-rdynamic"]) else { return };
    // The first case: a block of 16 bytes is freed twice.
    let finished = program.under(&tiering("strong")).args(["wrong", "1"]).finish();
    let text = &finished.stderr;
    assert!(text.starts_with("tiermem: double free: the block at 0x"), "{text}");
    for words in [" of 24 bytes (class 32, tier dram, thread ", "  allocated by /", "  freed by /", "  and again by /"]
    {
        assert!(text.contains(words), "{words} in:\n{text}");
    }
    assert!(text.contains("misuse-c-"), "the program's file is named:\n{text}");
}

/// With `,report` the program goes on, and each report is there.
#[test]
fn the_program_goes_on_where_that_is_asked_for() {
    let Some(program) = c_program("misuse") else { return };
    for mode in ["check,report", "strong,report"] {
        let finished = program.under(&tiering(mode)).args(["wrong", "1"]).finish().succeeded();
        assert!(finished.stderr.contains("tiermem: double free: "), "{}", finished.describe());
    }
}

#[test]
fn a_bad_setting_is_told_and_nothing_is_watched() {
    let Some(program) = c_program("misuse") else { return };
    let finished = program.under(&tiering("paranoid")).args(["right", "1"]).finish().succeeded();
    let expected = "tiermem: TIERMEM_HARDEN is one of off, check, strong, check,report and strong,report, and \
                    TIERMEM_ZERO_FREED is 0 or 1; what was set otherwise is taken for off\n";
    assert_eq!(finished.stderr, expected);
}
