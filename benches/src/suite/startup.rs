//! What starting a program under tiermem costs: the same small program plain, preloaded, and under `tierctl run`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::child::{self, Outcome};
use super::measure::describe;
use super::statistics::Spread;

const LIMIT: Duration = Duration::from_secs(20);

/// One way to start the program.
#[derive(Clone, Debug)]
pub struct Way {
    /// Name in the table.
    pub name: &'static str,
    /// Program to execute, with arguments.
    pub line: Vec<PathBuf>,
    /// Library to preload.
    pub preload: Option<PathBuf>,
}

/// Cost of one way.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Name in the table.
    pub name: &'static str,
    /// Wall-clock milliseconds from spawn to exit.
    pub wall_ms: Spread,
    /// User and system CPU milliseconds.
    pub cpu_ms: Spread,
}

/// The ways that exist here, the plain one first.
pub fn ways(release: &Path, program: &Path) -> Vec<Way> {
    let (tierctl, library) = (release.join("tierctl"), release.join("libtiermem.so"));
    let mut ways = vec![Way { name: "plain", line: vec![program.into()], preload: None }];
    match library.exists() {
        true => ways.push(Way { name: "preloaded", line: vec![program.into()], preload: Some(library) }),
        false => eprintln!("SKIP preloaded: {} is not built", library.display()),
    }
    match tierctl.exists() {
        true => {
            let line = vec![tierctl, "run".into(), "--".into(), program.into()];
            ways.push(Way { name: "tierctl run", line, preload: None });
        }
        false => eprintln!("SKIP tierctl run: {} is not built", tierctl.display()),
    }
    ways
}

/// Starts each way `count` times, in turn.
pub fn measure(ways: &[Way], count: usize, scratch: &Path) -> Result<Vec<Cost>, String> {
    let mut samples: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); ways.len()];
    for _ in 0..count {
        for (way, (wall, cpu)) in ways.iter().zip(&mut samples) {
            let (program, arguments) = way.line.split_first().ok_or("a way without a program")?;
            let mut command = Command::new(program);
            command.args(arguments).env_remove("LD_PRELOAD");
            if let Some(library) = &way.preload {
                command.env("LD_PRELOAD", library);
            }
            let run = child::run(&mut command, scratch, LIMIT).map_err(|error| format!("{}: {error}", way.name))?;
            if run.outcome != Outcome::Finished {
                return Err(format!("{}: {}", way.name, describe(&run)));
            }
            wall.push(run.wall_s * 1e3);
            cpu.push(run.cpu_s() * 1e3);
        }
    }
    let costs = ways.iter().zip(&samples).filter_map(|(way, (wall, cpu))| {
        Some(Cost { name: way.name, wall_ms: Spread::of(wall)?, cpu_ms: Spread::of(cpu)? })
    });
    Ok(costs.collect())
}

/// The table.
pub fn markdown(costs: &[Cost]) -> String {
    let mut text = String::from(
        "| | wall, ms: median ± MAD (min) | CPU, ms: median ± MAD (min) | wall over plain, ms |\n|---|---|---|---|\n",
    );
    for cost in costs {
        let show = |spread: &Spread| format!("{:.2} ± {:.2} ({:.2})", spread.median, spread.mad, spread.min);
        let over = cost.wall_ms.median - costs[0].wall_ms.median;
        let _ = writeln!(text, "| {} | {} | {} | {over:+.2} |", cost.name, show(&cost.wall_ms), show(&cost.cpu_ms));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_an_error_not_a_figure() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let way = |line: &str| vec![Way { name: "way", line: vec![line.into()], preload: None }];
        let costs = measure(&way("/bin/true"), 3, scratch.path()).expect("true succeeds");
        assert_eq!(costs[0].wall_ms.runs, 3);
        assert!(measure(&way("/bin/false"), 1, scratch.path()).is_err());
    }
}
