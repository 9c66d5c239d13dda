//! What is wrong with a profile is said at its line and column.

use tiermem_topology::{Profile, ProfileFigures, Status};

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
    let total = "total_bandwidth = { value = \"90 GB/s\", status = \"assumed\", source = \"x\" }";
    let cases = [
        ("[[0.1, 1], [1, 3]]", "", "4:21 a curve begins with [0, 1]"),
        ("[[0, 1], [0, 2], [1, 3]]", "", "4:29 the utilisation must rise"),
        ("[[0, 1], [0.5, 0.9], [1, 3]]", "", "4:29 the latency must not fall"),
        ("[[0, 1], [0.5, 1.2]]", "", "4:20 a curve goes on up to utilisation 1"),
        ("[[0, 1], [1.5, 1.2]]", "", "4:29 a utilisation is a share"),
        ("[[0, 1], [0.5], [1, 3]]", "", "4:29 expected a pair"),
        ("[[0, 1], [nan, 1.2], [1, 3]]", "", "4:29 the utilisation must rise"),
        (good, total, "5:19 the total bandwidth lies between"),
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
