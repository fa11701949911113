//! Received bytes, put there by an interrupt, so that the core can sleep.

use core::cell::RefCell;
use critical_section::Mutex;
use heapless::Deque;

/// What came in and was not read yet, at most `N` bytes. The host waits for each answer, so one frame is the most there can
/// be.
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

    /// For the interrupt: takes bytes from `next` as long as it has some and there is room.
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

    /// Sleeps until there is at least one byte; gives how many were put into `buffer`.
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
                    // Interrupts are masked, but a pending one ends the sleep: none is missed in between.
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
