//! The allocator, as a program that moves large buffers would set it.

/// Tells glibc's allocator to keep what is freed, up to 1 GiB of it.
///
/// By itself it gives large buffers back to the kernel and takes them again, page by page, with every call: that can be
/// nine tenths of what an upload costs in a framework that allocates its buffers anew.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, bytes) in [(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD), (libc::M_TRIM_THRESHOLD, KEPT_MAX)] {
        // SAFETY: takes two numbers and no pointer. No other thread has been started yet.
        #[allow(unsafe_code, reason = "there is no safe binding")]
        unsafe {
            libc::mallopt(parameter, bytes);
        }
    }
}

/// The most that all versions of glibc take: larger buffers are mapped for themselves.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MMAP_THRESHOLD: libc::c_int = 32 << 20;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_MAX: libc::c_int = 1 << 30;
