//! From tokens to the model. Everything a user may write wrongly is found here, and reported at the place.

use std::collections::HashMap;

use proc_macro2::TokenStream;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Block, FnArg, Ident, Item, ItemTrait, LitStr, Pat, PatIdent, PatType, Path, Receiver, ReceiverKind, ReturnType,
    Safety, Signature, TraitItem, TraitItemFn, Type, TypeParamBound, parse_quote,
};

use crate::attributes;
use crate::errors::Errors;
use crate::model::{Argument, Method, Parameter, Reply, Service, Soundness, StreamArgument, StreamReply};
use crate::options::{ArgumentOptions, MethodOptions, ServiceOptions};
use crate::types;

/// Parses a service. `Err` gives back what is no trait, to be passed on as it is.
pub(crate) fn service(options: TokenStream, item: TokenStream, errors: &mut Errors) -> Result<Service, TokenStream> {
    let options = ServiceOptions::parse(options, errors);
    let item = match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Trait(item)) => item,
        Ok(other) => {
            not_a_trait(&other, errors);
            return Err(item);
        }
        Err(error) => {
            errors.push(error);
            return Err(TokenStream::new());
        }
    };
    Ok(trait_(options, item, errors))
}

fn not_a_trait(item: &Item, errors: &mut Errors) {
    let message = match item {
        Item::Impl(_) => {
            "`#[trunkline::service]` goes on the trait: the implementation is plain Rust, without an attribute"
        }
        _ => "`#[trunkline::service]` goes on a trait: write `#[trunkline::service] pub trait Kv { .. }`",
    };
    errors.at(item, message);
}

fn trait_(options: ServiceOptions, mut item: ItemTrait, errors: &mut Errors) -> Service {
    let before = errors.count();
    check_trait(&mut item, errors);
    let trait_is_sound = errors.count() == before;

    let krate = options.krate.unwrap_or_else(|| parse_quote!(::trunkline));
    let mut methods = Vec::new();
    for item in &mut item.items {
        match item {
            TraitItem::Fn(function) => methods.extend(method(function, &krate, errors)),
            other => not_a_method(other, errors),
        }
    }
    check_wire_names(&methods, errors);
    if options.mock.is_some() {
        check_mock_names(&methods, errors);
    }

    Service {
        krate,
        mock: options.mock.is_some(),
        wire_name: options.name.map_or_else(|| item.ident.unraw().to_string(), |name| name.value()),
        item,
        methods,
        soundness: match (trait_is_sound, errors.count()) {
            (false, _) => Soundness::Nothing,
            (true, 0) => Soundness::Whole,
            (true, _) => Soundness::SomeMethods,
        },
    }
}

fn check_trait(item: &mut ItemTrait, errors: &mut Errors) {
    for attr in attributes::take_rpc(&mut item.attrs) {
        errors.at(attr, "`#[rpc(..)]` goes on a method: a service's own options stand in `#[trunkline::service(..)]`");
    }
    for attr in &item.attrs {
        if attr.path().segments.last().is_some_and(|last| last.ident == "async_trait") {
            errors.at(attr, "a service needs no `async_trait`: remove it, here and on the implementations");
        }
    }
    if let Some(word) = &item.unsafety {
        errors.at(word, "a service is safe to implement: remove `unsafe`");
    }
    if let Some(word) = &item.modifiers.auto_token {
        errors.at(word, "a service has methods: remove `auto`");
    }
    if !item.generics.params.is_empty() {
        errors.at(
            &item.generics,
            "a service has one shape on the wire, the same for every peer, so its trait has no generics: write \
             concrete types, or make one trait for each type with a `macro_rules!`",
        );
    }
    if let Some(clause) = &item.generics.where_clause {
        errors.at(
            clause,
            "a service has one shape on the wire, so its trait has no conditions: remove the `where` clause",
        );
    }
    for bound in item.supertraits.iter().filter(|bound| !is_implied(bound)) {
        errors.at(
            bound,
            "a service has no supertraits: a peer cannot call their methods, and `Send + Sync + 'static` are added \
             anyway; write the bound at the implementation that needs it",
        );
    }
}

/// Whether the macro adds the bound by itself.
fn is_implied(bound: &TypeParamBound) -> bool {
    match bound {
        TypeParamBound::Trait(bound) => {
            bound.path.segments.last().is_some_and(|last| last.ident == "Send" || last.ident == "Sync")
        }
        TypeParamBound::Lifetime(lifetime) => lifetime.ident == "static",
        _ => false,
    }
}

