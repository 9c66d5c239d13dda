//! An emulated machine breaks, and is healed, under programs that run on it already.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tiermem_emulator::tier::registry::Registry;
use tiermem_emulator::tier::{Machine, Options, Scale};
use tiermem_tests::{Program, Running, Tiering, c_program};
use tiermem_topology::Topology;

const LINK_DOWN: &str = "version = 1\n[[fault]]\nkind = \"link-down\"\nat_time = \"0 ns\"\n";

/// A machine of its own, gone at the end, and a program with all that is large on its one tier.
struct Stage {
    folder: TempDir,
    machine: Machine,
    tiering: Tiering,
    program: Program,
}

impl Stage {
    /// `None`, said aloud, without a C compiler.
    fn set() -> Option<Self> {
        let program = c_program("breaking")?;
        let folder = tempfile::tempdir_in("/dev/shm").expect("/dev/shm can be written");
        let topology = Topology::shipped("one-expander").expect("it is shipped");
        let scale = Scale::parse("1/8").expect("a scale");
        let options = Options { name: None, host: None, dir: Some(folder.path()), scale };
        let machine = registry(&folder).create(&topology, &options).expect("a machine");
        let tier = machine.tiers[0].file().expect("a file").display().to_string();
        let policy = format!(
            "version = 1\n[tier.slow]\nsource = \"dax-file:{tier}\"\n[[rule]]\nsize = \">= 1 MiB\"\ntier = \"slow\"\n"
        );
        Some(Self { folder, machine, tiering: Tiering::new(None).policy(&policy), program })
    }

    fn start(&self, how: &str) -> Running {
        let mut running = self.program.under(&self.tiering).arg(how).start();
        running.hear_containing("parent: 0 bad");
        running
    }

    fn breaks(&self, plan: &str) {
        self.machine.attach_faults(plan, "plan.toml").expect("a plan");
    }

    fn kept(&self) -> std::path::PathBuf {
        let mut name = self.machine.tiers[0].file().expect("a file").as_os_str().to_owned();
        name.push(".faults");
        name.into()
    }
}

fn registry(folder: &TempDir) -> Registry {
    Registry::at(folder.path().join("user"))
}

/// Waits until the program has said these words `count` times.
fn hear_again(running: &mut Running, words: &str, count: usize) {
    while running.heard().lines().filter(|line| *line == words).count() < count {
        running.wait_a_little(&format!("`{words}` {count} times"));
    }
}

#[test]
fn a_plan_reaches_a_program_that_asks_for_nothing_and_a_heal_ends_it() {
    let Some(stage) = Stage::set() else { return };
    let mut running = stage.start("alone");
    for turn in 1..=3 {
        stage.breaks(LINK_DOWN);
        hear_again(&mut running, "parent: 6 bad", turn);
        stage.machine.heal().expect("healed");
        hear_again(&mut running, "parent: 0 bad", turn + 1);
    }
    // What one plan began, another one ends; poison stays where it is.
    stage.breaks(LINK_DOWN);
    hear_again(&mut running, "parent: 6 bad", 4);
    stage.breaks("version = 1\n[[fault]]\nkind = \"poison\"\nat_time = \"1 ms\"\nextent = 0\noffset = 0\n");
    running.hear_containing("parent: 1 bad");
    stage.machine.heal().expect("healed");
    assert_eq!(running.finish().succeeded_quietly().text().lines().last(), Some("end"));
}

#[test]
fn a_plan_reaches_a_child_of_fork() {
    let Some(stage) = Stage::set() else { return };
    let mut running = stage.start("forked");
    running.hear_containing("child: 0 bad");
    for turn in 1..=2 {
        stage.breaks(LINK_DOWN);
        for who in ["parent", "child"] {
            hear_again(&mut running, &format!("{who}: 6 bad"), turn);
        }
        stage.machine.heal().expect("healed");
        for who in ["parent", "child"] {
            hear_again(&mut running, &format!("{who}: 0 bad"), turn + 1);
        }
    }
    running.finish().succeeded_quietly();
}

/// The program is told on one line, keeps what was in force, and takes the next good plan.
#[test]
fn a_damaged_plan_is_one_line_and_no_harm() {
    let Some(stage) = Stage::set() else { return };
    let kept = stage.kept();
    let mut running = stage.start("alone");
    stage.breaks(LINK_DOWN);
    hear_again(&mut running, "parent: 6 bad", 1);
    let good = fs::read(&kept).expect("it is kept");
    overwrite(&kept, &[good.as_slice(), b"and more"].concat()[8..]);
    while running.complaints().is_empty() {
        running.wait_a_little("a complaint");
    }
    stage.machine.heal().expect("healed");
    hear_again(&mut running, "parent: 0 bad", 2);
    // Cut to nothing: a load from a mapping of it would have been a signal.
    fs::File::options().write(true).open(&kept).and_then(|file| file.set_len(0)).expect("it can be cut");
    while running.complaints().lines().count() < 2 {
        running.wait_a_little("a second complaint");
    }
    stage.breaks(LINK_DOWN);
    hear_again(&mut running, "parent: 6 bad", 2);
    stage.machine.heal().expect("healed");
    hear_again(&mut running, "parent: 0 bad", 3);
    let finished = running.finish().succeeded();
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", finished.describe());
    let whole = |line: &&str| line.starts_with("tiermem: tier slow: ") && line.ends_with("or another plan");
    assert!(lines.iter().all(whole), "{}", finished.describe());
}

#[test]
fn a_machine_that_is_destroyed_meanwhile_leaves_its_users_alone() {
    let Some(stage) = Stage::set() else { return };
    let mut running = stage.start("forked");
    stage.breaks(LINK_DOWN);
    hear_again(&mut running, "parent: 6 bad", 1);
    stage.machine.heal().expect("healed");
    hear_again(&mut running, "parent: 0 bad", 2);
    registry(&stage.folder).destroy(&stage.machine.name, true).expect("destroyed");
    std::thread::sleep(std::time::Duration::from_millis(400));
    running.finish().succeeded_quietly();
}

/// Negative control: a tier beside which nothing is kept is not reached, whatever its machine says.
#[test]
fn without_the_file_nothing_is_reached() {
    let Some(stage) = Stage::set() else { return };
    fs::remove_file(stage.kept()).expect("it was there");
    let running = stage.start("alone");
    stage.breaks(LINK_DOWN);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let text = running.finish().succeeded_quietly().text();
    assert_eq!(text, "parent: 0 bad\nend\n");
}

fn overwrite(path: &Path, with: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(path).expect("it can be written");
    file.write_all_at(with, 0).expect("it can be written");
}
