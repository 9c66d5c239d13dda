//! Whose turn it is: threads go through the engine in the order of their clocks, whatever the order in which the system runs them.
//!
//! What threads share (caches, links, devices) is as true as their clocks are close: a link knows a few microseconds
//! of its past (see `Lane`), and a thread that comes later than that finds it full. So the thread that is behind goes first, and goes on
//! until it is a [`WINDOW_PS`] ahead of the next one. If there is nothing of the thread that is behind, the others
//! wait for it, unless it waits itself: in the manner of Graphite's LaxP2P (Miller et al., HPCA 2010) and of ZSim's bound phases
//! (Sanchez and Kozyrakis, ISCA 2013), with one engine for all.

use std::time::Duration;

use super::ThreadIndex;

/// How far a thread may run ahead, picoseconds: 2 µs, half of what a link remembers.
pub const WINDOW_PS: u64 = 2_000_000;

/// A thread that runs.
#[derive(Clone, Copy, Debug)]
pub struct Runner {
    /// Its number.
    pub index: ThreadIndex,
    /// Its clock.
    pub now_ps: u64,
    /// Whether something of it is there to be taken.
    pub has_work: bool,
    /// Whether it waits for another thread or for the system, as far as is known: then nobody waits for it.
    pub waits: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This thread, until its clock is there.
    Take(ThreadIndex, u64),
    /// Nobody, until there is something of this thread.
    WaitFor(ThreadIndex),
    /// There is nothing to be taken.
    Nothing,
}

/// Whose turn it is.
///
/// ```
/// use tiermem_emulator::instrumented::ThreadIndex;
/// use tiermem_emulator::instrumented::turns::{Runner, Turn, WINDOW_PS, turn};
/// let runner = |index, now_ps, has_work| Runner { index: ThreadIndex(index), now_ps, has_work, waits: false };
/// let ahead = runner(0, 9_000_000, true);
/// assert_eq!(turn([ahead, runner(1, 5_000, true)]), Turn::Take(ThreadIndex(1), 9_000_000 + WINDOW_PS));
/// assert_eq!(turn([ahead, runner(1, 5_000, false)]), Turn::WaitFor(ThreadIndex(1)));
/// assert_eq!(turn([ahead, Runner { waits: true, ..runner(1, 5_000, false) }]), Turn::Take(ThreadIndex(0), u64::MAX));
/// ```
pub fn turn(runners: impl IntoIterator<Item = Runner>) -> Turn {
    // The two that are furthest behind, of those that go on; and of those, the first with work.
    let mut least: [Option<Runner>; 2] = [None; 2];
    let mut ready: Option<Runner> = None;
    let is_behind = |one: &Runner, other: Option<Runner>| other.is_none_or(|other| one.now_ps < other.now_ps);
    for runner in runners {
        if runner.waits && !runner.has_work {
            continue;
        }
        if runner.has_work && is_behind(&runner, ready) {
            ready = Some(runner);
        }
        if is_behind(&runner, least[0]) {
            least = [Some(runner), least[0]];
        } else if is_behind(&runner, least[1]) {
            least[1] = Some(runner);
        }
    }
    let (Some(ready), [Some(last), next]) = (ready, least) else { return Turn::Nothing };
    let others = if ready.index == last.index { next } else { Some(last) };
    let until_ps = others.map_or(u64::MAX, |other| other.now_ps + WINDOW_PS);
    if ready.now_ps <= until_ps { Turn::Take(ready.index, until_ps) } else { Turn::WaitFor(last.index) }
}

/// How far the clocks of those are apart that go on.
pub fn skew_ps(runners: impl IntoIterator<Item = Runner>) -> u64 {
    let clocks = runners.into_iter().filter(|runner| runner.has_work || !runner.waits).map(|runner| runner.now_ps);
    let (least, most) = clocks.fold((u64::MAX, 0), |(least, most), ps| (least.min(ps), most.max(ps)));
    most.saturating_sub(least)
}

/// How long threads that are behind may be waited for: as long as others were worked for meanwhile, and a little more. A thread that
/// computes much and loads and stores little is behind for ever, and must not stop the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credit {
    worked: Duration,
    waited: Duration,
}

impl Credit {
    /// The most there can be, and what there is at first.
    pub const MOST: Duration = Duration::from_millis(20);

    /// So long something was done.
    pub fn earn(&mut self, worked: Duration) {
        self.worked = (self.worked + worked).min(self.waited);
    }

    /// So long was waited.
    pub fn spend(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// Whether there is none left: whoever has work goes on now.
    pub fn is_spent(&self) -> bool {
        self.waited >= self.worked + Self::MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_waited_for_longer_than_others_work() {
        let mut credit = Credit::default();
        let (mut waited, mut worked) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..10_000 {
            if credit.is_spent() {
                worked += Duration::from_micros(3);
                credit.earn(Duration::from_micros(3));
            } else {
                waited += Duration::from_micros(50);
                credit.spend(Duration::from_micros(50));
            }
        }
        assert!(worked > Duration::from_millis(5), "it goes on");
        let most = worked + Credit::MOST + Duration::from_micros(50);
        assert!(waited <= most && waited > Credit::MOST, "{waited:?} waited, {worked:?} worked");
        (0..100).for_each(|_| credit.earn(Duration::from_secs(1)));
        assert!(!credit.is_spent());
        credit.spend(Credit::MOST);
        assert!(credit.is_spent(), "it does not pile up");
    }

    fn runner(index: u32, now_us: u64, has_work: bool, waits: bool) -> Runner {
        Runner { index: ThreadIndex(index), now_ps: now_us * 1_000_000, has_work, waits }
    }

    #[test]
    fn who_is_behind_goes_first_and_a_little_further_than_the_next() {
        let three = [runner(0, 30, true, false), runner(1, 10, true, false), runner(2, 20, true, false)];
        assert_eq!(turn(three), Turn::Take(ThreadIndex(1), 22_000_000));
        assert_eq!(turn([three[0]]), Turn::Take(ThreadIndex(0), u64::MAX));
        assert_eq!(turn([]), Turn::Nothing);
        assert_eq!(turn([runner(0, 1, false, false)]), Turn::Nothing);
    }

    #[test]
    fn who_is_within_the_window_need_not_wait() {
        let behind = runner(1, 10, false, false);
        assert_eq!(turn([runner(0, 12, true, false), behind]), Turn::Take(ThreadIndex(0), 12_000_000));
        assert_eq!(turn([runner(0, 13, true, false), behind]), Turn::WaitFor(ThreadIndex(1)));
        // Of two that could go the one behind does, even if it is not the furthest.
        let all = [runner(0, 13, true, false), runner(2, 11, true, false), behind];
        assert_eq!(turn(all), Turn::Take(ThreadIndex(2), 12_000_000));
    }

    #[test]
    fn nobody_waits_for_one_that_waits() {
        let asleep = runner(1, 10, false, true);
        assert_eq!(turn([runner(0, 99, true, false), asleep]), Turn::Take(ThreadIndex(0), u64::MAX));
        // What it did before it began to wait has its turn.
        let before = runner(1, 10, true, true);
        assert_eq!(turn([runner(0, 99, true, false), before]), Turn::Take(ThreadIndex(1), 101_000_000));
        assert_eq!(skew_ps([runner(0, 99, true, false), asleep]), 0);
        assert_eq!(skew_ps([runner(0, 99, true, false), before]), 89_000_000);
        assert_eq!(skew_ps([]), 0);
    }
}
