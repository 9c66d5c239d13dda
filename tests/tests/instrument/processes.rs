//! Libraries that are loaded late, programs that become others, threads that fork, and handlers that come at any time.

use crate::counts::Counted;
use crate::harness::{Program, is_usable};
use crate::{ends, thousand};

#[test]
fn a_library_that_is_opened_later_counts() {
    for compiler in ["clang", "gcc"].into_iter().filter(|compiler| is_usable(compiler)) {
        let source = ("counted.c", include_str!("counted.c"));
        let library = [compiler, "-O2", "-shared", "-fPIC", "counted.c", "-o", "libwork.so"];
        let program = Program::built(&[source], &[&library, &[compiler, "-O2", "counted.c", "-o", "counted"]]);
        let path = program.beside("libwork.so");
        let counts = |n: &str| program.counts(&["library", n, path.to_str().unwrap()]);
        let expected = Counted::loads(1000, 4).plus(Counted::stores(1000, 4));
        assert_eq!(counts("2000").minus(counts("1000")), expected, "{compiler}");
        // Its blocks have their sites in it.
        let report = program.report(&["library", "1", path.to_str().unwrap()]);
        let sites = report["processes"][0]["sites"].as_array().unwrap();
        let site = sites.iter().find(|site| site["bytes"] == 5000).expect("a site of one block");
        let caller = site["stack"][0].as_str().unwrap();
        assert!(caller.starts_with("work+") && caller.contains("libwork.so"), "{caller}");
    }
}

#[test]
fn a_program_that_becomes_another_reports_before() {
    let program = Program::c("clang", &["-O2"]);
    let report = program.report(&["exec", "3000"]);
    let processes = report["processes"].as_array().unwrap();
    let counted = |ended: &str| {
        let process = processes.iter().find(|process| process["ended"] == ended).expect(ended);
        Counted::of_process(process).stores
    };
    assert_eq!(processes.len(), 2, "{report:#}");
    assert_eq!(processes[0]["pid"], processes[1]["pid"]);
    assert!((3000..3200).contains(&counted("exec")), "{}", counted("exec"));
    assert!((7000..7200).contains(&counted("exit")), "{}", counted("exit"));
}

#[test]
fn a_thread_that_forks_takes_only_itself_along() {
    let program = Program::c("clang", &["-O2"]);
    let report = program.report(&["threads", "3000"]);
    let mut all = ends(&report);
    all.sort_unstable();
    assert_eq!(all, ["_exit", "exit"]);
    let processes = report["processes"].as_array().unwrap();
    let of = |ended: &str| processes.iter().find(|process| process["ended"] == ended).unwrap();
    assert_eq!(of("_exit")["threads"].as_array().unwrap().len(), 1);
    // Four threads and the child, each as often.
    let expected = Counted::loads(5000, 4).plus(Counted::stores(5000, 4));
    assert_eq!(thousand(&program, "threads"), expected);
    let child = Counted::of_process(of("_exit")).stores;
    assert!((3000..3200).contains(&child), "{child}");
}

/// A handler that comes while the run time works has one buffer; what does not fit is lost, and counted as that.
#[test]
fn what_handlers_lose_is_counted() {
    let program = Program::c("clang", &["-O2"]);
    // Until a handler came at a bad time, which most do where every access becomes a record: the run time works most of the time.
    for n in [2_000_000, 8_000_000, 32_000_000_u64] {
        let (report, said) = program.report_of_records(&["interrupted", &n.to_string()]);
        let times = said.lines().find_map(|line| line.strip_prefix("handled ")?.strip_suffix(" times"));
        let handled: u64 = times.expect("a count of handlers").parse().unwrap();
        let process = &report["processes"][0];
        let counted = Counted::of_process(process);
        let lost = process["lost"].as_u64().unwrap();
        // Each walks 5,000 times; the rest of what it does is a handful.
        let walked = 2 * (n + 5000 * handled);
        let all = counted.loads + counted.stores + lost;
        assert!(
            (walked..walked + 200 * (handled + 1)).contains(&all),
            "{all} of {walked}: {handled} handlers, {lost} lost"
        );
        if lost > 0 {
            return;
        }
    }
    panic!("no handler interrupted the run time");
}

#[test]
fn the_run_time_that_is_asked_for_is_used() {
    let program = Program::c("clang", &["-O2"]);
    let folder = tempfile::tempdir().unwrap();
    let said = program.libraries(folder.path());
    let line = said.lines().find(|line| line.contains("libtiermem_instrument.so")).unwrap_or(&said);
    assert!(line.contains(folder.path().to_str().unwrap()), "{said}");
}
