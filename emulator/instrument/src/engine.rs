//! The one engine of the process.

use std::ptr::NonNull;

use tiermem_emulator::instrumented::filter::Company;
use tiermem_emulator::instrumented::report::{Process, Report};
use tiermem_emulator::instrumented::{Batch, Config, Engine, Part, Recorder, ThreadIndex};
use tiermem_emulator::model::System;
use tiermem_sys::sync::atomic::{AtomicUsize, Ordering};
use tiermem_sys::sync::{Guard, Lock};

use crate::buffer::{self, LOST};
use crate::helper;
use crate::names::Names;
use crate::stack::Frames;
use crate::state::{self, Quiet};
use crate::thread::{FOR_OTHERS, GIVEN_UP, Thread};
use crate::threads;

/// What the process is measured with.
pub struct Running {
    pub engine: Engine<System>,
    pub config: Config,
    tiers: Vec<String>,
    pub threads: Vec<NonNull<Thread>>,
    recorder: Option<Recorder>,
    /// Whether every access is to become a record.
    record_all: bool,
    names: Names,
}

impl Running {
    /// A process that has not begun.
    pub fn new(config: Config, engine: Engine<System>, tiers: Vec<String>) -> Self {
        let (threads, names) = (Vec::new(), Names::default());
        Self { engine, config, tiers, threads, recorder: None, record_all: wants_records(), names }
    }

    /// What a thread did.
    fn batch(&mut self, index: ThreadIndex, batch: &Batch<'_>) {
        self.part(index, batch, &mut Part::default(), u64::MAX);
        self.note_skew();
    }

    /// A part of that, as [`Engine::part`].
    pub fn part(&mut self, index: ThreadIndex, batch: &Batch<'_>, part: &mut Part, until_ps: u64) -> bool {
        let is_begun = part.is_begun();
        let is_rest = self.engine.part(index, batch, part, until_ps);
        if !is_begun {
            self.record_batch(index, batch);
        }
        is_rest
    }

    fn record_batch(&mut self, index: ThreadIndex, batch: &Batch<'_>) {
        if let Some(recorder) = &mut self.recorder {
            let engine = &self.engine;
            if let Err(error) = recorder.batch(index, batch.records, batch.values, |site| engine.frames(site).to_vec())
            {
                self.recorder = None;
                say(&format!("the trace ends here: {error}"));
            }
        }
    }

    /// Begins the trace, if one is asked for. Only one process has the file of that name.
    pub fn record(&mut self, command: &[String]) -> std::io::Result<()> {
        let Some(path) = &self.config.trace else { return Ok(()) };
        let pid = tiermem_sys::process::id();
        // Made by the first one; the name of the others' tells them apart.
        let mine =
            match std::fs::OpenOptions::new().write(true).create_new(true).open(self.config.reports.join("trace")) {
                Ok(_) => path.clone(),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    let mut name = path.clone().into_os_string();
                    name.push(format!(".{pid}"));
                    name.into()
                }
                Err(error) => return Err(error),
            };
        self.recorder = Some(Recorder::create(&mine, command, pid)?);
        Ok(())
    }
}

/// Set to `off` to have every access become a record, for comparison: figures are the same, and the program is slower.
const FILTER: &[u8] = b"TIERMEM_INSTRUMENT_FILTER";

fn wants_records() -> bool {
    tiermem_sys::process::early_variable(FILTER).is_some_and(|value| value == b"off")
}

fn say(text: &str) {
    tiermem_sys::process::say(format!("libtiermem_instrument: {text}\n").as_bytes());
}

// SAFETY: the pointers lead to boxes that end under the lock only, with their threads.
unsafe impl Send for Running {}

/// `None` where nothing is to be counted. All but the engine's own thread lock it by [`lock`].
pub static ENGINE: Lock<Option<Box<Running>>> = Lock::new(None);

/// Whether there is an engine: what the C++ library does before this library begins must not decide it.
static ON: AtomicUsize = AtomicUsize::new(UNDECIDED);
const UNDECIDED: usize = 0;
const MEASURED: usize = 1;
const IDLE: usize = 2;

/// A buffer that nobody reads; 0 before there is one.
static SINK: AtomicUsize = AtomicUsize::new(0);

/// Threads that want the engine: its own thread, which would have it all the time, stands back.
pub static WANTED: AtomicUsize = AtomicUsize::new(0);

