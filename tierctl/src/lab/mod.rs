//! Running programs in the QEMU lab's guests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tiermem_qemu::cache::Cache;
use tiermem_qemu::host::{Lab, Output as Stream, Qemu, Scratch, Timing};
use tiermem_qemu::kernel::Kernel;
use tiermem_qemu::machine::{Folders, Machine, machines};
use tiermem_qemu::program::{Luggage, find};
use tiermem_qemu::wire::{Ended, Request};
use tiermem_qemu::{Error, ErrorKind};
use tiermem_sys::signal::number::{SIGHUP, SIGINT, SIGTERM};
use tiermem_sys::signal::{Signals, end_by};
use tiermem_topology::Topology;

use crate::exit::{Exit, Failure};

/// How many log folders are kept.
const LOGS_KEPT: usize = 20;
/// Of its memory, a machine leaves so much to its host, bytes.
const RESERVE: u64 = 256 << 20;
/// Variables that programs get from the environment of tierctl, by the start of their names.
const PASSED: [&str; 5] = ["TERM", "LANG", "LC_", "RUST_", "TIERMEM_"];

/// What is to be used instead of what was fetched.
#[derive(Debug, Default, clap::Args)]
pub struct Choice {
    /// Use this QEMU, version 11 or newer.
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// Boot this vmlinuz or vmlinux.
    #[arg(long, value_name = "FILE", requires = "modules")]
    kernel: Option<PathBuf>,
    /// The kernel's modules: a folder such as /lib/modules/VERSION.
    #[arg(long, value_name = "FOLDER", requires = "kernel")]
    modules: Option<PathBuf>,
    /// Use this static busybox.
    #[arg(long, value_name = "PROGRAM")]
    busybox: Option<PathBuf>,
    /// Of the kernels that were fetched, boot this one, for example 6.12 (default: the newest).
    #[arg(long, value_name = "VERSION", conflicts_with = "kernel")]
    guest_kernel: Option<String>,
}

