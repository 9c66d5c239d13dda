//! Mistakes in one table: its head, names, keys, types, capacities, profiles.

use super::*;

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
