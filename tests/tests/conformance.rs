//! Every provider of this machine passes the conformance suite, and broken ones do not.

mod broken;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tiermem_emulator::tier::registry::Registry;
use tiermem_emulator::tier::{EmulatedTier, Options, Scale};
use tiermem_tests::conformance;
use tiermem_tiers::{ErrorKind, GRANULE, Provenance, Provider, TierId, TierSpec, provider};
use tiermem_topology::Topology;

/// The tests fork, so they run one at a time: a child must not find a lock taken by a thread that it does not have.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(text: &str) -> Box<dyn Provider> {
    let spec: TierSpec = text.parse().unwrap_or_else(|error| panic!("{error}"));
    provider::open(&spec, TierId(0)).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs the suite and gives the names of the checks that failed.
fn failures(tier: &dyn Provider) -> Vec<String> {
    let mut failed = Vec::new();
    conformance::run(tier, &mut |name, outcome| match outcome {
        Ok(None) => {}
        // Not a test that is skipped: this part of the contract is not for such tiers.
        Ok(Some(why)) => eprintln!("passed over {name} on {}: {why}", tier.tier().name),
        Err(why) => {
            eprintln!("{name} on {}: {why}", tier.tier().name);
            failed.push(name.to_owned());
        }
    });
    failed
}

fn passes(text: &str) {
    assert_eq!(failures(open(text).as_ref()), [""; 0], "{text}");
}

fn passes_shared(text: &str) {
    shared_passes(&|| open(text), text);
}

fn shared_passes(open: &dyn Fn() -> Box<dyn Provider>, what: &str) {
    let mut failed = Vec::new();
    conformance::run_shared(open, &mut |name, outcome| {
        if let Err(why) = outcome {
            failed.push(format!("{name}: {why}"));
        }
    });
    assert_eq!(failed, [""; 0], "{what}");
}

/// Makes a folder, runs `body` with a SPEC in it, and leaves nothing behind.
fn in_folder(parent: &str, body: impl FnOnce(&str)) {
    let folder = tempfile::tempdir_in(parent).expect("a folder");
    body(&format!("t=dax-file:{}/tier,size=16M", folder.path().display()));
}

#[test]
fn dram() {
    let _alone = alone();
    passes("t=dram,size=16M");
    passes("t=dram:0,size=16M");
}

#[test]
fn memfd() {
    let _alone = alone();
    passes("t=dax-file:memfd,size=16M");
}

#[test]
fn file_on_tmpfs() {
    let _alone = alone();
    in_folder("/dev/shm", |spec| {
        passes(spec);
        passes_shared(spec);
        assert!(provider::destroy(&spec.parse().expect("a SPEC")).expect("no obstacle"));
    });
}

#[test]
fn file_on_disk() {
    let _alone = alone();
    in_folder(env!("CARGO_TARGET_TMPDIR"), |spec| {
        passes(spec);
        passes_shared(spec);
    });
}

