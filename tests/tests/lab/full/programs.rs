//! Real programs whose memory we place on real nodes, and our own tools where the hardware is.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tiermem_tests::{find, preload};

use crate::guests::{Guests, Set};

fn with_preload(topology: &str) -> Option<Guests> {
    let guests = Guests::of(Set::Full, topology)?;
    Some(guests.option("--copy", preload()).option("--env", format!("L={}", preload().display())))
}

/// An unmodified server fills DRAM up to its limit and goes on in CXL memory: seen in the kernel's own account of its nodes, and
/// in what `tierctl stat` says about it.
#[test]
fn redis_on_cxl_memory() {
    let (Some(redis), Some(guests)) = (find("redis-server"), with_preload("one-expander")) else { return };
    let said = guests.option("--copy", &redis).holds(
        0,
        &format!(
            "ip link set lo up
            tierctl run --preload $L --tier cxl0=cxl-node:1 --limit dram=24M --quiet -- {} --save '' --port 6379 --enable-debug-command yes > /tmp/log &
            until printf 'PING\\r\\nQUIT\\r\\n' | nc 127.0.0.1 6379 2>/dev/null | grep -q PONG; do sleep 0.2; done
            printf 'DEBUG POPULATE 40000 key 1000\\r\\nDBSIZE\\r\\nQUIT\\r\\n' | nc -w 120 127.0.0.1 6379 | grep :40000
            P=$(pidof redis-server)
            echo pages $(grep -o 'N1=[0-9]*' /proc/$P/numa_maps | cut -d= -f2 | paste -s -d+ - | bc)
            tierctl stat $P --json
            tierctl ps --json | grep redis-server
            printf 'DEBUG DIGEST\\r\\nSHUTDOWN NOSAVE\\r\\n' | nc -w 120 127.0.0.1 6379
            wait",
            redis.display()
        ),
    );
    let pages: u64 = said.text.lines().find_map(|line| line.strip_prefix("pages ")?.parse().ok()).expect("a count");
    assert!(pages > 4096, "of 40 MB only {pages} OS pages are on the CXL node");
    let (start, end) = (said.text.find("{\n").expect("a document"), said.text.rfind("\n}").expect("its end") + 2);
    let document: Value = serde_json::from_str(&said.text[start..end]).unwrap_or_else(|e| panic!("{e}: {}", said.text));
    assert!(document.to_string().contains("cxl0"), "{document:#}");
}

/// An interpreter with its own ideas of memory computes the same.
#[test]
fn python_on_cxl_memory() {
    let Some(python) = find("python3") else { return };
    // What is on the path may be a script that finds the right one.
    let places = "import encodings, os, sys; print(sys.executable, encodings.__path__[0], os.__file__)";
    let output = Command::new(&python).args(["-I", "-S", "-c", places]).output().expect("python starts");
    let places = String::from_utf8_lossy(&output.stdout).into_owned();
    let [python, library @ ..] = &places.split_whitespace().map(PathBuf::from).collect::<Vec<_>>()[..] else {
        panic!("python does not say where it is: {places}")
    };
    let Some(guests) = with_preload("one-expander") else { return };
    let program = "d = [bytes([i % 251]) * 1000 for i in range(40000)]; print(sum(map(sum, d)) + len({i: str(i) for i in range(100000)}))";
    let bare = Command::new(python).args(["-I", "-S", "-c", program]).output().expect("python starts");
    let guests = library.iter().fold(guests.option("--copy", python), |guests, path| guests.option("--copy", path));
    let said = guests.holds(
        0,
        &format!(
            "tierctl run --preload $L --tier cxl0=cxl-node:1 --limit dram=16M --summary -- {} -I -S -c '{program}'",
            python.display()
        ),
    );
    assert!(said.text.contains(String::from_utf8_lossy(&bare.stdout).trim()), "{}", said.text);
    assert!(said.errors.contains("cxl0"), "a summary with the tier: {}", said.errors);
}

/// A static program cannot be preloaded; that is said and not passed over.
#[test]
fn a_static_program_is_refused() {
    let Some(guests) = with_preload("one-expander") else { return };
    let said = guests.run("tierctl run --preload $L --tier cxl0=cxl-node:1 -- /usr/bin/busybox true");
    assert!(said.code == Some(5) && said.errors.contains("static"), "{:?}: {}", said.code, said.errors);
}

/// The probe measures the node and what it found is shown with its source.
#[test]
fn the_probe_on_a_node() {
    let Some(guests) = Guests::of(Set::Full, "one-expander") else { return };
    let said = guests.holds(
        0,
        "export XDG_CACHE_HOME=/tmp/cache
        tierctl probe --quick --size 16M --tier cxl1 > /tmp/probe
        tierctl list --json",
    );
    assert!(said.text.contains("\"measured\""), "{}", said.text);
}
