//! The way to one program in a guest: to a guest of this process, or to one that it shares with others.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tiermem_sys::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::wire::{Ended, Frame, Kind, PIECE, Request};

/// How often signals and limits are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// Where a program's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Standard,
    /// Standard error.
    Error,
}

/// The direction to the program; clones share it.
#[derive(Clone, Debug)]
pub struct Sender {
    to: Arc<Mutex<UnixStream>>,
    session: u32,
}

/// Both directions.
#[derive(Debug)]
pub struct Channel {
    sender: Sender,
    frames: Receiver<Frame>,
}

/// What came of waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A frame.
    Frame(Frame),
    /// The other side is gone.
    Nothing,
}

impl Sender {
    pub(crate) fn new(to: Arc<Mutex<UnixStream>>, session: u32) -> Self {
        Self { to, session }
    }

    /// Sends a frame about this program.
    ///
    /// # Errors
    /// If the other side is gone.
    pub fn send(&self, kind: Kind, contents: impl Into<Vec<u8>>) -> io::Result<()> {
        let frame = Frame::new(kind, self.session, contents);
        frame.write(&mut *self.to.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Channel {
    pub(crate) fn new(sender: Sender, frames: Receiver<Frame>) -> Self {
        Self { sender, frames }
    }

    /// The direction to the program.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] if `stop` is set; [`ErrorKind::TimedOut`] with `what`, which took too long.
    pub(crate) fn hear(&self, stop: &AtomicBool, limit: Option<Duration>, what: &str) -> Result<Heard> {
        hear(&self.frames, stop, Instant::now(), limit, what)
    }

    /// Runs a program, gives what it writes to `output` and what `input` has to it. `None` if the guest is gone.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] after `limit`, [`ErrorKind::Interrupted`]; what the keeper of a shared guest says.
    pub(crate) fn run(
        &self,
        request: &Request,
        input: Box<dyn Read + Send>,
        (limit, stop): (Option<Duration>, &AtomicBool),
        output: &mut dyn FnMut(Output, &[u8]),
    ) -> Result<Option<Ended>> {
        let request = serde_json::to_vec(request).map_err(|e| Error::new(ErrorKind::Failed, e.to_string()))?;
        if self.sender.send(Kind::Run, request).is_err() {
            return Ok(None);
        }
        let (taken, may_send) = mpsc::channel();
        let to = self.sender();
        std::thread::spawn(move || feed(input, &to, &may_send));
        let start = Instant::now();
        loop {
            let Heard::Frame(frame) = hear(&self.frames, stop, start, limit, "the program")? else { return Ok(None) };
            match frame.kind {
                Kind::Output | Kind::ErrorOutput => {
                    let stream = if frame.kind == Kind::Output { Output::Standard } else { Output::Error };
                    output(stream, &frame.contents);
                    // A guest that is gone is noticed by its silence.
                    let _ = self.sender.send(Kind::OutputTaken, []);
                }
                Kind::InputTaken => drop(taken.send(())),
                Kind::Ended => return frame.value().map(Some),
                Kind::Failed => return Err(frame.value()?),
                _ => {}
            }
        }
    }
}

pub(crate) fn hear(
    frames: &Receiver<Frame>,
    stop: &AtomicBool,
    start: Instant,
    limit: Option<Duration>,
    what: &str,
) -> Result<Heard> {
    loop {
        // Before the frames: a program that never stops talking can be ended all the same. Relaxed: the flag says only that it
        // is set.
        if stop.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        if let Some(limit) = limit.filter(|&limit| start.elapsed() > limit) {
            let why = format!("{what} took more than {} s", limit.as_secs());
            return Err(Error::new(ErrorKind::TimedOut, why));
        }
        match frames.recv_timeout(TICK) {
            Ok(frame) => return Ok(Heard::Frame(frame)),
            Err(RecvTimeoutError::Disconnected) => return Ok(Heard::Nothing),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Sends what a program reads, one piece after the other was taken.
fn feed(mut input: impl Read, to: &Sender, may_send: &Receiver<()>) {
    let mut buffer = vec![0; PIECE];
    loop {
        let count = input.read(&mut buffer).unwrap_or(0);
        let sent = to.send(Kind::Input, &buffer[..count]);
        if sent.is_err() || count == 0 || may_send.recv().is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Channel, Heard, Output, Sender};
    use crate::ErrorKind;
    use crate::wire::{Ended, Frame, Kind, Request};
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, Mutex, mpsc};
    use std::time::Duration;
    use tiermem_sys::sync::atomic::AtomicBool;

    fn channel() -> (Channel, mpsc::Sender<Frame>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, frames) = mpsc::channel();
        (Channel::new(Sender::new(Arc::new(Mutex::new(ours)), 1), frames), sender, theirs)
    }

    #[test]
    fn a_program_is_started_fed_and_heard() {
        let (channel, answers, mut theirs) = channel();
        let guest = std::thread::spawn(move || {
            let request = Frame::read(&mut theirs).unwrap().unwrap();
            assert_eq!(request.value::<Request>().unwrap().command, ["cat"]);
            let mut text = Vec::new();
            while let Some(frame) = Frame::read(&mut theirs).unwrap().filter(|frame| !frame.contents.is_empty()) {
                text.extend(frame.contents);
                answers.send(Frame::new(Kind::InputTaken, 1, [])).unwrap();
            }
            answers.send(Frame::new(Kind::Output, 1, text)).unwrap();
            let taken = Frame::read(&mut theirs).unwrap();
            assert_eq!(taken, Some(Frame::new(Kind::OutputTaken, 1, [])), "the next piece may come");
            answers.send(Frame::of(Kind::Ended, 1, &Ended::Exited(3))).unwrap();
        });
        let request = Request { command: vec!["cat".into()], ..Request::default() };
        let (mut said, stop) = (Vec::new(), AtomicBool::new(false));
        let mut output = |to, bytes: &[u8]| said.push((to, bytes.to_vec()));
        let ended = channel.run(&request, Box::new(&b"text"[..]), (None, &stop), &mut output).unwrap();
        assert_eq!(ended, Some(Ended::Exited(3)));
        assert_eq!(said, [(Output::Standard, b"text".to_vec())]);
        guest.join().unwrap();
    }

    #[test]
    fn silence_ends_by_limit_signal_or_death() {
        let (channel, answers, _theirs) = channel();
        let wait = |stop| channel.hear(&AtomicBool::new(stop), Some(Duration::from_millis(1)), "booting");
        let error = wait(false).unwrap_err();
        assert!(error.kind() == ErrorKind::TimedOut && error.to_string().contains("booting"), "{error}");
        assert_eq!(wait(true).unwrap_err().kind(), ErrorKind::Interrupted);
        drop(answers);
        assert_eq!(wait(false).unwrap(), Heard::Nothing);
    }
}
