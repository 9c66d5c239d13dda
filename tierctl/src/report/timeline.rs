//! The chart of the tiers over time: an SVG without text in it, so that it can stretch, and labels in HTML around it,
//! so that they cannot.
//!
//! The shapes are written here and not by a plotting library because they take their colours from the page's style
//! sheet (light and dark) and share one time axis with the page's pointer read-out.

use std::fmt::Write as _;

use serde::Serialize;
use tiermem_tiers::Bytes;

use super::html::{Text, script_json, show_duration};
use super::scale::{byte_marks, show_bytes, show_time, time_marks};
use super::view::View;
use crate::events::Weight;
use crate::record::timeline::Moment;

/// Width and height of the drawing in its own units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 300.0;
/// Event marks that are drawn.
const MARKS_MAX: usize = 80;

/// What the pointer read-out needs.
#[derive(Serialize)]
struct ReadOut<'a> {
    span_ms: u64,
    tiers: Vec<&'a str>,
    at_ms: Vec<u64>,
    live: Vec<&'a [u64]>,
    committed: Vec<&'a [u64]>,
    rss: Vec<u64>,
}

/// The section.
pub fn section(view: &View<'_>) -> String {
    if view.points.is_empty() {
        return String::new();
    }
    let span_ms = view.duration_ms().max(view.points.last().map_or(1, |p| p.at_ms));
    let read_out = ReadOut {
        span_ms,
        tiers: view.tiers.iter().map(|t| t.name.as_str()).collect(),
        at_ms: view.points.iter().map(|p| p.at_ms).collect(),
        live: view.points.iter().map(|p| p.live.as_slice()).collect(),
        committed: view.points.iter().map(|p| p.committed.as_slice()).collect(),
        rss: view.points.iter().map(|p| p.rss).collect(),
    };
    format!(
        r#"<section class="card" id="timeline"><div class="head"><h2>Memory over time</h2>{legend}</div>
<input type="radio" name="tl" id="tl-live" checked><input type="radio" name="tl" id="tl-committed">
<div class="switch"><label for="tl-live">Live</label><label for="tl-committed">Committed</label></div>
<p class="hint on-live">Bytes in blocks that the program holds, stacked by tier.</p>
<p class="hint on-committed">Bytes that the tiers have set aside for the program (whole extents, of which it may use a part), stacked by tier.</p>
{live}{committed}{events}
<script type="application/json" id="tl-data">{data}</script></section>
"#,
        legend = legend(view),
        live = plot(view, span_ms, "live", |m| &m.live),
        committed = plot(view, span_ms, "committed", |m| &m.committed),
        events = event_marks(view, span_ms),
        data = script_json(&read_out),
    )
}

