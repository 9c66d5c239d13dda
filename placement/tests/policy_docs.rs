//! The policies and complaints printed in `docs/policy.md` are what the parser takes and gives.

use tiermem_placement::Policy;

const PAGE: &str = include_str!("../../docs/policy.md");

/// The fenced blocks of the page whose fence says `info`.
fn blocks(info: &str) -> Vec<&'static str> {
    let fence = format!("```{info}\n");
    PAGE.split(&fence).skip(1).map(|rest| rest.split("```").next().expect("split gives one part at least")).collect()
}

#[test]
fn printed_policies_are_accepted() {
    let policies = blocks("toml");
    assert!(policies.len() >= 5, "{}", policies.len());
    for text in policies {
        Policy::parse(text, "docs/policy.md").unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn printed_complaints_are_given() {
    let ([faulty], [complaints]) = (&blocks("toml faulty")[..], &blocks("text")[..]) else { panic!("one of each") };
    let error = Policy::parse(faulty, "my.toml").expect_err("a faulty policy");
    assert_eq!(error.to_string().trim_end(), complaints.trim_end());
}
