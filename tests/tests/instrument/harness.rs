//! Programs built by `tierctl instrument`, run under it, and what they counted.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::counts::Counted;

const RUST: &str = include_str!("counted.rs");
const C: &str = include_str!("counted.c");
const MANIFEST: &str = "[package]\nname = \"counted\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
/// Fails where it is instrumented itself: it would count, and write a report.
const BUILD: &str = "fn main() {\n    let maps = std::fs::read_to_string(\"/proc/self/maps\").unwrap();\n    \
                     assert!(!maps.contains(\"libtiermem_instrument\"), \"the build script is instrumented\");\n}\n";

/// A program, and the same without instrumentation.
pub struct Program {
    path: PathBuf,
    plain: PathBuf,
    /// Where it lies, if it is nobody else's.
    _folder: Option<TempDir>,
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The folder of builds, in which the run time as it is released, and tierctl, are made first.
fn tools() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let target = own.ancestors().nth(3).unwrap().to_path_buf();
        for (package, profile) in [("tiermem-instrument", "release"), ("tierctl", "dev")] {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(["build", "--quiet", "--profile", profile, "--package", package, "--target-dir"]).arg(&target);
            assert!(cargo.current_dir(workspace()).status().unwrap().success(), "cargo could not build {package}");
        }
        target
    })
}

fn tierctl() -> Command {
    let mut command = Command::new(tools().join("debug/tierctl"));
    command.stdin(Stdio::null()).env("TIERMEM_INSTRUMENT_LIBRARY", tools().join("release/libtiermem_instrument.so"));
    // Cargo sets some for its tests; a user's shell has none.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO") && text != "CARGO_HOME" || text == "RUSTFLAGS" || text == "LD_LIBRARY_PATH" {
            command.env_remove(&name);
        }
    }
    command.env("XDG_CACHE_HOME", cache());
    command
}

/// The first of the CPUs that this process may run on.
pub fn first_cpu() -> String {
    tiermem_sys::cpu::allowed().unwrap()[0].to_string()
}

/// Has a command that runs another one have its environment.
fn pass_environment(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
}

/// Where tools are kept: not in the user's folder.
fn cache() -> &'static Path {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| {
        let path = tools().join("instrument-test-cache");
        fs::create_dir_all(&path).unwrap();
        path
    })
}

