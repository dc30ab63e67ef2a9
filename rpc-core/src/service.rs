//! The server's side of a trait: requests in, answers out.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasherDefault, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};
use std::time::Duration;

use futures_core::Stream;

use crate::body::Body;
use crate::codec::{DecodeBudget, DecodeError};
use crate::connection::Running;
use crate::context::Context;
use crate::error::Reason;
use crate::frame::{EXTENSION_HEAD_LEN, StreamCounts};
use crate::limits::{Limit, Limits};
use crate::method::{MethodDescriptor, ServiceDescriptor, Slow};
use crate::object::{self, Passed, Passing, Received};
use crate::protocol::{Encoded, Failure, Payload};
use crate::scratch::Scratch;
use crate::streaming::{Pump, Receiver, StreamOutput, Streaming, fill};
use crate::wire::{DeserializeAs, Half, Output, ResultLike, decode_as};

/// What a server serves. The macro writes it for a trait; layers may wrap it.
pub trait Service: Send + Sync + 'static {
    /// What the service says about itself.
    fn descriptor(&self) -> &'static ServiceDescriptor;

    /// Answers one request, of a method that the descriptor names.
    ///
    /// # Errors
    ///
    /// If the request can't be handed to a handler.
    fn call(&self, request: &Request) -> impl Future<Output = Result<Answer, Refusal>> + Send;
}

/// A request that has been received whole.
pub struct Request {
    payload: Payload,
    method: &'static MethodDescriptor,
    /// There until [`Request::end`].
    context: Option<Context>,
    /// What decoding allocated, where it is much.
    charged: OnceLock<u64>,
    id: u64,
    streams: StreamCounts,
    /// The objects that came with it.
    received: Option<Arc<Received>>,
}

/// An encoded reply that is shorter leaves the thread its buffer, a longer one takes it along.
const TAKEN_LEN_MIN: usize = 64 << 10;
/// Decoding that allocates less than this is not charged to the server: the request's slot stands for it.
const DECODED_FREE: usize = 4096;

impl Request {
    pub(crate) fn new(
        payload: Payload,
        method: &'static MethodDescriptor,
        context: Context,
        id: u64,
        streams: StreamCounts,
        received: Option<Arc<Received>>,
    ) -> Request {
        Request { payload, method, context: Some(context), charged: OnceLock::new(), id, streams, received }
    }

