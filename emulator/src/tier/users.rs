//! Who uses the files of an emulated machine.

use std::fs;
use std::path::Path;

use tiermem_sys::process;

/// A process that uses a tier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// Its process id.
    pub pid: u32,
    /// Its command's name.
    pub command: String,
}

/// The processes that map one of `files`, this one aside. Those whose mappings this user may not see are not among
/// them, nor are those that see the files under other paths (in containers).
///
/// By path, not by inode: the inode numbers in `/proc/PID/maps` are not unique, and on tmpfs they are small.
pub(super) fn of_files(files: &[impl AsRef<Path>]) -> Vec<User> {
    let paths = files.iter().filter_map(|file| fs::canonicalize(file).ok());
    let paths: Vec<String> = paths.filter_map(|path| Some(path.to_str()?.replace('\n', "\\012"))).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let others = pids.filter(|&pid| pid != process::id());
    let mut users: Vec<User> =
        others.filter(|&pid| maps_one(pid, &paths)).map(|pid| User { pid, command: command(pid) }).collect();
    users.sort();
    users
}

/// Whether a process maps one of these paths.
fn maps_one(pid: u32, paths: &[String]) -> bool {
    let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    // The path comes last, in a column that is padded with blanks.
    let mut mapped = maps.lines().filter_map(|line| line.find('/').and_then(|at| line.get(at..)));
    mapped.any(|path| paths.iter().any(|wanted| wanted == path))
}

fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}
