//! Accesses in a recording: how much of each extent was accessed in each interval.
//!
//! All memory of extents is looked at now and then (`watch`), through whichever source was asked for or works. Nothing here
//! allocates.

mod referenced;
mod request;
mod written;

use std::ptr::NonNull;

use tiermem_sys::map::{self, Advice};
use tiermem_sys::sync::Lock;
use tiermem_sys::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use tiermem_sys::trial::{Obstacle, Outcome};
use tiermem_sys::{Errno, process};
use tiermem_trace::{Counts, Event, Interval};

use super::lines::Buffer;
use super::watch::LANE;
use super::words::Text;
use referenced::Referenced;
use written::Written;

pub use request::{Request, SourceKind, Unclear};

/// Whether accesses are recorded, and by which source: see [`Request::FORMS`].
pub const ACCESSES_VARIABLE: &str = "TIERMEM_TRACE_ACCESSES";

/// What was seen of some memory in one look.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its first byte.
    pub address: usize,
    /// Bytes.
    pub len: usize,
    /// OS pages that had been accessed.
    pub hits: u32,
    /// OS pages.
    pub looks: u32,
}

/// What each source has told why it does not work.
#[derive(Clone, Debug, Default)]
pub struct Tried([Option<(SourceKind, Obstacle)>; SourceKind::ALL.len()]);

impl Tried {
    /// Source and reason, in the order in which they were tried.
    pub fn iter(&self) -> impl Iterator<Item = &(SourceKind, Obstacle)> + Clone {
        self.0.iter().flatten()
    }
}

enum Source {
    Referenced(Referenced),
    Written(Written),
}

impl Source {
    fn make(kind: SourceKind) -> Outcome<Self> {
        match kind {
            SourceKind::ClearRefs => Referenced::make().map(Self::Referenced),
            SourceKind::PagemapScan => Written::make().map(Self::Written),
        }
    }

    /// Sees whether it works, on memory of its own.
    fn try_out(&self, buffer: &mut Buffer) -> Outcome {
        match self {
            Self::Referenced(source) => source.try_out(buffer),
            Self::Written(source) => source.try_out(),
        }
    }

    /// Tells what was accessed since the last look; from when on the next one will tell it, nanoseconds.
    fn look(&mut self, buffer: &mut Buffer, visit: impl FnMut(Seen)) -> Outcome<u64> {
        match self {
            Self::Referenced(source) => source.look(buffer, visit),
            Self::Written(source) => source.look(visit),
        }
    }
}

/// Tries what is asked for; the first source that works, or why none does. Does not allocate.
///
/// # Errors
/// If none works.
pub fn choose(request: Request) -> Result<SourceKind, Tried> {
    let (mut tried, mut buffer) = (Tried::default(), Buffer::new());
    let wanted = |kind: &SourceKind| request.source.is_none_or(|asked| asked == *kind);
    for (kind, place) in SourceKind::ALL.into_iter().filter(wanted).zip(&mut tried.0) {
        match Source::make(kind).and_then(|source| source.try_out(&mut buffer)) {
            Ok(()) => return Ok(kind),
            Err(obstacle) => *place = Some((kind, obstacle)),
        }
    }
    Err(tried)
}

const UNDECIDED: u8 = 0;
const NONE: u8 = 1;
/// And the source's number.
const CHOSEN: u8 = 2;
static CHOICE: AtomicU8 = AtomicU8::new(UNDECIDED);
static EVERY_MS: AtomicU32 = AtomicU32::new(Request::EVERY_MS_DEFAULT);

/// The source of this process's accesses. The first time tries what the environment asks for, and tells the user if nothing
/// of it works.
pub fn source() -> Option<SourceKind> {
    // Relaxed throughout: settled before there is a second thread that asks, but for one that comes to the same result.
    match CHOICE.load(Ordering::Relaxed) {
        UNDECIDED => settle(),
        choice => choice.checked_sub(CHOSEN).map(|number| SourceKind::ALL[usize::from(number)]),
    }
}

/// How often memory is looked at, milliseconds, if that does not take too long.
pub fn every_ms() -> u32 {
    EVERY_MS.load(Ordering::Relaxed)
}

#[cold]
fn settle() -> Option<SourceKind> {
    let text = process::early_variable(ACCESSES_VARIABLE.as_bytes()).unwrap_or_default();
    let mut chosen = None;
    match Request::parse(text) {
        Ok(None) => {}
        Ok(Some(request)) => {
            EVERY_MS.store(request.every_ms, Ordering::Relaxed);
            match choose(request) {
                Ok(kind) => chosen = Some(kind),
                Err(tried) => tell("no accesses are recorded", &tried),
            }
        }
        Err(Unclear) => {
            process::say(b"tiermem: TIERMEM_TRACE_ACCESSES is one of ");
            process::say(Request::FORMS.as_bytes());
            process::say(b"; no accesses are recorded\n");
        }
    }
    let number = chosen.and_then(|kind| SourceKind::ALL.iter().position(|other| *other == kind));
    CHOICE.store(number.map_or(NONE, |number| CHOSEN + number as u8), Ordering::Relaxed);
    chosen
}

fn tell(what: &str, tried: &Tried) {
    let mut line = Text::<512>::new();
    line.push(b"tiermem: ").push(what.as_bytes());
    for (i, (kind, Obstacle { step, errno })) in tried.iter().enumerate() {
        line.push(if i == 0 { b": " } else { b"; " }).push(kind.as_str().as_bytes()).push(b": ").push(step.as_bytes());
        line.push(b": ").push(errno.map_or("nothing happened", Errno::desc).as_bytes());
    }
    process::say(line.push(b"\n").as_bytes());
}

