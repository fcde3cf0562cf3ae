//! Serving clients until the daemon is told to end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use builder::Builder;
use engine::Engine;
use futures_util::future::join_all;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::clients::{Api, Clients};
use crate::config::Config;
use crate::listen::ListenError;
use crate::metrics::Requests;
use crate::notify::Notifier;
use crate::reload::Reloader;
use crate::routes::{self, Closing, Shared};
use crate::seats::{Limits, Seats};
use crate::sockets;
use crate::tls::{self, Tls};

/// Why a daemon cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket cannot be made.
    #[error("listen for clients")]
    Listen(#[source] ListenError),
    /// Signals cannot be received.
    #[error("receive signals")]
    Signals(#[source] io::Error),
    /// The registry beside the engine cannot be served.
    #[error("serve the registry of the configuration")]
    Registry(#[source] registry::ServeError),
}

/// What tells a daemon to end, or to read its settings again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
enum Wish {
    /// To end; with the signal's name.
    End(&'static str),
    Reload,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::End("SIGTERM"),
            _ = self.interrupt.recv() => Wish::End("SIGINT"),
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }

    /// Waits for one that ends the daemon.
    async fn end(&mut self) {
        while !matches!(self.next().await, Wish::End(_)) {}
    }
}

/// Serves the API on the configured sockets, and on those that a service manager passed, until SIGTERM or SIGINT.
///
/// Containers run on after the return; so do their logs and published ports.
///
/// # Errors
/// When a socket cannot be made or signals cannot be received.
pub async fn serve(
    engine: Arc<Engine>,
    builder: Arc<Builder>,
    config: &Config,
    passed: Vec<(String, OwnedFd)>,
) -> Result<(), ServeError> {
    let tls = config
        .tls
        .as_ref()
        .map(|files| Tls::new(files, tls::PROTOCOLS));
    let tls = tls.transpose();
    let tls = tls.map_err(|error| ServeError::Listen(ListenError::Tls(error)))?;
    let tls = tls.map(Arc::new);
    let sockets = sockets::open(config, tls.as_ref(), passed).map_err(ServeError::Listen)?;
    let scraped = config.metrics_address.map(sockets::metrics).transpose();
    let scraped = scraped.map_err(ServeError::Listen)?;
    let beside = crate::registry::beside(config).await;
    let beside = beside.map_err(ServeError::Registry)?;
    let mut signals = Signals::new().map_err(ServeError::Signals)?;
    let (close, closing) = watch::channel(false);
    let seats = Seats::new(Limits::default());
    let requests = Arc::new(Requests::default());
    let shared = Shared::new(
        Arc::clone(&engine),
        Arc::clone(&builder),
        Closing::new(closing),
        Arc::clone(&requests),
        Arc::clone(&seats),
    );
    let clients = |router| Clients {
        api: Api::new(router),
        seats: Arc::clone(&seats),
        graceful: GracefulShutdown::new(),
    };
    let all = clients(routes::router(shared.clone()));
    let scrapers = clients(routes::metrics_router(shared));
    let notifier = Notifier::from_env();
    notifier.ready();
    let mut reloader = Reloader::new(engine, Arc::clone(&builder), config.clone(), tls);
    let name = {
        let accepting = async {
            tokio::join!(
                join_all(sockets.iter().map(|socket| all.accept(socket))),
                join_all(scraped.iter().map(|socket| scrapers.accept(socket))),
            )
        };
        tokio::pin!(accepting);
        loop {
            let wish = tokio::select! {
                _ = &mut accepting => break "none",
                wish = signals.next() => wish,
            };
            if let Wish::End(name) = wish {
                break name;
            }
            notifier.reloading();
            reloader.reload();
            crate::registry::reload_beside(config, beside.as_ref());
            notifier.ready();
        }
    };
    tracing::info!(signal = name, "the engine ends; containers run on");
    notifier.stopping();
    builder.close();
    drop((sockets, scraped));
    close.send_replace(true);
    if let Some(beside) = beside {
        beside.stop(config.grace()).await;
    }
    end(all, config, &mut signals).await;
    Ok(())
}

/// Lets requests that run come to their end, within bounds.
async fn end(clients: Clients, config: &Config, signals: &mut Signals) {
    let grace = config.grace();
    tokio::select! {
        () = clients.graceful.shutdown() => {}
        () = tokio::time::sleep(grace) => {
            tracing::warn!(seconds = grace.as_secs(), "requests still ran and were cut off");
        }
        () = signals.end() => {}
    }
}
