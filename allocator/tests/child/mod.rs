//! Tests in processes of their own: the allocator is configured once per process, and a crash or a hang of one test
//! must not take the others along.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Names the test that a child is to run.
const ROLE: &str = "TIERMEM_TEST_CHILD";

/// A child that lives longer hangs. `TIERMEM_TEST_PATIENCE` and [`scale`] multiply it.
const PATIENCE: Duration = Duration::from_secs(240);

/// `TIERMEM_TEST_SCALE`: by how much the counts of the tests are multiplied.
pub fn scale() -> u32 {
    number("TIERMEM_TEST_SCALE")
}

fn number(variable: &str) -> u32 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Runs `body` in a new process, which is this test binary told to run the test `name` alone, with these environment
/// variables. Panics with the child's output if it does not succeed. Returns its output; in the child, nothing.
#[track_caller]
pub fn in_child(name: &str, env: &[(&str, &str)], body: impl FnOnce()) -> String {
    if is_child(name) {
        body();
        return String::new();
    }
    let segments = Scratch::new(name);
    let mut command = command(name, &[("TIERMEM_CONTROL_DIR", &segments.0.to_string_lossy())]);
    let (ended_well, output) = finish(command.envs(env.iter().copied()));
    assert!(ended_well, "{name}, in its child:\n{output}");
    output
}

/// A directory of the test's own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tiermem-{name}-segments-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("make a directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory left behind harms nobody, and a panic here would hide the test's own.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether this process was started to run the test `name`.
pub fn is_child(name: &str) -> bool {
    std::env::var_os(ROLE).is_some_and(|role| role == name)
}

/// This test binary, told to run the test `name` alone.
pub fn command(name: &str, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test's own path"));
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, name);
    command.envs(env.iter().copied());
    command
}

/// Waits for the child, no longer than [`PATIENCE`]. Whether it succeeded, and what it said.
pub fn finish(command: &mut Command) -> (bool, String) {
    let factor = number("TIERMEM_TEST_PATIENCE") * scale();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start the child");
    let readers = [reader(child.stdout.take().expect("a pipe")), reader(child.stderr.take().expect("a pipe"))];
    let start = Instant::now();
    let mut end = String::new();
    let ended_well = loop {
        if let Some(status) = child.try_wait().expect("wait for the child") {
            end.push_str(&format!("[{status}]"));
            break status.success();
        }
        if start.elapsed() > PATIENCE * factor {
            child.kill().expect("kill the child");
            child.wait().expect("wait for the child");
            end.push_str("[hung: killed by the watchdog]");
            break false;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let said: String = readers.into_iter().map(|reader| reader.join().expect("the reader")).collect();
    (ended_well, said + &end)
}

fn reader(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // An error ends the output early, which the assertion on it will show.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
