//! What is written is read; what is damaged is found, and told where.

use proptest::prelude::*;

mod many;

use super::*;

fn access() -> impl Strategy<Value = Event> {
    let len = prop_oneof![(0u32..7).prop_map(|shift| 1 << shift), any::<u32>()];
    let address = prop_oneof![any::<u64>(), 0x1000u64..0x1100, 0x7fff_0000u64..0x7fff_2000];
    (any::<u16>(), address, len, any::<bool>(), any::<bool>()).prop_map(|(gap, address, len, write, dependent)| {
        Event::Access(Access { at: u64::from(gap) >> 8, address, len, write, dependent })
    })
}

fn other() -> impl Strategy<Value = Event> {
    let words = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<u8>());
    (0..8u8, words).prop_map(|(kind, (a, b, c, d, tier))| {
        let (at, tier, site) = (a >> 40, TierTag(tier), SiteId(d));
        match kind {
            0 => Event::Allocate(Allocate { at, site, address: b, size: c, tier }),
            1 => Event::Free(Free { at, address: b }),
            2 => Event::Reallocate(Reallocate { at, site, old: a, address: b, size: c, tier }),
            3 => Event::Place(Place { at, address: b, len: c, tier }),
            4 => Event::Sample(Sample { at, address: b, write: d & 1 != 0, weight: c, latency_cycles: d }),
            5 => {
                let counts = Counts::Counted { reads: a, writes: c };
                Event::Interval(Interval { at, ticks: c, address: b, len: a, counts })
            }
            6 => {
                let counts = Counts::Seen { hits: d, looks: tier.0.into() };
                Event::Interval(Interval { at, ticks: c, address: b, len: a, counts })
            }
            _ => {
                let action = [KeyAction::Get, KeyAction::Put, KeyAction::Delete][usize::from(tier.0) % 3];
                Event::Key(KeyOperation { at, action, key: b, size: c, tenant: d, request: a })
            }
        }
    })
}

/// Events in two streams, with times that rise in each.
fn streams() -> impl Strategy<Value = Vec<(StreamId, Event)>> {
    let one = (0..2u32, prop_oneof![4 => access(), 1 => other()]);
    proptest::collection::vec(one, 0..300).prop_map(|mut all| {
        let mut now = [0u64; 2];
        for (stream, event) in &mut all {
            let now = &mut now[*stream as usize];
            *now += event.at();
            set_time(event, *now);
        }
        all.into_iter().map(|(stream, event)| (StreamId(stream), event)).collect()
    })
}

pub fn set_time(event: &mut Event, to: u64) {
    match event {
        Event::Access(e) => e.at = to,
        Event::Allocate(e) => e.at = to,
        Event::Free(e) => e.at = to,
        Event::Reallocate(e) => e.at = to,
        Event::Place(e) => e.at = to,
        Event::Sample(e) => e.at = to,
        Event::Interval(e) => e.at = to,
        Event::Key(e) => e.at = to,
    }
}

fn provenance() -> Provenance {
    Provenance {
        tool: "a test".to_owned(),
        command: "program --with 'some words'".to_owned(),
        pid: 7,
        started_unix_ns: 1 << 60,
        clock: Clock::RealNs,
        common_clock: true,
        accesses: Completeness::Exact,
        allocations: Completeness::Sampled(512 << 10),
        notes: vec!["one".to_owned(), "two".to_owned()],
    }
}

fn written(events: &[(StreamId, Event)], flush_each: usize) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &provenance()).unwrap();
    for (n, (stream, event)) in events.iter().enumerate() {
        writer.event(*stream, event).unwrap();
        if n % flush_each == flush_each - 1 {
            writer.flush().unwrap();
        }
    }
    assert_eq!(writer.late(), 0);
    writer.finish().unwrap()
}

