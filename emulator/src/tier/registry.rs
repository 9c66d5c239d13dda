//! Where a user's emulated machines are found: `/dev/shm/tiermem-UID/emulated`.
//!
//! Each entry is a symbolic link from the machine's name to its folder, which holds the record and the tiers' files. A
//! machine is made under a link called `.making-PID-START`; the link with its name comes last. So a machine is there or
//! not, and what a creator that died left behind is known and [swept](Registry::sweep) by whoever comes next.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use tiermem_sys::process;
use tiermem_topology::Topology;

use super::machine::{CreateError, Creator, Machine, Options, State, system};

/// The link under which a machine is being made.
const MAKING: &str = ".making-";

/// A folder of links to machines.
#[derive(Clone, Debug)]
pub struct Registry {
    top: PathBuf,
}

impl Default for Registry {
    /// This user's.
    fn default() -> Self {
        Self { top: PathBuf::from(format!("/dev/shm/tiermem-{}", process::user())) }
    }
}

impl Registry {
    /// One of its own, in the folder `top`, for tests and for machines that others shall not see.
    pub fn at(top: impl Into<PathBuf>) -> Self {
        Self { top: top.into() }
    }

    fn links(&self) -> PathBuf {
        self.top.join("emulated")
    }

    /// Makes the folders, private to the user.
    fn prepare(&self) -> Result<(), CreateError> {
        for folder in [self.top.clone(), self.links()] {
            let failed = |cause| system(format!("cannot use {}", folder.display()), cause);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(failed(cause)),
                _ => {}
            }
            let found = fs::symlink_metadata(&folder).map_err(failed)?;
            if !found.is_dir() || found.uid() != process::user() || found.mode() & 0o077 != 0 {
                let why =
                    io::Error::new(io::ErrorKind::PermissionDenied, "it is not a private folder of yours: remove it");
                return Err(failed(why));
            }
        }
        Ok(())
    }

    /// Makes the tiers of `topology` and registers the machine.
    ///
    /// # Errors
    /// What stands in the way; nothing is left behind then.
    pub fn create(&self, topology: &Topology, options: &Options<'_>) -> Result<Machine, CreateError> {
        self.prepare()?;
        self.sweep();
        let name = options.name.unwrap_or(&topology.name);
        let dir = match options.dir {
            Some(dir) => std::path::absolute(dir).map_err(|cause| system(dir.display(), cause))?,
            None => self.top.clone(),
        };
        let folder = dir.join(format!("emulated-{name}"));
        let pid = process::id();
        let creator = Creator { pid, start_time: process::start_time(pid).unwrap_or(0) };
        let machine = Machine::plan(topology, options, name, &folder, creator)?;
        let link = self.links().join(name);
        if fs::symlink_metadata(&link).is_ok() || fs::symlink_metadata(&folder).is_ok() {
            return Err(CreateError::Exists(name.to_owned()));
        }
        let others = self.machines().into_iter().filter_map(|(_, state)| match state {
            State::Ready(machine) => Some(*machine),
            State::Lost(_) => None,
        });
        machine.check_space(&dir, &others.collect::<Vec<_>>())?;
        let making = self.links().join(format!("{MAKING}{pid}-{}", creator.start_time));
        symlink(&folder, &making).map_err(|cause| system(format!("cannot make {}", making.display()), cause))?;
        let made = machine.make().and_then(|()| {
            symlink(&folder, &link).map_err(|cause| match cause.kind() {
                io::ErrorKind::AlreadyExists => CreateError::Exists(name.to_owned()),
                _ => system(format!("cannot make {}", link.display()), cause),
            })
        });
        if made.is_err() {
            clear(&folder, creator);
        }
        // Whoever comes next would remove it, too.
        drop(fs::remove_file(&making));
        made.map(|()| machine)
    }

    /// Removes what creators left behind that ended before they were done.
    pub fn sweep(&self) {
        let published: Vec<PathBuf> = self.entries().into_iter().map(|(_, folder)| folder).collect();
        for (name, folder) in self.all_links() {
            let Some((pid, start)) = name.strip_prefix(MAKING).and_then(|rest| rest.split_once('-')) else { continue };
            let (Ok(pid), Ok(start_time)) = (pid.parse::<u32>(), start.parse::<u64>()) else { continue };
            if process::exists(pid) && process::start_time(pid) == Ok(start_time) {
                continue;
            }
            if !published.contains(&folder) {
                clear(&folder, Creator { pid, start_time });
            }
            drop(fs::remove_file(self.links().join(name)));
        }
    }

    fn all_links(&self) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(self.links()).into_iter().flatten().flatten();
        let mut links: Vec<_> = entries
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, fs::read_link(entry.path()).ok()?)))
            .collect();
        links.sort();
        links
    }

    fn entries(&self) -> Vec<(String, PathBuf)> {
        self.all_links().into_iter().filter(|(name, _)| !name.starts_with('.')).collect()
    }

    /// All machines, by name.
    pub fn machines(&self) -> Vec<(String, State)> {
        let state = |folder: &Path| Machine::read(folder).map_or_else(State::Lost, |m| State::Ready(Box::new(m)));
        self.entries().into_iter().map(|(name, folder)| (name, state(&folder))).collect()
    }

    /// The machine of that name.
    pub fn find(&self, name: &str) -> Option<State> {
        self.machines().into_iter().find(|(known, _)| known == name).map(|(_, state)| state)
    }

    /// Removes the machine `name`, its files and its entry. With `force` also while it is used: the users then keep what
    /// they have mapped until they end.
    ///
    /// # Errors
    /// There is none, somebody uses it, or the system refuses.
    pub fn destroy(&self, name: &str, force: bool) -> Result<(), CreateError> {
        let link = self.links().join(name);
        match self.find(name) {
            None => return Err(CreateError::Unsuitable(format!("no emulated machine is called {name}"))),
            Some(State::Ready(machine)) => {
                let users = if force { Vec::new() } else { machine.users() };
                if !users.is_empty() {
                    return Err(CreateError::InUse(users));
                }
                machine.unmake()?;
            }
            // Its folder is gone, or holds what is not ours to judge.
            Some(State::Lost(_)) => {}
        }
        fs::remove_file(&link).map_err(|cause| system(format!("cannot remove {}", link.display()), cause))
    }
}

/// Removes a folder that `creator` was making.
fn clear(folder: &Path, creator: Creator) {
    match Machine::read(folder) {
        // What cannot be removed stays, and its name stays taken.
        Ok(machine) if machine.creator == creator => drop(machine.unmake()),
        Ok(_) => {}
        // It died before the record: the folder is empty, or somebody else's and then not empty.
        Err(_) => drop(fs::remove_dir(folder)),
    }
}
