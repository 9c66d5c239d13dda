//! Running a scenario again and again.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;

use super::choice::{Choices, Decide, Keyed, Prefix, Schedule};
use super::finding::{Detector, Detectors, Finding, FindingKind};
use super::machine::{Architecture, Halt, Machine, Rules};
use super::medium::Medium;
use super::report::{Failure, Pass, Report};
use super::run::run;
use super::scenario::Scenario;
use super::strategy::{Search, Seed, Strategy};
use super::timeline::Log;
use super::{Stacks, history::mix, shrink};

/// Explores scenarios: runs them under one schedule after the other, until something is found or the strategies are at
/// their end.
///
/// By default these are all schedules with up to two deviations, and 10,000 random ones.
#[derive(Clone)]
pub struct Explorer {
    rules: Rules,
    strategies: Vec<Strategy>,
    limit: u64,
    seed: u64,
    medium: Option<Rc<RefCell<dyn Medium>>>,
}

impl std::fmt::Debug for Explorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Explorer").field("strategies", &self.strategies).finish_non_exhaustive()
    }
}

impl Default for Explorer {
    fn default() -> Self {
        Self::new()
    }
}

/// Operations of a run, unless [`Explorer::max_steps`] says otherwise.
const MAX_STEPS: u32 = 10_000;
/// Schedules that are spent on a shorter one.
const SHORTER: u64 = 20_000;
/// Schedules of a strategy, unless [`Explorer::max_schedules`] says otherwise.
const MAX_SCHEDULES: u64 = 1_000_000;

impl Explorer {
    /// With the default strategies, all detectors, x86 hosts and memory that is coherent only where the scenario says so.
    pub fn new() -> Self {
        Self {
            rules: Rules {
                architecture: Architecture::X86,
                detectors: Detectors::ALL,
                hardware_coherent: false,
                max_steps: MAX_STEPS,
            },
            strategies: vec![Strategy::Systematic { deviations: 2 }, Strategy::Random { schedules: 10_000 }],
            limit: MAX_SCHEDULES,
            seed: 0,
            medium: None,
        }
    }

    /// These strategies, one after the other, instead of the default ones.
    #[must_use]
    pub fn strategies(mut self, strategies: &[Strategy]) -> Self {
        self.strategies = strategies.to_vec();
        self
    }

    /// No more than so many schedules for each strategy; a million if this is not called.
    #[must_use]
    pub fn max_schedules(mut self, schedules: u64) -> Self {
        self.limit = schedules;
        self
    }

    /// A run that takes more operations ends with a finding; 10,000 if this is not called.
    #[must_use]
    pub fn max_steps(mut self, steps: u32) -> Self {
        self.rules.max_steps = steps;
        self
    }

    /// Where the random strategies begin; 0 if this is not called.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Switches a detector off.
    #[must_use]
    pub fn without(mut self, detector: Detector) -> Self {
        self.rules.detectors = self.rules.detectors.without(detector);
        self
    }

    /// What the hosts' processors are.
    #[must_use]
    pub fn architecture(mut self, architecture: Architecture) -> Self {
        self.rules.architecture = architecture;
        self
    }

    /// All of the pool is kept coherent by the hardware: what is found here has nothing to do with caches.
    #[must_use]
    pub fn hardware_coherent(mut self) -> Self {
        self.rules.hardware_coherent = true;
        self
    }

    /// The pool's bytes lie there as well, and are checked against it. What it held is overwritten.
    #[must_use]
    pub fn medium(mut self, medium: Rc<RefCell<dyn Medium>>) -> Self {
        self.medium = Some(medium);
        self
    }

    /// Explores a scenario. The function describes it, anew for each run.
    ///
    /// # Panics
    /// If the program was built with `panic = "abort"` (a crashed host's program must be unwound; test builds never
    /// are), or the scenario is not possible (a range outside of its pool, too many hosts).
    pub fn check(&self, scenario: impl Fn(&mut Scenario)) -> Report {
        if !cfg!(panic = "unwind") {
            panic!("the explorer ends programs in their middle: build with panic = \"unwind\", as tests always are");
        }
        let mut lab = Lab { explorer: self, scenario: &scenario, stacks: Stacks::default() };
        let mut passes = Vec::new();
        let mut failure = None;
        for &strategy in &self.strategies {
            let (pass, found) = lab.pass(strategy);
            passes.push(pass);
            if let Some(found) = found {
                failure = Some(lab.explain(found, strategy, pass.schedules));
                break;
            }
        }
        Report { passes, failure }
    }

    /// Runs a scenario under one schedule.
    ///
    /// # Panics
    /// As [`check`](Self::check).
    pub fn replay(&self, schedule: &Schedule, scenario: impl Fn(&mut Scenario)) -> Report {
        self.once(Box::new(Keyed::new(schedule)), &scenario, None)
    }

    /// Runs a scenario under one random schedule.
    ///
    /// # Panics
    /// As [`check`](Self::check).
    pub fn replay_seed(&self, seed: Seed, scenario: impl Fn(&mut Scenario)) -> Report {
        self.once(seed.decider(), &scenario, Some(seed))
    }

    fn once(&self, decider: Box<dyn Decide>, scenario: &dyn Fn(&mut Scenario), seed: Option<Seed>) -> Report {
        let mut lab = Lab { explorer: self, scenario, stacks: Stacks::default() };
        let machine = lab.run(decider, Log::wanted());
        let failure = machine.finding().map(|finding| {
            let schedule = Schedule::of(&machine.choices.trace);
            let deviations = schedule.len();
            let timeline = machine.into_timeline();
            Failure { finding, schedule, seed, strategy: None, schedules: 1, deviations, timeline }
        });
        Report { passes: Vec::new(), failure }
    }
}

