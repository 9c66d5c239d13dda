//! Every mistake in a topology is named, once, at its place.
//!
//! In each faulty text a `§` stands before the place where the complaint belongs.

use tiermem_topology::Topology;

/// Two hosts, a bridge, a switch and devices of all kinds, all right.
const RIGHT: &str = r#"version = 1
name = "right"
[host.a]
[host.b]
[node.dram-a]
host = "a"
cpus = 2
capacity = "1G"
profile = "dram-ddr5"
[node.dram-b]
host = "b"
cpus = 2
capacity = "1G"
profile = "dram-ddr5"
[bridge.hb0]
host = "a"
[switch.sw0]
profile = "cxl-switch"
[device.cxl0]
kind = "cxl"
capacity = "256M"
profile = "cxl-asic"
[device.cxl1]
kind = "cxl"
capacity = "256M"
profile = "cxl-asic"
[device.cxl2]
kind = "cxl"
capacity = "256M"
profile = "cxl-asic"
[device.ssd]
kind = "nvme"
capacity = "1G"
profile = "nvme-gen4"
[device.gpu]
kind = "gpu"
capacity = "1G"
profile = "gpu-h100"
[[link]]
from = "hb0"
to = "cxl0"
[[link]]
from = "hb0"
to = "cxl1"
[[link]]
from = "a"
to = "sw0"
profile = "pcie5-x8"
[[link]]
from = "b"
to = "sw0"
[[link]]
from = "sw0"
to = "cxl2"
[[link]]
from = "a"
to = "ssd"
[[link]]
from = "b"
to = "gpu"
[interleave.set]
devices = ["cxl0", "cxl1"]
granularity = 256
[pool.shared]
device = "cxl2"
hosts = ["a", "b"]
coherence = "hardware"
"#;

/// Parses `marked` without its mark; expects one complaint, where the mark was, that contains `message`.
#[track_caller]
fn expect(marked: &str, message: &str) {
    let at = marked.find('§').expect("a mark");
    let text = marked.replace('§', "");
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    let error = Topology::parse(&text, "t.toml").expect_err("a complaint");
    let entries = error.entries();
    assert_eq!((entries.len(), entries[0].line, entries[0].column), (1, line, column), "{error}");
    assert!(entries[0].message.contains(message), "{error}");
    assert!(error.to_string().starts_with(&format!("t.toml:{line}:{column}: ")), "{error}");
}

/// [`RIGHT`] with each old text, which occurs once, replaced by the new one.
#[track_caller]
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(RIGHT.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old}");
        text.replace(old, new)
    })
}

#[track_caller]
fn wrong(old: &str, new: &str, message: &str) {
    expect(&edited(&[(old, new)]), message);
}

