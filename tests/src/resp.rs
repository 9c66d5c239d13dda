//! A small client for redis, over its socket file: enough to load a server and to ask everything back.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, an error (with its leading `-`) or a number, as text.
    Line(String),
    /// A value.
    Bulk(Vec<u8>),
    /// No value.
    Nil,
    /// Several.
    Array(Vec<Reply>),
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    commands: Vec<u8>,
    pending: usize,
}

impl Client {
    /// Connects to the server at this socket.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self { stream: BufReader::new(stream), commands: Vec::new(), pending: 0 })
    }

    /// Queues a command; [`flush`](Self::flush) sends all that are queued.
    pub fn queue(&mut self, words: &[&[u8]]) {
        // Writing to a vector cannot fail.
        let _ = write!(self.commands, "*{}\r\n", words.len());
        for word in words {
            let _ = write!(self.commands, "${}\r\n", word.len());
            self.commands.extend_from_slice(word);
            self.commands.extend_from_slice(b"\r\n");
        }
        self.pending += 1;
    }

    /// Sends what is queued and returns the answers, in order.
    ///
    /// # Errors
    /// The server hung up or talks nonsense.
    pub fn flush(&mut self) -> std::io::Result<Vec<Reply>> {
        self.stream.get_mut().write_all(&self.commands)?;
        self.commands.clear();
        (0..std::mem::take(&mut self.pending)).map(|_| self.reply()).collect()
    }

    /// One command and its answer; panics where the server is gone or complains.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> Reply {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.queue(&words);
        let reply = self.flush().unwrap_or_else(|error| panic!("{command}: {error}")).remove(0);
        assert!(!matches!(&reply, Reply::Line(text) if text.starts_with('-')), "{command}: {reply:?}");
        reply
    }

    /// As [`ask`](Self::ask), for an answer that is text.
    #[track_caller]
    pub fn ask_text(&mut self, command: &str) -> String {
        match self.ask(command) {
            Reply::Line(text) => text,
            Reply::Bulk(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => panic!("{command}: {other:?}"),
        }
    }

    fn reply(&mut self) -> std::io::Result<Reply> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.trim_end();
        let nonsense = || std::io::Error::other(format!("not a reply: {line:?}"));
        let (kind, rest) = line.split_at_checked(1).ok_or_else(nonsense)?;
        let length = || rest.parse::<i64>().map_err(|_| nonsense());
        Ok(match kind {
            "+" | ":" => Reply::Line(rest.to_owned()),
            "-" => Reply::Line(line.to_owned()),
            "$" => match usize::try_from(length()?) {
                Err(_) => Reply::Nil,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Bulk(bytes)
                }
            },
            "*" => Reply::Array((0..length()?).map(|_| self.reply()).collect::<Result<_, _>>()?),
            _ => return Err(nonsense()),
        })
    }
}