/// Which threads the engine knows, for threads that go on without it.
static COMPANY: AtomicUsize = AtomicUsize::new(0);

/// Locks the engine.
pub fn lock() -> Guard<'static, Option<Box<Running>>> {
    // Relaxed, both: the lock orders, and this is a hint.
    WANTED.fetch_add(1, Ordering::Relaxed);
    let running = ENGINE.lock();
    WANTED.fetch_sub(1, Ordering::Relaxed);
    running
}

/// Takes all that a thread has passed.
fn take_passed(running: &mut Option<Box<Running>>, thread: &Thread) {
    if let Some(running) = running.as_mut() {
        while running.take_part(thread, u64::MAX) {}
    }
}

/// What threads go by that go on without the engine.
fn company() -> Company {
    // Acquire pairs with the Release in `threads_changed`; a thread that begins or ends just now is seen by the next batch.
    Company::from_bits(COMPANY.load(Ordering::Acquire))
}

/// A thread has begun or ended.
fn threads_changed(running: &Running) {
    COMPANY.store(company().next(running.engine.is_alone()).bits(), Ordering::Release);
    helper::news();
}

/// Passes what the calling thread has gathered to the engine's thread, if there is one, or takes it. The thread works in this library.
pub fn pass(thread: &Thread) {
    if thread.index.is_some()
        && thread.can_pass()
        && let Some(empty) = thread.queue.prepare(company())
    {
        thread.set_waits(GIVEN_UP, false);
        thread.queue.pass(thread.go_on_in(empty, company()));
    } else {
        take(thread);
    }
}

/// Begins to measure.
pub fn start(mut running: Running, command: &[String]) -> std::io::Result<()> {
    running.record(command)?;
    *ENGINE.lock() = Some(Box::new(running));
    // Relaxed: other threads begin later.
    ON.store(MEASURED, Ordering::Relaxed);
    Ok(())
}

/// Nothing is to be counted, in no thread of this process.
pub fn stay_idle() {
    // Relaxed: as above.
    ON.store(IDLE, Ordering::Relaxed);
}

/// Whether anything is counted.
pub fn is_on() -> bool {
    // Relaxed: set before the program's first instruction.
    ON.load(Ordering::Relaxed) == MEASURED
}

/// Where records go that nobody will read, made when it is first needed.
pub fn sink() -> Option<usize> {
    // Relaxed: the buffer holds nothing that must be seen.
    let mut at = SINK.load(Ordering::Relaxed);
    if at == 0 {
        at = buffer::sink()?;
        SINK.store(at, Ordering::Relaxed);
    }
    Some(at)
}

/// The calling thread begins now, if it has not yet. It works in this library.
pub fn begin_thread() {
    // Relaxed: as above.
    if ON.load(Ordering::Relaxed) == IDLE {
        state::go_idle();
    }
    let mut running = lock();
    let index = running.as_mut().map(|running| {
        let parent = running.threads.first().map(|first| {
            // SAFETY: the thread has not ended, or it would not be in the list.
            unsafe { first.as_ref() }
        });
        let parent = threads::parent().or(parent.and_then(|thread| thread.index));
        running.engine.begin_thread(parent)
    });
    let Some(thread) = Thread::new(index) else {
        tiermem_sys::process::say(b"libtiermem_instrument: no memory for a thread's buffer\n");
        tiermem_sys::process::abort();
    };
    // SAFETY: just made.
    unsafe { thread.as_ref() }.begin();
    if let Some(running) = running.as_mut() {
        running.threads.push(thread);
        threads_changed(running);
    }
    // SAFETY: as above.
    restart(running.as_deref(), unsafe { thread.as_ref() });
    drop(running);
    threads::arm_end();
}

/// Takes what the calling thread has gathered. It works in this library.
pub fn take(thread: &Thread) {
    let mut running = lock();
    take_locked(&mut running, thread);
    thread.deferred.take(|batch| {
        if let (Some(running), Some(index)) = (running.as_mut(), thread.index) {
            running.batch(index, batch);
        }
    });
    restart(running.as_deref(), thread);
}

/// Takes what the calling thread has gathered so far, and leaves its buffer as it is: a signal came between any two
/// instructions of it.
pub fn take_so_far(thread: &Thread) {
    take_locked(&mut lock(), thread);
}