fn of_stream(events: &[(StreamId, Event)], stream: StreamId) -> Vec<Event> {
    events.iter().filter(|(s, _)| *s == stream).map(|(_, event)| *event).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read(events in streams(), flush_each in 1usize..100) {
        let bytes = written(&events, flush_each);
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        prop_assert_eq!(reader.provenance(), &provenance());
        let mut found = Vec::new();
        let mut last = None;
        while let Some(block) = reader.next_block().unwrap() {
            last = Some(block.header.kind);
            for event in block.events() {
                found.push((StreamId(block.header.stream), event.unwrap()));
            }
        }
        prop_assert_eq!(last, Some(BlockKind::End));

        let trace = Trace::new(bytes.as_slice(), Strictness::Strict).unwrap();
        prop_assert!(trace.is_complete());
        let merged: Vec<_> = trace.events().collect::<Result<_, _>>().unwrap();
        prop_assert!(merged.windows(2).all(|two| (two[0].1.at(), two[0].0) <= (two[1].1.at(), two[1].0)));
        for stream in [StreamId(0), StreamId(1)] {
            prop_assert_eq!(of_stream(&found, stream), of_stream(&events, stream));
            prop_assert_eq!(of_stream(&merged, stream), of_stream(&events, stream));
        }
    }

    /// Whatever byte is changed, both readers notice, and neither gives an event that was not written.
    #[test]
    fn damage_is_found(events in streams(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = written(&events, 40);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (read, errors) = salvage(&bytes);
        prop_assert!(errors > 0, "nobody noticed byte {}", at);
        for stream in [StreamId(0), StreamId(1)] {
            prop_assert!(is_part_of(&of_stream(&read, stream), &of_stream(&events, stream)));
        }
        let strict = Trace::new(bytes.as_slice(), Strictness::Strict)
            .and_then(|trace| trace.events().collect::<Result<Vec<_>, _>>());
        prop_assert!(strict.is_err());
        if let Ok(trace) = Trace::new(bytes.as_slice(), Strictness::Salvage) {
            let mut merged = trace.events();
            let found: Vec<_> = merged.by_ref().collect::<Result<_, _>>().unwrap();
            prop_assert!(!trace.damage().is_empty() || !merged.damage().is_empty());
            // Without a first block that can be read, a reader of blocks does not begin.
            for stream in [StreamId(0), StreamId(1)].into_iter().filter(|_| Reader::new(bytes.as_slice()).is_ok()) {
                prop_assert_eq!(of_stream(&found, stream), of_stream(&read, stream));
            }
        }
    }

    #[test]
    fn any_bytes_are_either_a_trace_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut file = written(&[], 1);
        file.extend_from_slice(&bytes);
        salvage(&file);
        salvage(&bytes);
    }
}

/// Whether `part` are whole blocks of `all`, in order: here, events of `all` in order.
fn is_part_of(part: &[Event], all: &[Event]) -> bool {
    let mut rest = all.iter();
    part.iter().all(|event| rest.any(|other| other == event))
}

/// Reads as much as there is, and counts the errors.
fn salvage(bytes: &[u8]) -> (Vec<(StreamId, Event)>, usize) {
    let (mut events, mut errors) = (Vec::new(), 0);
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return (events, 1);
        }
    };
    loop {
        match reader.next_block() {
            Ok(None) => return (events, errors),
            Ok(Some(block)) => {
                let stream = StreamId(block.header.stream);
                for event in block.events() {
                    match event {
                        Ok(event) => events.push((stream, event)),
                        Err(_) => errors += 1,
                    }
                }
            }
            Err(error) if error.is_truncated() => return (events, errors + 1),
            Err(_) => errors += 1,
        }
    }
}

fn some_events(count: u64) -> Vec<(StreamId, Event)> {
    let access = |n| Access { at: n, address: 0x1000 + n % 7 * 64, len: 8, write: n % 3 == 0, dependent: false };
    (0..count).map(|n| (StreamId(3), Event::Access(access(n)))).collect()
}

