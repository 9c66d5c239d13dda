//! Standing in for a child process: signals go on to it, its stops are ours, its end is ours.

use std::process::Command;
use std::time::Duration;

use tiermem_sys::Errno;
use tiermem_sys::signal::number::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use tiermem_sys::signal::{ChildChange, Received, Signals, child_change, kill, stop_self};

use super::program::{CANNOT_EXECUTE, NOT_FOUND};
use crate::exit::{Exit, Failure};

/// Signals that are passed on.
const FORWARDED: [i32; 9] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT];

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Exited(u8),
    /// By this signal.
    Killed(i32),
}

impl Ending {
    /// The exit code that tells a caller: the program's own, or 128 + the signal's number.
    pub fn exit(self) -> Exit {
        Exit::Command(match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        })
    }
}

/// Receives this process's signals for a child that is about to be started. Make it before anything that must be
/// cleaned up after: from here on no forwarded signal ends this process.
#[derive(Debug)]
pub struct StandIn {
    signals: Signals,
}

impl StandIn {
    /// Starts to receive signals.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub fn prepare() -> Result<Self, Failure> {
        let all: Vec<i32> = FORWARDED.into_iter().chain([SIGCHLD]).collect();
        let signals = Signals::receive(&all)
            .map_err(|e| Failure::new(Exit::Command(125), format!("cannot receive signals: {e}")))?;
        Ok(Self { signals })
    }

    /// Starts `command` in this process's own process group and waits for its end. Meanwhile calls `tick`, which says
    /// how long to wait until its next call.
    ///
    /// # Errors
    /// 126 or 127 if it cannot be started.
    pub fn run(self, command: &mut Command, mut tick: impl FnMut() -> Duration) -> Result<Ending, Failure> {
        let child = command.spawn().map_err(|e| spawn_failure(command, &e))?.id();
        loop {
            let received = self.signals.wait(tick()).map_err(|e| Failure::from_io("cannot wait for signals", &e))?;
            for signal in received.into_iter().filter(|&r| is_for_child(r)) {
                pass_on(child, signal.signal);
            }
            loop {
                match child_change(child) {
                    Ok(ChildChange::None) => break,
                    Ok(ChildChange::Exited(code)) => return Ok(Ending::Exited(code)),
                    Ok(ChildChange::Killed(signal)) => return Ok(Ending::Killed(signal)),
                    // The shell that waits for us must see the stop; when it continues us, the child goes on as well.
                    Ok(ChildChange::Stopped) if stop_self().is_ok() => pass_on(child, SIGCONT),
                    Ok(ChildChange::Stopped) => {}
                    Err(e) => {
                        return Err(Failure::new(Exit::Command(125), format!("cannot wait for the program: {e}")));
                    }
                }
            }
        }
    }
}

/// What a terminal sends reaches the child without us, because it is in the same process group; sent twice, it would
/// count twice.
const fn is_for_child(received: Received) -> bool {
    received.from_process && received.signal != SIGCHLD
}

fn pass_on(child: u32, signal: i32) {
    match kill(child, signal) {
        // It may have ended (we have not reaped it, so the id cannot be another's).
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(e) => eprintln!("tierctl: cannot pass signal {signal} on to the program: {e}"),
    }
}

fn spawn_failure(command: &Command, error: &std::io::Error) -> Failure {
    let program = command.get_program().display();
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(NOT_FOUND, format!("{program}: {error} (or the interpreter in its first line is missing)"))
        }
        _ => Failure::new(CANNOT_EXECUTE, format!("{program}: {error}")),
    }
}
