//! One run: the hosts' programs as coroutines, and who of them goes on.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Once;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use super::choice::{CRASH, Kind, POWER_LOSS};
use super::finding::{Finding, FindingKind};
use super::history::mix;
use super::host::Host;
use super::machine::{Halt, Machine, State};
use super::scenario::{Program, Scenario};
use super::{MAX_HOSTS, Stacks};

impl Machine {
    /// Whether a crash of this host, or the loss of power, is to be explored.
    pub(super) fn may_die(&self, host: usize) -> bool {
        self.power_may_fail || (self.crashes_left > 0 && self.hosts[host].may_crash)
    }

    /// Lets others come first before an operation of `host`; whether it goes on at once.
    pub(super) fn turn(&mut self, host: usize) -> bool {
        self.next(host);
        self.current == Some(host) && self.running()
    }

    /// `host` waits until something changes.
    pub(super) fn pause(&mut self, host: usize) {
        self.begin(host);
        self.step();
        self.hosts[host].state = State::Paused;
        self.next(host);
    }

    /// `host` has come to its end.
    pub(super) fn finish(&mut self, host: usize) {
        self.begin(host);
        self.hosts[host].state = State::Done;
        self.progressed();
        self.next(host);
    }

    /// Decides who goes on after `from`, which comes first itself if it is able to.
    pub(super) fn next(&mut self, from: usize) {
        self.current = None;
        while self.running() {
            let mut options = [0_u8; MAX_HOSTS + 2];
            let mut count = 0;
            let mut offer = |code: u8| {
                options[count] = code;
                count += 1;
            };
            let all = self.hosts.len();
            #[expect(clippy::cast_possible_truncation, reason = "at most MAX_HOSTS")]
            (from..from + all)
                .map(|host| host % all)
                .filter(|&host| self.hosts[host].state == State::Ready)
                .for_each(|host| offer(host as u8));
            let from_ready = self.hosts[from].state == State::Ready;
            if from_ready && self.crashes_left > 0 && self.hosts[from].may_crash {
                offer(CRASH);
            }
            if from_ready && self.power_may_fail {
                offer(POWER_LOSS);
            }
            if count == 0 {
                if !self.wake_all() {
                    return;
                }
                continue;
            }
            if count > 1 && self.choices.seen(mix(self.state_hash(), from as u64)) {
                self.halted = Some(Halt::Seen);
                return;
            }
            match self.choose(from, Kind::Next, &options[..count]) {
                CRASH => self.die_and_recover(|machine| machine.crash(from)),
                POWER_LOSS => self.die_and_recover(Self::lose_power),
                host => {
                    self.current = Some(usize::from(host));
                    return;
                }
            }
        }
    }

    fn die_and_recover(&mut self, die: impl FnOnce(&mut Self)) {
        die(self);
        if self.recovers && self.hosts.len() < MAX_HOSTS - 1 {
            let again = self.crashes_left > 0;
            self.add_host("recovery".into(), again);
        }
    }

    /// Nobody can go on. If some wait, they look once more, with caches that behave well; if that moves nothing, the
    /// program is stuck. False when there is nobody to wake.
    fn wake_all(&mut self) -> bool {
        let waiting: Vec<usize> =
            (0..self.hosts.len()).filter(|&host| self.hosts[host].state == State::Paused).collect();
        if waiting.is_empty() {
            return false;
        }
        if self.choices.calm {
            let names: Vec<&str> = waiting.iter().map(|&host| self.name(host)).collect();
            let verb = if names.len() == 1 { "waits" } else { "wait" };
            let story = format!("{} {verb} for something that does not happen", names.join(" and "));
            self.report(Finding { kind: FindingKind::Stuck, story });
            return false;
        }
        self.choices.calm = true;
        for host in waiting {
            self.hosts[host].state = State::Ready;
        }
        true
    }
}

type Thread = Coroutine<(), (), (), DefaultStack>;

/// Stack of a host's program, bytes.
const STACK: usize = 256 << 10;

fn stack(stacks: &mut Stacks) -> DefaultStack {
    match stacks.0.pop() {
        Some(stack) => stack,
        None => DefaultStack::new(STACK).unwrap_or_else(|error| panic!("no memory for the stack of a host: {error}")),
    }
}