    /// The method that is called.
    pub fn method(&self) -> &'static MethodDescriptor {
        self.method
    }

    /// What the handler knows of its call.
    pub fn context(&self) -> &Context {
        match &self.context {
            Some(context) => context,
            None => unreachable!("a request that has ended is not lent"),
        }
    }

    /// Gives back what is needed for the next one.
    fn end(&mut self) -> Option<Context> {
        self.release();
        self.context.take()
    }

    fn release(&mut self) {
        if let (Some(bytes), Some(context)) = (self.charged.take(), &self.context) {
            context.share().release(bytes);
        }
    }

    /// Its encoded arguments.
    pub fn payload(&self) -> &[u8] {
        self.payload.as_slice()
    }

    /// Reads its arguments, in order.
    #[inline]
    pub fn arguments(&self) -> ArgumentReader<'_> {
        let Limits { decode_memory, decode_depth, .. } = *self.context().connection().link().limits();
        ArgumentReader {
            request: self,
            rest: self.payload.as_slice(),
            next: 0,
            streams: 0,
            budget: DecodeBudget::new(decode_memory, decode_depth),
        }
    }

    /// Encodes what the handler returned. Waits while the connection holds too many replies that its peer doesn't read.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded.
    pub async fn answer<O: Output>(&self, returned: O::Returned) -> Result<Answer, Refusal> {
        if O::ONEWAY {
            return Ok(Answer { half: Half::Ok, payload: Encoded::EMPTY });
        }
        let link = self.context().connection().link();
        if link.is_crowded() {
            poll_fn(|cx| link.poll_encode(cx)).await;
        }
        let mut buffer = Scratch::take();
        let passing = Passing::begin();
        let Ok(half) = O::encode(self.context().codec(), &returned, &mut buffer) else {
            return Err(Refusal(Failure::maybe_executed(Reason::UnencodableReply)));
        };
        if let Some(passed) = passing.end() {
            self.hand_over(&passed, buffer.len())?;
        }
        // One that waits is counted by its length, and must not hold much more.
        let payload = if buffer.len() < TAKEN_LEN_MIN || buffer.capacity() / 2 > buffer.len() {
            Encoded::Scratch(buffer)
        } else {
            Encoded::Own(Body::from(buffer.into_vec()))
        };
        Ok(Answer { half, payload })
    }

    /// Has the reply hand something over.
    #[cold]
    fn hand_over(&self, passed: &[Passed], payload: usize) -> Result<(), Refusal> {
        let link = self.context().connection().link();
        // Who stands around the handler may still put metadata beside it.
        let beside = EXTENSION_HEAD_LEN + link.limits().metadata_len;
        match object::hand_over(passed, link, beside, payload) {
            Ok(cargo) => self.context().hand_over(cargo),
            Err(Reason::Unencodable(_)) => return Err(Refusal(Failure::maybe_executed(Reason::UnencodableReply))),
            Err(reason) => return Err(Refusal(Failure::maybe_executed(reason))),
        }
        Ok(())
    }

    /// Sends the items of what the handler returned, until there are no more, or nobody wants more. `slow` says what becomes of
    /// those that have no room.
    ///
    /// # Errors
    ///
    /// If an item cannot be sent.
    pub async fn stream<O, S>(&self, slow: Slow, stream: S) -> Result<Answer, Refusal>
    where
        O: StreamOutput,
        S: Stream<Item = O::Item> + Send,
    {
        let link = &**self.context().connection().link();
        link.reply(self.id, self.context().reply_extras());
        self.context().control().outlive();
        if self.method.options.blocking {
            // Its thread is for what blocks; from here on it is in a task.
            tokio::task::yield_now().await;
        }
        let mut stream = std::pin::pin!(stream);
        let mut pump = Pump::new(self.id + 2 * (u64::from(self.streams.given) + 1), link, slow);
        let sent = poll_fn(|cx| {
            pump.poll(cx, link, |cx, codec, item_max, most, out| {
                fill::<O::Item, O::Form, S>(stream.as_mut(), cx, codec, item_max, most, out)
            })
        });
        sent.await.map_err(Refusal)?;
        Ok(Answer { half: Half::Ok, payload: Encoded::EMPTY })
    }

    /// The same, or the method's own error.
    ///
    /// # Errors
    ///
    /// If an item cannot be sent, or the error cannot be encoded.
    pub async fn try_stream<O, R>(&self, slow: Slow, returned: R) -> Result<Answer, Refusal>
    where
        O: StreamOutput,
        R: ResultLike<Err = O::Err>,
        R::Ok: Stream<Item = O::Item> + Send,
    {
        let error = match returned.into_halves() {
            Ok(stream) => return self.stream::<O, R::Ok>(slow, stream).await,
            Err(error) => error,
        };
        let mut buffer = Vec::new();
        match O::encode_err(self.context().codec(), &error, &mut buffer) {
            Ok(()) => Ok(Answer { half: Half::Err, payload: Encoded::Own(buffer.into()) }),
            Err(_) => Err(Refusal(Failure::maybe_executed(Reason::UnencodableReply))),
        }
    }

    /// The answer to a method that the service does not have.
    pub fn unknown_method(&self) -> Refusal {
        let reason = Reason::UnknownMethod { service: String::new(), method: String::new() };
        Refusal(Failure::not_executed(reason))
    }

    fn charge(&self, decoded: usize) -> Result<(), Limit> {
        if decoded > DECODED_FREE {
            self.context().share().charge(decoded as u64)?;
            if self.charged.set(decoded as u64).is_err() {
                self.context().share().release(decoded as u64);
            }
        }
        Ok(())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &format_args!("{}.{}", self.method.service, self.method.name))
            .field("bytes", &self.payload().len())
            .field("context", self.context())
            .finish_non_exhaustive()
    }
}

/// Takes arguments from a request, one after the other.
#[derive(Debug)]
pub struct ArgumentReader<'a> {
    request: &'a Request,
    rest: &'a [u8],
    next: u16,
    /// Streams taken.
    streams: u8,
    budget: DecodeBudget,
}

impl<'a> ArgumentReader<'a> {
    /// The next argument.
    ///
    /// # Errors
    ///
    /// If it can't be decoded. The handler has not started then.
    pub fn take<F, T>(&mut self) -> Result<T, Refusal>
    where
        F: DeserializeAs<'a, T>,
    {
        let argument = self.next;
        self.next += 1;
        let codec = self.request.context().codec();
        let decoded = match &self.request.received {
            None => decode_as::<T, F>(codec, &mut self.rest, &mut self.budget),
            Some(received) => received.enter(|| decode_as::<T, F>(codec, &mut self.rest, &mut self.budget)),
        };
        decoded.map_err(|why| Refusal::argument(argument, why))
    }

