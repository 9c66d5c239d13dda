//! Programs built by `tierctl instrument`, run under it, and what they counted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

const RUST: &str = include_str!("counted.rs");
const C: &str = include_str!("counted.c");
const MANIFEST: &str = "[package]\nname = \"counted\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
/// Fails where it is instrumented itself: it would count, and write a report.
const BUILD: &str = "fn main() {\n    let maps = std::fs::read_to_string(\"/proc/self/maps\").unwrap();\n    \
                     assert!(!maps.contains(\"libtiermem_instrument\"), \"the build script is instrumented\");\n}\n";

/// What all threads of all processes counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub loads: u64,
    pub stores: u64,
    pub bytes_loaded: u64,
    pub bytes_stored: u64,
    pub ranges_loaded: u64,
    pub ranges_stored: u64,
    pub range_bytes_loaded: u64,
    pub range_bytes_stored: u64,
}

impl Counted {
    fn of(report: &Value) -> Self {
        let processes = report["processes"].as_array().unwrap();
        let threads = processes.iter().flat_map(|process| process["threads"].as_array().unwrap());
        let threads: Vec<&Value> = threads.collect();
        let sum = |name: &str| threads.iter().map(|thread| thread[name].as_u64().unwrap()).sum();
        Self {
            loads: sum("loads"),
            stores: sum("stores"),
            bytes_loaded: sum("bytes_loaded"),
            bytes_stored: sum("bytes_stored"),
            ranges_loaded: sum("ranges_loaded"),
            ranges_stored: sum("ranges_stored"),
            range_bytes_loaded: sum("range_bytes_loaded"),
            range_bytes_stored: sum("range_bytes_stored"),
        }
    }

    pub fn minus(self, other: Self) -> Self {
        Self {
            loads: self.loads - other.loads,
            stores: self.stores - other.stores,
            bytes_loaded: self.bytes_loaded - other.bytes_loaded,
            bytes_stored: self.bytes_stored - other.bytes_stored,
            ranges_loaded: self.ranges_loaded - other.ranges_loaded,
            ranges_stored: self.ranges_stored - other.ranges_stored,
            range_bytes_loaded: self.range_bytes_loaded - other.range_bytes_loaded,
            range_bytes_stored: self.range_bytes_stored - other.range_bytes_stored,
        }
    }
}

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

/// The release builds of tierctl and the run time, made first.
fn tools() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let target = own.ancestors().nth(3).unwrap().to_path_buf();
        for package in ["tiermem-instrument", "tierctl"] {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(["build", "--quiet", "--release", "--package", package, "--target-dir"]).arg(&target);
            assert!(cargo.current_dir(workspace()).status().unwrap().success(), "cargo could not build {package}");
        }
        target.join("release")
    })
}

fn tierctl() -> Command {
    let mut command = Command::new(tools().join("tierctl"));
    command.stdin(Stdio::null());
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

/// Where tools are kept: not in the user's folder.
fn cache() -> &'static Path {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| {
        let path = tools().parent().unwrap().join("instrument-test-cache");
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

impl Program {
    /// The one in Rust, built by cargo.
    pub fn rust() -> Self {
        static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
        let (path, plain) = BUILT.get_or_init(|| {
            let folder = tools().parent().unwrap().join("instrument-test-program");
            fs::create_dir_all(folder.join("src")).unwrap();
            for (name, text) in [("Cargo.toml", MANIFEST), ("build.rs", BUILD), ("src/main.rs", RUST)] {
                fs::write(folder.join(name), text).unwrap();
            }
            let build = ["cargo", "build", "--quiet", "--offline", "--release"];
            succeed(tierctl().args(["instrument", "--"]).args(build).current_dir(&folder));
            let mut plain = Command::new(build[0]);
            plain.args(&build[1..]).current_dir(&folder).env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
            succeed(&mut plain);
            let target = folder.join("target");
            (target.join("x86_64-unknown-linux-gnu/release/counted"), target.join("release/counted"))
        });
        Self { path: path.clone(), plain: plain.clone(), _folder: None }
    }

    /// The one in C, built by clang.
    pub fn c() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("counted.c"), C).unwrap();
        succeed(
            tierctl().args(["instrument", "--", "clang", "-O1", "counted.c", "-o", "counted"]).current_dir(&folder),
        );
        let path = folder.path().join("counted");
        Self { plain: path.clone(), path, _folder: Some(folder) }
    }

    /// Runs it under `tierctl instrument`; the report.
    pub fn report_with(&self, options: &[&str], words: &[&str]) -> Value {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.json");
        let mut command = tierctl();
        command.arg("instrument").args(options).arg("--output").arg(&file).arg("--").arg(&self.path).args(words);
        let (_, said) = run(&mut command);
        let text = fs::read(&file).unwrap_or_else(|error| panic!("{command:?}: {error}: {said}"));
        let report: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&report["format"], &report["mode"]), (&"tiermem-instrument/1".into(), &"instrumented".into()));
        report
    }

    pub fn report(&self, words: &[&str]) -> Value {
        self.report_with(&[], words)
    }

    pub fn counts(&self, words: &[&str]) -> Counted {
        Counted::of(&self.report(words))
    }

    /// Loads and stores of the plain program, as valgrind counts them.
    pub fn lackey(&self, words: &[&str]) -> (u64, u64) {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=lackey", "--basic-counts=no", "--detailed-counts=yes"]).arg(&self.plain).args(words);
        let output = valgrind.output().expect("valgrind, which `cargo xtask test` installs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut sums = (0, 0);
        // ==1== I64           12,345      6,789     1,011
        for line in text.lines() {
            let fields: Vec<&str> = line.split_whitespace().skip(1).collect();
            if let [kind, loads, stores, _] = fields[..]
                && (kind.starts_with(['I', 'F', 'V']) && kind[1..].parse::<u32>().is_ok())
            {
                let number = |text: &str| text.replace(',', "").parse::<u64>().unwrap();
                sums = (sums.0 + number(loads), sums.1 + number(stores));
            }
        }
        assert!(sums.0 > 0, "no counts in {text}");
        sums
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
}
