//! What the writer of a wrong word may have meant.

/// `; did you mean …?` where one of `known` is close to `word`, else the list of them.
pub fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
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
}
