//! Memory really goes where the policy says: seen from outside in the kernel's own account of the process, and compared
//! with what the process publishes about itself.

use std::time::Duration;

use tiermem::control::{Attachment, Snapshot, TierUse};
use tiermem_tests::{Running, SlowFile, Tiering, c_program, smaps, wait_until};

const MIB: u64 = 1 << 20;

/// What the allocator may use beyond what was asked for: spans in the making, and what libc itself allocates.
const SLACK: u64 = 12 * MIB;

/// The program that does as it is told.
struct Placed {
    process: Running,
    answers: usize,
    file: std::path::PathBuf,
    control: std::path::PathBuf,
}

impl Placed {
    fn start(tiering: &Tiering) -> Option<Self> {
        let mut process = c_program("placed")?.under(tiering).limit(120).start();
        process.hear_containing("ready");
        let control = tiering.control_directory().join(process.pid().to_string());
        Some(Self { process, answers: 1, file: tiering.slow_file().unwrap_or_default(), control })
    }

    /// Gives a command and returns its answer.
    fn tell(&mut self, command: &str) -> i64 {
        self.process.say(command);
        self.answers += 1;
        let answer = self.process.hear_line(self.answers);
        answer.strip_prefix("done ").and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{command}: {answer}"))
    }

    #[track_caller]
    fn hold(&mut self, count: u64, size: u64) {
        let got = self.tell(&format!("hold {count} {size}"));
        assert_eq!(u64::try_from(got), Ok(count), "not all {count} blocks of {size} were allocated");
    }

    /// Bytes of the slow tier's file that are in the process's memory.
    fn on_slow(&self) -> u64 {
        smaps::of_file(self.process.pid(), &self.file).expect("the process is ours").resident
    }

    fn on_dram(&self) -> u64 {
        smaps::of_anonymous(self.process.pid()).expect("the process is ours").resident
    }

    /// What the process publishes, once `ready` holds of it.
    fn snapshot(&self, what: &str, ready: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let mut last = None;
        wait_until(what, Duration::from_secs(30), || {
            last = Attachment::open(&self.control).and_then(|segment| segment.read()).ok();
            last.as_ref().is_some_and(&ready)
        });
        last.expect("it was ready")
    }

    fn end(mut self) {
        self.tell("check");
        self.process.say("end");
        self.process.finish().succeeded_quietly();
    }
}

fn tier<'a>(snapshot: &'a Snapshot, name: &str) -> &'a TierUse {
    snapshot.tiers.iter().find(|tier| tier.name == name).unwrap_or_else(|| panic!("no tier {name}: {snapshot:?}"))
}

#[track_caller]
fn near(what: &str, got: u64, wanted: u64, slack: u64) {
    assert!(got.abs_diff(wanted) <= slack, "{what}: {} MiB, wanted {} ± {} MiB", got / MIB, wanted / MIB, slack / MIB);
}

/// A policy over one slow tier of 512 MiB; `rest` follows the tier's declaration.
fn policy(dram: &str, rest: &str) -> Tiering {
    let file = SlowFile::new();
    let source = format!("dax-file:{},size=512M", file.path().display());
    let text = format!("version = 1\n[tier.dram]\n{dram}\n[tier.slow]\nsource = \"{source}\"\n{rest}\n");
    Tiering::new(Some(file)).policy(&text)
}

#[test]
fn without_need_nothing_is_on_the_slow_tier() {
    let tiering = Tiering::with_slow_file("512M");
    let Some(mut program) = Placed::start(&tiering) else { return };
    program.hold(100_000, 500);
    program.hold(4, 4 << 20);
    assert_eq!(program.on_slow(), 0, "there was room on DRAM");
    near("DRAM", program.on_dram(), 50_000_000 + 16 * MIB + 64 * MIB, 80 * MIB);
    program.end();
}