fn start(machine: &Rc<RefCell<Machine>>, id: usize, program: Program, stacks: &mut Stacks) -> Thread {
    let machine = Rc::clone(machine);
    Coroutine::with_stack(stack(stacks), move |yielder, ()| {
        let host = Host { machine: &machine, yielder, id };
        host.wait();
        program(&host);
        host.end();
    })
}

impl Host<'_> {
    /// The program is over; it may still crash.
    fn end(&self) {
        let may_die = self.machine.borrow().may_die(self.id);
        if may_die {
            self.persist_point();
        }
        self.machine.borrow_mut().finish(self.id);
    }
}

/// Lets the programs run until the end or a finding.
pub(super) fn run(mut scenario: Scenario, machine: Machine, stacks: &mut Stacks) -> Machine {
    quiet_panics();
    let machine = Rc::new(RefCell::new(machine));
    let mut threads: Vec<Option<Thread>> = Vec::new();
    {
        let mut borrowed = machine.borrow_mut();
        scenario.set_up(&mut borrowed);
        borrowed.set_up_medium();
        for (name, may_crash, _) in &scenario.hosts {
            borrowed.add_host(Rc::clone(name), *may_crash);
        }
    }
    for (id, (_, _, program)) in scenario.hosts.drain(..).enumerate() {
        threads.push(Some(start(&machine, id, program, stacks)));
    }
    if !threads.is_empty() {
        machine.borrow_mut().next(0);
    }
    drive(&machine, &mut threads, &scenario, stacks);
    machine.borrow_mut().last_look();
    if let Some(program) = scenario.finally.take()
        && machine.borrow().running()
    {
        let id = {
            let mut borrowed = machine.borrow_mut();
            let id = borrowed.add_host("finally".into(), false);
            borrowed.tell_all(id);
            borrowed.current = Some(id);
            id
        };
        threads.push(Some(start(&machine, id, program, stacks)));
        drive(&machine, &mut threads, &scenario, stacks);
    }
    for thread in threads.into_iter().flatten() {
        end(thread, stacks);
    }
    match Rc::try_unwrap(machine) {
        Ok(machine) => machine.into_inner(),
        Err(_) => panic!("a program has kept its host"),
    }
}

fn drive(machine: &Rc<RefCell<Machine>>, threads: &mut Vec<Option<Thread>>, scenario: &Scenario, stacks: &mut Stacks) {
    loop {
        let current = {
            let borrowed = machine.borrow();
            if !borrowed.running() {
                return;
            }
            let Some(current) = borrowed.current else { return };
            current
        };
        while threads.len() <= current {
            let Some(recovery) = scenario.recovery.clone() else { return };
            let program: Program = Box::new(move |host| recovery(host));
            threads.push(Some(start(machine, threads.len(), program, stacks)));
        }
        let Some(thread) = &mut threads[current] else { return };
        match resume(thread) {
            Ok(false) => {}
            Ok(true) => {
                if let Some(thread) = threads[current].take() {
                    end(thread, stacks);
                }
            }
            Err(message) => {
                Host::panicked(&mut machine.borrow_mut(), current, &message);
                threads[current] = None;
            }
        }
        bury(machine, threads, stacks);
    }
}

/// Unwinds the programs of dead hosts.
fn bury(machine: &Rc<RefCell<Machine>>, threads: &mut [Option<Thread>], stacks: &mut Stacks) {
    for (host, thread) in threads.iter_mut().enumerate() {
        let dead = machine.borrow().hosts[host].state == State::Dead;
        if dead && let Some(thread) = thread.take() {
            end(thread, stacks);
        }
    }
}

/// Ends a program wherever it is, and keeps its stack.
fn end(mut thread: Thread, stacks: &mut Stacks) {
    if !thread.done() {
        thread.force_unwind();
    }
    stacks.0.push(thread.into_stack());
}

thread_local! {
    static EXPLORING: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Lets a program go on; whether it has ended, or what it said when it panicked.
fn resume(thread: &mut Thread) -> Result<bool, String> {
    EXPLORING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| thread.resume(())));
    EXPLORING.set(false);
    match result {
        Ok(CoroutineResult::Yield(())) => Ok(false),
        Ok(CoroutineResult::Return(())) => Ok(true),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("panicked");
            Err(format!("{text} ({})", PLACE.take()))
        }
    }
}

/// Panics of explored programs are findings: they are not printed each time.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if EXPLORING.get() {
                let place = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
                PLACE.set(place);
            } else {
                usual(info);
            }
        }));
    });
}
