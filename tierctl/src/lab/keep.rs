//! The process that keeps a shared guest; `exec` starts it.

use std::path::PathBuf;

use tiermem_qemu::host::Timing;
use tiermem_qemu::program::Packing;
use tiermem_qemu::session::{Client, Keeper, Note, Owner, report};
use tiermem_qemu::wire::Kind;
use tiermem_qemu::{Error, ErrorKind};

use super::options::Boot;
use super::run::failed;
use super::start::{Ready, Wanted};
use super::topology;
use super::watch::Watch;
use crate::exit::{Exit, Failure};

/// Keep a guest for `exec`, which starts this.
#[derive(Debug, clap::Args)]
pub struct Keep {
    topology: String,
    #[arg(long)]
    key: String,
    #[arg(long)]
    log: PathBuf,
    #[arg(long, value_parser = owner)]
    owner: Option<Owner>,
    #[arg(long)]
    idle: Option<u64>,
    #[command(flatten)]
    boot: Boot,
}

/// PID:START
fn owner(text: &str) -> Result<Owner, String> {
    let parsed = text
        .split_once(':')
        .and_then(|(pid, started)| Some(Owner { pid: pid.parse().ok()?, started: started.parse().ok()? }));
    parsed.ok_or_else(|| format!("`{text}` is no PID:START"))
}

impl Keep {
    /// Boots, serves, ends.
    pub fn execute(self) -> Result<Exit, Failure> {
        let watch = Watch::default();
        let done = watch.over(|signal| signal.is_some(), |stop| self.keep(stop)).and_then(|done| done);
        done.map(|()| Exit::Ok).map_err(|error| {
            if let Ok(text) = serde_json::to_string(&error) {
                report(std::io::stdout(), Kind::Failed, &text);
            }
            failed(&error)
        })
    }

    fn keep(&self, stop: &std::sync::atomic::AtomicBool) -> Result<(), Error> {
        let topology = topology(&self.topology).map_err(|f| Error::new(ErrorKind::BadInput, f.message))?;
        let lab = self.boot.found()?;
        let wanted = Wanted { topology: &topology, guests: Some(1), state: None, log: Some(&self.log), luggage: 0 };
        let Ready { machines, scratch, log } = wanted.ready(&lab)?;
        let notice = |what: &str| report(std::io::stdout(), Kind::Notice, what);
        machines.iter().flat_map(|machine| &machine.notes).for_each(|note| notice(note));
        let Some(machine) = machines.first() else {
            return Err(Error::new(ErrorKind::BadInput, format!("topology `{}` has no host", topology.name)));
        };
        let limit = self.boot.limit();
        let timing = Timing { boot: limit, bring_up: limit, program: None, stop };
        let folders = (scratch.path(), log.path());
        let guest = lab.boot(machine, &Packing::default(), folders, timing, &mut |what| notice(what))?;
        let note = Note {
            key: self.key.clone(),
            topology: topology.name.clone(),
            keeper: Owner::of(std::process::id())
                .ok_or_else(|| Error::new(ErrorKind::Failed, "/proc does not know this process"))?,
            log: log.path().to_path_buf(),
        };
        let first = Client { owner: self.owner, idle_s: self.idle };
        let keeper = Keeper::announce(&guest, scratch.path(), note, &first, stop)?;
        report(std::io::stdout(), Kind::Ready, "");
        keeper.serve()?;
        drop(keeper);
        // The signal or request that ended the service has done what it should: what follows is to be in order.
        let in_order = std::sync::atomic::AtomicBool::new(false);
        guest.collect(&log.path().join("out"), limit, &in_order)?;
        guest.finish(limit, &in_order)
    }
}
