//! Stacks folded into lines, and the flame graph drawn from them.

use std::collections::BTreeMap;

use inferno::flamegraph::{self, Options, Palette, color::BasicPalette};
use tiermem_tiers::Bytes;

use super::{Measure, Profile};
use crate::exit::{Exit, Failure};
use crate::symbols::Frame;

/// One line for each stack, `tier;outermost;…;innermost bytes`: the form of Brendan Gregg's FlameGraph tools.
pub fn folded(profile: &Profile, measure: Measure) -> String {
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for site in &profile.sites {
        let calls: Vec<String> = site.stack.iter().rev().map(label).collect();
        let calls = if calls.is_empty() { vec!["(unknown)".to_owned()] } else { calls };
        for (tier, figures) in profile.tiers.iter().zip(&site.tiers) {
            let bytes = measure.bytes(figures);
            if bytes > 0 {
                *lines.entry(format!("{tier};{}", calls.join(";"))).or_default() += bytes;
            }
        }
    }
    lines.into_iter().map(|(stack, bytes)| format!("{stack} {bytes}\n")).collect()
}

/// A call's name without what varies within a function; semicolons and line breaks separate stacks.
fn label(frame: &Frame) -> String {
    let name = match &frame.symbol {
        Some(symbol) => symbol.clone(),
        None => frame.to_string(),
    };
    name.replace([';', '\n', '\r'], ":")
}

/// The flame graph, as an SVG that can be searched and zoomed in a browser.
///
/// # Errors
/// [`Exit::NotFound`] if there is nothing to draw.
pub fn graph(profile: &Profile, measure: Measure) -> Result<Vec<u8>, Failure> {
    let folded = folded(profile, measure);
    if folded.is_empty() {
        let what = format!("the profile has no {} bytes to draw", measure.word());
        return Err(Failure::new(Exit::NotFound, what));
    }
    let mut options = Options::default();
    options.title = format!("{} ({}): bytes {}, by tier", profile.command, profile.pid, measure.word());
    options.subtitle =
        Some(format!("about {} in all; {}", Bytes(profile.total(measure)), profile.coverage_text().join("; ")));
    options.count_name = "bytes".to_owned();
    options.colors = Palette::Basic(BasicPalette::Mem);
    // The same call has the same colour in every picture.
    options.hash = true;
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, folded.lines(), &mut svg)
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot draw the flame graph: {e}")))?;
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::{Measure, folded, graph};
    use crate::exit::Exit;
    use crate::profile::tests::profile;

    #[test]
    fn stacks_are_folded_by_tier() {
        assert_eq!(
            folded(&profile(), Measure::Allocated),
            "dram;prog+0x303;prog+0x202;prog+0x101 6400\nslow;prog+0x303;prog+0x202;prog+0x101 640\nslow;prog+0x404 4000\n"
        );
        let live = folded(&profile(), Measure::Live);
        assert_eq!(live, "dram;prog+0x303;prog+0x202;prog+0x101 3200\nslow;prog+0x404 4000\n");
    }

    #[test]
    fn names_cannot_break_the_lines() {
        let mut odd = profile();
        odd.sites[1].stack[0].symbol = Some("operator;\nnew 7".into());
        assert!(folded(&odd, Measure::Live).contains("slow;operator::new 7 4000\n"));
        odd.sites[1].stack.clear();
        assert!(folded(&odd, Measure::Live).contains("slow;(unknown) 4000\n"));
    }

    #[test]
    fn the_graph_names_calls_and_covers_the_total() {
        let svg = String::from_utf8(graph(&profile(), Measure::Allocated).unwrap()).unwrap();
        for part in ["prog+0x404", "11,040 bytes", "sampling began 3.2 s", "slow (4,640 bytes"] {
            assert!(svg.contains(part), "{part:?} is missing");
        }
        let mut empty = profile();
        empty.sites.clear();
        assert_eq!(graph(&empty, Measure::Live).unwrap_err().exit, Exit::NotFound);
    }
}
