//! Building the workload program, our library and the rivals that are built here.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::parties::CRATES;
use super::{Absent, Folders, Party, Rival};

/// A rival from a crate, built as a preload library in the workspace `benches/rivals`.
#[derive(Debug)]
pub struct Crate {
    /// Short name, the column's head.
    pub name: &'static str,
    /// Where it comes from and which version.
    pub origin: &'static str,
    /// Package in the rivals' workspace.
    pub package: &'static str,
    /// Flags for the C++ compiler instead of those in that workspace's configuration, and a target folder of its own, so
    /// that builds with different flags do not replace each other.
    pub cxx_flags: Option<&'static str>,
    /// Where it takes part.
    pub parties: &'static [Party],
}

impl Crate {
    fn target(&self, folders: &Folders) -> PathBuf {
        match self.cxx_flags {
            Some(_) => folders.rivals_target.join(self.package),
            None => folders.rivals_target.clone(),
        }
    }

    /// Where its library lies once it is built.
    pub fn library(&self, folders: &Folders) -> PathBuf {
        self.target(folders).join("release").join(format!("lib{}.so", self.package.replace('-', "_")))
    }

    fn build(&self, folders: &Folders) -> Option<Absent> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rivals");
        cargo(&folder, &self.target(folders), self.package, self.cxx_flags)
            .map(|why| Absent { name: self.name.into(), why })
    }
}

/// Builds the workload program, our library, and those rivals of `party` that `only` names; an empty list names all. The
/// rivals whose builds failed; a failure of our own is an error.
pub fn build(folders: &Folders, party: Party, only: &[String]) -> Result<Vec<Absent>, String> {
    let target = folders.release.parent().unwrap_or(Path::new("."));
    for package in ["tiermem-benches", "tiermem-preload"] {
        if let Some(why) = cargo(Path::new(env!("CARGO_MANIFEST_DIR")), target, package, None) {
            return Err(why);
        }
    }
    let wanted = |rival: &&Crate| {
        rival.parties.contains(&party) && (only.is_empty() || only.iter().any(|name| name == rival.name))
    };
    Ok(CRATES.iter().filter(wanted).filter_map(|rival| rival.build(folders)).collect())
}

/// Why the build of `package` in `folder` failed, if it did.
fn cargo(folder: &Path, target: &Path, package: &str, cxx_flags: Option<&str>) -> Option<String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(folder).args(["build", "--quiet", "--release", "--package", package]);
    if let Some(flags) = cxx_flags {
        command.env("CXXFLAGS", flags);
    }
    // A build that a preloaded allocator serves would measure nothing and might break.
    let built = command.env("CARGO_TARGET_DIR", target).env_remove(Rival::PRELOAD).status();
    let failed = !built.as_ref().is_ok_and(|status| status.success());
    failed.then(|| format!("`cargo build --release --package {package}` in {} failed", folder.display()))
}
