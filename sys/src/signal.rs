//! Signals between processes and the state of children: what a program that starts another one and stands in for it
//! needs.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use crate::{Errno, Result};

/// Sends `signal` to one process.
///
/// # Errors
/// `ESRCH` if there is none, `EPERM` without the right to signal it, `EINVAL` for a process id or signal that cannot
/// be one.
pub fn kill(pid: u32, signal: i32) -> Result<()> {
    let pid = process_id(pid)?;
    // SAFETY: kill has no memory preconditions; `pid` is positive, so one process is meant.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

fn process_id(pid: u32) -> Result<i32> {
    i32::try_from(pid).ok().filter(|&p| p > 0).ok_or(Errno::EINVAL)
}

/// What became of a child since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildChange {
    /// Nothing.
    None,
    /// A signal stopped it; it can be continued.
    Stopped,
    /// It ended with this code and is reaped.
    Exited(u8),
    /// This signal killed it; it is reaped.
    Killed(i32),
}

/// Looks, without waiting, whether the child `pid` stopped or ended, and reaps it if it ended.
///
/// # Errors
/// `ECHILD` if it is no child of this process, or reaped already.
pub fn child_change(pid: u32) -> Result<ChildChange> {
    let id = libc::id_t::from(process_id(pid)?.unsigned_abs());
    // SAFETY: siginfo_t is plain data for which all-zero bytes are a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG;
    // SAFETY: `info` is a valid place for the answer.
    Errno::result(unsafe { libc::waitid(libc::P_PID, id, &raw mut info, options) })?;
    // SAFETY: waitid filled the fields of a child's state, or left the zeroes that say that nothing changed.
    if unsafe { info.si_pid() } == 0 {
        return Ok(ChildChange::None);
    }
    // SAFETY: as above; the child changed, so the status is filled in.
    let status = unsafe { info.si_status() };
    Ok(match info.si_code {
        // waitid gives the low eight bits of the code already.
        libc::CLD_EXITED => ChildChange::Exited(u8::try_from(status & 0xff).unwrap_or(u8::MAX)),
        libc::CLD_KILLED | libc::CLD_DUMPED => ChildChange::Killed(status),
        _ => ChildChange::Stopped,
    })
}

/// Stops this process (`SIGSTOP`), as job control would. Returns when somebody continues it.
///
/// # Errors
/// As raise(3).
pub fn stop_self() -> Result<()> {
    // SAFETY: raise has no memory preconditions.
    Errno::result(unsafe { libc::raise(libc::SIGSTOP) }).map(drop)
}

/// Ends this process by `signal` with its default action, so that whoever waits for it sees that signal. Returns only
/// if the signal does not end a process.
pub fn end_by(signal: i32) {
    // SAFETY: SIG_DFL is a valid disposition; a signal number that is none makes the call fail, nothing more.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: raise has no memory preconditions.
    unsafe { libc::raise(signal) };
}

/// A signal that arrived at this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Whether a process sent it (kill, sigqueue), rather than the kernel: a terminal's `^C`, `^Z`, window change or
    /// hang-up comes from the kernel and goes to the whole foreground process group, children included.
    pub from_process: bool,
}

/// Write end of the pipe that the handler writes to; -1 while there is none.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Marks signals from a process in the pipe's bytes; signal numbers are below 65.
const FROM_PROCESS: u8 = 0x80;

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the handler is installed with SA_SIGINFO, so `info` points to this signal's description.
    let code = unsafe { (*info).si_code };
    // The kernel's own codes are positive, those of kill, sigqueue and tgkill are not.
    let mark = if code <= 0 { FROM_PROCESS } else { 0 };
    let byte = u8::try_from(signal & 0x7f).unwrap_or(0) | mark;
    // Relaxed: the descriptor was stored before any handler was installed, and is never changed.
    let fd = PIPE.load(Ordering::Relaxed);
    // SAFETY: `byte` is readable for one byte; write is async-signal-safe. A full pipe (64 Ki signals behind) loses it.
    unsafe { libc::write(fd, (&raw const byte).cast(), 1) };
    Errno::set_raw(errno);
}

/// The signals of this process, read as values. One at a time per process; the handlers stay until the process ends.
#[derive(Debug)]
pub struct Signals {
    pipe: File,
}

