//! What a service is, once parsed: everything the expansion needs, and nothing that could still be wrong.

use quote::format_ident;
use syn::ext::IdentExt;
use syn::{Attribute, Ident, ItemTrait, LitStr, Path, Type};

use crate::options::MethodOptions;

/// A service.
pub(crate) struct Service {
    /// The trait as the user wrote it, without `#[rpc(..)]`.
    pub(crate) item: ItemTrait,
    /// Where the `trunkline` crate is found.
    pub(crate) krate: Path,
    /// Whether it has a mock.
    pub(crate) mock: bool,
    /// The service's name on the wire.
    pub(crate) wire_name: String,
    /// Its methods, in the order of the trait. Those with a mistake are missing.
    pub(crate) methods: Vec<Method>,
    /// How much of the trait is free of mistakes.
    pub(crate) soundness: Soundness,
}

/// How much of a trait can be expanded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Soundness {
    /// All of it.
    Whole,
    /// The trait itself, but not every method.
    SomeMethods,
    /// Nothing: the trait itself is no service.
    Nothing,
}

/// A method.
pub(crate) struct Method {
    /// The user's attributes, without `#[rpc(..)]`.
    pub(crate) attrs: Vec<Attribute>,
    /// Its name in Rust.
    pub(crate) ident: Ident,
    /// Its name on the wire, at the tokens that give it.
    pub(crate) wire_name: LitStr,
    /// Its options.
    pub(crate) options: MethodOptions,
    /// What its handler is called with, in order.
    pub(crate) parameters: Vec<Parameter>,
    /// What it returns.
    pub(crate) reply: Reply,
}

/// Something a handler is called with.
pub(crate) enum Parameter {
    /// What the server knows about the call. Not on the wire; its type is kept for its tokens.
    Context(Ident, Type),
    /// What the caller sends.
    Argument(Argument),
    /// What the caller sends item by item.
    Stream(Box<StreamArgument>),
}

/// An argument that is a stream.
pub(crate) struct StreamArgument {
    /// Its name.
    pub(crate) ident: Ident,
    /// Its type for the handler: `Streaming<Item>`.
    pub(crate) ty: Type,
    /// The type of its items.
    pub(crate) item: Type,
}

/// An argument on the wire.
pub(crate) struct Argument {
    /// Its name.
    pub(crate) ident: Ident,
    /// Its type.
    pub(crate) ty: Type,
    /// Whether a caller may leave it out.
    pub(crate) default: bool,
}

/// What a method returns.
pub(crate) enum Reply {
    /// Nothing, and nobody waits for it: `()`.
    Oneway(Type),
    /// A value.
    Value(Type),
    /// Something that is called `Result`.
    Fallible(Type),
    /// A stream.
    Stream(Box<StreamReply>),
    /// Something that is called `Result`, whose value is a stream.
    FallibleStream(Box<StreamReply>),
}

/// What a method returns that returns a stream.
pub(crate) struct StreamReply {
    /// The type as it is written.
    pub(crate) written: Type,
    /// The type in the trait, whose streams are `Send`.
    pub(crate) ty: Type,
    /// The type for the caller, with `Streaming<Item>` in the place of `impl Stream<Item = Item>`.
    pub(crate) received: Type,
    /// The type of its items.
    pub(crate) item: Type,
}

impl Method {
    /// Its second name in a mock, of which the first is its own: takes a closure that returns a future.
    pub(crate) fn mocked_later(&self) -> Ident {
        format_ident!("{}_async", self.ident.unraw(), span = self.ident.span())
    }

    /// The arguments that are streams, in order.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &StreamArgument> {
        self.parameters.iter().filter_map(|parameter| match parameter {
            Parameter::Stream(stream) => Some(&**stream),
            Parameter::Argument(_) | Parameter::Context(..) => None,
        })
    }

    /// How many streams its caller sends, and how many it receives.
    pub(crate) fn stream_counts(&self) -> (u8, u8) {
        let returned = matches!(self.reply, Reply::Stream(_) | Reply::FallibleStream(_));
        (self.streams().map(|_| 1).sum(), u8::from(returned))
    }

    /// What it returns, as it is written.
    pub(crate) fn returns(&self) -> &Type {
        match &self.reply {
            Reply::Stream(stream) | Reply::FallibleStream(stream) => &stream.written,
            reply => reply.ty(),
        }
    }

    /// The arguments in the request, in order.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Argument> {
        self.parameters.iter().filter_map(|parameter| match parameter {
            Parameter::Argument(argument) => Some(argument),
            Parameter::Stream(_) | Parameter::Context(..) => None,
        })
    }
}

impl Parameter {
    /// Its name.
    pub(crate) fn ident(&self) -> &Ident {
        match self {
            Parameter::Context(ident, _) | Parameter::Argument(Argument { ident, .. }) => ident,
            Parameter::Stream(stream) => &stream.ident,
        }
    }

    /// Its type.
    pub(crate) fn ty(&self) -> &Type {
        match self {
            Parameter::Context(_, ty) | Parameter::Argument(Argument { ty, .. }) => ty,
            Parameter::Stream(stream) => &stream.ty,
        }
    }
}

impl Reply {
    /// What the trait's method returns.
    pub(crate) fn ty(&self) -> &Type {
        match self {
            Reply::Oneway(ty) | Reply::Value(ty) | Reply::Fallible(ty) => ty,
            Reply::Stream(stream) | Reply::FallibleStream(stream) => &stream.ty,
        }
    }
}
