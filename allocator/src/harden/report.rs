//! Saying what was caught: on standard error, without allocating and without a lock of ours, and then the end.
//!
//! The words follow one pattern, so that they can be searched for: `tiermem: KIND: …`, then who allocated and who freed the
//! block, then what to do.

use std::ptr::NonNull;

use tiermem_sys::sync::atomic::Ordering;
use tiermem_sys::{process, symbol, thread};

use super::allocate::seal_of;
use super::free::Claim;
use super::tail::{self, Epitaph, State};
use super::text::Text;
use super::{goes_on, key, large, sites};
use crate::control::{self, EventKind};
use crate::span::{Block, Span, State as SpanState};
use crate::{arena, tiers};

/// What was tried with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It was freed.
    Free,
    /// It was resized.
    Resize,
    /// Its size was asked for.
    Measure,
}

impl Deed {
    const fn past(self) -> &'static [u8] {
        match self {
            Self::Free => b"freed",
            Self::Resize => b"given to realloc",
            Self::Measure => b"given to malloc_usable_size",
        }
    }
}

/// A report under construction.
struct Report {
    text: Text,
    tier: Option<u8>,
    size: usize,
}

impl Report {
    fn new(kind: &[u8]) -> Self {
        let mut text = Text::new();
        text.add(b"tiermem: ").add(kind).add(b": ");
        Self { text, tier: None, size: 0 }
    }

    fn say(mut self, words: &[u8]) -> Self {
        self.text.add(words);
        self
    }

    fn hex(mut self, address: usize) -> Self {
        self.text.hex(address);
        self
    }

    fn number(mut self, number: usize) -> Self {
        self.text.number(number);
        self
    }

    /// Names a block of a class; `seal` is what its seal was while the program had it, where that is known.
    fn block(self, span: &Span, at: *mut u8, used: Option<(usize, u16)>) -> Self {
        let size = span.block_size();
        let mut this = self.say(b"the block at ").hex(at.addr());
        if let Some((slack, _)) = used {
            this.size = size.saturating_sub(slack);
            this = this.say(b" of ").number(size.saturating_sub(slack)).say(b" bytes");
        }
        this.say(b" (class ").number(size).end_block(span.tier())
    }

    fn large_block(self, span: &Span, at: *mut u8, asked: Option<usize>) -> Self {
        let mut this = self.say(b"the large block at ").hex(at.addr());
        if let Some(asked) = asked {
            this.size = asked;
            this = this.say(b" of ").number(asked).say(b" bytes");
        }
        this.say(b" (").number(span.size()).say(b" bytes held").end_block(span.tier())
    }

    fn end_block(mut self, tier: u8) -> Self {
        self.tier = Some(tier);
        let (name, _) = tiers::slot(tier).identity();
        self.say(b", tier ").say(name.as_str().as_bytes()).say(b", thread ").number(thread::id() as usize).say(b")")
    }

    /// A line that names the code at `caller`.
    fn by(mut self, what: &[u8], caller: usize) -> Self {
        if caller == 0 {
            return self;
        }
        self.text.add(b"\ntiermem:   ").add(what).add(b" by ");
        match symbol::locate(caller) {
            Some(place) => {
                self.text.add(place.module.to_bytes()).add(b"+").hex(place.offset);
                if let Some(function) = place.function {
                    self.text.add(b" (").add(function.to_bytes()).add(b")");
                }
            }
            None => {
                self.text.hex(caller);
            }
        }
        self
    }

    fn by_site(self, what: &[u8], site: u16) -> Self {
        self.by(what, sites::address(site))
    }

    /// The lines about a block that is not in use any more.
    fn past(self, span: &Span, at: *mut u8) -> Self {
        match epitaph(span, at) {
            Some(known) => self.by_site(b"allocated", known.allocated_by).by_site(b"freed", known.freed_by),
            None => self,
        }
    }

    /// Publishes the report, and ends the process unless it is to go on.
    fn send(mut self, advice: &[u8]) {
        self.text.add(b"\ntiermem:   ").add(advice);
        if goes_on() {
            self.text.add(b"\n");
        } else {
            self.text.add(b"; TIERMEM_HARDEN=check,report or strong,report would have the program go on\n");
        }
        process::say(self.text.as_bytes());
        control::event(EventKind::Misuse, self.tier, self.size as u64);
        if !goes_on() {
            control::publish();
            process::abort();
        }
    }

    /// As [`Report::send`], of damage with which nobody can go on.
    fn send_and_end(mut self, advice: &[u8]) -> ! {
        self.text.add(b"\ntiermem:   ").add(advice).add(b"\n");
        process::say(self.text.as_bytes());
        control::event(EventKind::Misuse, self.tier, self.size as u64);
        control::publish();
        process::abort();
    }
}

