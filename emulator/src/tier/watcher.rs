//! A thread that looks for new faults of a tier that nobody may be using, and for those that time brings.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};

use tiermem_sys::process;
use tiermem_tiers::provider::fault::Faulty;

/// The thread; it ends when this is dropped.
pub(super) struct Watcher {
    thread: Option<JoinHandle<()>>,
    /// Closed to end the thread.
    stop: Option<Sender<()>>,
    process: u32,
}

impl Watcher {
    /// Starts to look. `None` where threads are limited: then faults come with the next operation on the tier.
    pub(super) fn start(tier: Arc<Faulty>) -> Option<Self> {
        let (stop, stopped) = mpsc::channel();
        let look = move || {
            while let Some(pause) = tier.poll_again_in() {
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        };
        let thread = Builder::new().name("tiermem-faults".to_owned()).spawn(look).ok()?;
        Some(Self { thread: Some(thread), stop: Some(stop), process: process::id() })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        // So that the tier ends with its last user and not a moment later. In a child of fork there is no such thread.
        if let Some(thread) = self.thread.take().filter(|_| process::id() == self.process) {
            drop(thread.join());
        }
    }
}
