//! Litmus tests of the explorer's own semantics: each outcome that the model allows is reached by going through all
//! schedules, and no other. Where the expectations come from stands in `docs/coherence.md`.
//!
//! Detectors are off: here old values are the point.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use tiermem_emulator::coherence::{Architecture, Detector, Explorer, Host, Scenario, Strategy};

mod crash;
mod message_passing;
mod order;
mod reference;
mod shapes;

type Outcomes = Rc<RefCell<BTreeSet<Vec<u64>>>>;
type Program = fn(&Host<'_>) -> Vec<u64>;

/// Two lines without coherence and two with.
const X: u64 = 0;
const Y: u64 = 64;
const CX: u64 = 128;
const CY: u64 = 192;

struct Litmus {
    programs: Vec<Program>,
    architecture: Architecture,
    crash: Option<(usize, Program)>,
    power: Option<Program>,
    last: Option<Program>,
}

impl Litmus {
    fn new(programs: &[Program]) -> Self {
        let architecture = Architecture::X86;
        Self { programs: programs.to_vec(), architecture, crash: None, power: None, last: None }
    }

    fn weak(mut self) -> Self {
        self.architecture = Architecture::Weak;
        self
    }

    /// The registers of all hosts in a row (then those of the recovery, then of the last look), over all schedules.
    fn outcomes(&self) -> BTreeSet<Vec<u64>> {
        let all = Outcomes::default();
        let scenario = |scenario: &mut Scenario| self.build(scenario, &all);
        let mut explorer = Explorer::new()
            .strategies(&[Strategy::Exhaustive])
            .architecture(self.architecture)
            .max_schedules(3_000_000);
        for detector in Detector::ALL {
            explorer = explorer.without(detector);
        }
        let report = explorer.check(scenario);
        report.assert_clean();
        assert!(report.passes[0].complete, "{report}");
        all.take()
    }

    fn build(&self, scenario: &mut Scenario, all: &Outcomes) {
        scenario.pool(256).coherent(CX..CY + 64);
        let registers: Rc<RefCell<Vec<Vec<u64>>>> = Rc::new(RefCell::new(vec![Vec::new(); self.programs.len() + 1]));
        for (index, &program) in self.programs.iter().enumerate() {
            let mine = Rc::clone(&registers);
            let name = format!("h{index}");
            let program = move |host: &Host<'_>| mine.borrow_mut()[index] = program(host);
            if self.crash.is_some_and(|(host, _)| host == index) {
                scenario.host_that_may_crash(&name, program);
            } else {
                scenario.host(&name, program);
            }
        }
        if self.power.is_some() {
            scenario.power_may_fail();
        }
        if let Some(recovery) = self.power.or(self.crash.map(|(_, recovery)| recovery)) {
            let mine = Rc::clone(&registers);
            scenario.recovery(move |host| {
                let mut found = vec![u64::MAX];
                found.extend(recovery(host));
                if let Some(last) = mine.borrow_mut().last_mut() {
                    *last = found;
                }
            });
        }
        let (all, last) = (Rc::clone(all), self.last);
        scenario.finally(move |host| {
            let mut outcome = registers.borrow().concat();
            outcome.extend(last.map(|last| last(host)).unwrap_or_default());
            all.borrow_mut().insert(outcome);
        });
    }

    /// Exactly these outcomes.
    #[track_caller]
    fn exactly(&self, expected: &[&[u64]]) {
        let expected: BTreeSet<Vec<u64>> = expected.iter().map(|outcome| outcome.to_vec()).collect();
        assert_eq!(self.outcomes(), expected);
    }
}

fn write_back(host: &Host<'_>, line: u64) {
    host.flush(line..line + 8);
    host.fence();
}

/// Drops what the host has of the line, and loads it.
fn fresh(host: &Host<'_>, line: u64) -> u64 {
    host.flush(line..line + 8);
    host.fence();
    host.load_u64(line)
}
