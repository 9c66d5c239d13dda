//! One word for each thing (`docs/glossary.md`). Only the word that is never right is hunted; the others need a reader.

use super::tree::Tree;
use super::{Finding, markdown, rust};

/// A banned word, its plural, and what to say instead. Code may use it: the standard library does.
const BANNED: [(&str, &str, &str); 1] =
    [("chunk", "chunks", "say extent, span, block or OS page, whichever it is (docs/glossary.md)")];
/// These two name the words that they ban.
const EXEMPT: &[&str] = &["docs/glossary.md", "xtask/src/tidy/words.rs"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| !EXEMPT.contains(&file.path.as_str())) {
        let lines: Vec<String> = match file.path.rsplit_once('.') {
            Some((_, "rs")) => rust::lines(&file.text).into_iter().map(|line| without_code(&line.comment)).collect(),
            Some((_, "md")) => markdown::prose(&file.text),
            _ => continue,
        };
        for (index, line) in lines.iter().enumerate() {
            let line = line.to_lowercase();
            for (word, plural, instead) in BANNED {
                if rust::has_word(&line, word) || rust::has_word(&line, plural) {
                    findings.push(Finding::error(&file.path, index + 1, format!("\"{word}\": {instead}")));
                }
            }
        }
    }
    findings
}

/// A comment without its `code spans`.
fn without_code(comment: &str) -> String {
    comment.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(path: &str, text: &str) -> bool {
        !check(&Tree::of(&[(path, text)])).is_empty()
    }

    #[test]
    fn banned_words_are_caught_in_prose() {
        assert!(caught("docs/architecture.md", "Each Chunk is 2 MiB."));
        assert!(caught("sys/src/map.rs", "/// Maps two chunks.\nfn f() {}"));
    }

    #[test]
    fn code_may_use_them() {
        assert!(!caught("docs/architecture.md", "`chunks_exact` and `chunk`"));
        assert!(!caught("sys/src/map.rs", "// as `slice::chunks`\nfor chunk in x.chunks(2) {}"));
        assert!(!caught("sys/src/map.rs", "// chunky"));
    }
}
