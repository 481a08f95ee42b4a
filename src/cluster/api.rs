//! Requests to the API server: sent, counted, tried again, and their failures in our terms.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderMap, RETRY_AFTER};
use http::{Method, Request};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::Client;
use kube::client::{AuthError, Body};
use kube::core::Status;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::login::LoginError;
use crate::error::{Error, ErrorKind, Result};

/// An answer that takes longer is not waited for.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A question whose answer has not begun by then is asked again, over another connection. It is answered from memory; a
/// change may have to wait for webhooks, which have up to 30 s.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The connection to one API server.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) server: String,
    pub(super) requests: Arc<AtomicU64>,
    pub(super) clock: Arc<Clock>,
}

/// The API server's clock, as its last answer told it. Clients' clocks may be hours off, and what is compared with a
/// time in the cluster is compared with this one.
#[derive(Default)]
pub(super) struct Clock(Mutex<Option<(SystemTime, Instant)>>);

impl Clock {
    /// `None` before the first answer.
    pub(super) fn now(&self) -> Option<SystemTime> {
        let (time, since) = (*self.0.lock())?;
        time.checked_add(since.elapsed())
    }

    fn set(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        if let Some(date) = date {
            *self.0.lock() = Some((date, Instant::now()));
        }
    }
}

/// Why a request had no success.
pub(super) enum Failure {
    /// The API server says no.
    Refused(Box<Status>, Option<Duration>),
    /// It was not reached, or its answer not understood.
    Lost(kube::Error),
    /// It did not answer in time.
    Silent,
}

impl Api {
    pub(super) fn requests_sent(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Sends `request`, and retries it within `retry_budget` if the failure is temporary. Only for requests that may be
    /// executed twice.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        request: &Request<Vec<u8>>,
        retry_budget: Duration,
    ) -> std::result::Result<T, Failure> {
        let give_up = Instant::now() + retry_budget;
        let mut backoff = Backoff::new();
        loop {
            let failure = match self.send_once(request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let pause = backoff.pause().max(failure.retry_after().unwrap_or_default());
            if !failure.may_pass() || Instant::now() + pause > give_up {
                return Err(failure);
            }
            log::debug!("{} {}: trying again in {pause:?}", request.method(), request.uri().path());
            sleep(pause).await;
        }
    }

    async fn send_once<T: DeserializeOwned>(&self, request: &Request<Vec<u8>>) -> std::result::Result<T, Failure> {
        log::debug!("{} {}", request.method(), request.uri().path());
        let begins_within = if request.method() == Method::GET { QUESTION_TIMEOUT } else { ANSWER_TIMEOUT };
        let exchange = async {
            let answer = timeout(begins_within, self.client.send(request.clone().map(Body::from))).await;
            let response = answer.map_err(|_| Failure::Silent)??;
            self.clock.set(response.headers());
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Ok((response.status(), retry_after, response.into_body().collect_bytes().await?))
        };
        match timeout(ANSWER_TIMEOUT, exchange).await {
            Err(_) => Err(Failure::Silent),
            Ok(Err(failure)) => Err(failure),
            Ok(Ok((code, _, body))) if code.is_success() => {
                serde_json::from_slice(&body).map_err(|e| Failure::Lost(kube::Error::SerdeError(e)))
            }
            Ok(Ok((code, retry_after, body))) => {
                let status = refusal(code.as_u16(), &body);
                let told = status.details.as_ref().map_or(0, |details| details.retry_after_seconds).into();
                Err(Failure::Refused(
                    Box::new(status),
                    retry_after.or((told > 0).then_some(told)).map(Duration::from_secs),
                ))
            }
        }
    }

    pub(super) fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(status, _) => error_from_status(&status, &self.server),
            Failure::Lost(e) => error_from_kube(e, &self.server),
            Failure::Silent => {
                Error::new(ErrorKind::Unavailable, format!("the API server {} did not answer in time", self.server))
            }
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(e: kube::Error) -> Self {
        match e {
            kube::Error::Api(status) => Self::Refused(status, None),
            other => Self::Lost(other),
        }
    }
}

impl Failure {
    pub(super) fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused(status, _) => Some(status),
            _ => None,
        }
    }

    pub(super) fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(status, told) => told.or((status.code == 429).then_some(Duration::from_secs(1))),
            _ => None,
        }
    }

    /// Where a list that has become too old may go on with what there is now.
    pub(super) fn next_page(&self) -> Option<String> {
        let next = self.status()?.metadata.as_ref()?.continue_.clone();
        next.filter(|token| !token.is_empty())
    }

    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Silent => true,
            Self::Lost(e) if login_error(e).is_some() => false,
            Self::Lost(e) => !matches!(e, kube::Error::Auth(_) | kube::Error::SerdeError(_)) && !is_tls(&flat(e)),
            Self::Refused(status, _) => match status.code {
                429 | 500 | 502 | 503 | 504 => true,
                // Others create in the same namespace at the same moment and its quota is being counted.
                409 => status.details.as_ref().is_some_and(|details| details.kind == "resourcequotas"),
                _ => false,
            },
        }
    }
}

