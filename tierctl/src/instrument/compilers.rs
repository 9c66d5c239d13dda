//! Compilers of C and C++, found by their names in front of the real ones: scripts that add what puts a check in front of
//! each access.
//!
//! clang has LLVM's address sanitizer for that. gcc has nothing that counts exactly (its sanitizers leave out accesses to
//! memory that they know to be right, or that are near others), but it takes plugins: see `gcc_plugin.cc`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::SANITIZER;
use super::library;
use super::tools::Tools;
use crate::exit::{Exit, Failure};

/// Names that builds call compilers by.
const NAMES: [&str; 6] = ["clang", "clang++", "gcc", "g++", "cc", "c++"];

/// Cargo sets it for all that it runs.
pub const UNDER_CARGO: &str = "CARGO_PKG_NAME";

/// Options of clang beside the sanitizer's.
const CLANG: &str = "-fsanitize=kernel-address -mno-red-zone -fno-omit-frame-pointer -fno-builtin-memcmp \
                     -fno-builtin-bcmp -Qunused-arguments";

/// Options of gcc beside the plugin. Copies of structures are made of instructions, so that the run time does not count them
/// once more as `memcpy`; the plugin would run too early in front of link-time optimisation.
const GCC: &str = "-mno-red-zone -fno-omit-frame-pointer -mno-omit-leaf-frame-pointer -fno-lto \
                   -mmemcpy-strategy=rep_8byte:-1:noalign -mmemset-strategy=rep_8byte:-1:noalign";

/// The plugin, as it is compiled for the gcc that is there.
const PLUGIN: &str = include_str!("gcc_plugin.cc");

/// What compilers are given.
pub struct Compilers<'a> {
    tools: &'a Tools,
    /// Folder of the run time.
    place: &'a Path,
    /// The checks for executables.
    object: &'a Path,
}

/// A compiler as it is installed.
#[derive(Debug, PartialEq, Eq)]
struct Installed {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Clang,
    Gcc {
        /// Its major version.
        version: String,
        /// Folder of its plugins.
        plugins: PathBuf,
        /// The whole version, and the machine that it is for.
        full: String,
    },
}

impl<'a> Compilers<'a> {
    /// With the run time in `place`, and `object` for executables.
    pub const fn new(tools: &'a Tools, place: &'a Path, object: &'a Path) -> Self {
        Self { tools, place, object }
    }

    /// Puts scripts in the place of all compilers that a build may call by name, `words` among them.
    ///
    /// # Errors
    /// If a script cannot be written, or the command itself is a compiler that cannot be used.
    pub fn wrap(&self, words: &[OsString]) -> Result<(), Failure> {
        for name in names(words) {
            let script = match self.script(&name) {
                Ok(script) => script,
                Err(failure) if words.first().is_some_and(|word| *word == *name) => return Err(failure),
                // Told where a build needs it.
                Err(failure) => format!("#!/bin/sh\n{}echo {} >&2\nexit 127\n", plain(&name), quoted(&failure.message)),
            };
            self.tools.script(&format!("bin/{name}"), &script)?;
        }
        Ok(())
    }

    /// Whether there is a script in the place of this command.
    pub fn has(words: &[OsString], name: &OsStr) -> bool {
        names(words).iter().any(|known| *name == **known)
    }

    fn script(&self, name: &str) -> Result<String, Failure> {
        let path = find_in_path(name).ok_or_else(|| unsupported(format!("{name}: not installed")))?;
        let compiler = Installed::known(self.tools, name, path)?;
        let flags = match &compiler.kind {
            Kind::Clang => {
                let options: Vec<String> = SANITIZER.iter().map(|option| format!("-mllvm {option}")).collect();
                format!("{CLANG} {}", options.join(" "))
            }
            Kind::Gcc { version, plugins, full } => {
                let plugin = self.plugin(&compiler.path, version, plugins, full)?;
                format!("{GCC} -fplugin={}", quoted(text(&plugin)?))
            }
        };
        let (real, place) = (quoted(text(&compiler.path)?), text(self.place)?);
        // Where libraries are only linked if something before them needs them, as Ubuntu has it, this one is all the same.
        let linked = format!(
            "-Wl,--push-state,--no-as-needed {} -l:{} -Wl,--pop-state {}",
            quoted(&format!("-L{place}")),
            library::NAME,
            quoted(&format!("-Wl,-rpath,{place}")),
        );
        Ok(format!(
            "#!/bin/sh\n{plain}object={object}\nfor word; do\n  case $word in\n    \
             --version|--help*|-dump*|-print*|-\\#\\#\\#) exec {real} \"$@\" ;;\n    \
             -c|-S|-E|-M|-MM|-fsyntax-only|-r) exec {real} \"$@\" {flags} ;;\n    \
             -shared|-static|-static-pie) object= ;;\n  esac\ndone\n\
             [ $# = 0 ] || [ \"$*\" = -v ] && exec {real} \"$@\"\n\
             exec {real} $object {linked} \"$@\" {flags}\n",
            plain = plain(name),
            object = quoted(text(self.object)?),
        ))
    }

