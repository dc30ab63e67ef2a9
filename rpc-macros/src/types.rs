//! Types as tokens: what cannot travel by its very look, lifetimes, and how a type is printed.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Expr, GenericArgument, Lifetime, ParenthesizedGenericArguments, PathArguments, PathSegment, Token, Type, TypeFnPtr,
    TypeImplTrait, TypeParamBound, TypePath, TypeReference, TypeTraitObject,
};

use crate::errors::Errors;

/// The expression behind the invisible groups that `macro_rules!` puts around what it passes on.
pub(crate) fn ungrouped(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(group) => ungrouped(&group.expr),
        expr => expr,
    }
}

/// The type behind parentheses and the invisible groups that `macro_rules!` puts around what it passes on.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        ty => ty,
    }
}

/// The last segment of a type that is a path.
pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match bare(ty) {
        Type::Path(TypePath { qself: None, path, .. }) => path.segments.last(),
        _ => None,
    }
}

/// The first type among the generic arguments of `segment`.
pub(crate) fn first_argument(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// Whether `ty` is a path that ends in `name`, without generic arguments.
pub(crate) fn is_named(ty: &Type, name: &str) -> bool {
    last_segment(ty).is_some_and(|segment| segment.ident == name && segment.arguments.is_empty())
}

/// The place in `ty` that a person would point at: a compiler that may only point at one token of it points here.
///
/// `Config` in `&Config`, `a::Config` and `Vec<Config>`, but `Result` in `Result<Config, Error>`.
pub(crate) fn heart(ty: &Type) -> Span {
    match bare(ty) {
        Type::Reference(reference) => heart(&reference.elem),
        Type::Slice(slice) => heart(&slice.elem),
        Type::Array(array) => heart(&array.elem),
        Type::Path(TypePath { path, .. }) => {
            let Some(last) = path.segments.last() else { return ty.span() };
            match &last.arguments {
                PathArguments::AngleBracketed(arguments) if arguments.args.len() == 1 => {
                    first_argument(last).map_or(last.ident.span(), heart)
                }
                _ => last.ident.span(),
            }
        }
        ty => ty.span(),
    }
}

/// `ty` with every lifetime that was left out, or written `'_`, replaced by `lifetime`.
pub(crate) fn with_lifetime(ty: &Type, lifetime: &Lifetime) -> Type {
    let mut ty = ty.clone();
    Named(lifetime).visit_type_mut(&mut ty);
    ty
}

/// The type that a server decodes so that a handler's parameter of type `ty` can be given, and whether it is lent to
/// it.
///
/// `&str` and `&[u8]` are views of the request itself; of another reference the server decodes and owns the target.
pub(crate) fn decoded(ty: &Type, krate: &syn::Path) -> (TokenStream, bool) {
    let Type::Reference(TypeReference { elem, .. }) = bare(ty) else { return (quote!(#ty), false) };
    match bare(elem) {
        elem if is_view(elem) => (quote!(#ty), false),
        Type::Slice(slice) => {
            let item = &slice.elem;
            (quote!(#krate::__private::Vec<#item>), true)
        }
        elem => (quote!(#elem), true),
    }
}

/// What an argument of type `ty` streams, if it is a `Streaming`: `None` inside if it does not say.
pub(crate) fn streamed_argument(ty: &Type) -> Option<Option<&Type>> {
    let segment = last_segment(ty).filter(|segment| segment.ident == "Streaming")?;
    Some(first_argument(segment))
}

/// What `ty` streams, if it is `impl Stream<Item = ..>`.
pub(crate) fn streamed_item(ty: &Type) -> Option<&Type> {
    let Type::ImplTrait(TypeImplTrait { bounds, .. }) = bare(ty) else { return None };
    let arguments = bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) => {
            bound.path.segments.last().filter(|last| last.ident == "Stream").map(|last| &last.arguments)
        }
        _ => None,
    })?;
    let PathArguments::AngleBracketed(arguments) = arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(assoc) if assoc.ident == "Item" => Some(&assoc.ty),
        _ => None,
    })
}

/// The value of something that is called `Result`, and the types beside it.
pub(crate) fn in_result(ty: &Type) -> Option<(&Type, Vec<&Type>)> {
    let segment = last_segment(ty).filter(|segment| segment.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    let mut types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    let value = types.next()?;
    Some((value, types.collect()))
}

/// `ty` with `Send` streams: what crosses tasks in the server.
pub(crate) fn with_send_streams(ty: &Type) -> Type {
    let mut ty = ty.clone();
    Sendable.visit_type_mut(&mut ty);
    ty
}

/// `ty` with `other` in the place of `impl Stream<Item = Item>`.
pub(crate) fn with_streams_as(ty: &Type, other: Type) -> Type {
    let mut ty = ty.clone();
    Replaced(other).visit_type_mut(&mut ty);
    ty
}

struct Sendable;

impl VisitMut for Sendable {
    fn visit_type_impl_trait_mut(&mut self, ty: &mut TypeImplTrait) {
        if mentions_stream(&ty.bounds) {
            ty.bounds.push(syn::parse_quote!(::core::marker::Send));
        }
    }
}

struct Replaced(Type);

impl VisitMut for Replaced {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        if streamed_item(ty).is_some() {
            return ty.clone_from(&self.0);
        }
        visit_mut::visit_type_mut(self, ty);
    }
}

/// Reports what in the type of a stream's items can be seen not to travel.
pub(crate) fn check_item(ty: &Type, errors: &mut Errors) {
    Check { place: Place::Item, depth: 0, errors }.visit_type(ty);
}

/// Reports what in an argument's type can be seen not to travel.
pub(crate) fn check_argument(ty: &Type, errors: &mut Errors) {
    let mut check = Check { place: Place::Argument, depth: 0, errors };
    match bare(ty) {
        // A reference at the outside is lent by the server, whatever it points at.
        Type::Reference(reference) => {
            check.reference(reference);
            check.visit_type(&reference.elem);
        }
        ty => check.visit_type(ty),
    }
}

/// Reports what in a return type can be seen not to travel.
pub(crate) fn check_return(ty: &Type, errors: &mut Errors) {
    Check { place: Place::Return, depth: 0, errors }.visit_type(ty);
}

/// `tokens` as a person would write them.
pub(crate) fn text(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    write(tokens.into_token_stream(), &mut text);
    text
}

struct Named<'a>(&'a Lifetime);

impl VisitMut for Named<'_> {
    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        reference.lifetime.get_or_insert_with(|| self.0.clone());
        visit_mut::visit_type_reference_mut(self, reference);
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident == "_" {
            *lifetime = self.0.clone();
        }
    }

    // The lifetimes in a function's type are its own.
    fn visit_type_fn_ptr_mut(&mut self, _: &mut TypeFnPtr) {}
    fn visit_parenthesized_generic_arguments_mut(&mut self, _: &mut ParenthesizedGenericArguments) {}
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Argument,
    Return,
    /// Of a stream.
    Item,
}

impl Place {
    /// Why nothing can be borrowed there, if so.
    fn owned(self) -> Option<&'static str> {
        match self {
            Place::Argument => None,
            Place::Return => Some(BORROWED_RETURN),
            Place::Item => Some(BORROWED_ITEM),
        }
    }
}

struct Check<'a> {
    place: Place,
    /// How many types surround the visited one.
    depth: usize,
    errors: &'a mut Errors,
}

