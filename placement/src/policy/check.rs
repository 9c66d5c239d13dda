//! Checks on single names and values, in words that a message can quote.

use tiermem_complaint::units::clip;

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

#[cfg(test)]
mod tests {
    use super::*;

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