    /// The plugin for this gcc, compiled if it is not there yet.
    fn plugin(&self, gcc: &Path, version: &str, plugins: &Path, full: &str) -> Result<PathBuf, Failure> {
        let headers = plugins.join("include");
        if !headers.join("gcc-plugin.h").is_file() {
            return Err(unsupported(format!(
                "{}: the headers for its plugins are missing (apt-get install gcc-{version}-plugin-dev); or use clang",
                gcc.display()
            )));
        }
        let of = format!("{full}{}\n{PLUGIN}", headers.display());
        self.tools.keep(&format!("gcc-{version}-plugin.so"), &of, |plugin| {
            let source = plugin.with_extension("cc");
            std::fs::write(&source, PLUGIN).map_err(|error| Failure::from_io(source.display(), &error))?;
            let compiled = compile(version, &headers, &source, plugin);
            drop(std::fs::remove_file(&source));
            compiled
        })
    }
}

/// Compiles the plugin, with the C++ compiler of the same version if it is there.
fn compile(version: &str, headers: &Path, source: &Path, plugin: &Path) -> Result<(), Failure> {
    let candidates = [format!("g++-{version}"), "g++".to_owned(), "clang++".to_owned()];
    let compiler = candidates.iter().find_map(|name| find_in_path(name));
    let compiler =
        compiler.ok_or_else(|| unsupported("gcc needs g++ or clang++ beside it, for its plugin".to_owned()))?;
    let mut command = Command::new(&compiler);
    command.args(["-w", "-O1", "-std=c++17", "-fno-rtti", "-fPIC", "-shared", "-I"]).arg(headers);
    let run = command.arg(source).arg("-o").arg(plugin).output();
    let run = run.map_err(|error| Failure::from_io(compiler.display(), &error))?;
    if run.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&run.stderr);
    let first: Vec<&str> = said.lines().take(5).collect();
    Err(unsupported(format!("gcc {version} is not one that the plugin is made for; use clang: {}", first.join(" / "))))
}

impl Installed {
    /// The compiler of this name. What it says of itself is kept: asking all compilers takes longer than many a program.
    fn known(tools: &Tools, name: &str, path: PathBuf) -> Result<Self, Failure> {
        let failed = |error| Failure::from_io(path.display(), &error);
        let file = path.canonicalize().map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        let of = format!("{} {} {}.{}", file.display(), about.len(), about.mtime(), about.mtime_nsec());
        let name = format!("known-{}", name.replace('.', "_"));
        let kept = tools.keep(&name, &of, |kept| {
            let said = Self::at(path.clone())?.to_text();
            std::fs::write(kept, said).map_err(|error| Failure::from_io(kept.display(), &error))
        })?;
        let text = std::fs::read_to_string(&kept).map_err(|error| Failure::from_io(kept.display(), &error))?;
        Ok(Self { kind: Kind::from_text(&text), path })
    }

    /// Asks a compiler.
    fn at(path: PathBuf) -> Result<Self, Failure> {
        let ask = |options: &[&str]| output(Command::new(&path).args(options)).unwrap_or_default();
        let said = ask(&["--version"]);
        if said.contains("clang") {
            return Ok(Self { path, kind: Kind::Clang });
        }
        let version = if said.contains("Free Software Foundation") { ask(&["-dumpversion"]) } else { String::new() };
        let version = version.trim().split('.').next().unwrap_or_default().to_owned();
        if version.is_empty() {
            return Err(unsupported(format!("{}: neither gcc nor clang", path.display())));
        }
        let plugins = PathBuf::from(ask(&["-print-file-name=plugin"]).trim());
        let full = ask(&["-dumpfullversion", "-dumpmachine"]);
        Ok(Self { kind: Kind::Gcc { version, plugins, full }, path })
    }

    /// What [`Kind::from_text`] reads: nothing of clang; version, folder and the rest of gcc, a line each.
    fn to_text(&self) -> String {
        match &self.kind {
            Kind::Clang => String::new(),
            Kind::Gcc { version, plugins, full } => format!("{version}\n{}\n{full}", plugins.display()),
        }
    }
}

impl Kind {
    fn from_text(text: &str) -> Self {
        let mut lines = text.splitn(3, '\n').map(str::to_owned);
        let mut next = || lines.next().unwrap_or_default();
        match next() {
            version if version.is_empty() => Self::Clang,
            version => Self::Gcc { version, plugins: next().into(), full: next() },
        }
    }
}

