//! Every relative link in the documents leads to a file that exists, every anchor to a heading.

use super::Finding;
use super::markdown::{anchors, links};
use super::tree::{File, Tree};

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.markdown()
        .flat_map(|file| {
            links(&file.text).into_iter().filter_map(|(line, to)| {
                broken(tree, file, &to).map(|why| Finding::error(&file.path, line, format!("link to `{to}`: {why}")))
            })
        })
        .collect()
}

fn broken(tree: &Tree, from: &File, target: &str) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { Some(from.path.clone()) } else { resolve(&from.path, path) };
    let Some(path) = path else { return Some("leads out of the project") };
    if !tree.has(&path) {
        return Some("there is no such file");
    }
    match (anchor, tree.get(&path)) {
        (Some(anchor), Some(file)) if path.ends_with(".md") && !anchors(&file.text).iter().any(|a| a == anchor) => {
            Some("there is no such heading")
        }
        _ => None,
    }
}

/// The path that `target`, written in the file `from`, means; `None` if it leads out of the project.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let tree = Tree::of(&[("docs/a.md", text), ("docs/b.md", "# One two"), ("README.md", "")]);
        check(&tree).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn dead_links_and_anchors_are_caught() {
        assert_eq!(found("[x](c.md)"), ["link to `c.md`: there is no such file"]);
        assert_eq!(found("[x](b.md#three)"), ["link to `b.md#three`: there is no such heading"]);
        assert_eq!(found("# Me\n[x](#you)"), ["link to `#you`: there is no such heading"]);
        assert_eq!(found("[x](../../etc)"), ["link to `../../etc`: leads out of the project"]);
    }

    #[test]
    fn living_ones_pass() {
        assert!(
            found("# Me\n[x](b.md#one-two) [y](#me) [z](../README.md) [r](../docs/) [w](https://a.example)").is_empty()
        );
    }
}
