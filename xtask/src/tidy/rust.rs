//! Telling code from comments and text in Rust sources, as far as the rules need it.

/// One source line, taken apart. Both parts keep the columns of the line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The code, with comments and the inside of string and character literals blanked.
    pub code: String,
    /// The comments, with everything else blanked.
    pub comment: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    /// Block comments nest; how deep.
    BlockComment(u32),
    /// `"…"` with escapes.
    Text,
    /// `r#"…"#` with so many `#`.
    RawText(usize),
}

/// Takes a source apart into its lines.
pub fn lines(source: &str) -> Vec<Line> {
    let chars: Vec<char> = source.chars().collect();
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut at = 0;
    while at < chars.len() {
        if chars[at] == '\n' {
            lines.push(Line::default());
            if state == State::LineComment {
                state = State::Code;
            }
            at += 1;
            continue;
        }
        let (next, len, kind) = step(state, &chars, at);
        for &c in &chars[at..(at + len).min(chars.len())] {
            put(&mut lines, c, kind);
        }
        at += len;
        state = next;
    }
    lines
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Blank,
}

fn put(lines: &mut Vec<Line>, c: char, kind: Kind) {
    if c == '\n' {
        lines.push(Line::default());
        return;
    }
    if let Some(line) = lines.last_mut() {
        line.code.push(if kind == Kind::Code { c } else { ' ' });
        line.comment.push(if kind == Kind::Comment { c } else { ' ' });
    }
}

/// From `state` at `chars[at]`: the next state, how many characters that takes and what they are.
fn step(state: State, chars: &[char], at: usize) -> (State, usize, Kind) {
    let rest = &chars[at..];
    match state {
        State::Code => code_step(chars, at),
        State::LineComment => (State::LineComment, 1, Kind::Comment),
        State::BlockComment(depth) if rest.starts_with(&['/', '*']) => {
            (State::BlockComment(depth + 1), 2, Kind::Comment)
        }
        State::BlockComment(depth) if rest.starts_with(&['*', '/']) => {
            (if depth == 1 { State::Code } else { State::BlockComment(depth - 1) }, 2, Kind::Comment)
        }
        State::BlockComment(_) => (state, 1, Kind::Comment),
        State::Text if rest[0] == '\\' => (State::Text, 2, Kind::Blank),
        State::Text if rest[0] == '"' => (State::Code, 1, Kind::Code),
        State::RawText(marks) if rest[0] == '"' && rest[1..].iter().take_while(|&&c| c == '#').count() >= marks => {
            (State::Code, 1 + marks, Kind::Code)
        }
        State::Text | State::RawText(_) => (state, 1, Kind::Blank),
    }
}

fn code_step(chars: &[char], at: usize) -> (State, usize, Kind) {
    let rest = &chars[at..];
    if rest.starts_with(&['/', '/']) {
        return (State::LineComment, 2, Kind::Comment);
    }
    if rest.starts_with(&['/', '*']) {
        return (State::BlockComment(1), 2, Kind::Comment);
    }
    let after_word = at > 0 && is_word(chars[at - 1]);
    match rest[0] {
        '"' => (State::Text, 1, Kind::Code),
        'r' | 'b' | 'c' if !after_word => {
            let prefix = rest.iter().take(2).take_while(|c| matches!(c, 'r' | 'b' | 'c')).count();
            let raw = rest[prefix - 1] == 'r';
            let marks = rest[prefix..].iter().take_while(|&&c| c == '#').count();
            if raw && rest.get(prefix + marks) == Some(&'"') {
                (State::RawText(marks), prefix + marks + 1, Kind::Code)
            } else {
                (State::Code, 1, Kind::Code)
            }
        }
        '\'' => (State::Code, character(rest), Kind::Code),
        _ => (State::Code, 1, Kind::Code),
    }
}

/// How many characters the character literal at the start of `rest` takes; 1 if the quote begins a lifetime.
fn character(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', _, tail @ ..] => tail.iter().position(|&c| c == '\'').map_or(1, |end| end + 4),
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}

/// Whether `c` can be part of a Rust word.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `code` holds `word` as a whole word.
pub fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> String {
        lines(source).iter().map(|line| line.code.trim_end()).collect::<Vec<_>>().join("\n")
    }

    fn comments(source: &str) -> String {
        lines(source).iter().map(|line| line.comment.trim()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn comments_are_not_code() {
        assert_eq!(code("a // unsafe\nb /* x /* y */ z */ c"), "a\nb                   c");
        assert_eq!(comments("a // one\nb /* two\nthree */ c"), "// one\n/* two\nthree */");
    }

    #[test]
    fn text_is_neither() {
        assert_eq!(code(r#"f("a \" // b", 'x', '"', "\\");"#), r#"f("         ", 'x', '"', "  ");"#);
        assert_eq!(code("g(r#\"a \" b\"#, br\"//\"); h"), "g(r#\"     \"#, br\"  \"); h");
        assert_eq!(code("let s = \"two\nlines\"; k"), "let s = \"\n     \"; k");
        assert_eq!(comments("let s = \"// no\";"), "");
    }

    #[test]
    fn lifetimes_are_not_characters() {
        assert_eq!(code("fn f<'a>(x: &'a str) // y"), "fn f<'a>(x: &'a str)");
        assert_eq!(code(r"let q = '\''; let n = '\u{1F600}'; z // y"), r"let q = '\''; let n = '\u{1F600}'; z");
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(!has_word("not_unsafe", "unsafe"));
    }
}
