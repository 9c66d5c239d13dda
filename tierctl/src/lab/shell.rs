//! `tierctl qemu shell`: a guest at this terminal.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tiermem_qemu::Error;
use tiermem_qemu::host::{Sender, Timing};
use tiermem_qemu::wire::{Ended, Kind, Terminal};
use tiermem_sys::terminal::{Settings, size};

use super::options::{Boot, Places};
use super::program::{Goods, Program};
use super::run::{code, failed, show};
use super::start::{Ready, Wanted};
use super::topology;
use super::watch::Watch;
use crate::exit::{Exit, Failure};

/// The key that, pressed three times in a row, ends a guest that hangs: Ctrl and `]`.
const ESCAPE: u8 = 0x1d;
const ESCAPES: usize = 3;
/// Where a terminal does not say how large it is.
const USUAL: (u16, u16) = (24, 80);

/// Boot a topology and work in it: a shell with busybox, tierctl and the programs that are copied along.
///
/// It ends with the shell. Every key goes to the guest, ^C too; ^] three times in a row ends a guest that hangs.
///
/// Exit codes: the shell's; else as of `tierctl qemu run`.
#[derive(Debug, clap::Args)]
pub struct Shell {
    /// A shipped topology (`tierctl qemu list`), or a file; of several hosts the first.
    topology: String,
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    goods: Goods,
    #[command(flatten)]
    boot: Boot,
}

impl Shell {
    /// Boots, hands the terminal over, ends.
    pub fn execute(self) -> Result<Exit, Failure> {
        let stdin = io::stdin();
        let cooked = Settings::of(&stdin).ok().filter(|_| io::stdout().is_terminal()).ok_or_else(|| {
            Failure::new(Exit::Usage, "a shell needs a terminal; without one: tierctl qemu run TOPOLOGY -- sh < SCRIPT")
        })?;
        let topology = topology(&self.topology)?;
        let lab = self.boot.lab()?;
        let mut program = self.program(&topology.name)?;
        let wanted = Wanted {
            topology: &topology,
            guests: Some(1),
            state: self.places.state.as_deref(),
            log: self.places.log.as_deref(),
            luggage: program.packing.size(),
        };
        let Ready { machines, scratch, log } = wanted.ready(&lab).map_err(|e| failed(&e))?;
        let running: Mutex<Option<(Sender, Terminal)>> = Mutex::new(None);
        let escaped = Arc::new(AtomicBool::new(false));
        let look = |signal: Option<i32>| {
            if let Some((sender, last)) = &mut *running.lock().unwrap_or_else(PoisonError::into_inner) {
                follow(sender, last);
            }
            signal.is_some() || escaped.load(Ordering::Relaxed)
        };
        eprintln!("tierctl: booting {} (in it, ^] three times ends a guest that hangs)", topology.name);
        let watch = Watch::default();
        let done = watch.over(look, |stop| {
            let limit = self.boot.limit();
            let timing = Timing { boot: limit, bring_up: limit, program: None, stop };
            let mut say = |what: &str| eprintln!("tierctl: {what}");
            let Some(machine) = machines.first() else { return Ok(Ended::Exited(0)) };
            let folders = (scratch.path(), log.path());
            let guest = lab.boot(machine, &program.packing, folders, timing, &mut say)?;
            let channel = guest.channel();
            let now = current_size();
            program.request.terminal = Some(now);
            *running.lock().unwrap_or_else(PoisonError::into_inner) = Some((channel.sender(), now));
            let raw = Raw::set(&cooked)?;
            let keys = Keys { from: io::stdin(), pressed: 0, escaped: escaped.clone() };
            let mut output = |stream, bytes: &[u8]| show("", stream, bytes);
            let ended = guest.run_over(&channel, &program.request, Box::new(keys), timing, &mut output);
            drop(raw);
            let ended = ended?;
            guest.collect(&log.path().join("out"), limit, stop)?;
            guest.finish(limit, stop)?;
            Ok::<_, Error>(ended)
        });
        drop(scratch);
        watch.end();
        if escaped.load(Ordering::Relaxed) {
            return Err(Failure::new(Exit::Command(125), "the guest was ended by ^]"));
        }
        let place = format!("\nThe log is in {}", log.path().display());
        let ended = done.and_then(|done| done).map_err(|e| failed(&e.followed_by(&place)))?;
        Ok(Exit::Command(code(&ended)))
    }

    fn program(&self, name: &str) -> Result<Program, Failure> {
        let mut environment: BTreeMap<String, String> =
            std::env::vars().filter(|(name, _)| ["TERM", "LANG"].contains(&name.as_str())).collect();
        environment.insert("PS1".into(), format!("{name}:\\w# "));
        // The guest's own, which knows every applet of busybox; a shell of this machine would be of no more use.
        let mut program = self.goods.gather(&[OsString::from("true")], environment, |_| Ok(()))?;
        program.request.command = vec!["/bin/busybox".into(), "sh".into()];
        program.request.directory = "/".into();
        Ok(program)
    }
}

fn current_size() -> Terminal {
    let (rows, columns) = size(io::stdout().as_fd()).unwrap_or(USUAL);
    Terminal { rows, columns }
}

/// Tells the guest when this terminal has another size.
fn follow(sender: &Sender, last: &mut Terminal) {
    let now = current_size();
    if now != *last {
        *last = now;
        let _ = sender.send(Kind::Resize, serde_json::to_vec(&now).unwrap_or_default());
    }
}

/// The terminal gives every key as it is until this is dropped.
struct Raw<'a>(&'a Settings);

impl<'a> Raw<'a> {
    fn set(cooked: &'a Settings) -> Result<Self, Error> {
        let set = cooked.raw().apply(io::stdin());
        set.map_err(|e| Error::from_io("the terminal", &e.into()))?;
        Ok(Self(cooked))
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = self.0.apply(io::stdin());
    }
}

/// What is typed; the escape is noticed.
struct Keys<R> {
    from: R,
    pressed: usize,
    escaped: Arc<AtomicBool>,
}

impl<R: Read> Read for Keys<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        for &key in &into[..count] {
            self.pressed = if key == ESCAPE { self.pressed + 1 } else { 0 };
            if self.pressed == ESCAPES {
                self.escaped.store(true, Ordering::Relaxed);
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;
    use std::io::Read;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn escapes(typed: &[u8]) -> bool {
        let escaped = Arc::new(AtomicBool::new(false));
        let mut all = Vec::new();
        Keys { from: typed, pressed: 0, escaped: escaped.clone() }.read_to_end(&mut all).unwrap();
        assert_eq!(all, typed);
        escaped.load(Ordering::Relaxed)
    }

    #[test]
    fn only_three_in_a_row_are_the_escape() {
        assert!(escapes(b"ls\x1d\x1d\x1d"));
        assert!(!escapes(b"\x1d\x1da\x1d"));
    }
}
