//! Rules about allocation sites: which code asks for the memory.

use std::fmt;

use crate::{SizeRange, TierIndex};

/// One frame of a call stack, as names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Demangled symbol, without hash; `None` where the module has none for the address.
    pub symbol: Option<&'a str>,
    /// The module's path, or only its file name.
    pub module: &'a str,
}

/// A pattern for a whole text: `*` stands for any characters, also none; `?` for one; all others for themselves.
///
/// ```
/// use tiermem_placement::Glob;
/// assert!(Glob::new("Cache::*").matches("Cache::insert"));
/// assert!(!Glob::new("Cache::*").matches("my::Cache::insert"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob(String);

impl Glob {
    /// The pattern `text`; every text is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` as a whole matches. Allocates nothing; time is at most the product of the lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.as_str(), text);
        // After the latest star: the pattern behind it, and the text that it has not swallowed yet.
        let mut retry: Option<(&str, &str)> = None;
        loop {
            let mut after = pattern.chars();
            match (after.next(), rest.chars().next()) {
                (Some('*'), _) => {
                    pattern = after.as_str();
                    retry = Some((pattern, rest));
                    continue;
                }
                (None, None) => return true,
                (Some(p), Some(c)) if p == '?' || p == c => {
                    pattern = after.as_str();
                    rest = skip(rest, c);
                    continue;
                }
                _ => {}
            }
            // Mismatch: the latest star swallows one character more. An earlier star never needs to.
            let Some((behind, unswallowed)) = retry else { return false };
            let Some(c) = unswallowed.chars().next() else { return false };
            rest = skip(unswallowed, c);
            pattern = behind;
            retry = Some((behind, rest));
        }
    }

    /// Whether the module at `path` matches: its file name, or the whole path where the pattern holds a `/`.
    pub fn matches_module(&self, path: &str) -> bool {
        let name = if self.0.contains('/') { path } else { path.rsplit('/').next().unwrap_or(path) };
        self.matches(name)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// `text` without its first character `c`.
fn skip(text: &str, c: char) -> &str {
    text.get(c.len_utf8()..).unwrap_or_default()
}

/// A rule with a condition on the call stack.
///
/// Of its frames, innermost first and `depth` at most, one must match both patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiteRule {
    /// Pattern for the symbol; a frame without symbol never matches one.
    pub symbol: Option<Glob>,
    /// Pattern for the module.
    pub module: Option<Glob>,
    /// Frames that are looked at; `None` for all.
    pub depth: Option<u32>,
    /// Sizes that the rule is for; [`SizeRange::ALL`] where it names none.
    pub size: SizeRange,
    /// Where matching blocks go.
    pub tier: TierIndex,
}

impl SiteRule {
    /// Whether `frame` matches the rule's patterns; depth and size aside.
    pub fn matches_frame(&self, frame: &Frame<'_>) -> bool {
        let symbol = self.symbol.as_ref();
        symbol.is_none_or(|glob| frame.symbol.is_some_and(|symbol| glob.matches(symbol)))
            && self.module.as_ref().is_none_or(|glob| glob.matches_module(frame.module))
    }

    fn looks_as_deep_as(&self, depth: usize) -> bool {
        self.depth.is_none_or(|frames| depth < usize::try_from(frames).unwrap_or(usize::MAX))
    }
}

/// All rules with a condition on the call stack, in the order of the policy: the first that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteRules {
    rules: Vec<SiteRule>,
}

impl SiteRules {
    pub(crate) fn new(rules: impl IntoIterator<Item = SiteRule>) -> Self {
        Self { rules: rules.into_iter().collect() }
    }

    /// The rules, for a caller that turns patterns into address ranges ahead of time.
    pub fn rules(&self) -> &[SiteRule] {
        &self.rules
    }

    /// Frames that a stack walk must bring for every rule to see all it looks at, `frames_max` at most.
    pub fn depth(&self, frames_max: u32) -> u32 {
        self.rules.iter().map(|rule| rule.depth.unwrap_or(frames_max)).max().unwrap_or(0).min(frames_max)
    }

