//! Programs in the guest: starting them, carrying what they read and write, hearing of their end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tiermem_sys::child::{self, signal_group};
use tiermem_sys::signal::number::SIGKILL;
use tiermem_sys::{Errno, terminal};

use super::OUT;
use super::agent::Host;
use super::plan::{Memory, Plan};
use super::window::Window;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::wire::{Ended, Frame, Kind, PIECE, Request, Terminal};

/// Where programs are looked for.
const PATH: &str = "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin";
/// How long output is waited for after a program's end, while something that it started still holds it.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// All programs that run.
pub(super) struct Sessions {
    host: Host,
    environment: BTreeMap<String, String>,
    running: Arc<Mutex<BTreeMap<u32, Running>>>,
}

struct Running {
    pid: u32,
    input: Option<Sender<Vec<u8>>>,
    output: Arc<Window>,
    /// The terminal that it runs on.
    screen: Option<File>,
}

impl Sessions {
    pub(super) fn new(host: &Host, plan: &Plan, memory: Vec<Memory>) -> Self {
        let mut tiers: Vec<String> = memory.iter().map(Memory::spec).collect();
        tiers.extend(plan.nodes.iter().skip(1).map(|(name, node)| format!("{name}=cxl-node:{node}")));
        let set = |name: &str, value: String| (format!("TIERMEM_LAB_{name}"), value);
        let mut environment = BTreeMap::from([
            set("HOST", plan.host.clone()),
            set("INDEX", plan.index.to_string()),
            set("GUESTS", plan.guests.to_string()),
            set("TIERS", tiers.join(";")),
            set("OUT", OUT.into()),
        ]);
        environment.extend([("PATH", PATH), ("HOME", "/tmp"), ("TMPDIR", "/tmp")].map(|(k, v)| (k.into(), v.into())));
        Self { host: host.clone(), environment, running: Arc::default() }
    }

    /// Does what a frame about a program says.
    pub(super) fn handle(&self, frame: Frame) {
        let session = frame.session;
        match frame.kind {
            Kind::Run => {
                let started = frame.value::<Request>().and_then(|request| self.start(session, &request));
                if let Err(error) = started {
                    let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
                    self.host.send(&Frame::of(Kind::Ended, session, &Ended::NotStarted(code, error.to_string())));
                }
            }
            Kind::Input => {
                let mut running = self.lock();
                let Some(program) = running.get_mut(&session) else { return };
                if frame.contents.is_empty() {
                    program.input = None;
                } else if let Some(input) = &program.input {
                    let _ = input.send(frame.contents);
                }
            }
            Kind::OutputTaken => {
                if let Some(program) = self.lock().get(&session) {
                    if frame.contents.is_empty() { program.output.leave() } else { program.output.close() }
                }
            }
            Kind::Signal => {
                let pid = self.lock().get(&session).map(|program| program.pid);
                if let (Some(pid), Ok(signal)) = (pid, frame.text().parse()) {
                    let _ = signal_group(pid, signal);
                }
            }
            Kind::Resize => {
                if let (Ok(size), Some(program)) = (frame.value::<Terminal>(), self.lock().get(&session))
                    && let Some(screen) = &program.screen
                {
                    let _ = terminal::set_size(screen.as_fd(), (size.rows, size.columns));
                }
            }
            _ => {}
        }
    }

