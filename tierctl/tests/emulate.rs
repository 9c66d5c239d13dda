//! `tierctl emulate` as its callers see it: what is made, what is left, and what is refused with which code.
//!
//! The machines are registered where those of this user are, under names of their own, and each test removes its own.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tiermem_emulator::tier::registry::Registry;
use tiermem_emulator::tier::{EmulatedTier, State};
use tiermem_tiers::{Bytes, ErrorKind, GRANULE, Provenance, Provider, TierId};

const TIERCTL: &str = env!("CARGO_BIN_EXE_tierctl");

fn harmless_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().filter_map(|l| l.split_whitespace().nth(5)).find(|p| p.contains("/libc.so"));
    PathBuf::from(path.expect("the test is linked with a shared C library"))
}

fn tierctl(arguments: &[&str]) -> Output {
    let mut command = Command::new(TIERCTL);
    command.args(arguments).stdin(Stdio::null()).env("TIERMEM_PRELOAD", harmless_library());
    command.env_remove("LD_PRELOAD").output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(output: &Output, code: i32, word: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert!(stderr(output).contains(word), "{word:?} is missing: {}", stderr(output));
}

/// A machine of one small tier `far-TEST`, removed at the end.
struct Made {
    name: String,
    tier: String,
    folder: tempfile::TempDir,
}

impl Made {
    fn new(test: &str) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let (name, tier) = (format!("{test}-{}", std::process::id()), format!("far-{test}"));
        let made = Self { name, tier, folder };
        fs::write(made.file("one.toml"), one_device(&made.tier)).unwrap();
        json(&made.create());
        made
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn create(&self) -> Output {
        let dir = self.folder.path().to_str().unwrap();
        tierctl(&["emulate", "create", &self.file("one.toml"), "--name", &self.name, "--dir", dir])
    }

    fn backing(&self) -> PathBuf {
        self.folder.path().join(format!("emulated-{}", self.name)).join(&self.tier)
    }

    fn open(&self) -> EmulatedTier {
        let Some(State::Ready(machine)) = Registry::default().find(&self.name) else { panic!("no machine") };
        EmulatedTier::open(&machine.tiers[0], TierId(0)).unwrap()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        tierctl(&["emulate", "destroy", "--force", &self.name]);
    }
}

fn one_device(name: &str) -> String {
    format!(
        "version = 1\nname = \"one\"\n[host.a]\n[node.dram]\nhost = \"a\"\ncpus = 2\ncapacity = \"2G\"\nprofile = \
         \"dram-ddr5\"\n[device.{name}]\nkind = \"cxl\"\ncapacity = \"16M\"\nprofile = \"cxl-asic\"\n[[link]]\nfrom = \
         \"a\"\nto = \"{name}\"\n"
    )
}

#[test]
fn a_machine_is_made_listed_shown_drawn_and_removed() {
    let made = Made::new("life");
    refused(&made.create(), 1, "already");
    let list = json(&tierctl(&["emulate", "list"]));
    let machine = list["machines"].as_array().unwrap().iter().find(|machine| machine["name"] == made.name.as_str());
    let machine = machine.expect("the machine is listed");
    assert_eq!(
        (&machine["bytes"], &machine["users"], &machine["faults"]),
        (&(16 << 20).into(), &[0; 0].into(), &false.into())
    );
    let svg = made.file("drawing.svg");
    let shown = json(&tierctl(&["emulate", "show", &made.name, "--svg", &svg]));
    assert_eq!(shown["tiers"][0]["name"], made.tier.as_str());
    assert!(fs::read_to_string(&svg).unwrap().starts_with("<svg "));
    let tiers = json(&tierctl(&["list"]));
    let tier = tiers["tiers"].as_array().unwrap().iter().find(|tier| tier["name"] == made.tier.as_str());
    assert_eq!(
        tier.expect("hardware and emulation in one list")["attributes"]["read_latency_ns"]["source"],
        "emulated"
    );
    json_free(&tierctl(&["emulate", "destroy", &made.name]));
    assert!(!made.backing().parent().unwrap().exists());
    refused(&tierctl(&["emulate", "destroy", &made.name]), 3, "no emulated machine");
    refused(&tierctl(&["emulate", "show", &made.name]), 3, &made.name);
    let left: Vec<_> = fs::read_dir(made.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "only the topology and the drawing: {left:?}");
}

#[track_caller]
fn json_free(output: &Output) {
    assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(output));
}

