//! Blobs as streams of verified bytes.

use bytes::Bytes;
use http::header::{CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use oci::Digest;
use oci::image::Descriptor;
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::Answer;
use crate::client::Repository;
use crate::error::RegistryError;
use crate::location::shown;
use crate::net::TransportError;
use crate::retry::Backoff;

/// A blob on its way from a registry.
///
/// The stream ends with `None` only after its length and its digest are found right; a caller
/// keeps nothing of a blob before that. Broken connections are resumed where they broke.
#[derive(Debug)]
pub struct BlobStream {
    repository: Repository,
    blob: Descriptor,
    what: &'static str,
    answer: Option<Answer>,
    /// Bytes given to the caller.
    received: u64,
    /// Bytes at the answer's beginning that the caller already has.
    skip: u64,
    hash: Sha256,
    backoff: Backoff,
    resumes: u32,
    finished: bool,
    /// Held as long as the stream lives.
    _place: Option<OwnedSemaphorePermit>,
}

impl Repository {
    /// Begins to read a blob. Addresses in the descriptor other than the registry's are never used.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or does not have the blob.
    pub async fn fetch_blob(&self, blob: &Descriptor) -> Result<BlobStream, RegistryError> {
        self.open_blob(blob, "filesystem layer").await
    }

    /// Whether the registry has a blob.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let path = format!("blobs/{digest}");
        let answer = self.call(Method::HEAD, &path, HeaderMap::new()).await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.blob_refusal(digest, answer).await),
        }
    }

    pub(crate) async fn open_blob(
        &self,
        blob: &Descriptor,
        what: &'static str,
    ) -> Result<BlobStream, RegistryError> {
        let downloads = self.client.downloads(self.domain());
        // The semaphore is never closed; without a place the stream is merely not counted.
        let place = downloads.acquire_owned().await.ok();
        let mut stream = BlobStream {
            repository: self.clone(),
            blob: blob.clone(),
            what,
            answer: None,
            received: 0,
            skip: 0,
            hash: Sha256::new(),
            backoff: Backoff::new(self.client.shared.config.retry),
            resumes: 0,
            finished: false,
            _place: place,
        };
        stream.open().await?;
        Ok(stream)
    }

    async fn blob_refusal(&self, digest: &Digest, answer: Answer) -> RegistryError {
        self.refusal(answer, |repository, complaint| RegistryError::BlobUnknown {
            name: repository.reference.familiar_name(),
            digest: digest.clone(),
            detail: complaint.text_or("blob unknown"),
        })
        .await
    }
}

impl BlobStream {
    /// The length that the blob must have.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blob.size
    }

    /// How many bytes were given out.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes of the blob, or `None` when all have come and are right.
    ///
    /// # Errors
    /// When the registry sends too little, too much or something else, or nothing any more. The
    /// stream is then unusable.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while !self.finished {
            let Some(answer) = &mut self.answer else {
                self.open().await?;
                continue;
            };
            match answer.chunk(self.blob.size).await {
                Ok(Some(data)) => {
                    let fresh = self.without_known(data);
                    if !fresh.is_empty() {
                        return self.accept(fresh).map(Some);
                    }
                }
                Ok(None) if self.received == self.blob.size => self.finish()?,
                Ok(None) => self.resume_after(None).await?,
                Err(error) => self.resume_after(Some(error)).await?,
            }
        }
        Ok(None)
    }

    async fn open(&mut self) -> Result<(), RegistryError> {
        let mut headers = HeaderMap::new();
        if self.received > 0 {
            headers.insert(RANGE, range_from(self.received));
        }
        let path = format!("blobs/{}", self.blob.digest);
        let answer = self.repository.call(Method::GET, &path, headers).await?;
        self.skip = match answer.status {
            StatusCode::OK => self.received,
            StatusCode::PARTIAL_CONTENT if begins_at(&answer, self.received) => 0,
            StatusCode::PARTIAL_CONTENT => {
                return Err(answer.misfit("the range is another than was asked for"));
            }
            _ => {
                return Err(self
                    .repository
                    .blob_refusal(&self.blob.digest, answer)
                    .await);
            }
        };
        let rest = self.blob.size.saturating_sub(self.received) + self.skip;
        if let Some(length) = answer.length().filter(|length| *length != rest) {
            return Err(self.wrong_length((self.received - self.skip + length).to_string()));
        }
        self.answer = Some(answer);
        Ok(())
    }

    /// Drops what a server that knows no ranges sends again.
    fn without_known(&mut self, mut data: Bytes) -> Bytes {
        let known = usize::try_from(self.skip).map_or(data.len(), |skip| skip.min(data.len()));
        self.skip -= known as u64;
        data.split_off(known)
    }

    fn accept(&mut self, data: Bytes) -> Result<Bytes, RegistryError> {
        let length = data.len() as u64;
        if length > self.blob.size - self.received {
            return Err(self.wrong_length("more".to_owned()));
        }
        self.received += length;
        self.hash.update(&data);
        // Progress: the next failure is the first again.
        self.backoff = Backoff::new(self.repository.client.shared.config.retry);
        Ok(data)
    }

    fn finish(&mut self) -> Result<(), RegistryError> {
        let sum: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        let actual = Digest::from_sha256(&sum);
        if actual != self.blob.digest {
            return Err(RegistryError::DigestMismatch {
                what: self.what,
                expected: self.blob.digest.clone(),
                actual,
            });
        }
        self.finished = true;
        self.answer = None;
        self._place = None;
        Ok(())
    }

    /// Pauses before the rest is asked for, or ends in the failure that made it necessary.
    async fn resume_after(&mut self, failure: Option<TransportError>) -> Result<(), RegistryError> {
        let config = &self.repository.client.shared.config.retry;
        self.resumes += 1;
        let worth = failure.as_ref().is_none_or(TransportError::is_passing)
            && self.resumes <= config.resumes;
        let pause = self.backoff.next_pause(None).filter(|_| worth);
        let answer = self.answer.take();
        let Some(pause) = pause else {
            return Err(match (failure, answer) {
                (Some(source), Some(answer)) => answer.broken(source),
                _ => RegistryError::Short {
                    what: self.what,
                    digest: self.blob.digest.clone(),
                    expected: self.blob.size,
                    received: self.received,
                },
            });
        };
        let url = answer.map(|answer| shown(&answer.uri));
        tracing::debug!(?url, received = self.received, ?pause, "resuming a blob");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn wrong_length(&self, announced: String) -> RegistryError {
        RegistryError::WrongLength {
            what: self.what,
            digest: self.blob.digest.clone(),
            expected: self.blob.size,
            announced,
        }
    }
}

fn range_from(start: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes={start}-"))
        .unwrap_or_else(|_| HeaderValue::from_static("bytes=0-"))
}

/// `Content-Range: bytes 5-9/10` begins at 5.
fn begins_at(answer: &Answer, start: u64) -> bool {
    answer
        .header(CONTENT_RANGE.as_str())
        .and_then(|text| text.trim().strip_prefix("bytes "))
        .and_then(|text| text.split('-').next())
        .is_some_and(|text| text.trim().parse() == Ok(start))
}
