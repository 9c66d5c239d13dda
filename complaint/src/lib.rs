//! Files that people write, read so that every mistake is named at its place.
//!
//! A reader [opens](read) a TOML text, takes [typed values](table) out of it and notes whatever is wrong as
//! [`Complaints`], going on as far as it can. What comes out is the value, or one [`FileError`] that shows each complaint
//! with file, line, column and a mark under the place.
//!
//! ```
//! use tiermem_complaint::{read, table, table::Table};
//! let read = |text| {
//!     read(text, "my.toml", 1000, "a greeting", |root, complaints| {
//!         let root = Table::new(root, 0..0, "the greeting", &["name"], complaints);
//!         root.get("name").and_then(|value| table::string(value, "a name", complaints)).map(str::to_owned)
//!     })
//! };
//! assert_eq!(read("name = 'Ada'").unwrap().as_deref(), Some("Ada"));
//! let error = read("names = 'Ada'").unwrap_err();
//! assert_eq!((error.entries()[0].line, error.entries()[0].column), (1, 1));
//! assert!(error.to_string().contains("did you mean `name`?"));
//! ```

mod error;
mod suggestion;
pub mod table;
pub mod units;

pub use error::{Complaints, Entry, FileError};
pub use suggestion::suggestion;

use toml::de::DeTable;

/// Reads `text` as TOML and hands its root to `reader`, which notes what is wrong with it. `file_name` appears in the
/// complaints only; a text of more than `len_max` bytes is no `what` ("a policy") and is not looked at.
///
/// # Errors
/// Everything that is wrong: not TOML, or what `reader` complains of.
pub fn read<T>(
    text: &str,
    file_name: &str,
    len_max: usize,
    what: &str,
    reader: impl FnOnce(&DeTable<'_>, &mut Complaints<'_>) -> T,
) -> Result<T, FileError> {
    let mut complaints = Complaints::about(text);
    if text.len() > len_max {
        complaints.add(0..0, format!("{} bytes are not {what}: at most {len_max} are read", text.len()));
        return Err(complaints.into_error(file_name));
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        complaints.add(error.span().unwrap_or(0..0), format!("invalid TOML: {}", error.message()));
    }
    // What a broken text seems to say is not worth judging.
    if !complaints.is_empty() {
        return Err(complaints.into_error(file_name));
    }
    let value = reader(root.get_ref(), &mut complaints);
    complaints.into_result(file_name).map(|()| value)
}

/// Like [`read`], for what was read from a file and may be anything.
///
/// # Errors
/// As [`read`]; also where the bytes are not UTF-8.
pub fn read_bytes<T>(
    bytes: &[u8],
    file_name: &str,
    len_max: usize,
    what: &str,
    reader: impl FnOnce(&DeTable<'_>, &mut Complaints<'_>) -> T,
) -> Result<T, FileError> {
    let error = match str::from_utf8(bytes) {
        Ok(text) => return read(text, file_name, len_max, what, reader),
        Err(error) => error,
    };
    // The text before the error is the same in both forms, so the place is too.
    let readable = bytes.get(..bytes.len().min(len_max)).unwrap_or_default();
    let text = String::from_utf8_lossy(readable);
    let mut complaints = Complaints::about(&text);
    complaints.add(error.valid_up_to()..error.valid_up_to(), format!("not {what}: this is not UTF-8 text"));
    Err(complaints.into_error(file_name))
}
