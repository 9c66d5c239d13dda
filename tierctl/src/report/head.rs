//! The top of the page: what ran, how it went, and the tiers at a glance.

use std::fmt::Write as _;

use tiermem_tiers::Bytes;

use super::html::{Text, big_bytes, percent, show_count, show_date, show_duration, show_percent};
use super::view::View;
use crate::record::TierTotal;
use crate::run::child::Ending;

/// Characters of the command that are shown at once.
const COMMAND_MAX: usize = 240;

/// The banner with the command, and the tiles.
pub fn banner(view: &View<'_>) -> String {
    let run = view.run;
    let command = run.command_line();
    let shown: String = command.chars().take(COMMAND_MAX).collect();
    let cut = if shown.len() < command.len() { "…" } else { "" };
    let mut facts = vec![show_date(run.started_unix_s)];
    facts.push(match &run.policy {
        Some(path) => format!("policy <code>{}</code>", Text(path)),
        None => "built-in policy: fill DRAM, then each tier in order".to_owned(),
    });
    facts.extend(run.tier_specs.iter().map(|s| format!("<code>--tier {}</code>", Text(s))));
    facts.extend(run.limits.iter().map(|l| format!("<code>--limit {}</code>", Text(l))));
    let facts: String = facts.iter().map(|f| format!("<li>{f}</li>")).collect();
    format!(
        r#"<header><div class="brand">{LOGO}<span>tiermem</span><em>run report</em></div>
<h1 title="{}">{}{cut}</h1><ul class="facts">{facts}</ul></header>
{}"#,
        Text(&command),
        Text(&shown),
        tiles(view),
    )
}

const LOGO: &str = r#"<svg class="logo" viewBox="0 0 24 24" aria-hidden="true"><path class="t0" d="M12 1.5 22 6 12 10.5 2 6z"/><path class="t1" d="M2 10.2 12 14.7 22 10.2V12L12 16.5 2 12z"/><path class="t2" d="M2 15.9 12 20.4 22 15.9V17.7L12 22.2 2 17.7z"/></svg>"#;

fn tiles(view: &View<'_>) -> String {
    let run = view.run;
    let (ending, mood) = match run.ending {
        Ending::Exited(0) => ("exit code 0".to_owned(), "good"),
        Ending::Exited(code) => (format!("exit code {code}"), "bad"),
        Ending::Killed(signal) => (format!("killed by signal {signal}"), "bad"),
    };
    let processes = match run.recorded.processes.len() {
        1 => "1 process".to_owned(),
        n => format!("{n} processes"),
    };
    let mut tiles =
        tile("Ran for", &show_duration(view.duration_ms()), &format!(r#"<i class="dot {mood}"></i>{ending}"#));
    if let Some(peak) = view.peak() {
        let live: u64 = peak.live.iter().sum();
        let beyond = view.beyond_dram(&peak.live);
        tiles += &tile("Peak memory", &big_bytes(live), &format!("live at {}", show_duration(peak.at_ms)));
        let note = format!("{} on slower tiers", Bytes(beyond));
        tiles += &tile("Beyond DRAM at the peak", &show_percent(beyond, live), &note);
    }
    let sum = |part: fn(&TierTotal) -> u64| view.tiers.iter().map(part).sum::<u64>();
    tiles += &tile("Allocations", &show_count(sum(|t| t.allocations)), &processes);
    tiles += &tile("Fallbacks", &show_count(sum(|t| t.fallbacks)), "served by a later tier");
    format!(r#"<div class="tiles">{tiles}</div>"#)
}

fn tile(name: &str, value: &str, note: &str) -> String {
    format!(r#"<div class="tile"><h4>{name}</h4><p class="value">{value}</p><p class="note">{note}</p></div>"#)
}

/// Where the memory was at the peak, and a card for each tier.
pub fn tiers(view: &View<'_>) -> String {
    let cards: String = view.tiers.iter().enumerate().map(|(i, tier)| card(i, tier)).collect();
    format!(
        r#"<section class="card" id="tiers"><div class="head"><h2>Tiers</h2></div>{}<div class="tier-cards">{cards}</div></section>
"#,
        split_bar(view)
    )
}

fn split_bar(view: &View<'_>) -> String {
    let Some(peak) = view.peak().filter(|p| p.live.iter().any(|&b| b > 0)) else { return String::new() };
    let total: u64 = peak.live.iter().sum();
    let mut parts = String::new();
    for (i, (tier, &bytes)) in view.tiers.iter().zip(&peak.live).enumerate().filter(|(_, (_, bytes))| **bytes > 0) {
        let share = show_percent(bytes, total);
        let width = percent(bytes, total);
        // Narrow parts have no room for words; the cards and the title have them.
        let label = if width >= 14.0 { format!("{} {share}", Text(&tier.name)) } else { String::new() };
        let _ = write!(
            parts,
            r#"<div class="t{i}" style="flex-grow:{width:.3}" title="{} {} ({share})"><span>{label}</span></div>"#,
            Text(&tier.name),
            Bytes(bytes),
        );
    }
    format!(r#"<p class="hint">Where the allocator placed the memory, at the peak</p><div class="split">{parts}</div>"#)
}

fn card(index: usize, tier: &TierTotal) -> String {
    let limit = if tier.limit > 0 { format!("limit {} a process", Bytes(tier.limit)) } else { "no limit".to_owned() };
    let state = if tier.unavailable { r#"<span class="kind serious">full or failed</span>"# } else { "" };
    let mut facts = vec![
        ("Committed peak", Bytes(tier.committed_max).to_string()),
        ("Allocations", show_count(tier.allocations)),
        ("Fallbacks", show_count(tier.fallbacks)),
        ("Returned", Bytes(tier.returned).to_string()),
    ];
    if tier.quarantined > 0 {
        facts.push(("Quarantined", Bytes(tier.quarantined).to_string()));
    }
    let facts: String = facts.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>")).collect();
    format!(
        r#"<article class="tier tone{index}"><h3><i class="swatch t{index}"></i>{}<span class="chip">{}</span>{state}</h3><p class="value">{}</p><p class="note">live peak · {limit}</p><dl>{facts}</dl></article>"#,
        Text(&tier.name),
        Text(&tier.kind),
        big_bytes(tier.live_max),
    )
}
