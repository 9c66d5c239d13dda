//! A client of Redis's protocol, RESP2, as far as the demo needs it: commands in a pipeline, and their replies.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A server that says nothing for so long is taken for hung.
const PATIENCE: Duration = Duration::from_secs(120);
/// Largest string that a reply may announce (Redis's own limit is the same).
const BULK_MAX: usize = 512 << 20;

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR …`
    Error(String),
    /// `:42`
    Integer(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// No such key.
    Nil,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(text) | Self::Error(text) => f.write_str(text),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Bulk(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::Nil => f.write_str("(nil)"),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<TcpStream>,
    /// Commands not sent yet.
    pending: Vec<u8>,
}

impl Client {
    /// Connects to a server on this machine.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::with_capacity(1 << 18, stream), pending: Vec::new() })
    }

    /// Adds a command to the pipeline.
    pub fn push(&mut self, words: &[&[u8]]) {
        encode(&mut self.pending, words);
    }

    /// How many bytes the pipeline holds.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Sends the pipeline. Its replies must then be taken with [`Client::reply`], one per command, in order.
    pub fn send(&mut self) -> io::Result<()> {
        self.reader.get_mut().write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Waits for the next reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        decode(&mut self.reader)
    }

    /// Sends one command and waits for its reply.
    pub fn ask(&mut self, words: &[&str]) -> io::Result<Reply> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.push(&words);
        self.send()?;
        self.reply()
    }
}

fn encode(into: &mut Vec<u8>, words: &[&[u8]]) {
    into.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        into.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        into.extend_from_slice(word);
        into.extend_from_slice(b"\r\n");
    }
}

fn decode(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    let Some(line) = line.strip_suffix(b"\r\n") else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
    };
    let line = String::from_utf8_lossy(line);
    let strange = || io::Error::new(io::ErrorKind::InvalidData, format!("strange reply: {line}"));
    let rest = line.get(1..).unwrap_or_default();
    match line.as_bytes().first() {
        Some(b'+') => Ok(Reply::Simple(rest.to_owned())),
        Some(b'-') => Ok(Reply::Error(rest.to_owned())),
        Some(b':') => rest.parse().map(Reply::Integer).map_err(|_| strange()),
        Some(b'$') if rest == "-1" => Ok(Reply::Nil),
        Some(b'$') => {
            let len: usize = rest.parse().ok().filter(|&len| len <= BULK_MAX).ok_or_else(strange)?;
            let mut bytes = vec![0; len + 2];
            from.read_exact(&mut bytes)?;
            if !bytes.ends_with(b"\r\n") {
                return Err(strange());
            }
            bytes.truncate(len);
            Ok(Reply::Bulk(bytes))
        }
        _ => Err(strange()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(mut bytes: &[u8]) -> io::Result<Reply> {
        decode(&mut bytes)
    }

    #[test]
    fn commands_are_written_as_the_protocol_says() {
        let mut bytes = Vec::new();
        encode(&mut bytes, &[b"SET", b"k", b"\r\n"]);
        assert_eq!(bytes, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n");
    }

    #[test]
    fn replies_are_read_as_the_protocol_says() {
        assert_eq!(decoded(b"+OK\r\n").unwrap(), Reply::Simple("OK".to_owned()));
        assert_eq!(decoded(b"-ERR no\r\n").unwrap(), Reply::Error("ERR no".to_owned()));
        assert_eq!(decoded(b":-3\r\n").unwrap(), Reply::Integer(-3));
        assert_eq!(decoded(b"$4\r\na\r\nb\r\n").unwrap(), Reply::Bulk(b"a\r\nb".to_vec()));
        assert_eq!(decoded(b"$-1\r\n").unwrap(), Reply::Nil);
    }

    #[test]
    fn broken_replies_are_errors() {
        for broken in [&b""[..], b"+OK", b"?\r\n", b":x\r\n", b"$5\r\nab\r\n", b"$1\r\nabc", b"$99999999999\r\n"] {
            assert!(decoded(broken).is_err(), "{}", String::from_utf8_lossy(broken));
        }
    }
}
