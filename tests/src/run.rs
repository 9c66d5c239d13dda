//! Running a program under a watchdog.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::{Tiering, process, tools};

/// Seconds that a program gets when its test names none.
const LIMIT_S: u64 = 60;

/// A program about to run.
pub struct Run {
    command: Command,
    limit: Duration,
    input: Option<Vec<u8>>,
}

impl Run {
    /// The program, without the preload.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self::of(Command::new(program))
    }

    /// A command made elsewhere, without the preload unless it has it.
    pub fn of(mut command: Command) -> Self {
        command.env_remove("LD_PRELOAD");
        const VARIABLES: [&str; 13] = [
            "POLICY",
            "TIERS",
            "LIMITS",
            "CONTROL_DIR",
            "PROFILE",
            "STATS",
            "HARDEN",
            "ZERO_FREED",
            "FAULTS",
            "TRACE",
            "TRACE_ACCESSES",
            "TRACE_FRAMES",
            "TRACE_TAKEN",
        ];
        for name in VARIABLES {
            command.env_remove(format!("TIERMEM_{name}"));
        }
        Self { command, limit: Duration::from_secs(LIMIT_S), input: None }
    }

    /// Under the preload, in this setup.
    #[must_use]
    pub fn under(mut self, tiering: &Tiering) -> Self {
        self.command.envs(tiering.environment());
        self
    }

    /// With this library preloaded and nothing else set.
    #[must_use]
    pub fn preloading(self, library: &Path) -> Self {
        self.env("LD_PRELOAD", library)
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs in this directory.
    #[must_use]
    pub fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// What the program reads on its standard input (nothing, by default).
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Seconds after which the program counts as hung (times `TIERMEM_TEST_PATIENCE` and the tests' scale).
    #[must_use]
    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Starts the program and leaves it running, its standard input open.
    pub fn start(mut self) -> Running {
        let title = format!("{:?}", self.command);
        // Files rather than pipes: a daemon that outlives its parent must not keep the test waiting.
        let [out, err] = [(); 2].map(|()| tempfile::tempfile().expect("a temporary file can be made"));
        let duplicate = |file: &File| Stdio::from(file.try_clone().expect("a descriptor can be duplicated"));
        self.command.stdin(Stdio::piped()).stdout(duplicate(&out)).stderr(duplicate(&err)).process_group(0);
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{title}: {error}"));
        let stdin = child.stdin.take();
        let patience = tools::number("PATIENCE").unwrap_or(1) * tools::scale();
        let limit = self.limit * u32::try_from(patience).unwrap_or(1);
        let mut running = Running { title, child, stdin, out, err, limit, start: Instant::now(), ended: false };
        if let Some(input) = self.input {
            // A program that ends without reading its input is judged by its exit status.
            let _ = running.stdin.as_mut().expect("just opened").write_all(&input);
        }
        running
    }

    /// Runs the program to its end.
    pub fn finish(self) -> Finished {
        self.start().finish()
    }
}

/// A program that runs. Dropping it kills its whole process group.
pub struct Running {
    title: String,
    child: Child,
    stdin: Option<ChildStdin>,
    out: File,
    err: File,
    limit: Duration,
    start: Instant,
    ended: bool,
}

impl Running {
    /// Process id, which is the id of its process group too.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes one line to the program's standard input.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its standard input is open");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("{}: {error}", self.title));
    }

    /// Waits until the program has printed `count` whole lines, and returns the last of these.
    pub fn hear_line(&mut self, count: usize) -> String {
        self.hear(&format!("{count} lines"), |text| text.lines().nth(count - 1))
    }

    /// Waits until the program has printed a whole line that contains `words`, and returns it.
    pub fn hear_containing(&mut self, words: &str) -> String {
        self.hear(words, |text| text.lines().find(|line| line.contains(words)))
    }

    fn hear(&mut self, what: &str, find: impl Fn(&str) -> Option<&str>) -> String {
        loop {
            let ended = self.child.try_wait();
            let text = contents(&self.out);
            let complete = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            if let Some(line) = find(complete) {
                return line.to_owned();
            }
            self.check_time(&format!("it never printed {what}"));
            if let Ok(Some(status)) = ended {
                panic!("{} ended ({status}) before it printed {what}\n{text}\n{}", self.title, contents(&self.err));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the program has printed so far.
    pub fn heard(&self) -> String {
        contents(&self.out)
    }

    /// What it has complained about so far.
    pub fn complaints(&self) -> String {
        contents(&self.err)
    }

    /// Waits a moment for what the program has not done yet. Panics if it has ended, or once its time is over.
    pub fn wait_a_little(&mut self, what: &str) {
        self.check_time(&format!("it never printed {what}"));
        assert!(self.is_running(), "{} ended before it printed {what}\n{}", self.title, contents(&self.err));
        std::thread::sleep(Duration::from_millis(2));
    }

    /// Whether the program still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Closes the program's input and waits for its end. A hang is a panic with backtraces.
    pub fn finish(mut self) -> Finished {
        self.stdin = None;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            self.check_time("it hangs");
            std::thread::sleep(Duration::from_millis(2));
        };
        self.ended = true;
        Finished {
            title: self.title.clone(),
            status,
            stdout: bytes(&self.out),
            stderr: contents(&self.err),
            left_behind: process::group_members(self.pid()),
            took: self.start.elapsed(),
        }
    }

    fn check_time(&self, what: &str) {
        if self.start.elapsed() > self.limit {
            let report = process::describe_group(self.pid());
            panic!("{}: {what} after {:?}\n{}\n{report}", self.title, self.limit, contents(&self.err));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        process::kill_group(self.pid());
        if !self.ended {
            let _ = self.child.wait();
        }
    }
}

/// What a program left.
#[derive(Debug)]
pub struct Finished {
    title: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: String,
    /// Processes of its group that were alive when it had ended; they have been killed since.
    pub left_behind: Vec<u32>,
    /// Wall-clock time that it took.
    pub took: Duration,
}

impl Finished {
    /// Panics unless the program succeeded; returns it for further questions.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{}", self.describe());
        self
    }

    /// As [`succeeded`](Self::succeeded), and it must have complained about nothing.
    #[track_caller]
    pub fn succeeded_quietly(self) -> Self {
        let this = self.succeeded();
        assert!(this.stderr.is_empty(), "it succeeded, but with complaints: {}", this.describe());
        this
    }

    /// What it printed, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The signal that killed it, if one did.
    pub fn killed_by(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Command, status and the ends of what it printed, for messages.
    pub fn describe(&self) -> String {
        let (out, err) = (self.text(), &self.stderr);
        format!("{}\n{}\nstdout: {}\nstderr: {}", self.title, self.status, tail(&out), tail(err))
    }
}

fn tail(text: &str) -> &str {
    const BYTES: usize = 4_000;
    let mut start = text.len().saturating_sub(BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

fn bytes(file: &File) -> Vec<u8> {
    // The program writes at the offset that it shares with this descriptor, so read through a descriptor with its own.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    let mut all = Vec::new();
    let mut own = File::open(path).expect("an open file can be opened again");
    own.rewind().and_then(|()| own.read_to_end(&mut all)).expect("a temporary file can be read");
    all
}

fn contents(file: &File) -> String {
    String::from_utf8_lossy(&bytes(file)).into_owned()
}
