//! Programs that must not outlive the one that started them.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::{Errno, Result};

/// Makes `command` start its program in a process group of its own that the kernel kills (`SIGKILL`) when the *thread*
/// that started it ends, however it ends: start it from a thread that lives as long as the program is wanted.
///
/// Only the program itself is killed, not what it starts in turn.
pub fn dies_with_its_starter(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    let prepare = move || {
        // SAFETY: prctl with PR_SET_PDEATHSIG reads no memory.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map_err(io::Error::from)?;
        // The parent may have died before the line above; then nobody would tell us.
        // SAFETY: getppid has no preconditions.
        if u32::try_from(unsafe { libc::getppid() }) == Ok(parent) {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    };
    command.process_group(0);
    // SAFETY: between fork and exec, `prepare` calls prctl and getppid only, and makes errors that own no memory.
    unsafe { command.pre_exec(prepare) }
}

/// Makes `command` start its program in a session of its own: no terminal, and no signal from one.
pub fn in_its_own_session(command: &mut Command) -> &mut Command {
    let prepare = || {
        // SAFETY: setsid has no preconditions.
        Errno::result(unsafe { libc::setsid() }).map(drop).map_err(io::Error::from)
    };
    // SAFETY: between fork and exec, `prepare` calls setsid only.
    unsafe { command.pre_exec(prepare) }
}

/// As [`in_its_own_session`], and the program inherits nothing but its standard streams, whatever this process was started
/// with: nobody waits for the end of a pipe that it holds by accident.
pub fn detached(command: &mut Command) -> &mut Command {
    let prepare = || {
        // SAFETY: close_range reads no memory, and with CLOEXEC closes nothing before the program is executed.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        Errno::result(closed).map(drop).map_err(io::Error::from)
    };
    in_its_own_session(command);
    // SAFETY: between fork and exec, `prepare` makes one system call and errors that own no memory.
    unsafe { command.pre_exec(prepare) }
}

/// As [`in_its_own_session`], with the program's standard input, which must be a terminal, as the terminal that its keys
/// send signals from.
pub fn on_its_own_terminal(command: &mut Command) -> &mut Command {
    let prepare = || {
        // SAFETY: TIOCSCTTY reads no memory.
        Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }).map(drop).map_err(io::Error::from)
    };
    in_its_own_session(command);
    // SAFETY: between fork and exec, `prepare` makes one system call and errors that own no memory.
    unsafe { command.pre_exec(prepare) }
}

/// Sends `signal` to every process of the group that `leader` leads.
///
/// # Errors
/// `ESRCH` if there is none, `EINVAL` for a number that cannot be a group's.
pub fn signal_group(leader: u32, signal: i32) -> Result<()> {
    // Group 1 would become -1, which means everybody.
    let leader = i32::try_from(leader).ok().filter(|&id| id > 1).ok_or(Errno::EINVAL)?;
    // SAFETY: kill reads no memory of ours; `-leader` is below -1, so one group is meant.
    Errno::result(unsafe { libc::kill(-leader, signal) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{detached, dies_with_its_starter, on_its_own_terminal, signal_group};
    use crate::terminal::Pair;
    use crate::{Errno, process};
    use std::io::{Read, Write};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::process::Command;
    use std::time::{Duration, Instant};

    fn gone_within(pid: u32, limit: Duration) -> bool {
        let start = Instant::now();
        while process::exists(pid) {
            if start.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// The thread that starts the program ends, and takes the program with it.
    #[test]
    fn a_program_ends_with_the_thread_that_started_it() {
        let mut child = std::thread::spawn(|| {
            let child = dies_with_its_starter(Command::new("sleep").arg("1000")).spawn().unwrap();
            assert!(process::exists(child.id()));
            child
        })
        .join()
        .unwrap();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_group_is_signalled_as_a_whole() {
        let script = "sleep 1000 & echo $!; wait";
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(std::process::Stdio::piped());
        let mut shell = dies_with_its_starter(&mut command).spawn().unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(shell.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let sleeper: u32 = line.trim().parse().unwrap();
        signal_group(shell.id(), libc::SIGKILL).unwrap();
        shell.wait().unwrap();
        // Its parent is dead; whoever adopts orphans here reaps it, or it stays a zombie, which counts as gone.
        let zombie = || std::fs::read_to_string(format!("/proc/{sleeper}/stat")).is_ok_and(|s| s.contains(") Z "));
        assert!(zombie() || gone_within(sleeper, Duration::from_secs(20)) || zombie());
    }

    /// A pipe that could be inherited is not: its end is seen while the program still runs.
    #[test]
    fn a_detached_program_holds_no_pipe() {
        let (mut from, to) = std::io::pipe().unwrap();
        // SAFETY: dup gives a descriptor that is ours, and without close-on-exec: what a careless parent leaves behind.
        let careless = unsafe { OwnedFd::from_raw_fd(libc::dup(to.as_raw_fd())) };
        let mut child = detached(Command::new("sleep").arg("1000")).spawn().unwrap();
        drop((to, careless));
        assert_eq!(from.read(&mut [0]).unwrap(), 0);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// `^C` on the screen ends the program.
    #[test]
    fn keys_of_its_terminal_reach_the_program() {
        let pair = Pair::open((24, 80)).unwrap();
        let end = || pair.programs.try_clone().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; exec sleep 1000"]).stdin(end()).stdout(end()).stderr(end());
        let mut child = on_its_own_terminal(&mut command).spawn().unwrap();
        let mut screen = std::fs::File::from(pair.screen);
        let mut seen = Vec::new();
        while !seen.ends_with(b"ready\r\n") {
            let mut byte = [0];
            screen.read_exact(&mut byte).unwrap();
            seen.extend(byte);
        }
        screen.write_all(b"\x03").unwrap();
        let ended = std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap());
        assert_eq!(ended, Some(libc::SIGINT));
    }

    #[test]
    fn no_group_means_everybody() {
        assert_eq!(signal_group(1, 0), Err(Errno::EINVAL));
        assert_eq!(signal_group(0, 0), Err(Errno::EINVAL));
    }
}
