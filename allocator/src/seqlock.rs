//! A sequence lock's number: lets a reader, which may be another process, copy out figures of one moment while one writer
//! goes on. After Boehm, *Can Seqlocks Get Along with Programming Language Memory Models?* (MSPC 2012): the figures
//! themselves are atomics, and fences order them.

use tiermem_sys::sync::atomic::{AtomicU32, Ordering, fence};

/// Odd while the writer writes. Lies in shared memory, so it is a plain word.
#[repr(transparent)]
pub struct Sequence {
    number: AtomicU32,
}

/// An even number that a reader has seen, or an odd one that it has decided to live with.
#[derive(Clone, Copy, Debug)]
pub struct Seen(u32);

impl Seen {
    /// Whether nobody was writing.
    pub const fn is_settled(self) -> bool {
        self.0.is_multiple_of(2)
    }
}

impl Sequence {
    /// A number that nobody writes under.
    #[cfg(all(test, loom))]
    pub fn new() -> Self {
        Self { number: AtomicU32::new(0) }
    }

    /// Writes through `write`, whose stores may be `Relaxed`. One writer at a time: the caller's duty.
    #[inline]
    pub fn write<R>(&self, write: impl FnOnce() -> R) -> R {
        // Relaxed: only the writer changes it. A writer that died in the middle has left it odd.
        let odd = self.number.load(Ordering::Relaxed) | 1;
        self.number.store(odd, Ordering::Relaxed);
        // Pairs with the reader's Acquire fence: it cannot see figures from below with the old, even number.
        fence(Ordering::Release);
        let result = write();
        // Release: the figures come before the new, even number.
        self.number.store(odd.wrapping_add(1), Ordering::Release);
        result
    }

    /// Before reading.
    #[inline]
    pub fn begin_read(&self) -> Seen {
        // Acquire pairs with the Release that ends a writing.
        Seen(self.number.load(Ordering::Acquire))
    }

    /// After reading with loads that may be `Relaxed`: whether nothing was written meanwhile.
    #[inline]
    pub fn is_unchanged(&self, before: Seen) -> bool {
        // Pairs with the writer's Release fence.
        fence(Ordering::Acquire);
        self.number.load(Ordering::Relaxed) == before.0
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use tiermem_sys::sync::atomic::AtomicU64;

    struct Figures {
        sequence: Sequence,
        pair: [AtomicU64; 2],
    }

    impl Figures {
        fn put(&self, value: u64) {
            self.pair.iter().for_each(|figure| figure.store(value, Ordering::Relaxed));
        }

        fn get(&self) -> [u64; 2] {
            [0, 1].map(|i| self.pair[i].load(Ordering::Relaxed))
        }
    }

    fn put_in_order(figures: &Figures, value: u64) {
        figures.sequence.write(|| figures.put(value));
    }

    fn get_in_order(figures: &Figures) -> Option<[u64; 2]> {
        let before = figures.sequence.begin_read();
        let pair = figures.get();
        (before.is_settled() && figures.sequence.is_unchanged(before)).then_some(pair)
    }

    /// A writer writes twice while a reader reads: it never takes a mixture for figures of one moment.
    fn model(put: fn(&Figures, u64), get: fn(&Figures) -> Option<[u64; 2]>) {
        loom::model(move || {
            let figures = Arc::new(Figures { sequence: Sequence::new(), pair: [AtomicU64::new(0), AtomicU64::new(0)] });
            let writer = {
                let figures = Arc::clone(&figures);
                loom::thread::spawn(move || (1..=2).for_each(|value| put(&figures, value)))
            };
            if let Some([first, second]) = get(&figures) {
                assert_eq!(first, second, "a mixture");
            }
            writer.join().unwrap();
            assert_eq!(get(&figures), Some([2, 2]));
        });
    }

    #[test]
    fn a_reader_sees_one_moment() {
        model(put_in_order, get_in_order);
    }

    /// Negative control: without the writer's fence, new figures are seen under the old number.
    #[test]
    #[should_panic(expected = "a mixture")]
    fn a_writer_without_its_fence_is_caught() {
        model(
            |figures, value| {
                let number = &figures.sequence.number;
                let odd = number.load(Ordering::Relaxed) | 1;
                number.store(odd, Ordering::Relaxed);
                figures.put(value);
                number.store(odd + 1, Ordering::Release);
            },
            get_in_order,
        );
    }

    /// Negative control: without the reader's fence, the number that it looks at in the end is older than its figures.
    #[test]
    #[should_panic(expected = "a mixture")]
    fn a_reader_without_its_fence_is_caught() {
        model(put_in_order, |figures| {
            let before = figures.sequence.begin_read();
            let pair = figures.get();
            let after = figures.sequence.number.load(Ordering::Relaxed);
            (before.is_settled() && after == before.0).then_some(pair)
        });
    }
}