impl Check<'_> {
    fn reference(&mut self, reference: &TypeReference) {
        if let Some(why) = self.place.owned() {
            return self.errors.at(reference, why);
        }
        if reference.mutability.is_some() {
            return self.errors.at(
                reference,
                "`&mut` cannot reach into another process: take the argument by value or by `&`, and return what \
                 changed",
            );
        }
        if reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static") {
            return self.errors.at(
                reference,
                "an argument is borrowed from the request and lives no longer than the call: leave `'static` out",
            );
        }
        if self.depth > 0 && !is_view(&reference.elem) {
            self.errors.at(
                reference,
                "inside another type only `&str` and `&[u8]` can be borrowed from the request: write an owned type \
                 here",
            );
        }
    }

    fn stream(&mut self, tokens: impl ToTokens) {
        self.errors.at(
            tokens,
            match self.place {
                Place::Argument => {
                    "an argument that is a stream is written `Streaming<T>`, by itself: its caller gives any \
                     `impl Stream<Item = T> + Send + 'static`"
                }
                Place::Return => {
                    "a method that returns a stream returns `impl Stream<Item = T>`, or a `Result` with it as its value; a \
                     boxed stream is one as well"
                }
                Place::Item => "an item is a value: a stream of streams does not travel",
            },
        );
    }
}

