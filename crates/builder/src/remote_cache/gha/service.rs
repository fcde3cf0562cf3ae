//! The cache service of GitHub's runners, in both versions of its interface.
//!
//! The first is plain HTTP below `_apis/artifactcache/`, the second a Twirp service whose entries lie in
//! Azure's block storage. What the service answers is hostile; the token is sent to the service alone, not
//! to the places that it names.

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use distribution::{Asked, Client};
use http::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use crate::error::{Error, Result, Step as _};

/// What entries are made of: other build clients keep theirs under the digest of the same text.
const VERSION: &[u8] = b"|go-actionscache-1.0";
/// Bytes of one request.
const PIECE: usize = 8 << 20;
/// The longest answer that is no entry.
const ANSWER_MAX: u64 = 1 << 20;
/// Characters of an answer that are shown.
const SHOWN: usize = 300;
/// The paths of the two versions.
const FIRST: &str = "_apis/artifactcache";
const SECOND: &str = "twirp/github.actions.results.api.v1.CacheService";

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    client: Client,
    /// With a slash at its end.
    base: String,
    second: bool,
    /// Sensitive, so that nothing shows it.
    token: HeaderValue,
}

/// An entry that the service has.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    address: String,
}

/// An entry on its way to the service.
#[derive(Debug)]
pub(super) struct Upload<'s> {
    service: &'s Service,
    key: String,
    /// An address, or the number of the entry.
    place: String,
    size: u64,
    waiting: BytesMut,
    sent: u64,
    pieces: usize,
}

fn failed(error: &distribution::RegistryError) -> Error {
    Error::system("ask the github actions cache", error)
}

/// A refusal in the words of the service, which are shown as one line.
fn refused(what: &str, status: u16, body: &[u8]) -> Error {
    let words = String::from_utf8_lossy(body);
    let words = words.chars().filter(|char| !char.is_control());
    let words: String = words.take(SHOWN).collect();
    Error::invalid(format!(
        "github actions cache: {what}: status {status}: {words}"
    ))
}

/// An answer that makes no sense; it is not shown, for it may hold signed addresses.
fn senseless(what: &str) -> Error {
    Error::invalid(format!(
        "github actions cache: {what}: the answer makes no sense"
    ))
}

fn json_type() -> HeaderValue {
    HeaderValue::from_static("application/json")
}

/// Text as it stands in a query (RFC 3986, 2.3).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                quoted.push(char::from(byte));
            }
            _ => quoted.push_str(&format!("%{byte:02X}")),
        }
    }
    quoted
}

/// The name of a block; all of one blob have the same length.
fn block_name(number: usize) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("{number:08}"))
}

/// An address with one more part of its query.
fn joined(address: &str, part: &str) -> String {
    let mark = if address.contains('?') { '&' } else { '?' };
    format!("{address}{mark}{part}")
}

impl Service {
    /// The service at an address.
    pub(super) fn new(client: Client, address: &str, second: bool, token: &str) -> Result<Self> {
        let wrong = |_| Error::invalid("invalid token of a github actions cache");
        let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(wrong)?;
        header.set_sensitive(true);
        Ok(Self {
            client,
            base: format!("{}/", address.trim_end_matches('/')),
            second,
            token: header,
        })
    }

    /// What stands in front of the keys of entries that fit.
    fn version() -> String {
        storage::digest_of(VERSION).hex().to_owned()
    }

    async fn ask(
        &self,
        method: Method,
        address: &str,
        headers: HeaderMap,
        token: Option<HeaderValue>,
        body: Bytes,
    ) -> Result<(u16, Bytes)> {
        let asked = self.client.ask(method, address, headers, token, body);
        let asked = asked.await.map_err(|error| failed(&error))?;
        let status = asked.status();
        let body = asked.bytes("answer of a cache service", ANSWER_MAX).await;
        Ok((status, body.map_err(|error| failed(&error))?))
    }

