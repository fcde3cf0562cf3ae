//! Folders of the client.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use bollard_buildkit_proto::moby::filesync::packet::file_sync_client::FileSyncClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use super::{Method, Session, SessionError, SessionResult};
use crate::fsutil::{self, Index, Target};

/// The largest message of a transfer; senders use 32 KiB.
pub(super) const MAX_MESSAGE: usize = 16 << 20;

/// Which files of the client are wanted, and where.
#[derive(Debug)]
pub struct SyncRequest {
    /// Name by which the client knows the folder: `context`, `dockerfile`.
    pub name: String,
    /// Only what matches one of these patterns; empty for all.
    pub include: Vec<String>,
    /// What matches these is left out.
    pub exclude: Vec<String>,
    /// Only these paths and what their symbolic links lead to; empty for all.
    pub follow: Vec<String>,
    /// Bytes of the largest file that is taken; any where absent.
    pub largest: Option<u64>,
    /// Folder that gets the files; what it holds already is not sent again.
    pub target: OwnedFd,
    /// File beside it that says what it holds.
    pub index: PathBuf,
}

/// What a transfer did.
#[derive(Debug)]
pub struct Received {
    /// What the folder holds now.
    pub index: Index,
    /// Files whose content was sent.
    pub files: u64,
    /// Bytes of content that were sent.
    pub bytes: u64,
}

impl Session {
    /// Makes a folder equal to one of the client's; only what changed is sent.
    ///
    /// `progress` is told how many bytes, lists included, have come so far.
    ///
    /// # Errors
    /// When the client does not offer its files, has no such folder, sends what no folder can hold or is
    /// gone, and when the target cannot be written.
    pub async fn sync(
        &self,
        request: SyncRequest,
        progress: impl Fn(u64) + Send + 'static,
    ) -> SessionResult<Received> {
        let method = self.offered(Method::ReadFiles)?;
        let (outgoing, packets) = mpsc::unbounded_channel();
        let mut call = Request::new(UnboundedReceiverStream::new(packets));
        let head = call.metadata_mut();
        put(head, "dir-name", std::slice::from_ref(&request.name));
        put(head, "include-patterns", &request.include);
        put(head, "exclude-patterns", &request.exclude);
        put(head, "followpaths", &request.follow);
        let mut client = FileSyncClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE);
        let answer = client.diff_copy(call).await;
        let incoming = answer.map_err(SessionError::call(method))?.into_inner();
        let target = Target {
            folder: request.target,
            index: request.index,
            largest: request.largest,
        };
        let received = fsutil::receive(incoming, outgoing, target, progress).await;
        received.map_err(|source| SessionError::Files {
            name: request.name,
            source,
        })
    }
}

/// Adds texts to the head of a call, escaped where they are not plain ASCII.
pub(super) fn put(head: &mut MetadataMap, name: &'static str, texts: &[String]) {
    let plain = texts.iter().all(|text| is_plain(text));
    for text in texts {
        let text = if plain { text.clone() } else { escape(text) };
        if let Ok(value) = MetadataValue::<Ascii>::try_from(text) {
            head.append(name, value);
        }
    }
    if !plain
        && let Ok(mark) = format!("{name}-encoded").parse::<tonic::metadata::AsciiMetadataKey>()
    {
        head.insert(mark, MetadataValue::from_static("1"));
    }
}

/// Tells whether a text may stand in a head as it is.
fn is_plain(text: &str) -> bool {
    let outer = text.trim() == text;
    outer && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}

/// Escapes a text as Go's `url.QueryEscape` does.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let head = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            let mut head = MetadataMap::new();
            put(&mut head, "followpaths", &texts);
            let values = head.get_all("followpaths").iter();
            let values: Vec<String> = values
                .map(|value| value.to_str().unwrap().to_owned())
                .collect();
            (values, head.get("followpaths-encoded").is_some())
        };
        let owned = |texts: &[&str]| {
            texts
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(head(&[]), (vec![], false));
        assert_eq!(head(&["a b", "c%2f"]), (owned(&["a b", "c%2f"]), false));
        assert_eq!(
            head(&["고래 b", "a/c"]),
            (owned(&["%EA%B3%A0%EB%9E%98+b", "a%2Fc"]), true)
        );
        assert_eq!(head(&["a\nb"]), (owned(&["a%0Ab"]), true));
    }
}
