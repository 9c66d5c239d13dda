//! `tierctl stat`.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use serde::Serialize;
use tiermem::control::{Snapshot, TierUse};
use tiermem_tiers::Bytes;

use super::ps::show_uptime;
use crate::events::describe;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::segments;
use crate::summary::group_thousands;

/// Latest events shown.
const EVENTS_SHOWN: usize = 5;
/// Clears a terminal from its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show how a running process uses its tiers.
#[derive(Debug, clap::Args)]
pub struct Stat {
    /// The process.
    pid: u32,

    /// Show again every so many seconds (1 if not given) until the process ends; JSON is then one document a line.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "1",
          value_parser = parse_interval)]
    watch: Option<Duration>,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(interval) if interval >= Duration::from_millis(10) => Ok(interval),
        _ => Err("an interval is at least 0.01 seconds".to_owned()),
    }
}

/// `tiermem-stat/1`. Sizes in bytes, counters since the start of the process; `allocations_per_s` is the mean over the
/// last `interval_ms` milliseconds: since the start in the first document, since the one before in those that follow.
#[derive(Debug, Serialize)]
struct Document {
    pid: u32,
    parent: u32,
    command: String,
    uptime_ms: u64,
    started_unix_s: u64,
    ended: bool,
    policy: String,
    policy_error: String,
    rss: u64,
    interval_ms: u64,
    tiers: Vec<TierDocument>,
    events_total: u64,
    events: Vec<EventDocument>,
}

#[derive(Debug, Serialize)]
struct TierDocument {
    name: String,
    kind: String,
    limit: u64,
    live: u64,
    committed: u64,
    committed_max: u64,
    allocations: u64,
    frees: u64,
    allocations_per_s: f64,
    fallbacks: u64,
    returned: u64,
    unavailable: bool,
    quarantined: u64,
}

#[derive(Debug, Serialize)]
struct EventDocument {
    at_ms: u64,
    kind: &'static str,
    tier: Option<String>,
    bytes: u64,
    count: u64,
    text: String,
}

impl Document {
    /// `before` is the reading before this one, if there was one.
    fn new(now: &Snapshot, before: Option<&Snapshot>) -> Self {
        let interval_ms = now.uptime_ms.saturating_sub(before.map_or(0, |b| b.uptime_ms));
        let tier = |(index, tier): (usize, &TierUse)| {
            let earlier = before.and_then(|b| b.tiers.get(index)).map_or(0, |t| t.allocations);
            tier_document(tier, tier.allocations.saturating_sub(earlier), interval_ms)
        };
        let event = |event: &tiermem::control::Event| EventDocument {
            at_ms: event.at_ms,
            kind: event.kind.as_str(),
            tier: event.tier.and_then(|t| now.tiers.get(t)).map(|t| t.name.clone()),
            bytes: event.bytes,
            count: event.count,
            text: describe(event, now),
        };
        Self {
            pid: now.pid,
            parent: now.parent,
            command: now.command.clone(),
            uptime_ms: now.uptime_ms,
            started_unix_s: now.started_unix_s,
            ended: now.ended,
            policy: now.policy.clone(),
            policy_error: now.policy_error.clone(),
            rss: now.rss,
            interval_ms,
            tiers: now.tiers.iter().enumerate().map(tier).collect(),
            events_total: now.events_total,
            events: now.events.iter().map(event).collect(),
        }
    }
}

fn tier_document(tier: &TierUse, allocations: u64, interval_ms: u64) -> TierDocument {
    TierDocument {
        name: tier.name.clone(),
        kind: tier.kind.clone(),
        limit: tier.limit,
        live: tier.live,
        committed: tier.committed,
        committed_max: tier.committed_max,
        allocations: tier.allocations,
        frees: tier.frees,
        allocations_per_s: if interval_ms == 0 { 0.0 } else { allocations as f64 * 1000.0 / interval_ms as f64 },
        fallbacks: tier.fallbacks,
        returned: tier.returned,
        unavailable: tier.unavailable,
        quarantined: tier.quarantined,
    }
}

impl Stat {
    /// Shows it once, or until the process ends.
    pub fn execute(self, output: &Output) -> Result<Exit, Failure> {
        let read = segments::of_pid(self.pid)?;
        let mut before: Option<Snapshot> = None;
        let start = Instant::now();
        for round in 1.. {
            let now = read()?;
            show(&Document::new(&now, before.as_ref()), self.watch.is_some(), *output)?;
            let Some(interval) = self.watch.filter(|_| !now.ended && segments::is_running(self.pid)) else { break };
            before = Some(now);
            // Rounds keep to the clock, however long one takes.
            std::thread::sleep(interval.saturating_mul(round).saturating_sub(start.elapsed()));
            if !segments::is_running(self.pid) {
                break;
            }
        }
        Ok(Exit::Ok)
    }
}

fn show(document: &Document, watched: bool, output: Output) -> Result<(), Failure> {
    match (output.is_json(), watched) {
        (true, true) => output.json_line("tiermem-stat/1", document),
        (true, false) => output.json("tiermem-stat/1", document),
        (false, _) => {
            let clear = if watched && io::stdout().is_terminal() { CLEAR } else { "" };
            output.text(&format!("{clear}{}", text(document)))
        }
    }
}

