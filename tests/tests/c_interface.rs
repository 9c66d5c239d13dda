//! `tiermem.h`, by a C program that includes it and links the library instead of having it preloaded.

use tiermem_tests::{Run, Tiering, c_program_with, preload};

/// The program, linked with the library under test.
fn hints() -> Option<Run> {
    let library = preload();
    let header = concat!(env!("CARGO_MANIFEST_DIR"), "/../allocator/include");
    // By its full path, whatever `TIERMEM_PRELOAD` calls it, and ahead of the source, which some linkers' defaults would
    // take for "not needed".
    let program = c_program_with("hints", &["-I", header, "-Wl,--no-as-needed", library.to_str()?])?;
    // cargo puts folders of its own into this variable, where an older build of the library may lie.
    Some(program.bare().env("LD_LIBRARY_PATH", library.parent()?))
}

#[test]
fn a_linked_program_places_by_hint() {
    let tiering = Tiering::with_slow_file("64M");
    let Some(program) = hints() else { return };
    let linked = tiering.environment().filter(|(name, _)| *name != "LD_PRELOAD");
    let finished = linked.fold(program, |run, (name, value)| run.env(name, value)).finish().succeeded_quietly();
    assert_eq!(
        finished.text(),
        "tm_malloc 1, malloc 0, hinted 1, after 0, of 2\nnothing to end: -1, no such tier: -1, not a block: -1\n"
    );
}

/// Negative control: where the tier is missing, the program is told.
#[test]
fn a_tier_that_is_not_there_has_no_number() {
    let Some(program) = hints() else { return };
    let finished = program.finish();
    assert!(finished.describe().contains("no tier slow among 1"), "{}", finished.describe());
}
