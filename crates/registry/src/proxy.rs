//! The pull-through mode: what clients ask for is fetched from one upstream registry and kept.
//!
//! A tag is believed for a while and then asked about by its digest. Equal requests are one to the
//! upstream: a manifest is fetched by the first who asks, and a blob is one file that grows, from
//! which all who asked read along. The last byte of a blob is held back until its digest is right.
//! An upstream that is away takes nothing away: what is here is served.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use distribution::{Client, ClientConfig, Credentials, ErrorKind, RegistryError, Repository};
use http::{Method, StatusCode, header};
use oci::image::Descriptor;
use oci::{Digest, Reference as ImageReference};
use serde_json::json;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, mpsc, watch};

use crate::app::App;
use crate::config;
use crate::document;
use crate::http::body::{Body, CHUNK};
use crate::http::{Answer, CONTENT_DIGEST, Call, entity_tag, finish, reply};
use crate::ident;
use crate::name::{Name, Tag};
use crate::refusal::{Code, Refusal, chain};
use crate::store::{Reference, Served, blob_unknown, blocking};

/// Tags whose time is remembered; beyond, all are asked about again.
const FRESH_MAX: usize = 10_000;
/// How often the use of a manifest is noted.
const NOTE_EVERY: u64 = 3600;
/// The longest password file.
const SECRET_MAX: u64 = 4096;

/// A proxy that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The password cannot be read.
    #[error("read the password of the upstream from {}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[derive(Debug)]
pub(crate) struct Proxy {
    client: Client,
    upstream: String,
    credentials: Option<Credentials>,
    ttl: Duration,
    fresh: Mutex<HashMap<(Name, Tag), Instant>>,
    /// Who fetches a manifest.
    turns: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
    /// Blobs that are coming.
    flights: Mutex<HashMap<(Name, Digest), Arc<Flight>>>,
}

/// A blob that is coming.
#[derive(Debug)]
struct Flight {
    file: Arc<File>,
    progress: watch::Receiver<Progress>,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    /// Bytes that are in the file.
    Has(u64),
    /// All are there and right.
    Right,
    Failed,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub(crate) fn new(config: &config::Proxy) -> Result<Self, ProxyError> {
        let mut client = ClientConfig::from_env();
        if config.insecure {
            client.insecure_registries.push(config.upstream.clone());
        }
        let password = config.password_file.as_deref().map(|path| {
            secret(path).map_err(|source| ProxyError::Password {
                path: path.to_owned(),
                source,
            })
        });
        let password = password.transpose()?;
        let credentials = password.map(|password| Credentials::basic(&config.username, &password));
        Ok(Self {
            client: Client::new(client),
            upstream: config.upstream.clone(),
            credentials,
            ttl: config.ttl.0,
            fresh: Mutex::default(),
            turns: Mutex::default(),
            flights: Mutex::default(),
        })
    }

    /// The upstream's repository, at what is asked for.
    fn repository(&self, name: &Name, reference: &Reference) -> Result<Repository, Refusal> {
        let text = match reference {
            Reference::Tag(tag) => format!("{}/{name}:{tag}", self.upstream),
            Reference::Digest(digest) => format!("{}/{name}@{digest}", self.upstream),
        };
        let parsed: Result<ImageReference, _> = text.parse();
        let invalid = |_| Refusal::new(Code::NameInvalid, "the upstream can have no such name");
        let reference = parsed.map_err(invalid)?;
        Ok(self.client.repository(&reference, self.credentials.clone()))
    }

    fn is_fresh(&self, name: &Name, tag: &Tag) -> bool {
        let key = (name.clone(), tag.clone());
        let fresh = lock(&self.fresh);
        fresh.get(&key).is_some_and(|at| at.elapsed() < self.ttl)
    }

    fn refresh(&self, name: &Name, tag: &Tag) {
        let mut fresh = lock(&self.fresh);
        if fresh.len() >= FRESH_MAX {
            fresh.clear();
        }
        fresh.insert((name.clone(), tag.clone()), Instant::now());
    }

