//! What a registry keeps: blobs, manifests, tags, and the rules by which they come and go.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oci::Digest;
use serde_json::json;
use storage::{BlobStore, ContentError, OpenError};

use crate::cache::Cache;
use crate::claims::Claims;
use crate::clock;
use crate::config::Config;
use crate::db::records::{Manifest, Referrer};
use crate::db::tables::{Bounds, Misfit, Need, Put};
use crate::db::{Db, DbError};
use crate::document::{self, Document};
use crate::name::{Name, Tag};
use crate::refusal::{Code, Refusal};
use crate::uploads::Uploads;

/// How many repositories are looked through for a blob that a client wants mounted from anywhere.
const HOLDERS_MAX: usize = 1000;

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder of blobs cannot be used.
    #[error("open the content store of the registry")]
    Content(#[source] OpenError),
    /// The database cannot be used.
    #[error("open the database of the registry")]
    Db(#[source] DbError),
    /// The folder of uploads cannot be used.
    #[error("open the uploads in {}", path.display())]
    Uploads {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A manifest as it is served.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) digest: Digest,
    pub(crate) media_type: Arc<str>,
    pub(crate) bytes: Bytes,
}

/// A registry's folder, opened.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) blobs: BlobStore,
    temporary: PathBuf,
    /// Another store, whose equal blobs are the same files.
    pub(crate) shared: Option<BlobStore>,
    pub(crate) db: Db,
    pub(crate) claims: Claims,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) bounds: Bounds,
    pub(crate) cache: Cache,
    pub(crate) blob_max: u64,
    pub(crate) manifest_max: u64,
}

