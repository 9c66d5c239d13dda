//! Memory that goes bad, and devices that go.

use crate::guests::{Guests, Set};

/// Poison that a device lists and an event of its media become the tier's health: seen by every process, handed out by none.
#[test]
fn what_a_device_reports_is_set_aside() {
    let Some(guests) = Guests::of(Set::Full, "one-expander-devdax") else { return };
    let said = guests.holds(
        3,
        "tierctl health --json
        tierctl qemu guest poison cxl0 0x200040 128
        tierctl health --set-aside --json > /tmp/list
        grep -q '\"origin\": \"poison-list\"' /tmp/list
        grep -q '\"set_aside\": true' /tmp/list
        $G set-aside $T 2097216 1
        tierctl health --follow --set-aside --json > /tmp/follow & F=$!
        until grep -q poison-list /tmp/follow; do sleep 0.1; done
        tierctl qemu guest media-event cxl0 16M
        until grep -q media-event /tmp/follow; do sleep 0.1; done
        kill $F
        wait $F || true
        test -z \"$(ls /sys/kernel/tracing/instances)\"
        $G set-aside $T 2097216 2
        $G set-aside $T 16777216 2",
    );
    assert!(said.text.contains("\"bad\": []"), "before, nothing is bad:\n{}", said.text);
}

/// A node's bad OS page is taken out of use by the kernel.
#[test]
fn what_a_device_reports_of_a_node_is_taken_out_of_use() {
    let Some(guests) = Guests::of(Set::Full, "one-expander") else { return };
    guests.holds(
        0,
        "grep -q 'HardwareCorrupted: *0 kB' /proc/meminfo
        tierctl qemu guest poison cxl0 32M
        tierctl health --set-aside --json | grep -q '\"set_aside\": true'
        grep -q 'HardwareCorrupted: *4 kB' /proc/meminfo",
    );
}

/// A memory failure that the kernel deals with: typed errors where the page stays bad, set aside where the kernel's log says so.
#[test]
fn memory_failures() {
    let Some(guests) = Guests::of(Set::Full, "one-expander") else { return };
    guests.holds(
        3,
        "$G poisoned $T
        tierctl qemu guest convert dax0.0 devdax
        $G break /dev/dax0.0 8388608
        tierctl health --set-aside --json | grep -q '\"offset\": 8388608'
        $G set-aside d=devdax:/dev/dax0.0 8388608 $(tierctl health --json | grep -c '\"origin\": \"kernel\"')",
    );
}

/// On a DAX device the kernel says once that memory is broken, and maps it again: guarded access remembers, and the process that
/// was told goes on.
#[test]
fn a_device_that_breaks_is_remembered() {
    let Some(guests) = Guests::of(Set::Full, "one-expander-devdax") else { return };
    guests.holds(1, "$G poisoned-device $T,size=16M\ndmesg | grep 'recovery action for dax page'");
}

/// Memory of a node cannot be pulled out from under the kernel: that is said before, and what happens all the same is the
/// kernel's to say.
#[test]
fn a_device_whose_memory_is_a_node() {
    let Some(guests) = Guests::of(Set::Full, "one-expander") else { return };
    guests.holds(
        2,
        "if tierctl qemu guest remove cxl0 2> /tmp/why; then exit 9; fi
        grep 'cxl0 is memory of node 1, which is online' /tmp/why
        grep 'tierctl qemu guest convert dax0.0 devdax' /tmp/why
        sleep 6
        test -e /sys/bus/cxl/devices/mem0
        $G lies-on 1
        tierctl qemu guest convert dax0.0 devdax
        $G removed d=devdax:/dev/dax0.0,size=16M cxl0",
    );
    drop(guests);
    let said = Guests::of(Set::Full, "one-expander").unwrap().holds(
        0,
        "tierctl qemu guest remove --force cxl0
        until test ! -e /sys/bus/cxl/devices/mem0; do sleep 0.2; done
        until dmesg | grep 'dax0.0: .*until .*reboot'; do sleep 0.2; done
        grep MemTotal /sys/devices/system/node/node1/meminfo",
    );
    // 7.3 and 6.12.
    let words = ["stuck online until reboot", "cannot be hotremoved until the next reboot"];
    assert!(words.iter().any(|words| said.text.contains(words)), "{}", said.text);
    assert!(said.text.contains("Node 1 MemTotal"), "{}", said.text);
}

/// Somebody pulls the device out while a program uses it.
#[test]
fn a_device_is_pulled_out() {
    let Some(guests) = Guests::of(Set::Full, "one-expander-devdax") else { return };
    let said = guests.holds(1, "$G removed $T,size=16M cxl0\nls /sys/bus/cxl/devices");
    let devices: Vec<&str> = said.text.lines().skip_while(|line| !line.contains("decoder0.0")).collect();
    assert!(!devices.is_empty() && !devices.contains(&"mem0"), "{devices:?}");
}
