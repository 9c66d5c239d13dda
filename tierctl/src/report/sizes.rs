//! The histogram of block sizes, stacked by tier, and the table behind it.

use std::fmt::Write as _;

use tiermem_tiers::Bytes;

use super::html::{Text, show_count};
use super::timeline::legend;
use super::view::{SizeRow, View, by_power_of_two};
use crate::summary::group_thousands;

/// The section.
pub fn section(view: &View<'_>) -> String {
    if view.sizes.is_empty() {
        return String::new();
    }
    let groups = by_power_of_two(&view.sizes);
    format!(
        r#"<section class="card" id="sizes"><div class="head"><h2>Block sizes</h2>{legend}</div>
<input type="radio" name="sz" id="sz-count" checked><input type="radio" name="sz" id="sz-live">
<div class="switch"><label for="sz-count">Allocations</label><label for="sz-live">Live bytes</label></div>
<p class="hint on-count">Blocks allocated during the whole run, by size.</p>
<p class="hint on-live">Bytes that the processes still held at their last reading, by block size.</p>
{count}{live}
<details><summary>All size classes as a table</summary><div class="scroll">{table}</div></details></section>
"#,
        legend = legend(view),
        count = columns(view, &groups, "count", |row| &row.allocations, show_count),
        live = columns(view, &groups, "live", |row| &row.live_bytes, |n| Bytes(n).to_string()),
        table = table(view),
    )
}

fn columns(
    view: &View<'_>,
    rows: &[SizeRow],
    name: &str,
    part: impl Fn(&SizeRow) -> &Vec<u64>,
    show: impl Fn(u64) -> String,
) -> String {
    let highest = rows.iter().map(|r| part(r).iter().sum::<u64>()).max().unwrap_or(0);
    if highest == 0 {
        return format!(r#"<p class="empty on-{name}">Nothing was held at the end.</p>"#);
    }
    let mut bars = String::new();
    for row in rows {
        let values = part(row);
        let sum: u64 = values.iter().sum();
        let mut pieces = String::new();
        let mut told = Vec::new();
        for (tier, &value) in values.iter().enumerate().filter(|(_, v)| **v > 0) {
            let height = value as f64 / highest as f64 * 100.0;
            let _ = write!(pieces, r#"<i class="t{tier}" style="height:{height:.3}%"></i>"#);
            told.push(format!("{} {}", view.tiers[tier].name, show(value)));
        }
        let label = size_label(row.block_size);
        let title = format!("{label}: {}", if told.is_empty() { "none".to_owned() } else { told.join(", ") });
        let total = if sum > 0 { show(sum) } else { String::new() };
        let _ = write!(
            bars,
            r#"<div class="col" title="{}"><div class="stack">{pieces}<b>{total}</b></div><span>{}</span></div>"#,
            Text(&title),
            short_size(row.block_size)
        );
    }
    format!(r#"<div class="hist-scroll on-{name}"><div class="hist">{bars}</div></div>"#)
}

fn size_label(size: u64) -> String {
    if size == 0 { "large blocks".to_owned() } else { format!("up to {}", Bytes(size)) }
}

/// `512`, `4K`, `1M`, `large`: there is little room under a column.
fn short_size(size: u64) -> String {
    match size {
        0 => "large".to_owned(),
        s if s >= 1 << 30 => format!("{}G", s >> 30),
        s if s >= 1 << 20 => format!("{}M", s >> 20),
        s if s >= 1 << 10 => format!("{}K", s >> 10),
        s => s.to_string(),
    }
}

fn table(view: &View<'_>) -> String {
    let mut head = String::from("<tr><th rowspan=\"2\">Block size</th>");
    let mut second = String::from("<tr>");
    for tier in &view.tiers {
        let _ = write!(head, r#"<th colspan="3" class="group">{}</th>"#, Text(&tier.name));
        second.push_str("<th class=\"n\">Allocated</th><th class=\"n\">Live</th><th class=\"n\">Live bytes</th>");
    }
    let mut body = String::new();
    for row in &view.sizes {
        let size =
            if row.block_size == 0 { "large".to_owned() } else { format!("{} B", group_thousands(row.block_size)) };
        let _ = write!(body, "<tr><td>{size}</td>");
        for tier in 0..view.tiers.len() {
            let bytes = Bytes(row.live_bytes[tier]);
            for cell in [group_thousands(row.allocations[tier]), group_thousands(row.live[tier]), bytes.to_string()] {
                let class = if cell == "0" || cell == "0 B" { "n zero" } else { "n" };
                let _ = write!(body, r#"<td class="{class}">{cell}</td>"#);
            }
        }
        body.push_str("</tr>");
    }
    format!("<table><thead>{head}</tr>{second}</tr></thead><tbody>{body}</tbody></table>")
}
