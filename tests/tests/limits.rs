//! Limits on memory: where it ends, the answer is null and `ENOMEM`, and the program goes on.

use std::fs;
use std::path::{Path, PathBuf};

use tiermem_tests::{Program, Run, Setup, Tiering, c_program, in_every_setup, scaled, skip};

/// The program under a shell's limit (`-v`: address space, `-d`: data), which holds from its first instruction on.
fn limited(program: &Program, option: &str, kilobytes: u64, least_mib: u64) -> Run {
    let command = format!("ulimit {option} {kilobytes}; exec \"$0\" {least_mib} {}", scaled(1));
    Run::new("sh").args(["-c", &command]).arg(program.path()).limit(120)
}

/// `RLIMIT_DATA`: the kernel counts private writable memory, so file tiers are not under it, and reserved addresses neither.
#[test]
fn data_limit() {
    let Some(program) = c_program("memory_limit") else { return };
    limited(&program, "-d", 500_000, 200).under(&Setup::OneTier.prepare()).finish().succeeded_quietly();
}

#[test]
fn address_space_limit() {
    let Some(program) = c_program("memory_limit") else { return };
    limited(&program, "-v", 700_000, 200).under(&Setup::OneTier.prepare()).finish().succeeded_quietly();
}

/// Under a limit on data, what DRAM cannot give comes from the slow tier, and its end is the end.
fn with_a_full_slow_tier(limits: &str) -> Tiering {
    Tiering::with_slow_file("96M").limits(limits)
}

#[test]
fn data_limit_with_a_slow_tier() {
    let Some(program) = c_program("memory_limit") else { return };
    limited(&program, "-d", 400_000, 150).under(&with_a_full_slow_tier("dram=1G")).finish().succeeded_quietly();
}

/// The allocator's own limits, with which nothing else of the system is short.
#[test]
fn own_limits() {
    let Some(program) = c_program("memory_limit") else { return };
    let run = |tiering: &Tiering, least: &str| {
        program.under(tiering).args([least, &scaled(2)]).limit(120).finish().succeeded_quietly();
    };
    run(&Setup::OneTier.prepare().limits("dram=128M"), "90");
    run(&with_a_full_slow_tier("dram=64M"), "90");
}

/// A control group with a limit on memory, removed when dropped.
struct Group(PathBuf);

impl Group {
    /// Below this process's own group, in version 2 or 1 of the interface. Says why where it cannot be made.
    fn new(bytes: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        // "0::/path" is version 2, "4:memory:/path" version 1.
        let made = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (root, file) = match parts.next()? {
                "" => ("/sys/fs/cgroup", "memory.max"),
                "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                _ => return None,
            };
            // In a container the path may be the host's: then the group is made at the top of what is seen.
            let below = Path::new(root).join(parts.next()?.trim_start_matches('/'));
            let parent = if below.is_dir() { below } else { root.into() };
            let group = parent.join(format!("tiermem-test-{}-{bytes}", std::process::id()));
            fs::create_dir(&group).ok()?;
            let group = Self(group);
            fs::write(group.0.join(file), bytes.to_string()).is_ok().then_some(group)
        });
        if made.is_none() {
            skip("no control group with a limit on memory can be made here (needs root and the memory controller)");
        }
        made
    }

    /// A run of the program inside.
    fn run(&self, program: &Program, args: &str) -> Run {
        let processes = self.0.join("cgroup.procs");
        let command = format!("echo $$ > {} && exec \"$0\" {args}", processes.display());
        Run::new("sh").args(["-c", &command]).arg(program.path()).limit(120)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // An empty group that stays behind harms nobody, and a panic here would hide the test's own.
        let _ = fs::remove_dir(&self.0);
    }
}

const GROUP_BYTES: u64 = 512 << 20;

/// A limit for the tier below that of the group, as the manual advises: null at the limit, and the kernel kills nobody.
#[test]
fn control_group_with_a_limit_below_it() {
    let Some(program) = c_program("memory_limit") else { return };
    let Some(group) = Group::new(GROUP_BYTES) else { return };
    let tiering = Setup::OneTier.prepare().limits("dram=400M");
    group.run(&program, &format!("300 {}", scaled(1))).under(&tiering).finish().succeeded_quietly();
}

/// The kernel ends whatever goes over a group's limit. So the allocator must know the limit and say no before.
#[test]
fn control_group_alone() {
    let Some(program) = c_program("memory_limit") else { return };
    let Some(group) = Group::new(GROUP_BYTES) else { return };
    group.run(&program, "200 1").under(&Setup::OneTier.prepare()).finish().succeeded_quietly();
}

/// Limits that leave room for the program and little else, and one that leaves none at all: then every block is refused,
/// and setting up must not end the process (it did, in the standard library, before `main`).
fn hardly_any(tiering: &Tiering) {
    let Some(program) = c_program("contract") else { return };
    let own = program.path().to_string_lossy();
    for (kilobytes, command) in [(200_000, &*own), (50_000, &own), (10_000, &own), (2_000, "true")] {
        let command = format!("ulimit -d {kilobytes}; exec {command} overflow");
        let finished = Run::new("sh").args(["-c", &command]).under(tiering).finish();
        assert_eq!(finished.killed_by(), None, "with {kilobytes} KiB of data: {}", finished.describe());
    }
}
in_every_setup!(hardly_any_data, hardly_any);
