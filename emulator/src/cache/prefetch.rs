//! The stream prefetcher of a core.

use super::{LINE, Prefetch};

/// OS pages of 4 KiB end a stream: what follows them in memory is not known.
const OS_PAGE: u64 = 4096;

/// A stream, or the first step of one. Lines are numbers inside the OS page, 0 to 63.
#[derive(Clone, Copy, Debug)]
struct Stream {
    os_page: u64,
    last: i64,
    /// 1 up, -1 down, 0 not known yet.
    step: i64,
    /// The furthest line that was asked for.
    ahead: i64,
}

/// See [`Prefetch`].
#[derive(Debug)]
pub struct Streams {
    config: Prefetch,
    /// The most recently used first.
    streams: Vec<Stream>,
}

impl Streams {
    pub fn new(config: Prefetch) -> Self {
        Self { config, streams: Vec::with_capacity(config.streams as usize) }
    }

    /// An access to `line` missed the first level: which lines to bring now.
    pub fn miss(&mut self, line: u64) -> impl Iterator<Item = u64> + use<> {
        let os_page = line / OS_PAGE * OS_PAGE;
        let now = i64::try_from(line % OS_PAGE / LINE).unwrap_or(0);
        let (first, last, step) = self.advance(os_page, now);
        let count = if step == 0 { 0 } else { ((last - first) * step + 1).max(0) };
        (0..count).map(move |i| os_page + (first + i * step).unsigned_abs() * LINE)
    }

    /// First and last line to bring and the step between them; a step of 0 brings none.
    fn advance(&mut self, os_page: u64, now: i64) -> (i64, i64, i64) {
        const NONE: (i64, i64, i64) = (0, 0, 0);
        let Some(at) = self.streams.iter().position(|s| s.os_page == os_page) else {
            if self.streams.len() == self.config.streams as usize {
                self.streams.pop();
            }
            self.streams.insert(0, Stream { os_page, last: now, step: 0, ahead: now });
            return NONE;
        };
        self.streams[..=at].rotate_right(1);
        let stream = &mut self.streams[0];
        let moved = now - stream.last;
        if moved == 0 {
            return NONE;
        }
        // A stream may pass over lines that were hit in the first level.
        let goes_on =
            stream.step != 0 && moved.signum() == stream.step && moved.abs() <= i64::from(self.config.distance);
        if !goes_on && moved.abs() != 1 {
            *stream = Stream { os_page, last: now, step: 0, ahead: now };
            return NONE;
        }
        if !goes_on {
            (stream.step, stream.ahead) = (moved, now);
        }
        stream.last = now;
        let step = stream.step;
        let furthest = (now + step * i64::from(self.config.distance)).clamp(0, 63);
        let first = if (stream.ahead - now) * step > 0 { stream.ahead + step } else { now + step };
        if (furthest - first) * step < 0 {
            return NONE;
        }
        stream.ahead = furthest;
        (first, furthest, step)
    }
}
