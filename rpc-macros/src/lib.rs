//! The attribute `#[trunkline::service]`: it turns a trait into a service, its client and its server.
//!
//! Use it through the `trunkline` crate, which carries what the expansion names.
//!
//! # How it works
//!
//! A trait is parsed into a model, the model is expanded: `parse` knows what a user may write, `model` what a service
//! is, `expand` what the compiler is given. No step looks behind the one before it.
//!
//! # Invariants
//!
//! - Every mistake is reported, at the user's own tokens, together with all the others, and says what to write instead.
//! - The expansion names everything by an absolute path and has no logic of its own: a method is a line in a `match`.
//! - What the expansion needs of the `trunkline` crate is listed in `RUNTIME.md`.
//!
//! # Not here
//!
//! Types. A macro sees tokens; whether a type can travel is decided by traits, in code the macro writes for that
//! purpose.

#![forbid(unsafe_code)]

mod attributes;
mod errors;
mod expand;
mod forms;
mod model;
mod options;
mod parse;
mod types;

#[cfg(test)]
mod tests;

/// Turns a trait into a service: `Kv` gets a `KvClient` and a `KvServer`.
///
/// The options are `name = "…"`, the service's name on the wire, `crate = path`, where the `trunkline` crate is found, and
/// `mock`, with which `Kv` gets a `MockKv` as well: an implementation for tests, whose methods are closures. It is there in
/// every build, for the tests of other crates; for those of this one alone, write
/// `#[cfg_attr(test, trunkline::service(mock))]` beside `#[cfg_attr(not(test), trunkline::service)]`.
///
/// A method is an `async fn` with `&self`. It takes `#[rpc(…)]` with any of
///
/// - `oneway`: its caller waits for no reply;
/// - `idempotent`: running it twice does what running it once does;
/// - `blocking`: it blocks its thread, and runs on the blocking pool; a stream that it returns does not, and must not block;
/// - `spawn`: it computes, and runs in a task of its own from the start;
/// - `no_cancel`: it runs to its end even when nobody waits any more;
/// - `timeout = "5s"`: the deadline of calls that set none (`us`, `ms`, `s`, `m`, `h`);
/// - `name = "…"`: its name on the wire.
///
/// A method that returns `impl Stream<Item = T>`, or a `Result` of one, sends items for as long as that has any; its caller
/// gets a `Streaming<T>`. What becomes of items that a slow reader has no room for is said by `slow = "…"`: `"block"`, which is the
/// default (the stream waits), `"drop_oldest"` (it goes on, and the reader misses the oldest of those that were not sent yet), or
/// `"latest"` (it goes on, and the reader gets what is newest whenever it has taken the item before). A stream that goes on and
/// always has an item must pace itself, or it keeps a thread busy. How many the reader has missed `Streaming::missed` says. An
/// argument `Streaming<T>` is a stream of its caller's, who gives any `impl Stream<Item = T> + Send + 'static`.
///
/// An argument takes `#[rpc(default)]`, if callers that do not know it yet may leave it out, or `#[rpc(context)]`, if
/// it is the server's context under another name than `Context`.
#[proc_macro_attribute]
pub fn service(options: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::service(options.into(), item.into()).into()
}
