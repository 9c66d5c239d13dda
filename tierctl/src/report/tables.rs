//! Events and processes.

use std::fmt::Write as _;

use tiermem_tiers::Bytes;

use super::html::{Text, show_count};
use super::view::View;
use crate::events::Weight;
use crate::summary::group_thousands;

/// Rows shown of each table.
const ROWS_MAX: usize = 200;

/// The events.
pub fn events(view: &View<'_>) -> String {
    if view.events.is_empty() {
        return String::new();
    }
    let several = view.run.recorded.processes.len() > 1;
    let mut rows = String::new();
    for event in view.events.iter().take(ROWS_MAX) {
        let class = match event.weight {
            Weight::Normal => "normal",
            Weight::Notable => "notable",
            Weight::Serious => "serious",
        };
        let tier = event
            .tier
            .map_or(String::new(), |t| format!(r#"<i class="swatch t{t}"></i>{}"#, Text(&view.tiers[t].name)));
        let process = if several { format!(r#"<td class="n">{}</td>"#, event.pid) } else { String::new() };
        let count = if event.count > 1 { format!("×{}", group_thousands(event.count)) } else { String::new() };
        let _ = write!(
            rows,
            r#"<tr><td class="n">{:.3} s</td>{process}<td><span class="kind {class}">{}</span></td><td class="nowrap">{tier}</td><td class="text">{}</td><td class="n">{count}</td></tr>"#,
            event.at_ms as f64 / 1000.0,
            Text(event.kind),
            Text(&event.text),
        );
    }
    let process = if several { r#"<th class="n">Process</th>"# } else { "" };
    let mut notes = String::new();
    if view.events.len() > ROWS_MAX {
        let _ = write!(notes, "<p class=\"hint\">{} later events are not shown.</p>", view.events.len() - ROWS_MAX);
    }
    if view.events_lost > 0 {
        let lost = group_thousands(view.events_lost);
        let _ = write!(notes, "<p class=\"hint\">{lost} older events were overwritten before they could be read.</p>");
    }
    format!(
        r#"<section class="card" id="events"><div class="head"><h2>Events</h2></div><div class="scroll"><table><thead><tr><th class="n">Time</th>{process}<th>Kind</th><th>Tier</th><th>What happened</th><th class="n">Times</th></tr></thead><tbody>{rows}</tbody></table></div>{notes}</section>
"#
    )
}

/// The processes, if there were several.
pub fn processes(view: &View<'_>) -> String {
    let processes = &view.run.recorded.processes;
    if processes.len() < 2 {
        return String::new();
    }
    let heads: String = view
        .tiers
        .iter()
        .enumerate()
        .map(|(i, t)| format!(r#"<th class="n nowrap"><i class="swatch t{i}"></i>{} peak</th>"#, Text(&t.name)))
        .collect();
    let mut rows = String::new();
    for process in processes.iter().take(ROWS_MAX) {
        let snapshot = &process.snapshot;
        let _ = write!(
            rows,
            r#"<tr><td class="n">{}</td><td class="n">{}</td><td>{}</td><td class="n">{:.3} s</td><td class="n">{:.3} s{}</td>"#,
            snapshot.pid,
            if snapshot.parent == 0 { "–".to_owned() } else { snapshot.parent.to_string() },
            Text(&snapshot.command),
            process.first_read_ms as f64 / 1000.0,
            process.last_read_ms as f64 / 1000.0,
            if process.ended { "" } else { " +" },
        );
        for tier in &view.tiers {
            let peak = snapshot.tiers.iter().find(|t| t.name == tier.name).map_or(0, |t| t.committed_max);
            let class = if peak == 0 { "n zero" } else { "n" };
            let _ = write!(rows, r#"<td class="{class} nowrap">{}</td>"#, Bytes(peak));
        }
        let allocations: u64 = snapshot.tiers.iter().map(|t| t.allocations).sum();
        let fallbacks: u64 = snapshot.tiers.iter().map(|t| t.fallbacks).sum();
        let _ = write!(
            rows,
            r#"<td class="n">{}</td><td class="n">{}</td></tr>"#,
            show_count(allocations),
            show_count(fallbacks)
        );
    }
    let more = processes.len().saturating_sub(ROWS_MAX);
    let note =
        if more > 0 { format!("<p class=\"hint\">{more} more processes are not shown.</p>") } else { String::new() };
    let alive = if processes.iter().all(|p| p.ended) { "" } else { "<p class=\"hint\">+ still ran at the end.</p>" };
    format!(
        r#"<section class="card" id="processes"><div class="head"><h2>Processes</h2></div><div class="scroll"><table><thead><tr><th class="n">Process</th><th class="n">Parent</th><th>Program</th><th class="n">First read</th><th class="n">Last read</th>{heads}<th class="n">Allocations</th><th class="n">Fallbacks</th></tr></thead><tbody>{rows}</tbody></table></div>{note}{alive}</section>
"#
    )
}
