//! The client and its view of one repository.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use oci::{Digest, Platform, Reference};
use tokio::sync::Semaphore;

use crate::answer::Answer;
use crate::auth::Tokens;
use crate::blob::BlobStream;
use crate::challenge::{Challenge, parse};
use crate::config::ClientConfig;
use crate::credentials::Credentials;
use crate::endpoint::{Base, InsecureHosts};
use crate::error::RegistryError;
use crate::exchange::{Exchange, Message};
use crate::hosts::Hosts;
use crate::resolve::Resolved;

/// How long it is believed what a registry said about itself.
const PING_LIFE: Duration = Duration::from_secs(300);
const REGISTRIES_MAX: usize = 256;

/// A registry client; clones share connections, tokens and limits.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ClientConfig,
    pub(crate) exchange: Exchange,
    pub(crate) tokens: Tokens,
    insecure: Arc<InsecureHosts>,
    hosts: Arc<Hosts>,
    registries: Mutex<HashMap<String, Registry>>,
}

/// What is known of a registry.
#[derive(Debug)]
struct Registry {
    downloads: Arc<Semaphore>,
    ping: Option<(Instant, Arc<Ping>)>,
}

/// A registry's answer to `GET /v2/`.
#[derive(Debug)]
pub(crate) struct Ping {
    pub(crate) base: Base,
    pub(crate) challenges: Vec<Challenge>,
}

/// One repository of a registry, with the credentials to use there.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(crate) client: Client,
    pub(crate) reference: Reference,
    pub(crate) credentials: Option<Arc<Credentials>>,
    /// The mirror that is asked in the registry's place.
    mirror: Option<Arc<str>>,
    /// Whether tags are looked up there.
    resolves: bool,
    /// Whether the mirror is told which registry it stands for.
    told: bool,
}

impl Repository {
    /// The name that it is asked for by.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Who is asked: the reference's registry, or a mirror by its address.
    pub(crate) fn domain(&self) -> &str {
        match &self.mirror {
            Some(mirror) => mirror,
            None => self.reference.domain(),
        }
    }

    /// The registry that a mirror stands for, where the mirror is to be told.
    pub(crate) fn stands_for(&self) -> Option<&str> {
        self.told.then(|| self.reference.domain())
    }

    /// Whether it may be asked what a tag means; a mirror may be trusted with content alone, which
    /// is checked by its digest.
    #[must_use]
    pub fn resolves(&self) -> bool {
        self.resolves
    }

    /// The same place, asked for a digest.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> Self {
        Self {
            reference: self.reference.with_digest(digest.clone()),
            ..self.clone()
        }
    }
}

