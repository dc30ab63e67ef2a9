//! The form in which a type travels, by its tokens: bytes go as one block. A form never changes what is on the wire.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Path, Type, TypeReference};

use crate::types;

/// A form of `trunkline::__private`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// What serde makes of it.
    Plain,
    /// Bytes, as one block.
    Block,
    /// An `Option` of something that has a form of its own.
    Maybe(Box<Form>),
}

impl Form {
    /// The form in which a client sends an argument.
    pub(crate) fn sent(ty: &Type) -> Form {
        match (types::bare(ty), Form::of(ty)) {
            // The runtime takes an `Option` apart only where it is not behind a reference.
            (Type::Reference(_), Form::Maybe(_)) => Form::Plain,
            (_, form) => form,
        }
    }

    /// The form in which a server receives an argument.
    pub(crate) fn received(ty: &Type) -> Form {
        Form::of(ty)
    }

    /// The form in which a value is returned.
    pub(crate) fn returned(ty: &Type) -> Form {
        Form::of(ty)
    }

    /// The form of the value in something that is called `Result`.
    pub(crate) fn returned_in_result(ty: &Type) -> Form {
        types::last_segment(ty).and_then(types::first_argument).map_or(Form::Plain, Form::of)
    }

    /// The form as a type.
    pub(crate) fn ty(&self, krate: &Path) -> TokenStream {
        match self {
            Form::Plain => quote!(#krate::__private::Plain),
            Form::Block => quote!(#krate::__private::Block),
            Form::Maybe(form) => {
                let form = form.ty(krate);
                quote!(#krate::__private::Maybe<#form>)
            }
        }
    }

    /// The form as a last generic argument, which is left out where it is the default.
    pub(crate) fn if_not_plain(&self, krate: &Path) -> Option<TokenStream> {
        (*self != Form::Plain).then(|| self.ty(krate)).map(|form| quote!(, #form))
    }

    fn of(ty: &Type) -> Form {
        if let Type::Reference(TypeReference { elem, .. }) = types::bare(ty) {
            return match types::bare(elem) {
                Type::Slice(slice) if types::is_named(&slice.elem, "u8") => Form::Block,
                elem => Form::of(elem),
            };
        }
        if types::is_named(ty, "Bytes") {
            return Form::Block;
        }
        let Some(segment) = types::last_segment(ty) else { return Form::Plain };
        match types::first_argument(segment) {
            Some(item) if segment.ident == "Vec" && types::is_named(item, "u8") => Form::Block,
            Some(item) if segment.ident == "Option" => match Form::of(item) {
                Form::Plain => Form::Plain,
                form => Form::Maybe(Box::new(form)),
            },
            _ => Form::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::Form::{self, Block, Maybe, Plain};

    #[test]
    fn bytes_travel_as_one_block() {
        assert_eq!(Form::sent(&parse_quote!(&[u8])), Block);
        assert_eq!(Form::sent(&parse_quote!(&Vec<u8>)), Block);
        assert_eq!(Form::sent(&parse_quote!(bytes::Bytes)), Block);
        assert_eq!(Form::received(&parse_quote!(std::vec::Vec<u8>)), Block);
        assert_eq!(Form::returned(&parse_quote!(Option<Option<Bytes>>)), Maybe(Box::new(Maybe(Box::new(Block)))));
        assert_eq!(Form::returned_in_result(&parse_quote!(io::Result<Option<Vec<u8>>>)), Maybe(Box::new(Block)));
    }

    #[test]
    fn everything_else_is_plain() {
        assert_eq!(Form::sent(&parse_quote!(&str)), Plain);
        assert_eq!(Form::sent(&parse_quote!([u8; 4])), Plain);
        assert_eq!(Form::received(&parse_quote!(Vec<Vec<u8>>)), Plain);
        assert_eq!(Form::returned(&parse_quote!(Option<u8>)), Plain);
        assert_eq!(Form::returned_in_result(&parse_quote!(Result)), Plain);
    }

    #[test]
    fn an_option_behind_a_reference_is_received_in_its_form_and_sent_without() {
        assert_eq!(Form::sent(&parse_quote!(&Option<Vec<u8>>)), Plain);
        assert_eq!(Form::received(&parse_quote!(&Option<Vec<u8>>)), Maybe(Box::new(Block)));
    }
}
