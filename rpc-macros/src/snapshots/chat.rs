trait Chat: ::core::marker::Send + ::core::marker::Sync + 'static {
    fn watch(
        &self,
        prefix: &str,
    ) -> impl ::core::future::Future<
        Output = Result<impl Stream<Item = Vec<u8>> + ::core::marker::Send, ChatError>,
    > + ::core::marker::Send;
    fn import(
        &self,
        rows: Streaming<Row>,
    ) -> impl ::core::future::Future<Output = u64> + ::core::marker::Send;
    fn chat(
        &self,
        said: Streaming<String>,
        room: &str,
    ) -> impl ::core::future::Future<
        Output = impl Stream<Item = String> + ::core::marker::Send,
    > + ::core::marker::Send;
}
/// The client of [`Chat`].
///
#[allow(dead_code, deprecated)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
struct ChatClient {
    client: ::trunkline::__private::Client,
}
/**The server of [`Chat`]: it answers calls with an implementation of the trait.
*/
///
#[allow(dead_code, deprecated)]
struct ChatServer<T> {
    service: ::trunkline::__private::Arc<T>,
}
#[allow(deprecated, non_upper_case_globals)]
const _: () = {
    static __method_watch: ::trunkline::__private::MethodDescriptor = ::trunkline::__private::MethodDescriptor::new(
        "Chat",
        "watch",
        "",
        &[::trunkline::__private::ArgumentDescriptor::new("prefix", "&str", false)],
        "Result<impl Stream<Item = Vec<u8>>, ChatError>",
        ::trunkline::__private::MethodOptions::NONE,
    );
    const __id_watch: ::core::primitive::u64 = __method_watch.id.0;
    const _: fn() = || {
        ::trunkline::__private::assert_serialize::<
            ::trunkline::__private::Plain,
            &str,
        >();
    };
    static __method_import: ::trunkline::__private::MethodDescriptor = ::trunkline::__private::MethodDescriptor::new(
        "Chat",
        "import",
        "",
        &[
            ::trunkline::__private::ArgumentDescriptor::new(
                "rows",
                "Streaming<Row>",
                false,
            ),
        ],
        "u64",
        ::trunkline::__private::MethodOptions::NONE,
    );
    const __id_import: ::core::primitive::u64 = __method_import.id.0;
    static __method_chat: ::trunkline::__private::MethodDescriptor = ::trunkline::__private::MethodDescriptor::new(
        "Chat",
        "chat",
        "",
        &[
            ::trunkline::__private::ArgumentDescriptor::new(
                "said",
                "Streaming<String>",
                false,
            ),
            ::trunkline::__private::ArgumentDescriptor::new("room", "&str", false),
        ],
        "impl Stream<Item = String>",
        ::trunkline::__private::MethodOptions::NONE
            .slow(::trunkline::__private::Slow::Latest),
    );
    const __id_chat: ::core::primitive::u64 = __method_chat.id.0;
    const _: fn() = || {
        ::trunkline::__private::assert_serialize::<
            ::trunkline::__private::Plain,
            &str,
        >();
    };
    static __SERVICE: ::trunkline::__private::ServiceDescriptor = ::trunkline::__private::ServiceDescriptor::new(
        "Chat",
        "",
        &[&__method_watch, &__method_import, &__method_chat],
    );
    const _: () = ::trunkline::__private::assert_distinct(__SERVICE.methods);
    #[automatically_derived]
    impl<__T: Chat> Chat for ::trunkline::__private::Arc<__T> {
        fn watch(
            &self,
            prefix: &str,
        ) -> impl ::core::future::Future<
            Output = Result<
                impl Stream<Item = Vec<u8>> + ::core::marker::Send,
                ChatError,
            >,
        > + ::core::marker::Send {
            <__T as Chat>::watch(&**self, prefix)
        }
        fn import(
            &self,
            rows: Streaming<Row>,
        ) -> impl ::core::future::Future<Output = u64> + ::core::marker::Send {
            <__T as Chat>::import(&**self, rows)
        }
        fn chat(
            &self,
            said: Streaming<String>,
            room: &str,
        ) -> impl ::core::future::Future<
            Output = impl Stream<Item = String> + ::core::marker::Send,
        > + ::core::marker::Send {
            <__T as Chat>::chat(&**self, said, room)
        }
    }
    impl ::trunkline::ServiceClient for ChatClient {
        const SERVICE: &'static ::trunkline::__private::ServiceDescriptor = &__SERVICE;
        fn from_client(client: ::trunkline::__private::Client) -> Self {
            Self { client }
        }
    }
    #[allow(dead_code, clippy::too_many_arguments, clippy::type_complexity)]
    impl ChatClient {
        /// Connects to the server at `endpoint`, a URI such as `unix:/run/service.sock`.
        ///
        /// # Errors
        ///
        /// If `endpoint` is no such URI, nobody answers there, or the two sides cannot agree.
        async fn connect(
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
        fn connect_blocking(
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
        async fn spawn(
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
        async fn over<S>(
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
        async fn over_transport<T: ::trunkline::transport::Transport>(
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
        fn local<__T: Chat>(server: ChatServer<__T>) -> Self {
            Self {
                client: ::trunkline::__private::local(server),
            }
        }
        /// The connection that carries this client's calls.
        fn connection(&self) -> ::trunkline::Connection {
            ::trunkline::__private::connection(&self.client)
        }
        /// Calls `Chat.watch`.
        fn watch<'rpc>(
            &'rpc self,
            prefix: &'rpc str,
        ) -> ::trunkline::Call<
            'rpc,
            (::trunkline::__private::Arg<&'rpc str>,),
            ::trunkline::__private::FallibleStreamed<
                Result<::trunkline::Streaming<Vec<u8>>, ChatError>,
                Vec<u8>,
                ::trunkline::__private::Block,
            >,
        > {
            self.client
                .call(&__method_watch, (::trunkline::__private::Arg::new(prefix),))
        }
        /// Calls `Chat.import`.
        fn import<'rpc>(
            &'rpc self,
            rows: impl ::trunkline::Stream<Item = Row> + ::core::marker::Send + 'static,
        ) -> ::trunkline::Call<
            'rpc,
            ::trunkline::__private::Fed<()>,
            ::trunkline::__private::Value<u64>,
        > {
            self.client
                .call(
                    &__method_import,
                    ::trunkline::__private::Fed::new(
                        (),
                        ::trunkline::__private::Vec::from([
                            ::trunkline::__private::Feed::new::<
                                ::trunkline::__private::Plain,
                                Row,
                                _,
                            >(rows),
                        ]),
                    ),
                )
        }
        /// Calls `Chat.chat`.
        fn chat<'rpc>(
            &'rpc self,
            said: impl ::trunkline::Stream<
                Item = String,
            > + ::core::marker::Send + 'static,
            room: &'rpc str,
        ) -> ::trunkline::Call<
            'rpc,
            ::trunkline::__private::Fed<(::trunkline::__private::Arg<&'rpc str>,)>,
            ::trunkline::__private::Streamed<String>,
        > {
            self.client
                .call(
                    &__method_chat,
                    ::trunkline::__private::Fed::new(
                        (::trunkline::__private::Arg::new(room),),
                        ::trunkline::__private::Vec::from([
                            ::trunkline::__private::Feed::new::<
                                ::trunkline::__private::Plain,
                                String,
                                _,
                            >(said),
                        ]),
                    ),
                )
        }
    }
    #[allow(dead_code)]
    impl<T> ChatServer<T> {
        /// Serves `service`.
        fn new(service: T) -> Self {
            Self {
                service: ::trunkline::__private::Arc::new(service),
            }
        }
    }
    #[automatically_derived]
    impl<T> ::core::clone::Clone for ChatServer<T> {
        fn clone(&self) -> Self {
            Self {
                service: ::core::clone::Clone::clone(&self.service),
            }
        }
    }
    #[automatically_derived]
    impl<T> ::core::fmt::Debug for ChatServer<T> {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            f.debug_struct("ChatServer").finish_non_exhaustive()
        }
    }
    impl<__T: Chat> ::trunkline::Service for ChatServer<__T> {
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
                __id_watch => {
                    args.streams(0u8, 1u8)?;
                    match <__T as Chat>::watch(
                            &*self.service,
                            args.last::<::trunkline::__private::Plain, &str>()?,
                        )
                        .await
                    {
                        returned => {
                            request
                                .try_stream::<
                                    ::trunkline::__private::FallibleStreamed<
                                        Result<::trunkline::Streaming<Vec<u8>>, ChatError>,
                                        Vec<u8>,
                                        ::trunkline::__private::Block,
                                    >,
                                    _,
                                >(::trunkline::__private::Slow::Block, returned)
                                .await
                        }
                    }
                }
                __id_import => {
                    args.streams(1u8, 0u8)?;
                    args.end()?;
                    let returned = <__T as Chat>::import(
                            &*self.service,
                            args.stream::<::trunkline::__private::Plain, Row>()?,
                        )
                        .await;
                    request.answer::<::trunkline::__private::Value<u64>>(returned).await
                }
                __id_chat => {
                    args.streams(1u8, 1u8)?;
                    match <__T as Chat>::chat(
                            &*self.service,
                            args.stream::<::trunkline::__private::Plain, String>()?,
                            args.last::<::trunkline::__private::Plain, &str>()?,
                        )
                        .await
                    {
                        returned => {
                            request
                                .stream::<
                                    ::trunkline::__private::Streamed<String>,
                                    _,
                                >(::trunkline::__private::Slow::Latest, returned)
                                .await
                        }
                    }
                }
                _ => ::core::result::Result::Err(request.unknown_method()),
            }
        }
    }
};
