//! Beginning, end and fork.

use std::ffi::{c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tiermem_emulator::instrumented::report::{ModuleReport, Process};
use tiermem_emulator::instrumented::{Config, config};
use tiermem_sys::process;
use tiermem_sys::sync::Lock;

use crate::engine::{self, ENGINE, Running};
use crate::real::Real;
use crate::signals;
use crate::state::{self, Quiet};
use crate::{helper, own, queue};

/// Runs when the loader has loaded this library, before the program's own initialisers.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

/// Runs at exit, after the program's own finalisers.
#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = end;

extern "C" fn begin() {
    let _quiet = Quiet::new();
    if let Some(path) = process::early_variable(config::VARIABLE.as_bytes()) {
        let started = Config::read(Path::new(std::ffi::OsStr::from_bytes(path)))
            .and_then(|config| config.engine().map(|(engine, tiers)| (config, engine, tiers)));
        match started {
            Ok((config, engine, tiers)) => {
                let running = Running::new(config, engine, tiers);
                if let Err(error) = announce(&running.config).and_then(|()| engine::start(running, &command())) {
                    refuse(&error.to_string());
                }
            }
            Err(error) => refuse(&error.to_string()),
        }
        if tiermem_sys::thread::at_fork(before_fork, after_fork, in_child).is_err() {
            refuse("no memory to prepare for fork");
        }
        signals::report_fatal();
    } else {
        engine::stay_idle();
        state::silence_checks();
    }
    engine::begin_thread();
}

/// A program that was to be measured does not run unmeasured.
fn refuse(why: &str) -> ! {
    process::say(b"libtiermem_instrument: ");
    process::say(why.as_bytes());
    process::say(b"\n");
    process::exit_now(125);
}

/// The file of this process's report, and that which tells of it until then.
fn files(config: &Config) -> (PathBuf, PathBuf) {
    let name = format!("{}-{:016x}", process::id(), process::image());
    (config.reports.join(format!("{name}.json")), config.reports.join(format!("{name}.begun")))
}

/// Leaves a note that a report is to come, so that one that does not is missed.
fn announce(config: &Config) -> std::io::Result<()> {
    let text = command().join(" ");
    std::fs::write(files(config).1, text)
}

fn command() -> Vec<String> {
    let text = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let words = text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut words: Vec<String> = words.collect();
    words.pop();
    words
}

/// Files that code is mapped from now.
pub fn modules() -> Vec<ModuleReport> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(module).collect()
}

/// Files that code was mapped from until a library was closed; those that are still there, too.
static BEFORE: Lock<Vec<ModuleReport>> = Lock::new(Vec::new());

/// Files that code is mapped from, and then those that it was mapped from, with addresses that sites may have.
fn modules_until_now() -> Vec<ModuleReport> {
    let mut all = modules();
    for module in BEFORE.lock().iter() {
        if !all.contains(module) {
            all.push(module.clone());
        }
    }
    all
}

static CLOSE: Real<unsafe extern "C" fn(*mut c_void) -> c_int> = Real::new(c"dlclose");

/// # Safety
/// As dlclose(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn dlclose(library: *mut c_void) -> c_int {
    if engine::is_on() && !state::is_quiet() && !state::is_captive() {
        let _quiet = Quiet::new();
        let all = modules_until_now();
        *BEFORE.lock() = all;
    }
    // SAFETY: passed on to the caller.
    unsafe { CLOSE.get()(library) }
}

/// A line of proc_pid_maps(5), if it is code from a file.
fn module(line: &str) -> Option<ModuleReport> {
    let mut fields = line.splitn(6, ' ').map(str::trim);
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()?.contains('x');
    let offset = fields.next()?;
    let path = fields.nth(2)?.trim();
    let hex = |text| u64::from_str_radix(text, 16).ok();
    (is_code && path.starts_with('/')).then_some(())?;
    Some(ModuleReport { start: hex(start)?, end: hex(end)?, file_offset: hex(offset)?, path: path.to_owned() })
}

/// Writes the report, once more if there is one already.
pub fn write_report(ended: &str) {
    let _quiet = Quiet::new();
    let about = Process {
        command: command(),
        pid: process::id(),
        ended: ended.to_owned(),
        lost: 0,
        modules: modules_until_now(),
    };
    let Some((report, config)) = engine::report(about) else { return };
    let (file, note) = files(&config);
    let written = serde_json::to_vec(&report).map_err(std::io::Error::other).and_then(|text| {
        std::fs::write(&note, text)?;
        std::fs::rename(&note, &file)
    });
    if let Err(error) = written {
        process::say(format!("libtiermem_instrument: {}: {error}\n", file.display()).as_bytes());
    }
}

extern "C" fn end() {
    write_report("exit");
}

extern "C" fn before_fork() {
    if state::position() != 0 {
        engine::with(|_, _| ());
    }
    ENGINE.acquire();
    BEFORE.acquire();
    queue::before_fork();
    own::before_fork();
}

extern "C" fn after_fork() {
    // SAFETY: taken in `before_fork`, all of them.
    unsafe { own::after_fork() };
    // SAFETY: as above.
    unsafe { queue::after_fork() };
    // SAFETY: as above.
    unsafe { BEFORE.release() };
    // SAFETY: as above.
    unsafe { ENGINE.release() };
}

extern "C" fn in_child() {
    let _quiet = Quiet::new();
    // SAFETY: taken in `before_fork`, by the thread that this one was copied from; all of them.
    unsafe { own::after_fork() };
    // SAFETY: as above.
    unsafe { queue::after_fork() };
    helper::forked();
    signals::forked();
    {
        let mut running = ENGINE.lock();
        engine::forked(&mut running);
        if let Some(running) = running.as_mut()
            && let Err(error) = announce(&running.config).and_then(|()| running.record(&command()))
        {
            refuse(&error.to_string());
        }
    }
    // SAFETY: as above.
    unsafe { BEFORE.release() };
    // SAFETY: as above.
    unsafe { ENGINE.release() };
}

static EXIT: Real<unsafe extern "C" fn(c_int) -> !> = Real::new(c"_exit");

/// # Safety
/// As _exit(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn _exit(status: c_int) -> ! {
    write_report("_exit");
    // SAFETY: passed on to the caller.
    unsafe { EXIT.get()(status) }
}

/// # Safety
/// As _exit(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn _Exit(status: c_int) -> ! {
    // SAFETY: passed on to the caller.
    unsafe { _exit(status) }
}
