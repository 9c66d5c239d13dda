//! Interleaving, switches, and memory that changes what it is.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use tiermem_qemu::cache::Cache;
use tiermem_qemu::host::Qemu;

use crate::guests::{Guests, SUITE, Set};

/// A device becomes a node and a device again while everything runs, and each time the whole contract holds.
#[test]
fn a_device_becomes_a_node_and_a_device_again() {
    let Some(guests) = Guests::of(Set::Full, "one-expander-devdax") else { return };
    guests.holds(
        SUITE + 3 + 4,
        "$C $T,size=8M
        tierctl qemu guest convert dax0.0 node
        $G lies-on 1
        $C n=cxl-node:1,size=16M
        tierctl qemu guest convert dax0.0 devdax
        test ! -e /sys/devices/system/node/node1/memory32
        $C $T,size=8M",
    );
}

/// A node becomes a device: what programs have there moves elsewhere and stays what it is.
#[test]
fn a_node_becomes_a_device_under_a_program() {
    let Some(guests) = Guests::of(Set::Full, "one-expander") else { return };
    let said = guests.holds(
        3,
        "$G move-pages 0 1 &
        wait
        tierctl qemu guest convert /dev/dax0.0 devdax
        $C d=devdax:/dev/dax0.0,size=8M
        tierctl list --json | grep -o 'd\\?ax0.0=devdax[^\"]*'",
    );
    assert!(said.text.contains("dax0.0=devdax:/dev/dax0.0"), "{}", said.text);
}

fn interleaved(topology: &str) {
    let Some(guests) = Guests::of(Set::Full, topology) else { return };
    // Without the suite, which would take two minutes: QEMU emulates each access to interleaved memory.
    let said = guests.holds(
        3,
        "$G lies-on 1
        $G weighted 0=3 1=1
        $G bandwidth $T
        cat /sys/bus/cxl/devices/region0/interleave_ways",
    );
    assert_eq!(said.text.lines().last(), Some("2"));
}

#[test]
fn two_bridges_interleave() {
    interleaved("two-interleaved");
}

#[test]
fn two_ports_interleave() {
    interleaved("two-ports");
}

/// Where the bytes really go: the files behind two interleaved devices hold every other line each.
fn stripes(topology: &str, granularity: usize) {
    const MIB: usize = 2;
    let folder = tempfile::tempdir().unwrap();
    let text = shipped(topology)
        .replace(
            "granularity = 256\nexposure = \"node\"",
            &format!("granularity = {granularity}\nexposure = \"devdax\""),
        )
        .replace("profile = \"cxl-asic\"", "profile = \"cxl-asic\"\npersistence = \"persistent\"");
    let file = folder.path().join("striped.toml");
    fs::write(&file, text).unwrap();
    let Some(guests) = Guests::of(Set::Full, &file) else { return };
    let state = folder.path().join("state");
    let said = guests.option("--state", &state).holds(1, &format!("$G stripes ${{T#*devdax:}} {MIB}"));
    assert!(said.text.contains("marks"), "{}", said.text);
    let devices = ["cxl0", "cxl1"].map(|name| fs::read(state.join(format!("{name}.memory"))).unwrap());
    // The namespace begins with what describes it: the first mark says where the data begin.
    let mark =
        |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) ^ 0x7165_6d75_0000_0000;
    let first = (0..devices[0].len())
        .step_by(256)
        .find(|&at| mark(&devices[0], at) == 0 && (granularity == 256 || mark(&devices[0], at + 256) == 1));
    let first = first.expect("the first mark lies on the first device");
    let lines = granularity / 256;
    for number in 0..(MIB << 20) / 256 {
        let (turn, line) = (number / lines, number % lines);
        let at = first + (turn / 2) * granularity + line * 256;
        assert_eq!(mark(&devices[turn % 2], at), number as u64, "line {number} is not on device {}", turn % 2);
    }
}

fn shipped(name: &str) -> &'static str {
    tiermem_topology::SHIPPED.iter().find(|(shipped, _)| *shipped == name).expect("it is shipped").1
}

#[test]
fn two_bridges_take_turns() {
    stripes("two-interleaved", 1024);
}

#[test]
fn two_ports_take_turns() {
    stripes("two-ports", 256);
}

