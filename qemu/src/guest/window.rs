//! How much of a program's output may be on its way: a host that does not take it stops the program, as a full pipe would.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// So many pieces of output may be on their way, of at most [`PIECE`](crate::wire::PIECE) bytes each.
pub(crate) const PIECES: usize = 16;

/// The pieces on their way, of one program.
#[derive(Debug, Default)]
pub(super) struct Window {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    on_their_way: usize,
    waiting: usize,
    is_closed: bool,
}

impl Window {
    /// Waits until another piece may go; `false` if nobody takes any more.
    pub(super) fn enter(&self) -> bool {
        let mut state = self.lock();
        state.waiting += 1;
        let full = |state: &mut State| state.on_their_way >= PIECES && !state.is_closed;
        state = self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state.on_their_way += 1;
        !state.is_closed
    }

    /// One was taken.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.on_their_way = state.on_their_way.saturating_sub(1);
        self.changed.notify_all();
    }

    /// Nobody takes any more: whoever waits is let go.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Whether a piece waits for its turn.
    pub(super) fn is_full(&self) -> bool {
        self.lock().waiting > 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{PIECES, Window};
    use std::sync::Arc;

    #[test]
    fn pieces_wait_until_others_were_taken_or_nobody_takes_them() {
        let window = Arc::new(Window::default());
        assert!((0..PIECES).all(|_| window.enter()));
        let another = || {
            let window = window.clone();
            std::thread::spawn(move || window.enter())
        };
        let first = another();
        while !window.is_full() {
            std::thread::yield_now();
        }
        window.leave();
        assert!(first.join().unwrap() && !window.is_full());
        let second = another();
        window.close();
        assert!(!second.join().unwrap() && !window.enter());
    }
}
