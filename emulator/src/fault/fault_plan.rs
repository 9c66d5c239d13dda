//! Plans: the TOML form of what goes wrong.

use tiermem_complaint::table::{self, Place, Table};
use tiermem_complaint::{Complaints, FileError, read, suggestion};
use tiermem_tiers::provider::fault::{
    Clock, Fault, FaultKind, Faulty, Grain, Lasts, Script, Trigger, lasts_default, times_default,
};
use tiermem_tiers::{Bytes, Error, Provider, TierName};

use super::Crash;

/// The only version there is.
const VERSION: u32 = 1;

/// Longest plan that is read, bytes.
const TEXT_LEN_MAX: usize = 256 << 10;

/// A checked plan.
///
/// ```
/// use tiermem_emulator::fault::Plan;
/// let plan = Plan::parse(
///     r#"
///     version = 1
///     seed = 42
///     [[fault]]
///     kind = "poison"
///     tier = "slow"
///     at_operation = 3
///     offset = "64 KiB"
///     "#,
///     "plan.toml",
/// )?;
/// assert_eq!(plan.script().to_string(), "seed=42;poison tier=slow at-op=3 offset=65536 grain=os-page");
/// let error = Plan::parse("version = 1\n[[fault]]\nkind = \"poisson\"\nat_operation = 1\n", "plan.toml").unwrap_err();
/// assert_eq!((error.entries()[0].line, error.entries()[0].column), (3, 8));
/// assert!(error.to_string().contains("did you mean `poison`?"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    script: Script,
    crash: Option<Crash>,
}

impl Plan {
    /// Reads a plan; `file_name` is for the error.
    ///
    /// # Errors
    /// Everything that is wrong with it, each mistake at its place.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, FileError> {
        read(text, file_name, TEXT_LEN_MAX, "a fault plan", |root, complaints| {
            let root = Table::new(root, 0..0, "the fault plan", &["version", "seed", "fault"], complaints);
            Reader { complaints, seed: 0 }.plan(&root)
        })
    }

    /// What the plan says about tiers.
    pub const fn script(&self) -> &Script {
        &self.script
    }

    /// Where the host crashes, if the plan says so by a persist point.
    pub const fn crash(&self) -> Option<Crash> {
        self.crash
    }

    /// Puts the plan in force around a tier, in virtual time.
    ///
    /// # Errors
    /// As [`Faulty::new`].
    pub fn wrap(&self, tier: Box<dyn Provider>) -> Result<Faulty, Error> {
        Faulty::new(tier, &self.script, Clock::Virtual)
    }
}

/// The kinds, and the keys that each has besides those that all have.
const KINDS: [(&str, &[&str]); 9] = [
    ("poison", &["extent", "offset", "grain"]),
    ("remove", &["for_operations", "for_time"]),
    ("link-down", &["for_operations", "for_time"]),
    ("shrink", &["to", "for_operations", "for_time"]),
    ("slow", &["factor", "for_operations", "for_time"]),
    ("full", &["for_operations", "for_time"]),
    ("io-error", &["on", "for_operations", "for_time"]),
    ("reset", &["for_operations", "for_time"]),
    ("crash", &["at_persist_point", "torn"]),
];

/// The keys that all have.
const KEYS: [&str; 6] = ["kind", "tier", "at_operation", "at_time", "probability", "times"];

struct Reader<'c, 'text> {
    complaints: &'c mut Complaints<'text>,
    seed: u64,
}

/// A fault and where to complain about it.
type Entry<'t, 'i> = Table<'t, 'i>;

impl Reader<'_, '_> {
    fn plan(&mut self, root: &Table<'_, '_>) -> Plan {
        match root.get("version") {
            Some(value) => {
                table::whole(value, "the version of a plan", VERSION, VERSION, self.complaints);
            }
            None => self.complaints.add(root.span.clone(), format!("`version = {VERSION}` is missing")),
        }
        let seed = root.get("seed").and_then(|value| table::whole(value, "a seed", 0, u32::MAX, self.complaints));
        self.seed = u64::from(seed.unwrap_or(0));
        let mut plan = Plan { script: Script { seed: self.seed, faults: Vec::new() }, crash: None };
        let entries = root.get("fault").and_then(|value| table::array(value, "[[fault]] tables", self.complaints));
        for value in entries.unwrap_or_default() {
            let Some(entry) = table::table(value, "a [[fault]] table", self.complaints) else { continue };
            self.entry(entry.get("kind"), value, entry, &mut plan);
        }
        plan
    }