fn not_a_method(item: &TraitItem, errors: &mut Errors) {
    let message = match item {
        TraitItem::Const(_) => "a constant does not travel: put it outside of the trait, or return it from a method",
        TraitItem::Type(_) => {
            "an associated type would be another one on each side: write a concrete type in the methods"
        }
        TraitItem::Macro(_) => {
            "a macro in a service cannot be looked into: write the methods out, or let a `macro_rules!` make the \
             whole trait"
        }
        _ => "a service has methods only: write `async fn name(&self, ..) -> ..;`",
    };
    errors.at(item, message);
}

/// Parses a method and takes our attributes out of it. `None` if anything is wrong with it.
fn method(function: &mut TraitItemFn, krate: &Path, errors: &mut Errors) -> Option<Method> {
    let before = errors.count();
    let options = MethodOptions::parse(&attributes::take_rpc(&mut function.attrs), errors);
    check_signature(&function.sig, errors);
    let parameters = parameters(&mut function.sig, function.default.as_ref(), errors);
    let reply = reply(&function.sig.output, &options, krate, errors);
    if let Some(oneway) = &options.oneway {
        let stream = parameters.iter().find(|parameter| matches!(parameter, Parameter::Stream(_)));
        if stream.is_some() {
            errors.at(oneway, "a call with a stream lasts as long as that, and is waited for: remove `oneway`");
        }
    }
    if let (Some((word, _)), Reply::Oneway(_) | Reply::Value(_) | Reply::Fallible(_)) = (&options.slow, &reply) {
        errors.at(
            word,
            "`slow` says what a slow reader of the returned stream means, and this method returns none: remove it, or return \
             `impl Stream<Item = ..>`",
        );
    }
    check_client_name(&function.sig.ident, errors);
    let wire_name = wire_name(&options, &function.sig.ident, errors);
    (errors.count() == before).then(|| Method {
        attrs: function.attrs.clone(),
        ident: function.sig.ident.clone(),
        wire_name,
        options,
        parameters,
        reply,
    })
}

fn check_signature(signature: &Signature, errors: &mut Errors) {
    if signature.asyncness.is_none() {
        errors.at(
            signature.fn_token,
            format_args!("a call waits for another process: write `async fn {}`", signature.ident),
        );
    }
    if let Some(word) = &signature.constness {
        errors.at(word, "a call runs in another process, not at compile time: remove `const`");
    }
    if let Safety::Unsafe(word) = &signature.safety {
        errors.at(word, "the caller is another process and can promise nothing: remove `unsafe`");
    }
    if let Some(abi) = &signature.abi {
        errors.at(abi, "the framework calls the method, no foreign code does: remove the ABI");
    }
    if let Some(dots) = &signature.variadic {
        errors.at(dots, "a method has a fixed number of arguments: take a slice or a `Vec`");
    }
    if !signature.generics.params.is_empty() {
        let only_lifetimes =
            signature.generics.type_params().next().is_none() && signature.generics.const_params().next().is_none();
        errors.at(
            &signature.generics,
            if only_lifetimes {
                "arguments live as long as the call: leave the lifetimes out, as in `key: &str`"
            } else {
                "the other process decodes one type and cannot know which a caller chose: write concrete types instead \
                 of generics, such as an enum"
            },
        );
    }
    if let Some(clause) = &signature.generics.where_clause {
        errors.at(clause, "a method on the wire exists without conditions: remove the `where` clause");
    }
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) => check_receiver(receiver, errors),
        _ => errors.at(
            &signature.ident,
            format_args!("a method is called on a server: write `async fn {}(&self, ..)`", signature.ident),
        ),
    }
}

fn check_receiver(receiver: &Receiver, errors: &mut Errors) {
    match &receiver.kind {
        ReceiverKind::Value => {
            errors.at(receiver, "the server outlives each call, so a method cannot consume it: write `&self`");
        }
        ReceiverKind::Reference(_, _, Some(_)) => errors.at(
            receiver,
            "calls run side by side, so a handler has no exclusive access: write `&self`, and keep what changes in a \
             `Mutex` or an atomic",
        ),
        ReceiverKind::Reference(_, Some(lifetime), None) => {
            errors.at(lifetime, "the server lends itself to each call: write `&self` without a lifetime");
        }
        ReceiverKind::Reference(_, None, None) => {}
        _ => errors.at(receiver, "the server lends itself to each call: write `&self`"),
    }
}

