//! The options of `#[service(..)]` and `#[rpc(..)]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Ident, Lit, LitStr, Path, Token};

use crate::errors::Errors;
use crate::types;

/// The options of `#[service(..)]`.
#[derive(Default)]
pub(crate) struct ServiceOptions {
    /// The service's name on the wire.
    pub(crate) name: Option<LitStr>,
    /// Where the `trunkline` crate is found.
    pub(crate) krate: Option<Path>,
    /// Whether there is to be a mock.
    pub(crate) mock: Option<Ident>,
}

/// The options of `#[rpc(..)]` on a method. What is set remembers the word that set it, for errors about it.
#[derive(Default)]
pub(crate) struct MethodOptions {
    pub(crate) oneway: Option<Ident>,
    pub(crate) idempotent: Option<Ident>,
    pub(crate) blocking: Option<Ident>,
    pub(crate) spawn: Option<Ident>,
    pub(crate) no_cancel: Option<Ident>,
    pub(crate) timeout_nanos: Option<u64>,
    pub(crate) name: Option<LitStr>,
    pub(crate) slow: Option<(Ident, Slow)>,
}

/// What a slow reader of the returned stream means.
#[derive(Clone, Copy, Default)]
pub(crate) enum Slow {
    #[default]
    Block,
    DropOldest,
    Latest,
}

/// The options of `#[rpc(..)]` on an argument.
#[derive(Default)]
pub(crate) struct ArgumentOptions {
    pub(crate) default: Option<Ident>,
    pub(crate) context: Option<Ident>,
}

impl ServiceOptions {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> ServiceOptions {
        let mut options = ServiceOptions::default();
        for setting in settings(|tokens| Settings::parse_terminated.parse2(tokens), tokens, errors) {
            match setting.key.to_string().as_str() {
                "name" => options.name = setting.name(errors),
                "crate" => options.krate = setting.path(errors),
                "mock" => options.mock = setting.word(errors),
                _ => setting.unknown("a service takes `name = \"..\"`, `crate = path` and `mock`", errors),
            }
        }
        options
    }
}

impl MethodOptions {
    pub(crate) fn parse(attrs: &[Attribute], errors: &mut Errors) -> MethodOptions {
        let mut options = MethodOptions::default();
        for setting in rpc_settings(attrs, errors) {
            match setting.key.to_string().as_str() {
                "oneway" => options.oneway = setting.word(errors),
                "idempotent" => options.idempotent = setting.word(errors),
                "blocking" => options.blocking = setting.word(errors),
                "spawn" => options.spawn = setting.word(errors),
                "no_cancel" => options.no_cancel = setting.word(errors),
                "timeout" => options.timeout_nanos = setting.duration(errors),
                "name" => options.name = setting.name(errors),
                "slow" => options.slow = setting.slow(errors),
                word @ ("default" | "context") => errors.at(
                    &setting.key,
                    format_args!(
                        "`{word}` is an option of an argument: write `#[rpc({word})]` in front of the argument's name"
                    ),
                ),
                _ => setting.unknown(
                    "a method takes `oneway`, `idempotent`, `blocking`, `spawn`, `no_cancel`, `timeout = \"5s\"`, \
                     `name = \"..\"` and `slow = \"..\"`",
                    errors,
                ),
            }
        }
        options.exclude(errors);
        options
    }

    pub(crate) fn slow(&self) -> Slow {
        self.slow.as_ref().map(|(_, slow)| *slow).unwrap_or_default()
    }

    fn exclude(&self, errors: &mut Errors) {
        if let (Some(_), Some(spawn)) = (&self.blocking, &self.spawn) {
            errors.at(
                spawn,
                "`spawn` and `blocking` exclude each other: keep `blocking` for a handler that blocks its thread, \
                 `spawn` for one that computes between awaits",
            );
        }
    }
}

impl Slow {
    // Output: Slow::Latest
    pub(crate) fn tokens(self, krate: &Path) -> TokenStream {
        let variant = match self {
            Slow::Block => quote!(Block),
            Slow::DropOldest => quote!(DropOldest),
            Slow::Latest => quote!(Latest),
        };
        quote!(#krate::__private::Slow::#variant)
    }
}

impl ToTokens for MethodOptions {
    // Output: .idempotent().timeout_nanos(5000000000)
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let words = [&self.oneway, &self.idempotent, &self.blocking, &self.spawn, &self.no_cancel];
        for word in words.into_iter().flatten() {
            let word = Ident::new(&word.to_string(), proc_macro2::Span::call_site());
            tokens.extend(quote!(.#word()));
        }
        if let Some(nanos) = self.timeout_nanos {
            let nanos = proc_macro2::Literal::u64_unsuffixed(nanos);
            tokens.extend(quote!(.timeout_nanos(#nanos)));
        }
    }
}

impl ArgumentOptions {
    pub(crate) fn parse(attrs: &[Attribute], errors: &mut Errors) -> ArgumentOptions {
        let mut options = ArgumentOptions::default();
        for setting in rpc_settings(attrs, errors) {
            match setting.key.to_string().as_str() {
                "default" => options.default = setting.word(errors),
                "context" => options.context = setting.word(errors),
                _ => setting.unknown("an argument takes `default` and `context`", errors),
            }
        }
        if let (Some(default), Some(_)) = (&options.default, &options.context) {
            errors.at(
                default,
                "`default` and `context` exclude each other: the context comes from the server, nobody can leave it \
                 out",
            );
        }
        options
    }
}

/// One option: `key` or `key = value`.
struct Setting {
    key: Ident,
    value: Option<Expr>,
}

type Settings = Punctuated<Setting, Token![,]>;

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let key = input.call(Ident::parse_any)?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Setting { key, value })
    }
}

impl Setting {
    fn unknown(&self, known: &str, errors: &mut Errors) {
        errors.at(&self.key, format_args!("unknown option `{}`: {known}", self.key));
    }

