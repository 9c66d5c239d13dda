//! What an exploration has come to.

use std::fmt;

use super::choice::Schedule;
use super::finding::{Finding, FindingKind};
use super::strategy::{Seed, Strategy};
use super::timeline::Timeline;

/// What one strategy has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Which strategy.
    pub strategy: Strategy,
    /// How many runs.
    pub schedules: u64,
    /// Whether it came to its own end, rather than to a finding or to the limit on schedules.
    pub complete: bool,
}

/// Something is wrong with the program.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What.
    pub finding: Finding,
    /// The shortest schedule under which it happens; [`Explorer::replay`](super::Explorer::replay) repeats it.
    pub schedule: Schedule,
    /// Of the run in which it was found first, if that was random.
    pub seed: Option<Seed>,
    /// What found it; `None` in a replay.
    pub strategy: Option<Strategy>,
    /// How many runs of that strategy it took.
    pub schedules: u64,
    /// How many deviations the schedule had when it was found.
    pub deviations: usize,
    /// What happened, step by step, under the shortest schedule.
    pub timeline: Timeline,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.finding)?;
        writeln!(f, "{}", self.timeline)?;
        if let Some(strategy) = self.strategy {
            writeln!(f, "found by: {strategy}; in schedule {}", self.schedules)?;
            writeln!(f, "shrunk:   {} -> {} deviations", self.deviations, self.schedule.len())?;
        }
        if let Some(seed) = self.seed {
            writeln!(f, "seed:     {seed}")?;
        }
        write!(f, "schedule: {}", self.schedule)
    }
}

/// What an exploration has come to.
#[derive(Clone, Debug)]
#[must_use = "a report tells whether something was found"]
pub struct Report {
    /// What each strategy has done, up to the one that found something; nothing in a replay.
    pub passes: Vec<Pass>,
    /// What was found.
    pub failure: Option<Failure>,
}

impl Report {
    /// How many runs the strategies took in all.
    pub fn schedules(&self) -> u64 {
        self.passes.iter().map(|pass| pass.schedules).sum()
    }

    /// What kind of thing was found.
    pub fn kind(&self) -> Option<FindingKind> {
        self.failure.as_ref().map(|failure| failure.finding.kind)
    }

    /// Nothing may have been found.
    ///
    /// # Panics
    /// With the whole story, if something was.
    pub fn assert_clean(&self) {
        if let Some(failure) = &self.failure {
            panic!("\n{failure}\n");
        }
    }

    /// This kind of thing must have been found; returns it.
    ///
    /// # Panics
    /// If nothing was found, or something else, with its story.
    pub fn assert_found(&self, kind: FindingKind) -> &Failure {
        match &self.failure {
            Some(failure) if failure.finding.kind == kind => failure,
            Some(failure) => panic!("\"{kind}\" was expected, but found was\n{failure}\n"),
            None => panic!("\"{kind}\" was expected, but nothing was found\n{self}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pass in &self.passes {
            let end = match (pass.complete, &self.failure) {
                (true, _) => "complete",
                (false, None) => "not complete",
                (false, Some(_)) => "ended by a finding",
            };
            writeln!(f, "{}: {} schedules, {end}", pass.strategy, pass.schedules)?;
        }
        match &self.failure {
            Some(failure) => write!(f, "{failure}"),
            None => f.write_str("nothing found"),
        }
    }
}
