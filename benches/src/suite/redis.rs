//! A redis server under a fixed load of our own, sent over a UNIX socket; only the server's CPU is counted.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::child::{Measured, Running};
use super::rivals::Rival;
use crate::workload::Random;

const KEYS: usize = 200_000;
const PIPELINE: usize = 100;
const START_LIMIT: Duration = Duration::from_secs(20);

/// The server and the number of requests it gets.
#[derive(Clone, Debug)]
pub struct Redis {
    server: PathBuf,
    requests: usize,
}

impl Redis {
    /// A load of `requests` commands on `server`.
    pub fn new(server: PathBuf, requests: usize) -> Self {
        Self { server, requests }
    }

    /// Starts the server on `rival`, sends the load, shuts it down and returns its cost. A server that dies early is
    /// measured as it ended.
    pub fn run(&self, rival: &Rival, scratch: &Path, limit: Duration) -> io::Result<Measured> {
        let socket = scratch.join("redis.sock");
        std::fs::remove_file(&socket).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let mut command = Command::new(&self.server);
        command.current_dir(scratch).args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.args(["--unixsocket", &socket.display().to_string()]);
        let running = Running::start(rival.apply(&mut command), scratch, limit)?;
        let loaded = connect(&socket, running.pid()).and_then(|stream| send_load(stream, self.requests));
        if let Err(error) = loaded {
            eprintln!("redis on {}: the load stopped: {error}", rival.name);
        }
        running.wait()
    }
}

fn connect(socket: &Path, server: u32) -> io::Result<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if start.elapsed() > START_LIMIT || is_gone(server) => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Whether the process has ended (it is not reaped yet, so its state is Z).
fn is_gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

fn send_load(mut stream: UnixStream, requests: usize) -> io::Result<()> {
    let mut replies = BufReader::new(stream.try_clone()?);
    let mut random = Random::new(11);
    let value = "v".repeat(4096);
    let mut batch = Vec::new();
    for _ in 0..requests / PIPELINE {
        batch.clear();
        for _ in 0..PIPELINE {
            let key = random.below(KEYS);
            let bytes = &value[..random.skewed(16, 7)];
            match random.below(10) {
                0..4 => command(&mut batch, &["SET", &format!("string:{key}"), bytes]),
                4..6 => command(&mut batch, &["GET", &format!("string:{key}")]),
                6 => command(&mut batch, &["DEL", &format!("string:{key}")]),
                7 => command(&mut batch, &["LPUSH", &format!("list:{}", key % 1000), bytes]),
                8 => command(&mut batch, &["RPOP", &format!("list:{}", key % 1000)]),
                _ => command(&mut batch, &["HSET", &format!("hash:{}", key % 1000), &format!("{}", key % 97), bytes]),
            }
        }
        stream.write_all(&batch)?;
        (0..PIPELINE).try_for_each(|_| read_reply(&mut replies))?;
    }
    batch.clear();
    command(&mut batch, &["SHUTDOWN", "NOSAVE"]);
    stream.write_all(&batch)
}

fn command(batch: &mut Vec<u8>, words: &[&str]) {
    batch.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        batch.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
}

/// Reads one reply of the kinds that the load causes; an error reply is an error.
fn read_reply(replies: &mut BufReader<UnixStream>) -> io::Result<()> {
    let mut line = String::new();
    if replies.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match line.trim_end().split_at(1) {
        ("+" | ":", _) => Ok(()),
        ("$", "-1") => Ok(()),
        ("$", length) => {
            let length: u64 = length.parse().map_err(|_| io::Error::other(format!("bad reply {line:?}")))?;
            let copied = io::copy(&mut replies.by_ref().take(length + 2), &mut io::sink())?;
            if copied == length + 2 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        }
        _ => Err(io::Error::other(format!("redis answered {line:?}"))),
    }
}
