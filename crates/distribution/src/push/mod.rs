//! Pushing: blobs that the registry lacks, then the manifest that names them.
//!
//! A blob that the repository has is not sent, one that another repository of the registry has is
//! mounted from there, and all others are sent in one piece. An upload that breaks goes on where
//! the registry says that it broke, or begins anew.

pub(crate) mod body;
mod stream;
mod upload;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use oci::Digest;
use oci::image::Descriptor;

use crate::answer::{Answer, printable};
use crate::call::{Request, accept};
use crate::client::Repository;
use crate::error::RegistryError;
use crate::location::join;
use crate::manifest::{ACCEPTED, digest_of};
use crate::referrers::has_subject;
pub use body::BlobSource;
pub use stream::{BlobFlow, BlobPipe, Streamed, blob_pipe};

/// How a blob got into the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It was there.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted {
        /// That repository, without the registry's name.
        from: String,
    },
    /// It was uploaded.
    Uploaded,
}

/// Who keeps the list of what refers to the subject of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// The registry itself.
    ByRegistry,
    /// Nobody, as far as the answer tells.
    ByNobody,
}

/// How a registry answers the wish to upload.
enum Begun {
    /// The blob is in the repository.
    Mounted,
    /// The address to upload to.
    Session(Uri),
}

impl Repository {
    /// Puts a blob into the repository. `elsewhere` are other repositories of this registry, without
    /// its name, that may have the blob.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or the source cannot be read.
    pub async fn push_blob(
        &self,
        blob: &Descriptor,
        elsewhere: &[String],
        source: &BlobSource,
    ) -> Result<Sent, RegistryError> {
        if self.has_for_push(blob).await? {
            return Ok(Sent::Existed);
        }
        let mut session = None;
        for from in elsewhere {
            match self.begin(blob, Some(from)).await? {
                Begun::Mounted => return Ok(Sent::Mounted { from: from.clone() }),
                Begun::Session(location) => session = Some(location),
            }
        }
        self.upload(blob, source, session).await?;
        Ok(Sent::Uploaded)
    }

    /// Has a blob of another repository of the registry mounted, if it is not there. False where the
    /// registry does not do so; then nothing is uploaded.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn mount_blob(&self, blob: &Descriptor, from: &str) -> Result<bool, RegistryError> {
        if self.has_for_push(blob).await? {
            return Ok(true);
        }
        match self.begin(blob, Some(from)).await? {
            Begun::Mounted => Ok(true),
            Begun::Session(session) => {
                self.abandon(&session).await;
                Ok(false)
            }
        }
    }

    /// Puts a manifest or an index under a tag, or under its digest alone. One that is about another
    /// manifest is also entered in the list of what refers to that, where the registry keeps none.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or says that it stored something else.
    pub async fn push_manifest(
        &self,
        tag: Option<&str>,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, RegistryError> {
        let refers = has_subject(&bytes);
        let (digest, listed) = self.put_manifest(tag, media_type, bytes.clone()).await?;
        if refers && listed == Listed::ByNobody {
            self.keep_referrer(media_type, &digest, &bytes).await?;
        }
        Ok(digest)
    }

    /// Puts a document, and tells whether the registry has seen what it is about.
    pub(crate) async fn put_manifest(
        &self,
        tag: Option<&str>,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(Digest, Listed), RegistryError> {
        let digest = digest_of(&bytes);
        let path = match tag {
            Some(tag) => format!("manifests/{tag}"),
            None => format!("manifests/{digest}"),
        };
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::try_from(media_type) {
            headers.insert(CONTENT_TYPE, value);
        }
        let answer = self.write(Method::PUT, &path, headers, bytes, None).await?;
        if !answer.status.is_success() {
            return Err(self.push_refusal(answer).await);
        }
        let listed = match answer.header("oci-subject") {
            Some(_) => Listed::ByRegistry,
            None => Listed::ByNobody,
        };
        match answer.header("docker-content-digest") {
            Some(told) if told.starts_with("sha256:") && told != digest.to_string() => {
                Err(RegistryError::Stored {
                    sent: digest,
                    stored: printable(told),
                })
            }
            _ => Ok((digest, listed)),
        }
    }

    /// Whether the repository has a manifest or an index.
    ///
    /// # Errors
    /// When the registry cannot be reached, or wants other credentials.
    pub async fn has_manifest(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let path = format!("manifests/{digest}");
        let headers = accept(&ACCEPTED);
        let answer = self
            .write(Method::HEAD, &path, headers, Bytes::new(), None)
            .await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::UNAUTHORIZED => Err(self.push_refusal(answer).await),
            _ => Ok(false),
        }
    }

    /// Whether the repository has a blob of this length. A registry that does not tell has not.
    async fn has_for_push(&self, blob: &Descriptor) -> Result<bool, RegistryError> {
        let path = format!("blobs/{}", blob.digest);
        let answer = self
            .write(Method::HEAD, &path, HeaderMap::new(), Bytes::new(), None)
            .await?;
        match answer.status {
            StatusCode::OK => Ok(answer.length().is_none_or(|length| length == blob.size)),
            StatusCode::UNAUTHORIZED => Err(self.push_refusal(answer).await),
            _ => Ok(false),
        }
    }

    /// Asks for an upload, or for a blob of another repository.
    async fn begin(&self, blob: &Descriptor, from: Option<&str>) -> Result<Begun, RegistryError> {
        let path = match from {
            Some(from) => format!("blobs/uploads/?mount={}&from={from}", blob.digest),
            None => "blobs/uploads/".to_owned(),
        };
        let answer = self
            .write(Method::POST, &path, HeaderMap::new(), Bytes::new(), from)
            .await?;
        match answer.status {
            StatusCode::CREATED if from.is_some() => Ok(Begun::Mounted),
            StatusCode::ACCEPTED => self.location_of(&answer).map(Begun::Session),
            _ => Err(self.push_refusal(answer).await),
        }
    }

    /// Where an upload goes on.
    fn location_of(&self, answer: &Answer) -> Result<Uri, RegistryError> {
        answer
            .header(LOCATION.as_str())
            .and_then(|location| join(&answer.uri, location))
            .ok_or_else(|| answer.misfit("the answer names no address for the upload"))
    }

    /// Sends a request with the right to write.
    async fn write(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        from: Option<&str>,
    ) -> Result<Answer, RegistryError> {
        let scope = self.push_scope(from);
        self.request(Request {
            method,
            path,
            headers,
            body,
            scope: &scope,
        })
        .await
    }

    fn push_scope(&self, from: Option<&str>) -> String {
        let own = format!("repository:{}:pull,push", self.reference.path());
        match from {
            Some(from) => format!("{own} repository:{from}:pull"),
            None => own,
        }
    }

    /// The error of an unwelcome answer, in Docker's words.
    async fn push_refusal(&self, answer: Answer) -> RegistryError {
        const DENIED: &str = "denied: requested access to the resource is denied";
        if answer.elsewhere {
            return answer.into_error().await;
        }
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::PushDenied {
                name: self.reference.familiar_name(),
                detail: answer.complaint().await.text_or(DENIED),
            },
            StatusCode::NOT_FOUND => self.unknown_repository(answer.complaint().await),
            _ => answer.into_error().await,
        }
    }
}
