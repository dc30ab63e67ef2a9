//! From the model to code.
//!
//! ```text
//! Input:  #[trunkline::service] pub trait Kv { async fn get(&self, key: &str) -> u32; }
//! Output: pub trait Kv: Send + Sync + 'static { fn get(&self, key: &str) -> impl Future<Output = u32> + Send; }
//!         pub struct KvClient { .. }
//!         pub struct KvServer<T> { .. }
//!         const _: () = { the descriptors, assertions about the types, everything the three can do };
//! ```
//!
//! The anonymous constant keeps the descriptors to itself, and still sees the names that the user's types are made of.
//! What stands beside those types in it begins with two underscores, so as not to hide one of them.

mod client;
mod descriptor;
mod mock;
mod server;
mod trait_;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Ident, Path};

use crate::attributes;
use crate::errors::Errors;
use crate::forms::Form;
use crate::model::{Method, Reply, Service, Soundness, StreamReply};
use crate::parse;
use crate::types;

/// The attribute `service`: its options and its item become the expansion and all errors.
pub(crate) fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    match parse::service(options, item, &mut errors) {
        Ok(service) => {
            let expansion = expand(&service);
            quote!(#errors #expansion)
        }
        Err(item) => quote!(#errors #item),
    }
}

/// As much of the service as is free of mistakes, so that code which uses it fails for no other reason than they.
fn expand(service: &Service) -> TokenStream {
    let definition = trait_::definition(service);
    if service.soundness == Soundness::Nothing {
        return definition;
    }
    // The implementation for `Arc` must have every method of the trait.
    let for_arc = (service.soundness == Soundness::Whole).then(|| trait_::for_arc(service));
    let cfgs = attributes::cfgs(&service.item.attrs);
    let client = client::definition(service);
    let server = server::definition(service);
    let descriptors = descriptor::expand(service);
    let client_impls = client::impls(service);
    let server_impls = server::impls(service);
    let mock = service.mock.then(|| mock::definition(service));
    let mock_impls = service.mock.then(|| mock::impls(service));
    quote! {
        #definition
        #client
        #server
        #mock
        #(#cfgs)*
        #[allow(deprecated, non_upper_case_globals)]
        const _: () = {
            #descriptors
            #for_arc
            #client_impls
            #server_impls
            #mock_impls
        };
    }
}

impl Service {
    fn client(&self) -> Ident {
        format_ident!("{}Client", self.item.ident.unraw(), span = self.item.ident.span())
    }

    fn server(&self) -> Ident {
        format_ident!("{}Server", self.item.ident.unraw(), span = self.item.ident.span())
    }
}

impl Method {
    fn cfgs(&self) -> Vec<TokenStream> {
        attributes::cfgs(&self.attrs)
    }

    /// The name of its descriptor.
    fn descriptor(&self) -> Ident {
        format_ident!("__method_{}", self.ident.unraw(), span = Span::call_site())
    }

    /// The name of its id, as a number to match.
    fn id(&self) -> Ident {
        format_ident!("__id_{}", self.ident.unraw(), span = Span::call_site())
    }

    /// Its reply as one of the runtime's types.
    fn output(&self, service: &Service) -> TokenStream {
        let krate = &service.krate;
        let (kind, ty, form) = match &self.reply {
            Reply::Oneway(_) => return quote!(#krate::__private::Oneway),
            Reply::Value(ty) => ("Value", ty, Form::returned(ty)),
            Reply::Fallible(ty) => ("Fallible", ty, Form::returned_in_result(ty)),
            Reply::Stream(stream) | Reply::FallibleStream(stream) => return self.stream_output(stream, krate),
        };
        let span = at(types::heart(ty));
        let kind = Ident::new(kind, span);
        let form = form.if_not_plain(krate).map(|form| spanned(form, span));
        quote_spanned!(span=> #krate::__private::#kind<#ty #form>)
    }
}

impl Method {
    /// Its reply that is a stream, as one of the runtime's types.
    fn stream_output(&self, stream: &StreamReply, krate: &Path) -> TokenStream {
        let StreamReply { received, item, .. } = stream;
        let span = at(types::heart(item));
        let form = Form::returned(item).if_not_plain(krate).map(|form| spanned(form, span));
        match &self.reply {
            Reply::FallibleStream(_) => {
                quote_spanned!(span=> #krate::__private::FallibleStreamed<#received, #item #form>)
            }
            _ => quote_spanned!(span=> #krate::__private::Streamed<#item #form>),
        }
    }
}

/// The place of the user's tokens, for generated ones that the compiler may complain about.
fn at(place: Span) -> Span {
    Span::call_site().located_at(place)
}

/// `tokens`, all of them ours, moved to `span`.
fn spanned(tokens: TokenStream, span: Span) -> TokenStream {
    let tokens = tokens.into_iter().map(|mut token| {
        token.set_span(span);
        token
    });
    tokens.collect()
}
