//! Finding `libtiermem_instrument.so`.

use std::env;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// File name of the run time.
pub const NAME: &str = "libtiermem_instrument.so";
/// Names another one.
const VARIABLE: &str = "TIERMEM_INSTRUMENT_LIBRARY";

/// Finds the run time: `asked` (from `--library`), else `$TIERMEM_INSTRUMENT_LIBRARY`, else beside this executable, then in
/// `../lib/tiermem/` and `../lib/` seen from there. Its canonical path.
///
/// # Errors
/// With code 125, naming every place that was tried.
pub fn find(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    let named = asked.map(Path::to_path_buf).or_else(|| env::var_os(VARIABLE).map(PathBuf::from));
    let tried = match named {
        Some(path) => vec![path],
        None => {
            let executable = env::current_exe().map_err(|e| {
                Failure::new(Exit::Command(125), format!("cannot tell where tierctl is installed: {e}"))
            })?;
            let folder = executable.parent().unwrap_or(Path::new("/"));
            ["", "../lib/tiermem", "../lib"].map(|place| folder.join(place).join(NAME)).to_vec()
        }
    };
    // Programs are linked with it under its own name.
    let usable = |path: &PathBuf| path.is_file() && path.file_name().is_some_and(|name| name == NAME);
    let found = tried.iter().find(|path| usable(path)).and_then(|path| path.canonicalize().ok());
    found.ok_or_else(|| {
        let places: Vec<String> = tried.iter().map(|p| format!("  {}", p.display())).collect();
        Failure::new(
            Exit::Command(125),
            format!(
                "{NAME} is missing. These places were tried:\n{}\nBuild it with `cargo build --release -p \
                 tiermem-instrument`, and put it beside tierctl or name it with --library or ${VARIABLE}.",
                places.join("\n")
            ),
        )
    })
}
