//! Unsafe code stands only where the design puts it, and each module that holds some says why.
//!
//! Clippy asks for a SAFETY comment at every unsafe block; this rule asks for an `// UNSAFETY:` comment at every
//! `expect(unsafe_code)`, the line with which a module opens itself to unsafe code.

use super::Finding;
use super::rust::{Line, has_word, lines};
use super::tree::Tree;

/// Folders where unsafe code may stand, beside every room's own `tests/`: those are programs of their own.
const ALLOWED: &[&str] =
    &["sys/", "tiers/src/provider/", "allocator/", "emulator/instrument/", "tests/", "benches/", "fuzz/"];
/// Of these, the ones where the reason in the attribute is explanation enough.
const JUDGES: &[&str] = &["tests/", "benches/", "fuzz/"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let lines = lines(&file.text);
        let allowed = may_hold(&file.path);
        for (index, line) in lines.iter().enumerate() {
            let opens = has_word(&line.code, "unsafe_code") && has_word(&line.code, "expect");
            let here =
                allowed || (opens && module_below(&lines, index).is_some_and(|m| may_hold(&beside(&file.path, &m))));
            if !here && (opens || has_word(&line.code, "unsafe")) {
                let message = format!("unsafe code belongs in {}", ALLOWED.join(", "));
                findings.push(Finding::error(&file.path, index + 1, message));
            } else if opens && !judges(&file.path) && !explained(&lines, index) {
                let message = "say above it why this module needs unsafe code: `// UNSAFETY: …`";
                findings.push(Finding::error(&file.path, index + 1, message));
            }
        }
    }
    findings
}

fn may_hold(path: &str) -> bool {
    below_any(path, ALLOWED) || judges(path)
}

fn judges(path: &str) -> bool {
    below_any(path, JUDGES) || path.contains("/tests/")
}

fn below_any(path: &str, folders: &[&str]) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

/// The name in the `mod name;` right below line `index`, which is the module that an attribute there is about.
fn module_below(lines: &[Line], index: usize) -> Option<String> {
    let code = lines.get(index + 1)?.code.trim().strip_suffix(';')?;
    code.split_once("mod ").map(|(_, name)| name.trim().to_owned())
}

/// The folder of the module `name` that the file `path` declares.
fn beside(path: &str, name: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{name}/")
}

/// Whether the comment that ends right above line `index` begins with `UNSAFETY:`.
fn explained(lines: &[Line], index: usize) -> bool {
    let above = lines[..index].iter().rev();
    above
        .take_while(|line| line.code.trim().is_empty() && !line.comment.trim().is_empty())
        .any(|line| line.comment.trim_start().trim_start_matches('/').trim_start().starts_with("UNSAFETY:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_code_outside_its_folders_is_caught() {
        let block = "fn f() {\n    unsafe { g() }\n}\n";
        let found = check(&Tree::of(&[("placement/src/lib.rs", block), ("tiers/src/tier.rs", "unsafe fn f();")]));
        assert_eq!(
            found.iter().map(|f| (f.path.as_str(), f.line)).collect::<Vec<_>>(),
            [("placement/src/lib.rs", 2), ("tiers/src/tier.rs", 1)]
        );
        assert!(check(&Tree::of(&[("sys/src/map.rs", block), ("tiers/src/provider/dram.rs", block)])).is_empty());
    }

    #[test]
    fn talking_about_unsafe_code_is_fine() {
        let talk = "// unsafe\nfn f() { g(\"unsafe\") }\n";
        assert!(check(&Tree::of(&[("placement/src/lib.rs", talk)])).is_empty());
    }

    #[test]
    fn a_module_may_be_opened_where_it_is_declared() {
        let declare =
            |name| format!("// UNSAFETY: maps.\n#[expect(unsafe_code, reason = \"maps\")]\npub mod {name};\n");
        assert!(check(&Tree::of(&[("tiers/src/lib.rs", &declare("provider"))])).is_empty());
        assert_eq!(check(&Tree::of(&[("tiers/src/lib.rs", &declare("tier"))])).len(), 1);
    }

    #[test]
    fn a_module_that_opens_itself_without_saying_why_is_caught() {
        let block = "fn f() { unsafe { g() } }";
        let opens = "#![expect(unsafe_code, reason = \"maps\")]\n";
        let reason = format!("// UNSAFETY: maps memory,\n// which nothing else does.\n{opens}");
        let apart = format!("// UNSAFETY: maps memory.\n\nfn f() {{}}\n{opens}");
        assert_eq!(check(&Tree::of(&[("sys/src/map.rs", opens)])).len(), 1);
        assert_eq!(check(&Tree::of(&[("sys/src/map.rs", &apart)])).len(), 1);
        assert!(
            check(&Tree::of(&[("sys/src/map.rs", &reason), ("tests/src/lib.rs", opens), ("sys/tests/a.rs", block)]))
                .is_empty()
        );
        assert_eq!(check(&Tree::of(&[("tierctl/src/main.rs", &reason)])).len(), 1, "not in this room at all");
    }
}
