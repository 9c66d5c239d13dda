//! Reading typed values out of parsed TOML; what has the wrong type or an unknown name becomes a complaint.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::units::clip;
use crate::{Complaints, suggestion};

/// A value with its place.
pub type Place<'t, 'i> = &'t Spanned<DeValue<'i>>;

/// One table of the file, and where to complain about what it lacks.
#[derive(Clone, Debug)]
pub struct Table<'t, 'i> {
    entries: &'t DeTable<'i>,
    /// Where to complain about what is missing.
    pub span: Range<usize>,
}

impl<'t, 'i> Table<'t, 'i> {
    /// Wraps `entries` and complains of each key that is not among `known`. `name` is the table's, as in `[tier.slow]`.
    pub fn new(
        entries: &'t DeTable<'i>,
        span: Range<usize>,
        name: &str,
        known: &[&str],
        complaints: &mut Complaints<'_>,
    ) -> Self {
        for (key, _) in entries {
            let word: &str = key.get_ref();
            if !known.contains(&word) {
                let hint = suggestion(word, known.iter().copied());
                complaints.add(key.span(), format!("unknown key `{}` in {name}{hint}", clip(word)));
            }
        }
        Self { entries, span }
    }

    /// The value of `key`, if it is there.
    pub fn get(&self, key: &str) -> Option<Place<'t, 'i>> {
        self.entries.get(key)
    }
}

/// The entries of a table in the order of the file (the parser sorts them by name).
pub fn in_file_order<'t, 'i>(entries: &'t DeTable<'i>) -> Vec<(Range<usize>, &'t str, Place<'t, 'i>)> {
    let mut ordered: Vec<_> = entries.iter().map(|(key, value)| (key.span(), &**key.get_ref(), value)).collect();
    ordered.sort_by_key(|(span, ..)| span.start);
    ordered
}

/// Complains that `value` is not `what`.
fn mistyped(value: Place<'_, '_>, what: &str, complaints: &mut Complaints<'_>) {
    let is = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    complaints.add(value.span(), format!("this is {is}; expected {what}"));
}

/// `value` as text.
pub fn string<'t>(value: Place<'t, '_>, what: &str, complaints: &mut Complaints<'_>) -> Option<&'t str> {
    let text = value.get_ref().as_str();
    if text.is_none() {
        mistyped(value, what, complaints);
    }
    text
}

/// `value` as a list.
pub fn array<'t, 'i>(
    value: Place<'t, 'i>,
    what: &str,
    complaints: &mut Complaints<'_>,
) -> Option<&'t [Spanned<DeValue<'i>>]> {
    let array = value.get_ref().as_array();
    if array.is_none() {
        mistyped(value, what, complaints);
    }
    array.map(|array| &**array)
}

/// `value` as a table.
pub fn table<'t, 'i>(value: Place<'t, 'i>, what: &str, complaints: &mut Complaints<'_>) -> Option<&'t DeTable<'i>> {
    let table = value.get_ref().as_table();
    if table.is_none() {
        mistyped(value, what, complaints);
    }
    table
}

/// `value` as a whole number between `min` and `max`.
pub fn whole(value: Place<'_, '_>, what: &str, min: u32, max: u32, complaints: &mut Complaints<'_>) -> Option<u32> {
    let Some(integer) = value.get_ref().as_integer() else {
        mistyped(value, what, complaints);
        return None;
    };
    let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
    let number = number.and_then(|number| u32::try_from(number).ok()).filter(|number| (min..=max).contains(number));
    if number.is_none() {
        complaints.add(value.span(), format!("{integer} is out of range: {what} is {min} to {max}"));
    }
    number
}

/// `value` as a byte count: a string with a unit, or a number.
pub fn bytes(value: Place<'_, '_>, what: &str, complaints: &mut Complaints<'_>) -> Option<u64> {
    let parsed = match value.get_ref() {
        DeValue::String(text) => crate::units::parse_bytes(text),
        DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix())
            .map_err(|_| format!("{integer} is not a byte count: it must be 0 or more and fit 64 bits")),
        _ => {
            mistyped(value, what, complaints);
            return None;
        }
    };
    parsed.map_err(|message| complaints.add(value.span(), message)).ok()
}

/// `value` as a number, whole or not.
pub fn number(value: Place<'_, '_>, what: &str, complaints: &mut Complaints<'_>) -> Option<f64> {
    let number = match value.get_ref() {
        DeValue::Float(float) => float.as_str().parse().ok(),
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
        _ => None,
    };
    if number.is_none() {
        mistyped(value, what, complaints);
    }
    number
}