/// Boot a topology, run a program in it, and end with its exit code.
///
/// The program goes into the guest with its libraries; in the guest, TIERMEM_LAB_TIERS holds the topology's memory as SPECs
/// (name=cxl-node:1 and the like), separated by semicolons. Files that it writes to /out come back to the log folder. With
/// several guests it runs in each at the same time; TIERMEM_LAB_INDEX and TIERMEM_LAB_GUESTS tell them apart.
///
/// Exit codes: the program's own, or 128+N where signal N killed it; 124 if it took too long; 125 if the lab failed (no boot,
/// no memory, a panic: the message says which); 126 and 127 if it cannot be executed or was not found.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// A shipped topology (`tierctl qemu list`), or a file.
    topology: String,
    /// Start so many guests: of a topology with one host, copies that share the CXL memory.
    #[arg(long, value_name = "N")]
    hosts: Option<u32>,
    /// Copy this file or folder into the guest as well, at the same path.
    #[arg(long, value_name = "PATH")]
    copy: Vec<PathBuf>,
    /// Set a variable for the program.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Keep what persistent devices hold in this folder (default: gone afterwards).
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Write console, kernel messages, sysfs and QEMU's events to this folder.
    #[arg(long, value_name = "FOLDER")]
    log: Option<PathBuf>,
    /// End the program after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Seconds that booting and bringing the memory up may take each.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    boot_timeout: u64,
    #[command(flatten)]
    choice: Choice,
    /// The program and its arguments. One that this machine does not have is busybox's.
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// How a failure of the lab ends tierctl.
pub fn failure(error: &Error) -> Failure {
    let exit = match error.kind() {
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::BadInput => Exit::BadInput,
        ErrorKind::NoRights => Exit::NoRights,
        ErrorKind::Unsupported => Exit::Unsupported,
        ErrorKind::NotExecutable => Exit::Command(126),
        ErrorKind::Boot | ErrorKind::BringUp | ErrorKind::Panic => Exit::Command(125),
        ErrorKind::TimedOut => Exit::Command(124),
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

/// The topology of this name or file.
///
/// # Errors
/// Not found, or everything that is wrong with it.
pub fn topology(which: &str) -> Result<Topology, Failure> {
    Topology::load(which).map_err(|error| {
        let exit = if error.to_string().starts_with("neither") { Exit::NotFound } else { Exit::BadInput };
        Failure::new(exit, error.to_string())
    })
}

impl Choice {
    fn lab(&self) -> Result<Lab, Failure> {
        self.found().map_err(|e| failure(&e))
    }

    fn found(&self) -> Result<Lab, Error> {
        let cache = Cache::of_user()?;
        let lacking = |what: &str, option: &str| {
            let why = format!("there is no {what}: run `tierctl qemu fetch`, or name one with {option}");
            Error::new(ErrorKind::NotFound, why)
        };
        let qemu = match &self.qemu {
            Some(program) => Qemu::given(program)?,
            None => Qemu::best(&cache)?,
        };
        let kernel = match (&self.kernel, &self.modules) {
            (Some(image), Some(modules)) => Kernel::given(image, modules)?,
            _ => {
                let fits = |kernel: &Kernel| self.guest_kernel.as_ref().is_none_or(|wanted| kernel.is_called(wanted));
                let kernel = cache.kernels()?.into_iter().find(fits);
                kernel.ok_or_else(|| lacking("such kernel", "--kernel and --modules"))?
            }
        };
        let busybox = self.busybox.clone().unwrap_or_else(|| cache.path("busybox/usr/bin/busybox"));
        if !busybox.is_file() {
            return Err(lacking("busybox", "--busybox"));
        }
        let agent =
            std::env::current_exe().map_err(|e| Error::new(ErrorKind::Failed, format!("tierctl itself: {e}")))?;
        Ok(Lab { cache, qemu, kernel, busybox, agent })
    }
}

impl Run {
    /// Boots, runs, ends.
    pub fn execute(self) -> Result<Exit, Failure> {
        let topology = topology(&self.topology)?;
        let lab = self.choice.lab()?;
        let (luggage, request) = self.program()?;
        let scratch = Scratch::make(0).map_err(|e| failure(&e))?;
        let state = self.state.clone().unwrap_or_else(|| scratch.path().to_path_buf());
        let folders = Folders { scratch: scratch.path(), state: &state };
        let machines = machines(&topology, self.hosts, folders).map_err(|e| failure(&e))?;
        check_memory(&machines)?;
        let log = self.log.clone().unwrap_or_else(|| default_log(&lab.cache, &topology.name));
        lab.cache.prune("logs", LOGS_KEPT);
        for note in machines.iter().flat_map(|machine| &machine.notes) {
            eprintln!("tierctl: {note}");
        }
        let stop = AtomicBool::new(false);
        let signal = AtomicI32::new(0);
        let done = AtomicBool::new(false);
        let signals = Signals::receive(&[SIGINT, SIGTERM, SIGHUP])
            .map_err(|e| Failure::new(Exit::Command(125), format!("cannot receive signals: {e}")))?;
        let job =
            Job { run: &self, lab: &lab, luggage: &luggage, request: &request, scratch: scratch.path(), log: &log };
        let results = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let received = signals.wait(Duration::from_millis(50)).unwrap_or_default();
                    if let Some(first) = received.first() {
                        signal.store(first.signal, Ordering::Relaxed);
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
            let guests: Vec<_> =
                machines.iter().map(|machine| scope.spawn(|| job.guest(machine, machines.len(), &stop))).collect();
            let results: Vec<_> = guests.into_iter().map(|guest| guest.join()).collect();
            done.store(true, Ordering::Relaxed);
            results
        });
        drop(scratch);
        if let number @ 1.. = signal.load(Ordering::Relaxed) {
            end_by(number);
        }
        let mut code = 0;
        for result in results {
            let panicked = || Failure::new(Exit::Command(125), "a guest's thread panicked");
            match result.map_err(|_| panicked())? {
                Ok(ended) if code == 0 => code = ended,
                Ok(_) => {}
                Err(error) => {
                    let mut failure = failure(&error);
                    failure.message.push_str(&format!("\nThe log is in {}", log.display()));
                    if failure.exit == Exit::Failed {
                        failure.exit = Exit::Command(125);
                    }
                    return Err(failure);
                }
            }
        }
        Ok(Exit::Command(code))
    }

    /// What goes into the guest, and what is started there.
    fn program(&self) -> Result<(Luggage, Request), Failure> {
        let mut luggage = Luggage::new(std::env::var("LD_LIBRARY_PATH").ok().as_deref());
        let name = self.command.first().cloned().unwrap_or_default();
        let found = find(&name, std::env::var_os("PATH").as_deref());
        let mut command: Vec<String> = self.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        match found {
            Some(program) => {
                let program = std::path::absolute(&program).unwrap_or(program);
                luggage.program(&program).map_err(|e| failure(&e))?;
                command[0] = program.to_string_lossy().into_owned();
            }
            None if Path::new(&name).exists() => luggage.program(Path::new(&name)).map_err(|e| failure(&e))?,
            None if name.to_string_lossy().contains('/') => {
                return Err(Failure::new(Exit::Command(127), format!("{}: no such file", name.display())));
            }
            // Perhaps busybox has it; the guest will tell.
            None => {}
        }
        for path in &self.copy {
            let place = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            luggage.copy(path, &place).map_err(|e| failure(&e))?;
        }
        luggage.complete().map_err(|e| failure(&e))?;
        let passed = std::env::vars().filter(|(name, _)| PASSED.iter().any(|start| name.starts_with(start)));
        let mut environment: BTreeMap<String, String> = passed.collect();
        environment.extend(luggage.library_path().map(|path| ("LD_LIBRARY_PATH".to_owned(), path)));
        for variable in &self.env {
            let (name, value) = variable
                .split_once('=')
                .ok_or_else(|| Failure::new(Exit::Usage, format!("--env {variable}: write it NAME=VALUE")))?;
            environment.insert(name.into(), value.into());
        }
        Ok((luggage, Request { command, environment, directory: String::new(), terminal: None }))
    }
}

struct Job<'a> {
    run: &'a Run,
    lab: &'a Lab,
    luggage: &'a Luggage,
    request: &'a Request,
    scratch: &'a Path,
    log: &'a Path,
}

