//! The terminal that a program talks through: its settings and its size.

use std::os::fd::{AsFd, BorrowedFd};

use crate::Errno;
use crate::Result;
use std::os::fd::AsRawFd;

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

#[cfg(test)]
mod tests {
    use super::{Settings, size};
    use crate::Errno;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_no_terminal_is_said_to_be_none() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Settings::of(&file).err(), Some(Errno::ENOTTY));
        assert_eq!(size(file.as_fd()), None);
    }
}