    /// The tier of the first rule that a block of `size` bytes meets, allocated under `frames`, innermost first.
    /// Allocates nothing.
    pub fn matches<'a>(&self, size: u64, frames: impl IntoIterator<Item = Frame<'a>>) -> Option<TierIndex> {
        let mut open = self.rules.as_slice();
        let mut tier = None;
        for (depth, frame) in frames.into_iter().enumerate() {
            let hit = open.iter().position(|rule| {
                rule.size.contains(size) && rule.looks_as_deep_as(depth) && rule.matches_frame(&frame)
            });
            // Only rules before the one that matched can still win.
            if let Some(at) = hit {
                tier = open.get(at).map(|rule| rule.tier);
                open = open.get(..at).unwrap_or_default();
            }
            if open.is_empty() {
                break;
            }
        }
        tier
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of a match, by recursion.
    fn matches_by_definition(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, _) => text.is_empty(),
            (Some(('*', behind)), _) => (0..=text.len()).any(|n| matches_by_definition(behind, &text[n..])),
            (Some(('?', behind)), Some((_, rest))) => matches_by_definition(behind, rest),
            (Some((p, behind)), Some((c, rest))) => p == c && matches_by_definition(behind, rest),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn globs_match_by_definition(pattern in "[aé*?]{0,8}", text in "[aéb]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = matches_by_definition(&chars(&pattern), &chars(&text));
            prop_assert_eq!(Glob::new(pattern).matches(&text), expected);
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = Glob::new("*a".repeat(60));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(2000))));
    }

    #[test]
    fn modules_match_by_file_name_unless_the_pattern_is_a_path() {
        assert!(Glob::new("libfoo.so*").matches_module("/usr/lib/libfoo.so.3"));
        assert!(Glob::new("libfoo.so*").matches_module("libfoo.so"));
        assert!(!Glob::new("lib*").matches_module("/lib/foo"));
        assert!(Glob::new("/usr/*/libfoo.so").matches_module("/usr/lib/libfoo.so"));
        assert!(!Glob::new("/usr/*/libfoo.so").matches_module("libfoo.so"));
    }

    fn rule(symbol: Option<&str>, module: Option<&str>, depth: Option<u32>, size: SizeRange, tier: u8) -> SiteRule {
        let glob = |text: Option<&str>| text.map(Glob::new);
        SiteRule { symbol: glob(symbol), module: glob(module), depth, size, tier: TierIndex(tier) }
    }

    const STACK: [Frame<'_>; 3] = [
        Frame { symbol: Some("alloc::grow"), module: "/bin/app" },
        Frame { symbol: None, module: "/lib/libfoo.so.1" },
        Frame { symbol: Some("Cache::insert"), module: "/bin/app" },
    ];

    #[test]
    fn the_first_rule_of_the_policy_wins_not_the_innermost_frame() {
        let rules = SiteRules::new([
            rule(Some("Cache::*"), None, None, SizeRange::ALL, 1),
            rule(None, Some("libfoo.so*"), None, SizeRange::ALL, 2),
        ]);
        assert_eq!(rules.matches(1, STACK), Some(TierIndex(1)));
        assert_eq!(rules.matches(1, STACK[..2].iter().copied()), Some(TierIndex(2)));
        assert_eq!(rules.matches(1, STACK[..1].iter().copied()), None);
        assert_eq!(rules.matches(1, []), None);
        assert_eq!(SiteRules::default().matches(1, STACK), None);
    }

    #[test]
    fn all_conditions_of_a_rule_hold_and_in_one_frame() {
        let cache = |module, depth, size| SiteRules::new([rule(Some("Cache::*"), module, depth, size, 1)]);
        assert_eq!(cache(Some("app"), None, SizeRange::ALL).matches(1, STACK), Some(TierIndex(1)));
        assert_eq!(cache(Some("libfoo*"), None, SizeRange::ALL).matches(1, STACK), None, "two frames, half each");
        assert_eq!(cache(None, Some(2), SizeRange::ALL).matches(1, STACK), None, "third frame, depth two");
        assert_eq!(cache(None, Some(3), SizeRange::ALL).matches(1, STACK), Some(TierIndex(1)));
        let large = SizeRange { min: 100, max: u64::MAX };
        assert_eq!(cache(None, None, large).matches(99, STACK), None);
        assert_eq!(cache(None, None, large).matches(100, STACK), Some(TierIndex(1)));
    }

    #[test]
    fn the_stack_is_walked_as_deep_as_the_deepest_rule() {
        assert_eq!(SiteRules::default().depth(32), 0);
        let rules = |depths: &[Option<u32>]| {
            SiteRules::new(depths.iter().map(|&depth| rule(Some("f"), None, depth, SizeRange::ALL, 0)))
        };
        assert_eq!(rules(&[Some(4), Some(9)]).depth(32), 9);
        assert_eq!(rules(&[Some(4), None]).depth(32), 32);
        assert_eq!(rules(&[Some(64)]).depth(32), 32);
    }
}
