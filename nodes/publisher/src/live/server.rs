//! The server: one thread, read-only, beside the node.
//!
//! An address in use is no reason not to run: it is said once and tried again.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::{Access, Live, Refusal, pages, sockets};

/// What a page of ours may load and do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";
/// Time between two tries to bind.
const RETRY: Duration = Duration::from_secs(2);
/// Time that open sockets have for their last words.
const LAST_WORDS: Duration = Duration::from_millis(1500);
/// A wrong token is answered no sooner.
const WRONG_TOKEN: Duration = Duration::from_millis(400);

/// What is to be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The page.
    pub page: bool,
    /// The feed of rows.
    pub feed: bool,
}

/// What every handler knows.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) live: Arc<Live>,
    pub(crate) access: Arc<Access>,
}

/// Where the server is, or why it is not.
type Standing = Arc<Mutex<Result<SocketAddr, String>>>;

/// A running server; it ends with [`Server::finish`] or the process.
#[derive(Debug)]
pub struct Server {
    standing: Standing,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts serving at this address.
    #[must_use]
    pub fn start(live: Arc<Live>, access: Access, bind: SocketAddr, offer: Offer) -> Self {
        let standing: Standing = Arc::new(Mutex::new(Err("not open yet".into())));
        let shared = Shared {
            live,
            access: Arc::new(access),
        };
        let told = Arc::clone(&standing);
        let thread = std::thread::Builder::new()
            .name("live-page".into())
            .spawn(move || run(&shared, bind, offer, &told));
        if let Err(error) = &thread {
            set(&standing, Err(format!("no thread: {error}")));
        }
        Self {
            standing,
            thread: thread.ok(),
        }
    }

    /// The address in use.
    ///
    /// # Errors
    /// Why there is none at the moment.
    pub fn address(&self) -> Result<SocketAddr, String> {
        let standing = self.standing.lock();
        standing.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it, once those who look have been told; gives up on slow ones.
    pub fn finish(&mut self, live: &Live) {
        live.over.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // The thread ends by itself within LAST_WORDS.
            let _panicked = thread.join();
        }
    }
}

fn set(standing: &Standing, to: Result<SocketAddr, String>) {
    *standing.lock().unwrap_or_else(PoisonError::into_inner) = to;
}

fn run(shared: &Shared, bind: SocketAddr, offer: Offer, standing: &Standing) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "live page: no event loop");
            return set(standing, Err(error.to_string()));
        }
    };
    let mut over = shared.live.over.subscribe();
    runtime.block_on(async {
        tokio::select! {
            () = serve(shared, bind, offer, standing) => {}
            _ = over.wait_for(|over| *over) => {}
        }
    });
    // Sockets are tasks of their own: they see `over`, say their last words and end.
    let live = &shared.live;
    runtime.block_on(async {
        let empty = async {
            while live.over.receiver_count() > 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _gave_up_on_slow_ones = tokio::time::timeout(LAST_WORDS, empty).await;
    });
}

async fn serve(shared: &Shared, bind: SocketAddr, offer: Offer, standing: &Standing) {
    let mut said = String::new();
    let listener = loop {
        match listen(bind) {
            Ok(listener) => break listener,
            Err(error) => {
                let text =
                    format!("{bind}: {error}; set LIVE_PAGE_BIND to a free address and port");
                if text != said {
                    tracing::error!("live page: {text}");
                }
                set(standing, Err(text.clone()));
                said = text;
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    if let Ok(address) = listener.local_addr() {
        set(standing, Ok(address));
        let path = if offer.page { "/" } else { "/feed" };
        tracing::info!("live page: http://{address}{path}");
    }
    if let Err(error) = axum::serve(listener, router(shared, offer)).await {
        tracing::error!(%error, "live page: the server has ended");
        set(standing, Err(error.to_string()));
    }
}

fn listen(bind: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let listener = TcpListener::bind(bind)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

fn router(shared: &Shared, offer: Offer) -> Router {
    let mut open = Router::new();
    let mut guarded = Router::new();
    if offer.page {
        for asset in &pages::ASSETS {
            let route = get(move || std::future::ready(pages::asset(asset)));
            if asset.open {
                open = open.route(asset.path, route);
            } else {
                guarded = guarded.route(asset.path, route);
            }
        }
        open = open.route("/login", post(login));
        guarded = guarded
            .route("/live", get(sockets::page))
            .route("/tracks/{stream}/{track}", get(pages::track))
            .route("/crops/{stream}/{track}/{number}", get(pages::crop));
    }
    if offer.feed {
        guarded = guarded.route("/feed", get(sockets::feed));
    }
    let guarded = guarded.layer(from_fn_with_state(shared.clone(), guard));
    open.merge(guarded)
        .layer(from_fn_with_state(shared.clone(), frame))
        .with_state(shared.clone())
}

/// Lets nobody through without the token.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    match shared.access.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(Refusal::NoToken) if request.uri().path() == "/" => pages::login_page(),
        Err(Refusal::NoToken) => {
            (StatusCode::UNAUTHORIZED, "The token is needed.\n").into_response()
        }
        Err(Refusal::Foreign) => foreign(),
    }
}

fn foreign() -> Response {
    let text = "Open this page under the address that it was given, not through another site.\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

/// What every answer has in common.
async fn frame(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let mut response = match shared.access.check_origin(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(_) => foreign(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The one thing that can be sent: the token, as plain text.
async fn login(State(shared): State<Shared>, token: String) -> Response {
    if !shared.access.is_token(token.trim()) {
        tokio::time::sleep(WRONG_TOKEN).await;
        return (StatusCode::UNAUTHORIZED, "This is not the token.\n").into_response();
    }
    let cookie = HeaderValue::from_str(&shared.access.set_cookie());
    match cookie {
        Ok(cookie) => ([(SET_COOKIE, cookie)], StatusCode::NO_CONTENT).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
