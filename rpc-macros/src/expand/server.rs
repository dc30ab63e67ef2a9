//! The server: a `match` from a method's id to its handler.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::{at, spanned};
use crate::attributes;
use crate::forms::Form;
use crate::model::{Argument, Method, Parameter, Reply, Service, StreamArgument};
use crate::types;

pub(super) fn definition(service: &Service) -> TokenStream {
    let krate = &service.krate;
    let vis = &service.item.vis;
    let server = service.server();
    let attrs = attributes::for_struct(&service.item.attrs);
    let docs =
        format!("The server of [`{}`]: it answers calls with an implementation of the trait.\n", service.item.ident);
    quote! {
        #[doc = #docs]
        ///
        #(#attrs)*
        #[allow(dead_code, deprecated)]
        #vis struct #server<T> {
            service: #krate::__private::Arc<T>,
        }
    }
}

pub(super) fn impls(service: &Service) -> TokenStream {
    let krate = &service.krate;
    let vis = &service.item.vis;
    let server = service.server();
    let server_name = server.to_string();
    let dispatch = dispatch(service);
    quote! {
        #[allow(dead_code)]
        impl<T> #server<T> {
            /// Serves `service`.
            #vis fn new(service: T) -> Self {
                Self { service: #krate::__private::Arc::new(service) }
            }
        }

        #[automatically_derived]
        impl<T> ::core::clone::Clone for #server<T> {
            fn clone(&self) -> Self {
                Self { service: ::core::clone::Clone::clone(&self.service) }
            }
        }

        #[automatically_derived]
        impl<T> ::core::fmt::Debug for #server<T> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#server_name).finish_non_exhaustive()
            }
        }

        #dispatch
    }
}

fn dispatch(service: &Service) -> TokenStream {
    let krate = &service.krate;
    let name = &service.item.ident;
    let server = service.server();
    // What a mock was not told is as if it were not served.
    let mocked = service.mock.then(|| {
        quote! {
            if !<__T as #name>::__answers(&*self.service, request.method().id.0) {
                return ::core::result::Result::Err(request.unknown_method());
            }
        }
    });
    let arms = service.methods.iter().map(|method| arm(service, method));
    quote! {
        impl<__T: #name> #krate::Service for #server<__T> {
            fn descriptor(&self) -> &'static #krate::__private::ServiceDescriptor {
                &__SERVICE
            }

            #[allow(unused_mut, unused_variables)]
            async fn call(
                &self,
                request: &#krate::__private::Request,
            ) -> ::core::result::Result<#krate::__private::Answer, #krate::__private::Refusal> {
                #mocked
                let mut args = request.arguments();
                match request.method().id.0 {
                    #(#arms)*
                    _ => ::core::result::Result::Err(request.unknown_method()),
                }
            }
        }
    }
}

// Input:  async fn put(&self, key: &str, config: &Config) -> u32;
// Output: __id_put => {
//             let returned = <T as Kv>::put(
//                 &*self.service,
//                 args.take::<Plain, &str>()?,
//                 &args.last::<Plain, Config>()?,
//             ).await;
//             request.answer::<Value<u32>>(returned).await
//         }
fn arm(service: &Service, method: &Method) -> TokenStream {
    let cfgs = method.cfgs();
    let id = method.id();
    let name = &service.item.ident;
    let ident = &method.ident;
    let last = method.arguments().count().checked_sub(1);
    let end = last.is_none().then(|| quote!(args.end()?;));
    let mut arguments = 0..;
    let parameters = method.parameters.iter().map(|parameter| match parameter {
        Parameter::Context(_, ty) => quote_spanned!(at(types::heart(ty))=> request.context()),
        Parameter::Stream(stream) => received_stream(service, stream),
        Parameter::Argument(argument) => received(service, argument, arguments.next() == last),
    });
    let output = method.output(service);
    let (given, returned) = method.stream_counts();
    let streams = (given + returned > 0).then(|| quote!(args.streams(#given, #returned)?;));
    let call = quote!(<__T as #name>::#ident(&*self.service, #(#parameters),*).await);
    let slow = method.options.slow().tokens(&service.krate);
    let answer = match &method.reply {
        // A stream may borrow the arguments: they live as long as the `match`.
        Reply::Stream(stream) => {
            let answer =
                quote_spanned!(at(types::heart(&stream.item))=> request.stream::<#output, _>(#slow, returned).await);
            quote!(match #call { returned => #answer })
        }
        Reply::FallibleStream(stream) => {
            let answer = quote_spanned!(at(types::heart(&stream.item))=> request.try_stream::<#output, _>(#slow, returned).await);
            quote!(match #call { returned => #answer })
        }
        reply => {
            let answer = quote_spanned!(at(types::heart(reply.ty()))=> request.answer::<#output>(returned).await);
            quote! {
                let returned = #call;
                #answer
            }
        }
    };
    quote! {
        #(#cfgs)*
        #id => {
            #streams
            #end
            #answer
        }
    }
}

// Output: args.stream::<Plain, Row>()?
fn received_stream(service: &Service, stream: &StreamArgument) -> TokenStream {
    let item = &stream.item;
    let span = at(types::heart(item));
    let form = spanned(Form::received(item).ty(&service.krate), span);
    quote_spanned!(span=> args.stream::<#form, #item>()?)
}

// Output: &args.take::<Plain, Config>()?
fn received(service: &Service, argument: &Argument, is_last: bool) -> TokenStream {
    let krate = &service.krate;
    let span = at(types::heart(&argument.ty));
    let method = match (is_last, argument.default) {
        (false, false) => quote_spanned!(span=> take),
        (false, true) => quote_spanned!(span=> take_or_default),
        (true, false) => quote_spanned!(span=> last),
        (true, true) => quote_spanned!(span=> last_or_default),
    };
    let (ty, is_lent) = types::decoded(&argument.ty, krate);
    let form = spanned(Form::received(&argument.ty).ty(krate), span);
    let value = quote_spanned!(span=> args.#method::<#form, #ty>()?);
    if is_lent { quote_spanned!(span=> &#value) } else { value }
}
