//! Every function that a document names as `file.rs::function` exists in that file.
//!
//! A document that tells the course of the code by its functions is worth something only while they are there. The
//! file may be given by the end of its path, as long as only one file ends so (tests and benchmarks apart, which must
//! not make a document ambiguous); a method as `file.rs::Type::method`.

use super::Finding;
use super::rust::{has_word, is_word, lines};
use super::tree::{File, Tree};

/// What stands between the file and the function.
const MARK: &str = ".rs::";
/// Folders whose files are not what documents tell of.
const APART: [&str; 3] = ["tests", "benches", "fuzz"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.markdown() {
        for (index, line) in file.text.lines().enumerate() {
            let missing = references(line).filter_map(|name| missing(tree, name).map(|why| (name, why)));
            findings
                .extend(missing.map(|(name, why)| Finding::error(&file.path, index + 1, format!("`{name}`: {why}"))));
        }
    }
    findings
}

/// The names of functions in a line, code blocks included: a drawing must be true as well.
fn references(line: &str) -> impl Iterator<Item = &str> {
    let of_name = |c: char| is_word(c) || matches!(c, '/' | '.' | ':' | '-');
    line.split(move |c| !of_name(c)).map(|name| name.trim_end_matches(['.', ':'])).filter(|name| name.contains(MARK))
}

/// Why there is no such function, if there is none.
fn missing(tree: &Tree, name: &str) -> Option<String> {
    let (stem, path_in_file) = name.split_once(MARK)?;
    let path = format!("{stem}.rs");
    let ends_so = |file: &&File| {
        let here = file.path.strip_suffix(&path).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
        here && !file.path.split('/').any(|part| APART.contains(&part))
    };
    let found: Vec<&File> = tree.rust().filter(ends_so).collect();
    let [file] = found[..] else {
        return Some(match found.len() {
            0 => "there is no such file".to_owned(),
            count => format!("{count} files end so; write more of the path"),
        });
    };
    let (scope, function) = path_in_file.rsplit_once("::").unwrap_or(("", path_in_file));
    let code: Vec<String> = lines(&file.text).into_iter().map(|line| line.code).collect();
    let has = |word: &str| code.iter().any(|line| has_word(line, word));
    let scope_exists = scope.split("::").filter(|word| !word.is_empty()).all(has);
    let defined = code.iter().any(|line| defines(line, function));
    (!scope_exists || !defined).then(|| format!("{} has no such function", file.path))
}

/// Whether the line begins the definition of this function.
fn defines(line: &str, function: &str) -> bool {
    line.match_indices("fn ").any(|(at, mark)| {
        let name = &line[at + mark.len()..];
        !line[..at].ends_with(is_word)
            && name.strip_prefix(function).is_some_and(|rest| !function.is_empty() && !rest.starts_with(is_word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let heap = "// fn old()\nimpl Heap {\n    pub fn take_all(&self) {}\n}\nconst TEXT: &str = \"fn quoted()\";\n";
        let tree = Tree::of(&[
            ("a/src/heap.rs", heap),
            ("a/src/free.rs", "unsafe extern \"C\" fn free<T>() {}"),
            ("b/src/free.rs", "fn other() {}"),
            ("a/tests/heap.rs", "fn gone() {}"),
            ("docs/a.md", text),
        ]);
        check(&tree).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn functions_that_are_not_there_are_caught() {
        assert_eq!(found("`heap.rs::gone`"), ["`heap.rs::gone`: a/src/heap.rs has no such function"]);
        assert_eq!(
            found("`heap.rs::Pool::take_all`"),
            ["`heap.rs::Pool::take_all`: a/src/heap.rs has no such function"]
        );
        assert_eq!(found("`heap.rs::old`").len(), 1, "a comment is no function");
        assert_eq!(found("`heap.rs::quoted`").len(), 1, "nor is text");
        assert_eq!(found("`heap.rs::take`").len(), 1, "nor is half a name");
        assert_eq!(found("`span.rs::take`"), ["`span.rs::take`: there is no such file"]);
        assert_eq!(found("`free.rs::free`"), ["`free.rs::free`: 2 files end so; write more of the path"]);
        assert_eq!(found("```text\nheap.rs::gone ──► x\n```").len(), 1, "drawings count");
    }

    #[test]
    fn functions_that_are_there_pass() {
        let text =
            "`heap.rs::take_all`, `src/heap.rs::Heap::take_all`.\n`a/src/free.rs::free`: `free.rs` alone, `Vec::new`";
        assert!(found(text).is_empty());
    }
}