#[test]
fn the_right_one_is_right() {
    let topology = Topology::parse(RIGHT, "t.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((topology.devices.len(), topology.links.len()), (5, 7));
    assert_eq!(topology.hosts_above("cxl2"), ["a", "b"]);
    assert_eq!(topology.hosts_above("cxl0"), ["a"]);
    let way = topology.way("a", "cxl2").unwrap();
    assert_eq!(way.iter().map(|link| link.from.as_str()).collect::<Vec<_>>(), ["a", "sw0"]);
    assert_eq!(topology.way("b", "cxl0"), None);
    assert_eq!(topology.way("a", "hb0"), Some(Vec::new()));
}

#[test]
fn heads() {
    wrong("version = 1\n", "version = §2\n", "2 is out of range");
    wrong("version = 1\n", "version = §\"1\"\n", "this is a string");
    wrong("version = 1\n", "§", "`version = 1` is missing");
    wrong("name = \"right\"\n", "name = §\"\"\n", "a text of one line");
    wrong("name = \"right\"\n", "name = \"right\"\ndescription = §3\n", "this is an integer; expected a text");
    wrong(
        "name = \"right\"\n",
        "name = \"right\"\n§colour = 1\n",
        "unknown key `colour` in the topology file; known: ",
    );
    wrong(
        "name = \"right\"\n",
        "name = \"right\"\n§hosts = 1\n",
        "unknown key `hosts` in the topology file; did you mean `host`?",
    );
    wrong("[host.b]\n", "[host.b]\n[host.§b]\n", "duplicate key");
    wrong("name = \"right\"\n", "name = \"right§\n", "invalid TOML");
    expect(&format!("§{}", " ".repeat((1 << 20) + 1)), "1048577 bytes are not a topology");
}

#[test]
fn what_is_not_text() {
    let error = Topology::parse_bytes(b"version = 1\nname = \"\xff\"", "t.toml").unwrap_err();
    let entry = &error.entries()[0];
    assert_eq!((error.entries().len(), entry.line, entry.column), (1, 2, 9), "{error}");
    assert!(entry.message.contains("not a topology: this is not UTF-8 text"), "{error}");
}

#[test]
fn names() {
    wrong(
        "[switch.sw0]",
        "[switch.§9a]\nprofile = \"cxl-switch\"\n[switch.sw0]",
        "`9a` cannot name a switch: a name is 1 to 23",
    );
    wrong("[switch.sw0]", "[switch.§\"a b\"]\nprofile = \"cxl-switch\"\n[switch.sw0]", "`a b` cannot name a switch");
    wrong("[pool.shared]", "[pool.§a-name-that-is-far-too-long]", "1 to 23 of");
    wrong("[pool.shared]", "[pool.§set]", "`set` names an interleave set already");
    wrong("[host.b]", "[host.b]\n[bridge.§b]\nhost = \"a\"", "`b` names a host already");
}

#[test]
fn keys_and_types() {
    wrong(
        "[bridge.hb0]\n",
        "[bridge.hb0]\n§hots = \"a\"\n",
        "unknown key `hots` in [bridge.hb0]; did you mean `host`?",
    );
    wrong("\"b\"\ncpus = 2\n", "\"b\"\ncpus = §9999\n", "9999 is out of range: a number of CPUs is 0 to 4096");
    wrong("[node.dram-b]\nhost = \"b\"\ncpus = 2\n", "[node.§dram-b]\nhost = \"b\"\n", "[node.dram-b] needs `cpus`");
    wrong(
        "[bridge.hb0]\nhost = \"a\"\n",
        "[bridge.hb0]\nhost = §3\n",
        "this is an integer; expected the name of a host",
    );
    wrong(
        "[device.ssd]\nkind = \"nvme\"\n",
        "[device.§ssd]\n",
        "[device.ssd] needs `kind`: \"cxl\", \"nvme\", \"gpu\"",
    );
    wrong("kind = \"nvme\"", "kind = §\"nmve\"", "unknown kind `nmve`; did you mean `nvme`?");
    wrong("= \"hardware\"", "= §\"coherent\"", "unknown coherence `coherent`; known: `hardware`, `software`, `none`");
    wrong("[pool.shared]\ndevice = \"cxl2\"", "[pool.shared]\ndevice = §[\"cxl2\"]", "this is an array");
    wrong("[\"cxl0\", \"cxl1\"]", "§\"cxl0\"", "this is a string; expected CXL devices such as");
    wrong("[\"cxl0\", \"cxl1\"]", "[\"cxl0\", §1, \"cxl1\"]", "this is an integer; expected a name");
    wrong("granularity = 256\n", "granularity = 256\nexposure = §\"numa\"\n", "unknown exposure `numa`; known: `node`");
    wrong(
        "granularity = 256\n",
        "granularity = 256\n§persistence = \"volatile\"\n",
        "unknown key `persistence` in [interleave.set]",
    );
    wrong("[host.b]\n", "[host.b]\n[bridge]\nhb1 = §1\n", "this is an integer; expected a table such as [bridge.NAME]");
}

#[test]
fn capacities() {
    let capacity =
        |text: &str, message| wrong("\"nvme\"\ncapacity = \"1G\"", &format!("\"nvme\"\ncapacity = §{text}"), message);
    capacity("0", "`ssd` holds nothing");
    capacity("\"3M\"", "not a multiple of 2 MiB, in which memory is handed out: write \"2 MiB\" or \"4 MiB\"");
    capacity("4096", "write \"2 MiB\"");
    capacity("\"9P\"", "more than 8 PiB");
    capacity("\"much\"", "`much` is not a size");
    capacity("-1", "-1 is not a byte count");
    wrong(
        "[device.ssd]\nkind = \"nvme\"\ncapacity = \"1G\"\n",
        "[device.§ssd]\nkind = \"nvme\"\n",
        "[device.ssd] needs `capacity`",
    );
}

#[test]
fn profiles() {
    wrong("profile = \"nvme-gen4\"", "profile = §\"nvme-gen3\"", "unknown profile `nvme-gen3`; did you mean `nvme-gen");
    wrong(
        "profile = \"gpu-h100\"",
        "profile = §\"cxl-asic\"",
        "`cxl-asic` is a memory profile, and this must be a GPU profile",
    );
    wrong(
        "profile = \"cxl-switch\"",
        "profile = §\"cxl-asic\"",
        "`cxl-asic` is a memory profile, and this must be a link profile",
    );
    wrong("profile = \"pcie5-x8\"", "profile = §\"pcie5-x9\"", "did you mean `pcie5-x8`?");
}

#[test]
fn profiles_of_the_file_itself() {
    let mine = |profile: &str| {
        let named = RIGHT.replacen("profile = \"cxl-asic\"", "profile = \"mine\"", 1);
        format!("{named}{profile}")
    };
    let near = "[profile.mine]\nbase = \"cxl-asic\"\nread_latency_ns = { value = 150, status = \"assumed\", source = \"hope\" }\n";
    let topology = Topology::parse(&mine(near), "t.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(topology.profiles[0].name, "mine");
    assert_eq!(topology.profiles.len(), 7, "each named profile once");
    let shown = Topology::parse(&topology.to_string(), "t.toml").unwrap_or_else(|error| panic!("{error}\n{topology}"));
    assert_eq!(shown, topology);
    expect(&mine(&near.replace("150", "§-150")), "must be more than 0");
    expect(
        &mine(&near.replace("mine", "§cxl-asic").replace("\n[pro", "")).replace("\"mine\"", "\"cxl-fpga\""),
        "`cxl-asic` is a shipped profile: take another name",
    );
    let link = "[profile.mine]\nbase = \"pcie5-x8\"\n";
    expect(
        &mine(link).replace("= \"mine\"", "= §\"mine\""),
        "`mine` is a link profile, and this must be a memory profile",
    );
}

#[test]
fn hosts_and_nodes() {
    wrong("[host.b]\n", "[host.b]\n[host.§c]\n", "host `c` has no node");
    let no_cpu = [("[host.b]", "[host.§b]"), ("\"b\"\ncpus = 2", "\"b\"\ncpus = 0")];
    expect(&edited(&no_cpu), "host `b` has no CPU: give one of its nodes `cpus`");
    expect("§version = 1\nname = \"x\"", "there is no host: add one, for example [host.server]");
    wrong("[bridge.hb0]\nhost = \"a\"", "[bridge.hb0]\nhost = §\"aa\"", "unknown host `aa`; did you mean `a`?");
}

#[test]
fn exposure_and_persistence() {
    let ssd = |line: &str, message| wrong("[device.ssd]\n", &format!("[device.ssd]\n{line}\n"), message);
    ssd("exposure = §\"node\"", "only CXL devices have an exposure, and this one's kind is \"nvme\"");
    ssd("persistence = §\"persistent\"", "only CXL devices have a persistence");
    let cxl2 = |line: &str, message| wrong("[device.cxl2]\n", &format!("[device.cxl2]\n{line}\n"), message);
    cxl2("exposure = §\"fsdax\"", "\"fsdax\" needs persistence = \"persistent\"");
    wrong("granularity = 256\n", "granularity = 256\nexposure = §\"fsdax\"\n", "\"fsdax\" needs persistent devices");
    let persistent =
        RIGHT.replace("[device.cxl2]\n", "[device.cxl2]\nexposure = \"fsdax\"\npersistence = \"persistent\"\n");
    Topology::parse(&persistent, "t.toml").unwrap();
}

#[test]
fn links() {
    wrong("to = \"gpu\"", "to = §\"gup\"", "unknown name `gup`; did you mean `gpu`?");
    wrong("to = \"ssd\"\n", "to = \"ssd\"\n[[link]]\nfrom = \"a\"\nto = §\"b\"\n", "links go from the host's side");
    wrong(
        "to = \"ssd\"\n",
        "to = \"ssd\"\n[[link]]\nfrom = \"a\"\nto = §\"hb0\"\n",
        "`hb0` cannot be the end of a link",
    );
    wrong(
        "to = \"ssd\"\n",
        "to = \"ssd\"\n[[link]]\nfrom = \"a\"\nto = §\"ssd\"\n",
        "`a` and `ssd` are linked already",
    );
    wrong(
        "to = \"ssd\"\n",
        "to = \"ssd\"\n[[link]]\nfrom = §\"cxl0\"\nto = \"sw0\"\n",
        "`cxl0` is a device, and this must be a host or a bridge or a switch",
    );
    wrong("to = \"ssd\"\n", "to = \"ssd\"\n§[[link]]\nfrom = \"a\"\n", "a [[link]] needs `to`: a switch or a device");
}

#[test]
fn circles() {
    wrong(
        "to = \"ssd\"\n",
        "to = \"ssd\"\n[[link]]\nfrom = \"sw0\"\nto = §\"sw0\"\n",
        "the links go in a circle: sw0 → sw0",
    );
    let three = "[switch.x]\nprofile = \"cxl-switch\"\n[switch.y]\nprofile = \"cxl-switch\"\n[bridge.hb0]";
    let text = RIGHT.replace("[bridge.hb0]", three);
    let links = "to = \"ssd\"\n[[link]]\nfrom = \"sw0\"\nto = \"x\"\n[[link]]\nfrom = \"x\"\nto = \"y\"\n[[link]]\nfrom = \"y\"\nto = §\"sw0\"\n";
    expect(&text.replace("to = \"ssd\"\n", links), "the links go in a circle: sw0 → x → y → sw0");
}

#[test]
fn ways() {
    let unlinked = [("[device.ssd]", "[device.§ssd]"), ("[[link]]\nfrom = \"a\"\nto = \"ssd\"\n", "")];
    expect(&edited(&unlinked), "nothing leads to `ssd`: add a [[link]] with to = \"ssd\"");
    let behind = [
        ("[device.ssd]", "[switch.lost]\nprofile = \"cxl-switch\"\n[device.§ssd]"),
        ("from = \"a\"\nto = \"ssd\"\n", "from = \"lost\"\nto = \"ssd\"\n"),
    ];
    expect(&edited(&behind), "no host reaches `ssd`: `lost` is linked to none");
    let twice = [
        ("[device.cxl2]", "[device.§cxl2]"),
        ("to = \"ssd\"\n", "to = \"ssd\"\n[[link]]\nfrom = \"a\"\nto = \"cxl2\"\n"),
    ];
    expect(&edited(&twice), "2 ways lead from `a` to `cxl2` (through `sw0` and `a`): leave one");
    let shared =
        [("[device.ssd]", "[device.§ssd]"), ("to = \"gpu\"\n", "to = \"gpu\"\n[[link]]\nfrom = \"b\"\nto = \"ssd\"\n")];
    expect(&edited(&shared), "`a` and `b` reach `ssd`: only CXL devices can be shared by hosts");
    let pool = "[pool.shared]\ndevice = \"cxl2\"\nhosts = [\"a\", \"b\"]\ncoherence = \"hardware\"\n";
    let no_pool = [("[device.cxl2]", "[device.§cxl2]"), (pool, "")];
    expect(
        &edited(&no_pool),
        "`a` and `b` reach `cxl2`, which is in no pool: add one, [pool.…] with device = \"cxl2\"",
    );
}

#[test]
fn interleave_sets() {
    let devices = |text: &str, message| wrong("[\"cxl0\", \"cxl1\"]", text, message);
    devices("§[]", "0 devices: an interleave set has 1, 2, 3, 4, 6, 8, 12 or 16");
    devices("[\"cxl0\", §\"cxl9\"]", "unknown device `cxl9`; did you mean `cxl0`?");
    devices("[\"cxl0\", §\"cxl0\"]", "`cxl0` is in the interleave set `set` already");
    devices("[\"cxl0\", §\"sw0\"]", "`sw0` is a switch, and this must be a device");
    let five = |five: &str| {
        let devices =
            (3..6).map(|i| format!("[device.cxl{i}]\nkind = \"cxl\"\ncapacity = \"256M\"\nprofile = \"cxl-asic\"\n"));
        let links = (3..6).map(|i| format!("[[link]]\nfrom = \"hb0\"\nto = \"cxl{i}\"\n"));
        let more: String = devices.chain(links).collect();
        edited(&[("[device.gpu]", &format!("{more}[device.gpu]")), ("[\"cxl0\", \"cxl1\"]", five)])
    };
    expect(&five("§[\"cxl0\", \"cxl1\", \"cxl3\", \"cxl4\", \"cxl5\"]"), "5 devices");
    Topology::parse(&five("[\"cxl0\", \"cxl3\", \"cxl4\"]"), "t.toml").unwrap();
    for granularity in ["0", "128", "384", "32768"] {
        let message = format!("{granularity} bytes: a granularity is a power of two from 256 to 16384");
        wrong("granularity = 256\n", &format!("granularity = §{granularity}\n"), &message);
    }
    let silent = [("[interleave.set]", "[interleave.§set]"), ("granularity = 256\n", "")];
    expect(&edited(&silent), "[interleave.set] needs `granularity`");
    let unequal = [
        ("[device.cxl1]\nkind = \"cxl\"\ncapacity = \"256M\"", "[device.cxl1]\nkind = \"cxl\"\ncapacity = \"512M\""),
        ("\"cxl1\"]", "§\"cxl1\"]"),
    ];
    expect(&edited(&unequal), "`cxl1` has 512 MiB and `cxl0` has 256 MiB: devices of an interleave set have one size");
    let mixed = [("[device.cxl1]", "[device.cxl1]\npersistence = \"persistent\""), ("\"cxl1\"]", "§\"cxl1\"]")];
    expect(&edited(&mixed), "`cxl1` is persistent and `cxl0` is volatile: an interleave set is all one or the other");
    let exposed = [("[device.cxl1]", "[device.cxl1]\nexposure = §\"node\"")];
    expect(&edited(&exposed), "`cxl1` is part of an interleave set, whose exposure counts");
    let hosts = [
        ("[[link]]\nfrom = \"hb0\"\nto = \"cxl1\"", "[[link]]\nfrom = \"b\"\nto = \"cxl1\""),
        ("\"cxl1\"]", "§\"cxl1\"]"),
    ];
    expect(&edited(&hosts), "`cxl1` belongs to `b` and `cxl0` to `a`: one host interleaves them all");
}

#[test]
fn pools() {
    wrong("hosts = [\"a\", \"b\"]", "hosts = §[\"a\"]", "a pool is shared by two hosts at least");
    wrong("hosts = [\"a\", \"b\"]", "hosts = [\"a\", \"b\", §\"b\"]", "`b` is in the list already");
    wrong("hosts = [\"a\", \"b\"]", "hosts = [\"a\", \"b\", §\"hb0\"]", "`hb0` is a bridge, and this must be a host");
    let second = "[pool.second]\ndevice = \"cxl2\"\nhosts = [\"a\", \"b\"]\ncoherence = \"none\"\n[pool.shared]\ndevice = §\"cxl2\"";
    wrong("[pool.shared]\ndevice = \"cxl2\"", second, "`cxl2` is in the pool `second` already");
    let nvme = "[pool.disks]\ndevice = §\"ssd\"\nhosts = [\"a\", \"b\"]\ncoherence = \"none\"\n[pool.shared]";
    let linked = [("[pool.shared]", nvme), ("to = \"gpu\"\n", "to = \"gpu\"\n[[link]]\nfrom = \"b\"\nto = \"ssd\"\n")];
    expect(&edited(&linked), "`ssd` is of kind \"nvme\": only CXL devices can be shared");
    let lonely =
        "[host.c]\n[node.dram-c]\nhost = \"c\"\ncpus = 1\ncapacity = \"2M\"\nprofile = \"dram-ddr5\"\n[pool.shared]";
    let far = [("[pool.shared]", lonely), ("hosts = [\"a\", \"b\"]", "hosts = [\"a\", \"b\", §\"c\"]")];
    expect(&edited(&far), "no way leads from `c` to `cxl2`: add a [[link]]");
    let member = [
        (
            "[pool.shared]",
            "[pool.more]\ndevice = §\"cxl0\"\nhosts = [\"a\", \"b\"]\ncoherence = \"none\"\n[pool.shared]",
        ),
        (
            "to = \"gpu\"\n",
            "to = \"gpu\"\n[[link]]\nfrom = \"b\"\nto = \"cxl0\"\n[[link]]\nfrom = \"b\"\nto = \"cxl1\"\n",
        ),
    ];
    let error = Topology::parse(&edited(&member).replace('§', ""), "t.toml").unwrap_err();
    assert!(
        error.to_string().contains("`cxl0` is in the interleave set `set`: it cannot be shared as well"),
        "{error}"
    );
}

#[test]
fn several_mistakes_come_in_the_order_of_the_file() {
    let text =
        edited(&[("to = \"gpu\"", "to = \"gup\""), ("version = 1", "version = 3"), ("cxl-switch\"", "cxl-switches\"")]);
    let error = Topology::parse(&text, "t.toml").unwrap_err();
    let lines: Vec<usize> = error.entries().iter().map(|entry| entry.line).collect();
    assert_eq!(lines, [1, 18, 60], "{error}");
}
