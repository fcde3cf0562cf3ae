//! The signals that go on to the container.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What ends, interrupts or is free for the program's own meaning; job control stays with the command line itself.
const PROXIED: [(i32, &str); 7] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
];

/// Signals that were sent to the command line.
#[derive(Debug)]
pub(crate) struct Signals {
    received: mpsc::Receiver<&'static str>,
    resized: Option<Signal>,
}

/// What happened to the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Signal(&'static str),
    Resized,
}

impl Signals {
    /// Takes over the signals that are proxied if `proxy`, and changes of the terminal's size if `resize`.
    pub(crate) fn listen(proxy: bool, resize: bool) -> io::Result<Self> {
        let (sender, received) = mpsc::channel(16);
        for (number, name) in PROXIED.into_iter().filter(|_| proxy) {
            let mut stream = signal(SignalKind::from_raw(number))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if sender.send(name).await.is_err() {
                        break;
                    }
                }
            });
        }
        let resized = if resize {
            Some(signal(SignalKind::window_change())?)
        } else {
            None
        };
        Ok(Self { received, resized })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Happened {
        let resized = async {
            match &mut self.resized {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        let received = async {
            match self.received.recv().await {
                Some(name) => name,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            name = received => Happened::Signal(name),
            _ = resized => Happened::Resized,
        }
    }
}
