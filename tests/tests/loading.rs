//! Libraries that come late, and programs with an allocator of their own.

use tiermem_tests::{
    Setup, Tiering, c_program, c_program_with, find, in_every_setup, in_setups, preload, repeated, scaled,
    shared_library, skip,
};

/// A library that allocates in its constructor, from several threads, is loaded and unloaded again and again.
fn late_library(tiering: &Tiering) {
    let (Some(program), Some(library)) = (c_program("late_load"), shared_library("late_library", &[])) else { return };
    program.under(tiering).arg(library).arg(scaled(100)).limit(60).finish().succeeded_quietly();
}
in_every_setup!(library, late_library);

/// Libraries that allocate when they come, when they go, and in the destructors of their thread-local objects, which may run
/// after the library was closed.
fn load_cycles(tiering: &Tiering, cycles: u64, libraries: &[&str]) {
    let Some(program) = c_program("load_cycles") else { return };
    let Some(libraries) = libraries.iter().map(|name| shared_library(name, &[])).collect::<Option<Vec<_>>>() else {
        return;
    };
    program.under(tiering).arg(scaled(cycles)).args(&libraries).limit(120).finish().succeeded_quietly();
}
in_setups!([one_tier OneTier, two_tiers TwoTiers] cycles_10_000, load_cycles, 10_000, &["tls_library"]);
in_every_setup!(cycles_of_two_libraries, load_cycles, 1_000, &["tls_library", "late_library"]);

/// libtiermem.so as a plugin, after the start and without preload.
fn tiermem_as_plugin(close: &[&str]) {
    let Some(program) = c_program("late_tiermem") else { return };
    repeated(|| {
        let finished = program.bare().arg(preload()).args(close).finish().succeeded_quietly();
        let text = finished.text();
        assert!(text.starts_with("loaded") || text.starts_with("refused: "), "{text}");
    });
}

#[test]
fn tiermem_loaded_late_works_or_is_refused() {
    tiermem_as_plugin(&[]);
}

#[test]
fn tiermem_loaded_late_and_closed() {
    tiermem_as_plugin(&["close"]);
}

/// Already preloaded, the library is opened once more by name: it must be the same one.
#[test]
fn tiermem_opened_again_under_its_own_preload() {
    let Some(program) = c_program("late_load") else { return };
    let Some(library) = shared_library("late_library", &[]) else { return };
    let tiering = Setup::TwoTiers.prepare();
    let twice = format!("{0}:{0}", preload().display());
    program.under(&tiering).env("LD_PRELOAD", twice).arg(library).arg("5").finish().succeeded_quietly();
}

fn own_allocator(tiering: &Tiering) {
    let Some(program) = c_program("own_malloc") else { return };
    repeated(|| drop(program.under(tiering).finish().succeeded_quietly()));
}
in_every_setup!(program_with_its_own_malloc, own_allocator);

/// A static program has no loader: the preload is no part of it, and nothing may go wrong.
#[test]
fn static_program_is_left_alone() {
    let Some(program) = c_program_with("model", &["-static"]) else { return };
    program.under(&Setup::TwoTiers.prepare()).args(["2", "20000"]).finish().succeeded_quietly();
}

/// rustc carries jemalloc inside and exports its malloc; libraries that it loads must use that one.
fn jemalloc_inside(tiering: &Tiering) {
    let Some(rustc) = find("rustc") else { return };
    let finished = tiermem_tests::Run::new(rustc).under(tiering).args(["--version", "--verbose"]).finish().succeeded();
    assert!(finished.text().contains("host: "), "{}", finished.describe());
}
in_every_setup!(rustc_with_jemalloc_inside, jemalloc_inside);

/// Another malloc is preloaded too; the first one named wins, and blocks never wander between the two.
#[test]
fn beside_another_preloaded_malloc() {
    const OTHER: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
    if !std::path::Path::new(OTHER).exists() {
        return skip("Debian's libjemalloc2 is not installed");
    }
    let Some(program) = c_program("model") else { return };
    let both = format!("{}:{OTHER}", preload().display());
    program.under(&Setup::TwoTiers.prepare()).env("LD_PRELOAD", both).args(["3", "30000"]).finish().succeeded_quietly();
}

/// Programs with rights that the caller has not: the loader ignores the preload, and the program runs.
#[test]
fn environment_survives_env_cleaning() {
    let Some(program) = c_program("model") else { return };
    let tiering = Setup::TwoTiers.prepare();
    // `env -i` starts the program without any of the variables: plain malloc, no complaint.
    tiermem_tests::Run::new("env")
        .under(&tiering)
        .arg("-i")
        .arg(program.path())
        .args(["2", "5000"])
        .finish()
        .succeeded_quietly();
}
