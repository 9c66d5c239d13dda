//! The gate on the fast path: a malloc and free pair must not cost over 2 % more instructions than checked in. callgrind
//! counts exactly, so one run is enough, on any machine. A gate that cannot fail is none, so it must also refuse figures
//! a little lower than those just counted.

use std::fs;
use std::path::Path;

use crate::bench;
use crate::failure::{Context, Result};
use crate::step::{Outcome, captured};
use crate::workspace::Workspace;

/// The figures that are checked in.
const CHECKED_IN: &str = "benches/instructions.json";
/// Our figures of the last run, in the same format; the runner writes them into its output folder.
const COUNTED: &str = "gate-counted.json";
/// The order that the negative control counts; one is enough, and this one is short.
const CONTROL: &str = "shallow";
/// The control's figures are lower by three per cent.
const LOWERED: f64 = 0.97;

/// Counts and compares, then makes sure that the comparison can fail.
pub fn run(workspace: &Workspace) -> Outcome {
    if !captured(workspace.command("valgrind").arg("--version")).0 {
        return Outcome::Skipped("instructions are counted with valgrind, which is not installed".to_owned());
    }
    let (built, said) = captured(&mut bench::build(workspace));
    if !built {
        return Outcome::Failed(said);
    }
    let holds = || -> Result<Outcome> {
        let out = workspace.target("bench");
        let (held, said) = count(workspace, &out, Path::new(CHECKED_IN), None);
        if !held {
            return Ok(Outcome::Failed(said));
        }
        // Cheaper than checked in is no failure, but the file should follow.
        let cheaper = said.lines().filter(|line| line.contains("with --update")).collect::<Vec<_>>().join("; ");
        let lowered = out.join("gate-lowered.json");
        fs::write(&lowered, scaled(&read(&out.join(COUNTED))?, LOWERED)).while_doing(lowered.display())?;
        let (held, said) = count(workspace, &out, &lowered, Some(CONTROL));
        let complains = said.contains("over the");
        if held || !complains {
            return Ok(Outcome::Failed(format!("the gate let figures pass that are 3 % over those allowed:\n{said}")));
        }
        Ok(Outcome::Passed(cheaper))
    };
    holds().unwrap_or_else(|failure| Outcome::Failed(failure.to_string()))
}

/// One run of the runner against the figures in `allowed`: whether they held, and all that it said.
fn count(workspace: &Workspace, out: &Path, allowed: &Path, order: Option<&str>) -> (bool, String) {
    let mut command = bench::runner(workspace);
    command.args(["instructions", "--only", "tiermem", "--out"]).arg(out).arg("--gate").arg(allowed);
    if let Some(order) = order {
        command.args(["--orders", order]);
    }
    captured(&mut command)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).while_doing(path.display())
}

/// The figures of a flat JSON object, one `"name": number` a line, times `factor`.
fn scaled(figures: &str, factor: f64) -> String {
    let line = |line: &str| match line.rsplit_once(": ") {
        Some((name, value)) => {
            let (number, comma) = value.strip_suffix(',').map_or((value, ""), |number| (number, ","));
            number.parse::<f64>().map_or(line.to_owned(), |number| format!("{name}: {}{comma}", number * factor))
        }
        None => line.to_owned(),
    };
    figures.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn every_figure_is_scaled_and_nothing_else() {
        let figures = "{\n  \"fifo\": 60.0,\n  \"shallow\": 50.5\n}";
        assert_eq!(scaled(figures, 0.5), "{\n  \"fifo\": 30,\n  \"shallow\": 25.25\n}");
    }
}
