//! The trait itself, and its implementation for `Arc`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    FnArg, Pat, PatIdent, ReturnType, Signature, Stmt, TraitItem, TraitItemFn, parse_quote, parse_quote_spanned,
};

use super::at;
use crate::attributes;
use crate::model::{Parameter, Service};
use crate::types;

/// The trait with its methods as the compiler needs them. Also those in which something is wrong.
pub(super) fn definition(service: &Service) -> TokenStream {
    let mut item = service.item.clone();
    item.supertraits.push(parse_quote!(::core::marker::Send));
    item.supertraits.push(parse_quote!(::core::marker::Sync));
    item.supertraits.push(parse_quote!('static));
    item.colon_token.get_or_insert_default();
    for item in &mut item.items {
        if let TraitItem::Fn(function) = item {
            desugar(function);
        }
    }
    if service.mock {
        item.items.push(parse_quote! {
            #[doc(hidden)]
            fn __answers(&self, _method: ::core::primitive::u64) -> ::core::primitive::bool {
                true
            }
        });
    }
    quote!(#item)
}

// Input:  async fn size(&self, key: &str) -> u64 { 0 }
// Output: fn size(&self, key: &str) -> impl Future<Output = u64> + Send { async move { 0 } }
fn desugar(function: &mut TraitItemFn) {
    let Some(word) = function.sig.asyncness.take() else { return };
    let output = match &function.sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => types::with_send_streams(ty).into_token_stream(),
    };
    let span = at(word.span);
    function.sig.output = parse_quote_spanned!(span=>
        -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
    );
    match &mut function.default {
        Some(body) => {
            let future = parse_quote_spanned!(span=> async move #body);
            body.stmts = vec![Stmt::Expr(future, None)];
        }
        None => name_only(&mut function.sig),
    }
}

/// Replaces patterns, which were reported already and which the compiler would report again.
fn name_only(signature: &mut Signature) {
    for input in &mut signature.inputs {
        let FnArg::Typed(input) = input else { continue };
        if !matches!(&*input.pat, Pat::Ident(PatIdent { by_ref: None, subpat: None, mutability: None, .. })) {
            input.pat = parse_quote!(_);
        }
    }
}

// Output: impl<T: Kv> Kv for Arc<T> { fn size(&self, key: &str) -> impl .. { <T as Kv>::size(&**self, key) } .. }
pub(super) fn for_arc(service: &Service) -> TokenStream {
    let krate = &service.krate;
    let name = &service.item.ident;
    let methods = service.methods.iter().map(|method| {
        let ident = &method.ident;
        let cfgs = attributes::cfgs(&method.attrs);
        let names: Vec<_> = method.parameters.iter().map(Parameter::ident).collect();
        let types = method.parameters.iter().map(Parameter::ty);
        let output = method.reply.ty();
        quote! {
            #(#cfgs)*
            fn #ident(
                &self,
                #(#names: #types),*
            ) -> impl ::core::future::Future<Output = #output> + ::core::marker::Send {
                <__T as #name>::#ident(&**self, #(#names),*)
            }
        }
    });
    let answers = service.mock.then(|| {
        quote! {
            fn __answers(&self, method: ::core::primitive::u64) -> ::core::primitive::bool {
                <__T as #name>::__answers(&**self, method)
            }
        }
    });
    let arc = quote_spanned!(at(name.span())=> #krate::__private::Arc);
    quote! {
        #[automatically_derived]
        impl<__T: #name> #name for #arc<__T> {
            #(#methods)*
            #answers
        }
    }
}
