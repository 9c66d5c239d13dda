//! Steps of a chore: one line each with its time while they run, all failures in full at the end.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

/// How one step ended.
#[derive(Debug)]
pub enum Outcome {
    /// All is well; a remark for the step's line, or an empty one.
    Passed(String),
    /// It could not be done here; why, and what to do about it.
    Skipped(String),
    /// It failed; everything that a person needs to know.
    Failed(String),
}

/// Runs steps and remembers how they ended.
#[derive(Debug, Default)]
pub struct Steps {
    failures: Vec<(String, String)>,
    skipped: usize,
}

impl Steps {
    /// Runs one step and prints its line.
    pub fn run(&mut self, name: &str, step: impl FnOnce() -> Outcome) {
        let live = std::io::stdout().is_terminal();
        if live {
            print!("{name:<22} …");
            // Progress only: a closed standard output is noticed by the next line.
            let _ = std::io::stdout().flush();
        }
        let start = Instant::now();
        let outcome = step();
        let seconds = start.elapsed().as_secs_f64();
        let (word, remark) = match &outcome {
            Outcome::Passed(remark) => ("ok", remark.as_str()),
            Outcome::Skipped(why) => ("SKIP", why.as_str()),
            Outcome::Failed(_) => ("FAILED", "see below"),
        };
        let back = if live { "\r" } else { "" };
        println!("{}", format!("{back}{name:<22} {word:<6} {seconds:7.1} s  {remark}").trim_end());
        match outcome {
            Outcome::Passed(_) => {}
            Outcome::Skipped(_) => self.skipped += 1,
            Outcome::Failed(output) => self.failures.push((name.to_owned(), output)),
        }
    }

    /// Prints all failures in full; whether there were none.
    pub fn finish(&self) -> bool {
        for (name, output) in &self.failures {
            println!("\n==== {name} ====\n{}", output.trim_end());
        }
        if !self.failures.is_empty() {
            let names: Vec<_> = self.failures.iter().map(|(name, _)| name.as_str()).collect();
            println!("\nfailed: {}", names.join(", "));
        }
        self.failures.is_empty()
    }

    /// How many steps failed so far.
    pub fn failed(&self) -> usize {
        self.failures.len()
    }

    /// How many steps could not be done here.
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}

/// Runs a program to its end with its output captured. A program that cannot be started gives an output that says so.
pub fn captured(command: &mut Command) -> (bool, String) {
    let line = command_line(command);
    match command.stdin(Stdio::null()).output() {
        Ok(output) => (output.status.success(), transcript(&line, &output)),
        Err(error) => (false, format!("$ {line}\ncould not be started: {error}")),
    }
}

/// What a program that succeeds writes to its standard output, and nothing else.
pub fn answered(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Passed if the program succeeds, failed with its whole output if not.
pub fn succeeds(command: &mut Command) -> Outcome {
    match captured(command) {
        (true, _) => Outcome::Passed(String::new()),
        (false, output) => Outcome::Failed(output),
    }
}

fn transcript(line: &str, output: &Output) -> String {
    let mut text = format!("$ {line}\n");
    text.push_str(&String::from_utf8_lossy(&output.stdout));
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n({})", output.status);
    }
    text
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_fails_the_chore_and_a_skipped_one_does_not() {
        let mut steps = Steps::default();
        steps.run("skip", || Outcome::Skipped("not here".to_owned()));
        assert!(steps.finish());
        steps.run("true", || succeeds(&mut Command::new("true")));
        assert!(steps.finish());
        steps.run("false", || succeeds(&mut Command::new("false")));
        assert!(!steps.finish());
        assert_eq!((steps.failed(), steps.skipped()), (1, 1));
    }

    #[test]
    fn a_missing_program_is_a_failure_that_names_it() {
        let (ok, output) = captured(&mut Command::new("no-such-program-here"));
        assert!(!ok);
        assert!(output.contains("no-such-program-here") && output.contains("could not be started"), "{output}");
    }
}
