//! What the attribute accepts, and what it says about what it does not.

use std::process::Command;

/// The compiler whose messages are committed. Another one words its own part of them differently.
const PINNED: &str = "rustc 1.95.0 ";

#[test]
fn services_compile() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}

#[test]
fn mistakes_are_explained() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-V").output().expect("rustc runs, it has just built this");
    let version = String::from_utf8_lossy(&output.stdout);
    if version.starts_with(PINNED) {
        trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
    } else {
        println!("skipped: the messages are those of {PINNED}, and this is {}", version.trim());
    }
}
