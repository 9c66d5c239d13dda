//! The kernel's own count of where the memory was, beside the allocator's figures.

use std::fmt::Write as _;

use tiermem_tiers::Bytes;

use super::html::{Text, show_duration, show_percent};
use super::view::View;
use crate::record::kernel::Residence;

/// The table of the process that held most; nothing if the run was too short to be counted.
pub fn section(view: &View<'_>) -> String {
    let Some(process) = view.run.largest() else { return String::new() };
    let snapshot = &process.snapshot;
    let first = process.kernel.last.as_ref();
    let heads: String = first.iter().flat_map(|r| &r.tiers).map(|t| head(view, &t.name)).collect();
    let rows: String = process.kernel.shown().map(|(when, residence)| row(when, residence)).collect();
    let copies = if process.kernel.shown().any(|(_, r)| r.copied > 0) { COPIES } else { "" };
    format!(
        r#"<section class="card" id="kernel"><div class="head"><h2>The kernel’s count</h2></div><p class="hint">What of process {} (<code>{}</code>) was resident, from <code>/proc/PID/smaps</code>.</p><div class="scroll"><table><thead><tr><th>When</th><th class="n">Anonymous</th><th class="n">of that copies</th>{heads}<th class="n">Program files</th></tr></thead><tbody>{rows}</tbody></table></div>{copies}</section>
"#,
        snapshot.pid,
        Text(&snapshot.command),
    )
}

const COPIES: &str = r#"<p class="hint">Copies: a fork makes a tier’s file copy-on-write. What is written there afterwards is copied to anonymous memory, so it lies in DRAM although the allocator placed it on the slower tier. The rest of the file counts again once the program touches it.</p>"#;

/// A tier's column. A tier of the command line that no process opened has no colour.
fn head(view: &View<'_>, name: &str) -> String {
    let swatch = view.tiers.iter().position(|t| t.name == name);
    let swatch = swatch.map_or(String::new(), |i| format!(r#"<i class="swatch t{i}"></i>"#));
    format!(r#"<th class="n nowrap">{swatch}file of {}</th>"#, Text(name))
}

fn row(when: &str, residence: &Residence) -> String {
    let data = residence.data();
    let mut cells = String::new();
    let tiers = residence.tiers.iter().map(|t| t.resident);
    for bytes in [residence.anonymous, residence.copied].into_iter().chain(tiers) {
        let class = if bytes == 0 { "n zero" } else { "n" };
        let _ = write!(
            cells,
            r#"<td class="{class}" title="{} of the data">{}</td>"#,
            show_percent(bytes, data),
            Bytes(bytes)
        );
    }
    let at = show_duration(residence.at_ms);
    format!(r#"<tr><td class="nowrap">{when} ({at})</td>{cells}<td class="n">{}</td></tr>"#, Bytes(residence.files))
}