/// Names the colours.
pub fn legend(view: &View<'_>) -> String {
    let item = |(i, tier): (usize, &crate::record::TierTotal)| {
        format!(r#"<li><i class="swatch t{i}"></i>{}</li>"#, Text(&tier.name))
    };
    format!(r#"<ul class="legend">{}</ul>"#, view.tiers.iter().enumerate().map(item).collect::<String>())
}

fn plot(view: &View<'_>, span_ms: u64, name: &str, part: impl Fn(&Moment) -> &Vec<u64>) -> String {
    let highest = view.points.iter().map(|m| part(m).iter().sum::<u64>()).max().unwrap_or(0);
    let limit = view.tiers.first().map(|t| t.limit).filter(|&l| l > 0 && view.run.recorded.processes.len() == 1);
    // A limit far above everything would flatten the picture, so it is shown only where it is near.
    let limit = limit.filter(|&l| l <= highest.saturating_mul(2));
    let marks = byte_marks(highest.max(limit.unwrap_or(0)));
    let top = marks.last().copied().unwrap_or(1) as f64;
    let x = |ms: u64| ms as f64 / span_ms as f64 * WIDTH;
    let y = |bytes: u64| HEIGHT - bytes as f64 / top * HEIGHT;

    let mut shapes = String::new();
    for mark in marks.iter().skip(1) {
        let _ = write!(shapes, r#"<line class="grid" x1="0" x2="{WIDTH}" y1="{0:.1}" y2="{0:.1}"/>"#, y(*mark));
    }
    let mut below: Vec<u64> = vec![0; view.points.len()];
    for tier in 0..view.tiers.len() {
        let above: Vec<u64> = view.points.iter().zip(&below).map(|(m, base)| base + part(m)[tier]).collect();
        let upper = view.points.iter().zip(&above).map(|(m, &top)| (x(m.at_ms), y(top)));
        let lower = view.points.iter().zip(&below).rev().map(|(m, &base)| (x(m.at_ms), y(base)));
        let outline: String = upper.clone().chain(lower).map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
        let edge: String = upper.map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
        let _ = write!(shapes, r#"<polygon class="area t{tier}" points="{}"/>"#, outline.trim_end());
        let _ = write!(shapes, r#"<polyline class="edge t{tier}" points="{}"/>"#, edge.trim_end());
        below = above;
    }
    if let Some(limit) = limit {
        let _ = write!(shapes, r#"<line class="limit" x1="0" x2="{WIDTH}" y1="{0:.1}" y2="{0:.1}"/>"#, y(limit));
    }
    let labels: String = marks
        .iter()
        .map(|&m| format!(r#"<span style="bottom:{:.2}%">{}</span>"#, m as f64 / top * 100.0, show_bytes(m)))
        .collect();
    let limit_label = limit.map_or(String::new(), |l| {
        let name = view.tiers.first().map_or("", |t| t.name.as_str());
        let at = l as f64 / top * 100.0;
        format!(r#"<span class="limit-label" style="bottom:{at:.2}%">limit of {} {}</span>"#, Text(name), Bytes(l))
    });
    let times: String = time_marks(span_ms)
        .into_iter()
        .map(|m| format!(r#"<span style="left:{:.2}%">{}</span>"#, m as f64 / span_ms as f64 * 100.0, show_time(m)))
        .collect();
    format!(
        r#"<div class="plot on-{name}" data-part="{name}"><div class="y">{labels}</div><div class="area-box"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{alt}">{shapes}</svg>{limit_label}<div class="cursor" hidden></div><div class="tip" hidden></div></div><div class="x">{times}</div></div>"#,
        alt = Text(&alternative(view, name, span_ms, part)),
    )
}

/// The chart in words, for those who cannot see it.
fn alternative(view: &View<'_>, name: &str, span_ms: u64, part: impl Fn(&Moment) -> &Vec<u64>) -> String {
    let tier = |(i, tier): (usize, &crate::record::TierTotal)| {
        let peak = view.points.iter().map(|m| part(m)[i]).max().unwrap_or(0);
        format!("{} up to {}", tier.name, Bytes(peak))
    };
    let tiers: Vec<String> = view.tiers.iter().enumerate().map(tier).collect();
    format!("{name} bytes over {}: {}", show_duration(span_ms), tiers.join(", "))
}

/// A strip below the chart with a mark for each event that matters.
fn event_marks(view: &View<'_>, span_ms: u64) -> String {
    let mut marks = String::new();
    for event in view.events.iter().filter(|e| e.weight > Weight::Normal).take(MARKS_MAX) {
        let class = if event.weight == Weight::Serious { "serious" } else { "notable" };
        let left = (event.at_ms as f64 / span_ms as f64 * 100.0).clamp(0.0, 100.0);
        let at = show_duration(event.at_ms.unsigned_abs());
        let text = Text(&event.text);
        let _ = write!(marks, r#"<i class="{class}" style="left:{left:.2}%" title="{at}: {text}"></i>"#);
    }
    if marks.is_empty() {
        return String::new();
    }
    format!(
        r##"<div class="marks" aria-hidden="true">{marks}</div><p class="marks-note"><a href="#events">Events</a> at the marks under the axis.</p>"##
    )
}
