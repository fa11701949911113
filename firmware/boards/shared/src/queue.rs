//! Received bytes, queued by an interrupt so that the core can sleep.

use core::cell::RefCell;
use critical_section::Mutex;
use heapless::Deque;

/// Bytes received and not read yet, at most `N`. The host waits for each response, so a queue holds at most one frame.
#[derive(Debug)]
pub struct Queue<const N: usize>(Mutex<RefCell<Deque<u8, N>>>);

impl<const N: usize> Default for Queue<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Queue<N> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self(Mutex::new(RefCell::new(Deque::new())))
    }

    /// For the interrupt handler: takes bytes from `next` while it has some and there is room.
    pub fn fill(&self, mut next: impl FnMut() -> Option<u8>) {
        critical_section::with(|section| {
            let mut received = self.0.borrow_ref_mut(section);
            while !received.is_full() {
                let Some(byte) = next() else { break };
                // There is room for it.
                let _ = received.push_back(byte);
            }
        });
    }

    /// Sleeps until there is at least one byte; returns the number of bytes written to `buffer`.
    pub fn read(&self, buffer: &mut [u8]) -> usize {
        if buffer.is_empty() {
            return 0;
        }
        loop {
            let len = critical_section::with(|section| {
                let mut received = self.0.borrow_ref_mut(section);
                let mut len = 0;
                while len < buffer.len() {
                    let Some(byte) = received.pop_front() else { break };
                    buffer[len] = byte;
                    len += 1;
                }
                if len == 0 {
                    // Interrupts are masked, but a pending one still ends the sleep, so none is missed.
                    crate::sleep();
                }
                len
            });
            if len > 0 {
                return len;
            }
        }
    }
}
