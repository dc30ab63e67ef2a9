//! HTTP/1.1: requests come in here and go to the workers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::pool::{Unanswered, Workers};

/// Serves until `stop` is ready; then takes no more connections, answers the requests that are there, and returns.
pub async fn serve(listener: TcpListener, workers: &Arc<Workers>, stop: impl Future) {
    let mut stop = pin!(stop);
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, most of all: some will be closed.
                eprintln!("a connection could not be accepted: {error}");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let workers = Arc::clone(workers);
        let service = service_fn(move |request| {
            let workers = Arc::clone(&workers);
            async move { Ok::<_, Infallible>(answer(request, &workers).await) }
        });
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        // A client that vanishes or speaks no HTTP is its own affair.
        tokio::spawn(connections.watch(connection));
    }
    drop(listener);
    let _ = timeout(DRAIN_MAX, connections.shutdown()).await;
}

async fn answer(request: Request<Incoming>, workers: &Workers) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = match read(body).await {
        Ok(body) => body,
        Err(status) => return refusal(status),
    };
    match workers.page(head.method.as_str(), head.uri.path(), &body).await {
        Ok(page) => {
            let mut response = Response::new(Full::from(page.body));
            *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            response
        }
        Err(Unanswered::NoWorker) => refusal(StatusCode::SERVICE_UNAVAILABLE),
        Err(Unanswered::TooSlow) => refusal(StatusCode::GATEWAY_TIMEOUT),
        Err(Unanswered::Failed(error)) => {
            eprintln!("{} {}: {error}", head.method, head.uri);
            refusal(StatusCode::BAD_GATEWAY)
        }
    }
}

/// A body, whole; or the status that says why not.
async fn read(body: Incoming) -> Result<Bytes, StatusCode> {
    // What the client announces; what it then sends is another matter.
    if body.size_hint().lower() > BODY_LEN_MAX as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    match timeout(BODY_TIME_MAX, Limited::new(body, BODY_LEN_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

fn refusal(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{status}\n")));
    *response.status_mut() = status;
    response
}

/// The longest body of a request.
const BODY_LEN_MAX: usize = 1 << 20;
/// How long a client may take to send it.
const BODY_TIME_MAX: Duration = Duration::from_secs(20);
/// How long requests may go on after the end has begun.
const DRAIN_MAX: Duration = Duration::from_secs(30);