    /// Asks the service itself.
    async fn call(
        &self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<(u16, Bytes)> {
        headers.insert(
            ACCEPT,
            HeaderValue::from_static(match self.second {
                true => "application/json",
                false => "application/json;api-version=6.0-preview.1",
            }),
        );
        let address = format!("{}{path}", self.base);
        let token = Some(self.token.clone());
        self.ask(method, &address, headers, token, body).await
    }

    async fn tell(&self, path: &str, value: &Value) -> Result<(u16, Bytes)> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, json_type())]);
        let body = Bytes::from(value.to_string());
        self.call(Method::POST, path, headers, body).await
    }

    /// Finds the last entry whose key is this, or begins so.
    pub(super) async fn find(&self, key: &str) -> Result<Option<Entry>> {
        const WHAT: &str = "look for an entry";
        let (status, body) = if self.second {
            let asked = json!({"key": key, "restore_keys": [key], "version": Self::version()});
            let path = format!("{SECOND}/GetCacheEntryDownloadURL");
            self.tell(&path, &asked).await?
        } else {
            let (keys, version) = (quoted(key), Self::version());
            let path = format!("{FIRST}/cache?keys={keys}&version={version}");
            let none = (HeaderMap::new(), Bytes::new());
            self.call(Method::GET, &path, none.0, none.1).await?
        };
        let value: Value = match status {
            200 => serde_json::from_slice(&body).map_err(|_| senseless(WHAT))?,
            204 | 404 => return Ok(None),
            _ => return Err(refused(WHAT, status, &body)),
        };
        let names = match self.second {
            true => ["matched_key", "signed_download_url"],
            false => ["cacheKey", "archiveLocation"],
        };
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let [found, address] = names.map(|name| text(name).to_owned());
        let entry = Entry {
            key: found,
            address,
        };
        // the first version finds more than it is asked for
        Ok(Some(entry).filter(|one| !one.address.is_empty() && one.key.starts_with(key)))
    }

    /// Begins to read an entry.
    pub(super) async fn read(&self, entry: &Entry) -> Result<Asked> {
        let (headers, none) = (HeaderMap::new(), Bytes::new());
        let asked = self
            .client
            .ask(Method::GET, &entry.address, headers, None, none);
        let asked = asked.await.map_err(|error| failed(&error))?;
        match asked.status() {
            200 => Ok(asked),
            status => Err(refused("read an entry", status, b"")),
        }
    }

    /// Reads an entry of no more than `max` bytes.
    pub(super) async fn read_all(&self, entry: &Entry, max: u64) -> Result<Bytes> {
        let asked = self.read(entry).await?;
        let bytes = asked.bytes("entry of a cache service", max).await;
        bytes.map_err(|error| failed(&error))
    }

    /// The next piece of an entry.
    pub(super) async fn piece(asked: &mut Asked) -> Result<Option<Bytes>> {
        asked.chunk().await.map_err(|error| failed(&error))
    }

    /// Begins to save an entry; nothing where its key is taken.
    pub(super) async fn save(&self, key: &str, size: u64) -> Result<Option<Upload<'_>>> {
        const WHAT: &str = "reserve an entry";
        let (path, asked) = match self.second {
            true => (
                format!("{SECOND}/CreateCacheEntry"),
                json!({"key": key, "version": Self::version()}),
            ),
            false => (
                format!("{FIRST}/caches"),
                json!({"key": key, "version": Self::version(), "cacheSize": size}),
            ),
        };
        let (status, body) = self.tell(&path, &asked).await?;
        let value: Value = match status {
            200 | 201 => serde_json::from_slice(&body).map_err(|_| senseless(WHAT))?,
            409 => return Ok(None),
            _ => return Err(refused(WHAT, status, &body)),
        };
        if self.second && value.get("ok") != Some(&Value::Bool(true)) {
            return Ok(None);
        }
        let place = match self.second {
            true => value["signed_upload_url"].as_str().map(str::to_owned),
            false => value["cacheId"].as_u64().map(|id| id.to_string()),
        };
        Ok(Some(Upload {
            service: self,
            key: key.to_owned(),
            place: place.ok_or_else(|| senseless(WHAT))?,
            size,
            waiting: BytesMut::new(),
            sent: 0,
            pieces: 0,
        }))
    }

    /// Puts bytes where the service has said.
    async fn put(&self, address: &str, headers: HeaderMap, body: Bytes) -> Result<(u16, Bytes)> {
        self.ask(Method::PUT, address, headers, None, body).await
    }
}

