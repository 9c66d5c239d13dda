//! QEMU's own control channel (QMP): what happens to the machine from outside.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::wire::Deed;

/// How long QEMU gets for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The channel. Everything that QEMU says goes to the log.
#[derive(Debug)]
pub struct Qmp {
    channel: Mutex<Channel>,
}

#[derive(Debug)]
struct Channel {
    to: UnixStream,
    answers: Receiver<Value>,
}

impl Qmp {
    /// Greets QEMU.
    ///
    /// # Errors
    /// [`ErrorKind::Failed`] if it does not answer as QEMU does.
    pub fn connect(stream: UnixStream, mut log: File) -> Result<Self> {
        let lines = BufReader::new(stream.try_clone().context("QEMU's control channel")?).lines();
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(std::result::Result::ok) {
                let _ = writeln!(log, "{line}");
                let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
                // The greeting says nothing that is needed; events are for the log.
                if (value.get("return").is_some() || value.get("error").is_some()) && sender.send(value).is_err() {
                    break;
                }
            }
        });
        let qmp = Self { channel: Mutex::new(Channel { to: stream, answers }) };
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Executes a command.
    ///
    /// # Errors
    /// [`ErrorKind::Failed`] with QEMU's own words.
    pub fn execute(&self, command: &str, arguments: &Value) -> Result<Value> {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let line = json!({ "execute": command, "arguments": arguments });
        writeln!(channel.to, "{line}").context("QEMU's control channel")?;
        let answer = channel.answers.recv_timeout(PATIENCE);
        let answer = answer.map_err(|_| Error::new(ErrorKind::Failed, format!("QEMU does not answer to {command}")))?;
        match answer.get("error") {
            Some(error) => {
                let why = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
                Err(Error::new(ErrorKind::Failed, format!("QEMU refuses {command}: {why}")))
            }
            None => Ok(answer.get("return").cloned().unwrap_or_default()),
        }
    }

    /// Does to the machine what a program in it asked for; `id` gives QEMU's name of a device.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for a device that the machine does not have; QEMU's reason.
    pub fn perform(&self, deed: &Deed, id: impl Fn(&str) -> Option<String>) -> Result<()> {
        let named = |device: &str| {
            id(device).ok_or_else(|| Error::new(ErrorKind::BadInput, format!("this machine has no device `{device}`")))
        };
        let path = |device: &str| Ok::<_, Error>(format!("/machine/peripheral/{}", named(device)?));
        match deed {
            Deed::Poison { device, offset, length } => {
                let arguments = json!({ "path": path(device)?, "start": offset, "length": length });
                self.execute("cxl-inject-poison", &arguments)
            }
            Deed::MediaEvent { device, offset } => self.execute(
                "cxl-inject-general-media-event",
                &json!({
                    "path": path(device)?, "log": "fatal", "flags": 1, "dpa": offset,
                    "descriptor": 3, "type": 0, "sub-type": 0, "transaction-type": 2,
                }),
            ),
            Deed::Remove { device } => self.execute("device_del", &json!({ "id": named(device)? })),
        }
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::Qmp;
    use crate::ErrorKind;
    use crate::wire::Deed;
    use serde_json::json;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;

    /// A QEMU that refuses everything but the greeting, and reports an event first.
    fn double(stream: UnixStream) {
        let mut to = stream.try_clone().unwrap();
        writeln!(to, "{}", json!({ "QMP": { "version": {} } })).unwrap();
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            writeln!(to, "{}", json!({ "event": "SOMETHING" })).unwrap();
            let answer = if line.contains("qmp_capabilities") {
                json!({ "return": {} })
            } else {
                json!({ "error": { "desc": format!("not this: {line}") } })
            };
            writeln!(to, "{answer}").unwrap();
        }
    }

    #[test]
    fn refusals_carry_qemus_words_and_all_is_logged() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(|| double(theirs));
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("qmp");
        let qmp = Qmp::connect(ours, std::fs::File::create(&log).unwrap()).unwrap();
        let deed = Deed::Poison { device: "cxl0".into(), offset: 64, length: 64 };
        let error = qmp.perform(&deed, |_| Some("memory0".into())).unwrap_err().to_string();
        assert!(error.contains("not this") && error.contains("/machine/peripheral/memory0"), "{error}");
        assert_eq!(qmp.perform(&deed, |_| None).unwrap_err().kind(), ErrorKind::BadInput);
        assert!(std::fs::read_to_string(log).unwrap().contains("SOMETHING"));
    }
}
