//! Looking at processes from outside, and ending them.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

/// The processes of a process group, in ascending order. A process that has ended but is not reaped (a zombie) is not counted.
pub(crate) fn group_members(group: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut members: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| state_and_group(pid).is_some_and(|(state, of)| of == group && state != 'Z'))
        .collect();
    members.sort_unstable();
    members
}

/// State letter and process group out of `/proc/PID/stat`; the name before them may hold anything, so it is cut off at
/// its last bracket.
fn state_and_group(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(1)?.parse().ok()?))
}

/// Kills a whole process group, and only it.
pub(crate) fn kill_group(group: u32) {
    // The shell's own `kill` is there on every system, and needs no unsafe code here. Not `-KILL`: dash takes no `--`
    // after that form.
    let _ = Command::new("sh").args(["-c", &format!("kill -s KILL -- -{group}")]).stderr(Stdio::null()).status();
}

/// Where the processes of a group are stuck: kernel stacks, and gdb's backtraces of all threads where gdb is installed.
pub(crate) fn describe_group(group: u32) -> String {
    let mut text = String::new();
    for pid in group_members(group).into_iter().take(2) {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        let _ = writeln!(text, "== process {pid}: {command}");
        for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().take(8) {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let (channel, stack) = (read("wchan"), read("stack"));
            let _ = writeln!(text, "-- thread {}: {channel}\n{stack}", entry.file_name().to_string_lossy());
        }
        text.push_str(&backtrace(pid));
    }
    text
}

fn backtrace(pid: u32) -> String {
    let output = Command::new("timeout")
        .args(["-s", "KILL", "15", "gdb", "-nx", "-batch", "-ex", "thread apply all backtrace 16", "-p"])
        .arg(pid.to_string())
        .env_remove("LD_PRELOAD")
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            text.lines().filter(|line| line.starts_with('#') || line.starts_with("Thread")).fold(
                String::new(),
                |mut all, line| {
                    all.push_str(line);
                    all.push('\n');
                    all
                },
            )
        }
        Err(error) => format!("(no backtrace: {error})\n"),
    }
}
