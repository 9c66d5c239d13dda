//! Who takes part: libraries that are preloaded, where they come from, and how they are built.

mod build;
mod parties;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

pub use build::build;
pub use parties::{Party, find};

/// The rival that ratios refer to.
pub const BASELINE: &str = "mimalloc3";
const NOT_BUILT: &str = "not built; run without --no-build";
/// Our library with one tier.
pub const OURS: &str = "tiermem";
/// Our library with two tiers.
pub const OURS_TWO_TIERS: &str = "tiermem-2tier";
/// Our library in its hardened and its strong mode.
pub const OURS_HARDENED: [&str; 2] = ["tiermem-hardened", "tiermem-strong"];

/// One allocator in the comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Rival {
    /// Short name, the column's head.
    pub name: String,
    /// Where it comes from and which version.
    pub origin: String,
    /// Library to preload; `None` runs without.
    pub preload: Option<PathBuf>,
    /// Further environment.
    pub environment: Vec<(String, String)>,
}

/// A rival or a cell that cannot take part, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// What is missing and how to get it.
    pub why: String,
}

/// Those who take part, and those who cannot.
#[derive(Debug, Default)]
pub struct Field {
    /// In the order in which they run within a round.
    pub rivals: Vec<Rival>,
    /// Left out.
    pub absent: Vec<Absent>,
}

impl Rival {
    /// The loader's variable.
    pub const PRELOAD: &str = "LD_PRELOAD";

    /// Reads `NAME=PATH[,VARIABLE=VALUE…]`: any further library under the same measure.
    pub fn parse(text: &str) -> Result<Self, String> {
        let usage = || format!("`{text}`: expected NAME=PATH[,VARIABLE=VALUE…]");
        let mut parts = text.split(',');
        let (name, path) = parts.next().and_then(|first| first.split_once('=')).ok_or_else(usage)?;
        let environment = parts
            .map(|part| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(usage))
            .collect::<Result<_, _>>()?;
        let preload = PathBuf::from(path);
        if !preload.is_file() {
            return Err(format!("{path}: no such library"));
        }
        Ok(Self { name: name.to_owned(), origin: path.to_owned(), preload: Some(preload), environment })
    }

    /// Puts the preload and the environment on a command.
    pub fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        match &self.preload {
            Some(library) => command.env(Self::PRELOAD, library),
            None => command.env_remove(Self::PRELOAD),
        }
    }
}

/// Folders that the runner needs.
#[derive(Clone, Debug)]
pub struct Folders {
    /// Where the main workspace's release build lies.
    pub release: PathBuf,
    /// Cargo's target folder of the rivals' own workspace.
    pub rivals_target: PathBuf,
}

impl Folders {
    /// Beside the running program, which cargo put into the release folder.
    pub fn find() -> std::io::Result<Self> {
        let program = std::env::current_exe()?;
        let release = program.parent().unwrap_or(Path::new(".")).to_owned();
        let rivals_target = release.parent().unwrap_or(Path::new(".")).join("rivals");
        Ok(Self { release, rivals_target })
    }
}

impl Field {
    fn add(&mut self, name: &str, origin: &str, library: Option<PathBuf>, if_missing: &str) {
        match library.filter(|path| path.exists()) {
            Some(path) => self.rivals.push(Rival {
                name: name.to_owned(),
                origin: origin.to_owned(),
                preload: Some(path),
                environment: Vec::new(),
            }),
            None => self.absent.push(Absent { name: name.to_owned(), why: if_missing.to_owned() }),
        }
    }

    fn add_with(&mut self, name: &str, origin: &str, library: &Path, environment: &[(&str, &str)]) {
        self.add(name, origin, Some(library.to_owned()), NOT_BUILT);
        if let Some(rival) = self.rivals.iter_mut().find(|rival| rival.name == name) {
            rival.environment =
                environment.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect();
        }
    }

    /// Drops our library's variants unless it really does what the variant's name says: a library that fell back to one
    /// tier, or that does not know the hardened mode, would look good.
    pub fn check_ours(&mut self, workload: &Path) {
        let [hardened, strong] = OURS_HARDENED;
        for (name, question, wanted) in
            [(OURS_TWO_TIERS, "tier-count", "2"), (hardened, "harden-mode", "1"), (strong, "harden-mode", "2")]
        {
            let Some(at) = self.rivals.iter().position(|rival| rival.name == name) else { continue };
            let output = self.rivals[at].apply(Command::new(workload).arg(question)).output();
            let (answer, said) = output.map_or((String::new(), String::new()), |output| {
                let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
                (text(&output.stdout), text(&output.stderr))
            });
            if answer != wanted {
                let name = self.rivals.remove(at).name;
                let why =
                    format!("asked for its {question}, the library answers `{answer}` instead of {wanted} {said}");
                self.absent.push(Absent { name, why: why.trim_end().to_owned() });
            }
        }
    }

    /// Leaves out those of `failed`, whose libraries, if there are any, are of an earlier build.
    pub fn replace_failed(&mut self, failed: Vec<Absent>) {
        let is_failed = |name: &str| failed.iter().any(|absent| absent.name == name);
        self.rivals.retain(|rival| !is_failed(&rival.name));
        self.absent.retain(|absent| !is_failed(&absent.name));
        self.absent.extend(failed);
    }

    /// Keeps those named in `only`; an empty list keeps all. A name that nobody has is an error.
    pub fn keep(&mut self, only: &[String]) -> Result<(), String> {
        let known = |name: &String| {
            self.rivals.iter().any(|rival| rival.name == *name) || self.absent.iter().any(|absent| absent.name == *name)
        };
        if let Some(unknown) = only.iter().find(|name| !known(name)) {
            let names: Vec<&str> = self.rivals.iter().map(|rival| rival.name.as_str()).collect();
            return Err(format!("no rival is called `{unknown}`; there are {}", names.join(", ")));
        }
        if !only.is_empty() {
            self.rivals.retain(|rival| only.contains(&rival.name));
            self.absent.retain(|absent| only.contains(&absent.name));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_rival_is_read_with_its_environment() {
        let rival = Rival::parse("mine=/dev/null/../null,A=1,B=x=y");
        // /dev/null is no plain file.
        assert!(rival.is_err());
        let library = tempfile::NamedTempFile::new().expect("a file");
        let rival = Rival::parse(&format!("mine={},A=1,B=x=y", library.path().display())).expect("well-formed");
        assert_eq!(rival.environment, [("A".into(), "1".into()), ("B".into(), "x=y".into())]);
        assert!(Rival::parse("mine").is_err());
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let mut field = Field::default();
        field.add("glibc", "", Some("/".into()), "");
        field.add("gone", "", None, "missing");
        assert!(field.keep(&["glibcc".into()]).unwrap_err().contains("glibc"));
        field.keep(&["gone".into()]).expect("absent ones are known");
        assert!(field.rivals.is_empty() && field.absent.len() == 1);
    }

    #[test]
    fn a_rival_that_failed_to_build_is_not_measured_as_it_was_before() {
        let mut field = Field::default();
        field.add("old", "", Some("/".into()), "");
        field.replace_failed(vec![Absent { name: "old".into(), why: "the build failed".into() }]);
        assert!(field.rivals.is_empty() && field.absent[0].why == "the build failed");
    }
}