/// 32 MiB on DRAM, the rest on the slow tier; the kernel and the process's own figures agree.
fn fills_then_spills(count: u64, size: u64) {
    let tiering = Tiering::with_slow_file("512M").limits("dram=32M");
    let Some(mut program) = Placed::start(&tiering) else { return };
    program.hold(count, size);
    let total = count * size;
    let slow = program.on_slow();
    assert!(slow >= total - 32 * MIB, "only {} MiB of {} on the slow tier", slow / MIB, total / MIB);
    assert!(slow <= total + total / 4 + SLACK, "{} MiB on the slow tier for {} MiB of blocks", slow / MIB, total / MIB);
    let seen = program
        .snapshot("figures that know all blocks", |s| s.tiers.iter().map(|tier| tier.live).sum::<u64>() >= total);
    assert!(tier(&seen, "dram").committed_max <= 32 * MIB, "the limit was passed: {:?}", tier(&seen, "dram"));
    assert!(tier(&seen, "dram").live > 8 * MIB, "DRAM was to be filled first: {:?}", tier(&seen, "dram"));
    assert!(
        tier(&seen, "slow").live <= slow + SLACK && tier(&seen, "slow").committed + SLACK >= slow,
        "{:?}",
        tier(&seen, "slow")
    );
    program.end();
}

#[test]
fn small_blocks_fill_dram_then_spill() {
    fills_then_spills(800_000, 200);
}

#[test]
fn medium_blocks_fill_dram_then_spill() {
    fills_then_spills(4_000, 40_000);
}

#[test]
fn large_blocks_fill_dram_then_spill() {
    fills_then_spills(40, 4 << 20);
}

#[test]
fn size_rule_sends_large_blocks_to_the_slow_tier() {
    let tiering = policy("", "[placement]\nchain = [\"dram\"]\n[[rule]]\nsize = \">= 64 KiB\"\ntier = \"slow\"");
    let Some(mut program) = Placed::start(&tiering) else { return };
    program.hold(50_000, 1_000);
    assert_eq!(program.on_slow(), 0, "small blocks are for DRAM");
    program.hold(500, 100_000);
    near("slow tier", program.on_slow(), 50 * MIB, 16 * MIB);
    program.hold(50, 1 << 20);
    near("slow tier", program.on_slow(), 100 * MIB, 24 * MIB);
    program.hold(50_000, 1_000);
    near("slow tier", program.on_slow(), 100 * MIB, 24 * MIB);
    program.end();
}

/// Two to one, three to one: by bytes, within a tenth of the whole.
fn interleave(dram: u64, slow: u64, count: u64, size: u64) {
    let rest = format!(
        "[placement]\nstrategy = \"interleave\"\nchain = [\"dram\", \"slow\"]\nweights = {{ dram = {dram}, slow = {slow} }}"
    );
    let tiering = policy("", &rest);
    let Some(mut program) = Placed::start(&tiering) else { return };
    program.hold(count, size);
    let total = count * size;
    near("slow tier's share", program.on_slow(), total * slow / (dram + slow), total / 10 + SLACK);
    program.end();
}

#[test]
fn interleaved_two_to_one_small() {
    interleave(2, 1, 800_000, 240);
}

#[test]
fn interleaved_one_to_one_medium() {
    interleave(1, 1, 4_000, 40_000);
}

#[test]
fn interleaved_one_to_three_large() {
    interleave(1, 3, 120, 2 << 20);
}

#[test]
fn hints_win_while_they_last() {
    let tiering = Tiering::with_slow_file("512M");
    let Some(mut program) = Placed::start(&tiering) else { return };
    program.hold(20_000, 1_000);
    assert_eq!(program.on_slow(), 0);
    assert_eq!(program.tell("hint nonsense"), -1, "there is no such tier");
    assert_eq!(program.tell("hint slow"), 0);
    program.hold(40_000, 1_000);
    near("slow tier under the hint", program.on_slow(), 38 * MIB, SLACK);
    let got = program.tell("thread 20000 1000");
    assert_eq!(got, 20_000);
    near("slow tier: a hint is its thread's own", program.on_slow(), 38 * MIB, SLACK);
    assert_eq!(program.tell("hint dram"), 0);
    program.hold(20_000, 1_000);
    near("slow tier: the inner hint wins", program.on_slow(), 38 * MIB, SLACK);
    assert_eq!(program.tell("unhint"), 0);
    program.hold(20_000, 1_000);
    near("slow tier: back to the outer hint", program.on_slow(), 57 * MIB, SLACK);
    assert_eq!(program.tell("unhint"), 0);
    program.hold(20_000, 1_000);
    near("slow tier: back to the policy", program.on_slow(), 57 * MIB, SLACK);
    program.end();
}

