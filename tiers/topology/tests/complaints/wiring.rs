//! Mistakes in how the parts hang together: links, ways, sets, pools.

use super::*;

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