const LOOK_AT_LIFETIMES: &[u8] =
    b"look for a second owner of the block, or run the program under AddressSanitizer for both call stacks";
const LOOK_AT_SIZES: &[u8] = b"look at how the writer computes its lengths; it is code that uses this block";
const LOOK_FOR_WRITER: &[u8] =
    b"somebody kept the pointer and wrote through it; TIERMEM_HARDEN=strong finds such writes sooner";

/// What a block's seal says, and the seal.
fn seal(span: &Span, at: *mut u8) -> Option<(State, u64)> {
    // SAFETY: callers have found that the block is one of the span.
    let seal = unsafe { seal_of(at, span.block_size()) }.load(Ordering::Relaxed);
    key(at.addr()).open(seal).map(|state| (state, seal))
}

/// What is still known of a block that was freed.
fn epitaph(span: &Span, at: *mut u8) -> Option<Epitaph> {
    if span.block_size() <= 16 {
        return None;
    }
    // SAFETY: the second word of a block of the span.
    let word = unsafe { at.cast::<u64>().add(1).read_volatile() };
    key(at.addr()).read_epitaph(word)
}

/// Slack and allocating site of a block, in use or freed.
fn used(span: &Span, at: *mut u8) -> Option<(usize, u16)> {
    match seal(span, at) {
        Some((State::Used { slack }, seal)) => Some((slack, tail::site(seal))),
        _ => epitaph(span, at).map(|epitaph| (epitaph.slack, epitaph.allocated_by)),
    }
}

fn pointer(address: usize) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(address)
}

/// An address was freed, resized or measured that is not that of a block in use.
#[cold]
#[inline(never)]
pub fn bad_free(at: *mut u8, caller: usize, deed: Deed) {
    let Some(span) = arena::span_of(at.addr()) else { return outside(at, caller, deed) };
    if span.state() == SpanState::Large {
        return bad_large_free(span, at, caller, deed);
    }
    if !span.is_block(at.addr()) {
        let block = pointer(span.block_around(at.addr()));
        let used = span.is_block(block.addr()).then(|| used(span, block)).flatten();
        let report = Report::new(b"invalid free of an interior pointer").hex(at.addr()).say(b" is ");
        let report = report.number(at.addr() - block.addr()).say(b" bytes into ").block(span, block, used);
        let report = report.by_site(b"allocated", used.map_or(0, |(_, site)| site)).by(deed.past(), caller);
        return report.send(b"give back the pointer that was handed out, not one into the block");
    }
    match seal(span, at) {
        Some((State::Used { .. }, _)) | None => broken_seal(span, at, caller, deed),
        Some(_) => {
            let kind: &[u8] = match deed {
                Deed::Free => b"double free",
                Deed::Resize => b"realloc of a freed block",
                Deed::Measure => b"use after free",
            };
            let report = Report::new(kind).block(span, at, used(span, at)).past(span, at);
            report.by(b"and again", caller).send(LOOK_AT_LIFETIMES);
        }
    }
}

fn broken_seal(span: &Span, at: *mut u8, caller: usize, deed: Deed) {
    let index = (at.addr() - span.start()) / span.block_size().max(1);
    if index >= span.carved() {
        let report = Report::new(b"invalid free").hex(at.addr()).say(b" was never handed out");
        return report.by(deed.past(), caller).send(LOOK_AT_LIFETIMES);
    }
    // SAFETY: `bad_free` has found that the block is one of the span.
    let found = unsafe { seal_of(at, span.block_size()) }.load(Ordering::Relaxed);
    let report = Report::new(b"overflow").say(b"the end of ").block(span, at, None).say(b" was written over");
    // What was written often tells by whom.
    let report = report.say(b" and reads ").hex(found as usize);
    report.by(deed.past(), caller).send(LOOK_AT_SIZES);
}

fn bad_large_free(span: &Span, at: *mut u8, caller: usize, deed: Deed) {
    let block = large::block_of(span);
    let report = match span.asked() {
        Some(asked) => {
            let report =
                Report::new(b"invalid free of an interior pointer").hex(at.addr()).say(b" is not the start of ");
            report.large_block(span, block, Some(asked))
        }
        None => Report::new(b"double free").large_block(span, block, None),
    };
    let report = report.by(b"allocated", span.allocated_by());
    let report = if span.asked().is_none() { report.by(b"freed", span.freed_by()) } else { report };
    report.by(deed.past(), caller).send(LOOK_AT_LIFETIMES);
}