    /// Waits for the turn to ask for something.
    async fn turn(&self, key: String) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = lock(&self.turns);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&key).and_then(Weak::upgrade);
            let turn = known.unwrap_or_default();
            turns.insert(key, Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}

fn secret(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(SECRET_MAX)
        .read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A manifest of the upstream.
pub(crate) async fn manifest(
    app: &Arc<App>,
    proxy: &Proxy,
    name: &Name,
    reference: &Reference,
) -> Result<Served, Refusal> {
    if let Some(served) = here(app, proxy, name, reference).await? {
        return Ok(served);
    }
    let key = match reference {
        Reference::Tag(tag) => format!("{name}:{tag}"),
        Reference::Digest(digest) => format!("{name}@{digest}"),
    };
    let _turn = proxy.turn(key).await;
    if let Some(served) = here(app, proxy, name, reference).await? {
        return Ok(served);
    }
    match fetch(app, proxy, name, reference).await {
        Ok(()) => {}
        Err(Missed::Here(refusal)) => return Err(refusal),
        Err(Missed::There(error)) if error.kind() == ErrorKind::NotFound => {
            if let Reference::Tag(tag) = reference {
                // it may never have been here
                let _gone = app.store.untag(name, tag).await;
            }
            return Err(upstream_refusal(&error));
        }
        Err(Missed::There(error)) => {
            let why = chain(&error);
            return match app.store.manifest(name, reference).await {
                Ok(served) => {
                    tracing::warn!(
                        repository = name.as_str(),
                        why,
                        "the upstream is away: what is here is served"
                    );
                    Ok(served)
                }
                Err(_) => Err(upstream_refusal(&error)),
            };
        }
    }
    served(app, name, reference).await
}

/// What is here and needs not be asked about.
async fn here(
    app: &Arc<App>,
    proxy: &Proxy,
    name: &Name,
    reference: &Reference,
) -> Result<Option<Served>, Refusal> {
    if let Reference::Tag(tag) = reference
        && !proxy.is_fresh(name, tag)
    {
        return Ok(None);
    }
    match served(app, name, reference).await {
        Ok(served) => Ok(Some(served)),
        Err(refusal) if refusal.code == Code::ManifestUnknown => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// What is here; that it was asked for is noted now and then.
async fn served(app: &Arc<App>, name: &Name, reference: &Reference) -> Result<Served, Refusal> {
    let served = app.store.manifest(name, reference).await?;
    if app.config().gc.unused.is_some() {
        let at = app.store.manifest_record(name, &served.digest)?.at;
        let now = crate::clock::now();
        if now.saturating_sub(at) >= NOTE_EVERY {
            let (name, digest) = (name.clone(), served.digest.clone());
            let noted = app
                .store
                .db
                .write(move |tables| tables.touch(&name, &digest, now));
            noted.await.map_err(|error| Refusal::internal(&error))?;
        }
    }
    Ok(served)
}

/// Why nothing was fetched.
enum Missed {
    There(Box<RegistryError>),
    Here(Refusal),
}

impl From<Refusal> for Missed {
    fn from(refusal: Refusal) -> Self {
        Self::Here(refusal)
    }
}

impl From<RegistryError> for Missed {
    fn from(error: RegistryError) -> Self {
        Self::There(Box::new(error))
    }
}

async fn fetch(
    app: &Arc<App>,
    proxy: &Proxy,
    name: &Name,
    reference: &Reference,
) -> Result<(), Missed> {
    let repository = proxy.repository(name, reference)?;
    let requests = &app.metrics.upstream_requests;
    if let Reference::Tag(tag) = reference
        && let Ok(known) = app.store.digest_of(name, reference)
        && app.store.manifest_record(name, &known).is_ok()
    {
        requests.fetch_add(1, Ordering::Relaxed);
        let head = repository.head_manifest().await?;
        if head.is_some_and(|head| head.digest == known) {
            proxy.refresh(name, tag);
            return Ok(());
        }
    }
    requests.fetch_add(1, Ordering::Relaxed);
    let remote = repository.document().await?;
    let told = Some(remote.descriptor.media_type.as_str());
    let read = document::parse(&remote.bytes, told);
    let read = read.map_err(|error| Refusal::new(Code::ManifestInvalid, chain(&error)))?;
    let tag = match reference {
        Reference::Tag(tag) => Some(tag.clone()),
        Reference::Digest(_) => None,
    };
    let digest = remote.descriptor.digest;
    let store = &app.store;
    store
        .keep_manifest(name, &digest, &read, remote.bytes, tag.clone())
        .await?;
    if let Some(tag) = &tag {
        proxy.refresh(name, tag);
    }
    Ok(())
}

/// What a client is told of a failure of the upstream.
fn upstream_refusal(error: &RegistryError) -> Refusal {
    let why = chain(error);
    let gateway = |status| {
        Refusal::new(Code::Unknown, format!("the upstream registry fails: {why}")).status(status)
    };
    match error.kind() {
        ErrorKind::NotFound => {
            Refusal::new(Code::ManifestUnknown, "manifest unknown").detail(json!({"upstream": why}))
        }
        ErrorKind::TooManyRequests => Refusal::new(
            Code::TooManyRequests,
            format!("the upstream registry: {why}"),
        ),
        ErrorKind::Timeout => gateway(StatusCode::GATEWAY_TIMEOUT),
        _ => gateway(StatusCode::BAD_GATEWAY),
    }
}

/// A blob that the repository does not have here.
pub(crate) async fn blob(call: &Call, proxy: &Proxy, name: &Name, digest: &Digest) -> Answer {
    let app = &call.app;
    // only what a manifest of the upstream's repository names is the repository's
    let size = app.store.named_size(name, digest).await?;
    let size = size.ok_or_else(|| blob_unknown(digest))?;
    let known = app.store.db.read(|reader| reader.content(digest));
    if known.map_err(|error| Refusal::internal(&error))? == Some(size) {
        app.store.claims.claim(digest).await;
        if app
            .store
            .blobs
            .size(digest)
            .is_ok_and(|there| there == size)
        {
            app.store.link(name, digest, size).await?;
            return crate::http::blobs::serve(call, digest, size, || app.store.blobs.open(digest));
        }
    }
    let builder = reply(StatusCode::OK)
        .header(CONTENT_DIGEST, digest.to_string())
        .header(header::ETAG, entity_tag(digest))
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, size);
    if call.method == Method::HEAD {
        return finish(builder, Body::Empty);
    }
    let flight = board(app, proxy, name, digest, size).await?;
    let (pieces, receiver) = mpsc::channel(2);
    tokio::spawn(read_along(flight, size, pieces));
    let body = Body::Stream {
        pieces: receiver,
        left: size,
    };
    finish(builder, body)
}

/// The flight of a blob: the one that is under way, or a new one.
async fn board(
    app: &Arc<App>,
    proxy: &Proxy,
    name: &Name,
    digest: &Digest,
    size: u64,
) -> Result<Arc<Flight>, Refusal> {
    let key = (name.clone(), digest.clone());
    if let Some(flight) = lock(&proxy.flights).get(&key) {
        return Ok(Arc::clone(flight));
    }
    let id = ident::uuid().map_err(|error| Refusal::internal(&error))?;
    let path = app.store.temporary(&format!("fetch-{id}"));
    let own = path.clone();
    let made = blocking(move || {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).open(&own)
    });
    let file = Arc::new(made.await?.map_err(|error| Refusal::internal(&error))?);
    let (progress, receiver) = watch::channel(Progress::Has(0));
    let flight = Arc::new(Flight {
        file: Arc::clone(&file),
        progress: receiver,
    });
    {
        let mut flights = lock(&proxy.flights);
        if let Some(other) = flights.get(&key) {
            let _gone = std::fs::remove_file(&path);
            return Ok(Arc::clone(other));
        }
        flights.insert(key.clone(), Arc::clone(&flight));
    }
    let reference = Reference::Digest(digest.clone());
    let repository = proxy.repository(name, &reference)?;
    let app = Arc::clone(app);
    // it goes on when the client that asked first goes away
    tokio::spawn(async move {
        let result = fly(&app, &repository, &key, size, file, &path, &progress).await;
        if let Some(proxy) = &app.proxy {
            lock(&proxy.flights).remove(&key);
        }
        let end = match result {
            Ok(()) => Progress::Right,
            Err(why) => {
                let digest = &key.1;
                tracing::warn!(%digest, why, "a blob did not come from the upstream");
                let _gone = std::fs::remove_file(&path);
                Progress::Failed
            }
        };
        progress.send_replace(end);
    });
    Ok(flight)
}

async fn fly(
    app: &Arc<App>,
    repository: &Repository,
    (name, digest): &(Name, Digest),
    size: u64,
    file: Arc<File>,
    path: &Path,
    progress: &watch::Sender<Progress>,
) -> Result<(), String> {
    let blob = Descriptor {
        media_type: "application/octet-stream".to_owned(),
        digest: digest.clone(),
        size,
        platform: None,
        annotations: std::collections::BTreeMap::new(),
    };
    app.metrics
        .upstream_requests
        .fetch_add(1, Ordering::Relaxed);
    let opened = repository.fetch_blob(&blob).await;
    let mut stream = opened.map_err(|error| chain(&error))?;
    let mut written = 0;
    while let Some(piece) = stream.chunk().await.map_err(|error| chain(&error))? {
        let length = piece.len() as u64;
        let own = Arc::clone(&file);
        let writing = blocking(move || (&*own).write_all(&piece)).await;
        let writing = writing.map_err(|refusal| refusal.message.into_owned())?;
        writing.map_err(|error| chain(&error))?;
        written += length;
        app.metrics
            .upstream_bytes
            .fetch_add(length, Ordering::Relaxed);
        progress.send_replace(Progress::Has(written));
    }
    let synced = blocking(move || file.sync_data()).await;
    let synced = synced.map_err(|refusal| refusal.message.into_owned())?;
    synced.map_err(|error| chain(&error))?;
    let added = app.store.add(name, digest, size, path.to_owned()).await;
    added.map_err(|refusal| refusal.message.into_owned())
}

/// Sends a growing file to one client.
async fn read_along(flight: Arc<Flight>, size: u64, pieces: mpsc::Sender<io::Result<Bytes>>) {
    let result = follow(&flight, size, &pieces).await;
    if let Err(error) = result {
        // the client may have gone away
        drop(pieces.send(Err(error)).await);
    }
}

async fn follow(
    flight: &Flight,
    size: u64,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let failed = |text: &str| io::Error::other(text.to_owned());
    let mut progress = flight.progress.clone();
    let mut at = 0;
    while at < size {
        let limit = match *progress.borrow_and_update() {
            Progress::Has(bytes) => bytes.min(size - 1),
            Progress::Right => size,
            Progress::Failed => return Err(failed("the upstream did not send all of the blob")),
        };
        if at >= limit {
            let changed = progress.changed().await;
            changed.map_err(|_| failed("the blob is not fetched any more"))?;
            continue;
        }
        let want = usize::try_from(limit - at).map_or(CHUNK, |left| left.min(CHUNK));
        // its name changes when all is there; the file stays the same
        let own = Arc::clone(&flight.file);
        let read = blocking(move || {
            let mut buffer = vec![0; want];
            let count = rustix::io::pread(&*own, &mut buffer[..], at)?;
            buffer.truncate(count);
            Ok::<_, io::Error>(buffer)
        });
        let buffer = read.await.map_err(|_| failed("a thread failed"))??;
        if buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += buffer.len() as u64;
        if pieces.send(Ok(buffer.into())).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