impl Job<'_> {
    /// One guest from its start to its end; the exit code of its program.
    fn guest(&self, machine: &Machine, guests: usize, stop: &AtomicBool) -> Result<u8, Error> {
        let log = if guests > 1 { self.log.join(&machine.name) } else { self.log.to_path_buf() };
        let limit = Duration::from_secs(self.run.boot_timeout);
        let program = self.run.timeout.map(Duration::from_secs);
        let timing = Timing { boot: limit, bring_up: limit, program, stop };
        let folders = (self.scratch, log.as_path());
        let mut guest =
            self.lab.boot(machine, self.luggage, folders, timing, &mut |what| eprintln!("tierctl: {what}"))?;
        let prefix = if guests > 1 { format!("[{}] ", machine.name) } else { String::new() };
        let input: Box<dyn std::io::Read + Send> =
            if guests > 1 { Box::new(std::io::empty()) } else { Box::new(std::io::stdin()) };
        let ended = guest.run(self.request, input, timing, &mut |stream, bytes| show(&prefix, stream, bytes))?;
        guest.collect(&log.join("out"), limit)?;
        guest.finish(limit)?;
        if let Ended::NotStarted(_, why) = &ended {
            eprintln!("tierctl: {why}");
        }
        Ok(ended.code())
    }
}

/// Passes output on; with several guests, each line says whose it is.
fn show(prefix: &str, stream: Stream, bytes: &[u8]) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock();
    let text: Vec<u8> = if prefix.is_empty() {
        bytes.to_vec()
    } else {
        bytes.split_inclusive(|&b| b == b'\n').flat_map(|line| [prefix.as_bytes(), line].concat()).collect()
    };
    // A reader that went away does not end the guest's program.
    let _ = match stream {
        Stream::Standard => std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush()),
        Stream::Error => std::io::stderr().write_all(&text),
    };
}

fn check_memory(machines: &[Machine]) -> Result<(), Failure> {
    let need: u64 = machines.iter().map(|machine| machine.memory_bytes + RESERVE).sum();
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let have = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map(|kib| kib << 10);
    match have {
        Some(have) if have < need => {
            let why = format!("{} MiB of memory are needed and {} MiB are free", need >> 20, have >> 20);
            Err(Failure::new(Exit::Command(125), why))
        }
        _ => Ok(()),
    }
}

fn default_log(cache: &Cache, topology: &str) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    cache.path("logs").join(format!("{topology}-{now}-{}", std::process::id()))
}