/// An address in no span.
fn outside(at: *mut u8, caller: usize, deed: Deed) {
    let record = if arena::is_known(at.addr()) { arena::record_of(at.addr()) } else { None };
    if let Some(record) = record
        && record.freed_by() != 0
        && large::block_of(record) == at
    {
        let report = Report::new(b"double free").say(b"of the large block that was at ").hex(at.addr());
        let report = report.by(b"allocated", record.allocated_by()).by(b"freed", record.freed_by());
        return report.by(b"and again", caller).send(LOOK_AT_LIFETIMES);
    }
    let report = Report::new(b"invalid free").hex(at.addr()).say(match record {
        Some(_) => b" lies in no block: it was freed, or never handed out",
        None => b" was not allocated here: it is on a stack, static, mapped, or another allocator's",
    });
    report.by(deed.past(), caller).send(b"free only what malloc and its family gave, and only once");
}

/// What follows a block was written to.
#[cold]
#[inline(never)]
pub fn overflow(span: &Span, at: *mut u8, slack: usize, caller: usize) {
    let site = seal(span, at).map_or(0, |(_, seal)| tail::site(seal));
    let report = Report::new(b"overflow").say(b"behind ").block(span, at, Some((slack, site)));
    report.by_site(b"allocated", site).by(b"seen when used", caller).send(LOOK_AT_SIZES);
}

/// What follows a large block was written to.
#[cold]
#[inline(never)]
pub fn large_overflow(span: &Span, at: *mut u8, asked: usize, caller: usize) {
    let report = Report::new(b"overflow").say(b"behind ").large_block(span, at, Some(asked));
    report.by(b"allocated", span.allocated_by()).by(b"seen when used", caller).send(LOOK_AT_SIZES);
}

/// The end of a block before one that is freed was written to.
#[cold]
#[inline(never)]
pub fn broken_between(span: &Span, before: *mut u8, at: *mut u8, caller: usize) {
    let used = used(span, at);
    let report = Report::new(b"overflow or underflow").say(b"the end of the block at ").hex(before.addr());
    let report = report.say(b" was written over, from there or from ").block(span, at, used);
    report.by_site(b"allocated", used.map_or(0, |(_, site)| site)).by(b"seen when freed", caller).send(LOOK_AT_SIZES);
}

/// A block was freed with a size or an alignment that is not its own.
#[cold]
#[inline(never)]
pub fn wrong_claim(span: &Span, at: *mut u8, asked: usize, claim: Claim, caller: usize) {
    let kind: &[u8] = if claim.size != usize::MAX && claim.size != asked { b"wrong size" } else { b"wrong alignment" };
    let mut report = Report::new(kind).say(b"the block at ").hex(at.addr()).say(b" of ").number(asked).say(b" bytes");
    (report.tier, report.size) = (Some(span.tier()), asked);
    report = report.say(b" was freed as one of ");
    report = if claim.size == usize::MAX { report.say(b"?") } else { report.number(claim.size) };
    report = report.say(b" bytes at a multiple of ").number(claim.align.max(1));
    report = match span.state() {
        SpanState::Large => report.by(b"allocated", span.allocated_by()),
        _ => report.by_site(b"allocated", used(span, at).map_or(0, |(_, site)| site)),
    };
    report.by(b"freed", caller).send(b"the type with which the block is deleted is not the one that it was made as");
}

/// A block that should be free is not, or its end was written over.
#[cold]
#[inline(never)]
pub fn not_free(span: &Span, at: *mut u8) {
    let report = match seal(span, at) {
        None => Report::new(b"write after free or overflow").say(b"the end of ").block(span, at, used(span, at)),
        Some(_) => Report::new(b"double free").say(b"by two threads at once, of ").block(span, at, used(span, at)),
    };
    report.past(span, at).send(LOOK_FOR_WRITER);
}

/// A freed block was written to.
#[cold]
#[inline(never)]
pub fn written_after_free(span: &Span, at: *mut u8, offset: usize) {
    let report = Report::new(b"write after free").say(b"at byte ").number(offset).say(b" of ");
    report.block(span, at, used(span, at)).past(span, at).send(LOOK_AT_LIFETIMES);
}

/// The link in a free block was written over.
#[cold]
#[inline(never)]
pub fn damaged_link(span: &Span, block: NonNull<Block>) -> ! {
    let at = block.as_ptr().cast::<u8>();
    let report = Report::new(b"write after free").say(b"at the start of ").block(span, at, used(span, at));
    report.past(span, at).send_and_end(LOOK_FOR_WRITER);
}

/// A free list leads out of its span.
#[cold]
#[inline(never)]
pub fn damaged_head(span: &Span) -> ! {
    let report = Report::new(b"write after free").say(b"at the start of a block of class ").number(span.block_size());
    report.say(b": it led to ").hex(span.head().addr()).send_and_end(LOOK_FOR_WRITER);
}

/// A block that one thread freed for another is none.
#[cold]
#[inline(never)]
pub fn damaged_message(at: *mut u8) {
    let report =
        Report::new(b"write after free").say(b"at the start of a block that another thread had freed: it led to ");
    report.hex(at.addr()).send(LOOK_FOR_WRITER);
}
