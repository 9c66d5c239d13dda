//! The terminal that a program talks through: its settings and its size.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::Errno;
use crate::Result;

/// How a terminal is set.
#[derive(Clone, Debug)]
pub struct Settings(nix::sys::termios::Termios);

impl Settings {
    /// The settings of the terminal `fd`.
    ///
    /// # Errors
    /// `ENOTTY` if it is none.
    pub fn of(fd: impl AsFd) -> Result<Self> {
        nix::sys::termios::tcgetattr(fd).map(Self)
    }

    /// The same with nothing interpreted: every key arrives as it is, `^C` included, and nothing is echoed.
    #[must_use]
    pub fn raw(&self) -> Self {
        let mut raw = self.0.clone();
        nix::sys::termios::cfmakeraw(&mut raw);
        Self(raw)
    }

    /// Sets the terminal `fd` like this, after what was written has been shown.
    ///
    /// # Errors
    /// `ENOTTY` if it is no terminal; `EIO` if it is not this process's own any more.
    pub fn apply(&self, fd: impl AsFd) -> Result<()> {
        nix::sys::termios::tcsetattr(fd, nix::sys::termios::SetArg::TCSADRAIN, &self.0)
    }
}

/// Rows and columns of the terminal `fd`; `None` if it is none or does not know.
pub fn size(fd: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a valid place for the answer.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Tells the terminal `fd` its rows and columns; who runs on it hears of a change (`SIGWINCH`).
///
/// # Errors
/// `ENOTTY` if it is no terminal.
pub fn set_size(fd: BorrowedFd<'_>, (rows, columns): (u16, u16)) -> Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is read during the call only.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// A terminal without a screen (pty(7)).
#[derive(Debug)]
pub struct Pair {
    /// The end of whoever plays the screen and the keyboard.
    pub screen: OwnedFd,
    /// The end of the programs.
    pub programs: OwnedFd,
}

impl Pair {
    /// Makes one with so many rows and columns. Neither end is inherited by programs that are started.
    ///
    /// # Errors
    /// `ENOSPC` if there are too many; `EMFILE` and the like.
    pub fn open(size: (u16, u16)) -> Result<Self> {
        let ends = nix::pty::openpty(None, None)?;
        for end in [&ends.master, &ends.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        set_size(ends.master.as_fd(), size)?;
        Ok(Self { screen: ends.master, programs: ends.slave })
    }
}

#[cfg(test)]
mod tests {
    use super::{Pair, Settings, set_size, size};
    use crate::Errno;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_pair_carries_what_is_typed_and_its_size() {
        let pair = Pair::open((10, 40)).unwrap();
        assert_eq!(size(pair.programs.as_fd()), Some((10, 40)));
        set_size(pair.screen.as_fd(), (20, 80)).unwrap();
        assert_eq!(size(pair.programs.as_fd()), Some((20, 80)));
        Settings::of(&pair.programs).unwrap().raw().apply(&pair.programs).unwrap();
        let (mut screen, mut programs) = (File::from(pair.screen), File::from(pair.programs));
        // A cooked terminal would end the line at ^D and give nothing of ^C.
        screen.write_all(b"a\x03\x04").unwrap();
        let mut typed = [0; 3];
        programs.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"a\x03\x04");
    }

    #[test]
    fn what_is_no_terminal_is_said_to_be_none() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Settings::of(&file).err(), Some(Errno::ENOTTY));
        assert_eq!(size(file.as_fd()), None);
    }
}