/// Each mistake is named with its line, exit code 6, and nothing is made.
#[test]
fn bad_topologies_are_refused_at_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.toml");
    let good = one_device("x");
    let set = |capacity: &str| {
        let other = format!("[device.y]\nkind = \"cxl\"\ncapacity = \"{capacity}\"\nprofile = \"cxl-asic\"\n");
        let way = "[[link]]\nfrom = \"a\"\nto = \"y\"\n[interleave.s]\ndevices = [\"x\", \"y\"]\ngranularity = 256\n";
        format!("{good}{other}{way}")
    };
    let ring = "[switch.s0]\nprofile = \"cxl-switch\"\n[switch.s1]\nprofile = \"cxl-switch\"\n[[link]]\nfrom = \"s0\"\nto \
                = \"s1\"\n[[link]]\nfrom = \"s1\"\nto = \"s0\"\n";
    for (text, word) in [
        (
            good.replace("cxl-asic", "cxl-asics"),
            "bad.toml:12:11: unknown profile `cxl-asics`; did you mean `cxl-asic`?",
        ),
        (format!("{good}{ring}"), "circle"),
        (set("8M"), "size"),
        ("[[".to_owned(), "bad.toml:1:"),
    ] {
        fs::write(&path, text).unwrap();
        for verb in [&["emulate", "create"][..], &["emulate", "show"]] {
            refused(&tierctl(&[verb, &[path.to_str().unwrap()]].concat()), 6, word);
        }
    }
    fs::write(&path, set("16M")).unwrap();
    json(&tierctl(&["emulate", "show", path.to_str().unwrap()]));
    refused(&tierctl(&["emulate", "create", "no-such-topology"]), 3, "no-such-topology");
    refused(&tierctl(&["emulate", "create", "one-expander", "--scale", "0"]), 2, "1/64");
    refused(&tierctl(&["emulate", "create", "one-expander", "--name", "too big", "--host", "server"]), 6, "name");
    let huge = ["emulate", "create", "one-expander", "--name", "huge", "--scale", "1000000"];
    refused(&tierctl(&huge), 1, "smaller tiers with --scale");
    assert!(Registry::default().find("huge").is_none());
}

