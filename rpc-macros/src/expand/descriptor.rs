//! What the service says about itself, and what must hold of its types.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;

use super::{at, spanned};
use crate::attributes;
use crate::forms::Form;
use crate::model::{Argument, Method, Parameter, Service};
use crate::types;

pub(super) fn expand(service: &Service) -> TokenStream {
    let krate = &service.krate;
    let name = &service.wire_name;
    let docs = attributes::docs(&service.item.attrs);
    let methods = service.methods.iter().map(|method| {
        let descriptor = descriptor(service, method);
        let assertions = assertions(service, method);
        quote!(#descriptor #assertions)
    });
    let entries = service.methods.iter().map(|method| {
        let cfgs = method.cfgs();
        let descriptor = method.descriptor();
        quote!(#(#cfgs)* &#descriptor)
    });
    let distinct = quote_spanned! {at(service.item.ident.span())=>
        const _: () = #krate::__private::assert_distinct(__SERVICE.methods);
    };
    quote! {
        #(#methods)*
        static __SERVICE: #krate::__private::ServiceDescriptor =
            #krate::__private::ServiceDescriptor::new(#name, #docs, &[#(#entries),*]);
        #distinct
    }
}

// Output: static __method_get: MethodDescriptor = MethodDescriptor::new("Kv", "get", ..);
//         const __id_get: u64 = __method_get.id.0;
fn descriptor(service: &Service, method: &Method) -> TokenStream {
    let krate = &service.krate;
    let cfgs = method.cfgs();
    let descriptor = method.descriptor();
    let id = method.id();
    let service_name = &service.wire_name;
    let name = method.wire_name.value();
    let docs = attributes::docs(&method.attrs);
    let arguments = method.parameters.iter().filter(|parameter| !matches!(parameter, Parameter::Context(..)));
    let arguments = arguments.map(|parameter| {
        let name = parameter.ident().unraw().to_string();
        let ty = types::text(parameter.ty());
        let default = matches!(parameter, Parameter::Argument(Argument { default: true, .. }));
        quote!(#krate::__private::ArgumentDescriptor::new(#name, #ty, #default))
    });
    let returns = types::text(method.returns());
    let options = &method.options;
    let slow = options.slow.as_ref().map(|(_, slow)| {
        let slow = slow.tokens(krate);
        quote!(.slow(#slow))
    });
    quote! {
        #(#cfgs)*
        static #descriptor: #krate::__private::MethodDescriptor = #krate::__private::MethodDescriptor::new(
            #service_name,
            #name,
            #docs,
            &[#(#arguments),*],
            #returns,
            #krate::__private::MethodOptions::NONE #options #slow,
        );
        #(#cfgs)*
        const #id: ::core::primitive::u64 = #descriptor.id.0;
    }
}

/// That the arguments can be sent; the client says it of the items of streams. That they and the reply can be received is asserted by the server's code, which
/// names each type once, at the user's tokens.
fn assertions(service: &Service, method: &Method) -> Option<TokenStream> {
    let krate = &service.krate;
    let cfgs = method.cfgs();
    let assertions: Vec<TokenStream> = method
        .arguments()
        .map(|Argument { ty, .. }| {
            let span = at(types::heart(ty));
            let form = spanned(Form::sent(ty).ty(krate), span);
            quote_spanned!(span=> #krate::__private::assert_serialize::<#form, #ty>();)
        })
        .collect();
    (!assertions.is_empty()).then(|| {
        quote! {
            #(#cfgs)*
            const _: fn() = || { #(#assertions)* };
        }
    })
}
