//! What is wrong with a profile is said at its line and column.

use tiermem_topology::{BUILTIN_NAMES, Baseline, Profile, ProfileFigures, Status};

const GOOD: &str = r#"version = 1
name = "mine"
description = "a device of mine"
kind = "link"
latency_ns = { value = 25, status = "measured", source = "a ruler" }
down_bandwidth = { value = "26 GB/s", status = "vendor", source = "its box" }
up_bandwidth = { ratio = 0.5, of = "pcie5-x8", status = "assumed", source = "half of it" }
"#;

/// The complaints about `GOOD` with `from` replaced, as `line:column message`.
fn complaints(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    let error = Profile::parse(&GOOD.replace(from, to), "p.toml").expect_err(to);
    error.entries().iter().map(|entry| format!("{}:{} {}", entry.line, entry.column, entry.message)).collect()
}

#[test]
fn a_good_one_is_what_it_says() {
    let profile = Profile::parse(GOOD, "p.toml").unwrap();
    assert_eq!((profile.name.as_str(), profile.kind()), ("mine", "link"));
    let ProfileFigures::Link(link) = profile.figures else { panic!("{profile:?}") };
    assert_eq!((link.latency_ns.value, link.latency_ns.status), (25.0, Status::Measured));
    assert_eq!((link.down_bandwidth.value, link.down_bandwidth.source.as_str()), (26e9, "its box"));
    assert_eq!(link.up_bandwidth.value, 13e9);
    let relative = link.up_bandwidth.relative.unwrap();
    assert_eq!((relative.of.as_str(), relative.ratio, relative.plus), ("pcie5-x8", 0.5, 0.0));
}

#[test]
fn each_mistake_has_its_place() {
    let cases = [
        ("version = 1", "version = 2", "1:11 2 is out of range"),
        ("version = 1\n", "", "1:1 `version = 1` is missing"),
        ("name = \"mine\"\n", "", "1:1 `name` is missing"),
        ("kind = \"link\"", "kind = \"lnk\"", "4:8 unknown kind `lnk`; did you mean `link`?"),
        ("kind = \"link\"\n", "", "1:1 a profile needs a `kind`"),
        (
            "kind = \"link\"",
            "base = \"cxl-asik\"",
            "4:8 no shipped profile is called `cxl-asik`; did you mean `cxl-asic`?",
        ),
        ("kind = \"link\"", "kind = \"link\"\nbase = \"cxl-asic\"", "4:8 the base `cxl-asic` is of kind memory"),
        ("latency_ns = {", "latency = {", "5:1 unknown key `latency` in a link profile"),
        ("value = 25", "value = -25", "5:24 `latency_ns` must be more than 0"),
        ("value = 25", "value = \"25\"", "5:24 this is a string; expected a number"),
        ("value = 25, ", "", "5:14 a figure needs a `value`, or a `ratio` or `plus`"),
        ("status = \"measured\"", "status = \"guessed\"", "5:37 unknown status `guessed`; known"),
        ("status = \"measured\", ", "", "5:14 a figure needs a `status`"),
        ("source = \"a ruler\"", "source = \"\"", "5:58 say where the figure comes from"),
        (", source = \"a ruler\"", "", "5:14 a figure needs a `source`"),
        ("\"26 GB/s\"", "26000000000", "6:28 this is an integer; expected a bandwidth"),
        ("\"26 GB/s\"", "\"26 GB\"", "6:28 `26 GB` is not a bandwidth"),
        ("of = \"pcie5-x8\"", "of = \"pcie\"", "7:36 no shipped profile is called `pcie`"),
        ("of = \"pcie5-x8\"", "of = \"cxl-asic\"", "7:36 `cxl-asic` has no `up_bandwidth`"),
        ("ratio = 0.5, ", "", "7:23 say with `ratio` or `plus`"),
        (
            "down_bandwidth",
            "# down_bandwidth",
            "1:1 `down_bandwidth` is missing; write down_bandwidth = { value = \"26 GB/s\"",
        ),
        (
            "latency_ns = { value = 25, status = \"measured\", source = \"a ruler\" }",
            "latency_ns = 25",
            "5:14 this is an integer; expected a figure",
        ),
    ];
    for (from, to, expected) in cases {
        let found = complaints(from, to);
        assert!(found.iter().any(|found| found.starts_with(expected)), "{to}: {found:#?}\nexpected {expected}");
    }
}

