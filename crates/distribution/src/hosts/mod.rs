//! What files say about registries: mirrors, addresses, certificates, headers.
//!
//! Two kinds of files are read, each when a registry is used: Gorae's own, `registries.d/*.toml`,
//! and those of containerd, `certs.d/<registry>/hosts.toml`. The first that names the registry
//! decides alone. A file that cannot be used is an error that names it, never a silent default: it
//! may be what keeps a pull off the public network.

mod containerd;
mod own;
mod table;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, Uri};

use crate::config::HostFiles;
use crate::location::Origin;

/// How long it is believed what files said: they are read again for the next pull, not for each
/// request of one.
const LIFE: Duration = Duration::from_secs(1);
/// The longest file.
const FILE_MAX: u64 = 1 << 20;
/// Addresses that are kept in mind.
const SITES_MAX: usize = 4096;

/// Why a file about registries cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// The file or its folder cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the file says is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

/// One address, and how it is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Site {
    /// `https://mirror.example:5000`, without a path; none for the registry's own.
    pub(crate) address: Option<String>,
    /// Where the registry's protocol begins, `/v2` as a rule.
    pub(crate) api: String,
    /// Whether manifests and blobs are fetched from there by digest.
    pub(crate) pull: bool,
    /// Whether tags are looked up there.
    pub(crate) resolve: bool,
    /// Plain http at the registry's own address.
    pub(crate) plain_http: bool,
    /// Whether its certificate is taken as it is.
    pub(crate) skip_verify: bool,
    /// Further authorities, PEM files.
    pub(crate) ca: Vec<PathBuf>,
    /// Certificate and key of the client, PEM files.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Headers of each request to there.
    pub(crate) headers: HeaderMap,
    /// The file that says so.
    pub(crate) file: PathBuf,
}

impl Site {
    fn new(file: &Path) -> Self {
        Self {
            api: "/v2".to_owned(),
            pull: true,
            resolve: true,
            file: file.to_owned(),
            ..Self::default()
        }
    }

    /// The name that this address has among the addresses.
    pub(crate) fn key(&self) -> String {
        let address = self.address.as_deref().unwrap_or_default();
        format!("{address}{}", self.api)
    }

    /// Takes an address apart: `https://host:port/path`.
    fn set_address(&mut self, text: &str, override_path: bool) -> Result<(), String> {
        let wrong = || format!("{text:?} is no http or https address of a registry");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let origin = Origin::of(&uri).ok_or_else(wrong)?;
        if uri.query().is_some() {
            return Err(wrong());
        }
        let scheme = if origin.https { "https" } else { "http" };
        let authority = uri.authority().ok_or_else(wrong)?;
        self.address = Some(format!("{scheme}://{authority}"));
        let path = uri.path().trim_end_matches('/');
        self.api = match (override_path, path) {
            (true, path) => path.to_owned(),
            (false, "" | "/v2") => "/v2".to_owned(),
            (false, path) => format!("{path}/v2"),
        };
        Ok(())
    }
}

/// What holds for a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The registry itself, where something is said of it.
    pub(crate) own: Option<Site>,
    /// Who is asked before it.
    pub(crate) mirrors: Vec<Site>,
}

/// The files, and what they said last.
#[derive(Debug)]
pub(crate) struct Hosts {
    files: HostFiles,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: HashMap<String, (Instant, Arc<Rules>)>,
    by_key: HashMap<String, Arc<Site>>,
    by_origin: HashMap<Origin, Arc<Site>>,
}

impl Hosts {
    pub(crate) fn new(files: HostFiles) -> Self {
        Self {
            files,
            state: Mutex::default(),
        }
    }

    /// What holds for a registry now.
    pub(crate) fn rules(&self, domain: &str) -> Result<Arc<Rules>, HostsError> {
        if let Some((when, rules)) = self.lock().rules.get(domain)
            && when.elapsed() < LIFE
        {
            return Ok(Arc::clone(rules));
        }
        let rules = Arc::new(self.read(domain)?);
        let mut state = self.lock();
        if state.rules.len() + state.by_key.len() > SITES_MAX {
            *state = State::default();
        }
        for mirror in &rules.mirrors {
            let mirror = Arc::new(mirror.clone());
            if let Some(origin) = origin_of(&mirror) {
                state.by_origin.insert(origin, Arc::clone(&mirror));
            }
            state.by_key.insert(mirror.key(), mirror);
        }
        let known = (Instant::now(), Arc::clone(&rules));
        state.rules.insert(domain.to_owned(), known);
        Ok(rules)
    }

    /// Notes what is said of a registry's own address.
    pub(crate) fn bind(&self, origin: &Origin, site: &Site) {
        let mut state = self.lock();
        state
            .by_origin
            .insert(origin.clone(), Arc::new(site.clone()));
    }

    /// The mirror of this name.
    pub(crate) fn site(&self, key: &str) -> Option<Arc<Site>> {
        self.lock().by_key.get(key).cloned()
    }

    /// What is said of a host, whatever it is used for.
    pub(crate) fn at(&self, origin: &Origin) -> Option<Arc<Site>> {
        self.lock().by_origin.get(origin).cloned()
    }

    /// The file that decides about a registry or a mirror.
    pub(crate) fn file(&self, domain: &str) -> Option<PathBuf> {
        if let Some(site) = self.site(domain) {
            return Some(site.file.clone());
        }
        let rules = self.rules(domain).ok()?;
        rules.own.as_ref().map(|own| own.file.clone())
    }

    fn read(&self, domain: &str) -> Result<Rules, HostsError> {
        for folder in &self.files.own {
            if let Some(rules) = own::read(folder, domain)? {
                return Ok(rules);
            }
        }
        for folder in &self.files.containerd {
            if let Some(rules) = containerd::read(folder, domain)? {
                return Ok(rules);
            }
        }
        Ok(Rules::default())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn origin_of(site: &Site) -> Option<Origin> {
    Origin::of(&site.address.as_deref()?.parse().ok()?)
}

/// Reads a file as a whole; nothing where there is none.
fn read_file(path: &Path) -> Result<Option<String>, HostsError> {
    let failed = |source| HostsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, FILE_MAX + 1), &mut text).map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        let problem = format!("the file is longer than {FILE_MAX} bytes");
        return Err(failed(io::Error::other(problem)));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
