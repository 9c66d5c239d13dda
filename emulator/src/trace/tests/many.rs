//! Accesses many at a time, against events one by one.

use super::*;
use crate::trace::decode::PADDING;
use crate::trace::{BlockHeader, Events, Readable};

/// All events, one by one; and all, a few accesses at a time.
fn one_by_one_and_many(mut events: Events<&[u8]>, most: usize) -> [(Vec<Event>, Option<String>); 2] {
    let mut many = events.clone();
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    alone.extend(std::iter::from_fn(|| events.advance()));
    loop {
        many.accesses(most, |access| together.push(Event::Access(*access)));
        let Some(event) = many.advance() else { break };
        together.push(event);
    }
    let error = |events: &Events<&[u8]>| events.finish().err().map(|error| error.to_string());
    [(alone, error(&events)), (together, error(&many))]
}

fn without_accesses(events: impl Iterator<Item = Event>) -> Vec<Event> {
    events.filter(|event| !matches!(event, Event::Access(_))).collect()
}

proptest! {
    #[test]
    fn many_accesses_at_once_are_the_same(
        mut events in streams(),
        gaps in proptest::collection::vec(0..60u32, 300),
        most in 1..30usize,
    ) {
        let mut at = 0_u64;
        for ((_, event), gap) in events.iter_mut().zip(gaps) {
            at = at.saturating_add((1 << gap) - 1);
            set_time(event, at);
        }
        let bytes = written(&events, 300);
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        while let Some(block) = reader.next_block().unwrap() {
            let [alone, together] = one_by_one_and_many(block.events(), most);
            prop_assert_eq!(&alone, &together);
            prop_assert_eq!(without_accesses(block.events().others()), without_accesses(alone.0.into_iter()));
        }
    }

    #[test]
    fn many_accesses_at_once_are_as_malformed(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), most in 1..30usize, records in 0..120u32) {
        let header = BlockHeader { kind: BlockKind::Events, len: bytes.len() as u32, records, stream: 0, sequence: 0, first: 7, last: 9, checksum: 0 };
        bytes.resize(bytes.len() + PADDING, 0);
        let events = Events::new(&header, bytes.as_slice(), 0, 0, Readable::default());
        let [alone, together] = one_by_one_and_many(events.clone(), most);
        prop_assert_eq!(without_accesses(events.others()), without_accesses(alone.0.clone().into_iter()));
        prop_assert_eq!(alone, together);
    }
}
