//! A last look at the heap when the process exits: blocks that were never freed, or never handed out again, are where they
//! should be and end where they should.

use tiermem_sys::sync::atomic::Ordering;

use super::allocate::seal_of;
use super::free::is_guarded;
use super::strong::{self, Since};
use super::tail::State;
use super::{has_tails, is_strong, key, large, report};
use crate::heap::{collect_idle, tls};
use crate::span::{Block, Span, State as SpanState};
use crate::{arena, tiers};

/// What was found.
#[derive(Clone, Copy)]
enum Finding {
    Overflow(&'static Span, *mut u8, usize),
    LargeOverflow(&'static Span, *mut u8, usize),
    Broken(&'static Span, *mut u8),
    Written(&'static Span, *mut u8, usize),
    Astray(&'static Span, *mut u8),
}

/// Looks at every block of this thread's spans, and at large ones; reports the first that is wrong.
///
/// Other threads may go on meanwhile. They change neither this thread's spans nor, as the pools' locks are held, what large
/// blocks lie on; a block that changes while it is looked at is left out.
pub fn sweep() {
    if !has_tails() {
        return;
    }
    let Some(own) = tls::attached() else { return };
    // Blocks that wait are looked at on their way: those of threads that have ended, and what was sent here.
    collect_idle();
    // The purger keeps away from here on, and gives none of this thread's spans back.
    let busy = own.busy();
    own.collect();
    let mut found = None;
    for slot in tiers::all() {
        slot.pool.for_each_extent(|index| {
            for span in arena::units_of(index) {
                if found.is_some() {
                    return;
                }
                found = match span.state() {
                    SpanState::Large => look_at_large(span),
                    SpanState::Current | SpanState::Queued | SpanState::Asleep if span.is_of(own) => {
                        look_at_blocks(span).or_else(|| look_at_list(span))
                    }
                    _ => None,
                };
            }
        });
    }
    drop(busy);
    // Now that no lock is held.
    match found {
        Some(Finding::Overflow(span, at, slack)) => report::overflow(span, at, slack, 0),
        Some(Finding::LargeOverflow(span, at, asked)) => report::large_overflow(span, at, asked, 0),
        Some(Finding::Broken(span, at)) => report::not_free(span, at),
        Some(Finding::Written(span, at, offset)) => report::written_after_free(span, at, offset),
        // A link is the first word.
        Some(Finding::Astray(span, at)) => report::written_after_free(span, at, 0),
        None => {}
    }
}

fn look_at_large(span: &'static Span) -> Option<Finding> {
    let asked = span.asked()?;
    let at = large::block_of(span);
    let wrong = large::is_guarded_still(at, asked) == Some(false) && span.asked() == Some(asked);
    wrong.then_some(Finding::LargeOverflow(span, at, asked))
}

fn look_at_blocks(span: &'static Span) -> Option<Finding> {
    let size = span.block_size();
    (0..span.carved()).find_map(|i| {
        let at = std::ptr::with_exposed_provenance_mut::<u8>(span.start() + i * size);
        let key = key(at.addr());
        // SAFETY: a block of the span.
        let seal = unsafe { seal_of(at, size) };
        let said = seal.load(Ordering::Acquire);
        let finding = match key.open(said) {
            None => Some(Finding::Broken(span, at)),
            Some(State::Used { slack }) if !is_guarded(at, size, slack, said) => {
                Some(Finding::Overflow(span, at, slack))
            }
            Some(State::Free) if is_strong() => {
                strong::written_at(span, at, Since::Listed).map(|offset| Finding::Written(span, at, offset))
            }
            Some(State::Quarantined) => {
                strong::written_at(span, at, Since::Quarantined).map(|offset| Finding::Written(span, at, offset))
            }
            Some(_) => None,
        };
        finding.filter(|_| seal.load(Ordering::Acquire) == said)
    })
}

/// Follows the free list, whose length is known. Only this thread changes it.
fn look_at_list(span: &'static Span) -> Option<Finding> {
    let (mut at, mut left) = (span.head(), span.free_blocks());
    let mut last = at;
    while left > 0 && !at.is_null() && span.is_block(at.addr()) {
        last = at;
        // SAFETY: a block of the span, and on its list.
        at = unsafe { Block::next(at) };
        left -= 1;
    }
    let sound = last.is_null() || (left == 0 && at.is_null());
    (!sound).then(|| Finding::Astray(span, last.cast()))
}
