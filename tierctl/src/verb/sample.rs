//! `tierctl sample`.

use std::env;
use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use tiermem_emulator::time::Mode;
use tiermem_sys::perf::registers::Stops;
use tiermem_topology::{TierView, Topology};

use crate::exit::{Exit, Failure};
use crate::model;
use crate::output::Output;
use crate::run::child::{Ending, StandIn};
use crate::run::program;
use crate::sample::calibrate::{Calibration, PERIOD_NS, Uncalibrated, calibrate};
use crate::sample::sites::Samples;
use crate::sample::verdict::{Refusal, Shares, Slowdown, shares, slowdown};
use crate::tiers_here;

/// Shown below the options.
const HELP: &str = "\
Two hundred microseconds of each thread's time apart, the instruction that it waits at is decoded. The share of the time \
that goes to loads that miss the caches is charged with the ratio of latencies. It answers for pointer chases and lookups; \
it refuses (exit code 5) where a program reads memory in order or may live in the caches, because samples cannot tell what \
slower memory would do to those. Kernel time is left out. The report goes to standard error; what CMD writes is its own.

First, loops whose answer is known are sampled on this machine, for some five seconds; the error band is theirs.";

/// Estimate a program's slowdown on other memory while it runs, unchanged (experimental).
///
/// As if all of its memory but its stacks lay on a tier of another machine. For an answer that is exact to a model, record
/// the program and replay it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Sample {
    /// The other machine: a topology or profile, shipped or in a file.
    #[arg(long, value_name = "TOPOLOGY|PROFILE", default_value = "one-expander")]
    topology: String,

    /// Its tier that all memory lies on (default: the slowest that loads can reach).
    #[arg(long, value_name = "NAME")]
    tier: Option<String>,

    /// The program and its arguments.
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// `tiermem-sampled/1`. Shares are of the program's time in user mode; `slowdown` or `refusal` is null.
#[derive(Debug, Serialize)]
struct Document {
    mode: &'static str,
    experimental: bool,
    topology: String,
    tier: String,
    /// Latency of the tier over that of the machine's own DRAM.
    latency_ratio: f64,
    samples: u64,
    samples_lost: u64,
    period_ns: u64,
    waiting: f64,
    in_order: f64,
    perhaps_cached: f64,
    slowdown: Option<SlowdownDocument>,
    refusal: Option<String>,
    calibration: Calibration,
}

#[derive(Debug, Serialize)]
struct SlowdownDocument {
    likely: f64,
    low: f64,
    high: f64,
}

