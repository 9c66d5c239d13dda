//! Children: made, ended and waited for. Nothing here allocates.

use crate::{Errno, Result};

/// Forks; `None` in the child.
///
/// # Errors
/// As fork(2).
///
/// # Safety
/// If the process has other threads, the child may only do what does not need them or the locks that they held.
pub unsafe fn fork() -> Result<Option<u32>> {
    // SAFETY: passed on to the caller.
    let pid = Errno::result(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid.unsigned_abs()))
}

/// Ends the process at once: no destructors, no exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// As [`exit_now`], by the kernel's own call: for whoever stands in for the C library's `_exit`.
pub fn exit_by_kernel(code: i32) -> ! {
    loop {
        // SAFETY: exit_group has no preconditions, and does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, code) };
    }
}

/// Kills a process with SIGKILL.
///
/// # Errors
/// As kill(2).
pub fn kill_now(pid: u32) -> Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?;
    // SAFETY: kill reads no memory of ours.
    Errno::result(unsafe { libc::kill(pid, libc::SIGKILL) }).map(drop)
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Waits for a child to end.
///
/// # Errors
/// As waitpid(2).
pub fn wait(pid: u32) -> Result<Ended> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ECHILD)?;
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for the answer.
        match Errno::result(unsafe { libc::waitpid(pid, &raw mut status, 0) }) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) if libc::WIFSIGNALED(status) => return Ok(Ended::Killed(libc::WTERMSIG(status))),
            Ok(_) => return Ok(Ended::Exited(libc::WEXITSTATUS(status))),
        }
    }
}