#[test]
fn one_device_behind_a_switch() {
    let Some(guests) = Guests::of(Set::Full, "switch-one") else { return };
    let said = guests.holds(
        SUITE + 2,
        "$G lies-on 1
        $C $T,size=16M
        $G move-pages 0 1
        cat /sys/bus/cxl/devices/port*/devtype",
    );
    assert!(said.text.matches("cxl_port").count() >= 2, "a host bridge and a switch:\n{}", said.text);
}

/// Each of the two is a node of its own, and memory moves from the one to the other.
#[test]
fn two_devices_behind_a_switch() {
    let Some(guests) = Guests::of(Set::Full, "switch-two") else { return };
    guests.holds(
        SUITE + 5,
        "test \"$TIERMEM_LAB_TIERS\" = 'cxl0=cxl-node:1;cxl1=cxl-node:2'
        $G lies-on 1
        $G lies-on 2
        $C ${TIERMEM_LAB_TIERS#*;},size=16M
        $G move-pages 1 2
        $G mbind 2 1
        $G weighted 0=4 1=2 2=1",
    );
}

/// What the kernel refuses is told in its words.
#[test]
fn a_region_that_cannot_be() {
    let device = |number: usize| {
        format!(
            "[device.cxl{number}]\nkind = \"cxl\"\ncapacity = \"256M\"\nprofile = \"cxl-asic\"\n[[link]]\nfrom = \"hb\"\nto = \"cxl{number}\"\n"
        )
    };
    let text = format!(
        "version = 1\nname = \"three-ways\"\n[host.a]\n[node.n]\nhost = \"a\"\ncpus = 1\ncapacity = \"1G\"\nprofile = \"dram-ddr5\"\n\
        [bridge.hb]\nhost = \"a\"\n{}[interleave.x]\ndevices = [\"cxl0\", \"cxl1\", \"cxl2\"]\ngranularity = 256\nexposure = \"node\"\n",
        (0..3).map(device).collect::<String>()
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("three-ways.toml");
    fs::write(&file, text).unwrap();
    let Some(guests) = Guests::of(Set::Full, &file) else { return };
    let said = guests.run("echo it ran");
    assert_eq!((said.code, said.text.as_str()), (Some(125), ""));
    let why = "x: the guest's kernel refuses /sys/bus/cxl/devices/region0/interleave_ways = 3: Invalid argument";
    assert!(said.errors.contains(why), "{}", said.errors);
}

/// A region that is complete and that the kernel does not commit: on a processor that says that it is a virtual one, caches
/// cannot be kept in step. Its error number and its own words are in the message.
#[test]
fn a_region_that_is_not_committed() {
    let Some(guests) = Guests::of(Set::Full, "one-expander") else { return };
    let folder = tempfile::tempdir().unwrap();
    let qemu = folder.path().join("qemu");
    fs::write(&qemu, as_virtual_processor()).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let said = guests.option("--qemu", &qemu).run("echo it ran");
    assert_eq!((said.code, said.text.as_str()), (Some(125), ""));
    let why = "cxl0: the guest's kernel refuses /sys/bus/cxl/devices/region0/commit = 1: No such device or address";
    let reason = "cxl region0: Failed to synchronize CPU cache state";
    assert!(said.errors.contains(why) && said.errors.contains(reason), "{}", said.errors);
    assert!(!said.errors.contains("RIP:"), "the reason, and not where in the kernel it is found: {}", said.errors);
}

/// A script that starts the lab's QEMU with a processor that does not hide what it is.
fn as_virtual_processor() -> String {
    let command = Qemu::best(&Cache::of_user().unwrap()).unwrap().command();
    let quoted = |word: &OsStr| format!("'{}'", word.to_str().expect("a path in UTF-8"));
    let variables =
        command.get_envs().filter_map(|(name, value)| Some(format!("export {}={}\n", name.to_str()?, quoted(value?))));
    let start: Vec<String> = [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
    format!(
        "#!/bin/sh\n{}for word; do shift; test \"$word\" = max,-hypervisor && word=max; set -- \"$@\" \"$word\"; done\nexec {} \"$@\"\n",
        variables.collect::<String>(),
        start.join(" ")
    )
}
