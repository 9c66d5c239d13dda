//! Each thing that can be wrong with a policy is reported, at its place.

use tiermem_placement::{EXAMPLE, Policy, RULES_MAX, TIERS_MAX};

const SLOW: &str = "version = 1\n[tier.slow]\nsource = 'nvme:/data'\n";

/// `text` is refused with exactly one complaint, at `place` (line, column), whose message holds `message`.
#[track_caller]
fn refused(text: &str, place: (usize, usize), message: &str) {
    let error = Policy::parse(text, "p.toml").expect_err(text);
    assert_eq!(error.entries().len(), 1, "one complaint expected:\n{error}");
    let entry = &error.entries()[0];
    assert!(entry.message.contains(message), "`{message}` expected:\n{error}");
    assert_eq!((entry.line, entry.column), place, "\n{error}");
    assert!(error.to_string().starts_with(&format!("p.toml:{}:{}: ", place.0, place.1)), "{error}");
}

/// [`refused`], for text that follows the declaration of a tier `slow` on line 4.
#[track_caller]
fn refused_after_slow(text: &str, place: (usize, usize), message: &str) {
    refused(&format!("{SLOW}{text}"), place, message);
}

#[test]
fn what_is_right_is_accepted() {
    for text in ["version = 1", SLOW, EXAMPLE, "\u{feff}version = 1\r\n"] {
        Policy::parse(text, "p.toml").unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn versions() {
    refused("", (1, 1), "`version = 1` is missing");
    refused("# nothing\n", (1, 1), "`version = 1` is missing");
    refused("version = 2", (1, 11), "2 is out of range");
    refused("version = '1'", (1, 11), "this is a string");
}

#[test]
fn toml_itself() {
    refused("version = 1\n[tier.slow\n", (2, 11), "invalid TOML");
    refused("version = 1\nversion = 1\n", (2, 1), "duplicate key");
    refused("version = 1\n\n  = 3\n", (3, 3), "invalid TOML");
}

#[test]
fn several_syntax_errors_at_once() {
    let error = Policy::parse("version = \nfoo = [1,\n[tier.x]\nlimit == 2\n", "p.toml").unwrap_err();
    let lines: Vec<usize> = error.entries().iter().map(|entry| entry.line).collect();
    assert!(lines.len() >= 2 && lines.is_sorted(), "{error}");
}

#[test]
fn keys_and_types() {
    refused(
        "version = 1\nplacment = {}\n",
        (2, 1),
        "unknown key `placment` in the policy file; did you mean `placement`?",
    );
    refused_after_slow("limt = 5\n", (4, 1), "unknown key `limt` in [tier.slow]; did you mean `limit`?");
    refused_after_slow("colour = 5\n", (4, 1), "known: `source`, `limit`, `watermark`, `bandwidth`");
    refused_after_slow(
        "[placement]\nstrategy = 3\n",
        (5, 12),
        "this is an integer; expected \"fill\" or \"interleave\"",
    );
    refused_after_slow("[placement]\nstrategy = 'full'\n", (5, 12), "did you mean `fill`?");
    refused_after_slow("[placement]\nchain = 'slow'\n", (5, 9), "this is a string; expected an array");
    refused("version = 1\nplacement = 3\n", (2, 13), "expected the table [placement]");
    refused("version = 1\nrule = { tier = 'dram' }\n", (2, 8), "expected tables headed [[rule]]");
    refused("version = 1\ntier = ['dram']\n", (2, 8), "expected tables such as [tier.slow]");
    refused("version = 1\n[tier]\ndram = 1\n", (3, 8), "expected a table such as");
    refused("version = 1\nreturn = 1979-05-27\n", (2, 10), "this is a date; expected the table [return]");
    refused("version = 1\n[return]\ndecay_ms = -1\n", (3, 12), "-1 is out of range");
    refused("version = 1\n[return]\ndecay_ms = 1.5\n", (3, 12), "this is a float");
}

#[test]
fn tiers() {
    refused("version = 1\n[tier.slow]\nlimit = 1\n", (2, 7), "[tier.slow] needs a `source`");
    refused("version = 1\n[tier.'2nd']\nsource = 'x'\n", (2, 7), "`2nd` cannot name a tier");
    refused(&format!("version = 1\n[tier.{}]\nsource = 'x'\n", "n".repeat(24)), (2, 7), "1 to 23 of A-Z");
    refused("version = 1\n[tier.a]\nsource = ' '\n", (3, 10), "empty: the source is KIND");
    refused("version = 1\n[tier.a]\nsource = \"x\\u0000\"\n", (3, 10), "control character");
    refused_after_slow("limit = 0\n", (4, 9), "a limit of 0 bytes");
    refused_after_slow("limit = '0 GiB'\n", (4, 9), "a limit of 0 bytes");
    refused_after_slow("limit = '64 Mb/s'\n", (4, 9), "`64 Mb/s` is not a size");
    refused_after_slow("limit = -5\n", (4, 9), "-5 is not a byte count");
    refused_after_slow("limit = '184467440737095516155'\n", (4, 9), "not a size");
    refused_after_slow("limit = '16384 PiB'\n", (4, 9), "more than 64 bits");
    for bad in ["0", "0.0", "1.01", "-0.5", "nan", "inf", "1e-9"] {
        refused_after_slow(&format!("watermark = {bad}\n"), (4, 13), "a watermark is over 0 and up to 1");
    }
    refused_after_slow("watermark = '90%'\n", (4, 13), "this is a string; expected a fraction");
    refused_after_slow("bandwidth = '12 GB'\n", (4, 13), "not a bandwidth");
    refused_after_slow("bandwidth = '0 GB/s'\n", (4, 13), "more than 0");
    refused_after_slow("bandwidth = 12\n", (4, 13), "this is an integer; expected a bandwidth");
}

#[test]
fn columns_count_characters() {
    refused("version = 1\ntier.a = { source = 'äöü', limit = 0 }\n", (2, 36), "a limit of 0 bytes");
}

#[test]
fn too_many() {
    let tiers = |n: usize| (0..n).map(|i| format!("[tier.t{i}]\nsource = 'x'\n")).collect::<String>();
    assert!(Policy::parse(&format!("version = 1\n{}", tiers(TIERS_MAX - 1)), "p.toml").is_ok());
    // References to the tiers that are too many are no complaint of their own.
    let text = format!("version = 1\n{}[placement]\nchain = ['t8']\n", tiers(TIERS_MAX + 1));
    refused(&text, (2 * TIERS_MAX, 7), "`t7` is one tier too many: at most 8, dram included");
    let rules = |n: usize| (0..n).map(|i| format!("[[rule]]\nsize = '= {i}'\ntier = 'dram'\n")).collect::<String>();
    assert!(Policy::parse(&format!("version = 1\n{}", rules(RULES_MAX)), "p.toml").is_ok());
    refused(&format!("version = 1\n{}", rules(RULES_MAX + 1)), (3 * RULES_MAX + 2, 1), "at most 32");
}

#[test]
fn chains() {
    refused_after_slow("[placement]\nchain = []\n", (5, 9), "an empty chain");
    refused_after_slow("[placement]\nchain = ['dram', 'slow', 'dram']\n", (5, 26), "`dram` is in the chain already");
    refused_after_slow("[placement]\nchain = ['dram', 'slwo']\n", (5, 18), "unknown tier `slwo`; did you mean `slow`?");
    refused_after_slow("[placement]\nchain = ['dram', 7]\n", (5, 18), "expected the name of a tier");
}

#[test]
fn spills() {
    let spill = |spill: &str| format!("[tier.far]\nsource = 'x'\n[placement]\nspill = {{ {spill} }}\n");
    refused_after_slow(&spill("dram = 'dram'"), (7, 18), "spilling goes in a circle: dram → dram");
    refused_after_slow(
        &spill("slow = 'far', far = 'dram', dram = 'slow'"),
        (7, 46),
        "spilling goes in a circle: dram → slow → far → dram",
    );
    // The circle lies behind the way into it; it is told once.
    refused_after_slow(&spill("dram = 'slow', slow = 'far', far = 'slow'"), (7, 46), "far → slow → far");
    refused_after_slow(&spill("drum = 'slow'"), (7, 11), "unknown tier `drum`; did you mean `dram`?");
    refused_after_slow(&spill("dram = 'flow'"), (7, 18), "unknown tier `flow`; did you mean `slow`?");
    refused_after_slow(&spill("dram = 'far', slow = 'far'"), (7, 9), "`dram` and `slow` both begin a way of spilling");
}

#[test]
fn weights() {
    let weights = |weights: &str| format!("[placement]\nstrategy = 'interleave'\nweights = {weights}\n");
    refused_after_slow("[placement]\nstrategy = 'interleave'\n", (5, 12), "\"interleave\" needs weights");
    refused_after_slow(&weights("{ dram = 0, slow = 1 }"), (6, 20), "0 is out of range: a weight is 1 to 1000000");
    refused_after_slow(&weights("{ dram = -2, slow = 1 }"), (6, 20), "-2 is out of range");
    refused_after_slow(&weights("{ dram = 1.5, slow = 1 }"), (6, 20), "this is a float; expected a weight");
    refused_after_slow(&weights("{ dram = 3 }"), (6, 11), "no weight for `slow`");
    refused_after_slow(&weights("{ dram = 3, slow = 1, fast = 2 }"), (6, 33), "unknown tier `fast`");
    refused_after_slow(&weights("'bandwith'"), (6, 11), "or \"bandwidth\"");
    refused_after_slow(
        "[placement]\nchain = ['dram']\nweights = { dram = 1, slow = 1 }\n",
        (6, 23),
        "`slow` has a weight but is not in the chain",
    );
}

#[test]
fn rules() {
    let rule = |rule: &str| format!("[[rule]]\n{rule}\n");
    refused_after_slow(&rule("tier = 'slow'"), (4, 1), "a rule needs a condition");
    refused_after_slow(&rule("size = '< 4k'"), (4, 1), "a rule needs a `tier`");
    refused_after_slow(&rule("size = '< 4k'\ntier = 'slo'"), (6, 8), "did you mean `slow`?");
    refused_after_slow(&rule("size = 4096\ntier = 'slow'"), (5, 8), "this is an integer; expected a range");
    refused_after_slow(&rule("size = '4 KiB'\ntier = 'slow'"), (5, 8), "not a range of sizes");
    refused_after_slow(&rule("size = '>= many'\ntier = 'slow'"), (5, 8), "`many` is not a size");
    for empty in ["1 MiB..64 KiB", "4k..4k", "< 0", "> 18446744073709551615"] {
        refused_after_slow(&rule(&format!("size = '{empty}'\ntier = 'slow'")), (5, 8), "no size is in");
    }
    refused_after_slow(&rule("symbol = ''\ntier = 'slow'"), (5, 10), "empty: write a pattern");
    refused_after_slow(&rule("module = 3\ntier = 'slow'"), (5, 10), "expected a pattern");
    refused_after_slow(&rule("symbol = 'f'\ndepth = 0\ntier = 'slow'"), (6, 9), "a depth in frames is 1 to 64");
    refused_after_slow(&rule("size = '< 4k'\ndepth = 4\ntier = 'slow'"), (6, 9), "this rule has neither");
    refused_after_slow(
        "[[rule]]\nsize = '>= 1k'\ntier = 'slow'\n[[rule]]\nsize = '2k..3k'\ntier = 'dram'\n",
        (8, 8),
        "would never apply",
    );
}

#[test]
fn all_complaints_at_once_each_with_its_line_and_mark() {
    let text = "version = 1\n[tier.slow]\nsource = 'x'\nlimit = 0\n[placement]\n\tchain = ['dräm', 'slow']\n[[rule]]\n";
    let error = Policy::parse(text, "dir/p.toml").unwrap_err();
    let expected = "\
dir/p.toml:4:9: a limit of 0 bytes: no block could live there; leave the tier out instead
4 | limit = 0
  |         ^
dir/p.toml:6:11: unknown tier `dräm`; did you mean `dram`?
6 |  chain = ['dräm', 'slow']
  |           ^^^^^^
dir/p.toml:7:1: a rule needs a condition: `size`, `symbol` or `module`
7 | [[rule]]
  | ^^^^^^^^
dir/p.toml:7:1: a rule needs a `tier`
7 | [[rule]]
  | ^^^^^^^^";
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.entries()[1].width, 6);
    assert!(error.summary().ends_with("leave the tier out instead (and 3 more)"), "{}", error.summary());
}

#[test]
fn huge_and_binary_input() {
    let error = Policy::parse(&"x".repeat(1 << 20), "p.toml").unwrap_err();
    assert!(error.entries()[0].message.contains("at most"), "{error}");
    assert!(error.to_string().len() < 1000);
    let error = Policy::parse_bytes(b"version = 1\n# \xff\xfe\x00", "p.toml").unwrap_err();
    assert_eq!((error.entries()[0].line, error.entries()[0].column), (2, 3), "{error}");
    let error = Policy::parse(&format!("version = 1\n{}", "k = 1\n[a]\n".repeat(20_000)), "p.toml").unwrap_err();
    assert!(error.entries().len() <= 50 && error.to_string().ends_with("more"), "{error}");
    // The mark stays visible on a line that is far too long to show.
    let error = Policy::parse(&format!("version = 1\nx = [{}'é', ?]\n", "1, ".repeat(5000)), "p.toml").unwrap_err();
    assert_eq!(error.entries()[0].line, 2, "{error}");
    assert!(error.entries()[0].source.contains('?') && error.to_string().len() < 1000, "{error}");
    assert!(Policy::parse(&"[".repeat(100_000), "p.toml").is_err());
    assert!(Policy::parse(&format!("version = {}", "[".repeat(100_000)), "p.toml").is_err());
}

#[test]
fn tiers_from_the_command_line() {
    let place = |specs: &[&str]| {
        let error = Policy::with_tiers(specs.iter().copied()).unwrap_err();
        (error.entries()[0].column, error.to_string())
    };
    for (specs, column, message) in [
        (&["slow"][..], 1, "a tier is NAME=SOURCE"),
        (&["=x"], 1, "cannot name a tier"),
        (&["slow="], 6, "empty: the source is"),
        (&["a=x", "b=x", "c=x", "d=x", "e=x", "f=x", "g=x", "h=x"], 1, "at most 8 tiers"),
    ] {
        let (at, text) = place(specs);
        assert_eq!(at, column, "{text}");
        assert!(text.starts_with("--tier:1:") && text.contains(message), "{text}");
    }
    let mut policy = Policy::with_tiers(["slow=x", "far=y", "dram=dram:0", "slow=z"]).unwrap();
    let sources: Vec<_> = policy.tiers().iter().map(|tier| (tier.name(), tier.source())).collect();
    assert_eq!(sources, [("dram", Some("dram:0")), ("slow", Some("z")), ("far", Some("y"))]);
    assert!(policy.set_limit("slow", Some(5)) && policy.tiers()[1].limit() == Some(5));
    assert!(!policy.set_limit("slow", Some(0)) && !policy.set_limit("none", Some(1)));
    let mut weighted = Policy::parse(EXAMPLE, "example").unwrap();
    assert!(weighted.add_tier("more=x").unwrap_err().to_string().contains("in the file"));
}