/// Both tiers full: null, and everything that was got stays whole; freed memory can be had again.
#[test]
fn limits_of_all_tiers_end_in_null() {
    let tiering = Tiering::with_slow_file("64M").limits("dram=32M");
    let Some(mut program) = Placed::start(&tiering) else { return };
    for _ in 0..3 {
        let got = u64::try_from(program.tell("hold 1000 1000000")).expect("a count") * 1_000_000;
        assert!(got < 98 * MIB, "{} MiB from 96", got / MIB);
        assert!(got > 56 * MIB, "only {} MiB from 96", got / MIB);
        program.tell("check");
        program.tell("free");
    }
    let seen =
        program.snapshot("an out-of-memory event", |s| s.events.iter().any(|e| e.kind.as_str() == "out-of-memory"));
    assert!(tier(&seen, "dram").committed_max <= 32 * MIB && tier(&seen, "slow").committed_max <= 64 * MIB, "{seen:?}");
    program.end();
}

#[test]
fn limit_of_the_only_tier_ends_in_null() {
    let tiering = Tiering::new(None).limits("dram=64M");
    let Some(mut program) = Placed::start(&tiering) else { return };
    let got = program.tell("hold 10000000 100");
    assert!((300_000..671_000).contains(&got), "{got} blocks of 100 bytes from 64 MiB");
    program.tell("free");
    program.hold(20, 1 << 20);
    program.end();
}

/// Freed memory goes back: to the OS on DRAM, to the file system on the slow tier, without further calls.
#[test]
fn freed_memory_is_given_back_while_the_program_idles() {
    let tiering = Tiering::with_slow_file("512M").limits("dram=64M");
    let Some(mut program) = Placed::start(&tiering) else { return };
    program.hold(500_000, 400);
    let held = (program.on_dram(), program.on_slow());
    assert!(held.1 > 100 * MIB, "{held:?}");
    program.tell("free");
    wait_until("the slow tier's memory to go back", Duration::from_secs(30), || program.on_slow() < 16 * MIB);
    // The program's own table of blocks stays: 64 MiB of address space, of which a tenth is in use.
    wait_until("DRAM to go back", Duration::from_secs(30), || program.on_dram() < 40 * MIB);
    program.end();
}

/// A fork with memory on the slow tier: the child's writes are its own, and the figures say that it happened.
#[test]
fn fork_leaves_the_slow_tiers_contents_alone() {
    let tiering = Tiering::with_slow_file("512M").limits("dram=8M");
    let Some(mut program) = Placed::start(&tiering) else { return };
    program.hold(100_000, 1_000);
    assert!(program.on_slow() > 80 * MIB);
    for _ in 0..5 {
        assert_eq!(program.tell("fork"), 0, "the child saw other contents");
    }
    program.end();
}

/// Two processes in one setup, one tier file by name: neither writes into the other's memory.
#[test]
fn processes_with_one_tier_file_do_not_meet() {
    let tiering = Tiering::with_slow_file("512M").limits("dram=8M");
    let (Some(mut one), Some(mut other)) = (Placed::start(&tiering), Placed::start(&tiering)) else { return };
    for _ in 0..3 {
        one.hold(20_000, 1_000);
        other.hold(20_000, 1_500);
        one.tell("check");
        other.tell("check");
    }
    one.end();
    other.tell("check");
    other.end();
}

/// What a process held on a tier is free again after its end, even a violent one: the next gets as much.
#[test]
fn memory_of_dead_processes_is_had_again() {
    let tiering = Tiering::with_slow_file("128M").limits("dram=8M");
    for _ in 0..3 {
        let Some(mut program) = Placed::start(&tiering) else { return };
        program.hold(90, 1 << 20);
        program.tell("check");
        drop(program); // kills it
    }
    let Some(mut program) = Placed::start(&tiering) else { return };
    program.hold(90, 1 << 20);
    program.end();
}
