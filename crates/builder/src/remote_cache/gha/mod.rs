//! Caches in the cache service of GitHub's runners (`type=gha`).
//!
//! Entries are known by keys and never change: layers by their digests, as BuildKit has them, and the
//! document by a name of our own with a number behind it, of which the last is the one that counts.

mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::stream;
use oci::image::Descriptor;
use serde::Deserialize;

use self::service::{Entry, Service};
use super::document::{self, Document};
use super::{Bundle, records};
use crate::cache::ImportedRecord;
use crate::error::{Error, Result};
use crate::export::layers::read_layer;
use crate::job::{Job, RemoteCache};
use crate::progress::VertexProgress;
use crate::source::blobs::{BlobSource, BlobStream, Opening};

/// The version of the keys.
const KEYS: &str = "1";
/// The name of the documents where none is given.
const SCOPE: &str = "buildkit";
/// The longest name and the longest token.
const SCOPE_MAX: usize = 256;
const TOKEN_MAX: usize = 64 << 10;
/// Branches whose caches are asked.
const SCOPES_MAX: usize = 16;
/// How often another number is tried for a document whose number is taken.
const TRIES: u64 = 8;
/// The bit of a permission that lets a token write.
const WRITE: u32 = 2;

/// A branch whose caches a token gives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Scope {
    #[serde(rename = "Scope")]
    name: String,
    #[serde(rename = "Permission", default)]
    permission: u32,
}

fn attr<'a>(cache: &'a RemoteCache, name: &str) -> Option<&'a str> {
    let value = cache.attrs.get(name).map(String::as_str);
    value.filter(|value| !value.is_empty())
}

/// Where the service is, and whether it is asked by the second version of its interface: the newer is
/// taken unless the client wants the first.
fn address(cache: &RemoteCache) -> Result<(&str, bool)> {
    let wanted = match attr(cache, "version") {
        None => None,
        Some("1") => Some(false),
        Some("2") => Some(true),
        Some(other) => {
            let text = format!("failed to parse api version {other:?}, expected 1 or 2");
            return Err(Error::invalid(text));
        }
    };
    let (first, second) = (attr(cache, "url"), attr(cache, "url_v2"));
    let found = match (wanted, second) {
        (Some(false), _) | (None, None) => first.map(|url| (url, false)),
        (Some(true), None) => first.map(|url| (url, true)),
        (_, Some(url)) => Some((url, true)),
    };
    found.ok_or_else(|| Error::invalid("url not set for github actions cache"))
}

/// The name of the documents.
fn scope(cache: &RemoteCache) -> Result<&str> {
    let scope = attr(cache, "scope").unwrap_or(SCOPE);
    // keys are told apart by commas
    if scope.len() > SCOPE_MAX || scope.contains([',', '#']) {
        return Err(Error::invalid(format!(
            "invalid scope of a github actions cache: at most {SCOPE_MAX} characters, none of them , or #"
        )));
    }
    Ok(scope)
}

/// Checks the attributes.
pub(super) fn check(cache: &RemoteCache) -> Result<()> {
    let token = attr(cache, "token");
    let token = token.ok_or_else(|| Error::invalid("token not set for github actions cache"))?;
    if token.len() > TOKEN_MAX {
        return Err(Error::invalid(
            "the token of a github actions cache is too long",
        ));
    }
    scope(cache)?;
    address(cache).map(drop)
}

/// The branches that a token names; one that is no JWT gives one without a name.
///
/// Nothing depends on whether the token is genuine: the service decides what it allows.
fn scopes(token: &str) -> Vec<Scope> {
    #[derive(Deserialize)]
    struct Claims {
        ac: String,
    }
    let read = || -> Option<Vec<Scope>> {
        let claims = token.split('.').nth(1)?;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let claims = engine.decode(claims.trim_end_matches('=')).ok()?;
        let claims: Claims = serde_json::from_slice(&claims).ok()?;
        serde_json::from_str(&claims.ac).ok()
    };
    let found = read().filter(|scopes| !scopes.is_empty());
    let mut scopes = found.unwrap_or_else(|| {
        vec![Scope {
            name: String::new(),
            permission: u32::MAX,
        }]
    });
    scopes.truncate(SCOPES_MAX);
    scopes
}

/// A cache in the service.
#[derive(Clone, Debug)]
struct Cache {
    service: Service,
    scopes: Vec<Scope>,
    name: String,
}

fn blob_key(blob: &Descriptor) -> String {
    format!("buildkit-blob-{KEYS}-{}", blob.digest)
}

impl Cache {
    fn open(job: &Arc<Job>, cache: &RemoteCache) -> Result<Self> {
        check(cache)?;
        let (address, second) = address(cache)?;
        let token = attr(cache, "token").unwrap_or_default();
        let client = job.builder()?.engine.downloader();
        Ok(Self {
            service: Service::new(client, address, second, token)?,
            scopes: scopes(token),
            name: scope(cache)?.to_owned(),
        })
    }

    /// What the names of a branch's documents begin with.
    fn index(&self, scope: &str) -> String {
        let branch = storage::digest_of(scope.as_bytes());
        let short: String = branch.hex().chars().take(8).collect();
        // a name of our own: what other build clients keep there means other things
        format!("index-gorae-{}-{KEYS}-{short}#", self.name)
    }

    /// The blob of a layer.
    async fn blob(&self, blob: &Descriptor) -> Result<Option<Entry>> {
        let key = blob_key(blob);
        let found = self.service.find(&key).await?;
        Ok(found.filter(|entry| entry.key == key))
    }