    /// Kills what still runs.
    pub(super) fn end_all(&self) {
        for program in self.lock().values() {
            let _ = signal_group(program.pid, SIGKILL);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, session: u32, request: &Request) -> Result<()> {
        let mut command = self.command(request)?;
        let screen = request.terminal.map(|size| on_terminal(&mut command, size)).transpose()?;
        let mut child = command.spawn().map_err(|error| {
            let program = request.command.first().map(String::as_str).unwrap_or_default();
            Error::from_io(format!("{program} in the guest"), &error)
        })?;
        // Its ends of a terminal or of pipes: once the program has them, nobody else may hold them open.
        drop(command);
        let again = |screen: &File| screen.try_clone().context("the terminal");
        let stdin: Option<Box<dyn Write + Send>> = match &screen {
            Some(screen) => Some(Box::new(again(screen)?)),
            None => child.stdin.take().map(|pipe| Box::new(pipe) as _),
        };
        let stdout: Option<Box<dyn Read + Send>> = match &screen {
            Some(screen) => Some(Box::new(again(screen)?)),
            None => child.stdout.take().map(|pipe| Box::new(pipe) as _),
        };
        let (sender, receiver) = mpsc::channel();
        let input = stdin.map(|stdin| {
            let host = self.host.clone();
            std::thread::spawn(move || feed(stdin, &receiver, &host, session));
            sender
        });
        let window = Arc::<Window>::default();
        self.lock().insert(session, Running { pid: child.id(), input, output: window.clone(), screen });
        let (done, pumps) = mpsc::channel();
        let pump = |from: Option<Box<dyn Read + Send>>, kind| {
            let (host, done, window) = (self.host.clone(), done.clone(), window.clone());
            std::thread::spawn(move || {
                from.into_iter().for_each(|mut from| carry(&mut *from, kind, session, (&host, &window)));
                let _ = done.send(());
            });
        };
        pump(stdout, Kind::Output);
        pump(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>), Kind::ErrorOutput);
        let (host, running) = (self.host.clone(), self.running.clone());
        std::thread::spawn(move || {
            let ended = wait(&mut child);
            for _ in 0..2 {
                // Output that waits for the host is waited for.
                while pumps.recv_timeout(LAST_OUTPUT).is_err() && window.is_full() {}
            }
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
            host.send(&Frame::of(Kind::Ended, session, &ended));
        });
        Ok(())
    }

    fn command(&self, request: &Request) -> Result<Command> {
        let bad = |why: &str| Error::new(ErrorKind::BadInput, why);
        let (program, arguments) = request.command.split_first().ok_or_else(|| bad("no program is named"))?;
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if request.terminal.is_none() {
            command.process_group(0);
        }
        command.args(arguments).env_clear().envs(&request.environment).envs(&self.environment);
        // A search for the program uses the environment of the program.
        let folder = if request.directory.is_empty() { "/" } else { &request.directory };
        fs::create_dir_all(folder).map_err(|error| Error::from_io(folder, &error))?;
        command.current_dir(folder);
        Ok(command)
    }
}

/// Gives a command a terminal of its own; its screen.
fn on_terminal(command: &mut Command, size: Terminal) -> Result<File> {
    let failed = |error: Errno| Error::from_io("a terminal in the guest", &error.into());
    let pair = terminal::Pair::open((size.rows, size.columns)).map_err(failed)?;
    let end = || pair.programs.try_clone().context("a terminal in the guest");
    command.stdin(end()?).stdout(end()?).stderr(end()?);
    child::on_its_own_terminal(command);
    Ok(File::from(pair.screen))
}

fn feed(mut stdin: impl Write, from: &Receiver<Vec<u8>>, host: &Host, session: u32) {
    for piece in from {
        // A program that reads no more is no failure; the host must go on all the same.
        let _ = stdin.write_all(&piece);
        host.send(&Frame::new(Kind::InputTaken, session, []));
    }
}

fn carry(from: &mut dyn Read, kind: Kind, session: u32, (host, window): (&Host, &Window)) {
    let mut buffer = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !window.enter() {
            return;
        }
        host.send(&Frame::new(kind, session, &buffer[..count]));
    }
}

fn wait(child: &mut Child) -> Ended {
    let killed = |status: ExitStatus| status.signal().map_or(Ended::Exited(1), Ended::Killed);
    match child.wait() {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).map_or(killed(status), Ended::Exited),
        Err(error) => Ended::NotStarted(126, error.to_string()),
    }
}
