//! Checks on single names and values, in words that a message can quote.

use super::units::clip;

/// The longest tier name.
const NAME_LEN_MAX: usize = 23;

/// Longest `source`, symbol or module pattern; bytes.
pub(super) const TEXT_LEN_MAX: usize = 1024;

/// What is wrong with `name` as a tier's name, if anything.
pub(super) fn name_complaint(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(allowed);
    (!well_formed || name.len() > NAME_LEN_MAX).then(|| {
        let rule = format!("1 to {NAME_LEN_MAX} of A-Z a-z 0-9 . _ -, beginning with a letter");
        format!("`{}` cannot name a tier: a name is {rule}", clip(name))
    })
}

/// What is wrong with `source` as a tier's source, if anything. What is in it is not for this crate to judge.
pub(super) fn source_complaint(source: &str) -> Option<String> {
    text_complaint(source, "the source is KIND[:WHERE][,key=value…], for example \"dax-file:/dev/shm/slow,size=4G\"")
}

/// What is wrong with `text` as a text that must say something, if anything; `help` says what it should.
pub(super) fn text_complaint(text: &str, help: &str) -> Option<String> {
    if text.trim().is_empty() {
        Some(format!("empty: {help}"))
    } else if text.len() > TEXT_LEN_MAX {
        Some(format!("{} bytes long; at most {TEXT_LEN_MAX} make sense", text.len()))
    } else if text.chars().any(char::is_control) {
        Some(format!("holds a control character: {help}"))
    } else {
        None
    }
}

/// `; did you mean …?` where one of `known` is close to `word`, else the list of them.
pub(super) fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let close = known.clone().map(|candidate| (distance(word, candidate), candidate)).min();
    match close {
        Some((edits, candidate)) if edits <= 1 + candidate.len() / 4 => format!("; did you mean `{candidate}`?"),
        _ => {
            let list: Vec<String> = known.map(|candidate| format!("`{candidate}`")).collect();
            format!("; known: {}", list.join(", "))
        }
    }
}

/// Edits between two words: insertions, removals, replacements and swaps of neighbours (optimal string alignment),
/// letter case aside.
fn distance(a: &str, b: &str) -> usize {
    /// A longer word is close to nothing here.
    const LEN_MAX: usize = 40;
    if a.len() > LEN_MAX || b.len() > LEN_MAX {
        return usize::MAX;
    }
    let (a, b) = (a.to_ascii_lowercase().into_bytes(), b.to_ascii_lowercase().into_bytes());
    let mut rows: [Vec<usize>; 3] = [Vec::new(), Vec::new(), (0..=b.len()).collect()];
    for (i, &x) in a.iter().enumerate() {
        rows.rotate_left(1);
        let [older, above, row] = &mut rows;
        row.clear();
        row.push(i + 1);
        for (j, &y) in b.iter().enumerate() {
            let mut edits = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                edits = edits.min(older[j - 1] + 1);
            }
            row.push(edits);
        }
    }
    rows[2][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_match_the_definition() {
        for (a, b, edits) in [
            ("", "", 0),
            ("dram", "dram", 0),
            ("drum", "dram", 1),
            ("darm", "dram", 1),
            ("slow", "", 4),
            ("Slow", "slo", 1),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn names_are_checked() {
        for good in ["a", "dram", "cxl-node.1_x", &"n".repeat(23)] {
            assert_eq!(name_complaint(good), None, "{good}");
        }
        for bad in ["", "1st", "-x", "a b", "é", "a/b", &"n".repeat(24)] {
            assert!(name_complaint(bad).is_some(), "{bad}");
        }
    }
}
