//! The project's own rules, checked by machine so that nobody has to argue about them.
//!
//! One file per rule. A rule is a function from the tree of files to its findings; each has a unit test that plants
//! the breach and sees it caught, and one that sees the lawful neighbour pass.

mod arrows;
mod atomics;
mod dependencies;
mod functions;
mod links;
mod lint_levels;
mod markdown;
mod origin;
mod rooms;
mod rust;
mod sizes;
mod tree;
mod unsafety;
mod words;

use std::fmt;

use crate::failure::Result;
use crate::step::Outcome;
use crate::workspace::Workspace;
use tree::Tree;

/// Something that a rule has to say about one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// File, relative to the root.
    path: String,
    /// Line, from 1; 0 for the file as a whole.
    line: usize,
    /// What is wrong and what to do instead.
    message: String,
    /// A warning is shown and does not fail the build.
    fatal: bool,
}

impl Finding {
    fn error(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into(), fatal: true }
    }

    fn warning(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { fatal: false, ..Self::error(path, line, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.fatal { "error" } else { "warning" };
        match self.line {
            0 => write!(f, "{level}: {}: {}", self.path, self.message),
            line => write!(f, "{level}: {}:{line}: {}", self.path, self.message),
        }
    }
}

/// Checks all rules; findings in the order of the rules.
fn findings(workspace: &Workspace, tree: &Tree) -> Result<Vec<Finding>> {
    let packages = arrows::from_metadata(&workspace.metadata);
    let mut all = arrows::check(&packages);
    all.extend(arrows::check_preload(&arrows::preload_tree(workspace)?));
    all.extend(dependencies::check(&packages, tree));
    for rule in [
        unsafety::check,
        lint_levels::check,
        sizes::check,
        links::check,
        functions::check,
        rooms::check,
        words::check,
        origin::check,
        atomics::check,
    ] {
        all.extend(rule(tree));
    }
    Ok(all)
}

/// Runs tidy alone and prints every finding; whether there is no error.
pub fn run(workspace: &Workspace) -> Result<bool> {
    let tree = Tree::read(workspace.root())?;
    let findings = findings(workspace, &tree)?;
    for finding in &findings {
        println!("{finding}");
    }
    println!("{}", sizes::summary(&tree));
    Ok(findings.iter().all(|finding| !finding.fatal))
}

/// Runs tidy as a step of `check`.
pub fn step(workspace: &Workspace) -> Outcome {
    let done = Tree::read(workspace.root()).and_then(|tree| {
        let findings = findings(workspace, &tree)?;
        Ok((sizes::summary(&tree), findings))
    });
    match done {
        Err(failure) => Outcome::Failed(failure.to_string()),
        Ok((_, findings)) if findings.iter().any(|finding| finding.fatal) => {
            Outcome::Failed(findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
        Ok((summary, findings)) => {
            let warnings: String = findings.iter().map(|finding| format!("\n    {finding}")).collect();
            Outcome::Passed(format!("{summary}{warnings}"))
        }
    }
}
