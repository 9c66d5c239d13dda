//! Complaints about a text, each at its place.

use std::fmt::{self, Write as _};
use std::ops::Range;

/// Longest source line that is shown; characters.
const LINE_SHOWN_MAX: usize = 160;

/// One complaint. Lines and columns count from 1; a column counts characters, not bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The line.
    pub line: usize,
    /// The column where the marked text begins.
    pub column: usize,
    /// Characters marked on that line; at least 1.
    pub width: usize,
    /// What is wrong and, where it is not plain, what to write instead.
    pub message: String,
    /// The line's text; of a very long line, the part around the mark.
    pub source: String,
    /// Characters of `source` before the mark.
    indent: usize,
}

/// Everything that is wrong with a file, in the order of its text.
///
/// `Display` prints each complaint as `file:line:column: message`, with the line and a mark under the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    file_name: String,
    entries: Vec<Entry>,
    more: usize,
}

impl FileError {
    /// The complaints; never empty.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The name that the text was parsed under.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The first complaint on one line, for a log: `policy.toml:3:9: unknown tier …`.
    pub fn summary(&self) -> String {
        let Some(first) = self.entries.first() else { return self.file_name.clone() };
        let others = match self.entries.len() + self.more {
            0 | 1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        format!("{}:{}:{}: {}{others}", self.file_name, first.line, first.column, first.message)
    }
}

impl std::error::Error for FileError {}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, entry) in self.entries.iter().enumerate() {
            let Entry { line, column, width, message, source, indent } = entry;
            if i > 0 {
                f.write_char('\n')?;
            }
            let margin = line.to_string().len();
            writeln!(f, "{}:{line}:{column}: {message}", self.file_name)?;
            writeln!(f, "{line:margin$} | {source}")?;
            write!(f, "{:margin$} | {:indent$}{:^>width$}", "", "", "")?;
        }
        if self.more > 0 {
            write!(f, "\n… and {} more", self.more)?;
        }
        Ok(())
    }
}

/// Gathers complaints about one text.
#[derive(Debug)]
pub struct Complaints<'a> {
    text: &'a str,
    found: Vec<(Range<usize>, String)>,
}

/// Complaints that are kept; a file that earns more is something else.
const ENTRIES_MAX: usize = 50;

impl<'a> Complaints<'a> {
    /// None yet about `text`.
    pub const fn about(text: &'a str) -> Self {
        Self { text, found: Vec::new() }
    }

    /// Notes that `message` is true of the bytes `span`.
    pub fn add(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.found.push((span, message.into()));
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The complaints as one error, in the order of the text; `Ok` where there are none.
    ///
    /// # Errors
    /// The complaints.
    pub fn into_result(self, file_name: &str) -> Result<(), FileError> {
        if self.is_empty() { Ok(()) } else { Err(self.into_error(file_name)) }
    }

    /// The complaints as one error, in the order of the text.
    pub(crate) fn into_error(mut self, file_name: &str) -> FileError {
        self.found.sort_by_key(|(span, _)| span.start);
        self.found.dedup();
        let more = self.found.len().saturating_sub(ENTRIES_MAX);
        let kept = self.found.into_iter().take(ENTRIES_MAX);
        let entries = kept.map(|(span, message)| entry(self.text, span, message)).collect();
        FileError { file_name: file_name.to_owned(), entries, more }
    }
}

/// Locates `span` in `text`. Any span is safe: it is moved to the nearest character boundary before it.
fn entry(text: &str, span: Range<usize>, message: String) -> Entry {
    let start = text.floor_char_boundary(span.start);
    let end = text.floor_char_boundary(span.end).max(start);
    let (before, after) = text.split_at(start);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = after.find('\n').map_or(text.len(), |newline| start + newline);
    let chars = |range: Range<usize>| text.get(range).map_or(0, |part| part.chars().count());
    let column = chars(line_start..start) + 1;
    let marked = chars(start..end.min(line_end));
    let (source, indent) = window(text.get(line_start..line_end).unwrap_or_default(), column - 1);
    let width = marked.min(source.chars().count().saturating_sub(indent)).max(1);
    Entry { line: before.matches('\n').count() + 1, column, width, message, source, indent }
}

/// The part of `line` that is shown when character `at` is marked, and where the mark is in it. Control characters
/// become blanks, so that a terminal shows one cell for each and the mark stays under its place.
fn window(line: &str, at: usize) -> (String, usize) {
    let from = if line.chars().count() <= LINE_SHOWN_MAX { 0 } else { at.saturating_sub(LINE_SHOWN_MAX / 2) };
    let shown = line.chars().skip(from).take(LINE_SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c });
    (shown.collect::<String>().trim_end().to_owned(), at - from)
}
