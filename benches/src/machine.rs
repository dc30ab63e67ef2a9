//! Where it was measured.

use std::fs;
use std::thread::available_parallelism;

use serde::Serialize;

/// What figures depend on most.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Of the last minute, before it began: others at work show here.
    pub(crate) load: String,
}

impl Machine {
    pub(crate) fn here() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()))
            .unwrap_or("unknown processor".to_owned());
        let load = read("/proc/loadavg").split(' ').next().unwrap_or("unknown").to_owned();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Machine { processor, cores: available_parallelism().map_or(1, usize::from), kernel, load }
    }
}
