//! Byte counts and bandwidths as people write them, and text for messages. All exact: no floating point.

/// Digits that a number may have; more are an error rather than a rounding.
const DIGITS_MAX: usize = 20;

/// Splits `1.5 GiB` into the number's digits, its fraction's digits and the unit, trimmed.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| (1..=DIGITS_MAX).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    (digits(whole) && digits(fraction)).then_some((whole, fraction, unit.trim()))
}

/// `whole.fraction × factor`, rounded down; `None` over `u64::MAX`. Exact: 20 digits times 2^50 fit 128 bits.
fn scaled(whole: &str, fraction: &str, factor: u64) -> Option<u64> {
    let factor = u128::from(factor);
    let whole = whole.parse::<u128>().ok()?.checked_mul(factor)?;
    let part = fraction.parse::<u128>().ok()?.checked_mul(factor)? / 10u128.pow(u32::try_from(fraction.len()).ok()?);
    u64::try_from(whole.checked_add(part)?).ok()
}

/// The power of ten or two that a prefix such as `k` or `Gi` stands for.
fn factor(prefix: &str, kilo: u64) -> Option<u64> {
    let (letter, kilo) = match prefix.strip_suffix('i') {
        Some(letter) if !letter.is_empty() => (letter, 1024),
        _ => (prefix, kilo),
    };
    let power = match letter {
        "" => 0,
        "k" | "K" => 1,
        "m" | "M" => 2,
        "g" | "G" => 3,
        "t" | "T" => 4,
        "p" | "P" => 5,
        _ => return None,
    };
    Some(kilo.pow(power))
}

/// Parses `4G`, `512 MiB`, `1.5m`, `65536`: units are binary, whether or not the `i` is written.
///
/// # Errors
/// What is wrong with it, in words.
///
/// ```
/// use tiermem_complaint::units::parse_bytes;
/// assert_eq!(parse_bytes("1.5 GiB"), Ok(3 << 29));
/// assert!(parse_bytes("lots").unwrap_err().contains("not a size"));
/// ```
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let help = || format!("`{}` is not a size; write for example \"64 KiB\", \"1.5 GiB\" or 4096", clip(text));
    let (whole, fraction, unit) = split(text).ok_or_else(help)?;
    let prefix = unit.strip_suffix(['b', 'B']).unwrap_or(unit);
    let factor = factor(prefix, 1024).ok_or_else(help)?;
    scaled(whole, fraction, factor).ok_or_else(|| format!("`{}` is more than 64 bits can count", clip(text)))
}

/// `bytes` in the largest binary unit that divides it; [`parse_bytes`] gives the same number back.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let exact = |&&(_, shift): &&(&str, u32)| bytes != 0 && bytes.trailing_zeros() >= shift && bytes >> shift > 0;
    let (unit, shift) = UNITS.iter().find(exact).unwrap_or(&("B", 0));
    format!("{} {unit}", bytes >> shift)
}

/// Parses `12 GB/s` (decimal, as bandwidths are quoted) and `11.5 GiB/s` (binary), as bytes per second.
///
/// # Errors
/// In words: not a bandwidth, or zero.
pub fn parse_bandwidth(text: &str) -> Result<u64, String> {
    let help = || format!("`{}` is not a bandwidth; write for example \"12 GB/s\"", clip(text));
    let (whole, fraction, unit) = split(text).ok_or_else(help)?;
    let unit = unit.strip_suffix("/s").ok_or_else(help)?.trim_end();
    let factor = unit.strip_suffix('B').and_then(|prefix| factor(prefix, 1000)).ok_or_else(help)?;
    match scaled(whole, fraction, factor) {
        Some(0) => Err("a bandwidth must be more than 0".to_owned()),
        Some(bandwidth) => Ok(bandwidth),
        None => Err(help()),
    }
}

/// Text from a file, shortened for a message.
pub fn clip(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let shown: String = text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if shown.len() < text.len() && text.chars().count() > SHOWN_MAX { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65536),
            ("4G", 4 << 30),
            (" 512 MiB ", 512 << 20),
            ("1.5m", 3 << 19),
            ("2 kB", 2048),
            ("1 B", 1),
            ("0.1k", 102),
            ("18446744073709551615", u64::MAX),
            ("3 P", 3 << 50),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "B", "k", "-1", "1e3", "1 i", "1 iB", "1..2", ".5", "1.", "4 GG", "99999999 P", "1 BB", "0x10"]
        {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_shown_is_read_back(a in any::<u64>(), shift in 0u32..64) {
            prop_assert_eq!(parse_bytes(&show_bytes(a >> shift)), Ok(a >> shift));
        }

        #[test]
        fn no_text_is_too_strange(text in any::<String>(), sized in "[0-9]{0,24}[.]?[0-9]{0,24} ?[kKMGTPEiB/s]{0,5}") {
            for text in [text, sized] {
                let _ = (parse_bytes(&text), parse_bandwidth(&text));
                prop_assert!(clip(&text).chars().count() <= 61);
            }
        }
    }
}
