//! What instrumented processes reported.

use std::fs;
use std::path::Path;

use tiermem_emulator::instrumented::report::{FORMAT, Report};

use crate::exit::{Exit, Failure};

/// The reports of one run.
#[derive(Debug, Default)]
pub struct Collected {
    /// By process id.
    pub reports: Vec<Report>,
    /// The commands of processes that began and never reported: killed, or still running.
    pub silent: Vec<String>,
}

/// Reads all that is in the folder.
///
/// # Errors
/// If a report cannot be read: it comes from another version of the run time.
pub fn gather(folder: &Path) -> Result<Collected, Failure> {
    let mut collected = Collected::default();
    let entries = fs::read_dir(folder).map_err(|error| Failure::from_io(folder.display(), &error))?;
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if path.extension().is_none() {
            continue;
        }
        let text = fs::read(&path).map_err(|error| Failure::from_io(path.display(), &error))?;
        if path.extension().is_some_and(|end| end == "json") {
            let report: Report = serde_json::from_slice(&text).map_err(|error| other_version(&error.to_string()))?;
            if report.format != FORMAT {
                return Err(other_version(&format!("its reports are {}, not {FORMAT}", report.format)));
            }
            collected.reports.push(report);
        } else {
            collected.silent.push(String::from_utf8_lossy(&text).into_owned());
        }
    }
    collected.reports.sort_by_key(|report| report.pid);
    collected.silent.sort();
    Ok(collected)
}

fn other_version(why: &str) -> Failure {
    let what = format!("the program was linked with another version of the run time ({why}): build it again");
    Failure::new(Exit::Unsupported, what)
}
