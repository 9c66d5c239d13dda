//! What a guest's kernel wrote on its console: whether it panicked, and how.

/// How many lines of a panic are shown.
const LINES_MAX: usize = 60;

/// The panic with its trace; `None` if there was none.
pub fn panic(console: &str) -> Option<String> {
    let lines: Vec<&str> = console.lines().collect();
    let at = lines.iter().position(|line| line.contains("Kernel panic - not syncing"))?;
    // What led to it stands before it: the cut-here line, a BUG or an oops.
    let starts = ["cut here", "BUG:", "Oops:", "general protection fault", "Unable to handle"];
    let before = lines[at.saturating_sub(LINES_MAX)..at].iter();
    let begin =
        before.rev().position(|line| starts.iter().any(|start| line.contains(start))).map_or(at, |back| at - 1 - back);
    let end = lines[at..].iter().position(|line| line.contains("end Kernel panic")).map_or(lines.len(), |n| at + n + 1);
    let shown = &lines[begin..end.min(begin + 2 * LINES_MAX)];
    Some(shown.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n"))
}

/// The last lines, for a guest that said nothing else.
pub fn tail(console: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = console.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::{panic, tail};

    const CONSOLE: &str = "boot\n[1.0] BUG: unable to handle page fault\n[1.0] Call Trace:\n[1.0]  f+0x1\n\
                           [1.1] Kernel panic - not syncing: Fatal exception\n[1.1] Call Trace:\n[1.1]  g+0x2\r\n\
                           [1.2] ---[ end Kernel panic - not syncing: Fatal exception ]---\nlater\n";

    #[test]
    fn a_panic_is_shown_with_what_led_to_it() {
        let shown = panic(CONSOLE).unwrap();
        assert!(shown.starts_with("[1.0] BUG:") && shown.ends_with("]---"), "{shown}");
        assert!(shown.contains("g+0x2") && !shown.contains("later") && !shown.contains('\r'));
        assert_eq!(panic("all is well\n"), None);
    }

    #[test]
    fn the_tail_is_short() {
        let text: String = (0..100).map(|n| format!("line {n}\n\n")).collect();
        assert_eq!(tail(&text).lines().count(), 12);
        assert!(tail(&text).ends_with("line 99"));
    }
}