    fn entry(
        &mut self,
        kind: Option<Place<'_, '_>>,
        value: Place<'_, '_>,
        entries: &toml::de::DeTable<'_>,
        plan: &mut Plan,
    ) {
        let Some(kind) = kind else {
            self.complaints.add(value.span(), "a fault needs a `kind`");
            return;
        };
        let Some(word) = table::string(kind, "the kind as a string", self.complaints) else { return };
        let Some((_, own)) = KINDS.iter().find(|(known, _)| *known == word) else {
            let all = KINDS.map(|(kind, _)| kind);
            let hint = suggestion(word, all.iter().copied());
            self.complaints
                .add(kind.span(), format!("there is no fault `{word}`{hint}; the kinds are {}", all.join(", ")));
            return;
        };
        let known: Vec<&str> = KEYS.iter().chain(*own).copied().collect();
        let entry = Table::new(entries, value.span(), &format!("a fault of kind `{word}`"), &known, self.complaints);
        if let Some(point) = entry.get("at_persist_point") {
            self.crash(&entry, point, plan);
        } else if let Some(fault) = self.fault(word, kind, &entry) {
            plan.script.faults.push(fault);
        }
    }

    fn crash(&mut self, entry: &Entry<'_, '_>, place: Place<'_, '_>, plan: &mut Plan) {
        for key in ["tier", "at_operation", "at_time", "probability", "times"] {
            if let Some(other) = entry.get(key) {
                self.complaints.add(other.span(), format!("a crash at a persist point has no `{key}`"));
            }
        }
        let torn = entry.get("torn").is_some_and(|value| {
            value.get_ref().as_bool().unwrap_or_else(|| {
                self.complaints.add(value.span(), "`torn` is true or false");
                false
            })
        });
        let Some(point) = table::whole(place, "a persist point", 1, u32::MAX, self.complaints) else { return };
        let crash = Crash { point: point.into(), seed: self.seed, torn };
        if plan.crash.replace(crash).is_some() {
            self.complaints.add(place.span(), "a host crashes once: another fault has a persist point already");
        }
    }

    fn fault(&mut self, word: &str, place: Place<'_, '_>, entry: &Entry<'_, '_>) -> Option<Fault> {
        if let Some(torn) = entry.get("torn").filter(|_| word == "crash") {
            self.complaints.add(torn.span(), "`torn` is for a crash with `at_persist_point` only");
        }
        let tier = entry.get("tier").map(|value| self.tier(value));
        let kind = self.kind(word, place, entry);
        let trigger = self.trigger(entry);
        let lasts = self.lasts(entry);
        let times = entry.get("times").map(|value| table::whole(value, "`times`", 1, 1_000_000, self.complaints));
        let (kind, trigger) = (kind?, trigger?);
        Some(Fault {
            tier: tier.flatten(),
            kind,
            trigger,
            lasts: lasts.unwrap_or(lasts_default(kind)),
            times: times.flatten().unwrap_or(times_default(trigger)),
        })
    }

    fn tier(&mut self, value: Place<'_, '_>) -> Option<TierName> {
        let name = TierName::new(table::string(value, "the name of a tier", self.complaints)?);
        if name.is_none() {
            let message = "not the name of a tier: 1 to 23 characters of A-Z a-z 0-9 . _ -, a letter first";
            self.complaints.add(value.span(), message);
        }
        name
    }

    fn kind(&mut self, word: &str, place: Place<'_, '_>, entry: &Entry<'_, '_>) -> Option<FaultKind> {
        Some(match word {
            "poison" => self.poison(entry),
            "remove" => FaultKind::Remove,
            "link-down" => FaultKind::LinkDown,
            "shrink" => FaultKind::Shrink {
                to: Bytes(table::bytes(self.needed("to", place, entry)?, "a size", self.complaints)?),
            },
            "slow" => {
                let value = self.needed("factor", place, entry)?;
                let factor = table::number(value, "a factor", self.complaints)?;
                if !(1.0..=1e6).contains(&factor) {
                    self.complaints.add(value.span(), "a factor is 1 to 1000000");
                    return None;
                }
                FaultKind::Slow { factor }
            }
            "full" => FaultKind::Full,
            "io-error" => {
                let on =
                    entry.get("on").map_or(Some("both"), |value| self.one_of(value, &["read", "write", "both"]))?;
                FaultKind::IoError { reads: on != "write", writes: on != "read" }
            }
            "reset" => FaultKind::Reset,
            _ => FaultKind::Crash,
        })
    }