    /// The next argument, or its default where the caller sent no more.
    ///
    /// # Errors
    ///
    /// If it is there but can't be decoded.
    pub fn take_or_default<F, T>(&mut self) -> Result<T, Refusal>
    where
        F: DeserializeAs<'a, T>,
        T: Default,
    {
        if self.rest.is_empty() {
            return Ok(T::default());
        }
        self.take::<F, T>()
    }

    /// The last argument.
    ///
    /// # Errors
    ///
    /// If it can't be decoded, or bytes are left behind it.
    pub fn last<F, T>(&mut self) -> Result<T, Refusal>
    where
        F: DeserializeAs<'a, T>,
    {
        let value = self.take::<F, T>()?;
        self.end()?;
        Ok(value)
    }

    /// The last argument, or its default where the caller sent no more.
    ///
    /// # Errors
    ///
    /// If it is there but can't be decoded, or bytes are left behind it.
    pub fn last_or_default<F, T>(&mut self) -> Result<T, Refusal>
    where
        F: DeserializeAs<'a, T>,
        T: Default,
    {
        let value = self.take_or_default::<F, T>()?;
        self.end()?;
        Ok(value)
    }

    /// That the caller gives and expects as many streams as the method has.
    ///
    /// # Errors
    ///
    /// If it does not. The handler has not started then.
    pub fn streams(&self, given: u8, returned: u8) -> Result<(), Refusal> {
        if self.request.streams == (StreamCounts { given, returned }) {
            return Ok(());
        }
        Err(Refusal::argument(self.next, DecodeError::Malformed))
    }

    /// The next argument that is a stream.
    ///
    /// # Errors
    ///
    /// If the caller gives no more.
    pub fn stream<F, T>(&mut self) -> Result<Streaming<T>, Refusal>
    where
        F: for<'de> DeserializeAs<'de, T>,
    {
        if self.streams >= self.request.streams.given {
            return Err(Refusal::argument(self.next, DecodeError::UnexpectedEnd));
        }
        self.streams += 1;
        let (id, context) = (self.request.id, self.request.context());
        let Limits { decode_memory, decode_depth, .. } = *context.connection().link().limits();
        let id = id + 2 * u64::from(self.streams);
        let receiver = Receiver::new(context.connection().clone(), id, context.codec(), (decode_memory, decode_depth));
        Ok(Streaming::receive::<F>(receiver))
    }

    /// All arguments have been read.
    ///
    /// # Errors
    ///
    /// If bytes are left.
    pub fn end(&mut self) -> Result<(), Refusal> {
        if !self.rest.is_empty() {
            return Err(Refusal::argument(self.next, DecodeError::TrailingBytes { left: self.rest.len() }));
        }
        let used = self.budget.memory_used();
        let charged = self.request.charge(used);
        charged.map_err(|limit| Refusal(Failure::not_executed(Reason::Overloaded { limit })))?;
        self.request.context().control().begin();
        Ok(())
    }
}

/// What a handler returned, encoded.
#[derive(Debug)]
pub struct Answer {
    pub(crate) half: Half,
    pub(crate) payload: Encoded<'static>,
}

/// A request that no handler was started for, or whose reply could not be encoded.
#[derive(Debug)]
pub struct Refusal(pub(crate) Failure);

impl Refusal {
    fn argument(argument: u16, why: DecodeError) -> Refusal {
        Refusal(Failure::not_executed(Reason::InvalidArguments { argument, why }))
    }
}

/// A place for one running handler: it holds the future, and is used again for the next one.
pub(crate) trait Handler: Send {
    /// Puts a request in.
    fn start(&mut self, request: Request);
    /// Runs the handler, and gives back the context that came with the request. Panics if the handler does.
    fn poll(&mut self, cx: &mut task::Context<'_>, spare: &mut Option<Context>) -> Poll<Result<Answer, Refusal>>;
    /// Drops the handler. Panics if that does.
    fn clear(&mut self);
}

/// A future that has been polled can't move, so it is made in its box and dropped there.
struct Place<S, M, F> {
    service: Arc<S>,
    /// Its clone for the next handler, which gives it back: so that counting it costs nothing.
    lent: Option<Arc<S>>,
    make: M,
    future: Pin<Box<Option<F>>>,
}

impl<S, M, F> Handler for Place<S, M, F>
where
    S: Service,
    M: Fn(Arc<S>, Request) -> F + Send,
    F: Future<Output = (Arc<S>, Option<Context>, Result<Answer, Refusal>)> + Send,
{
    fn start(&mut self, request: Request) {
        let service = self.lent.take().unwrap_or_else(|| Arc::clone(&self.service));
        self.future.set(Some((self.make)(service, request)));
    }

    fn poll(&mut self, cx: &mut task::Context<'_>, spare: &mut Option<Context>) -> Poll<Result<Answer, Refusal>> {
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx).map(|(service, context, answered)| {
                self.lent = Some(service);
                *spare = context;
                answered
            }),
            None => Poll::Pending,
        }
    }

    fn clear(&mut self) {
        self.future.set(None);
    }
}

