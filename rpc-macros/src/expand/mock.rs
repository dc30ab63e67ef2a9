//! The mock: an implementation whose methods are closures.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::{Ident, Type, parse_quote};

use crate::attributes;
use crate::model::{Method, Parameter, Reply, Service, Soundness};
use crate::types;

// Output: pub struct MockKv { get: Option<Box<dyn Fn(&str) -> Mocked<u32> + Send + Sync>>, .. }
pub(super) fn definition(service: &Service) -> TokenStream {
    let krate = &service.krate;
    let vis = &service.item.vis;
    let mock = service.mock_name();
    let cfgs = attributes::cfgs(&service.item.attrs);
    let docs = format!(
        " A [`{}`] for tests, each method of which answers what a closure says. Calls of others are refused.",
        service.item.ident
    );
    let fields = service.methods.iter().map(|method| {
        let cfgs = method.cfgs();
        let ident = &method.ident;
        let arguments = method.parameters.iter().map(Parameter::ty);
        let answer = method.answer(|item| parse_quote!(#krate::__private::Items<#item>));
        quote! {
            #(#cfgs)*
            #ident: ::core::option::Option<#krate::__private::Box<
                dyn ::core::ops::Fn(#(#arguments),*) -> #krate::__private::Mocked<#answer>
                    + ::core::marker::Send + ::core::marker::Sync
            >>
        }
    });
    quote! {
        #(#cfgs)*
        #[doc = #docs]
        #[allow(dead_code, deprecated, clippy::type_complexity)]
        #vis struct #mock {
            #(#fields),*
        }
    }
}

pub(super) fn impls(service: &Service) -> TokenStream {
    let vis = &service.item.vis;
    let mock = service.mock_name();
    let name = mock.to_string();
    let setters = service.methods.iter().map(|method| setters(service, method));
    let nothing = service.methods.iter().map(|method| {
        let (cfgs, ident) = (method.cfgs(), &method.ident);
        quote!(#(#cfgs)* #ident: ::core::option::Option::None)
    });
    // It must have every method of the trait.
    let implementation = (service.soundness == Soundness::Whole).then(|| implementation(service));
    quote! {
        #[automatically_derived]
        impl ::core::default::Default for #mock {
            fn default() -> Self {
                Self { #(#nothing),* }
            }
        }

        #[automatically_derived]
        impl ::core::fmt::Debug for #mock {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#name).finish_non_exhaustive()
            }
        }

        #[allow(dead_code)]
        impl #mock {
            /// A mock that answers nothing yet.
            #vis fn new() -> Self {
                ::core::default::Default::default()
            }

            #(#setters)*
        }

        #implementation
    }
}

// Output: pub fn get(mut self, answer: impl Fn(&str) -> u32 + Send + Sync + 'static) -> Self {
//             self.get = Some(Box::new(move |key: &str| mocked(answer(key))));
//             self
//         }
//         and `get_async`, whose closure returns a future
fn setters(service: &Service, method: &Method) -> TokenStream {
    let krate = &service.krate;
    let vis = &service.item.vis;
    let cfgs = method.cfgs();
    let ident = &method.ident;
    let later = method.mocked_later();
    let names: Vec<_> = method.parameters.iter().map(Parameter::ident).collect();
    let types: Vec<_> = method.parameters.iter().map(Parameter::ty).collect();
    let mut stream = None;
    let answer = method.answer(|item| {
        stream = Some(quote!(__S: #krate::Stream<Item = #item> + ::core::marker::Send + 'static,));
        parse_quote!(__S)
    });
    let generic = stream.is_some().then(|| quote!(__S,));
    let kept = |answer: TokenStream| match &method.reply {
        Reply::Stream(_) => quote!(#krate::__private::items(#answer)),
        Reply::FallibleStream(_) => quote!(#answer.map(#krate::__private::items)),
        Reply::Oneway(_) | Reply::Value(_) | Reply::Fallible(_) => answer,
    };
    let (now, then) = (kept(quote!(__answer(#(#names),*))), kept(quote!(answer.await)));
    let docs = format!(" Has `{}` answer what `answer` returns, which is called with its arguments.", ident.unraw());
    let later_docs =
        format!(" As [`{0}`](Self::{0}), with a closure that returns a future, which borrows nothing.", ident.unraw());
    quote! {
        #[doc = #docs]
        #(#cfgs)*
        #vis fn #ident<#generic>(
            mut self,
            answer: impl ::core::ops::Fn(#(#types),*) -> #answer + ::core::marker::Send + ::core::marker::Sync + 'static,
        ) -> Self
        where
            #stream
        {
            let __answer = answer;
            self.#ident = ::core::option::Option::Some(#krate::__private::Box::new(
                move |#(#names: #types),*| #krate::__private::mocked(#now)
            ));
            self
        }

        #[doc = #later_docs]
        #(#cfgs)*
        #vis fn #later<#generic __F>(
            mut self,
            answer: impl ::core::ops::Fn(#(#types),*) -> __F + ::core::marker::Send + ::core::marker::Sync + 'static,
        ) -> Self
        where
            #stream
            __F: ::core::future::Future<Output = #answer> + ::core::marker::Send + 'static,
        {
            let __answer = answer;
            self.#ident = ::core::option::Option::Some(#krate::__private::Box::new(
                move |#(#names: #types),*| {
                    let answer = __answer(#(#names),*);
                    #krate::__private::Box::pin(async move { #then })
                }
            ));
            self
        }
    }
}

// Output: impl Kv for MockKv { fn get(&self, key: &str) -> impl Future<Output = u32> + Send { .. } .. }
fn implementation(service: &Service) -> TokenStream {
    let krate = &service.krate;
    let name = &service.item.ident;
    let mock = service.mock_name();
    let mock_name = mock.to_string();
    let methods = service.methods.iter().map(|method| {
        let (cfgs, ident) = (method.cfgs(), &method.ident);
        let method_name = ident.unraw().to_string();
        let names: Vec<_> = method.parameters.iter().map(Parameter::ident).collect();
        let types = method.parameters.iter().map(Parameter::ty);
        let output = method.reply.ty();
        quote! {
            #(#cfgs)*
            fn #ident(
                &self,
                #(#names: #types),*
            ) -> impl ::core::future::Future<Output = #output> + ::core::marker::Send {
                match &self.#ident {
                    ::core::option::Option::Some(__answer) => __answer(#(#names),*),
                    ::core::option::Option::None => #krate::__private::unmocked(#mock_name, #method_name),
                }
            }
        }
    });
    let answers = service.methods.iter().map(|method| {
        let (cfgs, ident, id) = (method.cfgs(), &method.ident, method.id());
        quote!(#(#cfgs)* #id => self.#ident.is_some(),)
    });
    quote! {
        #[automatically_derived]
        impl #name for #mock {
            #(#methods)*

            fn __answers(&self, method: ::core::primitive::u64) -> ::core::primitive::bool {
                match method {
                    #(#answers)*
                    _ => false,
                }
            }
        }
    }
}

impl Service {
    fn mock_name(&self) -> Ident {
        format_ident!("Mock{}", self.item.ident.unraw(), span = self.item.ident.span())
    }
}

impl Method {
    /// What it returns, with `stream` of the items in the place of a stream.
    fn answer(&self, stream: impl FnOnce(&Type) -> Type) -> Type {
        match &self.reply {
            Reply::Stream(reply) | Reply::FallibleStream(reply) => {
                types::with_streams_as(&reply.written, stream(&reply.item))
            }
            reply => reply.ty().clone(),
        }
    }
}
