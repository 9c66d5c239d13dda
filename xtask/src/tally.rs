//! Counting tests from what the runners print.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that ran and were right.
    pub passed: usize,
    /// Tests that were not.
    pub failed: usize,
    /// Tests that said that they cannot run here, and those that the runner left out.
    pub skipped: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Tally {
    /// Adds up the closing lines of cargo test and of nextest in `output`. A test that printed `SKIP name: why` ended
    /// well for its runner, but counts as skipped.
    pub fn of(output: &str) -> Self {
        let mut tally = Self::default();
        for line in output.lines().map(str::trim_start) {
            let nextest = || line.strip_prefix("Summary [")?.split_once(" run:").map(|(_, rest)| rest);
            if let Some(counts) = line.strip_prefix("test result:").or_else(nextest) {
                tally += Self::of_closing_line(counts);
            }
        }
        let skips = skips(output).len().min(tally.passed);
        tally.passed -= skips;
        tally.skipped += skips;
        tally
    }

    fn of_closing_line(line: &str) -> Self {
        let mut tally = Self::default();
        for part in line.split([',', ';', '.', '(', ')']) {
            let Some((count, word)) = part.trim().split_once(' ') else { continue };
            let Ok(count) = count.parse::<usize>() else { continue };
            match word {
                "passed" => tally.passed += count,
                "failed" | "timed out" | "exec failed" => tally.failed += count,
                "skipped" | "ignored" => tally.skipped += count,
                _ => {}
            }
        }
        tally
    }
}

/// The tests that say they cannot run here, each with its reason, as they say it.
pub fn skips(output: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let lines = output.lines().filter_map(|line| line.trim().strip_prefix("SKIP "));
    // One test may have several reasons: the first one stands for it.
    lines.filter(|line| names.insert(line.split(": ").next().unwrap_or(line))).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn tally(passed: usize, failed: usize, skipped: usize) -> Tally {
        Tally { passed, failed, skipped }
    }

    #[test]
    fn cargo_tests_closing_lines_add_up() {
        let output = "test a ... ok\ntest result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s\n\
            test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        assert_eq!(Tally::of(output), tally(7, 1, 1));
    }

    #[test]
    fn nextests_closing_line_is_understood() {
        let output = "     Summary [   2.5s] 12 tests run: 9 passed (1 slow), 2 failed, 1 timed out, 4 skipped\n";
        assert_eq!(Tally::of(output), tally(9, 3, 4));
        assert_eq!(Tally::of("     Summary [   0.1s] 1 test run: 1 passed, 0 skipped\n"), tally(1, 0, 0));
    }

    #[test]
    fn a_test_that_cannot_run_here_is_not_counted_as_passed() {
        let output = "    SKIP a::b: no PMU\n    SKIP a::b: and no rights\nSKIP c: no GPU\n\
            test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        assert_eq!(Tally::of(output), tally(3, 0, 2));
        assert_eq!(skips(output).into_iter().collect::<Vec<_>>(), ["a::b: no PMU", "c: no GPU"]);
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(Tally::of("ran 5 tests run: 3 passed\nerror: could not compile\n"), Tally::default());
    }
}
