//! What programs in the guest can ask of the host, through the agent.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use super::{SOCKET, is_here};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::wire::Deed;

/// Asks the host to do something to the guest's hardware, and waits until it is done.
///
/// # Errors
/// [`ErrorKind::Unsupported`] outside of a guest of the lab; [`ErrorKind::Failed`] with QEMU's reason.
pub fn ask(deed: &Deed) -> Result<()> {
    if !is_here() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this is for use inside a guest of the lab (`tierctl qemu run`)",
        ));
    }
    let mut stream = UnixStream::connect(SOCKET).context(SOCKET)?;
    let mut line = serde_json::to_string(deed).map_err(|e| Error::new(ErrorKind::Failed, e.to_string()))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).context(SOCKET)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context(SOCKET)?;
    match answer.trim_end() {
        "" => Ok(()),
        why => Err(Error::new(ErrorKind::Failed, why)),
    }
}
