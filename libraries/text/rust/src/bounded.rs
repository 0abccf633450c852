//! Work on hostile input in bounded time, memory and stack.
//!
//! The template engine charges fuel for what it does, but some of its steps (comparing, printing)
//! walk values that share their parts, and take a time and a memory exponential in the template's
//! size; freeing and printing values nested a hundred thousand deep needs a stack of that depth.
//! So such work runs on a thread of its own, which our allocator counts for. A thread that is
//! beyond its bounds is given up: it sleeps from its next allocation on, for ever, and keeps what
//! it holds, no more than the bound. (An allocator must not unwind, and threads cannot be killed.)

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::{fail, Result};

/// As deep as the nesting that `template::FUEL` can buy needs; only touched pages cost memory.
const STACK: usize = 512 << 20;

pub struct Bounds {
    pub seconds: u64,
    pub bytes: usize,
}

/// Runs `f` on a thread of its own within `bounds`. A panic of `f` goes on here.
pub fn run<T: Send + 'static>(
    bounds: Bounds,
    f: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let given_up = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = channel();
    let flag = given_up.clone();
    let work = move || {
        ACCOUNT.set(Account { left: bounds.bytes as isize, given_up: Arc::as_ptr(&flag) });
        let result = catch_unwind(AssertUnwindSafe(f));
        ACCOUNT.set(Account::NONE);
        // No one listens once the thread was given up.
        let _ = sender.send(result);
        drop(flag);
    };
    let worker = match thread::Builder::new().stack_size(STACK).spawn(work) {
        Ok(worker) => worker,
        Err(e) => return fail(format!("no thread to work on: {e}")),
    };
    let deadline = Instant::now() + Duration::from_secs(bounds.seconds);
    loop {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(result) => {
                // Nothing of the thread is left behind: what ends it would race with the program's end.
                let _ = worker.join();
                return result.unwrap_or_else(|panic| resume_unwind(panic));
            }
            Err(RecvTimeoutError::Disconnected) => return fail("the worker thread ended early"),
            Err(RecvTimeoutError::Timeout) if given_up.load(Ordering::Relaxed) => {
                return fail(format!("needs more than {} MB of memory", bounds.bytes >> 20));
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                given_up.store(true, Ordering::Relaxed);
                return fail(format!("takes longer than {} seconds", bounds.seconds));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[derive(Clone, Copy)]
struct Account {
    left: isize,
    given_up: *const AtomicBool, // null: this thread is not counted
}

impl Account {
    const NONE: Account = Account { left: 0, given_up: std::ptr::null() };
}

thread_local! {
    // Without a destructor and without lazy initialisation, so the allocator may use it.
    static ACCOUNT: Cell<Account> = const { Cell::new(Account::NONE) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[inline]
fn charge(bytes: isize) {
    ACCOUNT.with(|cell| {
        let account = cell.get();
        if !account.given_up.is_null() {
            charge_account(cell, account, bytes);
        }
    });
}

fn charge_account(cell: &Cell<Account>, mut account: Account, bytes: isize) {
    account.left = account.left.saturating_sub(bytes);
    cell.set(account);
    // SAFETY: the thread holds the flag for as long as its account points there.
    let given_up = unsafe { &*account.given_up };
    if bytes > 0 && (account.left < 0 || given_up.load(Ordering::Relaxed)) {
        given_up.store(true, Ordering::Relaxed);
        loop {
            thread::sleep(Duration::from_secs(1 << 20));
        }
    }
}

// SAFETY: all requests go to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as isize);
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        charge(-(layout.size() as isize));
        System.dealloc(data, layout);
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as isize);
        System.alloc_zeroed(layout)
    }

    unsafe fn realloc(&self, data: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        charge(size as isize - layout.size() as isize);
        System.realloc(data, layout, size)
    }
}

#[cfg(test)]
mod tests {
    use super::{run, Bounds};

    fn bounds() -> Bounds {
        Bounds { seconds: 1, bytes: 8 << 20 }
    }

    #[test]
    fn gives_results_and_panics() {
        assert_eq!(run(bounds(), || Ok(vec![0u8; 1 << 20].len())), Ok(1 << 20));
        let panic =
            std::panic::catch_unwind(|| run(bounds(), || -> crate::Result<()> { panic!("x") }));
        assert!(panic.is_err());
    }

    #[test]
    fn gives_up() {
        let memory = run(bounds(), || Ok(vec![0u8; 9 << 20].len()));
        assert_eq!(memory, Err("needs more than 8 MB of memory".to_owned()));
        let time = run(bounds(), || loop {
            std::hint::black_box(String::from("x"));
        });
        assert_eq!(time, Err::<(), _>("takes longer than 1 seconds".to_owned()));
    }
}