    fn word(self, errors: &mut Errors) -> Option<Ident> {
        if let Some(value) = self.value {
            errors.at(value, format_args!("`{0}` takes no value: write `{0}`", self.key));
        }
        Some(self.key)
    }

    fn text(&self, example: &str, errors: &mut Errors) -> Option<LitStr> {
        if let Some(Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) = self.value.as_ref().map(types::ungrouped) {
            return Some(text.clone());
        }
        let message = format!("`{0}` takes a string literal: write `{0} = \"{example}\"`", self.key);
        match &self.value {
            Some(value) => errors.at(value, message),
            None => errors.at(&self.key, message),
        }
        None
    }

    fn name(self, errors: &mut Errors) -> Option<LitStr> {
        let name = self.text("..", errors)?;
        if name.value().is_empty() {
            errors.at(&name, "a name on the wire has at least one character");
            return None;
        }
        Some(name)
    }

    fn slow(self, errors: &mut Errors) -> Option<(Ident, Slow)> {
        let text = self.text("latest", errors)?;
        let slow = match text.value().as_str() {
            "block" => Slow::Block,
            "drop_oldest" => Slow::DropOldest,
            "latest" => Slow::Latest,
            _ => {
                errors.at(
                    &text,
                    "a reader that is slower than its stream makes it wait (\"block\", the default), misses what is oldest \
                     (\"drop_oldest\"), or sees only what is newest (\"latest\")",
                );
                return None;
            }
        };
        Some((self.key, slow))
    }

    fn duration(self, errors: &mut Errors) -> Option<u64> {
        let text = self.text("5s", errors)?;
        let nanos = nanos(&text.value());
        if nanos.is_none() {
            errors.at(
                &text,
                "a timeout is a whole number above 0 and its unit: \"250us\", \"50ms\", \"5s\", \"2m\" or \"1h\"",
            );
        }
        nanos
    }

    fn path(self, errors: &mut Errors) -> Option<Path> {
        match self.value.as_ref().map(types::ungrouped) {
            Some(Expr::Path(path)) if path.qself.is_none() => return Some(path.path.clone()),
            Some(value) => errors.at(value, "`crate` takes a path: write `crate = ::other::trunkline`"),
            None => errors.at(&self.key, "`crate` takes a path: write `crate = ::other::trunkline`"),
        }
        None
    }
}

fn rpc_settings(attrs: &[Attribute], errors: &mut Errors) -> Vec<Setting> {
    let mut all = Vec::new();
    for attr in attrs {
        all.extend(settings(|attr| attr.parse_args_with(Settings::parse_terminated), attr, errors));
    }
    without_repetition(all, errors)
}

fn settings<T>(parse: impl FnOnce(T) -> syn::Result<Settings>, from: T, errors: &mut Errors) -> Vec<Setting> {
    match parse(from) {
        Ok(settings) => without_repetition(settings, errors),
        Err(error) => {
            errors.push(error);
            Vec::new()
        }
    }
}

fn without_repetition(settings: impl IntoIterator<Item = Setting>, errors: &mut Errors) -> Vec<Setting> {
    let mut once: Vec<Setting> = Vec::new();
    for setting in settings {
        if once.iter().any(|other| other.key == setting.key) {
            errors.at(&setting.key, format_args!("`{}` is given twice: keep one", setting.key));
        } else {
            once.push(setting);
        }
    }
    once
}

fn nanos(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|nanos| *nanos > 0)
}

#[cfg(test)]
mod tests {
    use super::nanos;

    #[test]
    fn a_timeout_is_a_whole_number_and_a_unit() {
        assert_eq!(nanos("250us"), Some(250_000));
        assert_eq!(nanos("50ms"), Some(50_000_000));
        assert_eq!(nanos("5s"), Some(5_000_000_000));
        assert_eq!(nanos("2m"), Some(120_000_000_000));
        assert_eq!(nanos("1h"), Some(3_600_000_000_000));
        for wrong in ["", "5", "s", "0s", "1.5s", "-1s", "5 s", "5d", "99999999999999999999s", "9999999999999h"] {
            assert_eq!(nanos(wrong), None, "{wrong}");
        }
    }
}
