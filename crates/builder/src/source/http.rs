//! Files of the web (`http://`, `https://`), and what clients upload.
//!
//! A file is kept under its digest, and beside its address what its host said of it: the next build asks
//! only whether it has changed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use distribution::Download;
use http::header::{ACCEPT, IF_NONE_MATCH, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use jiff::Timestamp;
use oci::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::client::{secret, session};
use crate::error::{Error, Result, Step};
use crate::llb::{digest_of, pb};
use crate::op::{CacheMap, OpContext};
use crate::session::Uploaded;
use crate::snapshot::{LayerFacts, Snapshot};

/// The host that stands for what the client uploads.
const SESSION_HOST: &str = "buildkit-session";
/// The largest file.
const MAX_FILE: u64 = 64 << 30;
/// The longest header that is kept.
const MAX_HEADER: usize = 4096;
/// The name of a file whose address gives none.
const NAMELESS: &str = "download";
/// The mode of a file, unless the operation gives another.
const MODE: u32 = 0o600;

/// Which file is wanted, and what it becomes.
#[derive(Debug)]
struct Request {
    /// Without who asks.
    url: Uri,
    /// Who asks, as the address says.
    user: Option<HeaderValue>,
    filename: Option<String>,
    checksum: Option<Digest>,
    mode: u32,
    owner: (u32, u32),
    headers: HeaderMap,
    /// Name of the secret that is the `Authorization`.
    header_secret: Option<String>,
}

/// What is known of a file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    digest: Digest,
    etag: Option<String>,
    modified: Option<String>,
    filename: String,
}

impl Request {
    fn read(source: &pb::SourceOp) -> Result<Self> {
        let invalid = |what: &str, given: &str| Error::invalid(format!("invalid {what} {given:?}"));
        let attr = |name: &str| source.attrs.get(name).filter(|text| !text.is_empty());
        let number = |name: &str| match attr(name) {
            None => Ok(None),
            Some(text) => parse_number(text)
                .map(Some)
                .ok_or_else(|| invalid(name, text)),
        };
        let url: Uri = source
            .identifier
            .parse()
            .map_err(|_| invalid("address", &source.identifier))?;
        let (url, user) = without_user(url).ok_or_else(|| invalid("address", "with a user"))?;
        let checksum = attr("http.checksum")
            .map(|text| text.parse().map_err(|_| invalid("http.checksum", text)));
        let mut headers = HeaderMap::new();
        for (name, value) in &source.attrs {
            let Some(name) = name.strip_prefix("http.header.") else {
                continue;
            };
            let name: HeaderName = name.parse().map_err(|_| invalid("header", name))?;
            if name == ACCEPT || name == USER_AGENT {
                headers.insert(name, value.parse().map_err(|_| invalid("header", value))?);
            }
        }
        Ok(Self {
            url,
            user,
            filename: attr("http.filename")
                .map(|name| plain_name(name))
                .transpose()?,
            checksum: checksum.transpose()?,
            mode: number("http.perm")?.unwrap_or(MODE) & 0o7777,
            owner: (
                number("http.uid")?.unwrap_or(0),
                number("http.gid")?.unwrap_or(0),
            ),
            headers,
            header_secret: attr("http.authheadersecret").cloned(),
        })
    }

    fn host(&self) -> &str {
        self.url.host().unwrap_or_default()
    }

    /// What the result is known by.
    fn key(&self, known: &Known) -> Digest {
        let fields = [
            "http",
            known.filename.as_str(),
            &format!("{:o} {:?}", self.mode, self.owner),
            &known.digest.to_string(),
            known.modified.as_deref().unwrap_or_default(),
        ];
        digest_of(fields.join("\0").as_bytes())
    }

    /// What a file is called: as the operation says, else as its host, else as its address.
    fn name(&self, disposition: Option<&str>) -> String {
        let given = self.filename.clone();
        let said = || disposition.and_then(disposed_name);
        let last = || {
            let path = self.url.path().trim_end_matches('/');
            let name = path.rsplit('/').next().unwrap_or_default();
            plain_name(&unescape(name)).ok()
        };
        given
            .or_else(said)
            .or_else(last)
            .unwrap_or_else(|| NAMELESS.to_owned())
    }
}