fn parameters(signature: &mut Signature, body: Option<&Block>, errors: &mut Errors) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    let mut order = Order::default();
    for input in &mut signature.inputs {
        let FnArg::Typed(input) = input else { continue };
        let options = ArgumentOptions::parse(&attributes::take_rpc(&mut input.attrs), errors);
        if let Some(cfg) = input.attrs.iter().find(|attr| attributes::is_conditional(std::slice::from_ref(attr))) {
            errors.at(
                cfg,
                "an argument that only some builds have would make their messages unreadable to the others: put the \
                 `cfg` on the method",
            );
        }
        let ident = name(input, body, errors);
        let parameter = parameter(ident, &input.ty, options, &mut order, errors);
        parameters.push(parameter);
    }
    parameters
}

/// What is known of the parameters before the current one.
#[derive(Default)]
struct Order {
    has_context: bool,
    /// The first argument that may be left out.
    default: Option<Ident>,
    arguments: usize,
}

fn parameter(ident: Ident, ty: &Type, options: ArgumentOptions, order: &mut Order, errors: &mut Errors) -> Parameter {
    if let Some(is_reference) = context(ty, &options) {
        if !is_reference {
            errors.at(ty, "the context is lent by the server: write `&Context`");
        }
        if let Some(default) = options.default.filter(|_| options.context.is_none()) {
            errors.at(default, "the context comes from the server, nobody can leave it out: remove `#[rpc(default)]`");
        }
        if std::mem::replace(&mut order.has_context, true) {
            errors.at(ty, "a call has one context: remove the second");
        }
        return Parameter::Context(ident, ty.clone());
    }

    order.arguments += 1;
    let streamed = types::streamed_argument(ty);
    if order.arguments == ARGUMENTS_MAX + 1 {
        let those = if streamed.is_some() { "those that are no streams" } else { "them" };
        errors.at(ty, format_args!("a method takes at most {ARGUMENTS_MAX} arguments: put {those} into a struct"));
    }
    if let Some(item) = streamed {
        return Parameter::Stream(Box::new(stream_argument(ident, ty, item, &options, errors)));
    }
    types::check_argument(ty, errors);
    match (&options.default, &order.default) {
        (Some(_), None) => order.default = Some(ident.clone()),
        (None, Some(default)) => errors.at(
            &ident,
            format_args!(
                "only the last arguments can be left out: put `{ident}` before `{default}`, or mark it \
                 `#[rpc(default)]` too"
            ),
        ),
        _ => {}
    }
    Parameter::Argument(Argument { ident, ty: ty.clone(), default: options.default.is_some() })
}

fn stream_argument(
    ident: Ident,
    ty: &Type,
    item: Option<&Type>,
    options: &ArgumentOptions,
    errors: &mut Errors,
) -> StreamArgument {
    match item {
        Some(item) => types::check_item(item, errors),
        None => errors.at(ty, "say what its items are: write `Streaming<Item>`"),
    }
    if let Some(default) = &options.default {
        errors.at(default, "a stream may be empty, and is never left out: remove `#[rpc(default)]`");
    }
    StreamArgument { ident, ty: ty.clone(), item: item.cloned().unwrap_or_else(|| parse_quote!(())) }
}

/// Whether a parameter is the context, and if so, whether it is a reference.
fn context(ty: &Type, options: &ArgumentOptions) -> Option<bool> {
    match types::bare(ty) {
        Type::Reference(reference) if reference.mutability.is_none() => {
            (options.context.is_some() || types::is_named(&reference.elem, "Context")).then_some(true)
        }
        _ => options.context.is_some().then_some(false),
    }
}

fn name(input: &PatType, body: Option<&Block>, errors: &mut Errors) -> Ident {
    match &*input.pat {
        Pat::Ident(PatIdent { by_ref: None, subpat: None, mutability: None, ident, .. }) => return ident.clone(),
        // A default body may change its own copy.
        Pat::Ident(PatIdent { by_ref: None, subpat: None, ident, .. }) if body.is_some() => return ident.clone(),
        Pat::Ident(PatIdent { by_ref: None, subpat: None, ident, .. }) => {
            errors.at(&input.pat, format_args!("whether it changes is the implementation's affair: write `{ident}`"));
        }
        pattern => errors.at(
            pattern,
            "an argument has a name, which callers and tools see: write a name here and take it apart in the body",
        ),
    }
    Ident::new("_argument", input.pat.span())
}