impl Client {
    /// Makes a client; nothing is read or connected before the first request.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        let insecure = Arc::new(InsecureHosts::new(&config.insecure_registries));
        let hosts = Arc::new(Hosts::new(config.hosts.clone()));
        let shared = Shared {
            exchange: Exchange::new(&config, insecure.clone(), hosts.clone()),
            hosts,
            config,
            tokens: Tokens::default(),
            insecure,
            registries: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The same client for one registry that need not prove who it is, and may speak plain http.
    ///
    /// Nothing is shared with this one: neither connections nor tokens.
    #[must_use]
    pub fn trusting(&self, domain: &str) -> Self {
        let mut config = self.shared.config.clone();
        config.insecure_registries.push(domain.to_owned());
        Self::new(config)
    }

    /// The repository of a reference.
    #[must_use]
    pub fn repository(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Repository {
        Repository {
            client: self.clone(),
            reference: reference.clone(),
            credentials: credentials.filter(|c| !c.is_empty()).map(Arc::new),
            mirror: None,
            resolves: true,
            told: false,
        }
    }

    /// The repository of a reference at a mirror of its registry, `https://mirror.example/`.
    ///
    /// What it sends is checked by digests as anybody's is; it gets no credentials, which are for
    /// the registry itself.
    #[must_use]
    pub fn mirrored(&self, reference: &Reference, mirror: &str) -> Repository {
        Repository {
            mirror: Some(mirror.into()),
            ..self.repository(reference, None)
        }
    }

    /// The mirrors that files name for a reference's registry, in the order in which they are asked.
    ///
    /// # Errors
    /// When a file about registries cannot be used.
    pub fn mirrors(&self, reference: &Reference) -> Result<Vec<Repository>, RegistryError> {
        let rules = self.shared.hosts.rules(reference.domain())?;
        let mirrors = rules.mirrors.iter().filter(|site| site.pull);
        let mirrors = mirrors.map(|site| Repository {
            resolves: site.resolve,
            told: true,
            ..self.mirrored(reference, &site.key())
        });
        Ok(mirrors.collect())
    }

    /// Finds the manifest that a reference means on a platform.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, has no such image, or sends what is none.
    pub async fn resolve(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
        platform: &Platform,
    ) -> Result<Resolved, RegistryError> {
        self.repository(reference, credentials)
            .resolve(platform)
            .await
    }

    /// Begins to read a blob of a repository. See [`BlobStream`].
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or does not have the blob.
    pub async fn fetch_blob(
        &self,
        repository: &Repository,
        blob: &oci::image::Descriptor,
    ) -> Result<BlobStream, RegistryError> {
        repository.fetch_blob(blob).await
    }

    /// The places for blob streams of one registry.
    pub(crate) fn downloads(&self, domain: &str) -> Arc<Semaphore> {
        self.with_registry(domain, |registry| registry.downloads.clone())
    }

    /// What the registry said at its door, asked again after a while.
    pub(crate) async fn ping(&self, domain: &str) -> Result<Arc<Ping>, RegistryError> {
        let known = self.with_registry(domain, |registry| registry.ping.clone());
        if let Some((when, ping)) = known
            && when.elapsed() < PING_LIFE
        {
            return Ok(ping);
        }
        let ping = Arc::new(self.knock(domain).await?);
        let kept = ping.clone();
        self.with_registry(domain, |registry| {
            registry.ping = Some((Instant::now(), kept));
        });
        Ok(ping)
    }

    /// The addresses at which a registry may be.
    pub(crate) fn bases(&self, domain: &str) -> Result<Vec<Base>, RegistryError> {
        if let Some(site) = self.shared.hosts.site(domain) {
            let address = site.address.as_deref().unwrap_or_default();
            let base = Base::configured(address, &site.api);
            let name = domain.to_owned();
            return base
                .map(|base| vec![base])
                .ok_or(RegistryError::RegistryName { name });
        }
        if is_mirror(domain) {
            return self.shared.insecure.bases(domain);
        }
        let usual = self.shared.insecure.bases(domain)?;
        let rules = self.shared.hosts.rules(domain)?;
        let Some(own) = &rules.own else {
            return Ok(usual);
        };
        let bases = match &own.address {
            Some(address) => Base::configured(address, &own.api).into_iter().collect(),
            None if own.plain_http => usual.iter().filter_map(Base::plain).take(1).collect(),
            None => usual,
        };
        for base in &bases {
            self.shared.hosts.bind(&base.origin, own);
        }
        Ok(bases)
    }

    /// The file that decides how a registry or a mirror is reached.
    pub(crate) fn decided_by(&self, domain: &str) -> Option<PathBuf> {
        self.shared.hosts.file(domain)
    }

    /// Forgets what a registry said, because it does not hold any more.
    pub(crate) fn forget(&self, domain: &str) {
        self.with_registry(domain, |registry| registry.ping = None);
    }

    fn with_registry<T>(&self, domain: &str, then: impl FnOnce(&mut Registry) -> T) -> T {
        let registries = self.shared.registries.lock();
        let mut registries = registries.unwrap_or_else(PoisonError::into_inner);
        if registries.len() >= REGISTRIES_MAX && !registries.contains_key(domain) {
            registries.clear();
        }
        let places = self.shared.config.max_connections_per_host.max(1);
        then(
            registries
                .entry(domain.to_owned())
                .or_insert_with(|| Registry {
                    downloads: Arc::new(Semaphore::new(places)),
                    ping: None,
                }),
        )
    }

    /// Tries a registry's addresses until one speaks its protocol.
    async fn knock(&self, domain: &str) -> Result<Ping, RegistryError> {
        let bases = self.bases(domain)?;
        let mut first_failure = None;
        let mut left = bases.len();
        for base in bases {
            left -= 1;
            match self.knock_at(domain, &base).await {
                Ok(answer) if left > 0 && wants_tls(&base, &answer) => {
                    first_failure = Some(answer.into_error().await);
                }
                Ok(answer) => {
                    let challenges = parse(&answer.headers);
                    return Ok(Ping { base, challenges });
                }
                Err(error) if left > 0 && worth_another(&base, &error) => {
                    first_failure = Some(error);
                }
                // Where neither protocol is spoken, the first try's failure tells more.
                Err(error) if is_other_protocol(&error) => {
                    return Err(first_failure.unwrap_or(error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(
            first_failure.unwrap_or_else(|| RegistryError::RegistryName {
                name: domain.to_owned(),
            }),
        )
    }

    async fn knock_at(&self, domain: &str, base: &Base) -> Result<Answer, RegistryError> {
        let uri = base.api("/").unwrap_or_else(|| base.uri.clone());
        let mut message = Message::new(Method::GET, uri);
        message.downgrade = base.insecure;
        // Where another scheme, or the registry behind a mirror, is tried next, a broken connection
        // is an answer, too.
        match base.insecure || is_mirror(domain) {
            true => self.shared.exchange.follow(&message).await,
            false => self.shared.exchange.patient(&message).await,
        }
    }
}

/// A mirror is named by its address, with the protocol.
fn is_mirror(domain: &str) -> bool {
    domain.contains("://")
}

/// A TLS server tells a plain http client so by `400 Bad Request`.
fn wants_tls(base: &Base, answer: &Answer) -> bool {
    !base.origin.https && answer.status == StatusCode::BAD_REQUEST
}

fn is_other_protocol(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Exchange { source, .. } if source.is_other_protocol())
}

/// Whether the other scheme may succeed: the port is the same if the name has one, so a refused
/// connection is refused for both.
fn worth_another(base: &Base, error: &RegistryError) -> bool {
    let unreachable = match error {
        RegistryError::Exchange { source, .. } => source.is_unreachable(),
        _ => false,
    };
    is_other_protocol(error) || (unreachable && !base.has_port())
}
