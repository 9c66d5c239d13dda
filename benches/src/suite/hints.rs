//! What two tiers and a hint per request cost, against the same work on one tier without hints.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::callgrind;
use super::child::{self, Outcome, stdout_path};
use super::measure::describe;
use super::rivals::Rival;
use super::statistics::Spread;

/// Blocks that a request allocates; the fewer, the more the hint weighs.
const PER_REQUEST: [usize; 4] = [1, 4, 16, 64];
/// Blocks of a timed run and of the shorter counted one.
const BLOCKS_TIMED: usize = 8_000_000;
const BLOCKS_COUNTED: usize = 1 << 17;
const LIMIT: Duration = Duration::from_secs(300);

/// A way to do the same requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// One tier, no hints.
    OneTier,
    /// Two tiers, no hints.
    TwoTiers,
    /// Two tiers, each request under a hint for the one or the other in turn.
    Hinted,
}

const WAYS: [Way; 3] = [Way::OneTier, Way::TwoTiers, Way::Hinted];

/// Cost of one way.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Which way.
    pub way: Way,
    /// Blocks that each request allocates and frees.
    pub per_request: usize,
    /// CPU nanoseconds per request.
    pub cpu_ns: Spread,
    /// Ratio of the CPU time to that of one tier in the same round.
    pub ratio: Spread,
    /// Instructions per request, the measuring loop included.
    pub instructions: f64,
}

impl Way {
    /// Our library, set up for it.
    fn rival(self, library: &Path, second_tier: &Path) -> Rival {
        let tiers = ("TIERMEM_TIERS".into(), format!("slow=dax-file:{},size=1G", second_tier.display()));
        Rival {
            name: format!("{self:?}"),
            origin: String::new(),
            preload: Some(library.to_owned()),
            environment: if self == Self::OneTier { vec![] } else { vec![tiers] },
        }
    }

    fn arguments(self, per_request: usize) -> [String; 3] {
        let hints = usize::from(self == Self::Hinted);
        ["hinted".into(), format!("per_request={per_request}"), format!("hints={hints}")]
    }

    fn title(self) -> &'static str {
        match self {
            Self::OneTier => "one tier",
            Self::TwoTiers => "two tiers, no hints",
            Self::Hinted => "two tiers, a hint per request",
        }
    }
}

/// Times all ways in `rounds` interleaved rounds, and counts their instructions.
pub fn measure(
    library: &Path,
    second_tier: &Path,
    rounds: usize,
    workload: &Path,
    scratch: &Path,
) -> Result<Vec<Cost>, String> {
    let mut costs = Vec::new();
    for per_request in PER_REQUEST {
        let mut samples: [Vec<f64>; 3] = Default::default();
        for _ in 0..rounds.max(1) {
            for (way, samples) in WAYS.iter().zip(&mut samples) {
                let rival = way.rival(library, second_tier);
                samples.push(timed(&rival, &way.arguments(per_request), per_request, workload, scratch)?);
            }
        }
        for (way, mine) in WAYS.iter().zip(&samples) {
            let ratios: Vec<f64> = mine.iter().zip(&samples[0]).map(|(mine, one)| mine / one).collect();
            let rival = way.rival(library, second_tier);
            let arguments = way.arguments(per_request);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let amount = (BLOCKS_COUNTED / per_request, "requests");
            costs.push(Cost {
                way: *way,
                per_request,
                cpu_ns: Spread::of(mine).ok_or("no rounds")?,
                ratio: Spread::of(&ratios).ok_or("no rounds")?,
                instructions: callgrind::per_unit(&rival, &arguments, amount, workload, scratch)?,
            });
            eprintln!("{per_request:2} a request, {}: done", way.title());
        }
    }
    Ok(costs)
}

/// CPU nanoseconds of a request, as the workload reports them.
fn timed(
    rival: &Rival,
    arguments: &[String],
    per_request: usize,
    workload: &Path,
    scratch: &Path,
) -> Result<f64, String> {
    let mut command = Command::new(workload);
    command.args(arguments).arg(format!("ops={}", BLOCKS_TIMED / per_request));
    let run = child::run(rival.apply(&mut command), scratch, LIMIT).map_err(|error| error.to_string())?;
    if run.outcome != Outcome::Finished {
        return Err(format!("{}: {}", rival.name, describe(&run)));
    }
    let text = std::fs::read(stdout_path(scratch)).unwrap_or_default();
    let report: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    // A hint that was quietly ignored would cost nothing.
    let (live, second) = (report["live"].as_f64(), report["on_second_tier"].as_f64());
    if let (Some(live), Some(second)) = (live, second)
        && !(0.4..0.6).contains(&(second / live))
    {
        return Err(format!("{second} of {live} blocks lie on the second tier; half of them should"));
    }
    report["cpu_ns_per_request"].as_f64().ok_or(format!("the workload reported {report}"))
}

/// The table.
pub fn markdown(costs: &[Cost]) -> String {
    let mut text = String::from(
        "| blocks a request | | instructions a request | over one tier | CPU ns a request: median ± MAD (least) | \
         ratio, round by round |\n|---|---|---|---|---|---|\n",
    );
    let mut one = None;
    for cost in costs {
        if cost.way == Way::OneTier {
            one = Some(cost.instructions);
        }
        let over = one.map_or(f64::NAN, |one| 100.0 * (cost.instructions / one - 1.0));
        let Spread { min, median, mad, .. } = cost.cpu_ns;
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {over:+.1} % | {median:.1} ± {mad:.1} ({min:.1}) | {:.3} ± {:.3} |",
            cost.per_request,
            cost.way.title(),
            cost.instructions,
            cost.ratio.median,
            cost.ratio.mad
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_compared_with_one_tier_of_its_own_size() {
        let spread = Spread::of(&[1.0]).expect("one value");
        let cost =
            |way, per_request, instructions| Cost { way, per_request, cpu_ns: spread, ratio: spread, instructions };
        let costs = [
            cost(Way::OneTier, 1, 100.0),
            cost(Way::Hinted, 1, 150.0),
            cost(Way::OneTier, 16, 1000.0),
            cost(Way::Hinted, 16, 1020.0),
        ];
        let text = markdown(&costs);
        assert!(text.contains("| 150.0 | +50.0 % |") && text.contains("| 1020.0 | +2.0 % |"), "{text}");
    }
}