/// All names that get a script: those that every build may call, and others of the same compilers that the command names, as
/// `make CC=gcc-12`.
fn names(words: &[OsString]) -> Vec<String> {
    let mut all: Vec<String> = NAMES.map(str::to_owned).to_vec();
    for word in words {
        let Some(word) = word.to_str() else { continue };
        let name = word.rsplit_once('=').map_or(word, |(_, name)| name);
        if is_compiler(name) && !all.iter().any(|known| known == name) {
            all.push(name.to_owned());
        }
    }
    all
}

/// Whether that is called as a compiler is, perhaps with a version.
fn is_compiler(name: &str) -> bool {
    let is_version = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    NAMES.iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| rest.strip_prefix('-').map_or(rest.is_empty(), is_version))
    })
}

/// What cargo builds for itself, and C code of Rust packages, stays as it is, unless it asks for a certain compiler: the
/// line of a script that sees to that.
fn plain(name: &str) -> String {
    let real = find_in_path(name).filter(|_| name == "cc" || name == "c++");
    let run = |real: PathBuf| format!("[ -n \"${UNDER_CARGO}\" ] && exec {} \"$@\"\n", quoted(&real.to_string_lossy()));
    real.map(run).unwrap_or_default()
}

/// The real one of this name.
pub fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Not the wrapper of a `tierctl instrument` around this one.
    let is_wrapper = |folder: &PathBuf| folder.ends_with("tiermem/instrument/bin");
    let folders = env::split_paths(&path).filter(|folder| !is_wrapper(folder));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn output(command: &mut Command) -> Option<String> {
    let run = command.output().ok().filter(|run| run.status.success())?;
    Some(String::from_utf8_lossy(&run.stdout).into_owned())
}

fn unsupported(what: String) -> Failure {
    Failure::new(Exit::Unsupported, what)
}

fn text(path: &Path) -> Result<&str, Failure> {
    let cannot = || unsupported(format!("{}: a path that a shell script cannot hold", path.display()));
    path.to_str().filter(|text| !text.contains(['\'', '\n', ' '])).ok_or_else(cannot)
}

/// For the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn compilers_are_known_by_their_names() {
        for name in ["cc", "gcc", "g++-12", "clang-14", "clang++", "gcc-4.9"] {
            assert!(is_compiler(name), "{name}");
        }
        for name in ["ccache", "gcc-ar", "clang-format-14", "make", "", "g++12x"] {
            assert!(!is_compiler(name), "{name}");
        }
        let words = ["make", "CC=gcc-12", "CXX=g++", "-j2"].map(OsString::from);
        assert_eq!(names(&words)[NAMES.len()..], ["gcc-12"]);
        assert!(Compilers::has(&words, OsStr::new("gcc-12")) && !Compilers::has(&words, OsStr::new("make")));
    }

    #[test]
    fn a_compiler_is_asked_again_once_it_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let tools = Tools::at(folder.path().join("tools")).unwrap();
        let (path, asked) = (folder.path().join("gcc-9.1"), folder.path().join("asked"));
        let install = |version: u32| {
            let text = format!(
                "#!/bin/sh\necho \"$1\" >> {}\ncase $1 in\n--version) echo Free Software Foundation ;;\n\
                 -dumpversion) echo {version}.1 ;;\n-print*) echo /plugins ;;\n*) echo {version}.1.0; echo x86 ;;\nesac\n",
                asked.display()
            );
            // A file that is written over in place may be executed still.
            std::fs::write(path.with_extension("new"), text).unwrap();
            std::fs::set_permissions(path.with_extension("new"), std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::rename(path.with_extension("new"), &path).unwrap();
        };
        let known = || Installed::known(&tools, "gcc-9.1", path.clone()).unwrap();
        let gcc = |version: u32| Installed {
            path: path.clone(),
            kind: Kind::Gcc {
                version: version.to_string(),
                plugins: "/plugins".into(),
                full: format!("{version}.1.0\nx86\n"),
            },
        };
        let times = || std::fs::read_to_string(&asked).unwrap().lines().count();
        install(9);
        assert_eq!((known(), known(), times()), (gcc(9), gcc(9), 4));
        install(10);
        assert_eq!((known(), known(), times()), (gcc(10), gcc(10), 8));
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(
            Installed::known(&tools, "gcc-9.1", path.clone()).unwrap_err().message.contains("neither gcc nor clang")
        );
        assert_eq!(Kind::from_text(&Installed { path: path.clone(), kind: Kind::Clang }.to_text()), Kind::Clang);
    }

    #[test]
    fn words_of_the_shell_stay_whole() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
