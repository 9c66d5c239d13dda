//! Small pieces of HTML.

use std::fmt;

use tiermem_tiers::Bytes;

/// Text made safe to stand in an element or in a quoted attribute.
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Not allowed in HTML, and of no use to a reader.
                c if c.is_control() && c != '\n' && c != '\t' => f.write_str("\u{fffd}")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// JSON made safe to stand in a `<script>` element, where nothing is unescaped but `</script` ends it.
pub fn script_json(value: &impl serde::Serialize) -> String {
    // Only maps with keys that are no text, and failing implementations, cannot be written.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()).replace('<', "\\u003c")
}

/// A part of a whole in percent; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// A percentage for people: whole numbers, more exact below 10, never a rounded 0 or 100 for what is neither.
pub fn show_percent(part: u64, whole: u64) -> String {
    match percent(part, whole) {
        _ if part == 0 => "0 %".to_owned(),
        _ if part == whole => "100 %".to_owned(),
        p if p < 0.1 => "&lt; 0.1 %".to_owned(),
        p if p < 9.95 => format!("{p:.1} %"),
        p if p > 99.0 => "&gt; 99 %".to_owned(),
        p => format!("{p:.0} %"),
    }
}

/// Milliseconds for people: `850 ms`, `12.3 s`, `4 min 05 s`, `2 h 07 min`.
pub fn show_duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..100_000 => format!("{:.1} s", ms as f64 / 1000.0),
        100_000..7_200_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A count for people: exact below ten thousand, then `12.3 k`, `4.56 M`.
pub fn show_count(n: u64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    if n < 10_000 {
        return crate::summary::group_thousands(n);
    }
    let n = n as f64;
    let (scale, unit) = UNITS.into_iter().find(|&(scale, _)| n >= scale * 0.9995).unwrap_or((1.0, ""));
    let scaled = n / scale;
    let digits = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
    format!("{scaled:.digits$} {unit}")
}

/// Bytes with their unit set a little smaller.
pub fn big_bytes(bytes: u64) -> String {
    let text = Bytes(bytes).to_string();
    match text.split_once(' ') {
        Some((number, unit)) => format!("{number}<small>{unit}</small>"),
        None => text,
    }
}

/// A date and time in UTC, `2026-03-01 14:05:09 UTC`, from seconds since 1970. (Civil-from-days after Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".)
pub fn show_date(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::{Text, script_json, show_count, show_date, show_duration, show_percent};

    #[test]
    fn text_cannot_break_out() {
        assert_eq!(Text("<a href='x'>&\"\u{1b}").to_string(), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}");
        assert_eq!(script_json(&"</script>"), "\"\\u003c/script>\"");
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(show_date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(show_date(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(show_date(1_772_373_909), "2026-03-01 14:05:09 UTC");
    }

    #[test]
    fn figures_are_short_and_not_wrong() {
        assert_eq!(
            ["850 ms", "1.5 s", "2 min 05 s", "3 h 00 min"],
            [850, 1500, 125_000, 10_800_000].map(show_duration)[..]
        );
        assert_eq!(show_percent(1, 1_000_000), "&lt; 0.1 %");
        assert_eq!(show_percent(999_999, 1_000_000), "&gt; 99 %");
        assert_eq!([show_percent(0, 0), show_percent(1, 3), show_percent(3, 3)], ["0 %", "33 %", "100 %"]);
        assert_eq!([9_999, 12_345, 999_999, 4_560_000].map(show_count), ["9,999", "12.3 k", "1.00 M", "4.56 M"]);
    }
}
