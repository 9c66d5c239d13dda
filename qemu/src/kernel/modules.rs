//! Which modules are needed, and in what order they can be loaded.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection};

use super::unpacked;
use crate::error::{Context, Error, ErrorKind, Result};

/// A module, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, with `_` and never `-`.
    pub name: String,
    /// Names of the modules that must be there before it.
    pub depends: Vec<String>,
    /// The module itself, unpacked.
    pub contents: Vec<u8>,
}

/// The modules `wanted` and what they depend on, each after what it needs. Wanted ones that this kernel does not have are
/// left out: they may be built in, and what really lacks shows when it is loaded.
///
/// # Errors
/// [`ErrorKind::BadInput`] for files that are no modules; those of the file system.
pub fn closure(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut known = BTreeMap::new();
    find(&folder.join("kernel"), &mut known)?;
    let mut chosen = Vec::new();
    for name in wanted {
        add(&name.replace('-', "_"), &known, &mut chosen)?;
    }
    Ok(chosen)
}

fn add(name: &str, known: &BTreeMap<String, PathBuf>, chosen: &mut Vec<Module>) -> Result<()> {
    let Some(path) = known.get(name) else { return Ok(()) };
    if chosen.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let contents = unpacked(fs::read(path).at(path)?, path)?;
    let depends = depends(&contents).map_err(|e| e.within(path.display()))?;
    for other in &depends {
        add(other, known, chosen)?;
    }
    chosen.push(Module { name: name.to_owned(), depends, contents });
    Ok(())
}

/// What the module says of itself (`.modinfo`, `depends=a,b`).
fn depends(contents: &[u8]) -> Result<Vec<String>> {
    let bad = |why: String| Error::new(ErrorKind::BadInput, format!("this is no kernel module: {why}"));
    let file = object::File::parse(contents).map_err(|e| bad(e.to_string()))?;
    let section = file.section_by_name(".modinfo").ok_or_else(|| bad("it has no section .modinfo".into()))?;
    let info = section.data().map_err(|e| bad(e.to_string()))?;
    let lines = info.split(|&byte| byte == 0).filter_map(|line| std::str::from_utf8(line).ok());
    let named = lines.filter_map(|line| line.strip_prefix("depends=")).flat_map(|list| list.split(','));
    Ok(named.filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

/// Every module below `folder`, by name.
fn find(folder: &Path, known: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        if path.is_dir() {
            find(&path, known)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && let Some((name, rest)) = name.split_once('.')
            && rest.starts_with("ko")
        {
            known.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{closure, depends};

    #[test]
    fn a_folder_without_modules_is_an_error_and_a_missing_module_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(closure(folder.path(), &["cxl_mem"]).is_err());
        std::fs::create_dir(folder.path().join("kernel")).unwrap();
        assert_eq!(closure(folder.path(), &["cxl_mem"]).unwrap(), []);
        std::fs::write(folder.path().join("kernel/cxl-mem.ko"), "no module").unwrap();
        let error = closure(folder.path(), &["cxl_mem"]).unwrap_err().to_string();
        assert!(error.contains("cxl-mem.ko") && error.contains("no kernel module"), "{error}");
    }

    #[test]
    fn programs_are_no_modules() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(depends(&program).unwrap_err().to_string().contains(".modinfo"));
    }
}
