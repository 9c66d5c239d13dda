//! `tierctl health`.

use std::time::Duration;

use serde::Serialize;
use tiermem_discovery::media::{self, BadMemory, Watch};
use tiermem_discovery::{Error, Roots};
use tiermem_sys::signal::Signals;
use tiermem_sys::signal::number::{SIGHUP, SIGINT, SIGTERM};
use tiermem_sys::{Errno, kernel_log, map};
use tiermem_tiers::provider::open;
use tiermem_tiers::{GRANULE, TierId, TierKind};

use crate::exit::{Exit, Failure};
use crate::output::{Align, Output, Table};

/// Ask CXL devices and the kernel which memory is bad, and set it aside.
///
/// Devices keep lists of poisoned lines and report what goes bad while they run; the kernel notes what the CPU met. With
/// --set-aside, 2 MiB around each bad place of a DAX device are handed out no more, by no process, and its tier counts as
/// degraded; in a NUMA node, the kernel is asked to move what lies in the OS page and to leave it alone. Needs root.
#[derive(Debug, clap::Args)]
pub struct Health {
    /// Set aside what is bad.
    #[arg(long)]
    set_aside: bool,
    /// Go on until interrupted, and tell of each bad place as it is reported.
    #[arg(long)]
    follow: bool,
}

/// `tiermem-health/1`, and with --follow one line of it for each report. Sizes and offsets in bytes.
#[derive(Debug, Serialize)]
struct Document {
    bad: Vec<Bad>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Bad {
    #[serde(flatten)]
    memory: BadMemory,
    /// Whether it has been set aside now; `null` if nobody asked.
    set_aside: Option<bool>,
    /// Why it could not be.
    why_not: Option<String>,
}

const FORMAT: &str = "tiermem-health/1";
/// How often records are looked at with --follow.
const TURN: Duration = Duration::from_millis(200);
/// After the lists were asked for, records may come so much later, because drivers write them.
const SETTLE: Duration = Duration::from_millis(100);

impl Health {
    /// Asks, and does what was asked for.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        let roots = Roots::host();
        let mut watch = Watch::start(&roots).map_err(failure)?;
        watch.ask().map_err(failure)?;
        std::thread::sleep(SETTLE);
        let mut document = Document { bad: Vec::new(), notes: Vec::new() };
        match kernel_log::read() {
            Ok(log) => document.bad.extend(media::failures(&roots, &log).into_iter().map(|bad| self.treat(bad))),
            Err(errno) => document.notes.push(format!("the kernel's log cannot be read: {}", errno.desc())),
        }
        let news = watch.news().map_err(failure)?;
        document.bad.extend(news.into_iter().map(|bad| self.treat(bad)));
        self.show(&document, output)?;
        if self.follow {
            self.go_on(&mut watch, output)?;
        }
        Ok(Exit::Ok)
    }

    fn go_on(&self, watch: &mut Watch<'_>, output: &Output) -> Result<(), Failure> {
        let signals = Signals::receive(&[SIGINT, SIGTERM, SIGHUP])
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot receive signals: {e}")))?;
        loop {
            let bad = watch.news().map_err(failure)?;
            if !bad.is_empty() {
                let bad = bad.into_iter().map(|bad| self.treat(bad)).collect();
                self.show(&Document { bad, notes: Vec::new() }, output)?;
            }
            if signals.wait(TURN).is_ok_and(|received| !received.is_empty()) {
                return Ok(());
            }
        }
    }

    fn treat(&self, memory: BadMemory) -> Bad {
        let outcome = self.set_aside.then(|| set_aside(&memory));
        Bad { set_aside: outcome.as_ref().map(Result::is_ok), why_not: outcome.and_then(Result::err), memory }
    }

    fn show(&self, document: &Document, output: &Output) -> Result<(), Failure> {
        if output.is_json() {
            return if self.follow { output.json_line(FORMAT, document) } else { output.json(FORMAT, document) };
        }
        let mut text = document.notes.iter().map(|note| format!("{note}\n")).collect::<String>();
        if document.bad.is_empty() {
            text.push_str("no bad memory is known\n");
            return output.text(&text);
        }
        let columns = ["BY", "DEVICE", "TIER", "OFFSET", "BYTES", "SET ASIDE"];
        let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
        for bad in &document.bad {
            let memory = &bad.memory;
            let tier = memory.tier.as_ref().map(|place| format!("{}:{}", place.kind, place.location));
            let offset = memory.tier.as_ref().map(|place| place.offset).or(memory.device_offset);
            let done = match (bad.set_aside, &bad.why_not) {
                (Some(true), _) => "yes".to_owned(),
                (Some(false), why) => format!("no: {}", why.as_deref().unwrap_or_default()),
                (None, _) => "-".to_owned(),
            };
            table.row([
                memory.origin.as_str().to_owned(),
                memory.device.clone().unwrap_or_else(|| "-".into()),
                tier.unwrap_or_else(|| "none".into()),
                offset.map_or_else(|| "-".into(), |offset| format!("{offset:#x}")),
                memory.bytes.to_string(),
                done,
            ]);
        }
        output.text(&format!("{text}{}", table.render()))
    }
}

/// Sees to it that nobody gets this memory again.
fn set_aside(memory: &BadMemory) -> Result<(), String> {
    let place = memory.tier.as_ref().ok_or("no tier that is known has it")?;
    match place.kind {
        TierKind::Devdax => {
            let spec = format!("bad=devdax:{}", place.location);
            let spec = spec.parse().map_err(|error| format!("{spec}: {error}"))?;
            let tier = open(&spec, TierId(0)).map_err(|error| error.to_string())?;
            let first = place.offset / GRANULE.0 * GRANULE.0;
            let mut granules = (first..place.offset + memory.bytes.max(1)).step_by(GRANULE.0 as usize);
            granules.try_for_each(|offset| tier.quarantine_place(offset)).map_err(|error| error.to_string())
        }
        _ => {
            const FILE: &str = "/sys/devices/system/memory/soft_offline_page";
            let address = memory.address.ok_or("it has no address")?;
            let os_page = map::os_page_size() as u64;
            let first = address / os_page * os_page;
            let mut pages = (first..address + memory.bytes.max(1)).step_by(map::os_page_size());
            let offline = |page: u64| std::fs::write(FILE, format!("{page:#x}"));
            pages.try_for_each(offline).map_err(|error| format!("{FILE}: {error}"))
        }
    }
}

/// How a failure to hear of anything ends.
fn failure(error: Error) -> Failure {
    let cause = match &error {
        Error::Unreadable { cause, .. } | Error::Unwritable { cause, .. } => cause.raw_os_error(),
        _ => None,
    };
    let (exit, advice) = match cause.map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => (Exit::NoRights, "run it as root"),
        Some(Errno::ENOENT) => (Exit::Unsupported, "mount tracefs: mount -t tracefs tracefs /sys/kernel/tracing"),
        _ => (Exit::Failed, "the kernel's log may say more"),
    };
    Failure::new(exit, format!("{error}; {advice}"))
}
