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
