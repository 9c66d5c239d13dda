//! A redis-server of the demo's own, which never outlives it.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::resp::{Client, Reply};
use crate::failure::{Context, Failure, Result};

/// A server that takes longer to start (it may have a save to load) or to stop is taken for broken.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(20);
/// Lines of the server's log that are shown when it fails.
const LOG_LINES: usize = 20;

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// What was started: the server, or tierctl around it.
    child: Child,
    /// The server itself.
    pid: u32,
    port: u16,
    log: PathBuf,
}

/// A port that nobody listens on: `asked`, or any one.
pub fn free_port(asked: Option<u16>) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, asked.unwrap_or(0)));
    let listener = listener.while_doing(format_args!("port {}", asked.unwrap_or(0)))?;
    Ok(listener.local_addr().while_doing("a free port")?.port())
}

/// A configuration for a server that keeps all its files in the folder that it is started in, and saves only when told
/// to. Its paths are short, because they show in the report.
#[derive(Debug)]
pub struct Config<'a> {
    pub folder: &'a Path,
    /// Name of the configuration and of the log, without their extensions.
    pub name: &'a str,
    pub port: u16,
}

impl Config<'_> {
    /// Writes the configuration and makes `command`, which ends before the server's arguments, use it.
    pub fn apply(&self, command: &mut Command) -> Result<()> {
        let Self { folder, name, port } = self;
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir .\ndbfilename demo.rdb\nrdbcompression no\nsave \"\"\nappendonly no\n\
             logfile {name}.log\ndaemonize no\n"
        );
        let path = folder.join(format!("{name}.conf"));
        fs::write(&path, text).while_doing(path.display())?;
        command.arg(format!("{name}.conf")).current_dir(folder);
        Ok(())
    }
}

impl Server {
    /// Starts `command`, which ends in `redis-server`, with this configuration and waits until it answers.
    pub fn start(command: &mut Command, config: &Config<'_>) -> Result<Self> {
        config.apply(command)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let log = config.folder.join(format!("{}.log", config.name));
        let port = config.port;
        let child = command.spawn().while_doing(program)?;
        let mut server = Self { pid: child.id(), child, port, log };
        server.wait_until_ready()?;
        server.pid = server.info("server", "process_id")?.parse().while_doing("process_id")?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().while_doing("waiting for redis-server")? {
                return Err(Failure::new(format!("redis-server ended at once ({status}){}", self.log_end())));
            }
            match Client::connect(self.port).and_then(|mut client| client.ask(&["PING"])) {
                Ok(Reply::Simple(pong)) if pong == "PONG" => return Ok(()),
                // Not listening yet, or loading its save.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(Failure::new(format!("redis-server: {error}{}", self.log_end()))),
            }
            std::thread::sleep(PAUSE);
        }
        Err(Failure::new(format!("redis-server does not answer after {PATIENCE:?}{}", self.log_end())))
    }

    /// A new connection.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.port).while_doing("connecting to redis-server")
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The value of `key` in a section of INFO.
    pub fn info(&self, section: &str, key: &str) -> Result<String> {
        let text = self.connect()?.ask(&["INFO", section]).while_doing("INFO")?.to_string();
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.map(|value| value.trim().to_owned()).ok_or_else(|| Failure::new(format!("INFO {section} has no {key}")))
    }

    /// Waits until the background save has ended well.
    pub fn wait_for_save(&mut self) -> Result<()> {
        while self.info("persistence", "rdb_bgsave_in_progress")? != "0" {
            std::thread::sleep(PAUSE);
        }
        match self.info("persistence", "rdb_last_bgsave_status")?.as_str() {
            "ok" => Ok(()),
            other => Err(Failure::new(format!("the background save ended with {other:?}{}", self.log_end()))),
        }
    }

    /// Tells the server to end, and returns how what was started ended.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.shut_down()?.ok_or_else(|| Failure::new(format!("redis-server does not end{}", self.log_end())))
    }

    fn shut_down(&mut self) -> Result<Option<ExitStatus>> {
        // It closes the connection instead of a reply.
        let _ = self.connect().map(|mut client| client.ask(&["SHUTDOWN", "NOSAVE"]));
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().while_doing("waiting for redis-server to end")? {
                return Ok(Some(status));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(None)
    }

    /// The end of the server's log, if there is one.
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
        if end.is_empty() { String::new() } else { format!("; its log ends with:\n{}", end.join("\n")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // Something failed: the server first, so that what was started around it can clean up after it.
        let killed = Command::new("kill").args(["-KILL", &self.pid.to_string()]).status();
        if !killed.is_ok_and(|status| status.success()) {
            eprintln!("xtask: could not kill redis-server, process {}", self.pid);
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(PAUSE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