/// Exponential back-off with jitter, so that many clients don't retry in step.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// The pause after an attempt that began at `began`; a long one ends the row of failures.
    pub(super) fn pause_after(&mut self, began: Instant) -> Duration {
        if began.elapsed() > LONGEST_PAUSE {
            *self = Self::new();
        }
        self.pause()
    }

    pub(super) fn pause(&mut self) -> Duration {
        let mut random = [128];
        // Without randomness the pause is merely the mean.
        let _ = openssl::rand::rand_bytes(&mut random);
        let pause = self.0.mul_f64(0.5 + f64::from(random[0]) / 256.0);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        pause
    }
}

/// The Status in a refusing answer; a proxy may have answered in its own words.
fn refusal(code: u16, body: &[u8]) -> Status {
    let mut status = serde_json::from_slice::<Status>(body).unwrap_or_else(|_| {
        let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
        Status { message: text, ..Status::default() }
    });
    status.code = code;
    status
}

pub(super) fn error_from_status(status: &Status, server: &str) -> Error {
    let kind = match status.code {
        404 => ErrorKind::NotFound,
        409 | 410 => ErrorKind::Conflict,
        401 => ErrorKind::PermissionDenied,
        403 if status.message.contains("exceeded quota") => ErrorKind::Quota,
        403 => ErrorKind::PermissionDenied,
        429 => ErrorKind::Quota,
        400 | 422 => ErrorKind::InvalidArgument,
        _ => ErrorKind::Unavailable,
    };
    let text = one_line(&status.message);
    let message = match (status.code, text.as_str()) {
        (401, _) => format!("the API server {server} does not accept the credentials"),
        (code, "") => format!("the API server {server} answered with HTTP status {code}"),
        (code @ 500.., text) => format!("the API server {server} answered with HTTP status {code}: {text}"),
        (_, text) => text.to_owned(),
    };
    Error::new(kind, message).with_http_status(status.code)
}

pub(super) fn error_from_kube(e: kube::Error, server: &str) -> Error {
    if let Some(login) = login_error(&e) {
        return Error::new(ErrorKind::Config, login.to_string());
    }
    let error = match &e {
        kube::Error::Api(status) => return error_from_status(status, server),
        kube::Error::Auth(auth) => return Error::new(ErrorKind::Config, explain_auth(auth)),
        kube::Error::UpgradeConnection(_) | kube::Error::SerdeError(_) => {
            Error::new(ErrorKind::Unavailable, format!("the API server {server} gave an invalid answer: {}", flat(&e)))
        }
        _ => match flat(&e) {
            text if is_tls(&text) => {
                Error::new(ErrorKind::Config, format!("no trusted connection to {server}: {text}"))
            }
            text => Error::new(ErrorKind::Unavailable, format!("the API server {server} can't be reached: {text}")),
        },
    };
    error.with_source(e)
}

/// Only auth-provider is left to kube. What a program printed is not repeated: it may be a token.
fn explain_auth(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => format!("the kubeconfig's auth-provider failed: {}", out.status),
        other => format!("the kubeconfig's credentials can't be used: {}", flat(other)),
    }
}

/// The failure of a login, which has nothing to do with the server.
fn login_error(error: &kube::Error) -> Option<&LoginError> {
    match error {
        kube::Error::Service(inner) => inner.downcast_ref(),
        _ => None,
    }
}

fn is_tls(text: &str) -> bool {
    text.contains("certificate") || text.contains("SSL routines")
}

/// The error and its causes on one line, each once: many of them repeat their cause in their own text.
pub(super) fn flat(error: &dyn StdError) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = one_line(&error.to_string()).trim_matches([' ', ':']).to_owned();
        if let Some(last) = parts.last_mut().filter(|last| last.contains(&text)) {
            *last = last.replace(&text, "").trim_end_matches([' ', ':']).to_owned();
        }
        parts.retain(|part| !part.is_empty());
        parts.push(text);
        next = error.source();
    }
    parts.retain(|part| !matches!(part.as_str(), "ServiceError" | "HyperError"));
    parts.join(": ")
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// For requests that are built from names of ours: a failure is a wrong argument.
pub(super) fn built(
    request: std::result::Result<Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Request<Vec<u8>>> {
    request.map_err(|e| Error::new(ErrorKind::InvalidArgument, flat(&e)))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn names_each_cause_once() {
        let refused = io::Error::other(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody\nlistens"));
        let text = flat(&kube::Error::Service(Box::new(refused)));
        assert_eq!(text, "nobody listens");
    }

    #[test]
    fn maps_each_status_to_a_kind() {
        for (code, message, kind) in [
            (404, "pods \"a\" not found", ErrorKind::NotFound),
            (409, "already exists", ErrorKind::Conflict),
            (403, "User \"x\" cannot list resource \"pods\"", ErrorKind::PermissionDenied),
            (403, "pods \"a\" is forbidden: exceeded quota: small", ErrorKind::Quota),
            (429, "too many requests", ErrorKind::Quota),
            (503, "<html>later</html>", ErrorKind::Unavailable),
            (401, "Unauthorized", ErrorKind::PermissionDenied),
        ] {
            let error = error_from_status(&refusal(code, message.as_bytes()), "https://server");
            assert_eq!((error.kind(), error.http_status()), (kind, Some(code)), "{error}");
        }
    }
}
