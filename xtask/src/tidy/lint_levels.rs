//! `#[expect(lint, reason = "…")]`, never `allow`: an exception that is no longer needed must show.

use super::Finding;
use super::rust::{has_word, lines};
use super::tree::Tree;

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let code: String = lines(&file.text).iter().map(|line| format!("{}\n", line.code)).collect();
        for (line, attribute) in attributes(&code) {
            if has_word(attribute, "allow") {
                let message = "use `expect(lint, reason = \"…\")`, which complains once it is no longer needed";
                findings.push(Finding::error(&file.path, line, message));
            } else if has_word(attribute, "expect") && !has_word(attribute, "reason") {
                findings.push(Finding::error(&file.path, line, "give the exception its `reason = \"…\"`"));
            }
        }
    }
    findings
}

/// Every attribute's line and what stands between its brackets.
fn attributes(code: &str) -> Vec<(usize, &str)> {
    let starts = code.match_indices('#').filter_map(|(at, _)| {
        let rest = code[at + 1..].trim_start_matches('!').trim_start();
        rest.starts_with('[').then(|| code.len() - rest.len())
    });
    starts
        .map(|open| {
            let mut depth = 0;
            let close = code[open..].find(|c| {
                depth += i32::from(c == '[') - i32::from(c == ']');
                depth == 0
            });
            let line = code[..open].matches('\n').count() + 1;
            (line, &code[open..close.map_or(code.len(), |length| open + length)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<usize> {
        check(&Tree::of(&[("sys/src/map.rs", source)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn allow_is_caught_in_every_dress() {
        assert_eq!(found("#[allow(dead_code)]\nfn f() {}"), [1]);
        assert_eq!(found("\n#![allow(dead_code, reason = \"x\")]"), [2]);
        assert_eq!(found("#[cfg_attr(\n  loom,\n  allow(dead_code)\n)]\nfn f() {}"), [1]);
    }

    #[test]
    fn expect_needs_its_reason() {
        assert_eq!(found("#[expect(dead_code)]\nfn f() {}"), [1]);
        assert!(found("#[expect(dead_code, reason = \"used under loom\")]\nfn f() {}").is_empty());
    }

    #[test]
    fn other_code_may_say_allow() {
        assert!(found("// #[allow(x)]\nfn allow(a: &[u8]) { a.expect(\"#[allow]\"); }").is_empty());
    }
}