impl Sample {
    /// Calibrates, runs the program, and tells.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        let (tier, ratio) = self.tier()?;
        let name = self.command.first().cloned().unwrap_or_default();
        let found = program::find(&name, env::var_os("PATH").as_deref())?;
        let caches = tiers_here::report().machine.last_level_cache_bytes.unwrap_or(32 << 20);
        let calibration = calibrate(caches).map_err(|why| uncalibrated(&why))?;
        let mut stops =
            Stops::of_programs_started(PERIOD_NS).map_err(|errno| uncalibrated(&Uncalibrated::NoTimer(errno)))?;
        let stand_in = StandIn::prepare()?;
        let mut command = Command::new(found);
        command.args(&self.command[1..]);
        let mut samples = Samples::default();
        let ending = stand_in.run(&mut command, || {
            stops.drain(|stop| samples.take(stop));
            Duration::from_millis(10)
        })?;
        stops.drain(|stop| samples.take(stop));
        let shares = shares(&samples, caches);
        let verdict = slowdown(&shares, ratio, (calibration.chase, calibration.band), caches);
        let machine = Told { tier: &tier, ratio, lost: stops.lost() };
        self.tell(&machine, &shares, verdict, &calibration, output)?;
        match (ending, verdict) {
            (Ending::Exited(0), Err(_)) => Ok(Exit::Unsupported),
            _ => Ok(ending.exit()),
        }
    }

    /// The tier that is asked about, and its latency over that of its host's DRAM.
    fn tier(&self) -> Result<(String, f64), Failure> {
        let topology: Topology = model::machine(&self.topology)?;
        let views = topology.tiers();
        let near = views.iter().filter(|view| view.kind.is_none() && view.cpus > 0);
        let near = near.map(|view| view.figures.read_latency_ns).reduce(f64::min).ok_or_else(|| {
            Failure::new(Exit::BadInput, format!("{} has no DRAM to compare with: name a topology", self.topology))
        })?;
        let reached = |view: &&TierView| matches!(view.kind, None | Some(tiermem_topology::DeviceKind::Cxl));
        let loads: Vec<&TierView> = views.iter().filter(reached).collect();
        let slowest = || loads.iter().max_by(|a, b| a.figures.read_latency_ns.total_cmp(&b.figures.read_latency_ns));
        let chosen = match &self.tier {
            Some(name) => loads.iter().find(|view| view.name == *name),
            None => slowest(),
        };
        let chosen = chosen.ok_or_else(|| {
            let known: Vec<&str> = loads.iter().map(|view| view.name.as_str()).collect();
            let name = self.tier.as_deref().unwrap_or_default();
            let message =
                format!("no tier {name} that loads can reach in {}; there are {}", self.topology, known.join(", "));
            Failure::new(Exit::NotFound, message)
        })?;
        Ok((chosen.name.clone(), chosen.figures.read_latency_ns / near))
    }

    fn tell(
        &self,
        machine: &Told<'_>,
        shares: &Shares,
        verdict: Result<Slowdown, Refusal>,
        calibration: &Calibration,
        output: &Output,
    ) -> Result<(), Failure> {
        if output.json_wanted() {
            let document = Document {
                mode: Mode::Sampled.as_str(),
                experimental: true,
                topology: self.topology.clone(),
                tier: machine.tier.to_owned(),
                latency_ratio: machine.ratio,
                samples: shares.samples,
                samples_lost: machine.lost,
                period_ns: PERIOD_NS,
                waiting: shares.waiting,
                in_order: shares.streaming,
                perhaps_cached: shares.cached,
                slowdown: verdict.ok().map(|s| SlowdownDocument { likely: s.likely, low: s.low, high: s.high }),
                refusal: verdict.err().map(|refusal| refusal.to_string()),
                calibration: *calibration,
            };
            eprintln!("{}", Output::document("tiermem-sampled/1", &document)?);
            return Ok(());
        }
        eprintln!("{}", text(&self.topology, machine, shares, verdict, calibration));
        Ok(())
    }
}

/// What is said besides the shares.
struct Told<'a> {
    tier: &'a str,
    ratio: f64,
    lost: u64,
}

fn text(
    topology: &str,
    machine: &Told<'_>,
    shares: &Shares,
    verdict: Result<Slowdown, Refusal>,
    calibration: &Calibration,
) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let mut lines = vec![
        format!("mode: {} (experimental)", Mode::Sampled),
        format!(
            "as if all memory lay on {} of {topology}, with {:.2} times the latency of its DRAM",
            machine.tier, machine.ratio
        ),
        format!(
            "{} samples{}: {} waiting for memory, {} at loads in order, {} at loads that caches may answer",
            shares.samples,
            if machine.lost > 0 { format!(" ({} more were lost)", machine.lost) } else { String::new() },
            percent(shares.waiting),
            percent(shares.streaming),
            percent(shares.cached)
        ),
        format!(
            "calibrated here: a chase {} (100), a half-chase {} ({}); shares are good to {}",
            percent(calibration.chase),
            percent(calibration.mixed),
            percent(calibration.mixed_truth),
            percent(calibration.band)
        ),
    ];
    lines.push(match verdict {
        Ok(Slowdown { likely, low, high }) => {
            format!("slowdown of its time in user mode: {likely:.2}, between {low:.2} and {high:.2}")
        }
        Err(refusal) => format!("no figure: {refusal}"),
    });
    lines.iter().map(|line| format!("tierctl: {line}")).collect::<Vec<_>>().join("\n")
}

fn uncalibrated(why: &Uncalibrated) -> Failure {
    let exit = match why {
        Uncalibrated::NoTimer(tiermem_sys::Errno::EACCES | tiermem_sys::Errno::EPERM) => Exit::NoRights,
        _ => Exit::Unsupported,
    };
    Failure::new(exit, why.to_string())
}