/// By what a client names a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl Store {
    /// Opens a folder, making what is not there.
    pub(crate) fn open(config: &Config) -> Result<Self, StoreError> {
        let root = &config.root;
        let uploads = root.join("uploads");
        let blobs = BlobStore::open_folder(&root.join("content"), &root.join("tmp"));
        let blobs = blobs.map_err(StoreError::Content)?;
        clean(&root.join("tmp"));
        let shared = config.share_content.as_ref().map(|content| {
            // nothing is ever written to the other store
            BlobStore::open_folder(content, &root.join("tmp"))
        });
        let bounds: Vec<(String, u64)> = config
            .quota
            .iter()
            .map(|quota| (quota.prefix.clone(), quota.size.0))
            .collect();
        let opened = |source| StoreError::Uploads {
            path: uploads.clone(),
            source,
        };
        Ok(Self {
            blobs,
            temporary: root.join("tmp"),
            shared: shared.transpose().map_err(StoreError::Content)?,
            db: Db::open(&root.join("registry.db")).map_err(StoreError::Db)?,
            claims: Claims::new(config.gc.grace.0),
            uploads: Arc::new(
                Uploads::open(uploads.clone(), config.limits.uploads).map_err(opened)?,
            ),
            bounds: bounds.into(),
            cache: Cache::new(config.manifest_cache.0),
            blob_max: config.blob_max_size.map_or(u64::MAX, |size| size.0),
            manifest_max: config.manifest_max_size.0,
        })
    }

    /// The length of a blob, where the repository may read it.
    pub(crate) fn blob(&self, repository: &Name, digest: &Digest) -> Result<u64, Refusal> {
        let found = self.db.read(|reader| reader.link(repository, digest));
        match found.map_err(|error| Refusal::internal(&error))? {
            Some((size, _)) => Ok(size),
            None => Err(blob_unknown(digest)),
        }
    }

    /// Makes a verified file, which is on the disk, a blob of a repository.
    pub(crate) async fn add(
        &self,
        repository: &Name,
        digest: &Digest,
        size: u64,
        file: PathBuf,
    ) -> Result<(), Refusal> {
        self.claims.claim(digest).await;
        let blobs = self.blobs.clone();
        let shared = self.shared.clone();
        let wanted = digest.clone();
        let adopt = move || -> Result<(), ContentError> {
            if blobs.size(&wanted).is_ok_and(|there| there == size) {
                let _gone = std::fs::remove_file(&file);
                return Ok(());
            }
            blobs.adopt(&file, &wanted)?;
            if let Some(shared) = shared {
                blobs.share(&shared, &wanted, size)?;
            }
            Ok(())
        };
        blocking(adopt).await?.map_err(|e| Refusal::internal(&e))?;
        self.link(repository, digest, size).await
    }

    /// Makes content that is in the store readable through a repository.
    pub(crate) async fn link(
        &self,
        repository: &Name,
        digest: &Digest,
        size: u64,
    ) -> Result<(), Refusal> {
        let bounds = Arc::clone(&self.bounds);
        let (name, wanted) = (repository.clone(), digest.clone());
        let now = clock::now();
        let written = self
            .db
            .write(move |tables| tables.link(&name, &wanted, size, &bounds, now));
        written
            .await
            .map_err(|error| Refusal::internal(&error))?
            .map_err(misfit)
    }

    /// Finds content for a mount: in the named repository, or in any that the client may read.
    pub(crate) async fn mountable(
        &self,
        digest: &Digest,
        from: Option<&Name>,
        may_pull: impl Fn(&Name) -> bool,
    ) -> Result<Option<(Name, u64)>, Refusal> {
        self.claims.claim(digest).await;
        let found = self.db.read(|reader| {
            let all = match from {
                Some(from) => vec![from.clone()],
                None => reader.holders(digest, HOLDERS_MAX)?,
            };
            for name in all.into_iter().filter(|name| may_pull(name)) {
                if let Some((size, _)) = reader.link(&name, digest)? {
                    return Ok(Some((name, size)));
                }
            }
            Ok(None)
        });
        found.map_err(|error| Refusal::internal(&error))
    }

    /// What a reference is on.
    pub(crate) fn digest_of(
        &self,
        repository: &Name,
        reference: &Reference,
    ) -> Result<Digest, Refusal> {
        let tag = match reference {
            Reference::Digest(digest) => return Ok(digest.clone()),
            Reference::Tag(tag) => tag,
        };
        let found = self.db.read(|reader| reader.tag(repository, tag));
        let found = found.map_err(|error| Refusal::internal(&error))?;
        found.map(|(digest, _)| digest).ok_or_else(|| {
            Refusal::new(Code::ManifestUnknown, "manifest unknown")
                .detail(json!({"name": repository.as_str(), "tag": tag.as_str()}))
        })
    }

    /// A manifest's row, without its bytes.
    pub(crate) fn manifest_record(
        &self,
        repository: &Name,
        digest: &Digest,
    ) -> Result<Manifest, Refusal> {
        let found = self.db.read(|reader| reader.manifest(repository, digest));
        let found = found.map_err(|error| Refusal::internal(&error))?;
        found.ok_or_else(|| manifest_unknown(repository, digest))
    }

    /// A manifest, from memory where it was asked for lately.
    pub(crate) async fn manifest(
        &self,
        repository: &Name,
        reference: &Reference,
    ) -> Result<Served, Refusal> {
        let digest = self.digest_of(repository, reference)?;
        if let Some(served) = self.cache.get(repository, &digest) {
            return Ok(served);
        }
        let record = self.manifest_record(repository, &digest)?;
        let blobs = self.blobs.clone();
        let wanted = digest.clone();
        let max = record.size;
        let read = blocking(move || blobs.read_small(&wanted, max)).await?;
        let bytes = read.map_err(|error| Refusal::internal(&error))?;
        let served = Served {
            digest,
            media_type: record.media_type.as_str().into(),
            bytes: bytes.into(),
        };
        self.cache.put(repository, &served);
        // who removed it meanwhile may have looked into the cache too early
        if self.manifest_record(repository, &served.digest).is_err() {
            self.cache.forget(repository, &served.digest);
        }
        Ok(served)
    }

    /// Puts a manifest that was read and whose digest fits, and whose content the repository has.
    pub(crate) async fn put_manifest(
        &self,
        repository: &Name,
        digest: &Digest,
        document: &Document,
        bytes: Bytes,
        tag: Option<Tag>,
    ) -> Result<(), Refusal> {
        let needs = needs(document);
        self.write_manifest(repository, digest, document, bytes, tag, needs)
            .await
    }

    /// Puts a manifest whose content comes when it is asked for.
    pub(crate) async fn keep_manifest(
        &self,
        repository: &Name,
        digest: &Digest,
        document: &Document,
        bytes: Bytes,
        tag: Option<Tag>,
    ) -> Result<(), Refusal> {
        self.write_manifest(repository, digest, document, bytes, tag, Vec::new())
            .await
    }

    /// The length of a blob as a manifest of the repository gives it.
    pub(crate) async fn named_size(
        &self,
        repository: &Name,
        digest: &Digest,
    ) -> Result<Option<u64>, Refusal> {
        let users = self.db.read(|reader| reader.users(repository, digest, 1));
        let users = users.map_err(|error| Refusal::internal(&error))?;
        let Some(user) = users.into_iter().next() else {
            return Ok(None);
        };
        let served = self.manifest(repository, &Reference::Digest(user)).await?;
        let document = document::parse(&served.bytes, Some(&served.media_type));
        let document = document.map_err(|error| Refusal::internal(&error))?;
        let mut pointers = document.pointers.into_iter();
        let pointer = pointers.find(|pointer| pointer.digest == *digest);
        Ok(pointer.map(|pointer| pointer.size))
    }

    /// A place for a file that nobody knows yet; what is left there goes at the next start.
    pub(crate) fn temporary(&self, name: &str) -> PathBuf {
        self.temporary.join(name)
    }

    async fn write_manifest(
        &self,
        repository: &Name,
        digest: &Digest,
        document: &Document,
        bytes: Bytes,
        tag: Option<Tag>,
        needs: Vec<Need>,
    ) -> Result<(), Refusal> {
        self.claims.claim(digest).await;
        for pointer in &document.pointers {
            self.claims.claim(&pointer.digest).await;
        }
        let size = bytes.len() as u64;
        let (blobs, copy) = (self.blobs.clone(), bytes.clone());
        let stored = blocking(move || blobs.put_bytes(&copy)).await?;
        stored.map_err(|error| Refusal::internal(&error))?;
        let referrer = document.subject.as_ref().map(|_| Referrer {
            media_type: document.media_type.clone(),
            digest: digest.clone(),
            size,
            artifact_type: document.artifact_type.clone(),
            annotations: document.annotations.clone(),
        });
        let put = Put {
            repository: repository.clone(),
            digest: digest.clone(),
            record: record(document, size),
            referrer,
            needs,
            tag,
        };
        let bounds = Arc::clone(&self.bounds);
        let written = self
            .db
            .write(move |tables| tables.put_manifest(&put, &bounds));
        written
            .await
            .map_err(|error| Refusal::internal(&error))?
            .map_err(misfit)
    }

    /// Removes a tag; tells what it was on.
    pub(crate) async fn untag(&self, repository: &Name, tag: &Tag) -> Result<Digest, Refusal> {
        let (name, wanted) = (repository.clone(), tag.clone());
        let removed = self.db.write(move |tables| tables.untag(&name, &wanted));
        let removed = removed.await.map_err(|error| Refusal::internal(&error))?;
        removed.ok_or_else(|| {
            Refusal::new(Code::ManifestUnknown, "manifest unknown")
                .detail(json!({"name": repository.as_str(), "tag": tag.as_str()}))
        })
    }

    pub(crate) async fn remove_manifest(
        &self,
        repository: &Name,
        digest: &Digest,
    ) -> Result<(), Refusal> {
        let (name, wanted) = (repository.clone(), digest.clone());
        let removed = self
            .db
            .write(move |tables| tables.remove_manifest(&name, &wanted));
        let removed = removed.await.map_err(|error| Refusal::internal(&error))?;
        self.cache.forget(repository, digest);
        match removed.map_err(misfit)? {
            true => Ok(()),
            false => Err(manifest_unknown(repository, digest)),
        }
    }

    pub(crate) async fn remove_blob(
        &self,
        repository: &Name,
        digest: &Digest,
    ) -> Result<(), Refusal> {
        let (name, wanted) = (repository.clone(), digest.clone());
        let removed = self.db.write(move |tables| tables.unlink(&name, &wanted));
        let removed = removed.await.map_err(|error| Refusal::internal(&error))?;
        match removed.map_err(misfit)? {
            true => Ok(()),
            false => Err(blob_unknown(digest)),
        }
    }

    /// Refuses content that would pass a bound, before it is sent.
    pub(crate) fn check_room(
        &self,
        repository: &Name,
        digest: Option<&Digest>,
        size: u64,
    ) -> Result<(), Refusal> {
        if size > self.blob_max {
            return Err(too_large("blob", self.blob_max));
        }
        let over = self
            .db
            .read(|reader| reader.over(repository, digest, size, &self.bounds));
        match over.map_err(|error| Refusal::internal(&error))? {
            Some(over) => Err(misfit(over)),
            None => Ok(()),
        }
    }
}

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|error| Refusal::internal(&error))
}

