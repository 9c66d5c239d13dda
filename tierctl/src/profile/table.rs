//! The largest sites as a table for people, and all of them as JSON.

use serde::Serialize;
use tiermem_tiers::Bytes;

use super::{Measure, Profile, Site};
use crate::output::{Align, Table};

/// Sites in the table.
const SITES_SHOWN: usize = 20;

/// `tiermem-profile/1`. Sizes in bytes, estimated; sites with most bytes first.
#[derive(Debug, Serialize)]
pub struct Document {
    pid: u32,
    command: String,
    interval: u64,
    since_ms: u64,
    off_ms: u64,
    at_ms: u64,
    window_ms: Option<u64>,
    lost: u64,
    coverage: Vec<String>,
    sites: Vec<SiteDocument>,
}

#[derive(Debug, Serialize)]
struct SiteDocument {
    samples: u64,
    relative_error: f64,
    caller: usize,
    stack: Vec<CallDocument>,
    tiers: Vec<TierDocument>,
}

#[derive(Debug, Serialize)]
struct CallDocument {
    address: u64,
    symbol: Option<String>,
    offset: u64,
    module: String,
}

#[derive(Debug, Serialize)]
struct TierDocument {
    name: String,
    allocated_objects: f64,
    allocated: u64,
    live_objects: f64,
    live: u64,
}

/// The sites, those with most bytes first.
fn sorted(profile: &Profile, measure: Measure) -> Vec<&Site> {
    let mut sites: Vec<&Site> = profile.sites.iter().collect();
    // The other measure and the addresses break ties, so that the same profile gives the same list.
    sites.sort_by_key(|site| {
        let bytes = [measure, Measure::Allocated].map(|m| std::cmp::Reverse(site.bytes(m)));
        (bytes, site.addresses.clone())
    });
    sites
}

/// All of it, for programs.
pub fn document(profile: &Profile, measure: Measure) -> Document {
    let coverage = &profile.coverage;
    Document {
        pid: profile.pid,
        command: profile.command.clone(),
        interval: coverage.interval,
        since_ms: coverage.since_ms,
        off_ms: coverage.off_ms,
        at_ms: coverage.at_ms,
        window_ms: coverage.window_ms,
        lost: coverage.lost,
        coverage: profile.coverage_text(),
        sites: sorted(profile, measure).into_iter().map(|site| site_document(profile, site)).collect(),
    }
}

fn site_document(profile: &Profile, site: &Site) -> SiteDocument {
    let calls = site.addresses.iter().zip(&site.stack).map(|(&address, frame)| CallDocument {
        address,
        symbol: frame.symbol.clone(),
        offset: frame.offset,
        module: frame.module.clone(),
    });
    let used = profile.tiers.iter().zip(&site.tiers).filter(|(_, t)| t.allocated_bytes > 0 || t.live_bytes > 0);
    let tiers = used.map(|(name, figures)| TierDocument {
        name: name.clone(),
        allocated_objects: figures.allocated_objects,
        allocated: figures.allocated_bytes,
        live_objects: figures.live_objects,
        live: figures.live_bytes,
    });
    SiteDocument {
        samples: site.samples,
        relative_error: site.relative_error(),
        caller: site.caller,
        stack: calls.collect(),
        tiers: tiers.collect(),
    }
}

/// The largest sites, a line for each, and what the figures cover.
pub fn text(profile: &Profile, measure: Measure) -> String {
    let mut headings = vec![("LIVE".to_owned(), Align::Right), ("ALLOCATED".to_owned(), Align::Right)];
    headings.push(("±".to_owned(), Align::Right));
    headings.extend(
        profile.tiers.iter().map(|name| (format!("{} IN {name}", measure.word().to_uppercase()), Align::Right)),
    );
    headings.push(("SITE".to_owned(), Align::Left));
    let borrowed: Vec<(&str, Align)> = headings.iter().map(|(name, align)| (name.as_str(), *align)).collect();
    let mut table = Table::new(&borrowed);
    let sites = sorted(profile, measure);
    for site in sites.iter().take(SITES_SHOWN) {
        let size = |bytes: u64| if bytes == 0 { String::new() } else { Bytes(bytes).to_string() };
        let mut row = vec![size(site.bytes(Measure::Live)), size(site.bytes(Measure::Allocated))];
        row.push(format!("{:.0} %", 100.0 * site.relative_error()));
        row.extend(site.tiers.iter().map(|figures| size(measure.bytes(figures))));
        row.push(place(site));
        table.row(row);
    }
    let mut text = format!(
        "{} ({}): about {} live, {} allocated\n",
        profile.pid,
        profile.command,
        Bytes(profile.total(Measure::Live)),
        Bytes(profile.total(Measure::Allocated))
    );
    profile.coverage_text().iter().for_each(|line| text.push_str(&format!("{line}\n")));
    text.push_str(&table.render());
    if sites.len() > SITES_SHOWN {
        text.push_str(&format!("{} more sites\n", sites.len() - SITES_SHOWN));
    }
    text
}

/// Who allocated, and from where.
fn place(site: &Site) -> String {
    let name = |at: usize| site.stack.get(at).map(|frame| frame.symbol.clone().unwrap_or_else(|| frame.to_string()));
    match (name(site.caller), name(site.caller + 1)) {
        (Some(caller), Some(from)) => format!("{caller} from {from}"),
        (Some(caller), None) => caller,
        (None, _) => "(unknown)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Measure, document, text};
    use crate::output::Output;
    use crate::profile::tests::profile;

    #[test]
    fn people_see_the_largest_sites_first() {
        let text = text(&profile(), Measure::Live);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "7 (prog): about 7.0 KiB live, 10.8 KiB allocated");
        assert!(lines[2].starts_with("   LIVE  ALLOCATED     ±  LIVE IN dram"), "{text}");
        assert!(lines[3].ends_with("prog+0x404") && lines[4].ends_with("prog+0x101 from prog+0x202"), "{text}");
    }

    #[test]
    fn the_json_form_is_stable() {
        let text = Output::document("tiermem-profile/1", &document(&profile(), Measure::Live)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(&value), "at_ms command coverage format interval lost off_ms pid since_ms sites window_ms");
        assert_eq!(keys(&value["sites"][0]), "caller relative_error samples stack tiers");
        assert_eq!(keys(&value["sites"][0]["stack"][0]), "address module offset symbol");
        assert_eq!(keys(&value["sites"][0]["tiers"][0]), "allocated allocated_objects live live_objects name");
        assert_eq!(value["sites"][0]["tiers"][0]["live"], 4000);
    }
}
