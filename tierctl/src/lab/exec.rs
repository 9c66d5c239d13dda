//! `tierctl qemu exec`: a program in a guest that others use too. `tierctl qemu stop`: the end of such guests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tiermem_qemu::host::{Lab, Log, Sender};
use tiermem_qemu::session::{self, Client, Owner, Remote, reach};
use tiermem_qemu::wire::Kind;
use tiermem_qemu::{Error, ErrorKind};
use tiermem_topology::Topology;

use super::options::{Boot, Work};
use super::program::Program;
use super::run::{code, failed, show};
use super::watch::Watch;
use super::{failure, topology};
use crate::exit::{Exit, Failure};

/// How long a program may take to end by a signal before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// Variables that mean something on this machine only, by the start of their names.
const KEPT_HERE: [&str; 16] = [
    "PATH", "HOME", "TMPDIR", "TMP", "TEMP", "PWD", "OLDPWD", "SHELL", "SHLVL", "USER", "LOGNAME", "MAIL", "LD_",
    "SSH_", "XDG_", "_",
];

/// Run a program in a guest that many programs share: a runner for cargo.
///
/// CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="tierctl qemu exec --topology one-expander" cargo test
///
/// The first program boots the guest, the others find it. It ends with the cargo that it was started for (else with the
/// parent process), or after 300 s without a program, or with `tierctl qemu stop`. The program gets the variables and the
/// working directory that it would have here, the files of its package (CARGO_MANIFEST_DIR) and the package's programs
/// (CARGO_BIN_EXE_…). What it writes stays in the guest, except for /out, which comes back to the log folder at the end.
///
/// Exit codes: as of `tierctl qemu run`.
#[derive(Debug, clap::Args)]
pub struct Exec {
    /// A shipped topology (`tierctl qemu list`), or a file; of several hosts the first.
    #[arg(long, value_name = "TOPOLOGY")]
    topology: String,
    /// Keep the guest for so many seconds without a program, whoever has ended.
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,
    /// Leave the files of the package here.
    #[arg(long)]
    no_package: bool,
    #[command(flatten)]
    boot: Boot,
    #[command(flatten)]
    work: Work,
}

/// End the guests that `exec` keeps, and the programs in them.
#[derive(Debug, clap::Args)]
pub struct Stop {
    /// Only those of this topology.
    topology: Option<String>,
}

impl Exec {
    /// Finds or boots the guest, runs, ends.
    pub fn execute(self) -> Result<Exit, Failure> {
        let topology = topology(&self.topology)?;
        let lab = self.boot.lab()?;
        let program = self.program()?;
        let running: Mutex<Option<(Sender, Option<Instant>)>> = Mutex::new(None);
        let lock = || running.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = Watch::default();
        // A signal is the program's, if there is one; it ends as it likes, but not later than after a while.
        let look = |signal: Option<i32>| match (&mut *lock(), signal) {
            (Some((program, since)), Some(signal)) => {
                let _ = program.send(Kind::Signal, signal.to_string());
                since.get_or_insert_with(Instant::now);
                false
            }
            (Some((_, since)), None) => since.is_some_and(|since| since.elapsed() > GRACE),
            (None, signal) => signal.is_some(),
        };
        let ended = watch.over(look, |stop| {
            let remote = self.reach(&topology, &lab, stop)?;
            *lock() = Some((remote.sender(), None));
            let limit = self.work.limit();
            let input = Box::new(std::io::stdin());
            let mut output = |stream, bytes: &[u8]| show("", stream, bytes);
            let ended = remote.run(&program.packing, &program.request, input, (limit, stop), &mut output);
            ended.map_err(|error| error.followed_by(&format!("\nThe log is in {}", remote.log().display())))
        });
        watch.end();
        let ended = ended.and_then(|ended| ended).map_err(|e| failed(&e))?;
        Ok(Exit::Command(code(&ended)))
    }