    fn poison(&mut self, entry: &Entry<'_, '_>) -> FaultKind {
        let extent = entry
            .get("extent")
            .and_then(|value| table::whole(value, "an extent's number", 0, u32::MAX, self.complaints));
        let offset = entry.get("offset").and_then(|value| table::bytes(value, "a size", self.complaints));
        let words = [Grain::OsPage, Grain::Line].map(Grain::as_str);
        let grain = entry.get("grain").and_then(|value| self.one_of(value, &words));
        let grain = if grain == Some(Grain::Line.as_str()) { Grain::Line } else { Grain::OsPage };
        FaultKind::Poison { extent, offset, grain }
    }

    fn needed<'t, 'i>(&mut self, key: &str, place: Place<'_, '_>, entry: &Entry<'t, 'i>) -> Option<Place<'t, 'i>> {
        let value = entry.get(key);
        if value.is_none() {
            self.complaints.add(place.span(), format!("this kind of fault needs `{key}`"));
        }
        value
    }

    fn one_of<'w>(&mut self, value: Place<'_, '_>, words: &[&'w str]) -> Option<&'w str> {
        let text = table::string(value, "a string", self.complaints)?;
        let found = words.iter().copied().find(|word| *word == text);
        if found.is_none() {
            let hint = suggestion(text, words.iter().copied());
            self.complaints.add(value.span(), format!("expected one of {}{hint}", words.join(", ")));
        }
        found
    }

    fn trigger(&mut self, entry: &Entry<'_, '_>) -> Option<Trigger> {
        match (entry.get("at_operation"), entry.get("at_time"), entry.get("probability")) {
            (Some(value), None, None) => {
                let number = table::whole(value, "an operation's number", 1, u32::MAX, self.complaints)?;
                Some(Trigger::AtOperation(number.into()))
            }
            (None, Some(value), None) => Some(Trigger::AtTime(self.time(value)?)),
            (None, None, Some(value)) => {
                let p = table::number(value, "a probability", self.complaints)?;
                if p <= 0.0 || p > 1.0 {
                    self.complaints.add(value.span(), "a probability is above 0 and at most 1");
                    return None;
                }
                Some(Trigger::Probability(p))
            }
            (None, None, None) => {
                let message = "this fault does not say when: `at_operation`, `at_time` or `probability`";
                self.complaints.add(entry.span.clone(), message);
                None
            }
            (_, time, p) => {
                let span = p.or(time).map_or(entry.span.clone(), |value| value.span());
                self.complaints.add(span, "say only one of `at_operation`, `at_time` and `probability`");
                None
            }
        }
    }

    fn lasts(&mut self, entry: &Entry<'_, '_>) -> Option<Lasts> {
        match (entry.get("for_operations"), entry.get("for_time")) {
            (Some(_), Some(value)) => {
                self.complaints.add(value.span(), "say either `for_operations` or `for_time`");
                None
            }
            (Some(value), None) => {
                let count = table::whole(value, "a number of operations", 0, u32::MAX, self.complaints)?;
                Some(Lasts::Operations(count.into()))
            }
            (None, value) => value.and_then(|value| self.time(value)).map(Lasts::Time),
        }
    }

    /// A time such as `"20 ms"`, in nanoseconds.
    fn time(&mut self, value: Place<'_, '_>) -> Option<u64> {
        const UNITS: [(&str, f64); 4] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
        let text = table::string(value, "a time such as \"20 ms\"", self.complaints)?;
        let parse = || {
            let (unit, scale) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
            let ns = text.strip_suffix(unit)?.trim().parse::<f64>().ok()? * scale;
            // Up to 100 days: exact in nanoseconds.
            (0.0..=8.64e15).contains(&ns).then_some(ns)
        };
        let parsed = parse();
        if parsed.is_none() {
            self.complaints.add(value.span(), "a time is a text such as \"20 ms\", in ns, us, ms or s");
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        parsed.map(|ns| ns.round() as u64)
    }
}

#[cfg(test)]
mod tests;
