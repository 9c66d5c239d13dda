//! Where the project and its build products are.

use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};

use crate::failure::{Context, Failure, Result};

/// The project on disk.
#[derive(Debug)]
pub struct Workspace {
    /// What cargo says about the packages.
    pub metadata: Metadata,
}

impl Workspace {
    /// Asks cargo about the workspace that this program was built from.
    pub fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().while_doing("cargo metadata")?;
        Ok(Self { metadata })
    }

    /// The folder that holds the workspace's `Cargo.toml`.
    pub fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    /// A path below cargo's target folder.
    pub fn target(&self, below: impl AsRef<Path>) -> PathBuf {
        self.metadata.target_directory.as_std_path().join(below)
    }

    /// A program to be started in the workspace's root.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.root());
        command
    }

    /// The name of the platform that this machine's compiler builds for.
    pub fn host(&self) -> Result<String> {
        let answer = self.command("rustc").arg("-vV").output().while_doing("rustc -vV")?;
        let answer = String::from_utf8_lossy(&answer.stdout);
        let host = answer.lines().find_map(|line| line.strip_prefix("host: "));
        host.map(str::to_owned).ok_or_else(|| Failure::new("rustc -vV names no host"))
    }

    /// Cargo itself, to be started in the workspace's root.
    pub fn cargo<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // A nested cargo must not take over what the outer one set for this program.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PRIMARY_PACKAGE"] {
            command.env_remove(name);
        }
        command.args(args);
        command
    }
}
