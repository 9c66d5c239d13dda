//! Where the host's own packages come from.

use std::fs;
use std::path::Path;

/// The first Debian mirror in the host's apt sources. Others (security, third parties) do not carry the suites that are
/// wanted.
pub fn of_this_host(etc: &Path) -> Option<String> {
    let mut files = vec![etc.join("sources.list")];
    let more = fs::read_dir(etc.join("sources.list.d")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut more: Vec<_> = more.collect();
    more.sort();
    files.extend(more);
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        if file.extension().is_some_and(|extension| extension == "sources") {
            in_stanzas(&text)
        } else {
            in_lines(&text)
        }
    })
}

/// `deb [options] URI suite component…`
fn in_lines(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        let mut words = rest.split_whitespace();
        let uri = words.next()?;
        is_debian(uri, words.next()?).then(|| uri.trim_end_matches('/').to_owned())
    })
}

/// The format of deb822(5): stanzas of `Field: values`.
fn in_stanzas(text: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let value = stanza.lines().find_map(|line| {
                let (field, value) = line.split_once(':')?;
                field.eq_ignore_ascii_case(name).then_some(value)
            });
            value.into_iter().flat_map(str::split_whitespace).map(str::to_owned).collect::<Vec<_>>()
        };
        if !field("Types").contains(&"deb".to_owned()) || field("Enabled").contains(&"no".to_owned()) {
            return None;
        }
        let suites = field("Suites");
        let uris = field("URIs").into_iter();
        uris.map(|uri| uri.trim_end_matches('/').to_owned())
            .find(|uri| suites.iter().any(|suite| is_debian(uri, suite)))
    })
}

/// Whether this looks like the main archive of Debian: a folder `debian`, and a suite without a qualifier in its path.
fn is_debian(uri: &str, suite: &str) -> bool {
    let known = ["http://", "https://", "file:", "mirror+", "tor+"].iter().any(|scheme| uri.starts_with(scheme));
    known && uri.trim_end_matches('/').ends_with("/debian") && !suite.contains('/')
}

#[cfg(test)]
mod tests {
    use super::{in_lines, in_stanzas, of_this_host};

    #[test]
    fn the_main_archive_is_found_in_both_formats() {
        let lines = "# deb http://old/debian x main\ndeb-src http://m/debian x main\n\
                     deb http://m/debian-security x-security main\ndeb [arch=amd64 signed-by=/k] https://m/debian/ x main\n";
        assert_eq!(in_lines(lines).as_deref(), Some("https://m/debian"));
        let stanzas = "Types: deb\nURIs: https://third/party\nSuites: any\n\n\
                       Types: deb\nEnabled: no\nURIs: http://off/debian\nSuites: x\n\n\
                       Types: deb deb-src\n# comment\nURIs: http://m/debian\nSuites: x x-updates\nSigned-By: /k\n";
        assert_eq!(in_stanzas(stanzas).as_deref(), Some("http://m/debian"));
    }

    #[test]
    fn other_distributions_have_none() {
        assert_eq!(in_lines("deb http://m/ubuntu noble main\n"), None);
        assert_eq!(in_stanzas(""), None);
        assert_eq!(of_this_host(std::path::Path::new("/nonexistent")), None);
    }
}