    fn reach(&self, topology: &Topology, lab: &Lab, stop: &AtomicBool) -> Result<Remote, Error> {
        let key = super::key(topology, lab)?;
        let client = Client { owner: Owner::of_this_process(), idle_s: self.idle };
        let starting = lab.cache.path("starting").join(&key);
        let remote =
            reach(&key, &client, &starting, stop, &mut || self.start_keeper(topology, lab, &key, &client, stop));
        lab.cache.prune("starting", 20);
        remote
    }

    /// Starts this program again as the keeper of a new guest.
    fn start_keeper(
        &self,
        topology: &Topology,
        lab: &Lab,
        key: &str,
        client: &Client,
        stop: &AtomicBool,
    ) -> Result<(), Error> {
        let log = Log::in_cache(&lab.cache, &topology.name)?;
        let mut command = Command::new(&lab.agent);
        command.args(["qemu", "keep", &self.topology, "--key", key, "--log"]).arg(log.path());
        if let Some(owner) = client.owner {
            command.args(["--owner".into(), format!("{}:{}", owner.pid, owner.started)]);
        }
        command.args(client.idle_s.into_iter().flat_map(|idle| ["--idle".to_owned(), idle.to_string()]));
        command.args(self.boot.arguments());
        session::start(&mut command, log.path(), stop, &mut |what| eprintln!("tierctl: {what}"))
            .map_err(|error| error.followed_by(&format!("\nThe log is in {}", log.path().display())))
    }

    fn program(&self) -> Result<Program, Failure> {
        let passed: BTreeMap<String, String> = std::env::vars().filter(|(name, _)| is_passed(name)).collect();
        let files = passed.iter().filter(|(name, _)| name.starts_with("CARGO_BIN_EXE_"));
        let programs: Vec<PathBuf> =
            files.map(|(_, path)| path.into()).filter(|path: &PathBuf| path.is_file()).collect();
        let package = passed.get("CARGO_MANIFEST_DIR").filter(|_| !self.no_package).cloned();
        let mut program = self.work.goods.gather(&self.work.command, passed, |luggage| {
            programs.iter().try_for_each(|program| luggage.program(program))?;
            package.iter().try_for_each(|folder| luggage.package(Path::new(folder)))
        })?;
        let here = std::env::current_dir().map_err(|e| Failure::from_io("the working directory", &e))?;
        program.request.directory = here.to_string_lossy().into_owned();
        Ok(program)
    }
}

fn is_passed(name: &str) -> bool {
    !KEPT_HERE
        .iter()
        .any(|kept| if kept.ends_with('_') && kept.len() > 1 { name.starts_with(kept) } else { name == *kept })
}

impl Stop {
    /// Ends them.
    pub fn execute(self) -> Result<Exit, Failure> {
        // A topology in a file is known to its guest by its own name.
        let wanted = self.topology.as_ref().map(|which| topology(which)).transpose()?.map(|topology| topology.name);
        let places = session::all().into_iter();
        let places: Vec<_> =
            places.filter(|place| wanted.as_ref().is_none_or(|name| *name == place.note.topology)).collect();
        if places.is_empty() {
            eprintln!("tierctl: no guest is kept");
        }
        for place in places {
            let how = if session::stop(&place) { "stopped" } else { "did not answer and was killed" };
            eprintln!("tierctl: {}: {how}; its log is in {}", place.note.topology, place.note.log.display());
            if !place.is_gone() {
                let why = format!("the guest of process {} cannot be removed", place.note.keeper.pid);
                return Err(failure(&Error::new(ErrorKind::Failed, why)));
            }
        }
        Ok(Exit::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::is_passed;

    #[test]
    fn variables_of_this_machine_stay_here() {
        for name in ["PATH", "HOME", "LD_LIBRARY_PATH", "SSH_AUTH_SOCK", "_", "TMPDIR"] {
            assert!(!is_passed(name), "{name}");
        }
        for name in ["CARGO_MANIFEST_DIR", "RUST_BACKTRACE", "MY_PATH", "PATHS", "_MINE", "NEXTEST", "TMP_X"] {
            assert!(is_passed(name), "{name}");
        }
    }
}
