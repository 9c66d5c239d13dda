//! Each room tells in about five lines what it is.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

/// What each room's README says, in this order, one item of a list each.
const ITEMS: [&str; 5] = ["Lives here", "Used by", "May use", "Unsafe", "Start at"];
/// "About five lines": more belongs in the book.
const LINES_MAX: usize = 24;

pub fn check(tree: &Tree) -> Vec<Finding> {
    rooms(tree).into_iter().filter_map(|room| judge(tree, room)).collect()
}

/// Every folder with a package in it.
fn rooms(tree: &Tree) -> BTreeSet<&str> {
    tree.files.iter().filter_map(|file| file.path.strip_suffix("/Cargo.toml")).collect()
}

fn judge(tree: &Tree, room: &str) -> Option<Finding> {
    let path = format!("{room}/README.md");
    let Some(file) = tree.get(&path) else {
        return Some(Finding::error(&path, 0, "this room needs a README of five lines"));
    };
    let missing = ITEMS.iter().find(|item| !file.text.lines().any(|line| line.starts_with(&format!("- **{item}:**"))));
    if let Some(item) = missing {
        return Some(Finding::error(&path, 0, format!("say `- **{item}:** …` ({})", ITEMS.join(", "))));
    }
    let lines = file.text.lines().count();
    (lines > LINES_MAX)
        .then(|| Finding::error(&path, 0, format!("{lines} lines (at most {LINES_MAX}); move the rest to docs/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readme() -> String {
        ITEMS.iter().map(|item| format!("- **{item}:** x\n")).collect()
    }

    fn found(readme: Option<&str>) -> usize {
        let mut files = vec![("sys/Cargo.toml", "")];
        files.extend(readme.map(|text| ("sys/README.md", text)));
        check(&Tree::of(&files)).len()
    }

    #[test]
    fn a_room_without_its_five_lines_is_caught() {
        assert_eq!(found(None), 1);
        assert_eq!(found(Some("# sys\nsome words")), 1);
        assert_eq!(found(Some(&format!("{}{}", readme(), "more\n".repeat(LINES_MAX)))), 1);
        assert_eq!(found(Some(&readme())), 0);
    }
}
