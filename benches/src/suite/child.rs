//! One measured child process: CPU, wall time, peak memory, and how it ended, under a time limit.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

const P_PID: i32 = 1;
const WEXITED: i32 = 4;
const WNOWAIT: i32 = 0x0100_0000;
const SIGKILL: i32 = 9;
/// The last bytes of standard error that a failure quotes.
const STDERR_QUOTED: usize = 300;

/// `struct rusage` of Linux on 64-bit machines: two times, then fourteen counters.
#[repr(C)]
#[derive(Default)]
struct Rusage {
    user: [i64; 2],
    system: [i64; 2],
    rss_max_kib: i64,
    rest: [i64; 13],
}

unsafe extern "C" {
    fn wait4(pid: i32, status: *mut i32, options: i32, usage: *mut Rusage) -> i32;
    fn waitid(kind: i32, id: u32, info: *mut c_void, options: i32) -> i32;
    fn kill(pid: i32, signal: i32) -> i32;
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Exit status 0.
    Finished,
    /// Another exit status.
    Exited(i32),
    /// Ended by a signal: 6 is an abort, 11 a segmentation fault.
    Signalled(i32),
    /// Killed at the time limit.
    TimedOut,
    /// Finished, but with another output than the other allocators gave.
    WrongOutput,
}

/// What one run cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// How it ended; figures of a run that did not finish are not used.
    pub outcome: Outcome,
    /// User CPU time, seconds, with children that it waited for.
    pub user_s: f64,
    /// System CPU time, seconds.
    pub system_s: f64,
    /// Wall-clock time, seconds.
    pub wall_s: f64,
    /// Peak resident memory, bytes, of the largest process.
    pub rss_max_bytes: u64,
    /// End of standard error, when it did not finish.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub stderr: String,
}

impl Measured {
    /// User and system CPU time, seconds.
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

/// A child that runs, in its own process group, with a watchdog.
pub struct Running {
    child: Child,
    started: Instant,
    done: Sender<()>,
    watchdog: JoinHandle<bool>,
    stderr: PathBuf,
}

impl Running {
    /// Starts `command` with standard output and error in files of `scratch`, to be killed after `limit`.
    pub fn start(command: &mut Command, scratch: &Path, limit: Duration) -> io::Result<Self> {
        let stderr = scratch.join("stderr");
        command.stdin(Stdio::null()).stdout(File::create(stdout_path(scratch))?).stderr(File::create(&stderr)?);
        let started = Instant::now();
        let child = command.process_group(0).spawn()?;
        let group = child.id() as i32;
        let (done, wait_done) = channel();
        let watchdog = thread::spawn(move || {
            let timed_out = wait_done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if timed_out {
                // SAFETY: kill has no memory effects; the group's leader is not reaped before this thread has ended.
                unsafe { kill(-group, SIGKILL) };
            }
            timed_out
        });
        Ok(Self { child, started, done, watchdog, stderr })
    }

    /// Process id, which is also the id of its group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end and measures.
    pub fn wait(self) -> io::Result<Measured> {
        let pid = self.child.id();
        // siginfo_t has 128 bytes; its contents are not needed.
        let mut info = [0u64; 16];
        // SAFETY: `info` is large and aligned enough for a siginfo_t. WNOWAIT leaves the child to be reaped below, so
        // that the watchdog can never signal a process id that is already someone else's.
        if unsafe { waitid(P_PID, pid, info.as_mut_ptr().cast(), WEXITED | WNOWAIT) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let wall_s = self.started.elapsed().as_secs_f64();
        // The receiver is gone if the watchdog has fired already.
        self.done.send(()).ok();
        let timed_out = self.watchdog.join().expect("the watchdog does not panic");
        let (mut status, mut usage) = (0, Rusage::default());
        // SAFETY: both pointers are to live locals of the layout that the kernel fills.
        if unsafe { wait4(pid as i32, &raw mut status, 0, &raw mut usage) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let outcome = outcome(status, timed_out);
        let seconds = |time: [i64; 2]| time[0] as f64 + time[1] as f64 * 1e-6;
        Ok(Measured {
            stderr: if outcome == Outcome::Finished { String::new() } else { tail(&self.stderr) },
            outcome,
            user_s: seconds(usage.user),
            system_s: seconds(usage.system),
            wall_s,
            rss_max_bytes: (usage.rss_max_kib as u64) << 10,
        })
    }
}

/// Where [`Running::start`] puts the child's standard output.
pub fn stdout_path(scratch: &Path) -> PathBuf {
    scratch.join("stdout")
}

/// Starts, waits and measures.
pub fn run(command: &mut Command, scratch: &Path, limit: Duration) -> io::Result<Measured> {
    Running::start(command, scratch, limit)?.wait()
}

fn outcome(status: i32, timed_out: bool) -> Outcome {
    let signal = status & 0x7f;
    match (timed_out, signal, (status >> 8) & 0xff) {
        (true, 1.., _) => Outcome::TimedOut,
        (_, 1.., _) => Outcome::Signalled(signal),
        (_, _, 0) => Outcome::Finished,
        (_, _, code) => Outcome::Exited(code),
    }
}

fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(STDERR_QUOTED)..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Measured {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        run(Command::new("/bin/sh").args(["-c", script]), scratch.path(), limit).expect("sh starts")
    }

    #[test]
    fn every_ending_is_told_apart() {
        let long = Duration::from_secs(60);
        assert_eq!(shell("exit 0", long).outcome, Outcome::Finished);
        let failed = shell("echo why >&2; exit 3", long);
        assert_eq!((failed.outcome, failed.stderr.as_str()), (Outcome::Exited(3), "why"));
        assert_eq!(shell("kill -SEGV $$", long).outcome, Outcome::Signalled(11));
        assert_eq!(shell("sleep 600", Duration::from_millis(50)).outcome, Outcome::TimedOut);
    }

    #[test]
    fn cpu_time_of_a_busy_child_is_counted() {
        let busy = shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", Duration::from_secs(60));
        assert!(busy.cpu_s() > 0.02, "{busy:?}");
        assert!(busy.rss_max_bytes > 100_000);
    }
}
