//! The report of a run: one HTML page that needs nothing else. It works offline, in light and dark, on a phone, on
//! paper, and without scripts (which only add the read-out under the pointer).
//!
//! [`render`] is a pure function of the record, so the same run always gives the same page.

#[cfg(test)]
pub mod example;
mod head;
mod html;
mod kernel;
mod scale;
mod sites;
mod sizes;
mod tables;
#[cfg(test)]
mod tests;
mod timeline;
mod view;

use crate::output::Versioned;
use crate::record::RunRecord;
use crate::summary::{self, RUN_FORMAT, group_thousands};
use html::{Text, script_json};
use view::View;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub fn render(run: &RunRecord) -> String {
    let view = View::new(run);
    let body = if view.tiers.is_empty() {
        NO_FIGURES.to_owned()
    } else {
        [
            head::tiers(&view),
            kernel::section(&view),
            timeline::section(&view),
            sizes::section(&view),
            sites::section(&view),
            tables::events(&view),
            tables::processes(&view),
        ]
        .concat()
    };
    let program = run.command.first().map_or("run", |c| c.rsplit('/').next().unwrap_or(c));
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="tierctl {version}">
<title>{title} – tiermem run report</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
{banner}
{body}{method}
</main>
<script type="application/json" id="run-data">{data}</script>
<script>
{SCRIPT}</script>
</body>
</html>
"#,
        version = env!("CARGO_PKG_VERSION"),
        title = Text(program),
        banner = head::banner(&view),
        method = method(&view),
        data = script_json(&Versioned { format: RUN_FORMAT, value: &summary::document(run) }),
    )
}

const NO_FIGURES: &str = r#"<section class="card"><h2>No figures</h2><p>No process of this run published any: it ended before it allocated, it does not use the C library's malloc, or it ignored LD_PRELOAD.</p></section>
"#;

/// How the figures were obtained, and how far they can be trusted.
fn method(view: &View<'_>) -> String {
    let sampling = view.run.recorded.sampling;
    let mut notes = vec![format!(
        "<b>Counters</b> (allocations, frees, fallbacks, returned, committed peak of a process) are kept by the allocator \
         in each process and read when it ended."
    )];
    let merged = match view.run.recorded.timeline.readings_per_moment {
        0 | 1 => String::new(),
        n => format!(" To stay small, each stored moment keeps the highest of {n} readings."),
    };
    notes.push(format!(
        "<b>The timeline and live peaks</b> come from {} readings of the processes’ control segments, at most {} ms apart. \
         What rose and fell between two readings is not in them, so a live peak may have been higher.{merged}",
        group_thousands(sampling.rounds),
        group_thousands(sampling.interval_ms_max),
    ));
    notes.push(
        "<b>The kernel’s count</b> is taken twice a second, less often where it would cost more than a twenty-fifth of the time, \
         and only from processes that live long enough for one. It sees OS pages that were touched, the allocator counts \
         bytes that it handed out."
            .to_owned(),
    );
    notes.push(
        "<b>Sites</b> are sampled, a block the likelier the larger it is, and weighted accordingly. ± is one standard error \
         of the bytes allocated; about one figure in three is further off than that. Names come from the symbol tables of the \
         programs and libraries."
            .to_owned(),
    );
    if view.run.recorded.processes.len() > 1 {
        notes.push(
            "<b>Several processes</b>: sums of the processes. Memory that a child shares with its parent after a fork \
             counts for both. The committed peak of a tier is the most that one reading saw, or one process’s own peak if \
             that is higher."
                .to_owned(),
        );
    }
    if sampling.failures > 0 {
        let failures = group_thousands(sampling.failures);
        notes.push(format!("{failures} readings failed (a segment was not ready, or changed while it was copied)."));
    }
    if sampling.sites_dropped > 0 {
        let dropped = group_thousands(sampling.sites_dropped);
        notes.push(format!("The sites of {dropped} processes are not included: there were too many to keep."));
    }
    let notes: String = notes.iter().map(|n| format!("<li>{n}</li>")).collect();
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#"<footer><h2>How these figures were obtained</h2><ul>{notes}</ul><p class="made">tierctl {version}. The figures of this page are in it as JSON (<code>#run-data</code>).</p></footer>"#
    )
}
