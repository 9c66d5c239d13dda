//! Emulated machines come, are shared, survive their users, and go without a trace.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use tiermem_emulator::tier::registry::Registry;
use tiermem_emulator::tier::{CreateError, EmulatedTier, Options, Scale, State};
use tiermem_tiers::{Bytes, ErrorKind, GRANULE, Health, Provenance, Provider, Source, TierId};
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
