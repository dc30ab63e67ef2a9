//! What some column cannot have, and why.

use crate::fixture::{Carrier, Placement};
use crate::{CASES, COLUMNS};

/// A row: these cases are not run in the columns that `which` names.
struct Exception {
    cases: &'static [&'static str],
    which: Which,
    why: &'static str,
}

enum Which {
    /// The server is in the test's own process.
    OneProcess,
    /// The server is in another process.
    TwoProcesses,
    /// The server has one thread.
    OneServerThread,
    /// There is no URI that leads there.
    NoUri,
    /// `mem:` names of the same process only, so nothing can be killed.
    ProcessesApart,
}

impl Which {
    fn holds(&self, carrier: Carrier, placement: Placement) -> bool {
        match self {
            Which::OneProcess => placement.is_one_process(),
            Which::TwoProcesses => !placement.is_one_process(),
            Which::OneServerThread => placement.server_threads() == 1,
            Which::NoUri => matches!(carrier, Carrier::Pipe | Carrier::Over | Carrier::Own),
            Which::ProcessesApart => {
                carrier == Carrier::Mem
                    || carrier == Carrier::Own
                    || (matches!(carrier, Carrier::Pipe | Carrier::Over) && placement.is_one_process())
            }
        }
    }

    fn describe(&self) -> &'static str {
        match self {
            Which::OneProcess => "server in the same process",
            Which::TwoProcesses => "server in another process",
            Which::OneServerThread => "server on one thread",
            Which::NoUri => "`pipe`, `over` and `own`",
            Which::ProcessesApart => "`mem`, `own`, and `pipe` and `over` in one process",
        }
    }
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        cases: &[
            "a_server_killed_mid_call",
            "a_server_killed_with_calls_in_every_state",
            "calls_and_kills_keep_the_ledger",
            "a_server_killed_while_threads_wait",
        ],
        which: Which::OneProcess,
        why: "killing the server would kill the test",
    },
    Exception {
        cases: &["a_client_killed_mid_handshake", "a_client_killed_mid_frame"],
        which: Which::ProcessesApart,
        why: "both ends are in one process, and nothing in it can be killed alone",
    },
    Exception {
        cases: &["a_handler_that_computes_holds_up_nobody"],
        which: Which::OneServerThread,
        why: "a handler that computes has the only thread there is: such a method says `blocking`",
    },
    Exception {
        cases: &[
            "garbage_is_refused_by_the_client",
            "another_version_is_named_by_the_client",
            "a_silent_server_is_given_up",
        ],
        which: Which::TwoProcesses,
        why: "a peer that is no server of ours stands in the test's own process; its bytes are the same from another",
    },
    Exception {
        cases: &["a_dropped_server_ends_every_call"],
        which: Which::TwoProcesses,
        why: "a future cannot be dropped from another process; the kills show what its end looks like from there",
    },
    Exception {
        cases: &["a_connection_without_a_runtime", "nobody_there_is_said_so"],
        which: Which::NoUri,
        why: "the program brings the pipes, the stream or the transport along, connected: there is no endpoint to name",
    },
];

/// Why a case is not run in a column, if it is not.
pub(crate) fn why_not(case: &str, carrier: Carrier, placement: Placement) -> Option<&'static str> {
    let found = EXCEPTIONS.iter().find(|row| row.cases.contains(&case) && row.which.holds(carrier, placement));
    found.map(|row| row.why)
}

/// The table as `docs/conformance.md` shows it.
fn markdown() -> String {
    let mut out = String::from("| group | cases |\n|---|---|\n");
    let mut groups: Vec<&str> = CASES.iter().map(|(group, _)| *group).collect();
    groups.dedup();
    for group in groups {
        let cases = CASES.iter().filter(|(of, _)| *of == group).map(|(_, case)| case.replace('_', " "));
        out += &format!("| {group} | {} |\n", cases.collect::<Vec<_>>().join("; "));
    }
    out += "\n| not run | where | why |\n|---|---|---|\n";
    for row in EXCEPTIONS {
        let cases: Vec<String> = row.cases.iter().map(|case| case.replace('_', " ")).collect();
        out += &format!("| {} | {} | {} |\n", cases.join("; "), row.which.describe(), row.why);
    }
    out += "\n| column | client on | server on |\n|---|---|---|\n";
    for (column, _, placement) in COLUMNS {
        let threads = |n: usize| if n == 1 { "one thread" } else { "two threads" };
        let (client, server) = (threads(placement.client_threads()), threads(placement.server_threads()));
        let server = if placement.is_one_process() { "the same" } else { server };
        out += &format!("| `{column}` | {client} | {server} |\n");
    }
    out
}

const BEGIN: &str = "<!-- from tests/conformance/table.rs: begin -->\n";
const END: &str = "<!-- end -->\n";

#[test]
fn the_documentation_shows_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/conformance.md");
    let page = std::fs::read_to_string(path).expect("docs/conformance.md is there");
    let (before, rest) = page.split_once(BEGIN).expect("the beginning of the table");
    let (shown, after) = rest.split_once(END).expect("the end of the table");
    if shown == markdown() {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", markdown())).expect("it can be written");
        return;
    }
    panic!("docs/conformance.md does not show the table of tests/conformance: run this test with UPDATE_DOCS=1");
}

#[test]
fn every_exception_is_of_a_case_and_of_some_columns_only() {
    for row in EXCEPTIONS {
        for case in row.cases {
            assert!(CASES.iter().any(|(_, known)| known == case), "there is no case `{case}`");
            let excepted =
                COLUMNS.iter().filter(|(_, carrier, placement)| why_not(case, *carrier, *placement).is_some()).count();
            assert!(excepted > 0, "`{case}` is run everywhere");
            assert!(excepted < COLUMNS.len(), "`{case}` is run nowhere");
        }
    }
}

#[test]
fn the_exceptions_are_told() {
    for (column, carrier, placement) in COLUMNS {
        for (_, case) in CASES {
            if let Some(why) = why_not(case, *carrier, *placement) {
                println!("{column}::{case}: {why}");
            }
        }
    }
}
