//! Faults that wait for their time, and those that have come and last.

use super::script::{Fault, FaultKind, Lasts, Part, PartError, Script, Trigger, parts};
use crate::{Bytes, TierName};

#[derive(Clone, Copy, Debug)]
struct Armed {
    fault: Fault,
    fired: u32,
    until: Option<Until>,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    Forever,
    Operation(u64),
    Time(u64),
}

/// What is in force.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InForce {
    pub gone: bool,
    pub link_is_down: bool,
    pub full: bool,
    pub no_reads: bool,
    pub no_writes: bool,
    pub capacity: Option<Bytes>,
    pub factor: Option<f64>,
}

/// Where a tier stands: its last operation, and the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub operation: u64,
    pub ns: u64,
}

/// The faults of one script on one tier.
#[derive(Debug)]
pub(super) struct Plan {
    /// Decides what the script leaves open; of its own, so that no other script changes what this one does.
    pub random: Random,
    armed: Vec<Armed>,
    /// The operation and the time from which it counts.
    since: Now,
}

impl Plan {
    /// Of a script's faults, those for `tier`, counted from the tier's opening.
    pub(super) fn new(script: &Script, tier: TierName) -> Self {
        let own = script.faults.iter().filter(|fault| fault.tier.is_none_or(|name| name == tier));
        let armed = own.map(|&fault| Armed { fault, fired: 0, until: None }).collect();
        Self { random: Random::new(script.seed), armed, since: Now { operation: 0, ns: 0 } }
    }

    /// Without faults, and with room for that many.
    pub(super) fn with_room(faults: usize) -> Self {
        Self { random: Random::new(0), armed: Vec::with_capacity(faults), since: Now { operation: 0, ns: 0 } }
    }

    /// Puts a script in the place of this one, whose faults end; counted from `now`. Allocates nothing.
    ///
    /// # Errors
    /// The text is none, or has more faults than there is room for: then nothing changes.
    pub(super) fn replace(&mut self, text: &str, now: Now) -> Result<(), &'static str> {
        let mut count = 0;
        parts(text)
            .try_for_each(|part| part.map(|part| count += usize::from(matches!(part, Part::Fault(_)))))
            .map_err(|PartError { reason, .. }| reason)?;
        if count > self.armed.capacity() {
            return Err("it has too many faults");
        }
        self.armed.clear();
        self.since = now;
        self.random = Random::new(0);
        for part in parts(text).flatten() {
            match part {
                Part::Seed(seed) => self.random = Random::new(seed),
                Part::Fault(fault) => self.armed.push(Armed { fault, fired: 0, until: None }),
            }
        }
        Ok(())
    }

    pub(super) const fn len(&self) -> usize {
        self.armed.len()
    }

    /// The fault at `i`, if it is to come now.
    pub(super) fn due(&mut self, i: usize, now: Now, is_operation: bool) -> Option<Fault> {
        let Armed { fault, fired, .. } = self.armed[i];
        let due = match fault.trigger {
            Trigger::AtOperation(operation) => now.operation - self.since.operation >= operation,
            Trigger::AtTime(at) => now.ns.saturating_sub(self.since.ns) >= at,
            // Drawn even if it has come often enough: other faults' draws must not depend on it.
            Trigger::Probability(p) => is_operation && self.random.unit() < p,
        };
        (due && fired < fault.times).then_some(fault)
    }

    /// Notes that the fault at `i` has come.
    pub(super) fn has_come(&mut self, i: usize, now: Now) {
        let armed = &mut self.armed[i];
        armed.fired += 1;
        armed.until = Some(match armed.fault.lasts {
            Lasts::Forever => Until::Forever,
            Lasts::Operations(count) => Until::Operation(now.operation.saturating_add(count)),
            Lasts::Time(ns) => Until::Time(now.ns.saturating_add(ns)),
        });
    }

    /// Ends what is over, and adds what is in force to `sum`.
    pub(super) fn add_to(&mut self, sum: &mut InForce, now: Now) {
        for armed in &mut self.armed {
            let over = match armed.until {
                None => true,
                Some(Until::Forever) => false,
                Some(Until::Operation(end)) => now.operation >= end,
                Some(Until::Time(end)) => now.ns >= end,
            };
            if over {
                armed.until = None;
                continue;
            }
            match armed.fault.kind {
                FaultKind::Remove | FaultKind::Reset => sum.gone = true,
                FaultKind::LinkDown => (sum.gone, sum.link_is_down) = (true, true),
                FaultKind::Shrink { to } => sum.capacity = Some(sum.capacity.map_or(to, |least| least.min(to))),
                FaultKind::Slow { factor } => sum.factor = Some(sum.factor.unwrap_or(1.0) * factor),
                FaultKind::Full => sum.full = true,
                FaultKind::IoError { reads, writes } => {
                    sum.no_reads |= reads;
                    sum.no_writes |= writes;
                }
                FaultKind::Poison { .. } | FaultKind::Crash => {}
            }
        }
    }

    /// Whether time alone can still bring or end something.
    pub(super) fn waits_for_time(&self) -> bool {
        self.armed.iter().any(|armed| {
            let comes = matches!(armed.fault.trigger, Trigger::AtTime(_)) && armed.fired < armed.fault.times;
            comes || matches!(armed.until, Some(Until::Time(_)))
        })
    }
}

/// Repeatable random numbers: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// From 0 to just below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
