//! Blobs as streams of verified bytes.

use std::ops::Range;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, RANGE};
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
/// The stream of a whole blob ends with `None` only after its length and its digest are found
/// right; a caller keeps nothing of it before that. Of a part only the length is checked, because
/// the digest is of the whole. Broken connections are resumed where they broke.
#[derive(Debug)]
pub struct BlobStream {
    repository: Repository,
    blob: Descriptor,
    what: &'static str,
    answer: Option<Answer>,
    /// Where in the blob the next byte for the caller is.
    received: u64,
    /// Where in the blob the wanted part ends.
    end: u64,
    /// Where the bytes of the present answer end.
    answer_end: u64,
    /// Bytes at the answer's beginning that the caller already has.
    skip: u64,
    /// None where the caller checks the digest.
    hash: Option<Sha256>,
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

    /// Begins to read a part of a blob. The caller puts the parts together and checks the digest.
    ///
    /// A registry that knows no ranges sends the whole, of which what is not wanted is dropped.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or does not have the blob.
    pub async fn fetch_blob_part(
        &self,
        blob: &Descriptor,
        part: Range<u64>,
    ) -> Result<BlobStream, RegistryError> {
        let mut stream = self.prepare(blob, "filesystem layer").await;
        stream.received = part.start.min(blob.size);
        stream.end = part.end.clamp(stream.received, blob.size);
        stream.hash = None;
        if stream.received < stream.end {
            stream.open().await?;
        }
        Ok(stream)
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
        let mut stream = self.prepare(blob, what).await;
        stream.open().await?;
        Ok(stream)
    }

    /// Whether another blob of this registry would be streamed at once.
    #[must_use]
    pub fn has_place(&self) -> bool {
        let downloads = self.client.downloads(self.domain());
        downloads.available_permits() > 0
    }

