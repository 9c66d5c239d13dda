//! Signals while a guest runs: they end it in order, and then tierctl by the same signal.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use tiermem_qemu::{Error, ErrorKind};
use tiermem_sys::signal::number::{SIGHUP, SIGINT, SIGTERM};
use tiermem_sys::signal::{Signals, end_by};

/// How often is looked.
const TICK: Duration = Duration::from_millis(50);

/// Whether a signal came, and which one was the first.
#[derive(Debug, Default)]
pub struct Watch {
    stop: AtomicBool,
    signal: AtomicI32,
}

impl Watch {
    /// Does `work` while signals are received. With each tick and what has arrived, `look` says whether to stop the work.
    ///
    /// # Errors
    /// If signals cannot be received.
    pub fn over<T>(
        &self,
        look: impl Fn(Option<i32>) -> bool + Sync,
        work: impl FnOnce(&AtomicBool) -> T,
    ) -> Result<T, Error> {
        let cannot = |e| Error::new(ErrorKind::Failed, format!("cannot receive signals: {e}"));
        let signals = Signals::receive(&[SIGINT, SIGTERM, SIGHUP]).map_err(cannot)?;
        let done = AtomicBool::new(false);
        Ok(std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let received = signals.wait(TICK).unwrap_or_else(|_| {
                        std::thread::sleep(TICK);
                        Vec::new()
                    });
                    let first = received.first().map(|received| received.signal);
                    if let Some(signal) = first {
                        let _ = self.signal.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
                    }
                    if look(first) {
                        self.stop.store(true, Ordering::Relaxed);
                    }
                }
            });
            let result = work(&self.stop);
            done.store(true, Ordering::Relaxed);
            result
        }))
    }

    /// If a signal came, ends this process by it: what had to be put away has been.
    pub fn end(&self) {
        if let signal @ 1.. = self.signal.load(Ordering::Relaxed) {
            end_by(signal);
        }
    }
}