fn take_locked(running: &mut Option<Box<Running>>, thread: &Thread) {
    take_passed(running, thread);
    thread.take(|batch| {
        if let (Some(running), Some(index)) = (running.as_mut(), thread.index) {
            running.batch(index, batch);
        }
    });
}

/// Begins a batch of the calling thread, after [`take_locked`].
fn restart(running: Option<&Running>, thread: &Thread) {
    thread.restart(company(), |state| match (running, thread.index) {
        (None, _) => state.restart_idle(),
        // A trace holds every access.
        (Some(running), Some(index)) if !running.record_all && running.recorder.is_none() => {
            state.restart(&running.engine.known(index));
        }
        _ => state.record_all(),
    });
}

/// Runs `what` on the engine, if there is one, after all that the calling thread did so far.
pub fn with<R>(what: impl FnOnce(&mut Engine<System>, ThreadIndex) -> R) -> Option<R> {
    let _quiet = Quiet::new();
    if Thread::current().is_none() {
        begin_thread();
    }
    let thread = Thread::current()?;
    let mut running = lock();
    // SAFETY: the calling thread's own.
    let thread = unsafe { thread.as_ref() };
    take_locked(&mut running, thread);
    let answer = running.as_mut().zip(thread.index).map(|(running, index)| what(&mut running.engine, index));
    restart(running.as_deref(), thread);
    answer
}

/// The number of a site.
pub fn site(frames: &Frames) -> u32 {
    let known = frames.iter().position(|frame| *frame == 0).unwrap_or(frames.len());
    let mut running = lock();
    let Some(Running { engine, names, .. }) = running.as_deref_mut() else { return 0 };
    let site = engine.site(&frames[..known]);
    if engine.wants_names(site) {
        engine.name_site(site, &names.of(&frames[..known]));
    }
    site
}

/// The calling thread ends: its buffer goes, its core is free.
pub fn end_thread(thread: NonNull<Thread>) {
    let mut running = lock();
    // SAFETY: the calling thread's own.
    take_locked(&mut running, unsafe { thread.as_ref() });
    buffer::stop();
    if let Some(running) = running.as_mut() {
        running.threads.retain(|other| *other != thread);
        // SAFETY: as above.
        if let Some(index) = unsafe { thread.as_ref() }.index {
            running.engine.end_thread(index);
        }
        threads_changed(running);
    }
    drop(running);
    // SAFETY: made by `Box::leak`, in no list any more, and its buffer is not in use.
    let thread = unsafe { Box::from_raw(thread.as_ptr()) };
    // SAFETY: `stop` has set the position to 0.
    unsafe { thread.release() };
}

/// What happened so far, of all threads.
pub fn report(mut process: Process) -> Option<(Report, Config)> {
    let mut running = lock();
    running.as_mut()?.take_all_passed();
    let all = running.as_ref()?.threads.clone();
    for thread in all {
        // SAFETY: in the list, so it has not ended. If it is not the calling thread, what it does from now on is after
        // the end.
        take_locked(&mut running, unsafe { thread.as_ref() });
    }
    let running = running.as_mut()?;
    if let Some(recorder) = running.recorder.take()
        && let Err(error) = recorder.finish(&process.modules)
    {
        say(&format!("the trace has no end: {error}"));
    }
    // Relaxed: a count.
    process.lost = LOST.load(Ordering::Relaxed);
    let report = running.engine.report(&running.config, &running.tiers, process);
    Some((report, running.config.clone()))
}

/// The calling thread waits from now on for others, or no more.
pub fn set_waits(waits: bool) {
    // SAFETY: the calling thread's own.
    if let Some(thread) = Thread::current().map(|thread| unsafe { thread.as_ref() }) {
        thread.set_waits(FOR_OTHERS, waits);
    }
}

/// In a child of fork, whose only thread this is.
pub fn forked(running: &mut Option<Box<Running>>) {
    let Some(running) = running.as_mut() else { return };
    let own = Thread::current();
    // What was gathered for the trace is the parent's to write.
    running.recorder = None;
    running.threads.retain(|thread| Some(*thread) == own);
    // SAFETY: the calling thread's own.
    if let Some(index) = own.and_then(|thread| unsafe { thread.as_ref() }.index) {
        running.engine.forked(index);
    }
    threads_changed(running);
    // Threads that wanted it are not here.
    WANTED.store(0, Ordering::Relaxed);
    LOST.store(0, Ordering::Relaxed);
}