impl Signals {
    /// Starts to receive `signals`. Those that this process was told to ignore (nohup) stay ignored, except `SIGCHLD`,
    /// which must be received to wait for children.
    ///
    /// Handlers are not inherited by a program that a child executes: it gets the default action, or goes on ignoring.
    ///
    /// # Errors
    /// `EBUSY` if they are being received already; `EMFILE` and the like from pipe(2).
    pub fn receive(signals: &[i32]) -> Result<Self> {
        let mut ends = [-1; 2];
        // SAFETY: `ends` has room for two descriptors.
        Errno::result(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
        // SAFETY: pipe2 has just made this descriptor, nobody else owns it.
        let read = unsafe { OwnedFd::from_raw_fd(ends[0]) };
        // SAFETY: the same for the other end.
        let write = unsafe { OwnedFd::from_raw_fd(ends[1]) };
        // Relaxed: handlers run on threads of this process after sigaction(2), which orders them after this.
        if PIPE.compare_exchange(-1, write.as_raw_fd(), Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return Err(Errno::EBUSY);
        }
        // The write end lives as long as the handlers: to the end of the process.
        let _ = write.into_raw_fd();
        for &signal in signals {
            handle(signal)?;
        }
        Ok(Self { pipe: File::from(read) })
    }

    /// Waits until a signal arrives or `timeout` is over; the signals that arrived are given, oldest first.
    ///
    /// # Errors
    /// As poll(2) and read(2), without `EINTR`.
    pub fn wait(&self, timeout: Duration) -> io::Result<Vec<Received>> {
        if !wait_readable(self.pipe.as_fd(), timeout)? {
            return Ok(Vec::new());
        }
        let mut bytes = [0; 256];
        let count = match (&self.pipe).read(&mut bytes) {
            Ok(count) => count,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(e) => return Err(e),
        };
        let received = |&b: &u8| Received { signal: i32::from(b & !FROM_PROCESS), from_process: b & FROM_PROCESS != 0 };
        Ok(bytes[..count].iter().map(received).collect())
    }
}

fn handle(signal: i32) -> Result<()> {
    // SAFETY: sigaction is plain data for which all-zero bytes are a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `action` is a valid place for the present action.
    Errno::result(unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) })?;
    if action.sa_sigaction == libc::SIG_IGN && signal != libc::SIGCHLD {
        return Ok(());
    }
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: `action` names a handler of the three-argument kind, as its flags say, that is async-signal-safe.
    Errno::result(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// Waits until `fd` can be read or `timeout` is over; says which. A signal handler that runs meanwhile may end the wait
/// early with `false`.
fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `poll` is one valid entry.
    match Errno::result(unsafe { libc::poll(&raw mut poll, 1, milliseconds) }) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Numbers of the signals that a stand-in handles.
pub mod number {
    pub use libc::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH};
}

#[cfg(test)]
mod tests {
    use super::{ChildChange, Received, Signals, child_change, kill, number};
    use crate::{Errno, process};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    /// Starts a child that the functions under test reap.
    fn start(program: &str, arguments: &[&str]) -> u32 {
        Command::new(program).args(arguments).stdin(Stdio::null()).spawn().unwrap().id()
    }

    fn change_within(pid: u32, limit: Duration) -> ChildChange {
        let start = Instant::now();
        loop {
            match child_change(pid).unwrap() {
                ChildChange::None if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(5)),
                change => return change,
            }
        }
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_child_is_stopped_continued_and_killed() {
        let child = start("sleep", &["100"]);
        assert_eq!(child_change(child), Ok(ChildChange::None));
        kill(child, libc::SIGSTOP).unwrap();
        assert_eq!(change_within(child, LONG), ChildChange::Stopped);
        kill(child, number::SIGCONT).unwrap();
        assert!(process::exists(child));
        kill(child, number::SIGTERM).unwrap();
        assert_eq!(change_within(child, LONG), ChildChange::Killed(number::SIGTERM));
        assert_eq!(child_change(child), Err(Errno::ECHILD));
        assert!(!process::exists(child));
    }

    #[test]
    fn exit_codes_arrive() {
        let child = start("sh", &["-c", "exit 77"]);
        assert_eq!(change_within(child, LONG), ChildChange::Exited(77));
    }

    #[test]
    fn ids_that_mean_groups_are_refused() {
        assert_eq!(kill(0, 0), Err(Errno::EINVAL));
        assert_eq!(kill(u32::MAX, 0), Err(Errno::EINVAL));
    }

    #[test]
    fn signals_say_who_sent_them_and_there_is_one_receiver() {
        let signals = Signals::receive(&[libc::SIGUSR2, libc::SIGALRM]).unwrap();
        assert_eq!(Signals::receive(&[]).err(), Some(Errno::EBUSY));
        kill(std::process::id(), libc::SIGUSR2).unwrap();
        assert_eq!(next(&signals), Received { signal: libc::SIGUSR2, from_process: true });
        let timer = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: 0, tv_usec: 1000 },
        };
        // SAFETY: `timer` is a valid description; the old one is not asked for.
        assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) }, 0);
        assert_eq!(next(&signals), Received { signal: libc::SIGALRM, from_process: false });
    }

    fn next(signals: &Signals) -> Received {
        let start = Instant::now();
        while start.elapsed() < LONG {
            if let Some(&first) = signals.wait(Duration::from_millis(50)).unwrap().first() {
                return first;
            }
        }
        panic!("no signal arrived");
    }
}