fn reply(output: &ReturnType, options: &MethodOptions, krate: &Path, errors: &mut Errors) -> Reply {
    let ty: Type = match output {
        ReturnType::Default => parse_quote!(()),
        ReturnType::Type(_, ty) => (**ty).clone(),
    };
    if options.oneway.is_some() {
        if !matches!(types::bare(&ty), Type::Tuple(tuple) if tuple.elems.is_empty()) {
            errors.at(&ty, "nobody waits for what a `oneway` method returns: remove the return type, or `oneway`");
        }
        return Reply::Oneway(ty);
    }
    if let Some(item) = types::streamed_item(&ty) {
        types::check_item(item, errors);
        return Reply::Stream(Box::new(stream_reply(&ty, item, krate)));
    }
    if let Some((value, others)) = types::in_result(&ty) {
        if let Some(item) = types::streamed_item(value) {
            types::check_item(item, errors);
            others.into_iter().for_each(|other| types::check_return(other, errors));
            return Reply::FallibleStream(Box::new(stream_reply(&ty, item, krate)));
        }
    }
    types::check_return(&ty, errors);
    match types::last_segment(&ty) {
        Some(segment) if segment.ident == "Result" => Reply::Fallible(ty),
        _ => Reply::Value(ty),
    }
}

fn stream_reply(ty: &Type, item: &Type, krate: &Path) -> StreamReply {
    StreamReply {
        written: ty.clone(),
        ty: types::with_send_streams(ty),
        received: types::with_streams_as(ty, parse_quote!(#krate::Streaming<#item>)),
        item: item.clone(),
    }
}

fn wire_name(options: &MethodOptions, ident: &Ident, errors: &mut Errors) -> LitStr {
    let Some(name) = &options.name else { return LitStr::new(&ident.unraw().to_string(), ident.span()) };
    if name.value().contains('.') {
        errors.at(name, "a dot separates the service's name from the method's: leave it out of a method's name");
    }
    name.clone()
}

fn check_client_name(ident: &Ident, errors: &mut Errors) {
    let name = ident.unraw().to_string();
    if CLIENT_NAMES.contains(&name.as_str()) {
        errors.at(
            ident,
            format_args!(
                "the generated client has a `{name}` of its own: give the method another name, and keep this one on \
                 the wire with `#[rpc(name = \"{name}\")]`"
            ),
        );
    }
}

/// For each method a mock has two of its own.
fn check_mock_names(methods: &[Method], errors: &mut Errors) {
    for method in methods {
        let later = method.mocked_later();
        if let Some(other) = methods.iter().find(|other| other.ident == later) {
            errors.at(
                &other.ident,
                format_args!(
                    "the mock has a `{later}` of its own, beside `{}`: give the method another name, and keep this one on \
                     the wire with `#[rpc(name = \"{later}\")]`",
                    method.ident
                ),
            );
        }
    }
}

fn check_wire_names(methods: &[Method], errors: &mut Errors) {
    let mut seen: HashMap<String, &Method> = HashMap::new();
    for method in methods {
        let name = method.wire_name.value();
        // Of two methods under a `cfg` only one may exist; whether both do is checked in a `const` of the expansion.
        let exists = |method: &Method| !attributes::is_conditional(&method.attrs);
        match seen.get(&name) {
            Some(other) if exists(other) && exists(method) => errors.at(
                &method.wire_name,
                format_args!(
                    "`{}` is called `{name}` on the wire already: give one of the two another name with \
                     `#[rpc(name = \"..\")]`",
                    other.ident
                ),
            ),
            _ => {
                seen.insert(name, method);
            }
        }
    }
}

/// As many as the runtime's tuples have. So no method has the 17 streams that would be too many for a call.
const ARGUMENTS_MAX: usize = 12;

/// What the client is, or will be, able to do by itself.
const CLIENT_NAMES: [&str; 10] = [
    "clone",
    "connect",
    "connect_blocking",
    "connection",
    "from_client",
    "local",
    "new",
    "over",
    "over_transport",
    "spawn",
];
