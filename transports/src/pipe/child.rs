//! The process at the other end, which was started here: its end is noticed, told, and waited for.
//!
//! | what comes first | then |
//! |---|---|
//! | the kernel says that it has ended | what it has sent is read, then its status is the error |
//! | the end of what it sends | its status is waited for, briefly; it usually follows at once |
//! | nobody here wants it any more | a thread waits for it, and kills it when its grace is over |

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep};
use trunkline_core::ConnectionError;

use crate::fd::register;
use crate::sys;

/// How long a child that sends no more has to end, so that the error can say how it did.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// The pause between looks where the kernel does not tell.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a child that has never said a word has to end by itself: no call runs in it.
const SILENT_GRACE: Duration = Duration::from_secs(1);

/// A child process, reaped when this is dropped or soon after.
#[derive(Debug)]
pub(super) struct ChildEnd {
    /// `None` once it is somebody else's to wait for.
    process: Option<Child>,
    /// Readable when it has ended; `None` where the kernel has no such thing.
    exit: Option<AsyncFd<OwnedFd>>,
    /// Whether the end of what it sends has been seen.
    closed: bool,
    /// Whether it has sent anything.
    spoke: bool,
    /// Until when its status is waited for, once it has closed.
    until: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    kill_after: Duration,
}

impl ChildEnd {
    /// Only inside a runtime.
    pub(super) fn new(process: Child, kill_after: Duration) -> ChildEnd {
        let exit = sys::pidfd_open(process.id()).and_then(|fd| register(fd, Interest::READABLE)).ok();
        ChildEnd {
            process: Some(process),
            exit,
            closed: false,
            spoke: false,
            until: None,
            timer: Box::pin(sleep(PATIENCE)),
            kill_after,
        }
    }

    pub(super) fn spoke(&mut self) {
        self.spoke = true;
    }

    pub(super) fn closed(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Ready when the kernel says that it has ended; never where the kernel does not tell.
    pub(super) fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.exit {
            Some(exit) => exit.poll_read_ready(cx).map(|_| ()),
            None => Poll::Pending,
        }
    }

    /// What its end means for the connection: its status as the error, or an end of file if it lives on, or if nobody
    /// can tell.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            match self.process.as_mut().map(Child::try_wait) {
                Some(Ok(Some(status))) => {
                    return Poll::Ready(Err(io::Error::other(ConnectionError::ChildEnded(status))));
                }
                Some(Ok(None)) => {}
                // The program ignores SIGCHLD, or waits for all of its children itself.
                Some(Err(_)) | None => return Poll::Ready(Ok(0)),
            }
            let now = Instant::now();
            let until = *self.until.get_or_insert(now + PATIENCE);
            if until <= now {
                return Poll::Ready(Ok(0));
            }
            let told = self.exit.is_some() && self.poll_exit(cx).is_pending();
            self.timer.as_mut().reset(if told { until } else { until.min(now + PAUSE) });
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for ChildEnd {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        // Where it fails, somebody else has reaped it, and its number may be another process's by now.
        if !matches!(process.try_wait(), Ok(None)) {
            return;
        }
        let grace = if self.spoke { self.kill_after } else { self.kill_after.min(SILENT_GRACE) };
        let exit = self.exit.take().map(AsyncFd::into_inner);
        // Shared for the one case that there is no thread to be had.
        let process = Arc::new(Mutex::new(process));
        let theirs = Arc::clone(&process);
        let reap = move || reap(&mut theirs.lock().unwrap_or_else(PoisonError::into_inner), exit, grace);
        if thread::Builder::new().name("trunkline-reap".to_owned()).spawn(reap).is_err() {
            kill(&mut process.lock().unwrap_or_else(PoisonError::into_inner), None);
        }
    }
}

/// Waits for the process to end by itself, for as long as its grace lasts; then ends it.
fn reap(process: &mut Child, exit: Option<OwnedFd>, grace: Duration) {
    let began = std::time::Instant::now();
    let mut pause = PAUSE;
    while matches!(process.try_wait(), Ok(None)) {
        let left = grace.saturating_sub(began.elapsed());
        if left.is_zero() {
            return kill(process, exit.as_ref());
        }
        match &exit {
            Some(exit) => {
                let mut ended = [PollFd::new(exit.as_fd(), PollFlags::POLLIN)];
                // Rounded up, so that it does not turn to nothing at the end.
                let timeout = PollTimeout::try_from(left.saturating_add(PAUSE)).unwrap_or(PollTimeout::MAX);
                let timed_out = matches!(poll(&mut ended, timeout), Ok(0));
                // It has ended, so it is there to be waited for, or will be in a moment.
                if !timed_out && matches!(process.try_wait(), Ok(None)) {
                    thread::sleep(PAUSE);
                }
            }
            None => {
                thread::sleep(pause.min(left));
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
    }
}

fn kill(process: &mut Child, exit: Option<&OwnedFd>) {
    // Where it fails, it has ended, or the kernel does not know how.
    if exit.is_none_or(|exit| sys::pidfd_kill(exit.as_fd()).is_err()) {
        let _ = process.kill();
    }
    let _ = process.wait();
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::process::Command;

    use super::*;

    /// A child as where the kernel does not tell.
    fn shell(line: &str, kill_after: Duration) -> ChildEnd {
        let mut command = Command::new("sh");
        let mut child = ChildEnd::new(command.args(["-c", line]).spawn().unwrap(), kill_after);
        child.exit = None;
        child
    }

    #[tokio::test]
    async fn without_the_kernels_word_the_status_is_found() {
        let mut child = shell("sleep 0.01; exit 3", Duration::ZERO);
        // Time does not run out while the machine is busy.
        child.until = Some(Instant::now() + Duration::from_secs(20));
        let error = poll_fn(|cx| child.poll_end(cx)).await.unwrap_err();
        let ConnectionError::ChildEnded(status) = ConnectionError::from(error) else {
            panic!("something else");
        };
        assert_eq!(status.code(), Some(3));
    }

    #[tokio::test]
    async fn without_the_kernels_word_a_child_is_killed_and_reaped() {
        for spoke in [false, true] {
            let mut child = shell("exec sleep 1000", Duration::from_millis(20));
            child.spoke = spoke;
            let pid = child.process.as_ref().unwrap().id();
            drop(child);
            let began = Instant::now();
            // A child that has not been waited for can still be asked for its exit.
            while sys::pidfd_open(pid).is_ok() {
                assert!(began.elapsed() < Duration::from_secs(20));
                sleep(Duration::from_millis(2)).await;
            }
        }
    }

    #[test]
    fn a_child_may_be_waited_for_without_end() {
        let mut child = Command::new("sleep").arg("0.05").spawn().unwrap();
        let exit = sys::pidfd_open(child.id()).ok();
        reap(&mut child, exit, Duration::MAX);
        assert!(child.try_wait().unwrap().is_some());
    }

    #[tokio::test]
    async fn a_child_that_lives_on_is_an_end_of_file() {
        let mut child = shell("exec sleep 1000", Duration::ZERO);
        assert_eq!(poll_fn(|cx| child.poll_end(cx)).await.unwrap(), 0);
    }
}