/// Removes what an earlier process did not finish; what cannot be removed is in nobody's way.
fn clean(temporary: &Path) {
    let entries = std::fs::read_dir(temporary).into_iter().flatten();
    for entry in entries.flatten() {
        if let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "a leftover stays");
        }
    }
}

fn record(document: &Document, size: u64) -> Manifest {
    let mut uses: Vec<Digest> = document
        .pointers
        .iter()
        .filter(|pointer| !pointer.foreign)
        .map(|pointer| pointer.digest.clone())
        .collect();
    uses.sort_unstable();
    uses.dedup();
    Manifest {
        media_type: document.media_type.clone(),
        size,
        at: clock::now(),
        subject: document.subject.clone(),
        artifact_type: document.artifact_type.clone(),
        uses,
    }
}

fn needs(document: &Document) -> Vec<Need> {
    let own = document.pointers.iter().filter(|pointer| !pointer.foreign);
    own.map(|pointer| Need {
        digest: pointer.digest.clone(),
        size: pointer.size,
        is_document: document.kind == document::Kind::Index && pointer.is_document(),
    })
    .collect()
}

pub(crate) fn blob_unknown(digest: &Digest) -> Refusal {
    Refusal::new(Code::BlobUnknown, "blob unknown to registry")
        .detail(json!({"digest": digest.to_string()}))
}

