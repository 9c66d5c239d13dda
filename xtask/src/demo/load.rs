//! Filling a server with values and checking every one of them.

use std::ops::Range;

use super::resp::{Client, Reply};
use super::values;
use crate::failure::{Context, Failure, Result};

/// Commands in flight at once.
const PIPELINE: u64 = 64;
/// Bytes in flight at once, so that neither side's socket fills up.
const PIPELINE_BYTES: usize = 256 << 10;
/// How many wrong values are described.
const SHOWN_MAX: usize = 5;

/// Sets `keys` to their values after `rewrites` rewrites; how many bytes of values that is.
pub fn set(client: &mut Client, keys: impl IntoIterator<Item = u64>, rewrites: u64) -> Result<u64> {
    let mut value = Vec::new();
    let mut bytes = 0;
    let mut in_flight = 0u64;
    for key in keys {
        values::fill(&mut value, key, rewrites);
        bytes += value.len() as u64;
        client.push(&[b"SET", values::name(key).as_bytes(), &value]);
        in_flight += 1;
        if in_flight == PIPELINE || client.pending() >= PIPELINE_BYTES {
            settle(client, in_flight)?;
            in_flight = 0;
        }
    }
    settle(client, in_flight)?;
    Ok(bytes)
}

/// Sends the pipeline of SETs and takes their replies.
fn settle(client: &mut Client, in_flight: u64) -> Result<()> {
    client.send().while_doing("sending values")?;
    for _ in 0..in_flight {
        match client.reply().while_doing("the reply to SET")? {
            Reply::Simple(ok) if ok == "OK" => {}
            other => return Err(Failure::new(format!("SET was refused: {other}"))),
        }
    }
    Ok(())
}

/// What a check of all values found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Values that are right.
    pub right: u64,
    /// Values that are wrong or missing.
    pub wrong: u64,
    /// The first few of those, described.
    pub examples: Vec<String>,
}

/// Reads all of `keys`; `rewrites` tells how often each was rewritten.
pub fn verify(client: &mut Client, keys: Range<u64>, rewrites: impl Fn(u64) -> u64) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut expected = Vec::new();
    let mut from = keys.start;
    while from < keys.end {
        let batch = from..keys.end.min(from + PIPELINE);
        from = batch.end;
        batch.clone().for_each(|key| client.push(&[b"GET", values::name(key).as_bytes()]));
        client.send().while_doing("asking for values")?;
        for key in batch {
            values::fill(&mut expected, key, rewrites(key));
            let reply = client.reply().while_doing("the reply to GET")?;
            match difference(&expected, &reply) {
                None => verdict.right += 1,
                Some(what) => {
                    verdict.wrong += 1;
                    if verdict.examples.len() < SHOWN_MAX {
                        verdict.examples.push(format!("{}: {what}", values::name(key)));
                    }
                }
            }
        }
    }
    Ok(verdict)
}

fn difference(expected: &[u8], reply: &Reply) -> Option<String> {
    match reply {
        Reply::Bulk(bytes) if bytes == expected => None,
        Reply::Bulk(bytes) if bytes.len() != expected.len() => {
            Some(format!("{} bytes, not {}", bytes.len(), expected.len()))
        }
        Reply::Bulk(bytes) => {
            let at = bytes.iter().zip(expected).position(|(got, want)| got != want);
            Some(format!("differs from byte {} of {} on", at.unwrap_or_default(), expected.len()))
        }
        other => Some(format!("the server says {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_wrong_value_is_noticed() {
        assert_eq!(difference(b"abc", &Reply::Bulk(b"abc".to_vec())), None);
        assert!(difference(b"abc", &Reply::Bulk(b"abx".to_vec())).is_some_and(|what| what.contains("byte 2 of 3")));
        assert!(difference(b"abc", &Reply::Bulk(b"ab".to_vec())).is_some_and(|what| what.contains("2 bytes, not 3")));
        assert!(difference(b"abc", &Reply::Nil).is_some());
        assert!(difference(b"OK", &Reply::Simple("OK".to_owned())).is_some());
    }
}