impl Machine {
    /// What was found, if anything.
    pub(super) fn finding(&self) -> Option<Finding> {
        match &self.halted {
            Some(Halt::Found(finding)) => Some(finding.clone()),
            _ => None,
        }
    }

    fn into_timeline(self) -> super::Timeline {
        let names = self.hosts.iter().map(|host| Rc::clone(&host.name)).collect();
        self.log.into_timeline(names)
    }
}

/// A scenario on the bench.
pub(super) struct Lab<'a> {
    explorer: &'a Explorer,
    scenario: &'a dyn Fn(&mut Scenario),
    stacks: Stacks,
}

/// A failing run, as it was found.
struct Found {
    finding: Finding,
    schedule: Schedule,
    seed: Option<Seed>,
}

/// What a search has come to.
struct Searched {
    schedules: u64,
    complete: bool,
    found: Option<Found>,
}

impl Lab<'_> {
    /// One run.
    pub(super) fn run(&mut self, decider: Box<dyn Decide>, log: Log) -> Machine {
        let mut scenario = Scenario::new(log.is_wanted());
        (self.scenario)(&mut scenario);
        let mut machine = Machine::new(self.explorer.rules, Choices::new(decider), log);
        machine.medium.clone_from(&self.explorer.medium);
        machine.lines = std::mem::take(&mut self.stacks.1);
        run(scenario, machine, &mut self.stacks)
    }

    /// A run whose outcome matters and nothing else.
    fn try_run(&mut self, decider: Box<dyn Decide>) -> (Option<Finding>, Machine) {
        let mut machine = self.run(decider, Log::default());
        self.stacks.1 = std::mem::take(&mut machine.lines);
        (machine.finding(), machine)
    }

    fn pass(&mut self, strategy: Strategy) -> (Pass, Option<Found>) {
        match strategy {
            Strategy::Systematic { deviations } => self.systematic(strategy, 0..=deviations),
            Strategy::Exhaustive => self.systematic(strategy, u32::MAX - 1..=u32::MAX - 1),
            Strategy::Random { schedules } => self.random(strategy, schedules, None),
            Strategy::Pct { schedules, depth } => {
                let (_, machine) = self.try_run(Box::new(Prefix::default()));
                let length = u32::try_from(machine.choices.trace.len()).unwrap_or(u32::MAX).max(8);
                self.random(strategy, schedules, Some((depth, length)))
            }
        }
    }

    /// Levels of deviations, one after the other.
    fn systematic(&mut self, strategy: Strategy, levels: RangeInclusive<u32>) -> (Pass, Option<Found>) {
        let limit = self.explorer.limit;
        let searched = self.search(levels, limit, |_| true);
        (Pass { strategy, schedules: searched.schedules, complete: searched.complete }, searched.found)
    }

    /// Looks for something `wanted`.
    fn search(&mut self, levels: RangeInclusive<u32>, limit: u64, wanted: impl Fn(&Finding) -> bool) -> Searched {
        let mut schedules = 0;
        for level in levels {
            let mut search = Search::new(level);
            while let Some((decider, prefix, budget)) = search.pop() {
                if schedules == limit {
                    return Searched { schedules, complete: false, found: None };
                }
                schedules += 1;
                let (finding, machine) = self.try_run(decider);
                if let Some(finding) = finding.filter(&wanted) {
                    let schedule = Schedule::of(&machine.choices.trace);
                    let found = Some(Found { finding, schedule, seed: None });
                    return Searched { schedules, complete: false, found };
                }
                search.branch(&machine.choices.trace, prefix, budget);
            }
            if !search.cut {
                break;
            }
        }
        Searched { schedules, complete: true, found: None }
    }

    fn random(&mut self, strategy: Strategy, schedules: u64, pct: Option<(u32, u32)>) -> (Pass, Option<Found>) {
        let schedules = schedules.min(self.explorer.limit);
        for index in 0..schedules {
            let seed = Seed { number: mix(self.explorer.seed, index), pct };
            let (finding, machine) = self.try_run(seed.decider());
            if let Some(finding) = finding {
                let schedule = Schedule::of(&machine.choices.trace);
                let found = Found { finding, schedule, seed: Some(seed) };
                return (Pass { strategy, schedules: index + 1, complete: false }, Some(found));
            }
        }
        (Pass { strategy, schedules, complete: true }, None)
    }

    /// Shortens the schedule and tells the story of the shortest.
    fn explain(&mut self, found: Found, strategy: Strategy, schedules: u64) -> Failure {
        let deviations = found.schedule.len();
        let kind = found.finding.kind;
        let schedule = shrink::shortest(found.schedule, |schedule| {
            let (finding, machine) = self.try_run(Box::new(Keyed::new(schedule)));
            finding.filter(|finding| finding.kind == kind).map(|_| Schedule::of(&machine.choices.trace))
        });
        let schedule = self.shorter(schedule, kind);
        let machine = self.run(Box::new(Keyed::new(&schedule)), Log::wanted());
        let finding = machine.finding().unwrap_or(found.finding);
        Failure {
            finding,
            schedule,
            seed: found.seed,
            strategy: Some(strategy),
            schedules,
            deviations,
            timeline: machine.into_timeline(),
        }
    }

    /// The same kind of finding with fewer deviations, if a short search meets it: leaving deviations out, one by one,
    /// ends at a schedule that needs all of its own, but others may need less.
    fn shorter(&mut self, schedule: Schedule, kind: FindingKind) -> Schedule {
        let Some(most) = u32::try_from(schedule.len()).ok().and_then(|len| len.checked_sub(1)) else { return schedule };
        let searched = self.search(0..=most, SHORTER, |finding| finding.kind == kind);
        searched.found.map_or(schedule, |found| found.schedule)
    }
}
