//! Compilers and builds: what they leave in a program is counted, whoever compiled it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::counts::Counted;
use crate::harness::{Program, is_usable};
use crate::thousand;

/// What `counted.c` does a thousand times, by hand.
fn expected(mode: &str) -> Counted {
    match mode {
        "walk" => Counted::loads(1000, 4).plus(Counted::stores(1000, 4)),
        "again" => Counted::loads(2000, 8).plus(Counted::stores(2000, 8)),
        "stack" => Counted::loads(1000, 8).plus(Counted::stores(1000, 8)),
        "atomic" => Counted::loads(1000, 8).plus(Counted::stores(3000, 8)),
        "structure" => Counted {
            ranges_loaded: 1000,
            ranges_stored: 1000,
            range_bytes_loaded: 1000 * 4096,
            range_bytes_stored: 1000 * 4096,
            ..Counted::default()
        },
        _ => panic!("no mode {mode}"),
    }
}

#[test]
fn c_is_counted_exactly_by_each_compiler() {
    for (compiler, options) in
        [("clang", &["-O1"][..]), ("clang", &["-O3"]), ("gcc", &["-O1"]), ("gcc", &["-O2"]), ("cc", &["-O3", "-flto"])]
    {
        if !is_usable(compiler) {
            continue;
        }
        let program = Program::c(compiler, options);
        for mode in ["walk", "again", "stack", "structure", "atomic"] {
            assert_eq!(thousand(&program, mode), expected(mode), "{compiler} {options:?} {mode}");
        }
        // How much of its word a field takes is the compiler's affair.
        let fields = thousand(&program, "fields");
        assert_eq!((fields.loads, fields.stores), (1000, 1000), "{compiler} {options:?}");
    }
}

#[test]
fn loops_stay_vectors() {
    let four_floats = Counted::loads(1000, 16).plus(Counted::stores(1000, 16));
    for compiler in ["clang", "gcc"].into_iter().filter(|compiler| is_usable(compiler)) {
        assert_eq!(thousand(&Program::c(compiler, &["-O3"]), "vector"), four_floats, "{compiler}");
    }
}

/// The program is a plain one, built by gcc alone, whose code valgrind counts.
#[test]
fn valgrind_counts_the_same_of_gcc() {
    if !is_usable("gcc") {
        return;
    }
    let program = Program::c("gcc", &["-O2"]).with_plain("gcc", &["-O2", "-no-pie"]);
    for mode in ["walk", "again", "stack", "fields"] {
        let ours = thousand(&program, mode);
        let (loads, stores) = program.lackey(mode, &[mode, "2000"]);
        let (loads_before, stores_before) = program.lackey(mode, &[mode, "1000"]);
        assert_eq!((ours.loads, ours.stores), (loads - loads_before, stores - stores_before), "{mode}");
    }
}

/// A negative control.
#[test]
fn a_check_that_does_nothing_is_noticed_in_c() {
    let compiler = if is_usable("gcc") { "gcc" } else { "clang" };
    let broken = Program::c(compiler, &["-O2"]).with_empty_checks("__asan_check_load_add_4_");
    assert_eq!(thousand(&broken, "walk"), Counted::stores(1000, 4));
}

const CPP: &str = include_str!("counted.cc");

#[test]
fn cpp_is_counted_and_its_blocks_have_their_callers() {
    for compiler in ["clang++", "g++"].into_iter().filter(|compiler| is_usable(compiler)) {
        let program = Program::built(&[("counted.cc", CPP)], &[&[compiler, "-O2", "counted.cc", "-o", "counted"]]);
        // A vector's element is read and written, and a number thrown now and then.
        let expected = Counted::loads(1000, 8).plus(Counted::stores(1000, 8)).plus(Counted::stores(10, 4));
        assert_eq!(thousand(&program, "vector").without_ranges(), expected, "{compiler}");
        let report = program.report(&["map", "1000"]);
        let sites = report["processes"][0]["sites"].as_array().unwrap();
        let nodes = sites.iter().find(|site| site["allocations"] == 1000).expect("a site of a thousand nodes");
        // What is not inlined of the map's own functions is in between.
        let callers = &nodes["stack"].as_array().unwrap()[..2];
        assert!(callers.iter().any(|frame| frame.as_str().unwrap().contains("fill_map")), "{compiler}: {nodes:#}");
        // A tree of a thousand is ten deep: it is read more often than a table would be.
        assert!(thousand(&program, "map").loads > 10_000, "{compiler}");
        let (report, said) = program.report_and_said(&[], &["impossible", "1"]);
        assert!(said.contains("bad_alloc, null"), "{compiler}: {said}");
        assert_eq!(report["processes"][0]["ended"], "exit", "{compiler}");
    }
}

const MAKEFILE: &str = "all: counted\ncounted: main.o libpart.a\n\t$(CXX) $(CXXFLAGS) $^ -o $@\n\
                        libpart.a: part.o\n\t$(AR) rcs $@ $^\n%.o: %.c\n\t$(CC) -O2 -c $< -o $@\n\
                        %.o: %.cc\n\t$(CXX) -O2 -c $< -o $@\n";
const MAIN: &str = "#include <cstdlib>\nextern \"C\" void part(volatile int *at, long n);\n\
                    int main(int argc, char **argv) {\n    static int block[64];\n    \
                    if (argc > 2) part(block, std::atol(argv[2]));\n    return 0;\n}\n";
const PART: &str = "void part(volatile int *at, long n) {\n    for (long i = 0; i < n; i++) at[i % 64] = 1;\n}\n";

#[test]
fn make_builds_with_its_own_compilers_and_those_that_it_is_told() {
    let files = [("Makefile", MAKEFILE), ("main.cc", MAIN), ("part.c", PART)];
    let version = std::process::Command::new("gcc").arg("-dumpversion").output().unwrap().stdout;
    let version = String::from_utf8_lossy(&version).trim().split('.').next().unwrap().to_owned();
    let versioned = [format!("CC=gcc-{version}"), format!("CXX=g++-{version}")];
    for command in [&["make"][..], &["make", "CC=clang", "CXX=clang++"], &["make", &versioned[0], &versioned[1]]] {
        if !command.contains(&"CC=clang") && !is_usable("gcc") {
            continue;
        }
        let program = Program::built(&files, &[command]);
        assert_eq!(thousand(&program, "part"), Counted::stores(1000, 4), "{command:?}");
    }
}

#[test]
fn a_compiler_that_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let fake = |name: &str, says: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{says}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    // A gcc without headers for plugins, and a compiler of another kind.
    fake(
        "gcc",
        "case $1 in --version) echo Free Software Foundation;; -dumpversion) echo 77;; -print*) echo /nowhere;; esac",
    );
    fake("clang", "echo another compiler");
    let told = |words: &[&str], code: i32, text: &str| {
        let (ended, said) = Program::tierctl_with_compilers(words, folder.path());
        assert_eq!(ended, code, "{words:?}: {said}");
        assert!(said.contains(text), "{words:?}: {said}");
    };
    told(&["instrument", "--", "gcc", "-c", "x.c"], 5, "gcc-77-plugin-dev");
    told(&["instrument", "--", "clang", "-c", "x.c"], 5, "neither gcc nor clang");
    // In a build it is told by the compiler.
    told(&["instrument", "--", "sh", "-c", "gcc -c x.c"], 127, "gcc-77-plugin-dev");
}
