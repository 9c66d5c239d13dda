//! Standard output: JSON for programs, aligned tables for people.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::exit::{Exit, Failure};

/// Where and how a verb prints its result.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    json_wanted: bool,
}

/// A JSON document with its kind and version in front.
#[derive(Serialize)]
pub struct Versioned<'a, T: Serialize> {
    /// Kind and version, for example `tiermem-stat/1`.
    pub format: &'a str,
    /// The document; serialises as an object.
    #[serde(flatten)]
    pub value: &'a T,
}

impl Output {
    /// JSON if asked for or if standard output is not a terminal.
    pub fn new(json_wanted: bool) -> Self {
        Self { json: json_wanted || !io::stdout().is_terminal(), json_wanted }
    }

    /// Whether to print JSON.
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// Whether JSON was asked for by name, for what goes elsewhere than to standard output.
    pub const fn json_wanted(self) -> bool {
        self.json_wanted
    }

    /// `value` as [`Output::json`] prints it.
    ///
    /// # Errors
    /// If it cannot be represented in JSON.
    pub fn document<T: Serialize>(format: &str, value: &T) -> Result<String, Failure> {
        serde_json::to_string_pretty(&Versioned { format, value })
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot write {format}: {e}")))
    }

    /// Prints `value`, which must serialise as an object, as one indented JSON document. `format` (for example
    /// `tiermem-stat/1`) becomes its first field; its number grows when a field changes its meaning or goes away, not
    /// when one is added.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn json<T: Serialize>(self, format: &str, value: &T) -> Result<(), Failure> {
        self.text(&Self::document(format, value)?)
    }

    /// As [`Output::json`] on one line, for a stream of documents (`--watch`).
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn json_line<T: Serialize>(self, format: &str, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(&Versioned { format, value })
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot write {format}: {e}")))?;
        self.text(&text)
    }

    /// Prints text, ending it with a newline if it has none. A reader that went away (`| head`) is no error: the
    /// process ends quietly, as SIGPIPE would have it.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn text(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let newline = if text.ends_with('\n') { "" } else { "\n" };
        match out.write_all(text.as_bytes()).and_then(|()| out.write_all(newline.as_bytes())).and_then(|()| out.flush())
        {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::new(Exit::Command(141), "")),
            Err(error) => Err(Failure::from_io("cannot write to standard output", &error)),
        }
    }
}

/// To which side a column's cells are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Figures.
    Right,
}

/// Rows of cells, printed in aligned columns two blanks apart. (A library would bring borders, wrapping and colours
/// that are not wanted here; this is all that is.)
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column headings.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Self { columns: columns.iter().map(|&(name, align)| (name.to_owned(), align)).collect(), rows: Vec::new() }
    }

    /// Adds a row. Missing cells are blank; an empty cell prints as `-`.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// The table as text, one line a row, without blanks at the ends of lines.
    pub fn render(&self) -> String {
        let headings: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(&self.rows).collect();
        let width = |column: usize| lines.iter().filter_map(|l| l.get(column)).map(|c| cell_width(c)).max();
        let widths: Vec<usize> = (0..self.columns.len()).map(|c| width(c).unwrap_or(0)).collect();
        let mut text = String::new();
        for line in lines {
            let mut row = String::new();
            for (cell, (&width, (_, align))) in line.iter().zip(widths.iter().zip(&self.columns)) {
                let cell = if cell.is_empty() { "-" } else { cell };
                let padding = " ".repeat(width.saturating_sub(cell_width(cell)));
                match align {
                    Align::Left => row.extend([cell, &padding, "  "]),
                    Align::Right => row.extend([&padding, cell, "  "]),
                }
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }
}

fn cell_width(cell: &str) -> usize {
    cell.chars().count().max(1)
}

#[cfg(test)]
mod tests {
    use super::{Align, Table};

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(&[("TIER", Align::Left), ("LIVE", Align::Right), ("NOTE", Align::Left)]);
        table.row(["dram", "1.5 GiB", "full"]).row(["µ-slow", "7 B", ""]).row(["x", "", ""]);
        let expected = "TIER       LIVE  NOTE\ndram    1.5 GiB  full\nµ-slow      7 B  -\nx             -  -\n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn a_table_without_rows_is_its_headings() {
        assert_eq!(Table::new(&[("A", Align::Left), ("B", Align::Right)]).render(), "A  B\n");
    }
}
