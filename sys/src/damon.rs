//! DAMON, the kernel's access monitor, through its sysfs interface.
//!
//! Kernel document: `admin-guide/mm/damon/usage`. There is one interface for the whole machine, so whoever finds it in
//! use leaves it alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why DAMON is not ours to use.
#[derive(Debug)]
pub enum Refusal {
    /// This kernel has no DAMON, or not its sysfs interface.
    Missing,
    /// Reading or writing its files failed, usually for lack of root's rights.
    Denied(io::Error),
    /// Another program monitors right now.
    Running,
    /// Another program has set it up, though it does not run; the operation sets that the kernel offers are known
    /// from there.
    SetUp(Vec<String>),
}

/// DAMON, taken for this process until dropped: one kdamond with one context.
#[derive(Debug)]
pub struct Damon {
    admin: PathBuf,
}

impl Damon {
    /// Takes it if nobody has it.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn acquire() -> Result<Self, Refusal> {
        Self::acquire_at(Path::new("/sys/kernel/mm/damon/admin"))
    }

    fn acquire_at(admin: &Path) -> Result<Self, Refusal> {
        let count = match fs::read_to_string(admin.join("kdamonds/nr_kdamonds")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refusal::Missing),
            Err(error) => return Err(Refusal::Denied(error)),
            Ok(text) => text.trim().parse::<u32>().unwrap_or(0),
        };
        if count > 0 {
            let is_on = |i| read(&admin.join(format!("kdamonds/{i}/state"))).is_ok_and(|state| state == "on");
            if (0..count).any(is_on) {
                return Err(Refusal::Running);
            }
            let offered = read(&admin.join("kdamonds/0/contexts/0/avail_operations"));
            return Err(Refusal::SetUp(words(&offered.unwrap_or_default())));
        }
        let this = Self { admin: admin.to_path_buf() };
        this.write("kdamonds/nr_kdamonds", "1").map_err(Refusal::Denied)?;
        this.write("kdamonds/0/contexts/nr_contexts", "1").map_err(Refusal::Denied)?;
        Ok(this)
    }

    /// The operation sets that the kernel offers: `vaddr`, `fvaddr`, `paddr`.
    ///
    /// # Errors
    /// As read(2).
    pub fn operations(&self) -> io::Result<Vec<String>> {
        Ok(words(&read(&self.admin.join("kdamonds/0/contexts/0/avail_operations"))?))
    }

    /// Monitors the virtual addresses of a process until [`Damon::stop`].
    ///
    /// # Errors
    /// As write(2); `EINVAL` if the kernel does not offer `vaddr`.
    pub fn watch_process(&self, process: u32) -> io::Result<()> {
        self.write("kdamonds/0/contexts/0/operations", "vaddr")?;
        self.write("kdamonds/0/contexts/0/targets/nr_targets", "1")?;
        self.write("kdamonds/0/contexts/0/targets/0/pid_target", &process.to_string())?;
        self.write("kdamonds/0/state", "on")
    }

    /// Whether it monitors.
    ///
    /// # Errors
    /// As read(2).
    pub fn is_running(&self) -> io::Result<bool> {
        Ok(read(&self.admin.join("kdamonds/0/state"))? == "on")
    }

    /// Stops monitoring.
    ///
    /// # Errors
    /// As write(2).
    pub fn stop(&self) -> io::Result<()> {
        self.write("kdamonds/0/state", "off")
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.admin.join(file), text)
    }
}

impl Drop for Damon {
    fn drop(&mut self) {
        // Neither can be handled here: at worst DAMON stays set up, and says so to whoever looks.
        let _ = self.stop();
        let _ = self.write("kdamonds/nr_kdamonds", "0");
    }
}

fn read(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like DAMON's, with `count` kdamonds of which the first has `state`.
    fn admin(test: &str, count: u32, state: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("tiermem-damon-{test}-{}", std::process::id()));
        fs::create_dir_all(root.join("kdamonds/0/contexts/0")).unwrap();
        for (file, text) in [
            ("kdamonds/nr_kdamonds", count.to_string().as_str()),
            ("kdamonds/0/state", state),
            ("kdamonds/0/contexts/nr_contexts", "0"),
            ("kdamonds/0/contexts/0/avail_operations", "vaddr\npaddr\n"),
        ] {
            fs::write(root.join(file), text).unwrap();
        }
        root
    }

    #[test]
    fn what_others_use_is_left_alone() {
        let (running, set_up) = (admin("running", 1, "on\n"), admin("set-up", 1, "off\n"));
        assert!(matches!(Damon::acquire_at(&running), Err(Refusal::Running)));
        match Damon::acquire_at(&set_up) {
            Err(Refusal::SetUp(operations)) => assert_eq!(operations, ["vaddr", "paddr"]),
            other => panic!("{other:?}"),
        }
        for root in [running, set_up] {
            assert_eq!(read(&root.join("kdamonds/nr_kdamonds")).unwrap(), "1", "nothing was changed");
            fs::remove_dir_all(root).unwrap();
        }
    }

    #[test]
    fn what_is_taken_is_given_back() {
        let root = admin("free", 0, "off\n");
        let damon = Damon::acquire_at(&root).unwrap();
        assert_eq!(read(&root.join("kdamonds/nr_kdamonds")).unwrap(), "1");
        assert_eq!(damon.operations().unwrap(), ["vaddr", "paddr"]);
        drop(damon);
        assert_eq!(read(&root.join("kdamonds/nr_kdamonds")).unwrap(), "0");
        fs::remove_dir_all(root).unwrap();
        assert!(matches!(Damon::acquire_at(Path::new("/nonexistent")), Err(Refusal::Missing)));
    }
}