impl Upload<'_> {
    /// Sends bytes, many at a time.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.waiting.extend_from_slice(&bytes);
        while self.waiting.len() >= PIECE {
            let piece = self.waiting.split_to(PIECE).freeze();
            self.send(piece).await?;
        }
        Ok(())
    }

    async fn send(&mut self, piece: Bytes) -> Result<()> {
        let (offset, length) = (self.sent, piece.len() as u64);
        let kind = HeaderValue::from_static("application/octet-stream");
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        let (status, body) = if self.service.second {
            let name = quoted(&block_name(self.pieces));
            let address = joined(&self.place, &format!("comp=block&blockid={name}"));
            self.service.put(&address, headers, piece).await?
        } else {
            let last = (offset + length).saturating_sub(1);
            let range = HeaderValue::try_from(format!("bytes {offset}-{last}/*"));
            headers.insert(CONTENT_RANGE, range.step(|| "name a range")?);
            let path = format!("{FIRST}/caches/{}", self.place);
            let call = self.service.call(Method::PATCH, &path, headers, piece);
            call.await?
        };
        match status {
            200..=299 => {
                self.sent += length;
                self.pieces += 1;
                Ok(())
            }
            _ => Err(refused("send an entry", status, &body)),
        }
    }

    /// Completes the entry; one that is not completed is none.
    pub(super) async fn finish(mut self) -> Result<()> {
        const WHAT: &str = "complete an entry";
        if !self.waiting.is_empty() {
            let piece = self.waiting.split().freeze();
            self.send(piece).await?;
        }
        if self.sent != self.size {
            let (key, sent, size) = (&self.key, self.sent, self.size);
            let why = format!("entry {key}: {sent} bytes in place of {size}");
            return Err(Error::internal(why));
        }
        let (status, body) = if self.service.second {
            self.list_blocks().await?;
            let asked = json!({
                "key": self.key,
                "version": Service::version(),
                // 64 bits are text in the JSON of protocol buffers
                "size_bytes": self.size.to_string(),
            });
            let path = format!("{SECOND}/FinalizeCacheEntryUpload");
            self.service.tell(&path, &asked).await?
        } else {
            let path = format!("{FIRST}/caches/{}", self.place);
            self.service
                .tell(&path, &json!({"size": self.size}))
                .await?
        };
        let is_refusal = |body: &Bytes| {
            let value: Option<Value> = serde_json::from_slice(body).ok();
            value.is_some_and(|value| value.get("ok") == Some(&Value::Bool(false)))
        };
        match status {
            200..=299 if !is_refusal(&body) => Ok(()),
            _ => Err(refused(WHAT, status, &body)),
        }
    }

    /// Makes one blob of the blocks (Azure's "Put Block List").
    async fn list_blocks(&self) -> Result<()> {
        let names = (0..self.pieces).map(block_name);
        let names: String = names.map(|n| format!("<Latest>{n}</Latest>")).collect();
        let list =
            format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{names}</BlockList>");
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/xml")),
            (
                HeaderName::from_static("x-ms-blob-content-type"),
                HeaderValue::from_static("application/octet-stream"),
            ),
        ]);
        let address = joined(&self.place, "comp=blocklist");
        let (status, body) = self.service.put(&address, headers, list.into()).await?;
        match status {
            200..=299 => Ok(()),
            _ => Err(refused("send an entry", status, &body)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(quoted("index-a#1"), "index-a%231");
        assert_eq!(joined("http://a/b", "c=d"), "http://a/b?c=d");
        assert_eq!(joined("http://a/b?sig=1", "c=d"), "http://a/b?sig=1&c=d");
        assert_eq!(block_name(7), "MDAwMDAwMDc=");
    }

    #[test]
    fn words_of_the_service_are_one_short_line() {
        let long = [b"\x1b[31mno\r\n".to_vec(), vec![b'x'; 10_000]].concat();
        let told = refused("read", 500, &long).message().to_owned();
        assert!(told.contains("status 500: [31mnoxxx"), "{told}");
        assert!(told.len() < 400 && !told.contains('\x1b'), "{told}");
    }
}