#[test]
fn a_file_that_was_cut_says_where_and_what_is_left() {
    let events = some_events(1000);
    let bytes = written(&events, 100);
    let ends: Vec<usize> = {
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        let mut ends = vec![bytes.len() - reader_rest(&bytes)];
        while let Some(block) = reader.next_block().unwrap() {
            ends.push((block.offset + block.header.block_len()) as usize);
        }
        ends
    };
    assert_eq!(ends.len(), 12, "one of provenance, ten of events, and the end");
    for cut in 17..bytes.len() {
        let part = &bytes[..cut];
        let Ok(mut reader) = Reader::new(part) else { continue };
        let error = loop {
            match reader.next_block() {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let whole = ends.iter().filter(|&&end| end <= cut).count() as u64 - 1;
        // Between two blocks nothing is missing but the end.
        assert_eq!(error.is_none(), ends.contains(&cut), "{cut}");
        if let Some(error) = error {
            assert!(error.is_truncated(), "{error}");
            assert_eq!(error.readable.blocks, 1 + whole);
            assert_eq!(error.readable.times.map(|(_, last)| last + 1), (whole > 0).then_some((100 * whole).min(1000)));
            let strict = Trace::new(part, Strictness::Strict).unwrap_err();
            assert_eq!((strict.offset, strict.block, strict.readable), (error.offset, error.block, error.readable));
            let salvaged = Trace::new(part, Strictness::Salvage).unwrap();
            assert_eq!((salvaged.readable(), salvaged.is_complete()), (error.readable, false));
        }
    }
}

/// Bytes behind the first block.
fn reader_rest(bytes: &[u8]) -> usize {
    let first = Trace::new(bytes, Strictness::Strict).unwrap().places()[&StreamId(3)][0].offset;
    bytes.len() - first as usize
}

/// A file that grows piece by piece, each time the reader comes to its end.
struct Growing<'a> {
    bytes: &'a [u8],
    pauses: usize,
}

impl std::io::Read for Growing<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.pauses += 1;
        if self.pauses.is_multiple_of(2) {
            return Ok(0);
        }
        let count = self.bytes.len().min(into.len()).min(77);
        into[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

#[test]
fn a_file_can_be_read_while_it_grows() {
    let events = some_events(1000);
    let bytes = written(&events, 100);
    let start = bytes.len().min(300);
    // The first block has to be there.
    let first = std::io::Read::chain(&bytes[..start], Growing { bytes: &bytes[start..], pauses: 0 });
    let mut reader = Reader::new(first).unwrap();
    let (mut found, mut waits) = (Vec::new(), 0);
    loop {
        match reader.next_block() {
            Ok(Some(block)) if block.header.kind == BlockKind::End => break,
            Ok(Some(block)) => found.extend(block.events().map(|event| (StreamId(3), event.unwrap()))),
            Ok(None) => waits += 1,
            Err(error) => {
                assert!(error.is_truncated(), "{error}");
                waits += 1;
            }
        }
    }
    assert_eq!(found, events);
    assert!(waits > 10);
}

#[test]
fn another_version_and_another_file_are_named() {
    let mut bytes = written(&[], 1);
    bytes[8] = 9;
    let checksum = crc32c::crc32c(&bytes[..12]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    for error in [Reader::new(bytes.as_slice()).unwrap_err(), Trace::new(&bytes[..], Strictness::Salvage).unwrap_err()]
    {
        assert!(error.is_version());
        assert!(error.to_string().contains("version 9"), "{error}");
    }
    let error = Reader::new(&b"#!/bin/sh\n"[..]).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotATrace));
    assert!(matches!(Reader::new(&b""[..]).unwrap_err().kind, ErrorKind::NotATrace));
    assert!(Reader::new(&b"TMTRACE\0\x01"[..]).unwrap_err().is_truncated());
}

#[test]
fn a_missing_block_is_told_once() {
    let bytes = written(&some_events(400), 100);
    let place = Trace::new(bytes.as_slice(), Strictness::Strict).unwrap().places()[&StreamId(3)][1];
    let (from, len) = (place.offset as usize, place.header.block_len() as usize);
    let without = [&bytes[..from], &bytes[from + len..]].concat();
    let error = Trace::new(without.as_slice(), Strictness::Strict).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Gap { stream: 3, expected: 1, found: 2 }), "{error}");
    let (events, errors) = salvage(&without);
    assert_eq!((events.len(), errors), (300, 1));
}

#[test]
fn definitions_are_found_wherever_they_stand() {
    let mut writer = Writer::new(Vec::new(), &provenance()).unwrap();
    let site = |frames| Definition::Site(Site { id: SiteId(1), frames });
    let module = Definition::Module { start: 0x1000, end: 0x2000, offset: 0x300, path: "/bin/program".to_owned() };
    let frames = vec![Frame::Address(0x1010), Frame::Symbol("main".to_owned()), Frame::Address(0x2000)];
    for event in some_events(2) {
        writer.event(event.0, &event.1).unwrap();
    }
    writer.flush().unwrap();
    writer.define(&site(frames)).unwrap();
    writer.define(&module).unwrap();
    writer.define(&Definition::Tier { tag: TierTag(1), name: "slow".to_owned() }).unwrap();
    writer.define(&Definition::Stream { id: StreamId(3), os_id: 12, name: "worker".to_owned() }).unwrap();
    let bytes = writer.finish().unwrap();
    let trace = Trace::new(bytes.as_slice(), Strictness::Strict).unwrap();
    let catalog = trace.catalog();
    let code = Frame::Code { module: "/bin/program".to_owned(), offset: 0x310 };
    let symbol = Frame::Symbol("main".to_owned());
    assert_eq!(catalog.frames(SiteId(1)), Some(vec![code, symbol, Frame::Address(0x2000)]));
    assert_eq!(catalog.frames(SiteId(2)), None);
    assert_eq!((catalog.tier(TierTag(1)), catalog.tier(TierTag(0))), (Some("slow"), None));
    assert_eq!(catalog.stream(StreamId(3)), Some((12, "worker")));
}

/// What the format promises: typical accesses take two or three bytes.
#[test]
fn accesses_are_small() {
    let mut encoder = Encoder::new(StreamId(0));
    let mut bytes = 0;
    // Two arrays in step, a stack, and a table that is looked up at random within 16 MiB.
    let mut random = 1u64;
    for n in 0..100_000u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let stack = 0x7fff_ffff_0000 - random % 16 * 8;
        let table = 0x5555_0000_0000 + (random >> 40 & !7);
        let all = [0x1000_0000 + n * 8, 0x2000_0000 + n * 4, stack, table];
        for (i, address) in all.into_iter().enumerate() {
            let at = n * 9 + i as u64 * 2;
            encoder.push_access(&Access { at, address, len: 8, write: i == 2, dependent: i == 3 });
            if encoder.is_full() {
                bytes += encoder.seal().len();
            }
        }
    }
    bytes += encoder.seal().len();
    let each = bytes as f64 / 400_000.0;
    assert!(each < 3.3, "{each} bytes an access");
}
