//! Emulated machines come, are shared, survive their users, and go without a trace.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tiermem_emulator::tier::registry::Registry;
use tiermem_emulator::tier::{CreateError, EmulatedTier, Options, Scale, State};
use tiermem_tiers::provider::fault::Clock;
use tiermem_tiers::{Bytes, ErrorKind, Extent, GRANULE, Health, Provenance, Provider, Source, TierId};
use tiermem_topology::{SHIPPED, Topology};

const PLAIN: Options<'static> = Options { name: None, host: None, dir: None, scale: Scale::WHOLE };

fn left_in(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, |entries| entries.count())
}

#[test]
fn every_shipped_topology_is_made_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let top = home.path().join("user");
    let registry = Registry::at(&top);
    for (name, _) in SHIPPED {
        let topology = Topology::shipped(name).unwrap();
        let scale = Scale::parse("1/16").unwrap();
        let machine = registry.create(&topology, &Options { scale, ..PLAIN }).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(matches!(registry.find(name), Some(State::Ready(found)) if *found == machine));
        assert!(matches!(registry.create(&topology, &PLAIN), Err(CreateError::Exists(_))));
        registry.destroy(name, false).unwrap();
        assert!(registry.find(name).is_none());
        assert_eq!((left_in(&top), left_in(&top.join("emulated"))), (1, 0), "{name}");
    }
}

#[test]
fn a_tier_has_its_profiles_figures_and_keeps_what_is_written() {
    let home = tempfile::tempdir().unwrap();
    let top = home.path().join("user");
    let registry = Registry::at(&top);
    let machine = registry.create(&Topology::shipped("switch-one").unwrap(), &PLAIN).unwrap();
    let tier = EmulatedTier::open(&machine.tiers[0], TierId(0)).unwrap();
    let latency = tier.tier().attributes.read_latency_ns.unwrap();
    assert_eq!(latency.source, Source::Emulated);
    assert!(latency.value > 250.0, "device, link and switch: {}", latency.value);
    let extent = tier.reserve(GRANULE, Provenance::Tool).unwrap();
    tier.write(&extent, 7, b"kept").unwrap();
    let mut back = [0; 4];
    tier.read(&extent, 7, &mut back).unwrap();
    assert_eq!(&back, b"kept");
    tier.release(extent).unwrap();
}

/// The tier behind it can set space aside; for a while an emulated tier did not pass this on.
#[test]
fn what_is_set_aside_is_not_handed_out_again_until_it_is_repaired() {
    let home = tempfile::tempdir().unwrap();
    let top = home.path().join("user");
    let machine = Registry::at(&top).create(&Topology::shipped("one-expander").unwrap(), &PLAIN).unwrap();
    let tier = EmulatedTier::open(&machine.tiers[0], TierId(0)).unwrap();
    let extent = tier.reserve(GRANULE, Provenance::Tool).unwrap();
    tier.quarantine(&extent, 100).unwrap();
    tier.release(extent).unwrap();
    assert_eq!((tier.quarantined(), tier.health()), (GRANULE, Health::Degraded));
    let whole = tier.usage().capacity;
    assert!(matches!(tier.reserve(whole, Provenance::Tool).unwrap_err().kind(), ErrorKind::Full { .. }));
    assert_eq!(tier.repair().unwrap(), GRANULE);
    let all = tier.reserve(whole, Provenance::Tool).unwrap();
    assert_eq!(tier.quarantined(), Bytes::ZERO);
    tier.release(all).unwrap();
}

