//! Which of the user's attributes go where.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Lit, Meta, MetaList, Token};

use crate::types;

/// The attributes that decide whether something exists: they go wherever it shows up.
pub(crate) fn cfgs(attrs: &[Attribute]) -> Vec<TokenStream> {
    only(attrs, &["cfg"])
}

/// The attributes that a client's method takes over from the trait's method.
pub(crate) fn for_client_method(attrs: &[Attribute]) -> Vec<TokenStream> {
    only(attrs, &["cfg", "doc", "deprecated", "must_use"])
}

/// The attributes that client and server take over from the trait.
pub(crate) fn for_struct(attrs: &[Attribute]) -> Vec<TokenStream> {
    only(attrs, &["cfg", "doc", "deprecated"])
}

/// The documentation, as one text.
pub(crate) fn docs(attrs: &[Attribute]) -> String {
    let lines: Vec<String> = attrs.iter().filter_map(doc_line).collect();
    lines.join("\n").trim().to_owned()
}

/// Whether the attributes say whether the item exists at all.
pub(crate) fn is_conditional(attrs: &[Attribute]) -> bool {
    !cfgs(attrs).is_empty()
}

/// Takes the attributes called `rpc` out of `attrs`.
pub(crate) fn take_rpc(attrs: &mut Vec<Attribute>) -> Vec<Attribute> {
    let (ours, theirs) = std::mem::take(attrs).into_iter().partition(|attr| attr.path().is_ident("rpc"));
    *attrs = theirs;
    ours
}

fn doc_line(attr: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attr.meta else { return None };
    if !meta.path.is_ident("doc") {
        return None;
    }
    let Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) = types::ungrouped(&meta.value) else { return None };
    let line = line.value();
    Some(line.strip_prefix(' ').unwrap_or(&line).to_owned())
}

/// The outer attributes with one of `names`, also inside `cfg_attr`, whose other contents are left out.
fn only(attrs: &[Attribute], names: &[&str]) -> Vec<TokenStream> {
    let outer = attrs.iter().filter(|attr| matches!(attr.style, syn::AttrStyle::Outer));
    outer.filter_map(|attr| only_meta(&attr.meta, names)).map(|meta| quote!(#[#meta])).collect()
}

// Input:  cfg_attr(unix, cfg(test), inline), names = ["cfg"]
// Output: cfg_attr(unix, cfg(test))
fn only_meta(meta: &Meta, names: &[&str]) -> Option<TokenStream> {
    if names.iter().any(|name| meta.path().is_ident(name)) {
        return Some(quote!(#meta));
    }
    let Meta::List(MetaList { path, tokens, .. }) = meta else { return None };
    if !path.is_ident("cfg_attr") {
        return None;
    }
    let inner = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens.clone()).ok()?;
    let mut inner = inner.iter();
    let condition = inner.next()?;
    let kept: Vec<TokenStream> = inner.filter_map(|meta| only_meta(meta, names)).collect();
    (!kept.is_empty()).then(|| quote!(#path(#condition, #(#kept),*)))
}