    /// A stream of the whole blob, when there is a place for it.
    async fn prepare(&self, blob: &Descriptor, what: &'static str) -> BlobStream {
        let downloads = self.client.downloads(self.domain());
        // The semaphore is never closed; without a place the stream is merely not counted.
        let place = downloads.acquire_owned().await.ok();
        BlobStream {
            repository: self.clone(),
            blob: blob.clone(),
            what,
            answer: None,
            received: 0,
            end: blob.size,
            answer_end: 0,
            skip: 0,
            hash: Some(Sha256::new()),
            backoff: Backoff::new(self.client.shared.config.retry),
            resumes: 0,
            finished: false,
            _place: place,
        }
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

    /// Where in the blob the next bytes belong: how many were given out, if all are wanted.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Makes the stream end earlier, because the rest comes another way. Only of a part.
    pub fn shorten(&mut self, end: u64) {
        if self.hash.is_none() {
            self.end = self.end.min(end).max(self.received);
        }
    }

    /// Whether the present answer is a part, and not the whole of which most is dropped.
    #[must_use]
    pub fn is_part(&self) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|answer| answer.status == StatusCode::PARTIAL_CONTENT)
    }

    /// Whether the registry sends parts of blobs.
    #[must_use]
    pub fn knows_ranges(&self) -> bool {
        let Some(answer) = &self.answer else {
            return false;
        };
        answer.status == StatusCode::PARTIAL_CONTENT
            || answer.header(ACCEPT_RANGES.as_str()) == Some("bytes")
    }

    /// The next bytes of the blob, or `None` when all have come and are right.
    ///
    /// # Errors
    /// When the registry sends too little, too much or something else, or nothing any more. The
    /// stream is then unusable.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while !self.finished {
            if self.received == self.end && self.hash.is_none() {
                self.finish()?;
                break;
            }
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
                Ok(None) if self.received == self.end => self.finish()?,
                Ok(None) => self.resume_after(None).await?,
                Err(error) => self.resume_after(Some(error)).await?,
            }
        }
        Ok(None)
    }

    async fn open(&mut self) -> Result<(), RegistryError> {
        let mut headers = HeaderMap::new();
        if self.received > 0 || self.end < self.blob.size {
            headers.insert(RANGE, range(self.received, self.end, self.blob.size));
        }
        let path = format!("blobs/{}", self.blob.digest);
        let answer = self.repository.call(Method::GET, &path, headers).await?;
        (self.skip, self.answer_end) = match answer.status {
            StatusCode::OK => (self.received, self.blob.size),
            StatusCode::PARTIAL_CONTENT => (0, self.part_end(&answer)?),
            _ => {
                return Err(self
                    .repository
                    .blob_refusal(&self.blob.digest, answer)
                    .await);
            }
        };
        let rest = self.answer_end - self.received + self.skip;
        if let Some(length) = answer.length().filter(|length| *length != rest) {
            return Err(self.wrong_length((self.received - self.skip + length).to_string()));
        }
        self.answer = Some(answer);
        Ok(())
    }

    /// Where the part that an answer announces ends. A server may send less than was asked for,
    /// but nothing else, and of no other whole.
    fn part_end(&self, answer: &Answer) -> Result<u64, RegistryError> {
        let text = answer.header(CONTENT_RANGE.as_str()).unwrap_or_default();
        let other = || answer.misfit("the range is another than was asked for");
        let (start, last, whole) = content_range(text).ok_or_else(other)?;
        if start != self.received || last < start || last >= self.end {
            return Err(other());
        }
        match whole.filter(|whole| *whole != self.blob.size) {
            Some(whole) => Err(self.wrong_length(whole.to_string())),
            None => Ok(last + 1),
        }
    }

    /// Drops what a server that knows no ranges sends again.
    fn without_known(&mut self, mut data: Bytes) -> Bytes {
        let known = usize::try_from(self.skip).map_or(data.len(), |skip| skip.min(data.len()));
        self.skip -= known as u64;
        data.split_off(known)
    }

    fn accept(&mut self, mut data: Bytes) -> Result<Bytes, RegistryError> {
        if data.len() as u64 > self.answer_end - self.received {
            return Err(self.wrong_length("more".to_owned()));
        }
        let wanted = usize::try_from(self.end - self.received).unwrap_or(usize::MAX);
        data.truncate(wanted);
        self.received += data.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(&data);
        }
        // Progress: the next failure is the first again.
        self.backoff = Backoff::new(self.repository.client.shared.config.retry);
        Ok(data)
    }

    fn finish(&mut self) -> Result<(), RegistryError> {
        if let Some(hash) = self.hash.take() {
            let actual = Digest::from_sha256(&hash.finalize().into());
            if actual != self.blob.digest {
                return Err(RegistryError::DigestMismatch {
                    what: self.what,
                    expected: self.blob.digest.clone(),
                    actual,
                });
            }
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

/// The header that asks for a part; what reaches to the end is asked for without an end.
fn range(start: u64, end: u64, size: u64) -> HeaderValue {
    let last = match end {
        end if end == size => String::new(),
        end => end.saturating_sub(1).to_string(),
    };
    HeaderValue::try_from(format!("bytes={start}-{last}"))
        .unwrap_or_else(|_| HeaderValue::from_static("bytes=0-"))
}

/// `bytes 5-9/10` as first byte, last byte, and the length of the whole where it is told.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (part, whole) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = part.trim().split_once('-')?;
    let whole = match whole.trim() {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    Some((start.trim().parse().ok()?, last.trim().parse().ok()?, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_content_ranges() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, 9, Some(10)))),
            (" bytes 0-0/1", Some((0, 0, Some(1)))),
            ("bytes 5-9/*", Some((5, 9, None))),
            ("bytes */10", None),
            ("bytes 5-/10", None),
            ("bytes -5-9/10", None),
            ("items 5-9/10", None),
            ("bytes 5-9", None),
            ("bytes 5-99999999999999999999/10", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text:?}");
        }
    }

    #[test]
    fn asks_for_ranges() {
        assert_eq!(range(5, 10, 10), "bytes=5-");
        assert_eq!(range(0, 4, 10), "bytes=0-3");
    }
}
