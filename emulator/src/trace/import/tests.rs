//! Small inputs of each kind, as the tools print them, and broken ones.

use super::*;
use crate::trace::{Access, Counts, KeyAction, Strictness, Trace};

fn imported(source: &Source, text: &str) -> Vec<(StreamId, Event)> {
    let (_, bytes) = import(source, text.as_bytes(), Vec::new(), false).unwrap();
    let trace = Trace::new(bytes.as_slice(), Strictness::Strict).unwrap();
    trace.events().collect::<Result<_, _>>().unwrap()
}

/// The message for a text with a bad line, and how often it is skipped.
fn complaint(source: &Source, text: &str) -> String {
    import(source, text.as_bytes(), Vec::new(), false).unwrap_err().to_string()
}

const LACKEY: &str = "\
==123== Lackey, an example Valgrind tool\n\
I  04001090,3\n\
\u{20}L 1ffefff7f0,8\n\
I  04001093,5\n\
I  04001098,5\n\
\u{20}S 1ffefff7e8,4\n\
\u{20}M 0421c7cc,16\n\
==123== \n";

#[test]
fn lackey_lines_become_accesses_timed_by_instructions() {
    let access =
        |at, address, len, write| (StreamId(0), Event::Access(Access { at, address, len, write, dependent: false }));
    let expected = [
        access(1, 0x1f_feff_f7f0, 8, false),
        access(3, 0x1f_feff_f7e8, 4, true),
        access(3, 0x0421_c7cc, 16, false),
        access(3, 0x0421_c7cc, 16, true),
    ];
    assert_eq!(imported(&Source::Lackey, LACKEY), expected);
}

#[test]
fn a_bad_line_is_told_or_skipped_and_counted() {
    let text = format!("{LACKEY}hello from the program\n L 10,8\n L xyz,8\n");
    assert!(complaint(&Source::Lackey, &text).starts_with("line 9: `hello from the program` is no line of lackey's"));
    let (summary, _) = import(&Source::Lackey, text.as_bytes(), Vec::new(), true).unwrap();
    assert_eq!((summary.lines, summary.events, summary.skipped), (11, 5, 2));
    assert_eq!(summary.first_skipped.unwrap().0, 9);
    // Skipping everything is no import.
    assert!(import(&Source::Lackey, &b"nothing\n"[..], Vec::new(), true).is_err());
    assert!(complaint(&Source::Lackey, "").contains("nothing to import"));
}

const PERF: &str = "\
# captured on: some day\n\
        Web Content 46572/46573 [002] 544966.882384:      10000 cpu/mem-loads,ldlat=30/P:     7ffdf1391b0c      10268100142 |OP LOAD|LVL L1 hit|SNP None|TLB L1 or L2 hit|LCK No|BLK    N/A               7\n\
program 7 544966.882385123:          1 cpu/mem-stores/P:     55d0a1b2c3d8       5080022 |OP STORE|LVL L1 hit|SNP N/A|TLB N/A|LCK N/A|BLK  N/A\n\
\n";

#[test]
fn perf_samples_become_samples_by_thread() {
    let events = imported(&Source::Perf, PERF);
    let load =
        Sample { at: 544_966_882_384_000, address: 0x7ffd_f139_1b0c, write: false, weight: 10_000, latency_cycles: 7 };
    let store =
        Sample { at: 544_966_882_385_123, address: 0x55d0_a1b2_c3d8, write: true, weight: 1, latency_cycles: 0 };
    assert_eq!(events, [(StreamId(46573), Event::Sample(load)), (StreamId(7), Event::Sample(store))]);
    let (_, bytes) = import(&Source::Perf, PERF.as_bytes(), Vec::new(), false).unwrap();
    let trace = Trace::new(bytes.as_slice(), Strictness::Strict).unwrap();
    assert_eq!(trace.catalog().stream(StreamId(46573)), Some((46573, "Web Content")));
}

use crate::trace::Sample;

#[test]
fn samples_of_code_are_refused_with_a_reason() {
    for event in ["cpu-clock:u", "cpu-clock", "cycles:ppp", "task-clock:", "cpu_core/cycles/"] {
        let text = format!("program 7 12.5: 250000 {event}:  55f4b0e1d1a9 main+0x19 (/usr/bin/program)\n");
        let error = import(&Source::Perf, text.as_bytes(), Vec::new(), true).unwrap_err();
        assert!(matches!(&error, ImportError::Refused { number: 1, .. }), "{error}");
        assert!(error.to_string().contains("perf mem record"), "{error}");
    }
    assert!(complaint(&Source::Perf, "program 7 12.5: 1 cpu/mem-loads/: main\n").contains("no data address"));
    assert!(complaint(&Source::Perf, "no samples here\n").contains("no time"));
}

