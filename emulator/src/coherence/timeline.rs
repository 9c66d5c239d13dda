//! What happened in a run, for people.

use std::fmt;
use std::rc::Rc;

use super::finding::Finding;

/// Something that a host did, or that happened to it.
#[derive(Clone, Debug)]
struct Event {
    step: u32,
    host: usize,
    text: String,
}

/// Collects events, if anybody wants them.
#[derive(Debug, Default)]
pub(super) struct Log {
    wanted: bool,
    events: Vec<Event>,
    end: Option<(u32, String)>,
}

impl Log {
    pub(super) fn wanted() -> Self {
        Self { wanted: true, ..Self::default() }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    pub(super) fn event(&mut self, step: u32, host: usize, text: impl FnOnce() -> String) {
        if self.wanted {
            self.events.push(Event { step, host, text: text() });
        }
    }

    pub(super) fn finding(&mut self, step: u32, finding: &Finding) {
        if self.wanted && self.end.is_none() {
            self.end = Some((step, finding.kind.to_string()));
        }
    }

    pub(super) fn into_timeline(self, names: Vec<Rc<str>>) -> Timeline {
        Timeline { names, events: self.events, end: self.end }
    }
}

/// What the hosts of a run did, step by step, each in a column of its own. Indented lines say what the hardware did.
#[derive(Clone, Debug)]
pub struct Timeline {
    names: Vec<Rc<str>>,
    events: Vec<Event>,
    end: Option<(u32, String)>,
}

/// Widest column.
const WIDTH: usize = 38;

impl Timeline {
    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Column of each host; `None` for those that did nothing.
    fn columns(&self) -> Vec<Option<usize>> {
        let mut next = 0;
        let busy = |host: usize| self.events.iter().any(|event| event.host == host);
        let place = |host| {
            busy(host).then(|| {
                next += 1;
                next - 1
            })
        };
        (0..self.names.len()).map(place).collect()
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.columns();
        let heads: Vec<&str> =
            self.names.iter().zip(&columns).filter(|(_, column)| column.is_some()).map(|(name, _)| &**name).collect();
        write!(f, "step")?;
        for head in &heads {
            write!(f, "  {head:WIDTH$}")?;
        }
        writeln!(f)?;
        let mut last = u32::MAX;
        for event in &self.events {
            let Some(column) = columns.get(event.host).copied().flatten() else { continue };
            for (index, part) in wrap(&event.text).into_iter().enumerate() {
                let step = if index == 0 && event.step != last { event.step.to_string() } else { String::new() };
                let indent = column * (WIDTH + 2);
                writeln!(f, "{step:>4}  {:indent$}{part}", "")?;
            }
            last = event.step;
        }
        match &self.end {
            Some((step, what)) => writeln!(f, "{step:>4}  ^ {what}"),
            None => Ok(()),
        }
    }
}

/// Breaks a text into lines that fit a column; later ones are indented further.
fn wrap(text: &str) -> Vec<String> {
    let own = text.len() - text.trim_start().len();
    let mut lines = vec![" ".repeat(own)];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, String::len);
        if line + 1 + word.len() > WIDTH && line > own + 4 {
            lines.push(" ".repeat(own + 4));
        }
        if let Some(line) = lines.last_mut() {
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Bytes as they are shown in a timeline: eight or fewer as a number, little-endian.
pub(super) fn show(bytes: &[u8]) -> String {
    if bytes.len() <= 8 {
        let mut all = [0; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        return match u64::from_le_bytes(all) {
            small @ ..1000 => small.to_string(),
            large => format!("{large:#x}"),
        };
    }
    match bytes.iter().find(|&&byte| byte != bytes[0]) {
        None => format!("{} times {:#04x}", bytes.len(), bytes[0]),
        Some(_) => {
            let start: String = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("{start}… ({} bytes)", bytes.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_columns_and_long_texts_wrap() {
        let mut log = Log::wanted();
        log.event(1, 0, || "store 0x40..0x48 = 7".to_owned());
        log.event(2, 2, || "load 0x40..0x48 = 0, which takes more room than a column has".to_owned());
        let text = log.into_timeline(vec!["writer".into(), "idle".into(), "reader".into()]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("writer") && lines[0].contains("reader") && !lines[0].contains("idle"), "{text}");
        assert_eq!(lines[1], "   1  store 0x40..0x48 = 7");
        assert!(lines[2].starts_with("   2  ") && lines[2].contains("load"), "{text}");
        assert_eq!(lines.len(), 4, "{text}");
    }

    #[test]
    fn bytes_are_numbers_or_a_beginning() {
        assert_eq!(show(&7_u64.to_le_bytes()), "7");
        assert_eq!(show(&0xFFFF_u64.to_le_bytes()), "0xffff");
        assert_eq!(show(&[9; 64]), "64 times 0x09");
        assert!(show(&[1, 2, 3, 4, 5, 6, 7, 8, 9]).starts_with("0102030405060708…"));
    }
}
