//! What every page must have, and must never have.

use super::{example, render};
use crate::record::{Recorded, RunRecord};

/// Elements that have no end tag.
const VOID: [&str; 2] = ["meta", "input"];

/// Walks through the tags and sees that each one that opens is closed, in order.
fn assert_nested(page: &str) {
    let mut open: Vec<String> = Vec::new();
    let mut rest = page.strip_prefix("<!doctype html>").expect("a page begins with its type");
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap().to_owned();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()) && !name.is_empty(), "odd tag <{tag}>");
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "before {:.80}", rest);
        } else if name == "script" || name == "style" {
            // Their content is not markup.
            let close = format!("</{name}>");
            let end = rest.find(&close).expect("scripts and styles end");
            rest = &rest[end + close.len()..];
        } else if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<String>::new());
}

/// Set `TIERCTL_TEST_REPORTS` to a folder to look at the pages.
fn keep(name: &str, page: &str) {
    if let Some(folder) = std::env::var_os("TIERCTL_TEST_REPORTS") {
        std::fs::write(std::path::Path::new(&folder).join(name), page).unwrap();
    }
}

fn pages() -> [(&'static str, RunRecord); 3] {
    let bare = RunRecord { recorded: Recorded::default(), sites: Vec::new(), ..example::server() };
    [("server.html", example::server()), ("two.html", example::two_processes()), ("bare.html", bare)]
}

#[test]
fn pages_are_whole_and_need_nothing_else() {
    for (name, run) in pages() {
        let page = render(&run);
        keep(name, &page);
        assert_nested(&page);
        assert_eq!(page, render(&run), "the same run must give the same page");
        for outside in ["http:", "https:", "src=", "@import", "url(", "<link", "<iframe", "fetch("] {
            assert!(!page.contains(outside), "{name} refers to the outside: {outside}");
        }
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"));
        assert!(page.len() < 400_000, "{name} has {} bytes", page.len());
        for odd in ["NaN", "inf%", "None", "Some("] {
            assert!(!page.contains(odd), "{name} shows {odd}");
        }
    }
}

#[test]
fn every_part_is_there() {
    let page = render(&example::server());
    for part in ["tiers", "kernel", "timeline", "sizes", "sites", "events"] {
        assert!(page.contains(&format!(r#"id="{part}""#)), "section {part} is missing");
    }
    assert!(!page.contains(r#"id="processes""#), "one process needs no table");
    for text in [
        "redis-server --port 7777 --save &#39;&#39; --appendonly no",
        "2026-03-01 14:05:09 UTC",
        "exit code 0",
        "--tier slow=dax-file:/dev/shm/slow,size=4G",
        "limit of dram 64 MiB",
        "process 4242 (<code>redis-server</code>) was resident",
        "file of slow",
        "although the allocator placed it on the slower tier",
        "sdsnewlen",
        "dictAddRaw+0x7c (redis-server)",
        "libssl.so.3+0x1f3a0",
        "173 readings",
        "at most 203 ms apart",
        "older events were overwritten",
        r#""format":"tiermem-run/1""#,
    ] {
        assert!(page.contains(text), "{text:?} is missing");
    }
    let svg_areas = page.matches(r#"<polygon class="area"#).count();
    assert_eq!(svg_areas, 4, "two tiers, live and committed");
}

#[test]
fn several_processes_are_listed_and_their_text_is_harmless() {
    let page = render(&example::two_processes());
    assert!(page.contains(r#"id="processes""#) && page.contains("2 processes"));
    assert!(page.contains("&lt;b&gt;&amp;evil") && !page.contains("<b>&evil"));
    assert!(!page.contains("<script>alert(1)"));
    assert!(page.contains("killed by signal 11") && page.contains("2 readings failed"));
    assert!(page.contains("got a null pointer") && page.contains("kind serious"));
    assert!(!page.contains("limit of dram"), "a limit of each process is no line in a sum of several");
}

#[test]
fn a_run_without_figures_says_so() {
    let run = RunRecord { recorded: Recorded::default(), sites: Vec::new(), ..example::server() };
    let page = render(&run);
    assert!(page.contains("No figures") && !page.contains(r#"id="timeline""#));
}

#[test]
fn estimates_show_their_error() {
    let page = render(&example::server());
    // 620 samples, 288 of 319 MiB on the slow tier: 1/√560 is 4 %.
    assert!(page.contains("±4 %"), "the largest site");
    assert!(page.contains("±100 %"), "a site with one sample");
    assert!(page.contains("· 144 MiB live"), "half of the largest site");
}
