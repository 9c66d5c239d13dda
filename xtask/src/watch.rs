//! Running long programs: their output goes to a file, and now and then one line tells how far they are.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Context, Result};

/// Between two looks at the program.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two lines about it.
const NEWS: Duration = Duration::from_secs(60);
/// How much of the end of its output is looked at for the latest line.
const END_BYTES: u64 = 4096;
/// Longest piece of the latest line that is shown.
const SHOWN_CHARS: usize = 100;

/// Runs `command` to its end with its output in the file `log`; whether it succeeded, and its output.
pub fn watched(command: &mut Command, log: &Path) -> Result<(Option<i32>, String)> {
    let program = command.get_program().to_string_lossy().into_owned();
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).while_doing(folder.display())?;
    }
    let file = File::create(log).while_doing(log.display())?;
    let errors = file.try_clone().while_doing(log.display())?;
    let mut child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn().while_doing(program)?;
    let start = Instant::now();
    let mut told = start;
    let status = loop {
        if let Some(status) = child.try_wait().while_doing("waiting")? {
            break status;
        }
        if told.elapsed() >= NEWS {
            told = Instant::now();
            println!("  {:>4} s: {}", start.elapsed().as_secs(), last_line(log));
        }
        std::thread::sleep(PAUSE);
    };
    let output = fs::read(log).while_doing(log.display())?;
    Ok((status.code(), String::from_utf8_lossy(&output).into_owned()))
}

fn last_line(log: &Path) -> String {
    let mut end = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(END_BYTES)))?;
        file.read_to_end(&mut end)
    });
    let text = String::from_utf8_lossy(&end);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let line = line.filter(|_| read.is_ok()).unwrap_or("(nothing said yet)");
    line.chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_output_and_the_exit_code_come_back() {
        let log = std::env::temp_dir().join(format!("tiermem-xtask-watch-{}.log", std::process::id()));
        let got = watched(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]), &log).unwrap();
        assert_eq!(got, (Some(3), "out\nerr\n".to_owned()));
        assert_eq!(last_line(&log), "err");
        fs::remove_file(&log).unwrap();
    }
}
