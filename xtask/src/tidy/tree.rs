//! The project's text files, read once.

use std::fs;
use std::path::Path;

use crate::failure::{Context, Result};

/// One text file.
#[derive(Debug)]
pub struct File {
    /// Relative to the root, with `/` between the parts.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// All text files of the project, sorted by path.
#[derive(Debug)]
pub struct Tree {
    pub files: Vec<File>,
    /// All other files: pictures and the like.
    pub others: Vec<String>,
}

impl Tree {
    /// Reads everything below `root` but version control's data and what `.gitignore` names.
    pub fn read(root: &Path) -> Result<Self> {
        let ignored = fs::read_to_string(root.join(".gitignore")).while_doing(".gitignore")?;
        let ignored: Vec<_> = ignored.lines().filter_map(|line| line.trim().strip_prefix('/')).collect();
        let mut tree = Self { files: Vec::new(), others: Vec::new() };
        tree.descend(root, "", &ignored)?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn descend(&mut self, folder: &Path, prefix: &str, ignored: &[&str]) -> Result<()> {
        for entry in fs::read_dir(folder).while_doing(folder.display())? {
            let entry = entry.while_doing(folder.display())?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if path == ".git" || ignored.contains(&path.as_str()) {
                continue;
            }
            let kind = entry.file_type().while_doing(&path)?;
            if kind.is_dir() {
                self.descend(&entry.path(), &format!("{path}/"), ignored)?;
            } else if kind.is_file() {
                match String::from_utf8(fs::read(entry.path()).while_doing(&path)?) {
                    Ok(text) => self.files.push(File { path, text }),
                    Err(_) => self.others.push(path),
                }
            }
        }
        Ok(())
    }

    /// A tree made of `(path, text)` pairs.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let file = |&(path, text): &(&str, &str)| File { path: path.to_owned(), text: text.to_owned() };
        Self { files: files.iter().map(file).collect(), others: Vec::new() }
    }

    /// The Rust sources.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The Markdown documents.
    pub fn markdown(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".md"))
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether there is a file or a folder at `path` (the empty path is the root).
    pub fn has(&self, path: &str) -> bool {
        let mut paths = self.files.iter().map(|file| &file.path).chain(&self.others);
        path.is_empty() || paths.any(|have| have == path || have.strip_prefix(path).is_some_and(|r| r.starts_with('/')))
    }
}