static LOOKER: Lock<Looker> = Lock::new(Looker::new());

struct Looker {
    source: Option<Source>,
    /// From when on accesses were not told yet, nanoseconds; 0 before the first look.
    since: u64,
    buffer: Buffer,
}

impl Looker {
    const fn new() -> Self {
        Self { source: None, since: 0, buffer: Buffer::new() }
    }

    /// Looks at all memory of extents and enters what was accessed since the last time: how many OS pages.
    fn look(&mut self, kind: SourceKind) -> Outcome<u64> {
        let source = match &mut self.source {
            Some(source) => source,
            none => none.insert(Source::make(kind)?),
        };
        let is_first = self.since == 0;
        let mut entered = Entered { since: self.since, idle: None };
        let mut hits = 0;
        let since = source.look(&mut self.buffer, |seen| {
            hits += u64::from(seen.hits);
            if !is_first {
                entered.enter(seen);
            }
        })?;
        entered.flush();
        self.since = since;
        Ok(hits)
    }
}

/// Enters what is seen in one look. What is idle and lies side by side is one event.
struct Entered {
    since: u64,
    idle: Option<Seen>,
}

impl Entered {
    fn enter(&mut self, seen: Seen) {
        match &mut self.idle {
            Some(idle) if seen.hits == 0 && idle.address + idle.len == seen.address => {
                idle.len += seen.len;
                idle.looks = idle.looks.saturating_add(seen.looks);
            }
            _ => {
                self.flush();
                self.idle = Some(seen);
                if seen.hits > 0 {
                    self.flush();
                }
            }
        }
    }

    fn flush(&mut self) {
        let Some(Seen { address, len, hits, looks }) = self.idle.take() else { return };
        let (since, address, len, counts) = (self.since, address as u64, len as u64, Counts::Seen { hits, looks });
        LANE.push(|at| Event::Interval(Interval { at, ticks: at.saturating_sub(since), address, len, counts }));
    }
}

/// Looks once, unless somebody else is looking. What the program will pay for it, nanoseconds of CPU.
pub fn look() -> u64 {
    let (Some(kind), Some(mut looker)) = (source(), LOOKER.try_lock()) else { return 0 };
    match looker.look(kind) {
        Ok(hits) => hits * kind.cost_ns(),
        Err(obstacle) => {
            // It worked at the start; what has changed since (the user, the descriptors) does not change back.
            CHOICE.store(NONE, Ordering::Relaxed);
            looker.source = None;
            tell("accesses are no longer recorded", &Tried([Some((kind, obstacle)), None]));
            0
        }
    }
}

/// In a child of fork: what the source holds is the parent's.
pub fn restart_in_child() {
    if CHOICE.load(Ordering::Relaxed) < CHOSEN {
        return;
    }
    match LOOKER.try_lock() {
        Some(mut looker) => {
            if let Some(Source::Written(source)) = std::mem::replace(&mut *looker, Looker::new()).source {
                source.leave_to_parent();
            }
        }
        None => {
            // The parent's thread was looking, and has left it in any state. What it held is lost.
            // SAFETY: the child has one thread, this one, which is not in here: nobody uses what the lock guards.
            unsafe { LOOKER.as_ptr().write(Looker::new()) };
            // SAFETY: as above: the thread that this one was copied from stands for the one that held it.
            unsafe { LOOKER.release() };
        }
    }
}

/// An obstacle at a step, for `map_err`.
fn at(step: &'static str) -> impl Fn(Errno) -> Obstacle {
    move |errno| Obstacle { step, errno: Some(errno) }
}

/// Two OS pages to try a source on, with one on each side that differs, so that the kernel takes them for a mapping of their
/// own.
struct Trial(NonNull<u8>);

impl Trial {
    const OS_PAGES: usize = 2;

    fn new() -> Outcome<Self> {
        let os_page = map::os_page_size();
        let whole = map::anonymous((Self::OS_PAGES + 2) * os_page).map_err(at("mapping memory for the trial"))?;
        // SAFETY: inside the mapping.
        let this = Self(unsafe { whole.add(os_page) });
        // SAFETY: our own mapping.
        unsafe { map::advise(this.0, this.range().len(), Advice::DontDump) }
            .map_err(at("giving memory a flag of its own"))?;
        Ok(this)
    }

    fn range(&self) -> std::ops::Range<usize> {
        let start = self.0.addr().get();
        start..start + Self::OS_PAGES * map::os_page_size()
    }

    fn touch(&self, os_page: usize) {
        assert!(os_page < Self::OS_PAGES, "OS page {os_page} is outside the trial's memory");
        // SAFETY: inside the mapping.
        let at = unsafe { self.0.add(os_page * map::os_page_size()) };
        // SAFETY: as above; volatile, because the write is wanted for its own sake.
        unsafe { at.as_ptr().write_volatile(1) };
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let os_page = map::os_page_size();
        // SAFETY: where the mapping begins.
        let whole = unsafe { self.0.sub(os_page) };
        // SAFETY: our own mapping. A failure would only leak it.
        let _ = unsafe { map::unmap(whole, (Self::OS_PAGES + 2) * os_page) };
    }
}