    /// Saves a document under the number after the last.
    async fn save_index(&self, document: &Bytes) -> Result<()> {
        let mut writable = self.scopes.iter();
        let writable = writable.rfind(|scope| scope.permission & WRITE != 0);
        let none = || Error::forbidden("the token of the github actions cache allows no writing");
        let name = self.index(&writable.ok_or_else(none)?.name);
        let last = self.service.find(&name).await?;
        let number = |entry: Entry| entry.key.strip_prefix(&name)?.parse::<u64>().ok();
        let last = last.and_then(number).unwrap_or(0);
        for next in 1..=TRIES {
            let key = format!("{name}{}", last.saturating_add(next));
            let size = document.len() as u64;
            // somebody else saves at the same time, or has died while he did
            if let Some(mut upload) = self.service.save(&key, size).await? {
                upload.write(document.clone()).await?;
                return upload.finish().await;
            }
        }
        Err(Error::conflict(
            "the index of the github actions cache is taken",
        ))
    }
}

pub(super) async fn export(
    job: &Arc<Job>,
    cache: &RemoteCache,
    bundle: Bundle,
    progress: &VertexProgress,
) -> Result<BTreeMap<String, String>> {
    let cache = Cache::open(job, cache)?;
    let engine = &job.builder()?.engine;
    for layer in &bundle.layers {
        if cache.blob(&layer.blob).await?.is_some() {
            continue;
        }
        let _part = progress.part(format!("writing layer {}", layer.blob.digest));
        let key = blob_key(&layer.blob);
        // one that somebody else saves meanwhile is as good
        let Some(mut upload) = cache.service.save(&key, layer.blob.size).await? else {
            continue;
        };
        read_layer(engine, layer, |mut pieces| async move {
            while let Some(piece) = pieces.recv().await {
                upload.write(piece).await?;
            }
            Ok(upload)
        })
        .await?
        .finish()
        .await?;
    }
    let document = Bytes::from(bundle.writer.finish()?);
    let _part = progress.part("writing index");
    cache.save_index(&document).await?;
    Ok(BTreeMap::new())
}

pub(super) async fn import(
    job: &Arc<Job>,
    cache: &RemoteCache,
    progress: &VertexProgress,
) -> Result<Vec<ImportedRecord>> {
    let cache = Cache::open(job, cache)?;
    let mut all = Vec::new();
    for scope in &cache.scopes {
        let Some(entry) = cache.service.find(&cache.index(&scope.name)).await? else {
            continue;
        };
        let bytes = cache.service.read_all(&entry, document::MAX).await?;
        let document = Document::read(&bytes)?;
        all.extend(records(job, Arc::new(cache.clone()), &document, progress).await?);
    }
    Ok(all)
}

impl BlobSource for Cache {
    fn open<'a>(&'a self, blob: &'a Descriptor) -> Opening<'a> {
        Box::pin(async move {
            let missing = || Error::not_found(format!("blob {} not found", blob.digest));
            let entry = self.blob(blob).await?.ok_or_else(missing)?;
            let asked = self.service.read(&entry).await?;
            let stream = stream::try_unfold(asked, |mut asked| async move {
                let piece = Service::piece(&mut asked).await?;
                Ok(piece.map(|piece| (piece, asked)))
            });
            Ok(Box::pin(stream) as BlobStream)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(access: &str) -> String {
        let claims = serde_json::json!({"ac": access}).to_string();
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        format!("h.{}.s", engine.encode(claims))
    }

    #[test]
    fn tokens_name_branches() {
        let found = scopes(&token(
            r#"[{"Scope":"refs/heads/main","Permission":3},{"Scope":"refs/heads/old","Permission":1}]"#,
        ));
        let found: Vec<_> = found.iter().map(|s| (&*s.name, s.permission)).collect();
        assert_eq!(found, [("refs/heads/main", 3), ("refs/heads/old", 1)]);
        for plain in ["secret", "a.b.c", "a.!.c", "", &token("[]"), &token("1")] {
            assert_eq!(scopes(plain)[0].name, "", "{plain}");
        }
        let many = vec![r#"{"Scope":"x"}"#; 1000].join(",");
        assert_eq!(scopes(&token(&format!("[{many}]"))).len(), SCOPES_MAX);
    }

    #[test]
    fn attributes() {
        let cache = |attrs: &[(&str, &str)]| RemoteCache {
            kind: "gha".to_owned(),
            attrs: attrs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let both = [("url", "a"), ("url_v2", "b"), ("token", "t")];
        let with = |version| [both.as_slice(), &[("version", version)]].concat();
        for (attrs, expected) in [
            (both.to_vec(), Some(("b", true))),
            (with("1"), Some(("a", false))),
            (with("2"), Some(("b", true))),
            (with("3"), None),
            (vec![("url", "a"), ("token", "t")], Some(("a", false))),
            (
                vec![("url", "a"), ("version", "2"), ("token", "t")],
                Some(("a", true)),
            ),
            (vec![("url_v2", "b"), ("token", "t")], Some(("b", true))),
            (
                vec![("url_v2", "b"), ("version", "1"), ("token", "t")],
                None,
            ),
            (vec![("token", "t")], None),
        ] {
            let cache = cache(&attrs);
            assert_eq!(address(&cache).ok(), expected, "{attrs:?}");
            assert_eq!(check(&cache).is_ok(), expected.is_some(), "{attrs:?}");
        }
        for wrong in [
            &[("url", "a")][..],
            &[("url", "a"), ("token", "")],
            &[("url", "a"), ("token", "t"), ("scope", "a,b")],
            &[("url", "a"), ("token", &"t".repeat(TOKEN_MAX + 1))],
        ] {
            assert!(check(&cache(wrong)).is_err());
        }
    }
}
