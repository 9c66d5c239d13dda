//! `tierctl qemu run`: a guest, or several, for one program.

use std::io::{Read, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use tiermem_qemu::host::{Lab, Output as Stream, Timing};
use tiermem_qemu::machine::Machine;
use tiermem_qemu::wire::Ended;
use tiermem_qemu::{Error, ErrorKind};

use super::options::{Boot, Places, Work};
use super::program::Program;
use super::start::{Ready, Wanted};
use super::watch::Watch;
use super::{failure, topology};
use crate::exit::{Exit, Failure};

/// Variables that programs get from the environment of tierctl, by the start of their names.
const PASSED: [&str; 5] = ["TERM", "LANG", "LC_", "RUST_", "TIERMEM_"];

/// Boot a topology, run a program in it, and end with its exit code.
///
/// The program goes into the guest with its libraries; in the guest, TIERMEM_LAB_TIERS holds the topology's memory as SPECs
/// (name=cxl-node:1 and the like), separated by semicolons. Files that it writes to /out come back to the log folder. With
/// several guests it runs in each at the same time; TIERMEM_LAB_INDEX and TIERMEM_LAB_GUESTS tell them apart.
///
/// Exit codes: the program's own, or 128+N where signal N killed it; 124 if it took too long; 125 if the lab failed (no boot,
/// no memory, a panic: the message says which); 126 and 127 if it cannot be executed or was not found.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// A shipped topology (`tierctl qemu list`), or a file.
    topology: String,
    /// Start so many guests: of a topology with one host, copies that share the CXL memory.
    #[arg(long, value_name = "N")]
    hosts: Option<u32>,
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    boot: Boot,
    #[command(flatten)]
    work: Work,
}

impl Run {
    /// Boots, runs, ends.
    pub fn execute(self) -> Result<Exit, Failure> {
        let topology = topology(&self.topology)?;
        let lab = self.boot.lab()?;
        let passed = std::env::vars().filter(|(name, _)| PASSED.iter().any(|start| name.starts_with(start)));
        let program = self.work.goods.gather(&self.work.command, passed.collect(), |_| Ok(()))?;
        let wanted = Wanted {
            topology: &topology,
            guests: self.hosts,
            state: self.places.state.as_deref(),
            log: self.places.log.as_deref(),
            luggage: program.packing.size(),
        };
        let Ready { machines, scratch, log } = wanted.ready(&lab).map_err(|e| failed(&e))?;
        for note in machines.iter().flat_map(|machine| &machine.notes) {
            eprintln!("tierctl: {note}");
        }
        let job = Job {
            run: &self,
            lab: &lab,
            program: &program,
            folders: (scratch.path(), log.path()),
            failed: Mutex::default(),
        };
        let watch = Watch::default();
        let results = watch.over(
            |signal| signal.is_some() || job.has_failed(),
            |stop| {
                std::thread::scope(|scope| {
                    let guests: Vec<_> = machines
                        .iter()
                        .map(|machine| scope.spawn(|| job.guest(machine, machines.len(), stop)))
                        .collect();
                    guests.into_iter().map(|guest| guest.join().unwrap_or_else(|_| Err(panicked()))).collect::<Vec<_>>()
                })
            },
        );
        let results = results.map_err(|e| failed(&e))?;
        let first = job.first_failure();
        drop(scratch);
        watch.end();
        let place = format!("\nThe log is in {}", log.path().display());
        if let Some(error) = first {
            return Err(failed(&error.followed_by(&place)));
        }
        let mut code = 0;
        for result in results {
            match result {
                Ok(ended) if code == 0 => code = ended,
                Ok(_) => {}
                Err(error) => return Err(failed(&error.followed_by(&place))),
            }
        }
        Ok(Exit::Command(code))
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Failed, "a guest's thread panicked")
}

/// As [`failure`]; what has no code of its own is the lab's failure and not the program's.
pub fn failed(error: &Error) -> Failure {
    let failure = failure(error);
    Failure { exit: if failure.exit == Exit::Failed { Exit::Command(125) } else { failure.exit }, ..failure }
}

struct Job<'a> {
    run: &'a Run,
    lab: &'a Lab,
    program: &'a Program,
    folders: (&'a std::path::Path, &'a std::path::Path),
    /// Of several guests, why the first one failed: the others are ended then, for they might wait for it.
    failed: Mutex<Option<Error>>,
}

impl Job<'_> {
    /// One guest of several; whether it failed is noted.
    fn guest(&self, machine: &Machine, guests: usize, stop: &AtomicBool) -> Result<u8, Error> {
        let done = self.whole_life(machine, guests, stop);
        match &done {
            // It was ended because of a signal, or of another one.
            Err(error) if guests > 1 && error.kind() != ErrorKind::Interrupted => {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                let others = if guests == 2 { "the other guest was" } else { "the other guests were" };
                let told =
                    || error.clone().within(&machine.name).followed_by(&format!("\nBecause of this, {others} ended."));
                failed.get_or_insert_with(told);
            }
            _ => {}
        }
        done
    }

    fn first_failure(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_failed(&self) -> bool {
        self.first_failure().is_some()
    }

    /// One guest from its start to its end; the exit code of its program.
    fn whole_life(&self, machine: &Machine, guests: usize, stop: &AtomicBool) -> Result<u8, Error> {
        let (scratch, log) = self.folders;
        let log = if guests > 1 { log.join(&machine.name) } else { log.to_path_buf() };
        let limit = self.run.boot.limit();
        let timing = Timing { boot: limit, bring_up: limit, program: self.run.work.limit(), stop };
        let mut say = |what: &str| eprintln!("tierctl: {what}");
        let guest = self.lab.boot(machine, &self.program.packing, (scratch, &log), timing, &mut say)?;
        let prefix = if guests > 1 { format!("[{}] ", machine.name) } else { String::new() };
        let input: Box<dyn Read + Send> =
            if guests > 1 { Box::new(std::io::empty()) } else { Box::new(std::io::stdin()) };
        let ended =
            guest.run(&self.program.request, input, timing, &mut |stream, bytes| show(&prefix, stream, bytes))?;
        guest.collect(&log.join("out"), limit, stop)?;
        guest.finish(limit, stop)?;
        Ok(code(&ended))
    }
}

/// The exit code of a program that ended so; why it did not start is said.
pub fn code(ended: &Ended) -> u8 {
    if let Ended::NotStarted(_, why) = ended {
        eprintln!("tierctl: {why}");
    }
    ended.code()
}

/// Passes output on; with several guests, each line says whose it is.
pub fn show(prefix: &str, stream: Stream, bytes: &[u8]) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let text: Vec<u8> = if prefix.is_empty() {
        bytes.to_vec()
    } else {
        bytes.split_inclusive(|&b| b == b'\n').flat_map(|line| [prefix.as_bytes(), line].concat()).collect()
    };
    // A reader that went away does not end the guest's program.
    let _ = match stream {
        Stream::Standard => std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush()),
        Stream::Error => std::io::stderr().write_all(&text),
    };
}
