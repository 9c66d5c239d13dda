//! Making a failing schedule short.

use super::choice::Schedule;

/// The shortest schedule that can be found by leaving deviations out (delta debugging; Zeller and Hildebrandt, IEEE TSE
/// 2002). `fails` runs a schedule and returns the deviations that came up, if the same kind of finding did; since
/// deviations are named by the operation they belong to, those that are left keep their meaning.
pub(super) fn shortest(schedule: Schedule, mut fails: impl FnMut(&Schedule) -> Option<Schedule>) -> Schedule {
    // Deviations that did not come up again are gone at once.
    let mut best = match fails(&schedule) {
        Some(actual) => shorter(actual, schedule),
        None => return schedule,
    };
    let mut parts = 2;
    while !best.is_empty() {
        let len = best.len();
        let size = len.div_ceil(parts);
        let without = |start: usize| {
            let mut deviations = best.deviations.clone();
            deviations.drain(start..(start + size).min(len));
            Schedule { deviations }
        };
        let found = (0..len).step_by(size).find_map(|start| {
            let candidate = without(start);
            fails(&candidate).map(|actual| shorter(actual, candidate))
        });
        match found {
            Some(found) => {
                best = found;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(len),
        }
    }
    best
}

/// What really deviated, if that is not more than what was asked for.
fn shorter(actual: Schedule, asked: Schedule) -> Schedule {
    if actual.len() <= asked.len() { actual } else { asked }
}

#[cfg(test)]
mod tests {
    use super::super::choice::{Key, Kind};
    use super::*;

    fn schedule(ops: impl IntoIterator<Item = u32>) -> Schedule {
        let deviation = |op| (Key { host: 0, op, kind: Kind::Next, nth: 0 }, 1);
        Schedule { deviations: ops.into_iter().map(deviation).collect() }
    }

    #[test]
    fn only_what_is_needed_is_left() {
        let needed = [3, 17, 40];
        let mut runs = 0;
        let shortest = shortest(schedule(0..50), |schedule| {
            runs += 1;
            let has = |op: &u32| schedule.deviations.iter().any(|(key, _)| key.op == *op);
            needed.iter().all(has).then(|| schedule.clone())
        });
        assert_eq!(shortest, schedule(needed));
        assert!(runs < 100, "{runs}");
    }

    #[test]
    fn nothing_may_be_needed() {
        assert!(shortest(schedule(0..9), |schedule| Some(schedule.clone())).is_empty());
    }
}
