pub trait Kv: ::core::marker::Send + ::core::marker::Sync + 'static {
    fn get(
        &self,
        key: &str,
    ) -> impl ::core::future::Future<Output = Option<String>> + ::core::marker::Send;
    fn watch(
        &self,
        prefix: &str,
    ) -> impl ::core::future::Future<
        Output = Result<impl Stream<Item = Change> + ::core::marker::Send, KvError>,
    > + ::core::marker::Send;
    #[doc(hidden)]
    fn __answers(&self, _method: ::core::primitive::u64) -> ::core::primitive::bool {
        true
    }
}
/// The client of [`Kv`].
///
#[allow(dead_code, deprecated)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct KvClient {
    client: ::trunkline::__private::Client,
}
/**The server of [`Kv`]: it answers calls with an implementation of the trait.
*/
///
#[allow(dead_code, deprecated)]
pub struct KvServer<T> {
    service: ::trunkline::__private::Arc<T>,
}
/// A [`Kv`] for tests, each method of which answers what a closure says. Calls of others are refused.
#[allow(dead_code, deprecated, clippy::type_complexity)]
pub struct MockKv {
    get: ::core::option::Option<
        ::trunkline::__private::Box<
            dyn ::core::ops::Fn(
                &str,
            ) -> ::trunkline::__private::Mocked<
                    Option<String>,
                > + ::core::marker::Send + ::core::marker::Sync,
        >,
    >,
    watch: ::core::option::Option<
        ::trunkline::__private::Box<
            dyn ::core::ops::Fn(
                &str,
            ) -> ::trunkline::__private::Mocked<
                    Result<::trunkline::__private::Items<Change>, KvError>,
                > + ::core::marker::Send + ::core::marker::Sync,
        >,
    >,
}
#[allow(deprecated, non_upper_case_globals)]
const _: () = {
    static __method_get: ::trunkline::__private::MethodDescriptor = ::trunkline::__private::MethodDescriptor::new(
        "Kv",
        "get",
        "",
        &[::trunkline::__private::ArgumentDescriptor::new("key", "&str", false)],
        "Option<String>",
        ::trunkline::__private::MethodOptions::NONE,
    );
    const __id_get: ::core::primitive::u64 = __method_get.id.0;
    const _: fn() = || {
        ::trunkline::__private::assert_serialize::<
            ::trunkline::__private::Plain,
            &str,
        >();
    };
    static __method_watch: ::trunkline::__private::MethodDescriptor = ::trunkline::__private::MethodDescriptor::new(
        "Kv",
        "watch",
        "",
        &[::trunkline::__private::ArgumentDescriptor::new("prefix", "&str", false)],
        "Result<impl Stream<Item = Change>, KvError>",
        ::trunkline::__private::MethodOptions::NONE,
    );
    const __id_watch: ::core::primitive::u64 = __method_watch.id.0;
    const _: fn() = || {
        ::trunkline::__private::assert_serialize::<
            ::trunkline::__private::Plain,
            &str,
        >();
    };
    static __SERVICE: ::trunkline::__private::ServiceDescriptor = ::trunkline::__private::ServiceDescriptor::new(
        "Kv",
        "",
        &[&__method_get, &__method_watch],
    );
    const _: () = ::trunkline::__private::assert_distinct(__SERVICE.methods);
    #[automatically_derived]
    impl<__T: Kv> Kv for ::trunkline::__private::Arc<__T> {
        fn get(
            &self,
            key: &str,
        ) -> impl ::core::future::Future<
            Output = Option<String>,
        > + ::core::marker::Send {
            <__T as Kv>::get(&**self, key)
        }
        fn watch(
            &self,
            prefix: &str,
        ) -> impl ::core::future::Future<
            Output = Result<impl Stream<Item = Change> + ::core::marker::Send, KvError>,
        > + ::core::marker::Send {
            <__T as Kv>::watch(&**self, prefix)
        }
        fn __answers(&self, method: ::core::primitive::u64) -> ::core::primitive::bool {
            <__T as Kv>::__answers(&**self, method)
        }
    }
    impl ::trunkline::ServiceClient for KvClient {
        const SERVICE: &'static ::trunkline::__private::ServiceDescriptor = &__SERVICE;
        fn from_client(client: ::trunkline::__private::Client) -> Self {
            Self { client }
        }
    }
    #[allow(dead_code, clippy::too_many_arguments, clippy::type_complexity)]
    impl KvClient {
        /// Connects to the server at `endpoint`, a URI such as `unix:/run/service.sock`.
        ///
        /// # Errors
        ///
        /// If `endpoint` is no such URI, nobody answers there, or the two sides cannot agree.
        pub async fn connect(
            endpoint: impl ::core::convert::AsRef<::core::primitive::str>,
        ) -> ::core::result::Result<Self, ::trunkline::ConnectError> {
            ::trunkline::__private::connect(endpoint.as_ref())
                .await
                .map(|client| Self { client })
        }
        /// Connects to the server at `endpoint` from a thread outside any async runtime.
        ///
        /// # Errors
        ///
        /// If `endpoint` is no such URI, nobody answers there, or the two sides cannot agree.
        pub fn connect_blocking(
            endpoint: impl ::core::convert::AsRef<::core::primitive::str>,
        ) -> ::core::result::Result<Self, ::trunkline::ConnectError> {
            ::trunkline::__private::connect_blocking(endpoint.as_ref())
                .map(|client| Self { client })
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
        pub async fn spawn(
            command: impl ::core::convert::Into<::trunkline::__private::Spawn>,
        ) -> ::core::result::Result<Self, ::trunkline::ConnectError> {
            ::trunkline::__private::spawn(command.into())
                .await
                .map(|client| Self { client })
        }
        /// Speaks to a server over bytes that are connected to it already.
        ///
        /// # Errors
        ///
        /// If the two sides cannot agree.
        pub async fn over<S>(
            stream: S,
        ) -> ::core::result::Result<Self, ::trunkline::ConnectError>
        where
            S: ::trunkline::__private::AsyncRead + ::trunkline::__private::AsyncWrite
                + ::core::marker::Send + 'static,
        {
            ::trunkline::__private::over(stream).await.map(|client| Self { client })
        }
        /// Speaks to a server over a transport that is connected to it already.
        ///
        /// # Errors
        ///
        /// If the two sides cannot agree.
        pub async fn over_transport<T: ::trunkline::transport::Transport>(
            transport: T,
        ) -> ::core::result::Result<Self, ::trunkline::ConnectError> {
            ::trunkline::__private::over_transport(transport)
                .await
                .map(|client| Self { client })
        }
        /// Speaks to `server` inside this process, without an endpoint: with the same deadlines, cancellation, streams and
        /// errors as over a wire. The last clone of the client ends it.
        ///
        /// # Panics
        ///
        /// If there is neither a tokio runtime here nor a thread to be had for one.
        #[track_caller]
        pub fn local<__T: Kv>(server: KvServer<__T>) -> Self {
            Self {
                client: ::trunkline::__private::local(server),
            }
        }
        /// The connection that carries this client's calls.
        pub fn connection(&self) -> ::trunkline::Connection {
            ::trunkline::__private::connection(&self.client)
        }
        /// Calls `Kv.get`.
        pub fn get<'rpc>(
            &'rpc self,
            key: &'rpc str,
        ) -> ::trunkline::Call<
            'rpc,
            (::trunkline::__private::Arg<&'rpc str>,),
            ::trunkline::__private::Value<Option<String>>,
        > {
            self.client.call(&__method_get, (::trunkline::__private::Arg::new(key),))
        }
        /// Calls `Kv.watch`.
        pub fn watch<'rpc>(
            &'rpc self,
            prefix: &'rpc str,
        ) -> ::trunkline::Call<
            'rpc,
            (::trunkline::__private::Arg<&'rpc str>,),
            ::trunkline::__private::FallibleStreamed<
                Result<::trunkline::Streaming<Change>, KvError>,
                Change,
            >,
        > {
            self.client
                .call(&__method_watch, (::trunkline::__private::Arg::new(prefix),))
        }
    }
    #[allow(dead_code)]
    impl<T> KvServer<T> {
        /// Serves `service`.
        pub fn new(service: T) -> Self {
            Self {
                service: ::trunkline::__private::Arc::new(service),
            }
        }
    }
    #[automatically_derived]
    impl<T> ::core::clone::Clone for KvServer<T> {
        fn clone(&self) -> Self {
            Self {
                service: ::core::clone::Clone::clone(&self.service),
            }
        }
    }
    #[automatically_derived]
    impl<T> ::core::fmt::Debug for KvServer<T> {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            f.debug_struct("KvServer").finish_non_exhaustive()
        }
    }
    impl<__T: Kv> ::trunkline::Service for KvServer<__T> {
        fn descriptor(&self) -> &'static ::trunkline::__private::ServiceDescriptor {
            &__SERVICE
        }
        #[allow(unused_mut, unused_variables)]
        async fn call(
            &self,
            request: &::trunkline::__private::Request,
        ) -> ::core::result::Result<
            ::trunkline::__private::Answer,
            ::trunkline::__private::Refusal,
        > {
            if !<__T as Kv>::__answers(&*self.service, request.method().id.0) {
                return ::core::result::Result::Err(request.unknown_method());
            }
            let mut args = request.arguments();
            match request.method().id.0 {
                __id_get => {
                    let returned = <__T as Kv>::get(
                            &*self.service,
                            args.last::<::trunkline::__private::Plain, &str>()?,
                        )
                        .await;
                    request
                        .answer::<
                            ::trunkline::__private::Value<Option<String>>,
                        >(returned)
                        .await
                }
                __id_watch => {
                    args.streams(0u8, 1u8)?;
                    match <__T as Kv>::watch(
                            &*self.service,
                            args.last::<::trunkline::__private::Plain, &str>()?,
                        )
                        .await
                    {
                        returned => {
                            request
                                .try_stream::<
                                    ::trunkline::__private::FallibleStreamed<
                                        Result<::trunkline::Streaming<Change>, KvError>,
                                        Change,
                                    >,
                                    _,
                                >(::trunkline::__private::Slow::Block, returned)
                                .await
                        }
                    }
                }
                _ => ::core::result::Result::Err(request.unknown_method()),
            }
        }
    }
    #[automatically_derived]
    impl ::core::default::Default for MockKv {
        fn default() -> Self {
            Self {
                get: ::core::option::Option::None,
                watch: ::core::option::Option::None,
            }
        }
    }
    #[automatically_derived]
    impl ::core::fmt::Debug for MockKv {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            f.debug_struct("MockKv").finish_non_exhaustive()
        }
    }
    #[allow(dead_code)]
    impl MockKv {
        /// A mock that answers nothing yet.
        pub fn new() -> Self {
            ::core::default::Default::default()
        }
        /// Has `get` answer what `answer` returns, which is called with its arguments.
        pub fn get(
            mut self,
            answer: impl ::core::ops::Fn(
                &str,
            ) -> Option<String> + ::core::marker::Send + ::core::marker::Sync + 'static,
        ) -> Self {
            let __answer = answer;
            self.get = ::core::option::Option::Some(
                ::trunkline::__private::Box::new(move |key: &str| ::trunkline::__private::mocked(
                    __answer(key),
                )),
            );
            self
        }
        /// As [`get`](Self::get), with a closure that returns a future, which borrows nothing.
        pub fn get_async<__F>(
            mut self,
            answer: impl ::core::ops::Fn(
                &str,
            ) -> __F + ::core::marker::Send + ::core::marker::Sync + 'static,
        ) -> Self
        where
            __F: ::core::future::Future<Output = Option<String>> + ::core::marker::Send
                + 'static,
        {
            let __answer = answer;
            self.get = ::core::option::Option::Some(
                ::trunkline::__private::Box::new(move |key: &str| {
                    let answer = __answer(key);
                    ::trunkline::__private::Box::pin(async move { answer.await })
                }),
            );
            self
        }
        /// Has `watch` answer what `answer` returns, which is called with its arguments.
        pub fn watch<__S>(
            mut self,
            answer: impl ::core::ops::Fn(
                &str,
            ) -> Result<
                    __S,
                    KvError,
                > + ::core::marker::Send + ::core::marker::Sync + 'static,
        ) -> Self
        where
            __S: ::trunkline::Stream<Item = Change> + ::core::marker::Send + 'static,
        {
            let __answer = answer;
            self.watch = ::core::option::Option::Some(
                ::trunkline::__private::Box::new(move |prefix: &str| ::trunkline::__private::mocked(
                    __answer(prefix).map(::trunkline::__private::items),
                )),
            );
            self
        }
        /// As [`watch`](Self::watch), with a closure that returns a future, which borrows nothing.
        pub fn watch_async<__S, __F>(
            mut self,
            answer: impl ::core::ops::Fn(
                &str,
            ) -> __F + ::core::marker::Send + ::core::marker::Sync + 'static,
        ) -> Self
        where
            __S: ::trunkline::Stream<Item = Change> + ::core::marker::Send + 'static,
            __F: ::core::future::Future<Output = Result<__S, KvError>>
                + ::core::marker::Send + 'static,
        {
            let __answer = answer;
            self.watch = ::core::option::Option::Some(
                ::trunkline::__private::Box::new(move |prefix: &str| {
                    let answer = __answer(prefix);
                    ::trunkline::__private::Box::pin(async move {
                        answer.await.map(::trunkline::__private::items)
                    })
                }),
            );
            self
        }
    }
    #[automatically_derived]
    impl Kv for MockKv {
        fn get(
            &self,
            key: &str,
        ) -> impl ::core::future::Future<
            Output = Option<String>,
        > + ::core::marker::Send {
            match &self.get {
                ::core::option::Option::Some(__answer) => __answer(key),
                ::core::option::Option::None => {
                    ::trunkline::__private::unmocked("MockKv", "get")
                }
            }
        }
        fn watch(
            &self,
            prefix: &str,
        ) -> impl ::core::future::Future<
            Output = Result<impl Stream<Item = Change> + ::core::marker::Send, KvError>,
        > + ::core::marker::Send {
            match &self.watch {
                ::core::option::Option::Some(__answer) => __answer(prefix),
                ::core::option::Option::None => {
                    ::trunkline::__private::unmocked("MockKv", "watch")
                }
            }
        }
        fn __answers(&self, method: ::core::primitive::u64) -> ::core::primitive::bool {
            match method {
                __id_get => self.get.is_some(),
                __id_watch => self.watch.is_some(),
                _ => false,
            }
        }
    }
};