fn run(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn succeed(command: &mut Command) {
    let (code, said) = run(command);
    assert_eq!(code, 0, "{command:?}: {said}");
}

/// Whether programs can be instrumented with this compiler here; says it if not.
pub fn is_usable(compiler: &str) -> bool {
    if compiler.starts_with("clang") {
        return true;
    }
    let output = Command::new(compiler).arg("-print-file-name=plugin").output();
    let folder =
        output.ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let usable = Path::new(&folder).join("include/gcc-plugin.h").is_file();
    if !usable {
        eprintln!("SKIP {compiler}: it has no headers for plugins here (gcc-VERSION-plugin-dev)");
    }
    usable
}

impl Program {
    /// The one in Rust, built by cargo.
    pub fn rust() -> Self {
        static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
        let (path, plain) = BUILT.get_or_init(|| {
            let folder = tools().join("instrument-test-program");
            fs::create_dir_all(folder.join("src")).unwrap();
            for (name, text) in [("Cargo.toml", MANIFEST), ("build.rs", BUILD), ("src/main.rs", RUST)] {
                fs::write(folder.join(name), text).unwrap();
            }
            let build = ["cargo", "build", "--quiet", "--offline", "--release"];
            succeed(tierctl().args(["instrument", "--"]).args(build).current_dir(&folder));
            let mut plain = Command::new(build[0]);
            plain.args(&build[1..]).current_dir(&folder).env_remove("CARGO_TARGET_DIR");
            // Its functions lie where its symbols say.
            plain.env("RUSTFLAGS", "-Crelocation-model=static");
            succeed(&mut plain);
            let target = folder.join("target");
            (target.join("x86_64-unknown-linux-gnu/release/counted"), target.join("release/counted"))
        });
        Self { path: path.clone(), plain: plain.clone(), _folder: None }
    }

    /// The one in C, built by this compiler with these options.
    pub fn c(compiler: &str, options: &[&str]) -> Self {
        let command = [&[compiler], options, &["counted.c", "-o", "counted"]].concat();
        Self::built(&[("counted.c", C)], &[&command])
    }

    /// One that is made of these files by these commands under `tierctl instrument`, called `counted`.
    pub fn built(files: &[(&str, &str)], commands: &[&[&str]]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        for command in commands {
            succeed(tierctl().args(["instrument", "--"]).args(*command).current_dir(&folder));
        }
        let path = folder.path().join("counted");
        Self { plain: path.clone(), path, _folder: Some(folder) }
    }

    /// With a plain build of the same `counted.c` by this compiler.
    pub fn with_plain(self, compiler: &str, options: &[&str]) -> Self {
        let plain = self.beside("plain");
        succeed(Command::new(compiler).args(options).arg(self.beside("counted.c")).arg("-o").arg(&plain));
        Self { plain, ..self }
    }

    /// A file beside it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// Runs it under `tierctl instrument`; the report.
    pub fn report_with(&self, options: &[&str], words: &[&str]) -> Value {
        self.report_and_said(options, words).0
    }

    /// Likewise, and what was said on standard error.
    pub fn report_and_said(&self, options: &[&str], words: &[&str]) -> (Value, String) {
        self.report_of(&mut tierctl(), options, words)
    }

    /// Likewise, with every access becoming a record, which keeps the run time busy.
    pub fn report_of_records(&self, words: &[&str]) -> (Value, String) {
        self.report_of(tierctl().env("TIERMEM_INSTRUMENT_FILTER", "off"), &[], words)
    }

    /// With all addresses the same in each run; only then are virtual times. The variable is `off` or something else that is as
    /// long, as the environment lies on the stack.
    pub fn report_in_place(&self, (variable, value): (&str, &str), words: &[&str]) -> Value {
        let tierctl = tierctl();
        let mut command = Command::new("setarch");
        command.arg("--addr-no-randomize").arg(tierctl.get_program()).env(variable, value);
        pass_environment(&tierctl, &mut command);
        self.report_of(&mut command, &[], words).0
    }

    fn report_of(&self, command: &mut Command, options: &[&str], words: &[&str]) -> (Value, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.json");
        command.arg("instrument").args(options).arg("--output").arg(&file).arg("--").arg(&self.path).args(words);
        let (_, said) = run(command);
        let text = fs::read(&file).unwrap_or_else(|error| panic!("{command:?}: {error}: {said}"));
        let report: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&report["format"], &report["mode"]), (&"tiermem-instrument/1".into(), &"instrumented".into()));
        (report, said)
    }

    /// On one processor.
    pub fn report_on_one(&self, options: &[&str], words: &[&str]) -> Value {
        let tierctl = tierctl();
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &first_cpu()]).arg(tierctl.get_program());
        pass_environment(&tierctl, &mut command);
        self.report_of(&mut command, options, words).0
    }

    /// The exit code of a run, of whatever `before` runs, and what was said.
    pub fn ended(&self, before: &[&str], (variable, value): (&str, &str), words: &[&str]) -> (i32, String) {
        let tierctl = tierctl();
        let mut command = Command::new("env");
        command.args(before).arg(tierctl.get_program()).arg("instrument").arg("--").arg(&self.path).args(words);
        pass_environment(&tierctl, &mut command);
        run(command.env(variable, value))
    }

    /// What the loader says that it loads for it, where a copy of the run time in `folder` is asked for.
    pub fn libraries(&self, folder: &Path) -> String {
        let copy = folder.join("libtiermem_instrument.so");
        fs::copy(tools().join("release/libtiermem_instrument.so"), &copy).unwrap();
        let mut command = tierctl();
        let output = command.args(["instrument", "--library"]).arg(&copy).args(["--", "ldd"]).arg(&self.path).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// First bytes of all checks of the program while it runs on its own, waiting.
    pub fn checks_unmeasured(&self) -> Vec<u8> {
        use object::{Object, ObjectSymbol};
        let bytes = fs::read(&self.path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let is_check = |name: &str| name.starts_with("__asan_check_");
        let checks = file.symbols().filter(|symbol| symbol.is_definition() && symbol.name().is_ok_and(is_check));
        let checks: Vec<u64> = checks.map(|symbol| symbol.address()).collect();
        let mut child = Command::new(&self.path).args(["wait", "1"]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let path = self.path.to_str().unwrap();
        let look = || {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
            let base = maps.lines().find(|line| line.ends_with(path))?.split('-').next()?;
            let base = u64::from_str_radix(base, 16).unwrap();
            let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
            let mut firsts = vec![0; checks.len()];
            for (first, check) in firsts.iter_mut().zip(&checks) {
                memory.read_exact_at(std::slice::from_mut(first), base + check).unwrap();
            }
            Some(firsts)
        };
        // It sleeps in a read when it has begun.
        let waits = || fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|text| text.starts_with("0 0x0 "));
        while !waits() {
            assert_eq!(child.try_wait().unwrap(), None, "the program has ended");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let firsts = look().unwrap();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        firsts
    }

    pub fn report(&self, words: &[&str]) -> Value {
        self.report_with(&[], words)
    }

    pub fn counts(&self, words: &[&str]) -> Counted {
        Counted::of(&self.report(words))
    }

    /// Loads and stores of one function of the plain program, as valgrind sees them. (Not of the whole program: at its start
    /// the C library reads `/proc/self/maps`, whose length differs from run to run.)
    pub fn lackey(&self, function: &str, words: &[&str]) -> (u64, u64) {
        let body = self.plain_function(function);
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=lackey", "--basic-counts=no", "--trace-mem=yes"]).arg(&self.plain).args(words);
        let output = valgrind.output().expect("valgrind, which `cargo xtask test` installs");
        let text = String::from_utf8_lossy(&output.stderr);
        let (mut loads, mut stores, mut inside) = (0, 0, false);
        // "I  0040155a,3" is an instruction, and " S 1fff000768,8" a store of the one before it; M is a load and a store.
        for line in text.lines() {
            match line.get(..3) {
                Some("I  ") => {
                    let address = line[3..].split(',').next().unwrap();
                    inside = body.contains(&u64::from_str_radix(address, 16).unwrap());
                }
                Some(" L ") if inside => loads += 1,
                Some(" S ") if inside => stores += 1,
                Some(" M ") if inside => (loads, stores) = (loads + 1, stores + 1),
                _ => {}
            }
        }
        assert!(loads + stores > 0, "{valgrind:?} saw nothing of {function} at {body:x?}: {text:.2000}");
        (loads, stores)
    }

    /// Where a function of the plain program lies.
    fn plain_function(&self, name: &str) -> Range<u64> {
        use object::{Object, ObjectSymbol};
        let bytes = fs::read(&self.plain).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let mangled = format!("7counted{}{name}", name.len());
        let is_it = |symbol: &object::Symbol| symbol.name().is_ok_and(|text| text == name || text.contains(&mangled));
        let found: Vec<_> = file.symbols().filter(is_it).map(|s| s.address()..s.address() + s.size()).collect();
        assert_eq!(found.len(), 1, "functions called {name}");
        found[0].clone()
    }

    /// A copy in which the checks whose names begin so return at once.
    pub fn with_empty_checks(&self, prefix: &str) -> Self {
        use object::{Object, ObjectSection, ObjectSymbol};
        const RETURN: u8 = 0xc3;
        let mut bytes = fs::read(&self.path).unwrap();
        let places: Vec<u64> = {
            let file = object::File::parse(&*bytes).unwrap();
            let checks = file.symbols().filter(|symbol| symbol.name().is_ok_and(|name| name.starts_with(prefix)));
            checks
                .filter_map(|symbol| {
                    let section = file.section_by_index(symbol.section_index()?).ok()?;
                    Some(symbol.address() - section.address() + section.file_range()?.0)
                })
                .collect()
        };
        assert!(!places.is_empty(), "no {prefix} in the program");
        for place in places {
            bytes[usize::try_from(place).unwrap()] = RETURN;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counted");
        fs::copy(&self.path, &path).unwrap();
        fs::write(&path, bytes).unwrap();
        Self { plain: path.clone(), path, _folder: Some(folder) }
    }

    /// What `tierctl replay` says of a trace.
    pub fn replay(&self, trace: &Path) -> Value {
        let output = tierctl().args(["--json", "replay"]).arg(trace).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// `tierctl` with these words: its exit code and what it said.
    pub fn tierctl(words: &[&str], folder: &Path) -> (i32, String) {
        run(tierctl().args(words).current_dir(folder))
    }

    /// Likewise, with compilers of this folder's own.
    pub fn tierctl_with_compilers(words: &[&str], folder: &Path) -> (i32, String) {
        let mut path = folder.as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        run(tierctl().args(words).current_dir(folder).env("PATH", path).env("XDG_CACHE_HOME", folder))
    }
}