fn place<S, M, F>(service: Arc<S>, context: Context, make: M) -> Box<Running>
where
    S: Service,
    M: Fn(Arc<S>, Request) -> F + Send + 'static,
    F: Future<Output = (Arc<S>, Option<Context>, Result<Answer, Refusal>)> + Send + 'static,
{
    Box::new(Running::new(Place { service, lent: None, make, future: Box::pin(None) }, context))
}

/// A service without its type.
trait ErasedService: Send + Sync {
    fn place(&self, context: Context) -> Box<Running>;
}

impl<S: Service> ErasedService for Arc<S> {
    fn place(&self, context: Context) -> Box<Running> {
        place(Arc::clone(self), context, |service: Arc<S>, mut request| async move {
            let answered = service.call(&request).await;
            (service, request.end(), answered)
        })
    }
}

/// Which service and method an id belongs to.
#[derive(Clone, Default)]
pub(crate) struct Router {
    services: Vec<(&'static ServiceDescriptor, Arc<dyn ErasedService>)>,
    routes: HashMap<u64, Arc<Route>, BuildHasherDefault<MethodHasher>>,
}

/// Method ids are hashes already. A peer may ask for any, and puts none in.
#[derive(Clone, Copy, Debug, Default)]
struct MethodHasher(u64);

impl Hasher for MethodHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}

/// A method that is served here.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) service: usize,
    pub(crate) method: &'static MethodDescriptor,
    /// Runs of its handler that were fast, in a row; see [`Route::runs_inline`].
    fast_runs: AtomicU32,
}

/// After so many fast runs in a row a method runs on the driver's own task.
const FAST_RUNS: u32 = 16;
/// A run up to this long is fast.
const FAST: Duration = Duration::from_micros(50);
/// A run longer than this sends a method back to tasks of its own.
const SLOW: Duration = Duration::from_millis(1);

impl Route {
    /// Whether the method has shown that it does not keep the driver from reading.
    pub(crate) fn runs_inline(&self) -> bool {
        self.fast_runs.load(Ordering::Relaxed) >= FAST_RUNS
    }

    /// Notes how long the handler kept its thread at its first poll.
    pub(crate) fn ran(&self, time: Duration) {
        // A lost count between two threads costs one more run in a task.
        let runs = self.fast_runs.load(Ordering::Relaxed);
        if time > SLOW || (time > FAST && runs < FAST_RUNS) {
            self.fast_runs.store(0, Ordering::Relaxed);
        } else if runs < FAST_RUNS {
            self.fast_runs.store(runs + 1, Ordering::Relaxed);
        }
    }
}

impl Router {
    /// Adds a service.
    ///
    /// # Panics
    ///
    /// If one of that name is there already.
    pub(crate) fn add<S: Service>(&mut self, service: S) {
        let descriptor = service.descriptor();
        for method in descriptor.methods {
            let route = Route { service: self.services.len(), method, fast_runs: AtomicU32::new(0) };
            let before = self.routes.insert(method.id.0, Arc::new(route));
            assert!(
                before.is_none(),
                "the service `{}` is served twice here: give one of them another name with #[service(name = \"..\")]",
                descriptor.name
            );
        }
        self.services.push((descriptor, Arc::new(Arc::new(service))));
    }

    pub(crate) fn route(&self, method: u64) -> Option<&Arc<Route>> {
        self.routes.get(&method)
    }

    pub(crate) fn services(&self) -> usize {
        self.services.len()
    }

    pub(crate) fn place(&self, service: usize, context: Context) -> Box<Running> {
        self.services[service].1.place(context)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.services.iter().map(|(descriptor, _)| descriptor.name)).finish()
    }
}
