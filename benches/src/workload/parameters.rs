//! `name=value` amounts on the command line of a workload.

use std::collections::BTreeMap;
use std::fmt;

/// Amounts of work, each with a default that the workload names where it asks.
#[derive(Clone, Debug, Default)]
pub struct Parameters(BTreeMap<String, String>);

/// An argument that is not `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownParameter(pub String);

impl fmt::Display for UnknownParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a parameter; write name=value, for example ops=1000000", self.0)
    }
}

impl std::error::Error for UnknownParameter {}

impl Parameters {
    /// Reads `name=value` arguments.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, UnknownParameter> {
        arguments
            .map(|argument| match argument.split_once('=') {
                Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
                _ => Err(UnknownParameter(argument)),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The number given for `name`, or `default`. A value that is no number is an error of the caller.
    pub fn number(&self, name: &str, default: usize) -> usize {
        self.0.get(name).map_or(default, |value| {
            value.parse().unwrap_or_else(|_| panic!("{name}={value}: expected a whole number"))
        })
    }

    /// The word given for `name`, or `default`.
    pub fn word<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    /// Threads to use (`threads`), two by default.
    pub fn threads(&self) -> usize {
        self.number("threads", 2).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_split_and_the_rest_refused() {
        let parse = |text: &str| Parameters::parse(text.split(' ').map(String::from));
        let parameters = parse("ops=12 order=fifo").expect("both are name=value");
        assert_eq!((parameters.number("ops", 1), parameters.number("live", 9)), (12, 9));
        assert_eq!(parameters.word("order", "lifo"), "fifo");
        assert_eq!(parse("ops").unwrap_err(), UnknownParameter("ops".into()));
    }
}
