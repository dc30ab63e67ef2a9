//! The client: one method for each of the service's.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Lifetime, parse_quote};

use super::{at, spanned};
use crate::attributes;
use crate::forms::Form;
use crate::model::{Argument, Method, Parameter, Service, StreamArgument};
use crate::types;

pub(super) fn definition(service: &Service) -> TokenStream {
    let krate = &service.krate;
    let vis = &service.item.vis;
    let client = service.client();
    let attrs = attributes::for_struct(&service.item.attrs);
    let docs = format!(" The client of [`{}`].", service.item.ident);
    quote! {
        #[doc = #docs]
        ///
        #(#attrs)*
        #[allow(dead_code, deprecated)]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #vis struct #client {
            client: #krate::__private::Client,
        }
    }
}

pub(super) fn impls(service: &Service) -> TokenStream {
    let krate = &service.krate;
    let client = service.client();
    let constructors = constructors(service);
    let methods = service.methods.iter().map(|method| self::method(service, method));
    quote! {
        impl #krate::ServiceClient for #client {
            const SERVICE: &'static #krate::__private::ServiceDescriptor = &__SERVICE;

            fn from_client(client: #krate::__private::Client) -> Self {
                Self { client }
            }
        }

        #[allow(dead_code, clippy::too_many_arguments, clippy::type_complexity)]
        impl #client {
            #constructors
            #(#methods)*
        }
    }
}

fn constructors(service: &Service) -> TokenStream {
    let krate = &service.krate;
    let vis = &service.item.vis;
    let name = &service.item.ident;
    let server = service.server();
    quote! {
        /// Connects to the server at `endpoint`, a URI such as `unix:/run/service.sock`.
        ///
        /// # Errors
        ///
        /// If `endpoint` is no such URI, nobody answers there, or the two sides cannot agree.
        #vis async fn connect(
            endpoint: impl ::core::convert::AsRef<::core::primitive::str>,
        ) -> ::core::result::Result<Self, #krate::ConnectError> {
            #krate::__private::connect(endpoint.as_ref()).await.map(|client| Self { client })
        }

        /// Connects to the server at `endpoint` from a thread outside any async runtime.
        ///
        /// # Errors
        ///
        /// If `endpoint` is no such URI, nobody answers there, or the two sides cannot agree.
        #vis fn connect_blocking(
            endpoint: impl ::core::convert::AsRef<::core::primitive::str>,
        ) -> ::core::result::Result<Self, #krate::ConnectError> {
            #krate::__private::connect_blocking(endpoint.as_ref()).map(|client| Self { client })
        }

        /// Starts `command`, a `std::process::Command` or a `Spawn` with options, whose program serves
        /// `inherited:`, and speaks to it. It ends with this client's connection. Needs a tokio runtime.
        ///
        /// # Errors
        ///
        /// If the program cannot be started, ends before it has answered, or the two sides cannot agree.
        ///
        /// # Cancel safety
        ///
        /// Dropping the future gives the attempt up; the child is ended.
        #vis async fn spawn(
            command: impl ::core::convert::Into<#krate::__private::Spawn>,
        ) -> ::core::result::Result<Self, #krate::ConnectError> {
            #krate::__private::spawn(command.into()).await.map(|client| Self { client })
        }

        /// Speaks to a server over bytes that are connected to it already.
        ///
        /// # Errors
        ///
        /// If the two sides cannot agree.
        #vis async fn over<S>(stream: S) -> ::core::result::Result<Self, #krate::ConnectError>
        where
            S: #krate::__private::AsyncRead + #krate::__private::AsyncWrite + ::core::marker::Send + 'static,
        {
            #krate::__private::over(stream).await.map(|client| Self { client })
        }

        /// Speaks to a server over a transport that is connected to it already.
        ///
        /// # Errors
        ///
        /// If the two sides cannot agree.
        #vis async fn over_transport<T: #krate::transport::Transport>(
            transport: T,
        ) -> ::core::result::Result<Self, #krate::ConnectError> {
            #krate::__private::over_transport(transport).await.map(|client| Self { client })
        }

        /// Speaks to `server` inside this process, without an endpoint: with the same deadlines, cancellation, streams and
        /// errors as over a wire. The last clone of the client ends it.
        ///
        /// # Panics
        ///
        /// If there is neither a tokio runtime here nor a thread to be had for one.
        #[track_caller]
        #vis fn local<__T: #name>(server: #server<__T>) -> Self {
            Self { client: #krate::__private::local(server) }
        }

        /// The connection that carries this client's calls.
        #vis fn connection(&self) -> #krate::Connection {
            #krate::__private::connection(&self.client)
        }
    }
}

