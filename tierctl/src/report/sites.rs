//! The allocation sites that filled each tier.

use std::fmt::Write as _;

use tiermem_tiers::Bytes;

use super::html::{Text, percent, show_percent};
use super::view::View;
use crate::record::sites::{Site, relative_error};

/// Sites shown for each tier.
const SITES_SHOWN: usize = 10;
/// Calls shown of each.
const FRAMES_SHOWN: usize = 24;

/// The section.
pub fn section(view: &View<'_>) -> String {
    if view.run.sites.iter().all(|s| s.tiers.iter().all(|t| t.allocated_bytes == 0)) {
        return String::new();
    }
    let tiers: String = (0..view.tiers.len()).map(|tier| of_tier(view, tier)).collect();
    format!(
        r#"<section class="card" id="sites"><div class="head"><h2>Who allocated</h2></div>
<p class="hint">Call sites by the bytes that they allocated in each tier over the whole run, estimated from samples; ± is one standard error, and live is what was not freed by the end. Open a site for its calls.</p>
<div class="site-lists">{tiers}</div></section>
"#
    )
}

fn of_tier(view: &View<'_>, tier: usize) -> String {
    let bytes = |site: &Site| site.allocated(tier);
    let total: u64 = view.run.sites.iter().map(bytes).sum();
    let mut sites: Vec<&Site> = view.run.sites.iter().filter(|s| bytes(s) > 0).collect();
    sites.sort_by_key(|s| std::cmp::Reverse(bytes(s)));
    let highest = sites.first().map_or(0, |s| bytes(s));
    let mut items = String::new();
    for site in sites.iter().take(SITES_SHOWN) {
        items.push_str(&item(site, tier, total, highest));
    }
    let rest: u64 = sites.iter().skip(SITES_SHOWN).map(|s| bytes(s)).sum();
    if rest > 0 {
        let count = sites.len() - SITES_SHOWN;
        let plural = if count == 1 { "site" } else { "sites" };
        let (size, share) = (Bytes(rest), show_percent(rest, total));
        let _ = write!(items, r#"<li class="rest">{count} more {plural}: {size} ({share})</li>"#);
    }
    if items.is_empty() {
        items.push_str(r#"<li class="rest">No sampled allocation went here.</li>"#);
    }
    let name = Text(&view.tiers[tier].name);
    let size = Bytes(total);
    format!(
        r#"<div class="site-list tone{tier}"><h3><i class="swatch t{tier}"></i>{name} <small>about {size} in all</small></h3><ol>{items}</ol></div>"#
    )
}

fn item(site: &Site, tier: usize, total: u64, highest: u64) -> String {
    let bytes = site.allocated(tier);
    let caller = site.stack.get(site.caller);
    let (name, module) = match caller {
        Some(frame) => match &frame.symbol {
            Some(symbol) => (symbol.clone(), frame.module.clone()),
            None => (frame.to_string(), String::new()),
        },
        None => ("(unknown)".to_owned(), String::new()),
    };
    let from = site.stack.get(site.caller + 1).and_then(|f| f.symbol.as_deref());
    let context = match (module.as_str(), from) {
        ("", None) => String::new(),
        ("", Some(from)) => format!("from {}", Text(from)),
        (module, None) => Text(module).to_string(),
        (module, Some(from)) => format!("{} · from {}", Text(module), Text(from)),
    };
    let live = match site.live(tier) {
        0 => String::new(),
        live => format!(" · {} live", Bytes(live)),
    };
    let calls: String =
        site.stack.iter().take(FRAMES_SHOWN).map(|f| format!("<li>{}</li>", Text(&f.to_string()))).collect();
    format!(
        r#"<li><details><summary><span class="fn">{}</span><span class="mod">{}</span><span class="amount">{} <small>{} · ±{}{live}</small></span><span class="bar"><i style="width:{:.2}%"></i></span></summary><ol class="calls">{calls}</ol></details></li>"#,
        Text(&name),
        context,
        Bytes(bytes),
        show_percent(bytes, total),
        error_band(site, tier),
        percent(bytes, highest),
    )
}

/// One standard error of the estimate, of its size. The samples of a site that went to this tier are taken to be its share of
/// the bytes.
fn error_band(site: &Site, tier: usize) -> String {
    let all: u64 = site.tiers.iter().map(|t| t.allocated_bytes).sum();
    let samples = site.samples as f64 * site.allocated(tier) as f64 / all.max(1) as f64;
    let objects = site.tiers.get(tier).map_or(0.0, |t| t.allocated_objects);
    format!("{:.0} %", 100.0 * relative_error(samples, objects))
}
