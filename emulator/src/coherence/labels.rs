//! What the parts of a pool are called, for people.

use std::ops::Range;

use crate::cache::LINE;

/// Names of ranges, in the order of the pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels(Vec<(Range<u64>, String)>);

impl Labels {
    pub(super) fn add(&mut self, range: Range<u64>, name: String) {
        self.0.push((range, name));
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
    }

    /// A range by its name, as all from one to another, or as a part of the smallest around it; or by its offsets.
    pub(super) fn place(&self, range: &Range<u64>) -> String {
        let Range { start, end } = *range;
        let around = self.closest(range);
        if let Some((_, name)) = around.filter(|(label, _)| label == range) {
            return name.clone();
        }
        let first = self.0.iter().find(|(label, _)| label.start == start && label.end < end);
        let last = self.0.iter().find(|(label, _)| label.end == end && label.start > start);
        match (first, last, around) {
            (Some((_, first)), Some((_, last)), _) => format!("{first} to {last}"),
            (_, _, Some((label, name))) => format!("{name}[{}..{}]", start - label.start, end - label.start),
            _ => format!("{start:#x}..{end:#x}"),
        }
    }

    /// The smallest that has all of a range.
    fn closest(&self, range: &Range<u64>) -> Option<&(Range<u64>, String)> {
        let around = |(label, _): &&(Range<u64>, String)| label.start <= range.start && range.end <= label.end;
        self.0.iter().filter(around).min_by_key(|(label, _)| label.end - label.start)
    }

    /// A byte, by what it is part of.
    pub(super) fn byte(&self, offset: u64) -> String {
        match self.closest(&(offset..offset + 1)) {
            Some((label, name)) => format!("{name}[{}]", offset - label.start),
            None => format!("{offset:#x}"),
        }
    }

    /// A line, with the names of what lies in it.
    pub(super) fn line(&self, line: usize) -> String {
        let at = line as u64 * LINE..(line as u64 + 1) * LINE;
        let there = self.0.iter().filter(|(label, _)| label.start < at.end && at.start < label.end);
        let inside = there.clone().filter(|(label, _)| at.start <= label.start && label.end <= at.end);
        let mut names: Vec<&str> = inside.map(|(_, name)| name.as_str()).collect();
        if names.is_empty() {
            names.extend(self.closest(&at).or(there.clone().next()).map(|(_, name)| name.as_str()));
        }
        match names.is_empty() {
            true => format!("line {line}"),
            false => format!("line {line} ({})", names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_names() {
        let mut labels = Labels::default();
        labels.add(64..192, "slot".to_owned());
        labels.add(0..192, "all".to_owned());
        labels.add(0..8, "lock".to_owned());
        labels.add(8..16, "head".to_owned());
        let places =
            [0..8, 64..192, 128..136, 0..16, 8..192, 16..64, 0..192, 64..256].map(|range| labels.place(&range));
        assert_eq!(
            places,
            ["lock", "slot", "slot[64..72]", "lock to head", "head to slot", "all[16..64]", "all", "0x40..0x100"]
        );
        assert_eq!([0, 1, 3].map(|line| labels.line(line)), ["line 0 (lock, head)", "line 1 (slot)", "line 3"]);
        assert_eq!([70, 20].map(|offset| labels.byte(offset)), ["slot[6]", "all[20]"]);
    }
}
