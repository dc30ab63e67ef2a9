//! A process of another user's.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Another user, whom only root can become.
pub(crate) const STRANGER: u32 = 65534;

/// This test program again, as another user, running one of the tests that do nothing otherwise.
pub(crate) fn as_stranger(role: &str, path: &Path) -> Option<Child> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return None;
    }
    let _starting = nobody_starts();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", role, "--nocapture"])
        .env(PATH_FOR_STRANGER, path)
        .uid(STRANGER)
        .gid(STRANGER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    child.inspect_err(|error| eprintln!("skipped: {error}")).ok()
}

/// As long as this is held no test starts a child, which has all descriptors of this process until it is another program.
pub(crate) fn nobody_starts() -> MutexGuard<'static, ()> {
    static STARTS: Mutex<()> = Mutex::new(());
    STARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a test that runs as another user is to connect or listen; `None` in the others' run.
pub(crate) fn path_for_stranger() -> Option<std::ffi::OsString> {
    std::env::var_os(PATH_FOR_STRANGER)
}

const PATH_FOR_STRANGER: &str = "TRUNKLINE_TEST_PATH";

pub(crate) fn succeed(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