/// An address without the user and password in it, and what says them to the host.
fn without_user(url: Uri) -> Option<(Uri, Option<HeaderValue>)> {
    use base64::Engine as _;
    let authority = url.authority().map(http::uri::Authority::as_str);
    let Some((user, host)) = authority.and_then(|text| text.rsplit_once('@')) else {
        return Some((url, None));
    };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let pair = format!("{}:{}", unescape(name), unescape(password));
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    let host = host.parse().ok()?;
    let mut parts = url.into_parts();
    parts.authority = Some(host);
    Some((Uri::from_parts(parts).ok()?, Some(value)))
}

/// A number as Go reads it: octal after a zero, hexadecimal after `0x`.
fn parse_number(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u32::from_str_radix(hex, 16).ok();
    }
    match text.strip_prefix("0o").or_else(|| text.strip_prefix('0')) {
        Some(octal) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// A name that stands for nothing but a file in its folder.
fn plain_name(name: &str) -> Result<String> {
    let bad = matches!(name, "" | "." | "..") || name.contains(['/', '\0']) || name.len() > 255;
    if bad {
        let name: String = name.chars().take(100).collect();
        return Err(Error::invalid(format!("invalid filename {name:?}")));
    }
    Ok(name.to_owned())
}

/// The name in a `Content-Disposition`.
fn disposed_name(header: &str) -> Option<String> {
    let mut parts = header.split(';').skip(1);
    let value = parts.find_map(|part| part.trim().strip_prefix("filename="))?;
    let value = value.trim().trim_matches('"');
    let name = value.rsplit(['/', '\\']).next()?;
    plain_name(name).ok()
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let code = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| hex::decode(pair).ok());
        match (bytes[at], code) {
            (b'%', Some(code)) => {
                out.extend(code);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// What the steps of jobs have fetched, so that they are known by what they then get.
#[derive(Debug, Default)]
pub(crate) struct Web(Mutex<HashMap<(String, Digest), Known>>);

/// Files that are remembered.
const MAX_FETCHED: usize = 1000;

impl Web {
    fn key(context: &OpContext) -> (String, Digest) {
        (context.job.id.clone(), context.vertex.digest.clone())
    }

    fn put(&self, context: &OpContext, known: &Known) {
        let mut fetched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if fetched.len() >= MAX_FETCHED {
            fetched.clear();
        }
        fetched.insert(Self::key(context), known.clone());
    }

    fn take(&self, context: &OpContext) -> Option<Known> {
        let mut fetched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.remove(&Self::key(context))
    }
}

/// Where files of the web are kept.
struct Store {
    folder: PathBuf,
    known: PathBuf,
}

impl Store {
    fn new(root: &Path, request: &Request) -> Self {
        let folder = root.join("web");
        let headers = format!("{:?}", request.headers);
        let name = [
            request.url.to_string(),
            headers,
            request.header_secret.clone().unwrap_or_default(),
        ];
        let name = digest_of(name.join("\0").as_bytes());
        let known = folder.join(format!("{}.json", name.hex()));
        Self { folder, known }
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// What was fetched from the address last, if its file is still here.
    fn load(&self) -> Option<Known> {
        let text = fs::read(&self.known).ok()?;
        let known: Known = serde_json::from_slice(&text).ok()?;
        self.file(&known.digest).is_file().then_some(known)
    }

    fn save(&self, known: &Known) -> io::Result<()> {
        let new = self.folder.join(crate::id::new());
        fs::write(&new, serde_json::to_vec(known)?)?;
        fs::rename(new, &self.known)
    }
}

/// A file that is coming; dropped before its end, it is removed.
struct Coming {
    path: PathBuf,
    file: File,
    hash: Sha256,
    size: u64,
}

impl Coming {
    fn new(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.new", crate::id::new()));
        Ok(Self {
            file: File::create_new(&path)?,
            path,
            hash: Sha256::new(),
            size: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        if self.size > MAX_FILE {
            return Err(Error::invalid(format!("longer than {MAX_FILE} bytes")));
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).step(|| "keep a file of the web")
    }

    fn finish(self, store: &Store) -> Result<Digest> {
        let digest = Digest::from_sha256(&self.hash.clone().finalize().into());
        fs::rename(&self.path, store.file(&digest)).step(|| "keep a file of the web")?;
        Ok(digest)
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        // it is not there any more where it was kept
        drop(fs::remove_file(&self.path));
    }
}

/// Where the bytes of a file come from.
enum Stream {
    Web(Box<Download>),
    Client(Box<Uploaded>),
}

impl Stream {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Web(download) => {
                let chunk = download.chunk().await;
                chunk.map_err(|error| Error::unavailable(distribution::chain(&error)))
            }
            Self::Client(uploaded) => {
                let data = uploaded.next().await;
                let data = data.map_err(|error| Error::unavailable(error.to_string()))?;
                Ok(data.map(Bytes::from))
            }
        }
    }
}

/// Asks for a file, and keeps it; not again where it has not changed.
async fn fetch(context: &OpContext, request: &Request, store: &Store) -> Result<Known> {
    let before = store.load();
    let Some((mut stream, mut known)) = open(context, request, before.as_ref()).await? else {
        return before
            .ok_or_else(|| Error::internal("a file of the web is unchanged, but not here"));
    };
    let mut coming = Coming::new(&store.folder).step(|| "keep a file of the web")?;
    let mut part = context
        .progress
        .part(format!("downloading {}", known.filename));
    while let Some(bytes) = context.cancel.run(stream.next()).await? {
        coming.write(&bytes)?;
        part.update(coming.size, 0);
    }
    known.digest = coming.finish(store)?;
    store
        .save(&known)
        .step(|| "keep what is known of a file of the web")?;
    Ok(known)
}

/// Opens a file of the web; none where it has not changed.
async fn open(
    context: &OpContext,
    request: &Request,
    before: Option<&Known>,
) -> Result<Option<(Stream, Known)>> {
    let nothing = Digest::from_sha256(&[0; 32]);
    if request.host() == SESSION_HOST {
        let session = session(context, "").await?;
        let stream = session.upload(request.url.path()).await;
        let stream = stream.map_err(|error| Error::unavailable(error.to_string()))?;
        let known = Known {
            digest: nothing,
            etag: None,
            modified: None,
            filename: request.name(None),
        };
        return Ok(Some((Stream::Client(Box::new(stream)), known)));
    }
    let mut headers = request.headers.clone();
    if let Some(etag) = before.and_then(|known| known.etag.as_ref())
        && let Ok(etag) = HeaderValue::try_from(etag)
    {
        headers.insert(IF_NONE_MATCH, etag);
    }
    let authorization = authorization(context, request).await?;
    let client = context.builder.engine.downloader();
    let url = request.url.to_string();
    let asked = context.cancel.run(async {
        let asked = client.download_unless(&url, headers, authorization).await;
        asked.map_err(|error| Error::unavailable(distribution::chain(&error)))
    });
    let Some(download) = asked.await? else {
        return Ok(None);
    };
    let header = |name: &str| {
        download
            .header(name)
            .filter(|text| text.len() <= MAX_HEADER)
            .map(str::to_owned)
    };
    let known = Known {
        digest: nothing,
        etag: header("etag"),
        modified: header("last-modified"),
        filename: request.name(header("content-disposition").as_deref()),
    };
    Ok(Some((Stream::Web(Box::new(download)), known)))
}

/// The `Authorization` that the client has for the host.
async fn authorization(context: &OpContext, request: &Request) -> Result<Option<HeaderValue>> {
    let host = request.host();
    let mut names = Vec::from_iter(request.header_secret.clone().map(|name| (name, false)));
    names.push((format!("HTTP_AUTH_HEADER_{host}"), false));
    names.push((format!("HTTP_AUTH_TOKEN_{host}"), true));
    for (name, is_token) in names {
        let Some(secret) = secret(context, &name).await? else {
            continue;
        };
        let text = String::from_utf8_lossy(&secret);
        let text = text.trim();
        let value = if is_token {
            format!("Bearer {text}")
        } else {
            text.to_owned()
        };
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| Error::invalid(format!("the secret {name} cannot be sent")))?;
        value.set_sensitive(true);
        return Ok(Some(value));
    }
    Ok(request.user.clone())
}

/// What the file is known by: its content, and what becomes of it.
pub(super) async fn cache_map(context: &OpContext, source: &pb::SourceOp) -> Result<CacheMap> {
    let request = Request::read(source)?;
    let known = match &request.checksum {
        // what is named by its content is not fetched before it is needed
        Some(digest) => Known {
            digest: digest.clone(),
            etag: None,
            modified: None,
            filename: request.name(None),
        },
        None => {
            let store = Store::new(&context.builder.root, &request);
            let known = fetch(context, &request, &store).await?;
            context.builder.web.put(context, &known);
            known
        }
    };
    Ok(CacheMap {
        digest: request.key(&known),
        inputs: Vec::new(),
    })
}

/// The file in a folder of its own.
pub(super) async fn run(context: &OpContext, source: &pb::SourceOp) -> Result<Snapshot> {
    let request = Request::read(source)?;
    let store = Store::new(&context.builder.root, &request);
    let expected = request.checksum.as_ref();
    let there = |known: &Known| store.file(&known.digest).is_file();
    let fetched = context.builder.web.take(context).filter(there);
    let named = || store.load().filter(|known| expected == Some(&known.digest));
    let known = match fetched.or_else(named) {
        Some(known) => known,
        None => fetch(context, &request, &store).await?,
    };
    if let Some(expected) = expected
        && *expected != known.digest
    {
        let url = &request.url;
        let found = &known.digest;
        let message = format!("digest mismatch {found}: {expected}");
        return Err(Error::invalid(message).context(format!("fetch {url}")));
    }
    let snapshots = context.builder.snapshots.clone();
    let work = move || {
        let folder = snapshots.prepare(&Snapshot::scratch())?;
        let name = if request.checksum.is_some() {
            request.name(None)
        } else {
            known.filename.clone()
        };
        let path = folder.upper().join(name);
        place(&store.file(&known.digest), &path, &request, &known)
            .step(|| "place a file of the web")?;
        let facts = LayerFacts::new(format!("http url {}", request.url));
        Ok(folder.commit(facts)?)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::internal(error.to_string())))
}

/// Copies a file, by sharing its blocks where the file system can.
fn place(from: &Path, to: &Path, request: &Request, known: &Known) -> io::Result<()> {
    fs::copy(from, to)?;
    chown(to, Some(request.owner.0), Some(request.owner.1))?;
    fs::set_permissions(to, fs::Permissions::from_mode(request.mode))?;
    let modified = known.modified.as_deref().and_then(http_time);
    let seconds = modified.map_or(0, Timestamp::as_second);
    let time =
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    File::options().write(true).open(to)?.set_modified(time)
}

/// A time as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_time(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix(" GMT")?;
    let time = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S", text).ok()?;
    time.to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str, attrs: &[(&str, &str)]) -> Result<Request> {
        let attrs = attrs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Request::read(&pb::SourceOp {
            identifier: url.to_owned(),
            attrs: attrs.collect(),
        })
    }

    #[test]
    fn requests() {
        let sum = format!("sha256:{}", "a".repeat(64));
        let asked = request(
            "https://example.com/a%20b.tar?x=1",
            &[
                ("http.perm", "0755"),
                ("http.uid", "7"),
                ("http.checksum", &sum),
                ("http.header.accept", "text/plain"),
                ("http.header.cookie", "x"),
            ],
        )
        .unwrap();
        assert_eq!((asked.mode, asked.owner), (0o755, (7, 0)));
        assert_eq!(asked.name(None), "a b.tar");
        assert_eq!(asked.headers.len(), 1);
        for (url, attrs) in [
            ("https://exa mple.com", &[][..]),
            ("https://example.com", &[("http.perm", "rw")]),
            ("https://example.com", &[("http.filename", "../x")]),
            ("https://example.com", &[("http.checksum", "sha256:1")]),
        ] {
            assert!(request(url, attrs).is_err(), "{url} {attrs:?}");
        }
    }

    #[test]
    fn names() {
        for (url, disposition, expect) in [
            ("https://e.com/a/b.c", None, "b.c"),
            ("https://e.com/a/", None, "a"),
            ("https://e.com", None, "download"),
            ("https://e.com/..", None, "download"),
            ("https://e.com/%2e%2e%2fx", None, "download"),
            (
                "https://e.com/a",
                Some("attachment; filename=\"x y.z\""),
                "x y.z",
            ),
            (
                "https://e.com/a",
                Some("attachment; filename=../../etc/passwd"),
                "passwd",
            ),
            ("https://e.com/a", Some("inline"), "a"),
        ] {
            assert_eq!(
                request(url, &[]).unwrap().name(disposition),
                expect,
                "{url}"
            );
        }
        let asked = request("http://u:p%40@e.com:81/a?b=c", &[]).unwrap();
        assert_eq!(asked.url.to_string(), "http://e.com:81/a?b=c");
        let user = asked.user.unwrap();
        assert_eq!(user, "Basic dTpwQA==");
        assert!(user.is_sensitive());
        assert_eq!(
            http_time("Sun, 06 Nov 1994 08:49:37 GMT")
                .unwrap()
                .as_second(),
            784_111_777
        );
    }
}
