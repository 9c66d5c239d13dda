//! Markdown, as far as the rules need it: its prose without code, its links and its anchors.

/// The lines of a document with code blanked: fenced blocks and `code spans`.
pub fn prose(text: &str) -> Vec<String> {
    let mut fence: Option<String> = None;
    text.lines()
        .map(|line| {
            let mark: String = line.trim_start().chars().take_while(|&c| c == '`' || c == '~').collect();
            match &fence {
                Some(open) => {
                    if mark.starts_with(open.as_str()) {
                        fence = None;
                    }
                    String::new()
                }
                None if mark.len() >= 3 => {
                    fence = Some(mark);
                    String::new()
                }
                None => without_spans(line),
            }
        })
        .collect()
}

fn without_spans(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    let last = parts.len() - 1;
    // Every second part is code; an odd mark at the end opens nothing.
    let keep = |(index, part): (usize, &&str)| match index {
        _ if index % 2 == 0 => (*part).to_owned(),
        _ if index == last => format!("`{part}"),
        _ => "`code`".to_owned(),
    };
    parts.iter().enumerate().map(keep).collect()
}

/// The targets of all links, pictures and HTML references, each with its line.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (index, line) in prose(text).iter().enumerate() {
        let mut add = |target: &str| links.push((index + 1, target.to_owned()));
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split([')', ' ']).next().unwrap_or_default();
            add(target.trim_start_matches('<').trim_end_matches('>'));
        }
        for key in ["src=\"", "href=\"", "srcset=\""] {
            line.match_indices(key)
                .for_each(|(at, _)| add(line[at + key.len()..].split('"').next().unwrap_or_default()));
        }
        if let Some((_, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            add(target.split_whitespace().next().unwrap_or_default());
        }
    }
    links
}

/// The anchors that a document offers: one per heading, made as GitHub makes them, and explicit `id`s.
pub fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let kept = prose(text);
    for (line, prose) in text.lines().zip(&kept) {
        for key in ["id=\"", "name=\""] {
            let ids = prose.match_indices(key).filter_map(|(at, _)| prose[at + key.len()..].split('"').next());
            anchors.extend(ids.map(str::to_owned));
        }
        let level = prose.chars().take_while(|&c| c == '#').count();
        if (1..=6).contains(&level) && prose[level..].starts_with(' ') {
            let slug = slug(&line[level..]);
            let before = anchors.iter().filter(|have| **have == slug).count();
            anchors.push(if before == 0 { slug } else { format!("{slug}-{before}") });
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    let keep = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(|&c| keep(c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_not_prose() {
        assert_eq!(prose("a `b` c\n```sh\nd\n```\ne"), ["a `code` c", "", "", "", "e"]);
        assert_eq!(prose("````\n```\nx\n````\ny"), ["", "", "", "", "y"]);
    }

    #[test]
    fn all_kinds_of_links_are_found() {
        let text = "[a](b.md#c) ![d](e.svg \"f\")\n<img src=\"g.png\">\n[h]: i.md\n`[j](k)`";
        assert_eq!(
            links(text),
            [(1, "b.md#c".to_owned()), (1, "e.svg".to_owned()), (2, "g.png".to_owned()), (3, "i.md".to_owned())]
        );
    }

    #[test]
    fn anchors_are_made_from_headings() {
        let text = "# The `sys` room, first!\n## Again\n## Again\n```\n# no\n```\n<a id=\"x\"></a>";
        assert_eq!(anchors(text), ["the-sys-room-first", "again", "again-1", "x"]);
    }
}