const DAMON: &str = "\
    kdamond.0 46568 [027] 79357.842179: damon:damon_aggregated: target_id=0 nr_regions=2 4096-8192: 0 864\n\
    kdamond.0 46568 [027] 79357.842179: damon:damon_aggregated: target_id=0 nr_regions=2 8192-20480: 19 3\n\
    kdamond.0 46568 [027] 79357.942179: damon:damon_aggregated: target_id=0 nr_regions=1 4096-20480: 5 0\n";

#[test]
fn damon_regions_become_intervals() {
    let interval = |at, address, len, hits| {
        let counts = Counts::Seen { hits, looks: 20 };
        (StreamId(0), Event::Interval(super::super::Interval { at, ticks: 100_000_000, address, len, counts }))
    };
    let (first, second) = (79_357_842_179_000, 79_357_942_179_000);
    let expected = [interval(first, 4096, 4096, 0), interval(first, 8192, 12288, 19), interval(second, 4096, 16384, 5)];
    assert_eq!(imported(&Source::Damon { looks: 20 }, DAMON), expected);
    // The same from the kernel's trace buffer.
    let buffer = DAMON.replace("kdamond.0 46568 [027]", "kdamond.0-46568 [027] .....").replace("damon:", "");
    assert_eq!(imported(&Source::Damon { looks: 20 }, &buffer), expected);
    assert!(complaint(&Source::Damon { looks: 10 }, DAMON).starts_with("line 2: accessed in 19 of 10 looks"));
    assert!(
        complaint(&Source::Damon { looks: 0 }, "kdamond 1 1.0: damon_aggregated: target_id=0\n").contains("START-END")
    );
    // Three parts of one snapshot, whose interval nobody knows.
    let one: String = DAMON.lines().take(2).map(|line| format!("{line}\n")).collect();
    assert_eq!(imported(&Source::Damon { looks: 20 }, &one).len(), 2);
}

#[test]
fn csv_columns_are_found_by_name() {
    let source = Source::Csv { columns: None, unit: TimeUnit::Milliseconds };
    let text = "op,key,size,time,else\nget,17,100,5,x\nset,\"a,b\",200,6.5,y\ndelete,17,0,7,z\n";
    let events = imported(&source, text);
    let operations: Vec<_> = events
        .iter()
        .map(|(_, event)| match event {
            Event::Key(o) => (o.at, o.action, o.size, o.request),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        (5_000_000, KeyAction::Get, 100, 1),
        (6_500_000, KeyAction::Put, 200, 2),
        (7_000_000, KeyAction::Delete, 0, 3),
    ];
    assert_eq!(operations, expected);
    assert!(complaint(&source, "a,b\n1,2\n").contains("no column is called `key`"));
    assert!(complaint(&source, "key,key\n1,2\n").contains("two columns"));
    assert!(complaint(&source, "key,size\n1,2\n1,many\n").starts_with("line 3: `many` is no size"));
    assert!(complaint(&source, "key,op\n1,get\n2,look\n").starts_with("line 3: `look` is no operation"));
    let twitter = Source::Csv { columns: Some(Columns::twitter()), unit: TimeUnit::Seconds };
    assert_eq!(imported(&twitter, "0,q:q:1:8WTfjZU14ee,17,213,4,get,0\n").len(), 1);
}

#[test]
fn conversations_ask_for_the_blocks_of_their_prefix() {
    let text = "{\"timestamp\": 0, \"input_length\": 900, \"output_length\": 5, \"hash_ids\": [0, 1]}\n\
                {\"timestamp\": 3000, \"input_length\": 900, \"output_length\": 5, \"hash_ids\": [0, 2]}\n";
    let source = Source::Conversation { block_bytes: 4096 };
    let keys: Vec<_> = imported(&source, text)
        .iter()
        .map(|(_, event)| match event {
            Event::Key(o) => (o.at, o.key, o.size, o.request),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(keys, [(0, 0, 4096, 1), (0, 1, 4096, 1), (3_000_000_000, 0, 4096, 2), (3_000_000_000, 2, 4096, 2)]);
    assert!(complaint(&source, "{\"timestamp\": 0}\n").starts_with("line 1: missing field `hash_ids`"));
    assert!(complaint(&source, "{\"timestamp\": -1, \"hash_ids\": []}\n").contains("timestamp of -1"));
}