#[test]
fn all_mistakes_are_said_at_once() {
    let found = complaints("value = 25, status = \"measured\"", "value = 0, status = \"sure\", colour = 3");
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn curves_and_contradictions() {
    let text = |curve: &str, more: &str| {
        format!(
            "version = 1\nname = \"mine\"\nbase = \"cxl-asic\"\n\
             loaded = {{ value = {curve}, status = \"assumed\", source = \"x\" }}\n{more}"
        )
    };
    let good = "[[0, 1], [0.5, 1.1], [1, 3]]";
    Profile::parse(&text(good, ""), "p.toml").unwrap();
    let total = "mixed_bandwidth = { value = [[0.5, \"90 GB/s\"]], status = \"assumed\", source = \"x\" }";
    let cases = [
        ("[[0.1, 1], [1, 3]]", "", "4:21 a curve begins with [0, 1]"),
        ("[[0, 1], [0, 2], [1, 3]]", "", "4:29 the utilisation must rise"),
        ("[[0, 1], [0.5, 0.9], [1, 3]]", "", "4:29 the latency must not fall"),
        ("[[0, 1], [0.5, 1.2]]", "", "4:20 a curve goes on up to utilisation 1"),
        ("[[0, 1], [1.5, 1.2]]", "", "4:29 a utilisation is a share"),
        ("[[0, 1], [0.5], [1, 3]]", "", "4:29 expected a pair"),
        ("[[0, 1], [nan, 1.2], [1, 3]]", "", "4:29 the utilisation must rise"),
        (good, &total.replace("0.5", "1.5"), "5:31 read shares rise"),
        (good, &total.replace("0.5, ", ""), "5:30 expected a pair"),
        (good, total, "5:19 a mix with 0.5 reads has more"),
    ];
    for (curve, more, expected) in cases {
        let error = Profile::parse(&text(curve, more), "p.toml").expect_err(curve);
        let entry = &error.entries()[0];
        let found = format!("{}:{} {}", entry.line, entry.column, entry.message);
        assert!(found.starts_with(expected), "{found}\nexpected {expected}");
    }
    let drive = "version = 1\nname = \"d\"\nbase = \"nvme-gen5\"\n\
                 queue_depth = { value = 32, status = \"assumed\", source = \"x\" }";
    let error = Profile::parse(drive, "p.toml").unwrap_err();
    assert!(error.summary().starts_with("p.toml:4:15: 32 commands in flight at 60000 ns each"), "{error}");
}

#[test]
fn what_is_written_is_read() {
    for &name in BUILTIN_NAMES {
        let mut profile = Profile::builtin(name).unwrap();
        for baseline in [None, Some(Baseline { read_latency_ns: 137.25, read_bandwidth: 12_345_678_901.0 })] {
            profile.baseline = baseline;
            let text = profile.to_string();
            assert_eq!(Profile::parse(&text, "p.toml").unwrap_or_else(|error| panic!("{error}")), profile, "{text}");
        }
    }
}

#[test]
fn another_host_keeps_the_relation_to_dram() {
    let measured = |name: &str| {
        let mut profile = Profile::builtin(name).unwrap();
        profile.baseline = Some(Baseline { read_latency_ns: 100.0, read_bandwidth: 20e9 });
        let ProfileFigures::Memory(before) = profile.figures.clone() else { panic!("{name}") };
        let host = Baseline { read_latency_ns: 150.0, read_bandwidth: 10e9 };
        let ProfileFigures::Memory(after) = profile.rebased(host).figures else { panic!("{name}") };
        (before, after)
    };
    let (before, after) = measured("cxl-near");
    assert_eq!(after.read_latency_ns.value, before.read_latency_ns.value * 1.5);
    assert_eq!(after.read_bandwidth.value, before.read_bandwidth.value * 0.5);
    assert_eq!(after.loaded, before.loaded, "the curve is relative already");
    let (_, after) = measured("cxl-pooled");
    assert_eq!(after.read_latency_ns.value, 150.0 + 80.0);
    let text = "baseline = { read_latency_ns = 0, read_bandwidth = \"1 GB/s\" }";
    let error =
        Profile::parse(&format!("version = 1\nname = \"a\"\nbase = \"cxl-near\"\n{text}"), "p.toml").unwrap_err();
    assert!(error.summary().starts_with("p.toml:4:32: a latency must be more than 0"), "{error}");
}

#[test]
fn figures_between_those_that_are_given() {
    let ProfileFigures::Memory(asic) = Profile::builtin("cxl-asic").unwrap().figures else { panic!("memory") };
    let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
    close(asic.bandwidth(0.0), 24.5e9);
    close(asic.bandwidth(0.3), (24.5e9 + 42.8e9) / 2.0);
    close(asic.bandwidth(0.6), 42.8e9);
    close(asic.latency_factor(0.0723), 1.002);
    close(asic.latency_factor(2.0), 3.21);
    let mut without = asic.clone();
    without.mixed_bandwidth = None;
    close(without.bandwidth(0.5), 49e9);
}

#[test]
fn what_is_known_of_the_base_is_an_assumption_here() {
    let ProfileFigures::Memory(cz120) = Profile::builtin("cxl-cz120").unwrap().figures else { panic!("memory") };
    assert_eq!(cz120.read_latency_ns.status, Status::Assumed);
    assert!(cz120.read_latency_ns.source.starts_with("as cxl-asic, where it is measured: CXL-DMSim"));
    assert_eq!(cz120.mixed_bandwidth.unwrap().status, Status::Vendor);
}
