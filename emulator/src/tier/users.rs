//! Who uses the files of an emulated machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tiermem_sys::file::Identity;
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
/// them.
pub(super) fn of_files(files: &[impl AsRef<Path>]) -> Vec<User> {
    let identities: Vec<Identity> = files
        .iter()
        .filter_map(|file| fs::metadata(file).ok())
        .map(|file| Identity { device: file.dev(), inode: file.ino() })
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let uses = |pid: u32| identities.iter().any(|&identity| process::maps_file(pid, identity) == Ok(true));
    let mut users: Vec<User> =
        pids.filter(|&pid| pid != process::id() && uses(pid)).map(|pid| User { pid, command: command(pid) }).collect();
    users.sort();
    users
}

fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}
