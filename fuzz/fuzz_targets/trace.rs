//! Any bytes as a trace: what is wrong is told, nothing panics, and both readers find the same events.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tiermem_emulator::trace::{BlockKind, Reader, Strictness, Trace};

fuzz_target!(|input: &[u8]| {
    let mut found = 0;
    if let Ok(mut reader) = Reader::new(input) {
        loop {
            match reader.next_block() {
                Ok(None) => break,
                Ok(Some(block)) => {
                    let _ = block.definitions();
                    if block.header.kind == BlockKind::Events {
                        found += block.events().filter(Result::is_ok).count();
                    }
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    if error.is_truncated() {
                        break;
                    }
                }
            }
        }
        let trace = Trace::new(input, Strictness::Salvage).expect("the other reader could begin");
        assert_eq!(trace.events().filter(Result::is_ok).count(), found);
    }
    let _ = Trace::new(input, Strictness::Strict).map(|trace| trace.events().count());
});