// Input:  async fn get(&self, key: &str) -> u32;
// Output: pub fn get<'rpc>(&'rpc self, key: &'rpc str) -> Call<'rpc, (Arg<&'rpc str>,), Value<u32>> {
//             self.client.call(&__method_get, (Arg::new(key),))
//         }
//
// Input:  async fn put(&self, rows: Streaming<Row>) -> u32;
// Output: pub fn put<'rpc>(&'rpc self, rows: impl Stream<Item = Row> + Send + 'static) -> Call<'rpc, Fed<()>, Value<u32>> {
//             self.client.call(&__method_put, Fed::new((), Vec::from([Feed::new::<Plain, Row, _>(rows)])))
//         }
fn method(service: &Service, method: &Method) -> TokenStream {
    let krate = &service.krate;
    let vis = &service.item.vis;
    let ident = &method.ident;
    let attrs = attributes::for_client_method(&method.attrs);
    let docs = attributes::docs(&method.attrs).is_empty().then(|| {
        let docs = format!(" Calls `{}.{}`.", service.wire_name, method.wire_name.value());
        quote!(#[doc = #docs])
    });
    let descriptor = method.descriptor();
    let output = method.output(service);
    let lifetime: Lifetime = parse_quote!('rpc);
    let names = method.arguments().map(|argument| &argument.ident);
    let types: Vec<_> = method.arguments().map(|argument| types::with_lifetime(&argument.ty, &lifetime)).collect();
    let forms = method.arguments().map(|Argument { ty, .. }| Form::sent(ty).if_not_plain(krate));
    let parameters = method.parameters.iter().filter_map(|parameter| match parameter {
        Parameter::Context(..) => None,
        Parameter::Argument(Argument { ident, ty, .. }) => {
            let ty = types::with_lifetime(ty, &lifetime);
            Some(quote!(#ident: #ty))
        }
        Parameter::Stream(stream) => {
            let StreamArgument { ident, item, .. } = &**stream;
            Some(quote!(#ident: impl #krate::Stream<Item = #item> + ::core::marker::Send + 'static))
        }
    });
    let parameters: Vec<_> = parameters.collect();
    let mut taken = quote!((#(#krate::__private::Arg<#types #forms>,)*));
    let mut given = quote!((#(#krate::__private::Arg::new(#names),)*));
    if method.streams().next().is_some() {
        let feeds = method.streams().map(|StreamArgument { ident, item, .. }| {
            // That the items can be sent is asserted here.
            let span = at(types::heart(item));
            let form = spanned(Form::received(item).ty(krate), span);
            quote_spanned!(span=> #krate::__private::Feed::new::<#form, #item, _>(#ident))
        });
        taken = quote!(#krate::__private::Fed<#taken>);
        given = quote!(#krate::__private::Fed::new(#given, #krate::__private::Vec::from([#(#feeds),*])));
    }
    quote! {
        #docs
        #(#attrs)*
        #vis fn #ident<'rpc>(
            &'rpc self,
            #(#parameters),*
        ) -> #krate::Call<'rpc, #taken, #output> {
            self.client.call(&#descriptor, #given)
        }
    }
}