#[test]
fn a_truncated_file_is_an_error_and_no_signal() {
    let home = tempfile::tempdir().unwrap();
    let top = home.path().join("user");
    let registry = Registry::at(&top);
    let machine = registry.create(&Topology::shipped("one-expander").unwrap(), &PLAIN).unwrap();
    let tier = EmulatedTier::open(&machine.tiers[0], TierId(0)).unwrap();
    let extent = tier.reserve(GRANULE, Provenance::Tool).unwrap();
    tier.write(&extent, 0, b"x").unwrap();
    assert_eq!(tier.health(), Health::Good);
    fs::OpenOptions::new().write(true).open(machine.tiers[0].file().unwrap()).unwrap().set_len(0).unwrap();
    let mut byte = [0];
    assert_eq!(tier.read(&extent, 0, &mut byte).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(tier.write(&extent, 0, b"y").unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(tier.reserve(GRANULE, Provenance::Tool).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(tier.health(), Health::Failed);
}

#[test]
fn too_large_is_refused_before_anything_is_made() {
    let home = tempfile::tempdir().unwrap();
    let top = home.path().join("user");
    let registry = Registry::at(&top);
    let scale = Scale::parse("1000000").unwrap();
    let refused = registry.create(&Topology::shipped("one-expander").unwrap(), &Options { scale, ..PLAIN });
    assert!(matches!(refused, Err(CreateError::NoSpace { .. })), "{refused:?}");
    assert_eq!((left_in(&top), left_in(&top.join("emulated"))), (1, 0));
}

/// A file system of this many MiB that is gone afterwards; `None`, said aloud, where mounting is not allowed.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(mib: u32, test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        let size = format!("size={mib}M");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        eprintln!("SKIP {test}: mounting a tmpfs needs root");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.path().display());
    }
}

/// Files take their space as it is used. What one machine was promised, another one must not be promised again.
#[test]
fn machines_together_are_promised_no_more_than_there_is() {
    let Some(small) = Mounted::new(40, "machines_together_are_promised_no_more_than_there_is") else { return };
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::at(home.path().join("user"));
    let topology = Topology::shipped("one-expander").unwrap();
    let scale = Scale::parse("1/16").unwrap(); // 512 MiB become 32.
    let options = |name| Options { name: Some(name), host: None, dir: Some(small.0.path()), scale };
    registry.create(&topology, &options("first")).unwrap();
    let refused = registry.create(&topology, &options("second"));
    let Err(CreateError::NoSpace { promised, .. }) = &refused else { panic!("{refused:?}") };
    assert!(*promised > Bytes::mib(30), "{promised}");
    assert!(refused.unwrap_err().to_string().contains("other emulated machines were promised"));
    registry.destroy("first", false).unwrap();
    registry.create(&topology, &options("second")).unwrap();
    registry.destroy("second", false).unwrap();
    assert_eq!(left_in(small.0.path()), 0);
}

/// Somebody else fills the file system after the machine was made: an error where space is reserved, no signal later.
#[test]
fn a_file_system_that_fills_up_is_an_error_and_no_signal() {
    let Some(small) = Mounted::new(40, "a_file_system_that_fills_up_is_an_error_and_no_signal") else { return };
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::at(home.path().join("user"));
    let scale = Scale::parse("1/16").unwrap();
    let options = Options { name: None, host: None, dir: Some(small.0.path()), scale };
    let machine = registry.create(&Topology::shipped("one-expander").unwrap(), &options).unwrap();
    let tier = EmulatedTier::open(&machine.tiers[0], TierId(0)).unwrap();
    fs::write(small.0.path().join("somebody's"), vec![1; 30 << 20]).unwrap();
    let mut held = Vec::new();
    let full = loop {
        match tier.reserve(GRANULE, Provenance::Tool) {
            Ok(extent) => {
                // All of it can be written, by a plain store as well.
                let at = extent.address().unwrap();
                assert_eq!(at.addr().get() % 4096, 0);
                tier.write(&extent, 0, &vec![1; usize::try_from(GRANULE.0).unwrap()]).unwrap();
                held.push(extent);
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(full.kind(), ErrorKind::Full { .. }), "{full}");
    assert!((2..=5).contains(&held.len()), "{} extents in 10 MiB", held.len());
    held.into_iter().for_each(|extent| tier.release(extent).unwrap());
    drop(tier);
    registry.destroy(&machine.name, false).unwrap();
}

/// The plan stays with the machine: whoever opens a tier meets it, a link that is down gives an error, and a heal ends it.
#[test]
fn a_machine_with_a_plan_is_broken_until_it_is_healed() {
    let home = tempfile::tempdir().unwrap();
    let top = home.path().join("user");
    let registry = Registry::at(&top);
    let machine = registry.create(&Topology::shipped("one-expander").unwrap(), &PLAIN).unwrap();
    let plan = "version = 1\n[[fault]]\nkind = \"link-down\"\nat_operation = 3\nfor_operations = 2\n\
                [[fault]]\nkind = \"poison\"\nat_operation = 6\nextent = 0\noffset = 8192\n";
    machine.attach_faults(plan, "plan.toml").unwrap();
    assert!(machine.has_faults());
    let open = || machine.open(&machine.tiers[0], TierId(0), Clock::Virtual).unwrap();
    for _ in 0..2 {
        let tier = open();
        let extent = tier.reserve(GRANULE, Provenance::Tool).unwrap();
        tier.write(&extent, 0, b"kept").unwrap();
        let mut byte = [0; 4];
        assert_eq!(tier.read(&extent, 0, &mut byte).unwrap_err().kind(), ErrorKind::Gone);
        assert_eq!(tier.write(&extent, 0, b"lost").unwrap_err().kind(), ErrorKind::Gone);
        tier.read(&extent, 0, &mut byte).unwrap();
        assert_eq!(&byte, b"kept");
        let poisoned = tier.read(&extent, 8192, &mut byte).unwrap_err().kind();
        assert!(matches!(poisoned, ErrorKind::Poisoned { offset: 8192, .. }), "{poisoned:?}");
        tier.release(extent).unwrap();
    }
    let plain = EmulatedTier::open(&machine.tiers[0], TierId(1)).unwrap();
    assert_eq!((plain.quarantined(), plain.health()), (Bytes(2 * GRANULE.0), Health::Degraded));
    assert_eq!(machine.heal().unwrap(), [("cxl0".to_owned(), Bytes(2 * GRANULE.0))]);
    assert_eq!((plain.quarantined(), plain.health(), machine.has_faults()), (Bytes::ZERO, Health::Good, false));
    let tier = open();
    let extent = tier.reserve(GRANULE, Provenance::Tool).unwrap();
    for _ in 0..10 {
        tier.write(&extent, 8192, b"good").unwrap();
    }
    tier.release(extent).unwrap();
    for (text, word) in [
        (
            "version = 1\n[[fault]]\nkind = \"full\"\ntier = \"dram\"\nat_operation = 1\n",
            "the tiers of one-expander are cxl0",
        ),
        ("version = 1\n[[fault]]\nkind = \"crash\"\nat_persist_point = 1\n", "persistent data"),
        ("version = 1\n[[fault]]\nkind = \"fool\"\n", "plan.toml:3:8"),
    ] {
        let error = machine.attach_faults(text, "plan.toml").unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    // With a plan, nothing is left behind either.
    machine.attach_faults(plan, "plan.toml").unwrap();
    drop((tier, plain));
    registry.destroy("one-expander", false).unwrap();
    assert_eq!((left_in(&top), left_in(&top.join("emulated"))), (1, 0));
}

/// Waits until `what` is so; gives up after a minute, which is no measure of how long it may take.
#[track_caller]
fn becomes(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never became so");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Nobody asks anything of the tier meanwhile: it breaks and is healed all the same.
#[test]
fn a_plan_reaches_a_tier_that_is_open_and_idle() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::at(home.path().join("user"));
    let machine = registry.create(&Topology::shipped("one-expander").unwrap(), &PLAIN).unwrap();
    let tier = machine.open(&machine.tiers[0], TierId(0), Clock::Wall).unwrap();
    let extent = tier.reserve(GRANULE, Provenance::Tool).unwrap();
    tier.write(&extent, 0, b"kept").unwrap();
    let can_be_loaded = || memory_is_mapped_readable(&extent);
    assert!(can_be_loaded());
    for _ in 0..2 {
        let plan = "version = 1\n[[fault]]\nkind = \"link-down\"\ntier = \"cxl0\"\nat_time = \"5 ms\"\n";
        machine.attach_faults(plan, "plan.toml").unwrap();
        becomes(|| !can_be_loaded());
        machine.heal().unwrap();
        becomes(can_be_loaded);
    }
    let mut back = [0; 4];
    tier.read(&extent, 0, &mut back).unwrap();
    assert_eq!(&back, b"kept");
    tier.release(extent).unwrap();
    // The thread that looked ends with the tier, at once: nobody is left who uses the machine.
    drop(tier);
    assert!(!has_thread("tiermem-faults"));
    registry.destroy("one-expander", false).unwrap();
}

/// Whether the kernel lets this process read there (`/proc/self/maps`); no operation on the tier.
fn memory_is_mapped_readable(extent: &Extent) -> bool {
    let at = extent.address().expect("it is addressable").addr().get();
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc is there");
    let covers = |line: &&str| {
        let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
        let (start, end) = range.expect("a line begins with a range");
        let [start, end] = [start, end].map(|number| usize::from_str_radix(number, 16).expect("hexadecimal"));
        (start..end).contains(&at)
    };
    maps.lines().find(covers).is_some_and(|line| line.contains(" r"))
}

fn has_thread(name: &str) -> bool {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is there").flatten();
    tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).any(|found| found.trim() == name)
}

/// With a virtual clock there is no thread: the plan comes with the next operation, and time is the model's.
#[test]
fn a_plan_reaches_a_busy_tier_with_its_next_operation() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::at(home.path().join("user"));
    let machine = registry.create(&Topology::shipped("one-expander").unwrap(), &PLAIN).unwrap();
    let tier = machine.open(&machine.tiers[0], TierId(0), Clock::Virtual).unwrap();
    let extent = tier.reserve(GRANULE, Provenance::Tool).unwrap();
    (0..20).for_each(|_| tier.write(&extent, 0, b"kept").unwrap());
    let plan = "version = 1\n[[fault]]\nkind = \"io-error\"\nat_operation = 2\nfor_operations = 1\n\
                [[fault]]\nkind = \"slow\"\nfactor = 3\nat_time = \"10 ns\"\n";
    assert_eq!(tier.slowdown_at(1000), 1.0);
    machine.attach_faults(plan, "plan.toml").unwrap();
    let writes: Vec<bool> = (0..3).map(|_| tier.write(&extent, 0, b"kept").is_ok()).collect();
    assert_eq!(writes, [true, false, true]);
    assert_eq!((tier.slowdown_at(1009), tier.slowdown_at(1010)), (1.0, 3.0));
    machine.heal().unwrap();
    assert_eq!(tier.slowdown_at(1011), 1.0);
    tier.release(extent).unwrap();
}

#[test]
fn what_is_kept_and_damaged_is_said_with_the_way_out() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::at(home.path().join("user"));
    let machine = registry.create(&Topology::shipped("one-expander").unwrap(), &PLAIN).unwrap();
    fs::write(machine.folder.join("cxl0.faults"), "TMFAULTS, but not one").unwrap();
    assert!(machine.has_faults());
    let error = machine.open(&machine.tiers[0], TierId(0), Clock::Wall).err().unwrap().to_string();
    assert!(error.contains("damaged") && error.contains("tierctl emulate heal one-expander"), "{error}");
    machine.heal().unwrap();
    assert!(!machine.has_faults());
    drop(machine.open(&machine.tiers[0], TierId(0), Clock::Virtual).unwrap());
    let many = format!("version = 1\n{}", "[[fault]]\nkind = \"full\"\nat_operation = 9\n".repeat(65));
    let error = machine.attach_faults(&many, "plan.toml").unwrap_err().to_string();
    assert!(error.contains("65 faults") && error.contains("64 at a time"), "{error}");
    assert!(!machine.has_faults());
}

#[test]
fn what_a_dead_creator_left_is_swept() {
    let home = tempfile::tempdir().unwrap();
    let top = home.path().join("user");
    let registry = Registry::at(&top);
    let topology = Topology::shipped("one-expander").unwrap();
    let machine = registry.create(&topology, &PLAIN).unwrap();
    let text = fs::read_to_string(machine.folder.join("emulated.json")).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["creator"] = serde_json::json!({ "pid": 4_000_000, "start_time": 1 });
    fs::write(machine.folder.join("emulated.json"), record.to_string()).unwrap();
    // As if its creator had died before the last link.
    let links = top.join("emulated");
    fs::rename(links.join("one-expander"), links.join(".making-4000000-1")).unwrap();
    assert!(registry.find("one-expander").is_none());
    registry.create(&topology, &PLAIN).unwrap();
    registry.destroy("one-expander", false).unwrap();
    assert_eq!((left_in(&top), left_in(&links)), (1, 0));
}

/// The part of a user that is killed; does something only where the test below starts it.
#[test]
fn user_of_a_tier() {
    let Some(top) = std::env::var_os("TIERMEM_TEST_TOP") else { return };
    let Some(State::Ready(machine)) = Registry::at(top).find("one-expander") else { panic!("no machine") };
    let tier = EmulatedTier::open(&machine.tiers[0], TierId(0)).unwrap();
    let extent = tier.reserve(Bytes::mib(64), Provenance::Tool).unwrap();
    tier.write(&extent, 0, b"mine").unwrap();
    println!("\nholds");
    std::thread::sleep(std::time::Duration::from_secs(600));
}

#[test]
fn a_killed_user_leaves_its_space_and_its_name_behind_no_longer() {
    let home = tempfile::tempdir().unwrap();
    let top = home.path().join("user");
    let registry = Registry::at(&top);
    let machine = registry.create(&Topology::shipped("one-expander").unwrap(), &PLAIN).unwrap();
    let mut user = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "user_of_a_tier", "--nocapture"])
        .env("TIERMEM_TEST_TOP", &top)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(user.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "holds"), "the user did not start");
    let refused = registry.destroy("one-expander", false);
    let Err(CreateError::InUse(users)) = refused else { panic!("{refused:?}") };
    assert_eq!(users.iter().map(|user| user.pid).collect::<Vec<_>>(), [user.id()]);
    let tier = EmulatedTier::open(&machine.tiers[0], TierId(0)).unwrap();
    let whole = tier.usage().capacity;
    assert!(matches!(tier.reserve(whole, Provenance::Tool).unwrap_err().kind(), ErrorKind::Full { .. }));
    user.kill().unwrap();
    user.wait().unwrap();
    let extent = tier.reserve(whole, Provenance::Tool).unwrap();
    let mut bytes = [1; 4];
    tier.read(&extent, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 4], "nothing of the dead one's is seen");
    tier.release(extent).unwrap();
    drop(tier);
    registry.destroy("one-expander", false).unwrap();
    assert_eq!(left_in(&top), 1);
}
