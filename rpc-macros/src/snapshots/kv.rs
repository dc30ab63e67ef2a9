/// A key-value store.
pub trait Kv: ::core::marker::Send + ::core::marker::Sync + 'static {
    /// The value stored under `key`.
    fn get(
        &self,
        key: &str,
    ) -> impl ::core::future::Future<
        Output = Result<Option<Vec<u8>>, KvError>,
    > + ::core::marker::Send;
    fn touch(
        &self,
        key: &str,
    ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send;
    #[cfg(unix)]
    fn whoami(
        &self,
        cx: &Context,
    ) -> impl ::core::future::Future<Output = String> + ::core::marker::Send;
    fn put(
        &self,
        config: &Config,
        n: u32,
    ) -> impl ::core::future::Future<Output = u32> + ::core::marker::Send {
        async move { n }
    }
}
/// The client of [`Kv`].
///
/// A key-value store.
#[allow(dead_code, deprecated)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct KvClient {
    client: ::trunkline::__private::Client,
}
/**The server of [`Kv`]: it answers calls with an implementation of the trait.
*/
///
/// A key-value store.
#[allow(dead_code, deprecated)]
pub struct KvServer<T> {
    service: ::trunkline::__private::Arc<T>,
}
#[allow(deprecated, non_upper_case_globals)]
const _: () = {
    static __method_get: ::trunkline::__private::MethodDescriptor = ::trunkline::__private::MethodDescriptor::new(
        "Kv",
        "get",
        "The value stored under `key`.",
        &[::trunkline::__private::ArgumentDescriptor::new("key", "&str", false)],
        "Result<Option<Vec<u8>>, KvError>",
        ::trunkline::__private::MethodOptions::NONE
            .idempotent()
            .timeout_nanos(5000000000),
    );
    const __id_get: ::core::primitive::u64 = __method_get.id.0;
    const _: fn() = || {
        ::trunkline::__private::assert_serialize::<
            ::trunkline::__private::Plain,
            &str,
        >();
    };
    static __method_touch: ::trunkline::__private::MethodDescriptor = ::trunkline::__private::MethodDescriptor::new(
        "Kv",
        "touch",
        "",
        &[::trunkline::__private::ArgumentDescriptor::new("key", "&str", false)],
        "()",
        ::trunkline::__private::MethodOptions::NONE.oneway(),
    );
    const __id_touch: ::core::primitive::u64 = __method_touch.id.0;
    const _: fn() = || {
        ::trunkline::__private::assert_serialize::<
            ::trunkline::__private::Plain,
            &str,
        >();
    };
    #[cfg(unix)]
    static __method_whoami: ::trunkline::__private::MethodDescriptor = ::trunkline::__private::MethodDescriptor::new(
        "Kv",
        "whoami",
        "",
        &[],
        "String",
        ::trunkline::__private::MethodOptions::NONE,
    );
    #[cfg(unix)]
    const __id_whoami: ::core::primitive::u64 = __method_whoami.id.0;
    static __method_put: ::trunkline::__private::MethodDescriptor = ::trunkline::__private::MethodDescriptor::new(
        "Kv",
        "put",
        "",
        &[
            ::trunkline::__private::ArgumentDescriptor::new("config", "&Config", false),
            ::trunkline::__private::ArgumentDescriptor::new("n", "u32", true),
        ],
        "u32",
        ::trunkline::__private::MethodOptions::NONE,
    );
    const __id_put: ::core::primitive::u64 = __method_put.id.0;
    const _: fn() = || {
        ::trunkline::__private::assert_serialize::<
            ::trunkline::__private::Plain,
            &Config,
        >();
        ::trunkline::__private::assert_serialize::<::trunkline::__private::Plain, u32>();
    };
    static __SERVICE: ::trunkline::__private::ServiceDescriptor = ::trunkline::__private::ServiceDescriptor::new(
        "Kv",
        "A key-value store.",
        &[&__method_get, &__method_touch, #[cfg(unix)] &__method_whoami, &__method_put],
    );
    const _: () = ::trunkline::__private::assert_distinct(__SERVICE.methods);
    #[automatically_derived]
    impl<__T: Kv> Kv for ::trunkline::__private::Arc<__T> {
        fn get(
            &self,
            key: &str,
        ) -> impl ::core::future::Future<
            Output = Result<Option<Vec<u8>>, KvError>,
        > + ::core::marker::Send {
            <__T as Kv>::get(&**self, key)
        }
        fn touch(
            &self,
            key: &str,
        ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send {
            <__T as Kv>::touch(&**self, key)
        }
        #[cfg(unix)]
        fn whoami(
            &self,
            cx: &Context,
        ) -> impl ::core::future::Future<Output = String> + ::core::marker::Send {
            <__T as Kv>::whoami(&**self, cx)
        }
        fn put(
            &self,
            config: &Config,
            n: u32,
        ) -> impl ::core::future::Future<Output = u32> + ::core::marker::Send {
            <__T as Kv>::put(&**self, config, n)
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
        /// The value stored under `key`.
        pub fn get<'rpc>(
            &'rpc self,
            key: &'rpc str,
        ) -> ::trunkline::Call<
            'rpc,
            (::trunkline::__private::Arg<&'rpc str>,),
            ::trunkline::__private::Fallible<
                Result<Option<Vec<u8>>, KvError>,
                ::trunkline::__private::Maybe<::trunkline::__private::Block>,
            >,
        > {
            self.client.call(&__method_get, (::trunkline::__private::Arg::new(key),))
        }
        /// Calls `Kv.touch`.
        pub fn touch<'rpc>(
            &'rpc self,
            key: &'rpc str,
        ) -> ::trunkline::Call<
            'rpc,
            (::trunkline::__private::Arg<&'rpc str>,),
            ::trunkline::__private::Oneway,
        > {
            self.client.call(&__method_touch, (::trunkline::__private::Arg::new(key),))
        }
        /// Calls `Kv.whoami`.
        #[cfg(unix)]
        pub fn whoami<'rpc>(
            &'rpc self,
        ) -> ::trunkline::Call<'rpc, (), ::trunkline::__private::Value<String>> {
            self.client.call(&__method_whoami, ())
        }
        /// Calls `Kv.put`.
        pub fn put<'rpc>(
            &'rpc self,
            config: &'rpc Config,
            n: u32,
        ) -> ::trunkline::Call<
            'rpc,
            (
                ::trunkline::__private::Arg<&'rpc Config>,
                ::trunkline::__private::Arg<u32>,
            ),
            ::trunkline::__private::Value<u32>,
        > {
            self.client
                .call(
                    &__method_put,
                    (
                        ::trunkline::__private::Arg::new(config),
                        ::trunkline::__private::Arg::new(n),
                    ),
                )
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
                            ::trunkline::__private::Fallible<
                                Result<Option<Vec<u8>>, KvError>,
                                ::trunkline::__private::Maybe<::trunkline::__private::Block>,
                            >,
                        >(returned)
                        .await
                }
                __id_touch => {
                    let returned = <__T as Kv>::touch(
                            &*self.service,
                            args.last::<::trunkline::__private::Plain, &str>()?,
                        )
                        .await;
                    request.answer::<::trunkline::__private::Oneway>(returned).await
                }
                #[cfg(unix)]
                __id_whoami => {
                    args.end()?;
                    let returned = <__T as Kv>::whoami(&*self.service, request.context())
                        .await;
                    request
                        .answer::<::trunkline::__private::Value<String>>(returned)
                        .await
                }
                __id_put => {
                    let returned = <__T as Kv>::put(
                            &*self.service,
                            &args.take::<::trunkline::__private::Plain, Config>()?,
                            args.last_or_default::<::trunkline::__private::Plain, u32>()?,
                        )
                        .await;
                    request.answer::<::trunkline::__private::Value<u32>>(returned).await
                }
                _ => ::core::result::Result::Err(request.unknown_method()),
            }
        }
    }
};