pub(crate) fn manifest_unknown(repository: &Name, digest: &Digest) -> Refusal {
    Refusal::new(Code::ManifestUnknown, "manifest unknown")
        .detail(json!({"name": repository.as_str(), "digest": digest.to_string()}))
}

pub(crate) fn too_large(what: &str, max: u64) -> Refusal {
    let text = format!("the {what} is longer than the {max} bytes that are allowed");
    Refusal::new(Code::SizeInvalid, text).status(http::StatusCode::PAYLOAD_TOO_LARGE)
}

fn misfit(misfit: Misfit) -> Refusal {
    match misfit {
        Misfit::Unknown(digest) => Refusal::new(
            Code::ManifestBlobUnknown,
            "manifest references a manifest or blob unknown to the repository",
        )
        .detail(json!({"digest": digest.to_string()})),
        Misfit::Size(digest) => Refusal::new(
            Code::ManifestInvalid,
            "manifest gives another size than the content has",
        )
        .detail(json!({"digest": digest.to_string()})),
        Misfit::InUse(user) => Refusal::new(
            Code::Unsupported,
            format!("it is referred to by {user}: delete that first"),
        ),
        Misfit::Quota(prefix, limit) => {
            let whose = match prefix.as_str() {
                "" => "the registry".to_owned(),
                prefix => format!("repositories {prefix}*"),
            };
            let text = format!("quota exceeded: {whose} may take {limit} bytes");
            Refusal::new(Code::Denied, text)
        }
    }
}