#[test]
fn nvme() {
    let _alone = alone();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let at = folder.path().display();
    for io in ["", ",io=pread"] {
        passes(&format!("n=nvme:{at},size=8M{io}"));
        let named = format!("n=nvme:{at}/tier,size=8M{io}");
        passes(&named);
        passes_shared(&named);
        assert!(provider::destroy(&named.parse().unwrap()).unwrap());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
    let notice = |text: String| open(&text).notice().map(str::to_owned);
    assert!(notice(format!("n=nvme:{at},size=16M,io=pread")).is_some_and(|notice| notice.contains("pread")));
    match open(&format!("n=nvme:{at},size=16M")).notice() {
        None => {}
        Some(notice) => eprintln!("SKIP nvme (all as asked): {notice}"),
    }
}

/// One tier of each kind that an emulated machine can have.
const MACHINE: &str = r#"
version = 1
name = "all-kinds"
[host.a]
[node.dram]
host = "a"
cpus = 2
capacity = "2G"
profile = "dram-ddr5"
[node.far]
host = "a"
cpus = 0
capacity = "16M"
profile = "dram-ddr5"
[device.cxl0]
kind = "cxl"
capacity = "16M"
profile = "cxl-asic"
exposure = "node"
[device.half0]
kind = "cxl"
capacity = "8M"
profile = "cxl-asic"
[device.half1]
kind = "cxl"
capacity = "8M"
profile = "cxl-asic"
[device.drive]
kind = "nvme"
capacity = "16M"
profile = "nvme-gen5"
[device.gpu]
kind = "gpu"
capacity = "16M"
profile = "gpu-h100"
[interleave.set]
devices = ["half0", "half1"]
granularity = 256
exposure = "node"
[[link]]
from = "a"
to = "cxl0"
[[link]]
from = "a"
to = "half0"
[[link]]
from = "a"
to = "half1"
[[link]]
from = "a"
to = "drive"
[[link]]
from = "a"
to = "gpu"
"#;

#[test]
fn emulated_tiers() {
    let _alone = alone();
    let home = tempfile::tempdir_in("/dev/shm").unwrap();
    let registry = Registry::at(home.path().join("user"));
    let topology = Topology::parse(MACHINE, "all-kinds.toml").unwrap_or_else(|error| panic!("{error}"));
    let options = Options { name: None, host: None, dir: None, scale: Scale::WHOLE };
    let machine = registry.create(&topology, &options).unwrap();
    for record in &machine.tiers {
        let open = || Box::new(EmulatedTier::open(record, TierId(0)).unwrap()) as Box<dyn Provider>;
        assert_eq!(failures(open().as_ref()), [""; 0], "{}", record.name);
        if record.file().is_some() {
            shared_passes(&open, &record.name);
        }
    }
    let names: Vec<&str> = machine.tiers.iter().map(|tier| tier.name.as_str()).collect();
    assert_eq!(names, ["far", "cxl0", "drive", "gpu", "set"]);
    registry.destroy("all-kinds", false).unwrap();
    assert_eq!(std::fs::read_dir(home.path().join("user/emulated")).unwrap().count(), 0);
}

#[test]
fn hardware() {
    let _alone = alone();
    let devices = std::fs::read_dir("/sys/bus/dax/devices").into_iter().flatten().flatten();
    let devices: Vec<_> = devices.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    if devices.is_empty() {
        eprintln!("SKIP hardware (devdax): no DAX device here; the same suite runs in the QEMU guest");
    }
    for device in devices {
        passes(&format!("t=devdax:/dev/{device},size=64M"));
    }
    let cpuless = |node: &u32| {
        let list = Path::new("/sys/devices/system/node").join(format!("node{node}")).join("cpulist");
        std::fs::read_to_string(list).is_ok_and(|list| list.trim().is_empty())
    };
    let nodes: Vec<u32> = (0..64).filter(cpuless).collect();
    if nodes.is_empty() {
        eprintln!("SKIP hardware (cxl-node): no CPU-less node here; the same suite runs in the QEMU guest");
    }
    for node in nodes {
        passes(&format!("t=cxl-node:{node},size=64M"));
    }
}

/// A tmpfs that is smaller than the tier claims to be: the promise fails, not the store.
#[test]
fn full_file_system_is_an_error_and_no_signal() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=9M", "tmpfs"]).arg(folder.path()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIP full_file_system_is_an_error_and_no_signal: mounting a tmpfs needs root");
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let tier = open(&format!("t=dax-file:{}/tier,size=64M", folder.path().display()));
        let mut extents = Vec::new();
        let error = loop {
            match tier.reserve(GRANULE, Provenance::Tool) {
                Ok(extent) => {
                    tier.write(&extent, GRANULE.0 - 1, &[1]).unwrap();
                    extents.push(extent);
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error.kind(), ErrorKind::Full { .. }), "{error}");
        assert!((2..=4).contains(&extents.len()), "{} extents in 9 MiB", extents.len());
        tier.release(extents.pop().unwrap()).unwrap();
        extents.push(tier.reserve(GRANULE, Provenance::Tool).unwrap());
        extents.into_iter().for_each(|extent| tier.release(extent).unwrap());
    });
    assert!(Command::new("umount").arg(folder.path()).status().unwrap().success());
    outcome.unwrap();
}

/// Somebody cuts the file while it is in use: guarded access says so.
#[test]
fn a_cut_file_is_an_error_and_no_signal() {
    let _alone = alone();
    in_folder("/dev/shm", |spec| {
        let tier = open(spec);
        let extent = tier.reserve(GRANULE, Provenance::Tool).unwrap();
        tier.write(&extent, 0, &[1; 8]).unwrap();
        let path = spec.split_once(':').unwrap().1.split_once(',').unwrap().0;
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
        let mut into = [0; 8];
        assert_eq!(tier.read(&extent, 0, &mut into).unwrap_err().kind(), ErrorKind::Gone);
        tier.release(extent).unwrap();
    });
}

/// The suite as a program: what it says and how it ends.
#[test]
fn the_program_explains_itself() {
    let call = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_conformance")).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = call(&["--help"]);
    assert!(code == Some(0) && said.contains("SPEC") && said.contains("Exit codes"), "{said}");
    let (code, said) = call(&[]);
    assert!(code == Some(2) && said.contains("SPEC"), "{said}");
    let (code, said) = call(&["--what"]);
    assert!(code == Some(2) && said.contains("--what"), "{said}");
    let (code, said) = call(&["m=dax-file:memfd,size=8M", "--", "no-spec"]);
    assert!(code == Some(2) && said.contains("not ok no-spec") && said.contains("ok m=dax-file:memfd"), "{said}");
    let (code, said) = call(&["m=dax-file:memfd,size=8M"]);
    assert!(code == Some(0) && !said.contains("not ok"), "{said}");
}
