//! Which cores may have lines of an OS page: those that ever brought one.

use super::CoreIndex;

/// Lines of an OS page of 4 KiB; most pages are one thread's.
const PAGE_LINES: u64 = 64;

/// From this one on, cores share a bit.
const LAST_BIT: usize = 63;

/// A bit for each core and OS page, set once the core brought a line of the page, and never taken back: cores without it surely
/// have none, others may.
#[derive(Debug, Default)]
pub struct Visitors {
    by_page: Vec<u64>,
}

impl Visitors {
    /// The core brings the near line with this number.
    #[inline(always)]
    pub fn came(&mut self, core: CoreIndex, number: u64) {
        let page = page(number);
        if self.by_page.len() <= page {
            self.grow(page);
        }
        self.by_page[page] |= 1 << core.index().min(LAST_BIT);
    }

    #[inline(never)]
    fn grow(&mut self, page: usize) {
        self.by_page.resize((page + 1).next_power_of_two(), 0);
    }

    /// The others of so many cores that may have the near line with this number.
    #[inline(always)]
    pub fn others(&self, core: CoreIndex, cores: usize, number: u64) -> Others {
        let came = self.by_page.get(page(number)).copied().unwrap_or(0);
        let own = core.index();
        let alone = if own < LAST_BIT { 1 << own } else { 0 };
        Others { left: came & !alone, own, cores, last: LAST_BIT }
    }
}

/// Cores in their order.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    left: u64,
    own: usize,
    cores: usize,
    /// The next of those that share the last bit.
    last: usize,
}

impl Others {
    #[inline(always)]
    pub const fn are_none(&self) -> bool {
        self.left == 0
    }
}

impl Iterator for Others {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        let bit = self.left.trailing_zeros() as usize;
        if bit < LAST_BIT {
            self.left &= self.left - 1;
            return Some(bit);
        }
        self.last += usize::from(self.last == self.own);
        let at = self.last;
        self.last += 1;
        (at < self.cores).then_some(at)
    }
}

const fn page(number: u64) -> usize {
    (number / PAGE_LINES) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_came_is_not_named_and_nobody_is_forgotten() {
        for cores in [2, 62, 63, 64, 65, 70] {
            for came in [vec![], vec![0], vec![1], vec![0, 1], (0..cores).collect::<Vec<_>>(), vec![cores - 1]] {
                let mut visitors = Visitors::default();
                for &core in &came {
                    visitors.came(CoreIndex(core as u32), 5 * PAGE_LINES + 7);
                }
                for own in 0..cores {
                    let own = CoreIndex(own as u32);
                    let others: Vec<usize> = visitors.others(own, cores, 6 * PAGE_LINES - 1).collect();
                    let shares_a_bit = |core: &usize| *core >= LAST_BIT && came.iter().any(|&came| came >= LAST_BIT);
                    let expected: Vec<usize> = (0..cores)
                        .filter(|core| *core != own.index() && (came.contains(core) || shares_a_bit(core)))
                        .collect();
                    assert_eq!(others, expected, "{cores} cores, {came:?} came, {own:?} asks");
                    assert!(visitors.others(own, cores, 4 * PAGE_LINES).are_none());
                    assert!(visitors.others(own, cores, 1 << 40).are_none());
                }
            }
        }
    }
}
