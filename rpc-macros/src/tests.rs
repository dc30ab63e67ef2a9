//! What the parser says about mistakes, and what the expansion looks like.

use proc_macro2::TokenStream;
use quote::quote;

use crate::errors::Errors;
use crate::{expand, parse};

/// What a user reads who wrote `item` under `#[service(options)]`.
fn messages(options: TokenStream, item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    let _ = parse::service(options, item, &mut errors);
    errors.messages()
}

/// What a user reads who wrote the method, and nothing else, into a service.
#[track_caller]
fn method(method: TokenStream) -> String {
    one(messages(quote!(), quote!(trait Kv { #method })))
}

#[track_caller]
fn one(mut messages: Vec<String>) -> String {
    assert_eq!(messages.len(), 1, "{messages:#?}");
    messages.remove(0)
}

#[test]
fn a_sound_service_is_not_complained_about() {
    let sound = quote! {
        trait Kv: Send + Sync + 'static {
            #[rpc(idempotent, timeout = "5s")]
            async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError>;
            #[rpc(oneway, no_cancel)]
            async fn touch(&self, #[rpc(context)] cx: &Cx, keys: &[&str], #[rpc(default)] key: Key<'_>) -> ();
            async fn size(&self, mut n: u32) -> Cow<'static, str> { n += 1; n.to_string().into() }
            async fn watch(&self, key: &str) -> Result<impl Stream<Item = Change>, KvError>;
            async fn chat(&self, said: trunkline::Streaming<String>, n: u32) -> impl Stream<Item = String> + Send;
        }
    };
    assert_eq!(messages(quote!(name = "kv", crate = crate::rpc), sound), Vec::<String>::new());
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let item = quote! {
        trait Kv<T>: Clone {
            const LIMIT: u32;
            #[rpc(oneway, oneway)]
            fn get(self, (a, b): (u32, u32), c: &mut T) -> &T;
        }
    };
    assert_eq!(messages(quote!(nam = "kv"), item).len(), 10);
}

#[test]
fn the_attribute_goes_on_a_trait() {
    let on = |item| one(messages(quote!(), item));
    assert_eq!(
        on(quote!(
            struct Kv;
        )),
        "`#[trunkline::service]` goes on a trait: write `#[trunkline::service] pub trait Kv { .. }`"
    );
    assert_eq!(
        on(quote!(impl Kv for Store {})),
        "`#[trunkline::service]` goes on the trait: the implementation is plain Rust, without an attribute"
    );
}

#[test]
fn a_trait_that_is_no_service_is_explained() {
    let on = |item| one(messages(quote!(), item));
    assert_eq!(
        on(quote!(
            trait Kv<T> {}
        )),
        "a service has one shape on the wire, the same for every peer, so its trait has no generics: write concrete \
         types, or make one trait for each type with a `macro_rules!`"
    );
    assert_eq!(
        on(quote!(
            trait Kv
            where
                u8: Copy,
            {
            }
        )),
        "a service has one shape on the wire, so its trait has no conditions: remove the `where` clause"
    );
    assert_eq!(
        on(quote!(
            trait Kv: Clone + Send {}
        )),
        "a service has no supertraits: a peer cannot call their methods, and `Send + Sync + 'static` are added anyway; \
         write the bound at the implementation that needs it"
    );
    assert_eq!(
        on(quote!(
            unsafe trait Kv {}
        )),
        "a service is safe to implement: remove `unsafe`"
    );
    assert_eq!(on(quote!(auto trait Kv {})), "a service has methods: remove `auto`");
    assert_eq!(
        on(quote!(
            #[async_trait]
            trait Kv {}
        )),
        "a service needs no `async_trait`: remove it, here and on the implementations"
    );
    assert_eq!(
        on(quote!(
            #[rpc(name = "kv")]
            trait Kv {}
        )),
        "`#[rpc(..)]` goes on a method: a service's own options stand in `#[trunkline::service(..)]`"
    );
    assert_eq!(
        on(quote!(
            trait Kv {
                const LIMIT: u32;
            }
        )),
        "a constant does not travel: put it outside of the trait, or return it from a method"
    );
    assert_eq!(
        on(quote!(
            trait Kv {
                type Key;
            }
        )),
        "an associated type would be another one on each side: write a concrete type in the methods"
    );
    assert_eq!(
        on(quote!(
            trait Kv {
                methods!();
            }
        )),
        "a macro in a service cannot be looked into: write the methods out, or let a `macro_rules!` make the whole \
         trait"
    );
}

#[test]
fn a_method_that_cannot_be_called_from_elsewhere_is_explained() {
    assert_eq!(
        method(quote!(
            fn get(&self);
        )),
        "a call waits for another process: write `async fn get`"
    );
    assert_eq!(
        method(quote!(
            async fn get(self);
        )),
        "the server outlives each call, so a method cannot consume it: write `&self`"
    );
    assert_eq!(
        method(quote!(
            async fn get(&mut self);
        )),
        "calls run side by side, so a handler has no exclusive access: write `&self`, and keep what changes in a \
         `Mutex` or an atomic"
    );
    assert_eq!(
        method(quote!(
            async fn get(self: Arc<Self>);
        )),
        "the server lends itself to each call: write `&self`"
    );
    assert_eq!(
        method(quote!(
            async fn get(&'static self);
        )),
        "the server lends itself to each call: write `&self` without a lifetime"
    );
    assert_eq!(
        method(quote!(
            async fn get(key: u32);
        )),
        "a method is called on a server: write `async fn get(&self, ..)`"
    );
    assert_eq!(
        method(quote!(
            async fn get<T>(&self, key: T);
        )),
        "the other process decodes one type and cannot know which a caller chose: write concrete types instead of \
         generics, such as an enum"
    );
    assert_eq!(
        method(quote!(
            async fn get<'a>(&self, key: &'a str);
        )),
        "arguments live as long as the call: leave the lifetimes out, as in `key: &str`"
    );
    assert_eq!(
        method(quote!(
            async fn get(&self)
            where
                u8: Copy;
        )),
        "a method on the wire exists without conditions: remove the `where` clause"
    );
    assert_eq!(
        method(quote!(
            async unsafe fn get(&self);
        )),
        "the caller is another process and can promise nothing: remove `unsafe`"
    );
    assert_eq!(
        method(quote!(
            async extern "C" fn get(&self);
        )),
        "the framework calls the method, no foreign code does: remove the ABI"
    );
    assert_eq!(
        method(quote!(
            const async fn get(&self);
        )),
        "a call runs in another process, not at compile time: remove `const`"
    );
    assert_eq!(
        method(quote!(
            async fn get(&self, ...);
        )),
        "a method has a fixed number of arguments: take a slice or a `Vec`"
    );
}

#[test]
fn an_argument_that_cannot_be_sent_is_explained() {
    let argument = |argument: TokenStream| method(quote!(async fn get(&self, #argument);));
    let mutable =
        "`&mut` cannot reach into another process: take the argument by value or by `&`, and return what changed";
    assert_eq!(argument(quote!(key: &mut u32)), mutable);
    assert_eq!(argument(quote!(cx: &mut Context)), mutable);
    let unnamed =
        "an argument has a name, which callers and tools see: write a name here and take it apart in the body";
    assert_eq!(argument(quote!((a, b): (u32, u32))), unnamed);
    assert_eq!(argument(quote!(_: u32)), unnamed);
    assert_eq!(argument(quote!(mut key: u32)), "whether it changes is the implementation's affair: write `key`");
    assert_eq!(
        argument(quote!(key: impl Into<String>)),
        "`impl Trait` names no type that the other process could decode: write a concrete type"
    );
    assert_eq!(
        argument(quote!(key: Box<dyn Debug>)),
        "a trait object cannot be decoded by the other process: write a concrete type, such as an enum"
    );
    assert_eq!(
        argument(quote!(key: fn())),
        "a function stays in its process: send data, and call back through a service of the caller's own"
    );
    assert_eq!(
        argument(quote!(key: &'static str)),
        "an argument is borrowed from the request and lives no longer than the call: leave `'static` out"
    );
    assert_eq!(
        argument(quote!(key: Option<&String>)),
        "inside another type only `&str` and `&[u8]` can be borrowed from the request: write an owned type here"
    );
    assert_eq!(
        argument(quote!(key: &Self)),
        "`Self` is another type on each side: write the type's own name, the same for client and server"
    );
    let stream = "an argument that is a stream is written `Streaming<T>`, by itself: its caller gives any `impl Stream<Item = \
                  T> + Send + 'static`";
    assert_eq!(argument(quote!(rows: Option<Streaming<Row>>)), stream);
    assert_eq!(argument(quote!(rows: &Streaming<Row>)), stream);
    assert_eq!(argument(quote!(rows: impl Stream<Item = Row>)), stream);
    assert_eq!(argument(quote!(rows: Streaming)), "say what its items are: write `Streaming<Item>`");
    assert_eq!(
        argument(quote!(rows: Streaming<&str>)),
        "an item travels by itself and borrows nothing: write an owned type, such as `String` for `&str` and `Vec<u8>` for \
         `&[u8]`"
    );
    assert_eq!(
        argument(quote!(rows: Streaming<Streaming<Row>>)),
        "an item is a value: a stream of streams does not travel"
    );
    assert_eq!(
        argument(quote!(#[rpc(default)] rows: Streaming<Row>)),
        "a stream may be empty, and is never left out: remove `#[rpc(default)]`"
    );
    assert_eq!(
        argument(quote!(#[cfg(unix)] key: u32)),
        "an argument that only some builds have would make their messages unreadable to the others: put the `cfg` on \
         the method"
    );
    let twelve: Vec<TokenStream> = ('a'..='l').map(|name| format!("{name}: u8").parse().unwrap()).collect();
    assert_eq!(
        argument(quote!(#(#twelve,)* cx: &Context, m: u8)),
        "a method takes at most 12 arguments: put them into a struct"
    );
    // Streams as well, of which a call may have 16 and no more.
    let twelve: Vec<TokenStream> = ('a'..='l').map(|name| format!("{name}: Streaming<u8>").parse().unwrap()).collect();
    assert_eq!(
        argument(quote!(#(#twelve,)* m: Streaming<u8>)),
        "a method takes at most 12 arguments: put those that are no streams into a struct"
    );
}

#[test]
fn an_argument_that_is_marked_wrongly_is_explained() {
    let arguments = |arguments: TokenStream| method(quote!(async fn get(&self, #arguments);));
    assert_eq!(arguments(quote!(a: &Context, b: &cx::Context)), "a call has one context: remove the second");
    assert_eq!(arguments(quote!(#[rpc(context)] cx: Cx)), "the context is lent by the server: write `&Context`");
    assert_eq!(
        arguments(quote!(#[rpc(default)] cx: &Context)),
        "the context comes from the server, nobody can leave it out: remove `#[rpc(default)]`"
    );
    assert_eq!(
        arguments(quote!(#[rpc(default, context)] cx: &Context)),
        "`default` and `context` exclude each other: the context comes from the server, nobody can leave it out"
    );
    assert_eq!(
        arguments(quote!(#[rpc(default)] a: u32, b: u32)),
        "only the last arguments can be left out: put `b` before `a`, or mark it `#[rpc(default)]` too"
    );
    assert_eq!(
        arguments(quote!(#[rpc(optional)] a: u32)),
        "unknown option `optional`: an argument takes `default` and `context`"
    );
}

#[test]
fn a_reply_that_cannot_be_sent_is_explained() {
    let reply = |reply: TokenStream| method(quote!(async fn get(&self) -> #reply;));
    let borrowed = "a reply outlives what its handler borrows: return an owned type, such as `String` for `&str` and \
                    `Vec<u8>` for `&[u8]`";
    assert_eq!(reply(quote!(&str)), borrowed);
    assert_eq!(reply(quote!(Result<Option<&'static [u8]>, u8>)), borrowed);
    assert_eq!(reply(quote!(Cow<'_, str>)), borrowed);
    let stream = "a method that returns a stream returns `impl Stream<Item = T>`, or a `Result` with it as its value; a boxed \
                  stream is one as well";
    assert_eq!(reply(quote!(Pin<Box<dyn Stream<Item = u8>>>)), stream);
    assert_eq!(reply(quote!(Streaming<u8>)), stream);
    assert_eq!(reply(quote!((u8, impl Stream<Item = u8>))), stream);
    assert_eq!(reply(quote!(Result<u8, impl Stream<Item = u8>>)), stream);
    assert_eq!(reply(quote!(impl Stream)), stream);
    assert!(reply(quote!(impl Stream<Item = &str>)).starts_with("an item travels by itself"));
    assert!(reply(quote!(Result<impl Stream<Item = u8>, &str>)).starts_with("a reply outlives"));
    assert!(reply(quote!(impl Debug)).starts_with("`impl Trait` names no type"));
    assert!(reply(quote!(Option<Self>)).starts_with("`Self` is another type"));
    assert_eq!(reply(quote!(Vec<_>)), "write the type: both sides build on it");
    assert_eq!(
        method(quote!(
            #[rpc(oneway)]
            async fn get(&self) -> u32;
        )),
        "nobody waits for what a `oneway` method returns: remove the return type, or `oneway`"
    );
    assert_eq!(
        method(quote!(
            #[rpc(oneway)]
            async fn put(&self, rows: Streaming<Row>);
        )),
        "a call with a stream lasts as long as that, and is waited for: remove `oneway`"
    );
}

#[test]
fn a_wrong_option_is_explained() {
    let option = |options: TokenStream| {
        method(quote!(
            #[rpc(#options)]
            async fn get(&self);
        ))
    };
    assert_eq!(
        option(quote!(retry)),
        "unknown option `retry`: a method takes `oneway`, `idempotent`, `blocking`, `spawn`, `no_cancel`, \
         `timeout = \"5s\"`, `name = \"..\"` and `slow = \"..\"`"
    );
    assert_eq!(
        option(quote!(default)),
        "`default` is an option of an argument: write `#[rpc(default)]` in front of the argument's name"
    );
    assert_eq!(option(quote!(oneway, oneway)), "`oneway` is given twice: keep one");
    assert_eq!(
        method(quote!(
            #[rpc(spawn)]
            #[rpc(spawn)]
            async fn get(&self);
        )),
        "`spawn` is given twice: keep one"
    );
    assert_eq!(
        option(quote!(blocking, spawn)),
        "`spawn` and `blocking` exclude each other: keep `blocking` for a handler that blocks its thread, `spawn` \
         for one that computes between awaits"
    );
    assert_eq!(option(quote!(oneway = true)), "`oneway` takes no value: write `oneway`");
    assert_eq!(option(quote!(timeout)), "`timeout` takes a string literal: write `timeout = \"5s\"`");
    assert_eq!(option(quote!(timeout = 5)), "`timeout` takes a string literal: write `timeout = \"5s\"`");
    assert_eq!(
        option(quote!(timeout = "5 s")),
        "a timeout is a whole number above 0 and its unit: \"250us\", \"50ms\", \"5s\", \"2m\" or \"1h\""
    );
    assert_eq!(option(quote!(name = "")), "a name on the wire has at least one character");
    assert_eq!(
        option(quote!(name = "Kv.get")),
        "a dot separates the service's name from the method's: leave it out of a method's name"
    );
    let of_service = |options| {
        one(messages(
            options,
            quote!(
                trait Kv {}
            ),
        ))
    };
    assert_eq!(
        of_service(quote!(version = 1)),
        "unknown option `version`: a service takes `name = \"..\"`, `crate = path` and `mock`"
    );
    assert_eq!(of_service(quote!(crate = "rpc")), "`crate` takes a path: write `crate = ::other::trunkline`");
    assert_eq!(of_service(quote!(name)), "`name` takes a string literal: write `name = \"..\"`");
}

#[test]
fn a_name_that_is_taken_is_explained() {
    assert_eq!(
        method(quote!(
            async fn connect(&self);
        )),
        "the generated client has a `connect` of its own: give the method another name, and keep this one on the \
         wire with `#[rpc(name = \"connect\")]`"
    );
    assert_eq!(
        method(quote!(
            async fn get(&self);
            #[rpc(name = "get")]
            async fn fetch(&self);
        )),
        "`get` is called `get` on the wire already: give one of the two another name with `#[rpc(name = \"..\")]`"
    );
    assert_eq!(
        messages(
            quote!(),
            quote!(
                trait Kv {
                    #[cfg(unix)]
                    async fn get(&self);
                    #[cfg(windows)]
                    async fn get(&self);
                }
            )
        ),
        Vec::<String>::new()
    );
}

#[test]
fn a_mistake_in_one_method_leaves_the_others_usable() {
    let expansion = expand::service(
        quote!(),
        quote!(
            trait Kv {
                async fn get(&self);
                async fn put(&mut self, (a, b): (u8, u8));
            }
        ),
    );
    let expansion = expansion.to_string();
    assert!(expansion.contains("compile_error"));
    assert!(expansion.contains("__method_get"));
    assert!(!expansion.contains("__method_put"));
    assert!(expansion.contains("fn put (& mut self , _ : (u8 , u8)) -> impl"), "{expansion}");
}

#[test]
fn the_expansion_is_the_committed_one() {
    compare(
        "kv.rs",
        quote!(),
        quote! {
            /// A key-value store.
            pub trait Kv {
                /// The value stored under `key`.
                #[rpc(idempotent, timeout = "5s")]
                async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError>;
                #[rpc(oneway)]
                async fn touch(&self, key: &str);
                #[cfg(unix)]
                async fn whoami(&self, cx: &Context) -> String;
                async fn put(&self, config: &Config, #[rpc(default)] n: u32) -> u32 {
                    n
                }
            }
        },
    );
}

#[test]
fn the_expansion_of_streams_is_the_committed_one() {
    compare(
        "chat.rs",
        quote!(),
        quote! {
            trait Chat {
                async fn watch(&self, prefix: &str) -> Result<impl Stream<Item = Vec<u8>>, ChatError>;
                async fn import(&self, rows: Streaming<Row>) -> u64;
                #[rpc(slow = "latest")]
                async fn chat(&self, said: Streaming<String>, room: &str) -> impl Stream<Item = String>;
            }
        },
    );
}

#[test]
fn the_expansion_with_a_mock_is_the_committed_one() {
    compare(
        "mock.rs",
        quote!(mock),
        quote! {
            pub trait Kv {
                async fn get(&self, key: &str) -> Option<String>;
                async fn watch(&self, prefix: &str) -> Result<impl Stream<Item = Change>, KvError>;
            }
        },
    );
}

#[test]
fn a_mock_has_two_names_for_each_method() {
    let item = quote! {
        trait Kv {
            async fn get(&self);
            async fn get_async(&self);
        }
    };
    assert_eq!(messages(quote!(), item.clone()), Vec::<String>::new());
    assert_eq!(
        one(messages(quote!(mock), item)),
        "the mock has a `get_async` of its own, beside `get`: give the method another name, and keep this one on the wire \
         with `#[rpc(name = \"get_async\")]`"
    );
    assert_eq!(
        one(messages(
            quote!(mock = true),
            quote!(
                trait Kv {}
            )
        )),
        "`mock` takes no value: write `mock`"
    );
}

fn compare(name: &str, options: TokenStream, item: TokenStream) {
    let expansion = expand::service(options, item);
    let laid_out = prettyplease::unparse(&syn::parse2(expansion).unwrap());
    let path = format!("{}/src/snapshots/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SNAPSHOT").is_some_and(|value| value == "overwrite") {
        std::fs::write(&path, &laid_out).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        laid_out == committed,
        "the expansion changed: if it is meant, run with SNAPSHOT=overwrite and read the diff of {path}\n\n{laid_out}"
    );
}
