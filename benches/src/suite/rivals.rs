//! Who takes part: libraries that are preloaded, where they come from, and how they are built.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

/// Folders in which distributions keep shared libraries.
const LIBRARY_FOLDERS: [&str; 5] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib"];
/// The rival that ratios refer to.
pub const BASELINE: &str = "mimalloc3";
/// Our library with one tier.
pub const OURS: &str = "tiermem";
const OURS_TWO_TIERS: &str = "tiermem-2tier";

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
            Some(library) => command.env("LD_PRELOAD", library),
            None => command.env_remove("LD_PRELOAD"),
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

/// Builds the workload program, our library and, unless none of them is wanted, the rivals.
pub fn build(folders: &Folders, with_rivals: bool) -> Vec<Absent> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = folders.release.parent().unwrap_or(Path::new("."));
    let mut failed = Vec::new();
    let mut cargo = |folder: &Path, target: &Path, packages: &[&str]| {
        for package in packages {
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
            command.current_dir(folder).args(["build", "--quiet", "--release", "--package", package]);
            // A build that a preloaded allocator serves would measure nothing and might break.
            let built = command.env("CARGO_TARGET_DIR", target).env_remove("LD_PRELOAD").status();
            if !built.as_ref().is_ok_and(|status| status.success()) {
                let why = format!("`cargo build --release --package {package}` in {} failed", folder.display());
                failed.push(Absent { name: (*package).to_owned(), why });
            }
        }
    };
    cargo(here, target, &["tiermem-benches", "tiermem-preload"]);
    if with_rivals {
        let packages = ["rival-mimalloc", "rival-snmalloc", "rival-jemalloc", "rival-rpmalloc", "rival-rusty-alloc"];
        cargo(&here.join("rivals"), &folders.rivals_target, &packages);
    }
    failed
}

/// Finds everyone. `second_tier` is the file that backs our slow tier.
pub fn find(folders: &Folders, second_tier: &Path) -> Field {
    let mut field = Field::default();
    let system =
        |file: &str| LIBRARY_FOLDERS.iter().map(|folder| Path::new(folder).join(file)).find(|path| path.exists());
    // libc itself is preloaded, so that a program linked with another allocator (Debian's redis) is on glibc too.
    field.add("glibc", "the C library", system("libc.so.6"), "no libc.so.6 in the usual folders");
    for (name, origin, file, package) in [
        ("jemalloc-deb", "Debian's jemalloc 5.3", "libjemalloc.so.2", "libjemalloc2"),
        ("tcmalloc", "Debian's gperftools", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
        ("mimalloc2", "Debian's mimalloc 2.0", "libmimalloc.so.2", "libmimalloc2.0"),
    ] {
        field.add(name, origin, system(file), &format!("no {file}; `apt-get install {package}`"));
    }
    for (name, origin, file) in [
        (BASELINE, "crate libmimalloc-sys 0.1.49 (mimalloc 3.3.2)", "librival_mimalloc.so"),
        ("snmalloc", "crate snmalloc-sys 0.7.6", "librival_snmalloc.so"),
        ("jemalloc", "crate tikv-jemalloc-sys 0.7.1 (jemalloc 5.3.1)", "librival_jemalloc.so"),
        ("rpmalloc", "crate rpmalloc-sys 0.2.3 (rpmalloc 1.4)", "librival_rpmalloc.so"),
        ("rusty_alloc", "crate rusty_alloc 2.4.0", "librival_rusty_alloc.so"),
    ] {
        let library = folders.rivals_target.join("release").join(file);
        field.add(name, origin, Some(library), "not built; run without --no-build");
    }
    let ours = folders.release.join("libtiermem.so");
    field.add(OURS, "this project, one tier", Some(ours.clone()), "not built; run without --no-build");
    field.add(OURS_TWO_TIERS, "this project, DRAM and a DAX file", Some(ours), "not built; run without --no-build");
    if let Some(two) = field.rivals.iter_mut().find(|rival| rival.name == OURS_TWO_TIERS) {
        let tiers = format!("slow=dax-file:{},size=4G", second_tier.display());
        two.environment = vec![("TIERMEM_TIERS".into(), tiers), ("TIERMEM_LIMITS".into(), "dram=64M".into())];
    }
    field
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

    /// Drops the rival with two tiers unless the library really works with two.
    pub fn check_tiers(&mut self, workload: &Path) {
        let Some(at) = self.rivals.iter().position(|rival| rival.name == OURS_TWO_TIERS) else { return };
        let output = self.rivals[at].apply(Command::new(workload).arg("tier-count")).output();
        let (count, said) = output.map_or((String::new(), String::new()), |output| {
            let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
            (text(&output.stdout), text(&output.stderr))
        });
        if count != "2" {
            let name = self.rivals.remove(at).name;
            self.absent.push(Absent { name, why: format!("the library reports `{count}` tiers instead of 2 {said}") });
        }
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
}
