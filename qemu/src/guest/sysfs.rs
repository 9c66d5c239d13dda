//! Reading and writing the kernel's attributes, with errors that say what the kernel said.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// How long hardware gets to appear after its driver was loaded.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An attribute's text without the newline at its end; `None` if it is not there or cannot be read.
pub fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// A number, decimal or with `0x`.
pub fn number(path: impl AsRef<Path>) -> Option<u64> {
    let text = read(path)?;
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Writes an attribute.
///
/// # Errors
/// [`ErrorKind::BringUp`] with the attribute, the value and the kernel's error.
pub fn write(path: impl AsRef<Path>, value: impl AsRef<str>) -> Result<()> {
    let (path, value) = (path.as_ref(), value.as_ref());
    fs::write(path, value).map_err(|error| refused(&format!("{} = {value}", path.display()), &error.to_string()))
}

/// A refusal of the kernel's.
pub fn refused(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::BringUp, format!("the guest's kernel refuses {what}: {why}"))
}

/// Waits until `look` finds something.
///
/// # Errors
/// [`ErrorKind::BringUp`] after [`PATIENCE`], naming `what`.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed() > PATIENCE {
            let why = format!("waited {} s in the guest for {what}", PATIENCE.as_secs());
            return Err(Error::new(ErrorKind::BringUp, why));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The entries of a folder, sorted by name.
pub fn entries(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// The last part of a path.
pub fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Where a link leads, if it is one.
pub fn target(link: impl AsRef<Path>) -> Option<PathBuf> {
    fs::canonicalize(link).ok()
}

#[cfg(test)]
mod tests {
    use super::{entries, number, read, write};
    use crate::ErrorKind;

    #[test]
    fn attributes_are_read_as_the_kernel_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("size");
        write(&path, "0x100\n").unwrap();
        assert_eq!((read(&path).as_deref(), number(&path)), (Some("0x100"), Some(256)));
        write(&path, "17\n").unwrap();
        assert_eq!(number(&path), Some(17));
        assert_eq!(entries(folder.path()), [path]);
        assert_eq!(read("/nonexistent"), None);
    }

    #[test]
    fn a_refusal_names_the_attribute_the_value_and_the_reason() {
        let error = write("/proc/self/status/x", "7").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BringUp);
        assert!(error.to_string().contains("/proc/self/status/x = 7: Not a directory"), "{error}");
    }
}
