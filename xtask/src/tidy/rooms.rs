//! Each room tells in about five lines what it is.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

/// What each room's README tells, each known by a word that its line begins with, in bold.
const ITEMS: [(&str, &[&str]); 5] = [
    ("what lives here", &["**lives here"]),
    ("who may use it", &["**used by", "**may be used by"]),
    ("what it may use", &["**may use"]),
    ("where unsafe code is allowed", &["**unsafe"]),
    ("where to start", &["**start"]),
];
/// These use anything, are used by nothing and may hold unsafe code: two items are enough. Packages inside of them are
/// no rooms.
const OUTERMOST: [&str; 4] = ["tests", "benches", "fuzz", "xtask"];
/// "About five lines": more belongs in the book.
const LINES_MAX: usize = 24;

pub fn check(tree: &Tree) -> Vec<Finding> {
    rooms(tree).into_iter().filter_map(|room| judge(tree, room)).collect()
}

/// Every folder with a package in it.
fn rooms(tree: &Tree) -> BTreeSet<&str> {
    let folders = tree.files.iter().filter_map(|file| file.path.strip_suffix("/Cargo.toml"));
    folders.filter(|folder| !OUTERMOST.iter().any(|outer| is_below(folder, outer))).collect()
}

fn is_below(folder: &str, outer: &str) -> bool {
    folder.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

fn judge(tree: &Tree, room: &str) -> Option<Finding> {
    let path = format!("{room}/README.md");
    let Some(file) = tree.get(&path) else {
        return Some(Finding::error(&path, 0, "this room needs a README of five lines"));
    };
    let text = file.text.to_lowercase();
    let needed = |index: usize| !OUTERMOST.contains(&room) || index == 0 || index == ITEMS.len() - 1;
    let missing =
        ITEMS.iter().enumerate().find(|(index, (_, words))| needed(*index) && !words.iter().any(|w| text.contains(w)));
    if let Some((_, (what, words))) = missing {
        return Some(Finding::error(&path, 0, format!("tell {what}, in a line that begins with \"{}…\"", words[0])));
    }
    let lines = file.text.lines().count();
    (lines > LINES_MAX)
        .then(|| Finding::error(&path, 0, format!("{lines} lines (at most {LINES_MAX}); move the rest to docs/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readme(items: &[(&str, &[&str])]) -> String {
        items.iter().map(|(_, words)| format!("- {}:** x\n", words[0])).collect()
    }

    fn found(room: &str, readme: Option<&str>) -> usize {
        let (manifest, path) = (format!("{room}/Cargo.toml"), format!("{room}/README.md"));
        let mut files = vec![(manifest.as_str(), "")];
        files.extend(readme.map(|text| (path.as_str(), text)));
        check(&Tree::of(&files)).len()
    }

    #[test]
    fn a_room_without_its_five_lines_is_caught() {
        let full = readme(&ITEMS);
        assert_eq!(found("sys", None), 1);
        assert_eq!(found("sys", Some("# sys\nsome words")), 1);
        assert_eq!(found("sys", Some(&readme(&ITEMS[1..]))), 1);
        assert_eq!(found("sys", Some(&format!("{full}{}", "more\n".repeat(LINES_MAX)))), 1);
        assert_eq!(found("sys", Some(&full)), 0);
    }

    #[test]
    fn the_judging_rooms_need_less() {
        assert_eq!(found("benches", None), 1);
        assert_eq!(found("benches", Some(&readme(&[ITEMS[0], ITEMS[4]]))), 0);
        assert_eq!(found("benches/rivals", None), 0);
        assert_eq!(found("tiers/discovery", None), 1);
    }
}
