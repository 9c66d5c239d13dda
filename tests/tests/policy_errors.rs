//! Bad settings never stop a program: it runs on DRAM, exits as it would, and one clear line on standard error says what
//! is wrong.

use std::os::unix::fs::PermissionsExt;

use tiermem_tests::{
    Finished, Program, Run, Setup, SlowFile, Tiering, c_program, find, preload, run_as_nobody, scratch, skip,
};

fn allocating_program() -> Option<Program> {
    c_program("model")
}

fn run(tiering: &Tiering) -> Option<Finished> {
    Some(allocating_program()?.under(tiering).args(["2", "20000"]).finish())
}

/// The program ran to its end and heard one line that contains all of `words`.
#[track_caller]
fn one_line_with(finished: &Finished, words: &[&str]) {
    assert!(finished.status.success() && finished.text() == "ok\n", "{}", finished.describe());
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "not one line on standard error: {}", finished.describe());
    assert!(lines[0].starts_with("tiermem: "), "{}", lines[0]);
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is missing in: {}", lines[0]);
    }
}

fn with_policy(text: &str) -> Tiering {
    Tiering::new(None).policy(text)
}

#[test]
fn control_good_settings_are_silent() {
    for setup in [Setup::OneTier, Setup::TwoTiers, Setup::Tight, Setup::Interleaved] {
        let tiering = setup.prepare();
        let Some(finished) = run(&tiering) else { return };
        finished.succeeded_quietly();
    }
}

#[test]
fn policy_that_is_no_toml() {
    let Some(finished) = run(&with_policy("version = 1\n[placement\nstrategy = ???\n")) else { return };
    one_line_with(&finished, &["policy.toml:2", "DRAM"]);
}

