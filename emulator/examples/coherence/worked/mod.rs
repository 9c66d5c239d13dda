//! Three data structures for hosts that share memory without coherence, each right, and each with ten steps of its
//! protocol that can be left out: to see that the explorer finds what breaks.

mod directory;
mod free_list;
mod ring;

use std::fmt;

use tiermem_emulator::coherence::{FindingKind, Scenario};

const LINE: u64 = 64;

/// The steps of a protocol.
pub trait Steps: Copy + fmt::Debug + 'static {
    /// All that can be left out.
    const ALL: &'static [Self];

    /// What is found, then: one of these.
    fn expected(self) -> &'static [FindingKind];

    /// A test of the structure, with one of its steps left out, or none.
    fn scenario(left_out: Option<Self>, scenario: &mut Scenario);
}

/// A structure, with a step left out or without.
pub struct Case {
    /// Which structure.
    pub structure: &'static str,
    /// What is left out; nothing in the right one.
    pub left_out: Option<String>,
    /// What is found, one of these; nothing in the right one.
    pub expected: &'static [FindingKind],
    scenario: Box<dyn Fn(&mut Scenario)>,
}

impl Case {
    /// Describes it to the explorer.
    pub fn build(&self, scenario: &mut Scenario) {
        (self.scenario)(scenario);
    }
}

/// The right ones first, then all with something left out.
pub fn cases() -> Vec<Case> {
    let mut all = cases_of::<ring::Step>("ring");
    all.extend(cases_of::<directory::Step>("directory"));
    all.extend(cases_of::<free_list::Step>("free-list"));
    all.sort_by_key(|case| case.left_out.is_some());
    all
}

fn cases_of<S: Steps>(structure: &'static str) -> Vec<Case> {
    let case = |left_out: Option<S>| Case {
        structure,
        left_out: left_out.map(|step| format!("{step:?}")),
        expected: left_out.map_or(&[], Steps::expected),
        scenario: Box::new(move |scenario| S::scenario(left_out, scenario)),
    };
    std::iter::once(None).chain(S::ALL.iter().copied().map(Some)).map(case).collect()
}