impl<'ast> Visit<'ast> for Check<'_> {
    fn visit_type(&mut self, ty: &'ast Type) {
        match bare(ty) {
            Type::Reference(reference) if self.depth > 0 || self.place != Place::Argument => self.reference(reference),
            Type::Infer(infer) => self.errors.at(infer, "write the type: both sides build on it"),
            _ => {}
        }
        self.depth += 1;
        visit::visit_type(self, bare(ty));
        self.depth -= 1;
    }

    fn visit_type_path(&mut self, path: &'ast TypePath) {
        let segments = &path.path.segments;
        if segments.last().is_some_and(|last| last.ident == "Streaming" || last.ident == "BoxStream") {
            return self.stream(path);
        }
        if segments.first().is_some_and(|first| first.ident == "Self") {
            return self.errors.at(
                path,
                "`Self` is another type on each side: write the type's own name, the same for client and server",
            );
        }
        visit::visit_type_path(self, path);
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        if mentions_stream(&ty.bounds) {
            return self.stream(ty);
        }
        self.errors.at(ty, "`impl Trait` names no type that the other process could decode: write a concrete type");
    }

    fn visit_type_trait_object(&mut self, ty: &'ast TypeTraitObject) {
        if mentions_stream(&ty.bounds) {
            return self.stream(ty);
        }
        self.errors
            .at(ty, "a trait object cannot be decoded by the other process: write a concrete type, such as an enum");
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if let Some(why) = self.place.owned().filter(|_| lifetime.ident != "static") {
            self.errors.at(lifetime, why);
        }
    }

    // Reported as a reference, with all of it.
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        if self.place == Place::Argument {
            self.visit_type(&reference.elem);
        }
    }

    fn visit_type_fn_ptr(&mut self, ty: &'ast TypeFnPtr) {
        self.errors
            .at(ty, "a function stays in its process: send data, and call back through a service of the caller's own");
    }
}

const BORROWED_RETURN: &str = "a reply outlives what its handler borrows: return an owned type, such as `String` for \
                               `&str` and `Vec<u8>` for `&[u8]`";

const BORROWED_ITEM: &str = "an item travels by itself and borrows nothing: write an owned type, such as `String` for `&str` \
                             and `Vec<u8>` for `&[u8]`";

fn mentions_stream(bounds: &Punctuated<TypeParamBound, Token![+]>) -> bool {
    bounds.iter().any(|bound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last().is_some_and(|last| last.ident == "Stream"),
        _ => false,
    })
}

/// Whether a reference to `target` is decoded as a view of the request.
fn is_view(target: &Type) -> bool {
    match bare(target) {
        Type::Slice(slice) => is_named(&slice.elem, "u8"),
        target => is_named(target, "str"),
    }
}

fn write(tokens: TokenStream, text: &mut String) {
    let mut after_lifetime = false;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_name = matches!(token, TokenTree::Ident(_) | TokenTree::Literal(_));
        let is_lifetime = is_name && text.ends_with('\'');
        let follows_word = text.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        if is_name && follows_word || after_lifetime && matches!(token, TokenTree::Group(_)) {
            text.push(' ');
        }
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                ',' | ';' if tokens.peek().is_some() => text.extend([punct.as_char(), ' ']),
                '+' | '=' => text.extend([' ', punct.as_char(), ' ']),
                '-' => text.push_str(" -"),
                '>' if text.ends_with(" -") => text.push_str("> "),
                mark => text.push(mark),
            },
            name => text.push_str(&name.to_string()),
        }
        after_lifetime = is_lifetime;
    }
}

#[cfg(test)]
mod tests {
    use syn::{Type, parse_quote};

    use super::{decoded, text, with_lifetime};

    #[test]
    fn a_type_prints_as_it_is_written() {
        for written in [
            "()",
            "&str",
            "&'static str",
            "&'static [u8]",
            "&dyn Fn(&u8)",
            "(u32,)",
            "Result<Option<Vec<u8>>, KvError>",
            "std::io::Result<(u8, [u16; 4])>",
            "Box<dyn Fn(u8) -> u8 + Send>",
            "Cow<'_, [u8]>",
            "<T as Iterator<Item = u8>>::Item",
        ] {
            assert_eq!(text(syn::parse_str::<Type>(written).unwrap()), written);
        }
    }

    #[test]
    fn a_lifetime_left_out_is_named() {
        let named = |ty: Type| text(with_lifetime(&ty, &parse_quote!('rpc)));
        assert_eq!(named(parse_quote!(&[&str])), "&'rpc [&'rpc str]");
        assert_eq!(named(parse_quote!(Cow<'_, str>)), "Cow<'rpc, str>");
        assert_eq!(named(parse_quote!(Cow<'static, str>)), "Cow<'static, str>");
        assert_eq!(named(parse_quote!(PhantomData<fn(&u8)>)), "PhantomData<fn(&u8)>");
    }

    #[test]
    fn text_and_bytes_are_views_and_the_rest_is_lent() {
        let krate = parse_quote!(::trunkline);
        let decoded = |ty: Type| {
            let (ty, lent) = decoded(&ty, &krate);
            (text(ty), lent)
        };
        assert_eq!(decoded(parse_quote!(&str)), ("&str".to_owned(), false));
        assert_eq!(decoded(parse_quote!(&[u8])), ("&[u8]".to_owned(), false));
        assert_eq!(decoded(parse_quote!(u32)), ("u32".to_owned(), false));
        assert_eq!(decoded(parse_quote!(&Config)), ("Config".to_owned(), true));
        assert_eq!(decoded(parse_quote!(&&str)), ("&str".to_owned(), true));
        assert_eq!(decoded(parse_quote!(&[&str])), ("::trunkline::__private::Vec<&str>".to_owned(), true));
    }
}