fn text(document: &Document) -> String {
    let policy = if document.policy.is_empty() { "built-in" } else { &document.policy };
    let mut text = format!(
        "{} ({}), up {}, resident {}, policy {policy}\n",
        document.pid,
        document.command,
        show_uptime(document.uptime_ms),
        Bytes(document.rss)
    );
    if !document.policy_error.is_empty() {
        text.push_str(&format!("the policy could not be used: {}\n", document.policy_error));
    }
    let mut table = Table::new(&[
        ("TIER", Align::Left),
        ("KIND", Align::Left),
        ("LIVE", Align::Right),
        ("COMMITTED", Align::Right),
        ("PEAK", Align::Right),
        ("LIMIT", Align::Right),
        ("ALLOC/S", Align::Right),
        ("FALLBACKS", Align::Right),
        ("RETURNED", Align::Right),
        ("STATE", Align::Left),
    ]);
    for tier in &document.tiers {
        table.row([
            tier.name.clone(),
            tier.kind.clone(),
            Bytes(tier.live).to_string(),
            Bytes(tier.committed).to_string(),
            Bytes(tier.committed_max).to_string(),
            if tier.limit == 0 { String::new() } else { Bytes(tier.limit).to_string() },
            group_thousands(tier.allocations_per_s.round() as u64),
            group_thousands(tier.fallbacks),
            Bytes(tier.returned).to_string(),
            state(tier),
        ]);
    }
    text.push_str(&table.render());
    let skipped = document.events.len().saturating_sub(EVENTS_SHOWN);
    for event in &document.events[skipped..] {
        text.push_str(&format!("{:>9.3} s  {}", event.at_ms as f64 / 1000.0, event.text));
        text.push_str(&if event.count > 1 { format!(" ×{}\n", event.count) } else { "\n".to_owned() });
    }
    text
}

fn state(tier: &TierDocument) -> String {
    let word = if tier.unavailable { "unavailable" } else { "ok" };
    match tier.quarantined {
        0 => word.to_owned(),
        bytes => format!("{}, {} quarantined", if tier.unavailable { word } else { "degraded" }, Bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Document, parse_interval, text};
    use crate::output::Output;
    use tiermem::control::{Event, EventKind, Snapshot, TierUse};

    fn snapshot(uptime_ms: u64, allocations: u64) -> Snapshot {
        let dram = TierUse {
            name: "dram".into(),
            kind: "dram".into(),
            allocations,
            limit: 1 << 26,
            unavailable: true,
            ..TierUse::default()
        };
        let full = Event { at_ms: 1500, kind: EventKind::Full, tier: Some(0), bytes: 4096, count: 3 };
        Snapshot { pid: 9, uptime_ms, tiers: vec![dram], events: vec![full], ..Snapshot::default() }
    }

    #[test]
    fn rates_are_over_the_time_between_readings() {
        let (first, second) = (snapshot(2000, 100), snapshot(2500, 600));
        assert_eq!(Document::new(&first, None).tiers[0].allocations_per_s, 50.0);
        let document = Document::new(&second, Some(&first));
        assert_eq!((document.interval_ms, document.tiers[0].allocations_per_s), (500, 1000.0));
        assert_eq!(Document::new(&first, Some(&first)).tiers[0].allocations_per_s, 0.0);
    }

    #[test]
    fn people_see_limits_states_and_events() {
        let text = text(&Document::new(&snapshot(2000, 2_000_000), None));
        for part in
            ["9 (", "2.0s", "policy built-in", "64 MiB", "1,000,000", "unavailable", "1.500 s  dram had no room", "×3"]
        {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn what_is_set_aside_is_seen() {
        let mut now = snapshot(1, 1);
        now.tiers[0].quarantined = 2 << 20;
        assert!(text(&Document::new(&now, None)).contains("unavailable, 2 MiB quarantined"));
        now.tiers[0].unavailable = false;
        assert!(text(&Document::new(&now, None)).contains("degraded, 2 MiB quarantined"));
    }

    #[test]
    fn the_json_form_is_stable() {
        let text = Output::document("tiermem-stat/1", &Document::new(&snapshot(2000, 1), None)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            keys(&value),
            "command ended events events_total format interval_ms parent pid policy policy_error rss started_unix_s \
             tiers uptime_ms"
        );
        assert_eq!(
            keys(&value["tiers"][0]),
            "allocations allocations_per_s committed committed_max fallbacks frees kind limit live name quarantined \
             returned unavailable"
        );
        assert_eq!(keys(&value["events"][0]), "at_ms bytes count kind text tier");
        assert!(text.starts_with("{\n  \"format\": \"tiermem-stat/1\""));
    }

    #[test]
    fn intervals_are_checked() {
        assert!(parse_interval("0.5").is_ok());
        for bad in ["0", "-1", "nan", "inf", "x"] {
            assert!(parse_interval(bad).is_err(), "{bad}");
        }
    }
}