#[test]
fn policy_of_binary_rubbish() {
    let tiering = with_policy("");
    let path = tiering.control_directory().join("policy.toml");
    let rubbish: Vec<u8> = (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(path, rubbish).expect("written");
    let Some(finished) = run(&tiering) else { return };
    one_line_with(&finished, &["policy.toml"]);
}

#[test]
fn policy_with_an_unknown_key() {
    let Some(finished) = run(&with_policy("version = 1\n[placement]\nstrateggy = \"fill\"\n")) else { return };
    one_line_with(&finished, &["policy.toml:3", "strateggy"]);
}

#[test]
fn policy_that_names_an_unknown_tier() {
    let Some(finished) = run(&with_policy("version = 1\n[[rule]]\nsize = \">= 1 MiB\"\ntier = \"slwo\"\n")) else {
        return;
    };
    one_line_with(&finished, &["policy.toml:4", "slwo"]);
}

#[test]
fn policy_with_a_cycle_in_its_spill_chain() {
    let text = "version = 1\n[tier.a]\nsource = \"dax-file:/dev/shm/none-a,size=64M\"\n\
                [tier.b]\nsource = \"dax-file:/dev/shm/none-b,size=64M\"\n\
                [placement]\nchain = [\"dram\"]\nspill = { dram = \"a\", a = \"b\", b = \"a\" }\n";
    let Some(finished) = run(&with_policy(text)) else { return };
    one_line_with(&finished, &["policy.toml:", "circle"]);
    assert!(!std::path::Path::new("/dev/shm/none-a").exists(), "a rejected policy must not make files");
}

#[test]
fn policy_limit_of_nothing() {
    let Some(finished) = run(&with_policy("version = 1\n[tier.dram]\nlimit = 0\n")) else { return };
    one_line_with(&finished, &["policy.toml:3", "limit"]);
}

#[test]
fn policy_file_missing() {
    let tiering = Tiering::new(None).set("TIERMEM_POLICY", "/nonexistent/policy.toml");
    let Some(finished) = run(&tiering) else { return };
    one_line_with(&finished, &["/nonexistent/policy.toml"]);
}

#[test]
fn policy_file_is_a_directory() {
    let Some(finished) = run(&Tiering::new(None).set("TIERMEM_POLICY", "/tmp")) else { return };
    one_line_with(&finished, &["/tmp"]);
}

#[test]
fn tier_spec_that_is_none() {
    for spec in ["slow", "slow=", "=dax-file:/dev/shm/x", "slow=floppy:/dev/fd0", "slow=dax-file:/dev/shm/x,size=many"]
    {
        let Some(finished) = run(&Tiering::new(None).tiers(spec)) else { return };
        one_line_with(&finished, &["tier"]);
    }
}

#[test]
fn tier_file_in_a_missing_directory() {
    let Some(finished) = run(&Tiering::new(None).tiers("slow=dax-file:/nonexistent/slow,size=64M")) else { return };
    one_line_with(&finished, &["slow"]);
}

#[test]
fn tier_of_a_device_that_is_not_there() {
    let Some(finished) = run(&Tiering::new(None).tiers("slow=devdax:/dev/dax99.0")) else { return };
    one_line_with(&finished, &["slow"]);
}

#[test]
fn tier_file_too_small() {
    let file = SlowFile::new();
    std::fs::write(file.path(), vec![0; 4096]).expect("written");
    let spec = format!("slow=dax-file:{}", file.path().display());
    let Some(finished) = run(&Tiering::new(Some(file)).tiers(&spec)) else { return };
    one_line_with(&finished, &["slow"]);
}

#[test]
fn tier_of_no_size() {
    let file = SlowFile::new();
    let spec = format!("slow=dax-file:{},size=0", file.path().display());
    let Some(finished) = run(&Tiering::new(Some(file)).tiers(&spec)) else { return };
    one_line_with(&finished, &["size"]);
}

#[test]
fn limit_of_nothing_or_of_an_unknown_tier_or_no_number() {
    for (limits, word) in [("dram=0", "dram=0"), ("drum=1G", "drum"), ("dram=lots", "lots"), ("dram", "dram")] {
        let Some(finished) = run(&Tiering::new(None).limits(limits)) else { return };
        one_line_with(&finished, &[word]);
    }
}

/// Several mistakes: each one gets its line, and the program runs all the same.
#[test]
fn everything_wrong_at_once() {
    let tiering = with_policy("nonsense").tiers("slow;fast=dax-file:/nonexistent/x,size=1G").limits("x=1;y=0");
    let Some(finished) = run(&tiering) else { return };
    assert!(finished.status.success() && finished.text() == "ok\n", "{}", finished.describe());
    assert!(finished.stderr.lines().count() >= 4, "{}", finished.describe());
    assert!(finished.stderr.lines().all(|line| line.starts_with("tiermem: ")), "{}", finished.describe());
}

#[test]
fn exit_codes_and_signals_are_the_programs_own() {
    let tiering = with_policy("nonsense");
    for code in [0, 1, 42, 255] {
        let finished = Run::new("sh").args(["-c", &format!("exit {code}")]).under(&tiering).finish();
        assert_eq!(finished.status.code(), Some(code), "{}", finished.describe());
    }
    let finished = Run::new("sh").args(["-c", "kill -TERM $$"]).under(&tiering).finish();
    assert_eq!(finished.killed_by(), Some(15), "{}", finished.describe());
}

/// The tier's file belongs to someone else.
#[test]
fn no_rights_on_the_tier_file() {
    let Some(program) = allocating_program() else { return };
    // nobody cannot reach a private home directory, so library and program are copied to where all may read.
    let folder = scratch();
    let open =
        |path: &std::path::Path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("our own");
    open(folder.path());
    let (library, copy) = (folder.path().join("libtiermem.so"), folder.path().join("program"));
    std::fs::copy(preload(), &library).expect("copied");
    std::fs::copy(program.path(), &copy).expect("copied");
    let Some(command) = run_as_nobody(&copy) else { return };
    let private = folder.path().join("private");
    std::fs::write(&private, vec![0; 64 << 20]).expect("written");
    std::fs::set_permissions(&private, PermissionsExt::from_mode(0o600)).expect("our own");
    let tiering = Tiering::new(None)
        .tiers(&format!("slow=dax-file:{},size=64M", private.display()))
        .set("LD_PRELOAD", &library)
        .set("TIERMEM_CONTROL_DIR", "");
    let finished = Run::of(command).under(&tiering).args(["2", "20000"]).finish();
    one_line_with(&finished, &["slow", "rights"]);
}

/// A file system too small for its tier. Either the tier is refused, or what fits is used and the rest spills; what must
/// never come is a SIGBUS.
#[test]
fn tier_on_a_file_system_that_fills_up() {
    let (Some(program), Some(_)) = (allocating_program(), find("mount")) else { return };
    let folder = scratch();
    // A mount namespace of its own: nothing is left mounted, whatever happens.
    let probe =
        Run::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "-o", "size=8M", "none"]).arg(folder.path());
    if !probe.finish().status.success() {
        return skip("no right to mount a tmpfs in a namespace");
    }
    for (limit, size) in [("dram=4M", "1G"), ("dram=1G", "6M"), ("dram=4M", "8M")] {
        let script = "mount -t tmpfs -o size=8M none \"$0\" && export LD_PRELOAD=\"$2\" && exec \"$1\" 4 60000";
        let tiering = Tiering::new(None)
            .tiers(&format!("slow=dax-file:{}/slow,size={size}", folder.path().display()))
            .limits(limit)
            .set("LD_PRELOAD", "");
        let finished = Run::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(folder.path())
            .arg(program.path())
            .arg(preload())
            .under(&tiering)
            .limit(120)
            .finish();
        assert_eq!(finished.killed_by(), None, "size {size}, limit {limit}: {}", finished.describe());
        // With DRAM limited too, memory may end; the program then says that it got null.
        let honest = finished.status.success() || finished.stderr.contains("no memory");
        assert!(honest, "size {size}, limit {limit}: {}", finished.describe());
        assert!(limit != "dram=1G" || finished.status.success(), "DRAM had room: {}", finished.describe());
    }
}

/// Without any setting at all.
#[test]
fn nothing_but_the_preload() {
    let Some(program) = allocating_program() else { return };
    Run::new(program.path()).preloading(preload()).args(["4", "40000"]).finish().succeeded_quietly();
}

/// The control directory cannot be used: the process goes unwatched, and runs.
#[test]
fn control_directory_missing() {
    let tiering = Tiering::new(None).set("TIERMEM_CONTROL_DIR", "/nonexistent/control");
    let Some(finished) = run(&tiering) else { return };
    assert!(finished.status.success(), "{}", finished.describe());
}
