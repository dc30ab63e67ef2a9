//! A clock that can be slowed down, so that what runs slowly under callgrind takes its usual time.
#![expect(unsafe_code, reason = "takes the place of a function of libc")]

use std::ffi::c_int;
use std::sync::OnceLock;

use nix::libc::{CLOCK_MONOTONIC, SYS_clock_gettime, clockid_t, syscall, timespec};

/// From now on the monotonic clock takes so many times as long.
const TIMES: i128 = 1000;

static SINCE: OnceLock<i128> = OnceLock::new();

/// Slows the monotonic clock down, for good.
pub(crate) fn slow_down() {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` may be written to.
    if unsafe { clock_gettime(CLOCK_MONOTONIC, &raw mut now) } == 0 {
        SINCE.get_or_init(|| nanos(&now));
    }
}

/// Takes the place of libc's.
///
/// # Safety
///
/// `time` points to a `timespec` that nobody else has.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the arguments are those of the system call; the kernel checks them.
    let failed = unsafe { syscall(SYS_clock_gettime, clock, time) } as c_int;
    if let (0, CLOCK_MONOTONIC, Some(since)) = (failed, clock, SINCE.get()) {
        // SAFETY: the kernel has just written to it.
        let time = unsafe { &mut *time };
        let slowed = since + (nanos(time) - since) / TIMES;
        time.tv_sec = (slowed / NANOS) as _;
        time.tv_nsec = (slowed % NANOS) as _;
    }
    failed
}

fn nanos(time: &timespec) -> i128 {
    i128::from(time.tv_sec) * NANOS + i128::from(time.tv_nsec)
}

const NANOS: i128 = 1_000_000_000;
