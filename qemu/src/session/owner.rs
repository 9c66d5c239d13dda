//! For whom a guest is kept.

use std::fs;

use serde::{Deserialize, Serialize};
use tiermem_sys::process;

/// How far up ancestors are looked at.
const ANCESTORS_MAX: usize = 16;

/// A process, named for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since boot: ids are used again.
    pub started: u64,
}

impl Owner {
    /// The process that this one works for: the nearest ancestor that is cargo (or `cargo-nextest`), through whatever scripts
    /// lie between; else the parent.
    pub fn of_this_process() -> Option<Self> {
        let parent = process::parent_id();
        let up = std::iter::successors(Some(parent), |&pid| stat(pid).map(|(_, above)| above).filter(|&pid| pid > 1));
        let cargo = up.take(ANCESTORS_MAX).find(|&pid| stat(pid).is_some_and(|(name, _)| name.starts_with("cargo")));
        Self::of(cargo.unwrap_or(parent))
    }

    /// This process.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: process::start_time(pid).ok()? })
    }

    /// Whether it still runs.
    pub fn lives(&self) -> bool {
        process::start_time(self.pid) == Ok(self.started) && !is_zombie(self.pid)
    }
}

/// A process's name and parent.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; the last parenthesis ends it.
    let (head, rest) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    Some((name, rest.split_whitespace().nth(1)?.parse().ok()?))
}

fn is_zombie(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::Owner;

    #[test]
    fn the_dead_own_nothing() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let owner = Owner::of(child.id()).unwrap();
        assert!(owner.lives());
        assert!(!Owner { started: owner.started + 1, ..owner }.lives());
        child.kill().unwrap();
        // Not waited for yet: a zombie needs no guest.
        let start = std::time::Instant::now();
        while owner.lives() {
            assert!(start.elapsed().as_secs() < 60);
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!owner.lives());
    }

    /// Under cargo, which runs this test: through nextest, or directly.
    #[test]
    fn cargo_is_found_through_a_shell() {
        let Some(owner) = Owner::of_this_process() else { panic!("this process has a parent") };
        assert!(owner.lives());
    }
}
