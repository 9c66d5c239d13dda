//! What to show of a failed test run: every failure in full, and nothing else. The log may be out of reach, as on a
//! machine that is thrown away afterwards.

/// Lines of the end of a run that are shown where no failure of a test is found: a build that failed, or nextest, which
/// repeats all failures there.
const END_LINES: usize = 300;
/// Lines before the end of a test program that did not reach its own summary.
const CRASH_LINES: usize = 40;

/// The failures in the output of `cargo test`, or else its end.
pub fn failures(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let mut shown: Vec<&str> = Vec::new();
    let mut section: Option<usize> = None;
    for (at, &line) in lines.iter().enumerate() {
        match line {
            // The first one of a section; a second one begins the list of names at its end.
            "failures:" => section = section.or(Some(at)),
            "successes:" => section = None,
            _ if line.starts_with("test result: ") => {
                let failed = section.take().filter(|_| line.starts_with("test result: FAILED"));
                shown.extend(failed.iter().flat_map(|&from| &lines[from..=at]));
            }
            _ if line.trim_start().starts_with("process didn't exit successfully") && line.contains("(signal: ") => {
                shown.extend(&lines[at.saturating_sub(CRASH_LINES)..=at]);
            }
            _ if line.starts_with("error") => shown.push(line),
            _ => {}
        }
    }
    if shown.iter().all(|line| line.starts_with("error")) {
        shown = lines[lines.len().saturating_sub(END_LINES)..].to_vec();
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{END_LINES, failures};

    #[test]
    fn failures_of_all_test_programs_are_shown_and_nothing_else() {
        let output = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nsuccesses:\n\n---- a stdout ----\nfailures:\nnoise\n\n\
            successes:\n    a\n\nfailures:\n\n---- b stdout ----\npanicked at b.rs\n\nfailures:\n    b\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored\n\nerror: test failed, to rerun pass `--test b`\n\
            successes:\n---- c stdout ----\nfailures:\nmore noise\ntest result: ok. 1 passed; 0 failed\n";
        let expected = "failures:\n\n---- b stdout ----\npanicked at b.rs\n\nfailures:\n    b\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored\nerror: test failed, to rerun pass `--test b`";
        assert_eq!(failures(output), expected);
    }

    #[test]
    fn a_crash_shows_what_came_before_it() {
        let output = "test fine ... ok\ntest late ... \nerror: test failed\n\nCaused by:\n  \
            process didn't exit successfully: `x` (signal: 11, SIGSEGV: invalid memory reference)\n";
        assert!(failures(output).contains("test late ... ") && failures(output).contains("SIGSEGV"));
    }

    #[test]
    fn otherwise_the_end_is_shown() {
        let output: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        assert_eq!(failures(&output).lines().count(), END_LINES);
        assert!(failures(&output).ends_with("line 999"));
        let build = "error[E0308]: mismatched types\n --> a.rs\nerror: could not compile `a`\n";
        assert!(failures(build).contains("--> a.rs"), "a compiler's message is shown whole");
    }
}