#[test]
fn run_takes_the_names_that_list_shows() {
    let made = Made::new("names");
    let show = ["--", "sh", "-c", "echo $TIERMEM_TIERS"];
    let output = tierctl(&[&["run", "--quiet", "--tier", &made.tier], show.as_slice()].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = format!("{}=dax-file:{},size=16M,read-latency-ns=", made.tier, made.backing().display());
    assert!(text.starts_with(&expected), "{text}{}", stderr(&output));
    let unknown = tierctl(&["run", "--quiet", "--tier", "no-such-tier", "--", "true"]);
    refused(&unknown, 3, &made.tier);
    refused(&unknown, 3, "NAME=KIND:WHERE");
    fs::OpenOptions::new().write(true).open(made.backing()).unwrap().set_len(4096).unwrap();
    refused(&tierctl(&["run", "--quiet", "--tier", &made.tier, "--", "true"]), 5, "was cut");
    let spec = format!("far=dax-file:{},size=16M", made.backing().display());
    refused(&tierctl(&["probe", "--quick", "--spec", &spec]), 6, "was cut");
}

#[test]
fn faults_stay_with_the_machine_until_it_is_healed() {
    let made = Made::new("faults");
    let plan = made.file("plan.toml");
    let write = |tier: &str| {
        let text = format!("version = 1\nseed = 9\n[[fault]]\nkind = \"full\"\ntier = \"{tier}\"\nat_operation = 3\n");
        fs::write(&plan, text).unwrap();
    };
    write("other");
    refused(
        &tierctl(&["emulate", "fault", &made.name, &plan]),
        6,
        &format!("the tiers of {} are {}", made.name, made.tier),
    );
    refused(&tierctl(&["emulate", "fault", "nobody", &plan]), 3, "no emulated machine");
    refused(&tierctl(&["emulate", "heal", "nobody"]), 3, "no emulated machine");
    write(&made.tier);
    let reached = json(&tierctl(&["emulate", "fault", &made.name, &plan]));
    assert_eq!((&reached["format"], &reached["programs"]), (&"tiermem-emulate-fault/1".into(), &[0; 0].into()));
    let listed = json(&tierctl(&["emulate", "list"]));
    let entry =
        listed["machines"].as_array().unwrap().iter().find(|m| m["name"] == made.name.as_str()).unwrap().clone();
    assert_eq!(entry["faults"], true);
    // Not by the environment: the program finds it beside the tier, under whatever name, and so do those that run already.
    let show = ["--", "sh", "-c", "echo [$TIERMEM_FAULTS]"];
    let output = tierctl(&[&["run", "--quiet", "--tier", &made.tier], show.as_slice()].concat());
    assert_eq!(output.stdout, b"[]\n", "{}", stderr(&output));
    let kept = |wanted: &str| {
        let text = fs::read(format!("{}.faults", made.backing().display())).unwrap();
        let text = String::from_utf8_lossy(&text[32..]).into_owned();
        assert!(text.starts_with(wanted), "{text}");
    };
    kept("seed=9;full at-op=3");
    let slow = fs::read_to_string(&plan).unwrap().replace("\"full\"", "\"slow\"\nfactor = 2");
    fs::write(&plan, slow).unwrap();
    json(&tierctl(&["emulate", "fault", &made.name, &plan]));
    let output = tierctl(&["run", "--quiet", "--tier", &made.tier, "--", "true"]);
    assert!(output.status.success() && stderr(&output).contains("models in virtual time"), "{}", stderr(&output));
    // What was set aside is in use again afterwards.
    let tier = made.open();
    let extent = tier.reserve(GRANULE, Provenance::Tool).unwrap();
    tier.quarantine(&extent, 0).unwrap();
    tier.release(extent).unwrap();
    let healed = json(&tierctl(&["emulate", "heal", &made.name]));
    assert_eq!(
        (&healed["tiers"][0]["name"], &healed["tiers"][0]["bytes"]),
        (&made.tier.as_str().into(), &GRANULE.0.into())
    );
    assert_eq!(tier.quarantined(), Bytes::ZERO);
    kept("seed=0");
    let listed = json(&tierctl(&["emulate", "show", &made.name]));
    assert_eq!(listed["tiers"][0]["name"], made.tier.as_str());
    // A plan that was damaged is said before the program starts.
    fs::write(format!("{}.faults", made.backing().display()), "damaged").unwrap();
    refused(&tierctl(&["run", "--quiet", "--tier", &made.tier, "--", "true"]), 6, "tierctl emulate heal");
    json(&tierctl(&["emulate", "heal", &made.name]));
}

/// The part of a user that is killed; does something only where the test below starts it.
#[test]
fn user_of_a_machine() {
    let Some(name) = std::env::var_os("TIERMEM_TEST_MACHINE") else { return };
    let Some(State::Ready(machine)) = Registry::default().find(name.to_str().unwrap()) else { panic!("no machine") };
    let tier = EmulatedTier::open(&machine.tiers[0], TierId(0)).unwrap();
    let extent = tier.reserve(Bytes::mib(8), Provenance::Tool).unwrap();
    tier.write(&extent, 0, b"mine").unwrap();
    println!("\nholds");
    std::thread::sleep(std::time::Duration::from_secs(600));
}

#[test]
fn users_are_named_share_and_leave_their_space_when_they_are_killed() {
    let made = Made::new("users");
    let mut user = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "user_of_a_machine", "--nocapture"])
        .env("TIERMEM_TEST_MACHINE", &made.name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(user.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "holds"), "the user did not start");
    let in_use = tierctl(&["emulate", "destroy", &made.name]);
    let healed = json(&tierctl(&["emulate", "heal", &made.name]));
    let reached = healed["programs"].as_array().unwrap().iter().map(|program| &program["pid"]).collect::<Vec<_>>();
    assert_eq!(reached, [&user.id()]);
    // Both get space, neither the other's.
    let tier = made.open();
    let mine = tier.reserve(Bytes::mib(8), Provenance::Tool).unwrap();
    let full = tier.reserve(GRANULE, Provenance::Tool).unwrap_err().kind();
    user.kill().unwrap();
    user.wait().unwrap();
    refused(&in_use, 1, &format!("in use by {} (", user.id()));
    assert_eq!(healed["tiers"][0]["bytes"], 0);
    assert!(matches!(full, ErrorKind::Full { .. }), "{full:?}");
    let rest = tier.reserve(Bytes::mib(8), Provenance::Tool).unwrap();
    let mut bytes = [1; 4];
    tier.read(&rest, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 4], "nothing of the dead one's is seen");
    [mine, rest].into_iter().for_each(|extent| tier.release(extent).unwrap());
    drop(tier);
    json_free(&tierctl(&["emulate", "destroy", &made.name]));
    assert!(!Path::new(&made.backing()).exists());
}
